//! The model: embeddings and positions, a stack of blocks, and logits over the vocabulary.
//!
//! One decoder-only stack reads `l e t t e r s <sep> P H O N E M E S <eos>` and says at each position what comes next.
//! The mask makes it a prefix decoder: the letters see each other both ways, the phonemes see all letters and the
//! phonemes before them. The output reuses the embedding matrix (Press & Wolf, 2017).

use serde::{Deserialize, Serialize};
use tch::{nn, Device, Kind, Tensor};

use self_attention::block::{Block, BlockConfig, NormPlacement};
use self_attention::data::vocabulary::PAD;
use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::feed_forward::Activation;
use self_attention::linear::{check_size, LayerNorm};
use self_attention::mask::Mask;

/// How the model knows where a token stands.
// ANCHOR: positions
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// A vector of its own for each position, learned.
    Learned,
    /// Sines and cosines of the position at geometrically spaced frequencies (Vaswani et al., 2017, section 3.5).
    Sinusoidal,
}
// ANCHOR_END: positions

/// What a [`Transformer`] is made from. It is saved beside the weights it belongs to.
// ANCHOR: transformer_config
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// `V`: how many tokens there are.
    pub vocabulary: i64,
    /// How many position vectors there are: the longest sequence the model can take.
    pub max_positions: i64,
    /// `E`: numbers a position.
    pub width: i64,
    /// How many blocks are stacked.
    pub blocks: i64,
    /// `H`: attention heads in each block.
    pub heads: i64,
    /// `F`: width inside the feed-forward network.
    pub hidden: i64,
    /// The non-linearity of the feed-forward network.
    pub activation: Activation,
    /// Where the norms of a block stand.
    pub norm: NormPlacement,
    /// How the model knows where a token stands.
    pub positions: Positions,
    /// The token that parts what is given from what is written. What follows it is counted anew: the first half of the
    /// position vectors is for what is given, the separator included, the second for what is written. If there is none, all
    /// is counted through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<i64>,
}
// ANCHOR_END: transformer_config

impl TransformerConfig {
    /// The default model for a vocabulary: small enough to train on a laptop.
    pub fn new(vocabulary: i64) -> Self {
        Self {
            vocabulary,
            max_positions: 64, // the longest entry of the dictionary takes 57
            width: 160,
            blocks: 6,
            heads: 4,
            hidden: 640,
            activation: Activation::Gelu,
            norm: NormPlacement::Pre,
            positions: Positions::Learned,
            separator: None,
        }
    }

    /// Sets the width of the model, and four times as much inside the feed-forward network.
    pub fn with_width(self, width: i64) -> Self {
        Self { width, hidden: width.saturating_mul(4), ..self }
    }

    /// Sets the number of blocks.
    pub fn with_blocks(self, blocks: i64) -> Self {
        Self { blocks, ..self }
    }

    /// Sets the number of heads.
    pub fn with_heads(self, heads: i64) -> Self {
        Self { heads, ..self }
    }

    /// Counts [anew](Self::separator) after this token.
    pub fn with_separator(self, separator: i64) -> Self {
        Self { separator: Some(separator), ..self }
    }

    /// Makes the model, its parameters under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] if a size is below 1, if the heads do not divide the width, or if a separator is not in the
    /// vocabulary or the position vectors cannot be halved for it.
    // ANCHOR: init
    pub fn init(&self, path: &nn::Path) -> Result<Transformer> {
        check_size("vocabulary", self.vocabulary)?;
        check_size("max_positions", self.max_positions)?;
        check_size("blocks", self.blocks)?;
        self.check_separator()?;
        let block = BlockConfig::new(self.width, self.heads)
            .with_hidden(self.hidden)
            .with_activation(self.activation)
            .with_norm(self.norm);
        let blocks = (0..self.blocks)
            .map(|index| block.init(&(path / "layers" / index)))
            .collect::<Result<Vec<_>>>()?;
        // Small, so that the first logits are near 0, every token is about as likely as
        // any other, and the first loss is near ln V.
        let small = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        let embedding = path.f_var("embedding", &[self.vocabulary, self.width], small)?;
        let positions = match self.positions {
            Positions::Learned => {
                path.f_var("positions", &[self.max_positions, self.width], small)?
            }
            Positions::Sinusoidal => {
                sinusoids(self.max_positions, self.width, path.device())?
            }
        };
        let norm = match self.norm {
            NormPlacement::Pre => Some(LayerNorm::new(&(path / "norm"), self.width)?),
            NormPlacement::Post => None, // the last block ends in a norm already
        };
        Ok(Transformer { config: self.clone(), embedding, positions, blocks, norm })
    }
    // ANCHOR_END: init

