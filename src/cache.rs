//! The key/value cache: a new token costs one position, not a new reading of all that stands before it.
//!
//! Nothing that is read later changes what a model has made of the positions before: the letters see no phoneme, and a
//! phoneme none after itself. So each block keeps the keys and values of the positions read so far, and only the newest
//! position goes through the stack. It needs no mask, for all that is kept stands before it.
//!
//! | tensor        | shape          |                                                       |
//! |---------------|----------------|-------------------------------------------------------|
//! | x             | `[B, T, E]`    | the new positions: the whole prompt, then one at a time |
//! | query         | `[B, H, T, D]` | of the new positions                                  |
//! | keys, values  | `[B, H, S, D]` | of all positions read so far, the new ones last       |

use tch::{Device, Tensor};

use self_attention::attention::{scaled_dot_product_attention, Attended};
use self_attention::block::Block;
use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::model::Transformer;
use self_attention::multi_head::{concatenate_heads, MultiHead};

/// The keys and the values of one block for all positions read so far.
///
/// # Shapes
/// `[B, H, S, D]` each; nothing before the first position is read.
// ANCHOR: keys_values
#[derive(Debug, Default)]
pub struct KeysValues(Option<[Tensor; 2]>);
// ANCHOR_END: keys_values

impl KeysValues {
    /// Puts the keys and values of new positions behind those that are kept, and gives all of them.
    ///
    /// # Shapes
    /// `new`: `[B, H, T, D]` each; all: `[B, H, S, D]` each, `S` being `T` more than before.
    ///
    /// # Errors
    /// [`Error::Torch`] if the new ones are of another batch.
    // ANCHOR: extend
    pub fn extend(&mut self, new: [Tensor; 2]) -> Result<&[Tensor; 2]> {
        let all = match &self.0 {
            None => new,
            Some([keys, values]) => {
                let [key, value] = &new;
                [Tensor::f_cat(&[keys, key], 2)?, Tensor::f_cat(&[values, value], 2)?]
            }
        };
        Ok(self.0.insert(all)) // [B, H, S, D] each
    }
    // ANCHOR_END: extend
}

/// What a model keeps of the sequences it has begun to read.
// ANCHOR: cache
#[derive(Debug)]
pub struct Cache {
    /// Of each block.
    blocks: Vec<KeysValues>,
    /// `B`: how many sequences are read side by side.
    batch: i64,
    /// The place of the next token.
    next: i64,
}
// ANCHOR_END: cache

impl Cache {
    /// The [place](Transformer::places) of the next token of each sequence.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Goes on with some of the sequences only, in this order. One may come more than once, to be continued in several
    /// ways.
    ///
    /// # Shapes
    /// `rows`: places in the batch as it was; the new batch is as large as `rows` is long.
    ///
    /// # Errors
    /// [`Error::Torch`] if there is no such row.
    // ANCHOR: select
    pub fn select(&mut self, rows: &[i64]) -> Result<()> {
        if rows.iter().copied().eq(0..self.batch) {
            return Ok(()); // all of them, as they stand
        }
        for kept in &mut self.blocks {
            if let KeysValues(Some([keys, values])) = kept {
                let rows = Tensor::f_from_slice(rows)?.f_to_device(keys.device())?;
                *keys = keys.f_index_select(0, &rows)?;
                *values = values.f_index_select(0, &rows)?;
            }
        }
        self.batch = rows.len() as i64;
        Ok(())
    }
    // ANCHOR_END: select
}

