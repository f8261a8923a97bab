//! Taking heads out, and counting what the model then gets wrong.
//!
//! A heatmap shows where a head looks. Whether the model needs that is another question, and the plain way to answer it
//! is to take the head out and to score what is left (Michel et al., "Are Sixteen Heads Really Better than One?", 2019).
//! Nothing in the forward pass knows of this: what is scored is a model with other weights.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{no_grad, Tensor};

use self_attention::block::Block;
use self_attention::data::cmudict::{Entry, Phoneme};
use self_attention::data::vocabulary::Vocabulary;
use self_attention::error::{Error, Result};
use self_attention::evaluation::decoding::greedy;
use self_attention::evaluation::metrics::{edit_distance, nearest};
use self_attention::feed_forward::FeedForward;
use self_attention::linear::{LayerNorm, Linear};
use self_attention::model::Transformer;
use self_attention::multi_head::MultiHead;

/// One head of a model, counted from 0.
// ANCHOR: head
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Head {
    /// Its block.
    pub block: usize,
    /// Which of the block's heads.
    pub head: usize,
}
// ANCHOR_END: head

impl Head {
    /// All heads of a model, block by block.
    pub fn all(model: &Transformer) -> Vec<Self> {
        let (blocks, heads) = (model.config.blocks as usize, model.config.heads as usize);
        (0..blocks)
            .flat_map(|block| (0..heads).map(move |head| Self { block, head }))
            .collect()
    }

    /// The columns of the output projection, `[E, H·D]`, that read this head: the first, and how many.
    ///
    /// # Errors
    /// [`Error::Input`] if the model has no such head.
    pub fn columns(self, model: &Transformer) -> Result<(i64, i64)> {
        let (blocks, heads) = (model.blocks.len(), model.config.heads);
        if self.block >= blocks || self.head as i64 >= heads {
            let problem = format!(
                "block {}, head {}: there are {blocks} × {heads}, counted from 0",
                self.block, self.head
            );
            return Err(Error::input("head", problem));
        }
        let width = model.config.width / heads; // D
        Ok((self.head as i64 * width, width))
    }
}

/// As in `block 2, head 1`, both counted from 1.
impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("block {}, head {}", self.block + 1, self.head + 1))
    }
}

/// A model like `model` in which some heads say nothing: whatever they find is multiplied by 0.
///
/// The heads' contexts lie side by side, `D` numbers each, and the output projection reads them by its columns. With the
/// `D` columns of head `h` at 0, `Σ_h C_h·W_{o,h}ᵀ` has lost its term `h`, exactly as if the context `C_h` were 0. All
/// other tensors are those of `model`, not copies.
///
/// # Errors
/// [`Error::Input`] if the model has no such head.
///
/// # Example: without any head no letter hears of another
/// ```
/// use self_attention::prelude::*;
/// use self_attention::visualization::ablation::{silenced, Head};
/// # fn main() -> Result<()> {
/// let store = nn::VarStore::new(Device::Cpu);
/// let model = TransformerConfig::new(69).with_width(16).init(&store.root())?;
/// let deaf = silenced(&model, &Head::all(&model))?;
/// let last = |word: [i64; 2]| -> Result<Tensor> {
///     let logits = deaf.forward(&Tensor::from_slice2(&[word]), None, &Dropout::off())?.logits;
///     Ok(logits.get(0).get(1))
/// };
/// assert_eq!(last([23, 18])?, last([24, 18])?); // t o, u o
/// # Ok(())
/// # }
/// ```
// ANCHOR: silenced
pub fn silenced(model: &Transformer, heads: &[Head]) -> Result<Transformer> {
    let columns = heads.iter().map(|head| Ok((head.block, head.columns(model)?)));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    with_outputs(model, |block, weight, _| {
        for (_, (start, width)) in columns.iter().filter(|(of, _)| *of == block) {
            let _ = weight.f_narrow(1, *start, *width)?.f_zero_()?; // [E, D]
        }
        Ok(())
    })
}
// ANCHOR_END: silenced

