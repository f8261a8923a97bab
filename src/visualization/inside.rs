//! A forward pass that is open in the middle: what each head computes can be seen, and something else put in its place.
//!
//! [`Transformer::forward`] hands out the weights. Two questions need more: how *long* is what a token hands over, for a
//! large weight on a short vector moves little (Kobayashi et al., "Attention is Not Only a Weight", 2020); and what would
//! the model have said with other weights. [`look_inside`] is the same pass out of the same parts, with a place where to
//! ask.

use tch::{no_grad, Device, Kind, Tensor};

use self_attention::attention::{
    attention_scores, attention_weights, weighted_average, Attended,
};
use self_attention::data::batch::{Batch, Example};
use self_attention::data::cmudict::Phoneme;
use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::evaluation::pronouncer::Pronouncer;
use self_attention::evaluation::teacher_forced::misses;
use self_attention::linear::Linear;
use self_attention::mask::Mask;
use self_attention::model::{prefix_decoder_mask, Transformer};
use self_attention::multi_head::concatenate_heads;

/// Words that are read together: of one length or nearly, so that little of it is padding.
const GROUP: usize = 64;

/// What the heads of one block compute.
// ANCHOR: heads
#[derive(Debug)]
pub struct Heads<'a> {
    /// The weights, `[B, H, T, S]`.
    pub weights: &'a Tensor,
    /// What each position hands over, `[B, H, S, D]`.
    pub value: &'a Tensor,
    /// The projection that adds up what the heads found: weight `[E, H·D]`.
    pub output: &'a Linear,
}
// ANCHOR_END: heads

impl Heads<'_> {
    /// How long the vector is that each position would add to the result by way of each head, were all of the head's
    /// weight on it: `‖f_h(x_s)‖ = ‖W_{o,h}·(W_{v,h}·x_s + b_{v,h})‖` (Kobayashi et al., 2020, section 3).
    ///
    /// With a weight of `w` it adds a vector of length `w·‖f_h(x_s)‖`.
    ///
    /// # Shapes
    /// `[B, H, S]`.
    ///
    /// # Errors
    /// [`Error::Torch`] if the values are not those of the projection.
    // ANCHOR: lengths
    pub fn lengths(&self) -> Result<Tensor> {
        let (_, heads, _, width) = self.value.size4()?; // H, D
        let output = self.output.weight.f_view([-1, heads, width])?; // [E, H, D]
        let output = output.f_permute([1, 2, 0])?; // [H, D, E]
        let added = self.value.f_matmul(&output)?; // [B, H, S, E]
        Ok(added.f_norm_scalaropt_dim(2, [-1], false)?) // [B, H, S]
    }
    // ANCHOR_END: lengths
}

/// [`Transformer::forward`] without dropout, with a look at every block: `look` is given the number of the block,
/// counted from 0, and what its heads compute, and returns the weights to go on with.
///
/// # Shapes
/// `tokens`: `[B, T]`, `mask`: broadcasts to `[B, H, T, T]`, weights: `[B, H, T, T]`; logits: `[B, T, V]`.
///
/// # Errors
/// As [`Transformer::forward`], and those of `look`.
///
/// # Example: every head made to spread its weight evenly
/// ```
/// use self_attention::prelude::*;
/// use self_attention::visualization::inside::look_inside;
/// # fn main() -> Result<()> {
/// let store = nn::VarStore::new(Device::Cpu);
/// let model = TransformerConfig::new(69).with_width(16).init(&store.root())?;
/// let tokens = Tensor::from_slice2(&[[23i64, 18, 24, 10, 11, 1]]); // t o u g h <sep>
/// let logits = look_inside(&model, &tokens, None, |_, heads| {
///     Ok(Tensor::full_like(heads.weights, 1.0 / 6.0)) // of 6 keys each
/// })?;
/// assert_eq!(logits.size(), [1, 6, 69]);
/// # Ok(())
/// # }
/// ```
// ANCHOR: look_inside
pub fn look_inside(
    model: &Transformer,
    tokens: &Tensor,
    mask: Option<&Mask>,
    mut look: impl FnMut(usize, &Heads) -> Result<Tensor>,
) -> Result<Tensor> {
    let off = Dropout::off();
    let mut x = model.embed(tokens)?; // [B, T, E]
    for (index, block) in model.blocks.iter().enumerate() {
        let layer = &block.attention;
        let attend = |x: &Tensor| {
            let projected = layer.input.forward(x)?; // [B, T, 3E]
            let [query, key, value] = layer.split_heads(&projected)?; // [B, H, T, D]
            let scores = attention_scores(&query, &key)?; // [B, H, T, T]
            let weights = attention_weights(&scores, mask)?; // [B, H, T, T]
            let heads = Heads { weights: &weights, value: &value, output: &layer.output };
            let weights = look(index, &heads)?; // [B, H, T, T]
            let context = weighted_average(&weights, &value)?; // [B, H, T, D]
            let context = layer.output.forward(&concatenate_heads(&context)?)?; // [B, T, E]
            Ok(Attended { context, weights })
        };
        x = block.around(&x, &off, attend)?.context; // [B, T, E]
    }
    model.logits(&x) // [B, T, V]
}
// ANCHOR_END: look_inside