impl MultiHead {
    /// [`MultiHead::forward`] for new positions, which look at all positions read so far and at each other.
    ///
    /// # Shapes
    /// `x`: `[B, T, E]`; context: `[B, T, E]`, weights: `[B, H, T, S]`, `S` positions read so far, the new ones
    /// included.
    ///
    /// # Errors
    /// As [`MultiHead::forward`]; [`Error::Torch`] if what was read so far is of another batch.
    // ANCHOR: multi_head_forward_cached
    pub fn forward_cached(&self, x: &Tensor, read: &mut KeysValues) -> Result<Attended> {
        let projected = self.input.forward(x)?; // [B, T, 3E]
        let [query, key, value] = self.split_heads(&projected)?; // [B, H, T, D]
        let [keys, values] = read.extend([key, value])?; // [B, H, S, D]
        let attended =
            scaled_dot_product_attention(&query, keys, values, None, &Dropout::off())?;
        let joined = concatenate_heads(&attended.context)?; // [B, T, E]
        let context = self.output.forward(&joined)?; // [B, T, E]
        Ok(Attended { context, weights: attended.weights })
    }
    // ANCHOR_END: multi_head_forward_cached
}

impl Block {
    /// [`Block::forward`] for new positions; see [`MultiHead::forward_cached`].
    ///
    /// # Shapes
    /// `x`: `[B, T, E]`; context: `[B, T, E]`, weights: `[B, H, T, S]`.
    ///
    /// # Errors
    /// As [`MultiHead::forward_cached`].
    // ANCHOR: block_forward_cached
    pub fn forward_cached(&self, x: &Tensor, read: &mut KeysValues) -> Result<Attended> {
        self.around(x, &Dropout::off(), |x| self.attention.forward_cached(x, read))
    }
    // ANCHOR_END: block_forward_cached
}

impl Transformer {
    /// Reads the beginnings of sequences, in which every token sees every other, and says what comes next.
    ///
    /// # Shapes
    /// `prompts`: `[B, T]`, all of one length, so that there is no padding; logits: `[B, V]`.
    ///
    /// # Errors
    /// As [`Transformer::forward`]; [`Error::Shape`] if there is nothing to read, or if the prompts have their separators
    /// at different positions.
    ///
    /// # Example: the same logits, one position at a time
    /// ```
    /// use self_attention::prelude::*;
    /// # fn main() -> Result<()> {
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let model = TransformerConfig::new(69).with_width(16).init(&store.root())?;
    /// let (mut cache, _) = model.start(&Tensor::from_slice2(&[[23i64, 18, 1]]))?; // t o <sep>
    /// let logits = model.advance(&mut cache, &Tensor::from_slice(&[60i64]))?; // T
    ///
    /// let whole = Tensor::from_slice2(&[[23i64, 18, 1, 60]]);
    /// let mask = Mask::prefix(&Tensor::from_slice(&[3i64]), 4)?;
    /// let expected = model.forward(&whole, Some(&mask), &Dropout::off())?.logits.select(1, -1);
    /// assert!((logits - expected).abs().max().double_value(&[]) < 1e-5);
    /// # Ok(())
    /// # }
    /// ```
    // ANCHOR: start
    pub fn start(&self, prompts: &Tensor) -> Result<(Cache, Tensor)> {
        let blocks = self.blocks.iter().map(|_| KeysValues::default()).collect();
        let batch = prompts.size().first().copied().unwrap_or(0);
        let mut cache = Cache { blocks, batch, next: self.next_place(prompts)? };
        let logits = self.read(&mut cache, self.embed(prompts)?)?; // [B, V]
        Ok((cache, logits))
    }
    // ANCHOR_END: start

    /// Reads the next token of each sequence, and says what comes after it.
    ///
    /// # Shapes
    /// `tokens`: `[B]`, the batch of the cache; logits: `[B, V]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `tokens` is not `[B]` or no position is left; [`Error::Torch`] if a token is not in the
    /// vocabulary.
    // ANCHOR: advance
    pub fn advance(&self, cache: &mut Cache, tokens: &Tensor) -> Result<Tensor> {
        if tokens.size() != [cache.batch] {
            return Err(Error::Shape {
                what: "model: next tokens",
                expected: format!("[B = {}], one for each sequence", cache.batch),
                found: tokens.size(),
            });
        }
        let x = self.embed_from(cache.next, &tokens.f_unsqueeze(1)?)?; // [B, 1, E]
        cache.next += 1;
        self.read(cache, x) // [B, V]
    }
    // ANCHOR_END: advance