    fn check_separator(&self) -> Result<()> {
        let Some(separator) = self.separator else { return Ok(()) };
        let last = self.vocabulary - 1;
        if !(0..=last).contains(&separator) {
            let reason = format!("must be a token, 0 to {last}");
            return Err(Error::config("separator", separator, reason));
        }
        if self.max_positions % 2 != 0 {
            let reason = "must be even, for with a separator each half has a purpose";
            return Err(Error::config("max_positions", self.max_positions, reason));
        }
        Ok(())
    }
}

/// The sinusoidal position vectors: `sin(t·ω_i)` at index `2i` and `cos(t·ω_i)` at `2i + 1`, `ω_i = 10000^(−2i/E)`.
///
/// # Shapes
/// `[positions, width]`.
///
/// # Errors
/// [`Error::Torch`] if libtorch cannot make the tensors.
// ANCHOR: sinusoids
pub fn sinusoids(positions: i64, width: i64, device: Device) -> Result<Tensor> {
    let options = (Kind::Float, device);
    let position = Tensor::f_arange(positions, options)?.f_unsqueeze(1)?; // [T, 1]
    let index = Tensor::f_arange_start_step(0, width, 2, options)?; // [E/2]: 0, 2, 4, …
    let frequency = index.f_mul_scalar(-10_000f64.ln() / width as f64)?.f_exp()?; // [E/2]
    let angle = position.f_mul(&frequency)?; // [T, E/2]
    let pairs = Tensor::f_stack(&[angle.f_sin()?, angle.f_cos()?], -1)?; // [T, E/2, 2]
    Ok(pairs.f_flatten(1, 2)?.f_narrow(1, 0, width)?) // [T, E]
}
// ANCHOR_END: sinusoids

/// What a token may attend to: every letter, and the phonemes up to itself; never padding.
///
/// # Shapes
/// `lengths`, `prefixes`: `[B]`, the real tokens and the given tokens of each sequence; the mask: `[B, 1, T, T]`.
///
/// # Errors
/// [`Error::Shape`] if one of them is not `[B]`.
// ANCHOR: prefix_decoder_mask
pub fn prefix_decoder_mask(
    lengths: &Tensor,
    prefixes: &Tensor,
    positions: i64,
) -> Result<Mask> {
    Mask::prefix(prefixes, positions)?.and(&Mask::padding(lengths, positions)?)
}
// ANCHOR_END: prefix_decoder_mask

/// What the model says of a batch.
// ANCHOR: prediction
#[derive(Debug)]
pub struct Prediction {
    /// The score of each token to come next, `[B, T, V]`.
    pub logits: Tensor,
    /// The attention weights of each block, before dropout, `[B, H, T, T]` each.
    pub weights: Vec<Tensor>,
}
// ANCHOR_END: prediction

/// The whole model.
// ANCHOR: transformer
#[derive(Debug)]
pub struct Transformer {
    /// What it was made from.
    pub config: TransformerConfig,
    /// A vector for each token, `[V, E]`; read again, transposed, for the logits.
    pub embedding: Tensor,
    /// A vector for each position, `[max_positions, E]`.
    pub positions: Tensor,
    /// The stack.
    pub blocks: Vec<Block>,
    /// After the last block of a pre-norm stack.
    pub norm: Option<LayerNorm>,
}
// ANCHOR_END: transformer

