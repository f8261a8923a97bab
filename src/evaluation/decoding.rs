//! Letting the model write a pronunciation, one phoneme after the other.

use std::collections::BTreeMap;

use tch::{no_grad, Kind, Tensor};

use self_attention::data::cmudict::Phoneme;
use self_attention::data::vocabulary::{Vocabulary, EOS, SEP};
use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::mask::Mask;
use self_attention::model::Transformer;

/// Words that are read together: more fill the memory and save little time.
const GROUP: usize = 256;

/// The longest word the model can read: half of its positions, so that as many are left to write in.
pub fn longest_word(model: &Transformer) -> usize {
    usize::try_from(model.config.max_positions / 2 - 1).unwrap_or(0)
}

/// Checks a word and turns it into what the model is given: the ids of its letters and the `<sep>`.
///
/// # Errors
/// [`Error::EmptyWord`], [`Error::UnknownSymbol`] or [`Error::LongWord`].
pub fn prompt(
    model: &Transformer,
    vocabulary: &Vocabulary,
    word: &str,
) -> Result<Vec<i64>> {
    let mut ids = vocabulary.letters(word)?;
    let limit = longest_word(model);
    if ids.len() > limit {
        return Err(Error::LongWord { word: word.to_owned(), length: ids.len(), limit });
    }
    ids.push(SEP);
    Ok(ids)
}

/// Writes a pronunciation of each word, always with the likeliest next phoneme.
///
/// At each step the model reads the letters and everything it has written so far. Letters cannot be written, and a
/// pronunciation has at least one phoneme.
///
/// # Errors
/// Those of [`prompt`], for the first word that has one.
// ANCHOR: greedy
pub fn greedy<W: AsRef<str>>(
    model: &Transformer,
    vocabulary: &Vocabulary,
    words: &[W],
) -> Result<Vec<Vec<Phoneme>>> {
    // Words of one length stand in one tensor without padding, and write at the same position.
    let mut by_length: BTreeMap<usize, Vec<(usize, Vec<i64>)>> = BTreeMap::new();
    for (index, word) in words.iter().enumerate() {
        let prompt = prompt(model, vocabulary, word.as_ref())?;
        by_length.entry(prompt.len()).or_default().push((index, prompt));
    }
    let mut pronunciations = vec![Vec::new(); words.len()];
    for group in by_length.values().flat_map(|same| same.chunks(GROUP)) {
        let prompts: Vec<&[i64]> = group.iter().map(|(_, prompt)| &prompt[..]).collect();
        for ((index, _), written) in group.iter().zip(write(model, vocabulary, &prompts)?)
        {
            pronunciations[*index] = vocabulary.pronunciation(&written)?;
        }
    }
    Ok(pronunciations)
}
// ANCHOR_END: greedy

/// Continues prompts of one length until each has written its `<eos>`, or no position is left.
// ANCHOR: write
fn write(
    model: &Transformer,
    vocabulary: &Vocabulary,
    prompts: &[&[i64]],
) -> Result<Vec<Vec<i64>>> {
    let (batch, prefix) = (prompts.len() as i64, prompts[0].len() as i64);
    let device = model.embedding.device();
    let mut tokens = Tensor::f_from_slice(&prompts.concat())?
        .f_view([batch, prefix])?
        .f_to_device(device)?;
    let prefixes = Tensor::f_full([batch], prefix, (Kind::Int64, device))?;
    let mut ended = Tensor::f_zeros([batch], (Kind::Bool, device))?;
    let phonemes_only = writable(vocabulary, model)?; // [V]
    no_grad(|| {
        for position in prefix..model.config.max_positions {
            let mask = Mask::prefix(&prefixes, position)?;
            let logits = model.forward(&tokens, Some(&mask), &Dropout::off())?.logits; // [B, T, V]
            let last = logits.f_select(1, -1)?.f_add(&phonemes_only)?; // [B, V]
            if position == prefix {
                let _ = last.f_select(1, EOS)?.f_fill_(f64::NEG_INFINITY)?;
            }
            let next = last.f_argmax(-1, true)?; // [B, 1]
            tokens = Tensor::f_cat(&[&tokens, &next], 1)?; // [B, T + 1]
            ended = ended.f_logical_or(&next.f_squeeze_dim(1)?.f_eq(EOS)?)?;
            if ended.f_all()?.f_int64_value(&[])? != 0 {
                break;
            }
        }
        let written = tokens.f_narrow(1, prefix, tokens.size()[1] - prefix)?;
        Ok(Vec::<Vec<i64>>::try_from(&written)?)
    })
}
// ANCHOR_END: write

/// 0 for each token that may be written, phonemes and `<eos>`, and −∞ for the rest, `[V]`.
fn writable(vocabulary: &Vocabulary, model: &Transformer) -> Result<Tensor> {
    let mut allowed = vec![f32::NEG_INFINITY; model.config.vocabulary as usize];
    let phonemes: Vec<Phoneme> = Phoneme::all().collect();
    for id in vocabulary.phonemes(&phonemes).into_iter().chain([EOS]) {
        match allowed.get_mut(id as usize) {
            Some(allowed) => *allowed = 0.0,
            None => {
                let reason = format!(
                    "the model has no token {id}; this vocabulary has {}",
                    vocabulary.len()
                );
                return Err(Error::config("vocabulary", model.config.vocabulary, reason));
            }
        }
    }
    Ok(Tensor::f_from_slice(&allowed)?.f_to_device(model.embedding.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::model::TransformerConfig;
    use tch::{nn, Device};

    fn model() -> (nn::VarStore, Transformer, Vocabulary) {
        tch::manual_seed(5);
        let vocabulary = Vocabulary::new();
        let store = nn::VarStore::new(Device::Cpu);
        let config =
            TransformerConfig::new(vocabulary.len() as i64).with_blocks(1).with_width(16);
        let model = config.init(&store.root()).unwrap();
        (store, model, vocabulary)
    }

    #[test]
    fn a_word_is_pronounced_the_same_alone_and_among_others() {
        let (_store, model, vocabulary) = model();
        let together =
            greedy(&model, &vocabulary, &["tough", "a", "though", "cough"]).unwrap();
        for (word, expected) in ["tough", "a", "though", "cough"].iter().zip(&together) {
            assert_eq!(
                &greedy(&model, &vocabulary, &[word]).unwrap()[0],
                expected,
                "{word}"
            );
            assert!(!expected.is_empty() && expected.len() <= 64);
        }
    }

    #[test]
    fn words_it_cannot_read_are_refused_by_name() {
        let (_store, model, vocabulary) = model();
        let long = "a".repeat(longest_word(&model) + 1);
        let error = greedy(&model, &vocabulary, &["though", &long]).unwrap_err();
        assert!(
            matches!(&error, Error::LongWord { length: 32, limit: 31, .. }),
            "{error}"
        );
        assert!(matches!(
            greedy(&model, &vocabulary, &["c4t"]),
            Err(Error::UnknownSymbol { symbol: '4', .. })
        ));
    }
}