    /// The [place](Transformer::places) after the last token of each prompt, which must be one for all.
    ///
    /// # Shapes
    /// `prompts`: `[B, T]`.
    ///
    /// # Errors
    /// As [`Transformer::start`].
    // ANCHOR: next_place
    pub fn next_place(&self, prompts: &Tensor) -> Result<i64> {
        let places = self.places(prompts)?.f_to_device(Device::Cpu)?; // [B, T]
        let places = Vec::<Vec<i64>>::try_from(&places)?;
        let mut last = places.iter().map(|of_prompt| of_prompt.last());
        match last.next() {
            Some(Some(place)) if last.all(|other| other == Some(place)) => Ok(place + 1),
            _ => Err(Error::Shape {
                what: "model: prompts",
                expected: "[B, T], B and T at least 1, separators at one position".into(),
                found: prompts.size(),
            }),
        }
    }
    // ANCHOR_END: next_place

    /// Passes new tokens, embedded, `[B, T, E]`, through the stack, and predicts the one after the last, `[B, V]`.
    // ANCHOR: read
    fn read(&self, cache: &mut Cache, mut x: Tensor) -> Result<Tensor> {
        for (block, read) in self.blocks.iter().zip(&mut cache.blocks) {
            x = block.forward_cached(&x, read)?.context; // [B, T, E]
        }
        self.logits(&x.f_select(1, -1)?) // [B, V]
    }
    // ANCHOR_END: read
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::block::NormPlacement;
    use self_attention::data::vocabulary::SEP;
    use self_attention::mask::Mask;
    use self_attention::model::{Positions, TransformerConfig};
    use tch::{nn, Device, Kind};

    fn model(
        norm: NormPlacement,
        positions: Positions,
        separator: Option<i64>,
    ) -> Transformer {
        tch::manual_seed(7);
        let store = nn::VarStore::new(Device::Cpu);
        let config = TransformerConfig::new(69);
        let config = TransformerConfig { norm, positions, separator, ..config };
        let model = config.with_width(32).with_blocks(3).init(&store.root()).unwrap();
        // At the start of training the position vectors are small. Here nothing shall be hidden by that.
        if let Positions::Learned = positions {
            let _ = tch::no_grad(|| model.positions.shallow_clone().normal_(0.0, 1.0));
        }
        model
    }