impl Transformer {
    /// Reads a batch of sequences and predicts at each position the token after it.
    ///
    /// # Shapes
    /// `tokens`: `[B, T]`, `mask`: broadcasts to `[B, H, T, T]`; logits: `[B, T, V]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `tokens` is not `[B, T]` with `T ≤ max_positions`, or the mask does not broadcast;
    /// [`Error::Torch`] if a token is not in the vocabulary.
    // ANCHOR: forward
    pub fn forward(
        &self,
        tokens: &Tensor,
        mask: Option<&Mask>,
        dropout: &Dropout,
    ) -> Result<Prediction> {
        let mut x = dropout.apply(&self.embed(tokens)?)?; // [B, T, E]
        let mut weights = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let attended = block.forward(&x, mask, dropout)?;
            x = attended.context; // [B, T, E]
            weights.push(attended.weights); // [B, H, T, T]
        }
        Ok(Prediction { logits: self.logits(&x)?, weights })
    }
    // ANCHOR_END: forward

    /// The logits at some positions only, which is all that training asks for: the same numbers as those of
    /// [`Transformer::forward`], for less work ([`Block::forward_at`]).
    ///
    /// # Shapes
    /// `tokens`: `[B, T]`, `mask`: broadcasts to `[B, H, T, T]`, `asked`: `[N]`, each a position of `tokens` laid out
    /// as `[B·T]`; result: `[N, V]`.
    ///
    /// # Errors
    /// As [`Transformer::forward`], and [`Error::Torch`] for a position beyond `B·T`.
    // ANCHOR: forward_at
    pub fn forward_at(
        &self,
        tokens: &Tensor,
        mask: Option<&Mask>,
        asked: &Tensor,
        dropout: &Dropout,
    ) -> Result<Tensor> {
        let mut x = dropout.apply(&self.embed(tokens)?)?; // [B, T, E]
        let Some((last, blocks)) = self.blocks.split_last() else {
            return Err(Error::config("blocks", 0, "must be at least 1"));
        };
        for block in blocks {
            x = block.forward(&x, mask, dropout)?.context; // [B, T, E]
        }
        self.logits(&last.forward_at(&x, mask, asked, dropout)?.context) // [N, V]
    }
    // ANCHOR_END: forward_at

    /// What the last block says, in scores of the tokens.
    ///
    /// # Shapes
    /// `x`: `[B, T, E]`; logits: `[B, T, V]`.
    ///
    /// # Errors
    /// [`Error::Torch`] if `x` is not as wide as the model.
    // ANCHOR: logits
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.norm {
            Some(norm) => &norm.forward(x)?, // [B, T, E]
            None => x,
        };
        Ok(x.f_linear(&self.embedding, None::<&Tensor>)?) // [B, T, V]
    }
    // ANCHOR_END: logits

    /// The vector of each token plus the position vector of its [place](Transformer::places).
    ///
    /// # Shapes
    /// `tokens`: `[B, T]`; result: `[B, T, E]`.
    ///
    /// # Errors
    /// As [`Transformer::forward`].
    // ANCHOR: embed
    pub fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        if self.config.separator.is_none() {
            return self.embed_from(0, tokens);
        }
        let places = self.places(tokens)?; // [B, T]
        let positions = Tensor::f_embedding(&self.positions, &places, -1, false, false)?;
        Ok(self.vectors(tokens)?.f_add(&positions)?) // [B, T, E]
    }
    // ANCHOR_END: embed

    /// [`Transformer::embed`] for tokens of which the first has the [place](Transformer::places) `first`, and the others
    /// those after it.
    ///
    /// # Shapes
    /// `tokens`: `[B, T]`; result: `[B, T, E]`.
    ///
    /// # Errors
    /// As [`Transformer::forward`].
    // ANCHOR: embed_from
    pub fn embed_from(&self, first: i64, tokens: &Tensor) -> Result<Tensor> {
        let length = self.length(tokens, self.config.max_positions - first)?;
        let positions = self.positions.f_narrow(0, first, length)?; // [T, E]
        Ok(self.vectors(tokens)?.f_add(&positions)?) // [B, T, E]
    }
    // ANCHOR_END: embed_from

    /// The place of each token: which of the position vectors it gets. Without a separator that is its position, 0, 1, 2
    /// and so on. With [one](TransformerConfig::separator), the first separator of a sequence has the last place of the
    /// first half, and what follows it those of the second half. Padding that lies beyond has the last place of all.
    ///
    /// # Shapes
    /// `tokens`: `[B, T]`; result: `[B, T]`.
    ///
    /// # Errors
    /// As [`Transformer::forward`]; [`Error::Shape`] if a sequence has no separator within the first half, or more after it
    /// than the second half has room for.
    // ANCHOR: places
    pub fn places(&self, tokens: &Tensor) -> Result<Tensor> {
        let length = self.length(tokens, self.config.max_positions)?;
        let positions = Tensor::f_arange(length, (Kind::Int64, tokens.device()))?; // [T]
        let separator = match self.config.separator {
            Some(separator) if tokens.numel() > 0 => separator,
            _ => return Ok(positions.f_expand(tokens.size(), false)?), // [B, T]
        };
        let half = self.config.max_positions / 2;
        let is_separator = tokens.f_eq(separator)?.f_to_kind(Kind::Int64)?; // [B, T]
        let seen = is_separator.f_cumsum(1, Kind::Int64)?.f_clamp_max(1)?; // 0, then 1
        let given = seen.f_eq(0)?.f_sum_dim_intlist(1, true, Kind::Int64)?; // [B, 1]
        let further = given.f_neg()?.f_add_scalar(half - 1)?.f_mul(&seen)?; // [B, T]
        let places = positions.f_add(&further)?; // [B, T]
        self.check_halves(tokens, &given, &places)?;
        Ok(places.f_clamp_max(2 * half - 1)?)
    }
    // ANCHOR_END: places

    /// Refuses sequences of which one half of the places does not hold what belongs there.
    fn check_halves(
        &self,
        tokens: &Tensor,
        given: &Tensor,
        places: &Tensor,
    ) -> Result<()> {
        let half = self.config.max_positions / 2;
        let written = places.f_mul(&tokens.f_ne(PAD)?)?; // 0 for padding
        let expected = if given.f_max()?.f_int64_value(&[])? >= half.min(tokens.size()[1])
        {
            format!("a separator among the first {half} of each")
        } else if written.f_max()?.f_int64_value(&[])? >= 2 * half {
            format!("at most {half} after the separator of each")
        } else {
            return Ok(());
        };
        Err(Error::Shape { what: "model: tokens", expected, found: tokens.size() })
    }

    /// The vectors of tokens, `[B, T, E]`, before their positions are added.
    // ANCHOR: vectors
    fn vectors(&self, tokens: &Tensor) -> Result<Tensor> {
        let vectors = Tensor::f_embedding(&self.embedding, tokens, -1, false, false)?;
        let scale = match self.config.positions {
            Positions::Learned => 1.0,
            // Sines are of size 1; the paper makes the tokens as large by √E.
            Positions::Sinusoidal => (self.config.width as f64).sqrt(),
        };
        Ok(vectors.f_mul_scalar(scale)?)
    }
    // ANCHOR_END: vectors

    /// `T`, if the tokens are `[B, T]` and not more than there are positions for.
    fn length(&self, tokens: &Tensor, limit: i64) -> Result<i64> {
        match tokens.size()[..] {
            [_, length] if length <= limit => Ok(length),
            _ => Err(Error::Shape {
                what: "model: tokens",
                expected: format!("[B, T] with T at most {limit}"),
                found: tokens.size(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::data::vocabulary::SEP;

    fn model(config: &TransformerConfig) -> (nn::VarStore, Transformer) {
        tch::manual_seed(2);
        let store = nn::VarStore::new(Device::Cpu);
        let model = config.init(&store.root()).unwrap();
        (store, model)
    }

    #[test]
    fn the_default_model_has_the_parameters_its_formula_says() {
        let (store, _model) = model(&TransformerConfig::new(69));
        let parameters: usize = store.variables().values().map(Tensor::numel).sum();
        let block = (4 * 160 * 160 + 4 * 160) + (2 * 160 * 640 + 640 + 160) + 2 * 2 * 160;
        assert_eq!(parameters, (69 + 64) * 160 + 6 * block + 2 * 160);
        assert_eq!(parameters, 1_877_280);
    }

    #[test]
    fn before_training_every_token_is_about_as_likely_as_any_other() {
        for positions in [Positions::Learned, Positions::Sinusoidal] {
            let config = TransformerConfig { positions, ..TransformerConfig::new(69) };
            let [tokens, next] =
                [0, 1].map(|_| Tensor::randint(69, [64, 20], (Kind::Int64, Device::Cpu)));
            let logits =
                model(&config).1.forward(&tokens, None, &Dropout::off()).unwrap().logits;
            let loss = logits.flatten(0, 1).cross_entropy_for_logits(&next.flatten(0, 1));
            // A logit is a sum of 160 products of a number of size 1 and one of size 0.02; half its variance is added.
            let expected = 69f64.ln() + 160.0 * 0.02f64.powi(2) / 2.0;
            assert!(
                (loss.double_value(&[]) - expected).abs() < 0.05,
                "{positions:?}: {loss:?}"
            );
        }
    }

    #[test]
    fn the_future_cannot_leak_through_the_stack_in_training_or_evaluation() {
        let lengths = Tensor::from_slice(&[8i64, 6]);
        let mask =
            prefix_decoder_mask(&lengths, &Tensor::from_slice(&[4i64, 2]), 8).unwrap();
        for norm in [NormPlacement::Pre, NormPlacement::Post] {
            let config = TransformerConfig { norm, ..TransformerConfig::new(69) };
            let (_store, model) = model(&config.with_width(16));
            for rate in [0.0, 0.3] {
                let [a, b] = [30i64, 60].map(|last| {
                    let word = Tensor::from_slice(&[4i64, 5, 6, 1, 40, 41, last, last]);
                    let tokens = Tensor::stack(&[&word, &word], 0); // [B = 2, T = 8]
                    let dropout = Dropout::new(rate, 5).unwrap();
                    model.forward(&tokens, Some(&mask), &dropout).unwrap().logits
                });
                // Of the second sequence, what was changed is padding.
                assert_eq!(a.narrow(1, 0, 6), b.narrow(1, 0, 6), "{norm:?}, {rate}");
                assert_ne!(a.narrow(1, 6, 1), b.narrow(1, 6, 1));
            }
        }
    }

    #[test]
    fn asked_at_some_positions_it_says_and_learns_what_a_whole_pass_does() {
        let lengths = Tensor::from_slice(&[8i64, 6]);
        let mask =
            prefix_decoder_mask(&lengths, &Tensor::from_slice(&[4i64, 2]), 8).unwrap();
        let tokens = Tensor::randint(69, [2, 8], (Kind::Int64, Device::Cpu));
        let asked = Tensor::from_slice(&[3i64, 4, 7, 10, 13]); // of 16
        let off = Dropout::off();
        let difference = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        for norm in [NormPlacement::Pre, NormPlacement::Post] {
            let config = TransformerConfig { norm, ..TransformerConfig::new(69) };
            let (store, model) = model(&config.with_width(16));
            let gradients = |logits: &Tensor| {
                let mut parameters: Vec<_> = store.variables().into_iter().collect();
                parameters.sort_by(|a, b| a.0.cmp(&b.0));
                let parameters: Vec<Tensor> =
                    parameters.into_iter().map(|(_, parameter)| parameter).collect();
                Tensor::run_backward(
                    &[logits.square().sum(Kind::Float)],
                    &parameters,
                    false,
                    false,
                )
            };
            let whole = model.forward(&tokens, Some(&mask), &off).unwrap().logits;
            let whole = whole.flatten(0, 1).index_select(0, &asked);
            let some = model.forward_at(&tokens, Some(&mask), &asked, &off).unwrap();
            assert_eq!(some.size(), [5, 69]);
            assert!(difference(&whole, &some) < 1e-6, "{norm:?}");
            for (whole, some) in gradients(&whole).iter().zip(gradients(&some)) {
                assert!(difference(whole, &some) < 1e-5, "{norm:?}");
            }
            let beyond = Tensor::from_slice(&[16i64]);
            let refused = model.forward_at(&tokens, Some(&mask), &beyond, &off);
            assert!(matches!(refused, Err(Error::Torch(_))));
        }
    }

    #[test]
    fn what_is_written_is_counted_anew() {
        let small = TransformerConfig::new(69).with_blocks(1).with_width(8);
        let small = TransformerConfig { max_positions: 8, ..small };
        let (_store, anew) = model(&small.clone().with_separator(SEP));
        let (_store, through) = model(&small);
        let places = |model: &Transformer, tokens: &[&[i64]]| {
            let places = model.places(&Tensor::from_slice2(tokens))?;
            Ok::<_, Error>(Vec::<Vec<i64>>::try_from(&places).unwrap())
        };
        let of_words: [&[i64]; 3] = [
            &[23, 18, SEP, 60, 61, PAD, PAD],
            &[23, SEP, 60, 61, 62, 63, PAD], // as many as there is room for
            &[23, 18, 4, SEP, SEP, PAD, PAD], // the first one counts
        ];
        let expected =
            [[0, 1, 3, 4, 5, 6, 7], [0, 3, 4, 5, 6, 7, 7], [0, 1, 2, 3, 4, 5, 6]];
        assert_eq!(places(&anew, &of_words).unwrap(), expected);
        let positions = [[0, 1, 2, 3, 4, 5, 6]; 3];
        assert_eq!(places(&through, &of_words).unwrap(), positions);
        // What stands at a place gets its vector, read at once or token by token.
        let tokens = Tensor::from_slice2(&of_words[..1]);
        let whole = anew.embed(&tokens).unwrap();
        let later = anew.embed_from(4, &tokens.narrow(1, 3, 2)).unwrap();
        assert_eq!(whole.narrow(1, 3, 2), later);
        assert_eq!(anew.embed(&tokens.narrow(0, 0, 0)).unwrap().size(), [0, 7, 8]);
        assert_eq!(anew.embed(&tokens.narrow(1, 0, 0)).unwrap().size(), [1, 0, 8]);

        let missing = "a separator among the first 4 of each, found [1, ";
        let refused: [(&[i64], &str); 5] = [
            (&[23, 18], missing),
            (&[23, 18, 4, 5, 6, 7], missing),
            (&[23, 18, 4, 5, SEP], missing),
            (&[23, SEP, 60, 61, 62, 63, 64], "at most 4 after the separator of each"),
            (&[4, 4, 4, SEP, 60, 61, 62, 63, 64], "T at most 8, found [1, 9]"),
        ];
        for (tokens, expected) in refused {
            let error = places(&anew, &[tokens]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_separator_is_a_token_and_halves_the_positions() {
        let config = TransformerConfig::new(69).with_width(8);
        let odd = TransformerConfig { max_positions: 9, ..config.clone() };
        for (config, expected) in [
            (
                config.clone().with_separator(69),
                "separator = 69: must be a token, 0 to 68",
            ),
            (config.with_separator(-1), "separator = -1: must be a token"),
            (odd.with_separator(SEP), "max_positions = 9: must be even"),
        ] {
            let store = nn::VarStore::new(Device::Cpu);
            let error = config.init(&store.root()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn letters_see_each_other_both_ways_and_no_phoneme() {
        let (_store, model) =
            model(&TransformerConfig::new(69).with_blocks(2).with_width(16));
        let mask = Mask::prefix(&Tensor::from_slice(&[4i64]), 6).unwrap();
        let read = |tokens: [i64; 6]| {
            let tokens = Tensor::from_slice(&tokens).unsqueeze(0);
            model.forward(&tokens, Some(&mask), &Dropout::off()).unwrap().logits
        };
        let word = read([4, 5, 6, 1, 40, 41]);
        let other_letter = read([4, 5, 7, 1, 40, 41]);
        let other_phoneme = read([4, 5, 6, 1, 50, 41]);
        assert_ne!(word.get(0).get(0), other_letter.get(0).get(0));
        assert_eq!(word.narrow(1, 0, 4), other_phoneme.narrow(1, 0, 4));
    }

    #[test]
    fn sinusoids_are_what_the_paper_says() {
        let table = sinusoids(10, 7, Device::Cpu).unwrap();
        assert_eq!(table.size(), [10, 7]);
        let expected = (3.0 * 10_000f64.powf(-4.0 / 7.0)).cos();
        assert!((table.double_value(&[3, 5]) - expected).abs() < 1e-6);
    }

    #[test]
    fn sequences_it_cannot_take_are_refused() {
        let (_store, model) =
            model(&TransformerConfig::new(69).with_blocks(1).with_width(16));
        let long = Tensor::zeros([1, 65], (Kind::Int64, Device::Cpu));
        let error = model.forward(&long, None, &Dropout::off()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "model: tokens: expected [B, T] with T at most 64, found [1, 65]"
        );
        let unknown = Tensor::full([1, 3], 69, (Kind::Int64, Device::Cpu));
        assert!(matches!(
            model.forward(&unknown, None, &Dropout::off()),
            Err(Error::Torch(_))
        ));
    }
}