/// A model like `model` in which one head always says the same: `mean`, whatever it finds.
///
/// What a silenced head has said on average, the layers after it have come to expect. Taken away, they get numbers that
/// they never saw in training, and part of the damage is that surprise. This leaves the mean in place: the columns of the
/// head are 0, and `W_{o,h}·mean` is added to the bias.
///
/// # Shapes
/// `mean`: `[D]`.
///
/// # Errors
/// [`Error::Input`] if the model has no such head; [`Error::Torch`] if `mean` is not `[D]`.
// ANCHOR: averaged
pub fn averaged(model: &Transformer, head: Head, mean: &Tensor) -> Result<Transformer> {
    let (start, width) = head.columns(model)?;
    with_outputs(model, |block, weight, bias| {
        if block == head.block {
            let columns = weight.f_narrow(1, start, width)?; // [E, D]
            let said = columns.f_matmul(mean)?; // [E]
            let _ = columns.shallow_clone().f_zero_()?;
            if let Some(bias) = bias {
                let _ = bias.f_add_(&said)?;
            }
        }
        Ok(())
    })
}
// ANCHOR_END: averaged

/// A model that shares all tensors with `model` but the output projections of its attention: `change` gets copies of
/// those, weight and bias, with the number of their block counted from 0.
///
/// # Errors
/// Those of `change`; [`Error::Shape`] if it gives a weight or bias another shape.
pub fn with_outputs(
    model: &Transformer,
    change: impl Fn(usize, &mut Tensor, Option<&mut Tensor>) -> Result<()>,
) -> Result<Transformer> {
    let block = |(index, block): (usize, &Block)| -> Result<Block> {
        let output = &block.attention.output;
        let mut weight = copy(&output.weight)?;
        let mut bias = output.bias.as_ref().map(copy).transpose()?;
        change(index, &mut weight, bias.as_mut())?;
        let attention = MultiHead::new(
            share(&block.attention.input),
            Linear { weight, bias },
            model.config.heads,
        )?;
        let FeedForward { expand, activation, contract } = &block.feed_forward;
        Ok(Block {
            attention,
            attention_norm: share_norm(&block.attention_norm),
            feed_forward: FeedForward {
                expand: share(expand),
                activation: *activation,
                contract: share(contract),
            },
            feed_forward_norm: share_norm(&block.feed_forward_norm),
            norm: block.norm,
        })
    };
    let blocks: Result<Vec<Block>> =
        no_grad(|| model.blocks.iter().enumerate().map(block).collect());
    Ok(Transformer {
        config: model.config.clone(),
        embedding: model.embedding.shallow_clone(),
        positions: model.positions.shallow_clone(),
        blocks: blocks?,
        norm: model.norm.as_ref().map(share_norm),
    })
}

fn copy(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_dtype(tensor.kind(), false, true)?)
}

fn share(layer: &Linear) -> Linear {
    let bias = layer.bias.as_ref().map(Tensor::shallow_clone);
    Linear { weight: layer.weight.shallow_clone(), bias }
}

fn share_norm(norm: &LayerNorm) -> LayerNorm {
    let [weight, bias] = [&norm.weight, &norm.bias].map(Tensor::shallow_clone);
    LayerNorm { weight, bias }
}

/// How far what was said of one word is from the dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Edits to the nearest listed pronunciation.
    pub edits: usize,
    /// The phonemes of that.
    pub phonemes: usize,
}

/// What a model says of words, greedily and on its own, and how far each is from the dictionary.
///
/// # Errors
/// What the model refuses.
pub fn pronounced(
    model: &Transformer,
    vocabulary: &Vocabulary,
    entries: &[&Entry],
) -> Result<(Vec<Vec<Phoneme>>, Vec<Counted>)> {
    let words: Vec<&str> = entries.iter().map(|entry| entry.word.as_str()).collect();
    let said = greedy(model, vocabulary, &words)?;
    let said: Vec<_> = said.into_iter().map(|hypothesis| hypothesis.phonemes).collect();
    let listed: Vec<_> =
        entries.iter().map(|entry| entry.pronunciations.clone()).collect();
    let counted = said.iter().zip(nearest(&said, &listed)?).map(|(said, nearest)| {
        Counted { edits: edit_distance(said, nearest), phonemes: nearest.len() }
    });
    let counted = counted.collect();
    Ok((said, counted))
}

/// Two rates of the same words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Of words that are wrong.
    pub word_error_rate: f64,
    /// Of edits over phonemes.
    pub phoneme_error_rate: f64,
}

impl Rates {
    /// The rates of words; 0 of none.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a Counted>) -> Self {
        let (mut count, mut wrong, mut edits, mut phonemes) = (0, 0, 0, 0);
        for word in words {
            count += 1;
            wrong += usize::from(word.edits > 0);
            edits += word.edits;
            phonemes += word.phonemes;
        }
        Self {
            word_error_rate: wrong as f64 / count.max(1) as f64,
            phoneme_error_rate: edits as f64 / phonemes.max(1) as f64,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            word_error_rate: self.word_error_rate - other.word_error_rate,
            phoneme_error_rate: self.phoneme_error_rate - other.phoneme_error_rate,
        }
    }
}