/// What all heads did with one word.
#[derive(Clone, Debug, PartialEq)]
pub struct Inside {
    /// How many tokens were given: the letters and `<sep>`.
    pub prefix: usize,
    /// `weights[block][head][query][key]`: `T` queries, `T` keys.
    pub weights: Vec<Vec<Vec<Vec<f64>>>>,
    /// `lengths[block][head][key]`: see [`Heads::lengths`].
    pub lengths: Vec<Vec<Vec<f64>>>,
}

/// Lets the model read words, each with a pronunciation, and hands what its heads did with each to `each`, with the
/// word's place in the list. Words of like length come one after the other.
///
/// # Errors
/// What the model refuses, and those of `each`.
pub fn read_words(
    pronouncer: &Pronouncer,
    words: &[(&str, &[Phoneme])],
    mut each: impl FnMut(usize, &Inside) -> Result<()>,
) -> Result<()> {
    for (places, examples) in by_length(pronouncer, words)? {
        let batch = Batch::collate(&examples.iter().collect::<Vec<_>>(), Device::Cpu)?;
        let (mut weights, mut lengths) = (Vec::new(), Vec::new());
        pass(&pronouncer.model, &batch, |_, heads| {
            weights.push(numbers(heads.weights)?); // [B, H, T, T] in one row
            lengths.push(numbers(&heads.lengths()?)?); // [B, H, T] in one row
            Ok(heads.weights.shallow_clone())
        })?;
        let heads = pronouncer.model.config.heads as usize;
        let width = batch.tokens.size()[1] as usize; // T of the longest
        for (row, (place, example)) in places.into_iter().zip(&examples).enumerate() {
            let length = example.positions();
            let key = |all: &[f64], at: usize| all[at * width..][..length].to_vec();
            let of_block = |all: &Vec<f64>| -> Vec<Vec<f64>> {
                (0..heads).map(|head| key(all, row * heads + head)).collect()
            };
            let maps = |all: &Vec<f64>| -> Vec<Vec<Vec<f64>>> {
                let query = |head, query| key(all, (row * heads + head) * width + query);
                (0..heads)
                    .map(|head| (0..length).map(|t| query(head, t)).collect())
                    .collect()
            };
            let inside = Inside {
                prefix: example.prefix,
                weights: weights.iter().map(maps).collect(),
                lengths: lengths.iter().map(of_block).collect(),
            };
            each(place, &inside)?;
        }
    }
    Ok(())
}