    /// The logits at the last position by the full forward pass.
    fn full(model: &Transformer, tokens: &Tensor, prefix: i64) -> Tensor {
        let [batch, length] = [0, 1].map(|dimension| tokens.size()[dimension]);
        let prefixes = Tensor::full([batch], prefix, (Kind::Int64, Device::Cpu));
        let mask = Mask::prefix(&prefixes, length).unwrap();
        model.forward(tokens, Some(&mask), &Dropout::off()).unwrap().logits.select(1, -1)
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.size(), b.size());
        (a - b).abs().max().double_value(&[])
    }

    fn for_each_kind(check: impl Fn(&Transformer, &str)) {
        for norm in [NormPlacement::Pre, NormPlacement::Post] {
            for positions in [Positions::Learned, Positions::Sinusoidal] {
                for separator in [None, Some(SEP)] {
                    let kind = format!("{norm:?}, {positions:?}, {separator:?}");
                    check(&model(norm, positions, separator), &kind);
                }
            }
        }
    }

    #[test]
    fn every_step_gives_the_logits_of_the_full_forward_pass() {
        for_each_kind(|model, kind| {
            for (batch, prefix) in [(1, 2), (3, 6), (2, 31)] {
                let random = |length| {
                    let integers = (Kind::Int64, Device::Cpu);
                    Tensor::randint_low(2, 69, [batch, length], integers)
                };
                let mut tokens = random(prefix);
                let _ = tokens.select(1, -1).fill_(SEP);
                let (mut cache, mut logits) = model.start(&tokens).unwrap();
                loop {
                    let apart = difference(&logits, &full(model, &tokens, prefix));
                    let position = tokens.size()[1];
                    assert!(apart < 1e-5, "{kind}, position {position}: {apart:e}");
                    if cache.next() == model.config.max_positions {
                        break;
                    }
                    let next = random(1);
                    logits = model.advance(&mut cache, &next.squeeze_dim(1)).unwrap();
                    tokens = Tensor::cat(&[&tokens, &next], 1);
                }
                let beyond = model.advance(&mut cache, &tokens.select(1, 0)).unwrap_err();
                assert!(beyond.to_string().contains("T at most 0"), "{beyond}");
            }
        });
    }

    /// What a common mistake gives: every new token read as if it stood at the first position.
    #[test]
    fn a_position_stuck_at_zero_would_be_noticed() {
        for_each_kind(|model, kind| {
            let prompt = Tensor::from_slice2(&[[23i64, 18, 24, 10, 11, 1]]);
            let (mut cache, _) = model.start(&prompt).unwrap();
            cache.next = 0;
            let next = Tensor::from_slice(&[60i64]);
            let stuck = model.advance(&mut cache, &next).unwrap();
            let whole = Tensor::cat(&[prompt, next.unsqueeze(0)], 1);
            let apart = difference(&stuck, &full(model, &whole, 6));
            assert!(apart > 1e-3, "{kind}: {apart:e}");
        });
    }

    #[test]
    fn prompts_that_go_on_at_different_places_are_refused() {
        let start = |separator, prompts: &[&[i64]]| {
            let model = model(NormPlacement::Pre, Positions::Learned, separator);
            model.start(&Tensor::from_slice2(prompts)).map(|(cache, _)| cache.next())
        };
        let apart: [&[i64]; 2] = [&[4, 5, SEP], &[4, SEP, 40]];
        assert_eq!(start(None, &apart).unwrap(), 3);
        let error = start(Some(SEP), &apart).unwrap_err().to_string();
        assert!(error.contains("model: prompts: expected [B, T], B and T at"), "{error}");
        assert_eq!(start(Some(SEP), &apart[1..]).unwrap(), 33); // a beginning may be given, too
        let error = start(Some(SEP), &[&[4, 5]]).unwrap_err().to_string();
        assert!(error.contains("a separator among the first 32"), "{error}");
        let model = model(NormPlacement::Pre, Positions::Learned, None);
        for empty in [[0, 3], [3, 0]] {
            let prompts = Tensor::zeros(empty, (Kind::Int64, Device::Cpu));
            assert!(matches!(model.start(&prompts), Err(Error::Shape { .. })));
        }
    }

    #[test]
    fn sequences_can_leave_change_places_and_be_continued_in_several_ways() {
        let model = model(NormPlacement::Pre, Positions::Learned, Some(SEP));
        let prompts = Tensor::from_slice2(&[[4i64, 5, 1], [6, 7, 1], [8, 9, 1]]);
        let (mut cache, _) = model.start(&prompts).unwrap();
        cache.select(&[2, 0, 2]).unwrap();
        let next = Tensor::from_slice(&[40i64, 41, 42]);
        let logits = model.advance(&mut cache, &next).unwrap();
        let whole =
            Tensor::from_slice2(&[[8i64, 9, 1, 40], [4, 5, 1, 41], [8, 9, 1, 42]]);
        assert!(difference(&logits, &full(&model, &whole, 3)) < 1e-5);

        let few = model.advance(&mut cache, &Tensor::from_slice(&[40i64])).unwrap_err();
        let message =
            "model: next tokens: expected [B = 3], one for each sequence, found [1]";
        assert_eq!(few.to_string(), message);
        assert!(cache.select(&[3]).is_err());
    }
}