/// What a change of the model does to its scores on some words.
// ANCHOR: effect
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// How many words it pronounces differently.
    pub changed: usize,
    /// By how much the rates rise.
    pub rise: Rates,
    /// The standard errors of that: see [`Effect::of`].
    pub error: Rates,
}
// ANCHOR_END: effect

impl Effect {
    /// How many standard errors make a rise more than chance. That one of two dozen heads without any effect rises by three
    /// happens once in thirty times; by the usual two, four times in ten.
    pub const BEYOND_CHANCE: f64 = 3.0;

    /// How often words are drawn anew for a standard error.
    const DRAWS: usize = 1000;

    /// Compares what two models said of the same words.
    ///
    /// The standard errors are those of a paired bootstrap (Efron, 1979): words are drawn with replacement, as many as
    /// there are, both models are scored on the same draw, and the rise is taken; how it scatters from draw to draw is
    /// its error. A word that is hard for both is drawn for both, so that it does not blur the comparison. The draws are
    /// the same on every call.
    ///
    /// # Errors
    /// [`Error::Input`] if the two did not speak of as many words.
    // ANCHOR: effect_of
    pub fn of(
        (said_before, before): (&[Vec<Phoneme>], &[Counted]),
        (said_after, after): (&[Vec<Phoneme>], &[Counted]),
    ) -> Result<Self> {
        let words = before.len();
        if words == 0 || [said_before.len(), said_after.len(), after.len()] != [words; 3]
        {
            let problem = "the two models did not speak of the same words; give both the same, and at least one";
            return Err(Error::input("effect", problem));
        }
        let rise = |drawn: &[usize]| {
            let rates =
                |counted: &[Counted]| Rates::of(drawn.iter().map(|&word| &counted[word]));
            rates(after).minus(rates(before))
        };
        let all: Vec<usize> = (0..words).collect();
        let mut generator = ChaCha8Rng::seed_from_u64(10);
        let mut draw = |_| {
            rise(
                &all.iter().map(|_| generator.random_range(0..words)).collect::<Vec<_>>(),
            )
        };
        let draws: Vec<Rates> = (0..Self::DRAWS).map(&mut draw).collect();
        let spread = |rate: fn(&Rates) -> f64| {
            let mean = draws.iter().map(rate).sum::<f64>() / draws.len() as f64;
            let squares = draws.iter().map(|draw| (rate(draw) - mean).powi(2));
            (squares.sum::<f64>() / (draws.len() - 1) as f64).sqrt()
        };
        let changed = said_before.iter().zip(said_after).filter(|(a, b)| a != b);
        Ok(Self {
            changed: changed.count(),
            rise: rise(&all),
            error: Rates {
                word_error_rate: spread(|rates| rates.word_error_rate),
                phoneme_error_rate: spread(|rates| rates.phoneme_error_rate),
            },
        })
    }
    // ANCHOR_END: effect_of

    /// Whether the phoneme error rate rises by more than chance.
    pub fn hurts(&self) -> bool {
        self.rise.phoneme_error_rate > Self::BEYOND_CHANCE * self.error.phoneme_error_rate
    }
}

/// Those of the words that are not among `taken`.
pub fn others<'a>(entries: &[&'a Entry], taken: &[&Entry]) -> Vec<&'a Entry> {
    let taken: BTreeSet<&str> = taken.iter().map(|entry| entry.word.as_str()).collect();
    entries.iter().copied().filter(|entry| !taken.contains(entry.word.as_str())).collect()
}