/// Lets the model read words, each with what it says of it, while one head spreads its weight evenly over the keys that are
/// open, and counts the words of which it would still say the same: each phoneme and the `<eos>` the likeliest in its place.
///
/// # Errors
/// [`Error::Input`] if the model has no such head, counted from 0, and what the model refuses.
pub fn said_evenly(
    pronouncer: &Pronouncer,
    words: &[(&str, &[Phoneme])],
    (block, head): (usize, usize),
) -> Result<usize> {
    let model = &pronouncer.model;
    if block >= model.blocks.len() || head as i64 >= model.config.heads {
        let problem =
            format!("block {block}, head {head}, counted from 0: there is none");
        return Err(Error::input("head", problem));
    }
    let mut same = 0;
    for (_, examples) in by_length(pronouncer, words)? {
        let batch = Batch::collate(&examples.iter().collect::<Vec<_>>(), Device::Cpu)?;
        let positions = batch.tokens.size()[1]; // T
        let mask = prefix_decoder_mask(&batch.lengths, &batch.prefixes, positions)?;
        let even = even_weights(&mask)?.f_squeeze_dim(1)?; // [B, T, T]
        let look = |index, heads: &Heads| {
            let weights = heads.weights.f_mul_scalar(1.0)?; // a copy, [B, H, T, T]
            if index == block {
                weights.f_select(1, head as i64)?.f_copy_(&even)?;
            }
            Ok(weights)
        };
        let logits = no_grad(|| look_inside(model, &batch.tokens, Some(&mask), look))?;
        let missed = misses(&logits, &batch.targets)?;
        same += missed.into_iter().filter(|missed| *missed == 0).count();
    }
    Ok(same)
}

/// The weights of a head that prefers nothing: one over the number of keys that are open.
///
/// # Shapes
/// Those of the mask, as in `[B, 1, T, T]`.
///
/// # Errors
/// [`Error::Torch`] if libtorch cannot make the tensor.
pub fn even_weights(mask: &Mask) -> Result<Tensor> {
    let open = mask.allowed().f_to_kind(Kind::Float)?;
    Ok(open.f_div(&open.f_sum_dim_intlist(-1, true, Kind::Float)?)?)
}

/// What each head finds on average, over all positions of all words: the mean of its contexts.
///
/// # Shapes
/// For each block `[H, D]`.
///
/// # Errors
/// [`Error::Input`] if there is no word, and what the model refuses.
pub fn mean_contexts(
    pronouncer: &Pronouncer,
    words: &[(&str, &[Phoneme])],
) -> Result<Vec<Tensor>> {
    let mut sums: Vec<Tensor> = Vec::new();
    let mut positions = 0;
    for (_, examples) in by_length(pronouncer, words)? {
        let batch = Batch::collate(&examples.iter().collect::<Vec<_>>(), Device::Cpu)?;
        let width = batch.tokens.size()[1]; // T
        let place = Tensor::f_arange(width, (Kind::Int64, Device::Cpu))?; // [T]
        let live = place
            .f_less_tensor(&batch.lengths.f_unsqueeze(1)?)? // [B, T]
            .f_view([-1, 1, width, 1])?; // [B, 1, T, 1]
        positions += examples.iter().map(Example::positions).sum::<usize>();
        pass(&pronouncer.model, &batch, |block, heads| {
            let context = weighted_average(heads.weights, heads.value)?; // [B, H, T, D]
            let live = live.f_to_kind(context.kind())?;
            let sum = context
                .f_mul(&live)?
                .f_sum_dim_intlist(2, false, context.kind())? // [B, H, D]
                .f_sum_dim_intlist(0, false, context.kind())?; // [H, D]
            match sums.get_mut(block) {
                Some(sums) => *sums = sums.f_add(&sum)?,
                None => sums.push(sum),
            }
            Ok(heads.weights.shallow_clone())
        })?;
    }
    if positions == 0 {
        return Err(Error::input("mean contexts", "there is no word; give at least one"));
    }
    sums.iter().map(|sum| Ok(sum.f_div_scalar(positions as f64)?)).collect()
}

/// Words of one length or nearly, with their places in the list.
type Group = (Vec<usize>, Vec<Example>);

fn by_length(
    pronouncer: &Pronouncer,
    words: &[(&str, &[Phoneme])],
) -> Result<Vec<Group>> {
    let example = |(place, (word, phonemes)): (usize, &(&str, &[Phoneme]))| {
        Ok((place, Example::new(&pronouncer.vocabulary, word, phonemes)?))
    };
    let mut examples =
        words.iter().enumerate().map(example).collect::<Result<Vec<_>>>()?;
    examples.sort_by_key(|(_, example)| example.positions());
    Ok(examples.chunks(GROUP).map(|group| group.iter().cloned().unzip()).collect())
}

/// [`look_inside`] for a batch, without gradients.
fn pass(
    model: &Transformer,
    batch: &Batch,
    look: impl FnMut(usize, &Heads) -> Result<Tensor>,
) -> Result<()> {
    let positions = batch.tokens.size()[1]; // T
    let mask = prefix_decoder_mask(&batch.lengths, &batch.prefixes, positions)?;
    no_grad(|| look_inside(model, &batch.tokens, Some(&mask), look)).map(drop)
}

/// All numbers of a tensor in one row.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(tensor.f_to_kind(Kind::Double)?.f_reshape([-1])?)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use self_attention::block::NormPlacement;
    use self_attention::data::vocabulary::Vocabulary;
    use self_attention::model::TransformerConfig;
    use tch::nn;

    /// A small model whose every parameter is drawn at random, so that no head is like another.
    pub fn pronouncer(norm: NormPlacement) -> Pronouncer {
        tch::manual_seed(10);
        let vocabulary = Vocabulary::new();
        let store = nn::VarStore::new(Device::Cpu);
        let config = TransformerConfig {
            norm,
            ..TransformerConfig::new(vocabulary.len() as i64)
                .with_width(16)
                .with_blocks(2)
        };
        let model = config.init(&store.root()).unwrap();
        no_grad(|| {
            for mut parameter in store.variables().into_values() {
                let noise = Tensor::randn(parameter.size(), (Kind::Float, Device::Cpu));
                let _ = parameter.g_add_(&(noise * 0.3));
            }
        });
        Pronouncer { model, vocabulary }
    }

    pub fn phonemes(text: &str) -> Vec<Phoneme> {
        text.split(' ').map(|symbol| symbol.parse().unwrap()).collect()
    }

    #[test]
    fn looking_changes_no_bit_and_sees_the_weights_that_are_handed_out() {
        for norm in [NormPlacement::Pre, NormPlacement::Post] {
            let Pronouncer { model, .. } = pronouncer(norm);
            let tokens = Tensor::from_slice2(&[[23i64, 18, 24, 10, 11, 1, 60, 32, 43]]);
            let mask = Mask::prefix(&Tensor::from_slice(&[6i64]), 9).unwrap();
            let handed_out =
                model.forward(&tokens, Some(&mask), &Dropout::off()).unwrap();
            let mut seen = Vec::new();
            let logits = look_inside(&model, &tokens, Some(&mask), |block, heads| {
                assert_eq!(block, seen.len());
                seen.push(heads.weights.shallow_clone());
                Ok(heads.weights.shallow_clone())
            });
            assert_eq!(logits.unwrap(), handed_out.logits);
            assert_eq!(seen, handed_out.weights);
        }
    }

    #[test]
    fn a_group_of_words_is_read_as_each_alone() {
        let pronouncer = pronouncer(NormPlacement::Pre);
        let (tough, a) = (phonemes("T AH F"), phonemes("EY"));
        let words = [("tough", &tough[..]), ("a", &a[..]), ("tough", &tough[..])];
        let mut read = Vec::new();
        let each = |place: usize, inside: &Inside| {
            read.push((place, inside.clone()));
            Ok(())
        };
        read_words(&pronouncer, &words, each).unwrap();
        read.sort_by_key(|(place, _)| *place);
        for ((place, inside), (word, phonemes)) in read.iter().zip(words) {
            let mut alone = Vec::new();
            let each = |_: usize, inside: &Inside| {
                alone.push(inside.clone());
                Ok(())
            };
            read_words(&pronouncer, &[(word, phonemes)], each).unwrap();
            assert_eq!(inside.prefix, word.len() + 1);
            let flat = |inside: &Inside| -> Vec<f64> {
                let weights = inside.weights.iter().flatten().flatten().flatten();
                weights
                    .chain(inside.lengths.iter().flatten().flatten())
                    .copied()
                    .collect()
            };
            let (together, alone) = (flat(inside), flat(&alone[0]));
            assert_eq!(together.len(), alone.len(), "{place}");
            assert!(together.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn a_length_is_that_of_what_the_head_would_add() {
        let Pronouncer { model, .. } = pronouncer(NormPlacement::Pre);
        let tokens = Tensor::from_slice2(&[[23i64, 18, 24, 10, 11, 1]]);
        let layer = &model.blocks[1].attention;
        let _ = look_inside(&model, &tokens, None, |block, heads| {
            if block == 1 {
                let lengths = heads.lengths()?; // [1, 4, 6]
                for (head, key) in [(0, 0), (3, 5)] {
                    // All of one head's weight on one key, nothing anywhere else.
                    let context = heads.value.zeros_like();
                    context
                        .select(1, head)
                        .select(1, 0)
                        .copy_(&heads.value.select(1, head).select(1, key));
                    let joined = concatenate_heads(&context)?.get(0).get(0);
                    let added = layer.output.weight.matmul(&joined); // without the bias
                    let expected = added.norm().double_value(&[]);
                    let found = lengths.double_value(&[0, head, key]);
                    assert!((found - expected).abs() < 1e-5 * expected);
                }
            }
            Ok(heads.weights.shallow_clone())
        })
        .unwrap();
    }

    #[test]
    fn words_are_counted_that_even_weights_do_not_change() {
        let pronouncer = pronouncer(NormPlacement::Pre);
        let said = pronouncer.pronounce(&["a", "tough"]).unwrap();
        let words = [("a", &said[0][..]), ("tough", &said[1][..])];
        let mut same = 0;
        for (word, phonemes) in words {
            let example = Example::new(&pronouncer.vocabulary, word, phonemes).unwrap();
            let batch = Batch::collate(&[&example], Device::Cpu).unwrap();
            let mask = Mask::prefix(&batch.prefixes, batch.tokens.size()[1]).unwrap();
            let logits = look_inside(
                &pronouncer.model,
                &batch.tokens,
                Some(&mask),
                |block, heads| {
                    let weights = heads.weights.copy();
                    for query in 0..weights.size()[2] {
                        let open = (query + 1).max(example.prefix as i64);
                        if block == 0 {
                            let row = weights.select(1, 2).select(1, query); // [1, T]
                            let _ = row.narrow(1, 0, open).fill_(1.0 / open as f64);
                        }
                    }
                    Ok(weights)
                },
            );
            same += usize::from(misses(&logits.unwrap(), &batch.targets).unwrap() == [0]);
        }
        assert_eq!(said_evenly(&pronouncer, &words, (0, 2)).unwrap(), same);
        assert!(said_evenly(&pronouncer, &words, (2, 0)).is_err());
    }

    #[test]
    fn the_mean_context_is_that_over_all_positions_and_no_padding() {
        let pronouncer = pronouncer(NormPlacement::Pre);
        let (tough, a) = (phonemes("T AH F"), phonemes("EY"));
        let words = [("tough", &tough[..]), ("a", &a[..])];
        let together = mean_contexts(&pronouncer, &words).unwrap();
        let [tough, a] =
            words.map(|word| mean_contexts(&pronouncer, &[word]).unwrap().remove(1));
        let expected = (tough * 9.0 + a * 3.0) / 12.0; // t o u g h <sep> T AH F, a <sep> EY
        let apart = (&together[1] - expected).abs().max().double_value(&[]);
        assert_eq!(together[1].size(), [4, 4]);
        assert!(apart < 1e-6, "{apart}");
        assert!(mean_contexts(&pronouncer, &[]).is_err());
    }
}