/// Spearman's rank correlation of two lists (1904): 1 if both rise together, −1 if one rises as the other falls. Equal
/// values share their mean rank.
///
/// # Errors
/// [`Error::Input`] if the lists are not of the same length or all values of one are equal.
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Result<f64> {
    let refuse = |problem: &str| Err(Error::input("rank correlation", problem));
    if a.len() != b.len() {
        return refuse("the lists are not of the same length");
    }
    let rank = |all: &[f64], value: f64| {
        let below = all.iter().filter(|&&other| other < value).count();
        let equal = all.iter().filter(|&&other| other == value).count();
        below as f64 + (equal as f64 - 1.0) / 2.0 - (all.len() as f64 - 1.0) / 2.0
    };
    let (mut product, mut squares_a, mut squares_b) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (rank(a, x), rank(b, y));
        product += x * y;
        squares_a += x * x;
        squares_b += y * y;
    }
    if squares_a == 0.0 || squares_b == 0.0 {
        return refuse("all values of a list are equal; there is nothing to rank");
    }
    Ok(product / (squares_a * squares_b).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::attention::{
        attention_scores, attention_weights, weighted_average, Attended,
    };
    use self_attention::block::NormPlacement;
    use self_attention::data::evenly;
    use self_attention::dropout::Dropout;
    use self_attention::mask::Mask;
    use self_attention::multi_head::concatenate_heads;
    use self_attention::visualization::inside::tests::{phonemes, pronouncer};

    fn tough() -> (Tensor, Mask) {
        let tokens = Tensor::from_slice2(&[[23i64, 18, 24, 10, 11, 1, 60, 32, 43]]);
        (tokens, Mask::prefix(&Tensor::from_slice(&[6i64]), 9).unwrap())
    }

    /// The logits with the context of some heads set to what `said` says of each, by hand.
    fn by_hand(
        model: &Transformer,
        heads: &[Head],
        said: impl Fn(&Tensor, Head) -> Tensor,
    ) -> Tensor {
        let (tokens, mask) = tough();
        let mut x = model.embed(&tokens).unwrap();
        for (index, block) in model.blocks.iter().enumerate() {
            let layer = &block.attention;
            let attended = block.around(&x, &Dropout::off(), |x| {
                let [query, key, value] = layer.split_heads(&layer.input.forward(x)?)?;
                let scores = attention_scores(&query, &key)?;
                let weights = attention_weights(&scores, Some(&mask))?;
                let context = weighted_average(&weights, &value)?; // [B, H, T, D]
                for &head in heads.iter().filter(|head| head.block == index) {
                    let mut of_head = context.select(1, head.head as i64); // [B, T, D]
                    of_head.copy_(&said(&of_head, head));
                }
                let context = layer.output.forward(&concatenate_heads(&context)?)?;
                Ok(Attended { context, weights })
            });
            x = attended.unwrap().context;
        }
        model.logits(&x).unwrap()
    }

    fn apart(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn columns_at_0_are_a_context_at_0() {
        for norm in [NormPlacement::Pre, NormPlacement::Post] {
            let model = pronouncer(norm).model;
            let (tokens, mask) = tough();
            let whole = model.forward(&tokens, Some(&mask), &Dropout::off()).unwrap();
            let one = [Head { block: 1, head: 2 }];
            let three = [one[0], Head { block: 0, head: 0 }, Head { block: 1, head: 3 }];
            for heads in [&one[..], &three[..], &Head::all(&model)] {
                let less = silenced(&model, heads).unwrap();
                let logits = less.forward(&tokens, Some(&mask), &Dropout::off());
                let logits = logits.unwrap().logits;
                let zero = |context: &Tensor, _| context.zeros_like();
                let expected = no_grad(|| by_hand(&model, heads, zero));
                assert!(apart(&logits, &expected) < 1e-5, "{norm:?}, {heads:?}");
                assert!(apart(&logits, &whole.logits) > 1e-2, "{norm:?}, {heads:?}");
            }
            // The model itself is as it was.
            let again = model.forward(&tokens, Some(&mask), &Dropout::off()).unwrap();
            assert_eq!(again.logits, whole.logits);
            let same = silenced(&model, &[]).unwrap();
            let same = same.forward(&tokens, Some(&mask), &Dropout::off()).unwrap();
            assert_eq!(same.logits, whole.logits);
        }
    }

    #[test]
    fn an_averaged_head_says_its_mean_at_every_position() {
        let model = pronouncer(NormPlacement::Pre).model;
        let (tokens, mask) = tough();
        let head = Head { block: 0, head: 1 };
        let mean = Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.1]);
        let less = averaged(&model, head, &mean).unwrap();
        let logits = less.forward(&tokens, Some(&mask), &Dropout::off()).unwrap().logits;
        let same = |context: &Tensor, _| mean.expand_as(context);
        let expected = no_grad(|| by_hand(&model, &[head], same));
        assert!(apart(&logits, &expected) < 1e-5);
        let zero = averaged(&model, head, &mean.zeros_like()).unwrap();
        let zero = zero.forward(&tokens, Some(&mask), &Dropout::off()).unwrap().logits;
        let silent = silenced(&model, &[head]).unwrap();
        let silent = silent.forward(&tokens, Some(&mask), &Dropout::off()).unwrap();
        assert_eq!(zero, silent.logits);
    }

    #[test]
    fn a_head_that_is_not_there_is_named() {
        let model = pronouncer(NormPlacement::Pre).model;
        let error = silenced(&model, &[Head { block: 2, head: 0 }]);
        let message = "head: block 2, head 0: there are 2 × 4, counted from 0";
        assert_eq!(error.unwrap_err().to_string(), message);
        let error = silenced(&model, &[Head { block: 0, head: 4 }]);
        assert!(error.unwrap_err().to_string().contains("there are 2 × 4"));
        assert_eq!(Head { block: 1, head: 0 }.to_string(), "block 2, head 1");
        assert_eq!(Head::all(&model).len(), 8);
    }

    fn counted(edits: &[usize]) -> Vec<Counted> {
        edits.iter().map(|&edits| Counted { edits, phonemes: 5 }).collect()
    }

    #[test]
    fn a_paired_error_is_that_of_the_words_that_differ() {
        // 400 words: 40 become wrong by one edit, 10 become right, 100 are wrong before and after.
        let before = counted(&[vec![0; 290], vec![1; 110]].concat());
        let after =
            counted(&[vec![1; 40], vec![0; 250], vec![0; 10], vec![1; 100]].concat());
        let said = |counted: &[Counted]| -> Vec<Vec<Phoneme>> {
            let word = |word: &Counted| phonemes(["T", "AH"][word.edits.min(1)]);
            counted.iter().map(word).collect()
        };
        let (said_before, said_after) = (said(&before), said(&after));
        let effect = Effect::of((&said_before, &before), (&said_after, &after)).unwrap();
        assert_eq!(effect.changed, 50);
        assert!((effect.rise.word_error_rate - 30.0 / 400.0).abs() < 1e-12);
        assert!((effect.rise.phoneme_error_rate - 30.0 / 2000.0).abs() < 1e-12);
        // As chapter 9 has it for two systems on the same words.
        let expected = (50.0f64 - 30.0 * 30.0 / 400.0).sqrt() / 400.0;
        assert!((effect.error.word_error_rate / expected - 1.0).abs() < 0.1);
        assert!((effect.error.phoneme_error_rate / (expected / 5.0) - 1.0).abs() < 0.1);
        assert!(effect.hurts());
        let again = Effect::of((&said_before, &before), (&said_after, &after)).unwrap();
        assert_eq!(again, effect);

        let none = Effect::of((&said_before, &before), (&said_before, &before)).unwrap();
        assert_eq!((none.changed, none.rise, none.error), Default::default());
        assert!(!none.hurts());
        assert!(Effect::of((&[], &[]), (&[], &[])).is_err());
        assert!(Effect::of((&said_before, &before), (&said_after, &after[1..])).is_err());
    }

    #[test]
    fn words_are_taken_evenly_and_none_twice() {
        let entries: Vec<Entry> = (0..10)
            .map(|n| Entry {
                word: "a".repeat(n + 1),
                pronunciations: vec![phonemes("AH")],
                stresses: Vec::new(),
            })
            .collect();
        let entries: Vec<&Entry> = entries.iter().collect();
        let lengths =
            |entries: &[&Entry]| entries.iter().map(|e| e.word.len()).collect::<Vec<_>>();
        let some = evenly(&entries, 4);
        assert_eq!(lengths(&some), [1, 3, 6, 8]);
        assert_eq!(lengths(&others(&entries, &some)), [2, 4, 5, 7, 9, 10]);
        assert_eq!(evenly(&entries, 99).len(), 10);
        assert!(evenly(&[], 3).is_empty());
    }

    #[test]
    fn ranks_correlate_as_they_should() {
        let rising = [1.0, 2.0, 30.0, 400.0];
        assert!(
            (rank_correlation(&rising, &[0.1, 0.2, 0.3, 0.31]).unwrap() - 1.0).abs()
                < 1e-12
        );
        assert!(
            (rank_correlation(&rising, &[4.0, 3.0, 2.0, 1.0]).unwrap() + 1.0).abs()
                < 1e-12
        );
        // Ranks 1 2 3 4 and 1 3 2 4: 1 − 6·(0 + 1 + 1 + 0)/(4·15).
        assert!(
            (rank_correlation(&rising, &[1.0, 3.0, 2.0, 4.0]).unwrap() - 0.8).abs()
                < 1e-12
        );
        // scipy.stats.spearmanr([1, 2, 2, 4], [1, 2, 3, 4]) = 0.9486832980505138
        let ties =
            rank_correlation(&[1.0, 2.0, 2.0, 4.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!((ties - 0.948_683_298_050_513_8).abs() < 1e-12);
        assert!(rank_correlation(&[1.0], &[1.0, 2.0]).is_err());
        assert!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]).is_err());
    }
}
