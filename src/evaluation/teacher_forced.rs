//! How well the model predicts one phoneme when all phonemes before it are the right ones.
//!
//! That is what it is trained to do, so it is cheap to measure: one pass over `letters <sep> phonemes`, and nothing is
//! written. It is not what the model does when it is used. There it reads its own phonemes, mistakes and all, and
//! [`decoding`](self_attention::evaluation::decoding) measures that.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{no_grad, Kind, Tensor};

use self_attention::data::batch::{Batch, Example, IGNORED};
use self_attention::data::cmudict::Entry;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::model::{prefix_decoder_mask, Transformer};
use self_attention::training::loss::cross_entropy;

/// Examples that are read together: of one length or nearly, so that little of it is padding.
const GROUP: usize = 256;

/// How well a model predicts the next token of pronunciations it is given.
// ANCHOR: teacher_forced_struct
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherForced {
    /// How many words were read.
    pub words: usize,
    /// How many tokens were predicted: each phoneme of each listed pronunciation, and each `<eos>`.
    pub targets: usize,
    /// The mean cross-entropy of a target, in nats, without label smoothing.
    pub loss: f64,
    /// The targets that the model did not find likeliest. Of each word one listed pronunciation counts, the one with
    /// the fewest, as only the nearest counts for the phoneme error rate.
    pub missed: usize,
    /// The part of these pronunciations' targets that it did find likeliest.
    pub accuracy: f64,
    /// The part of the words with nothing missed.
    pub word_accuracy: f64,
}
// ANCHOR_END: teacher_forced_struct

/// Scores a model on words with the right phonemes before each target.
///
/// # Errors
/// [`Error::Input`] if there is no word, and what the model refuses.
// ANCHOR: teacher_forced
pub fn teacher_forced(
    model: &Transformer,
    vocabulary: &Vocabulary,
    entries: &[&Entry],
) -> Result<TeacherForced> {
    let mut examples = Vec::new(); // of which word, and the sequence
    for (word, entry) in entries.iter().enumerate() {
        for phonemes in &entry.pronunciations {
            examples.push((word, Example::new(vocabulary, &entry.word, phonemes)?));
        }
    }
    if examples.is_empty() {
        return Err(Error::input("scores", "there is no word; give at least one"));
    }
    examples.sort_by_key(|(_, example)| example.positions());
    let (mut loss, mut targets) = (0.0, 0);
    let mut best = vec![(i64::MAX, 0); entries.len()]; // missed, and of how many
    for group in examples.chunks(GROUP) {
        let sequences: Vec<&Example> = group.iter().map(|(_, example)| example).collect();
        let batch = Batch::collate(&sequences, model.embedding.device())?;
        let logits = teacher_forced_logits(model, &batch, &Dropout::off())?; // [B, T, V]
        let missed = misses(&logits, &batch.targets)?; // [B]
        let mut counted = 0;
        for ((word, example), missed) in group.iter().zip(missed) {
            let count = example.tokens.len() - example.prefix;
            counted += count;
            if missed < best[*word].0 {
                best[*word] = (missed, count);
            }
        }
        let mean = cross_entropy(&logits, &batch.targets, 0.0)?.f_double_value(&[])?;
        loss += mean * counted as f64;
        targets += counted;
    }
    let missed = best.iter().map(|(missed, _)| *missed as usize).sum();
    let of: usize = best.iter().map(|(_, count)| count).sum();
    let right = best.iter().filter(|(missed, _)| *missed == 0).count();
    Ok(TeacherForced {
        words: entries.len(),
        targets,
        loss: loss / targets as f64,
        missed,
        accuracy: 1.0 - missed as f64 / of as f64,
        word_accuracy: right as f64 / entries.len() as f64,
    })
}
// ANCHOR_END: teacher_forced

/// One pass over whole sequences, without gradients.
///
/// # Shapes
/// Logits `[B, T, V]`: at each position for the token after it.
///
/// # Errors
/// What the model refuses.
// ANCHOR: teacher_forced_logits
pub fn teacher_forced_logits(
    model: &Transformer,
    batch: &Batch,
    dropout: &Dropout,
) -> Result<Tensor> {
    let positions = batch.tokens.size()[1]; // T
    let mask = prefix_decoder_mask(&batch.lengths, &batch.prefixes, positions)?;
    no_grad(|| Ok(model.forward(&batch.tokens, Some(&mask), dropout)?.logits))
}
// ANCHOR_END: teacher_forced_logits

/// How many targets of each row were not the likeliest token.
///
/// # Shapes
/// `logits`: `[B, T, V]`, `targets`: `[B, T]`; one number for each of the `B` rows.
///
/// # Errors
/// [`Error::Torch`] if the two do not belong together.
// ANCHOR: misses
pub fn misses(logits: &Tensor, targets: &Tensor) -> Result<Vec<i64>> {
    let likeliest = logits.f_argmax(-1, false)?; // [B, T]
    let missed =
        likeliest.f_ne_tensor(targets)?.f_logical_and(&targets.f_ne(IGNORED)?)?;
    Ok(Vec::try_from(missed.f_sum_dim_intlist(-1, false, Kind::Int64)?)?) // [B]
}
// ANCHOR_END: misses

impl fmt::Display for TeacherForced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "words              {:>9}", self.words)?;
        writeln!(f, "targets            {:>9}", self.targets)?;
        writeln!(f, "loss               {:>9.4}", self.loss)?;
        writeln!(f, "missed             {:>9}", self.missed)?;
        writeln!(f, "target accuracy    {:>7.2} %", 100.0 * self.accuracy)?;
        write!(f, "word accuracy      {:>7.2} %", 100.0 * self.word_accuracy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::model::TransformerConfig;
    use tch::{nn, Device};

    fn entry(word: &str, pronunciations: &[&str]) -> Entry {
        let phonemes =
            |text: &&str| text.split(' ').map(|symbol| symbol.parse().unwrap()).collect();
        Entry {
            word: word.into(),
            pronunciations: pronunciations.iter().map(phonemes).collect(),
            stresses: Vec::new(), // nobody asks
        }
    }

    fn model() -> (nn::VarStore, Transformer, Vocabulary) {
        tch::manual_seed(3);
        let vocabulary = Vocabulary::new();
        let store = nn::VarStore::new(Device::Cpu);
        let config = TransformerConfig::new(vocabulary.len() as i64);
        let model = config.with_blocks(1).with_width(16).init(&store.root()).unwrap();
        (store, model, vocabulary)
    }

    #[test]
    fn a_model_that_knows_nothing_has_the_loss_of_a_guess() {
        let (_store, model, vocabulary) = model();
        let entries =
            [entry("tough", &["T AH F"]), entry("cough", &["K AA F", "K AO F"])];
        let entries: Vec<_> = entries.iter().collect();
        let scores = teacher_forced(&model, &vocabulary, &entries).unwrap();
        assert_eq!((scores.words, scores.targets), (2, 12));
        assert!((scores.loss - 69f64.ln()).abs() < 0.1, "{}", scores.loss);
        assert!(
            scores.missed > 4 && scores.accuracy < 0.5 && scores.word_accuracy == 0.0
        );
        assert!(teacher_forced(&model, &vocabulary, &[]).is_err());
    }

    #[test]
    fn together_is_the_mean_of_alone() {
        let (_store, model, vocabulary) = model();
        let entries = [
            entry("a", &["AH", "EY"]),
            entry("through", &["TH R UW"]),
            entry("enough", &["IH N AH F"]),
        ];
        let entries: Vec<_> = entries.iter().collect();
        let together = teacher_forced(&model, &vocabulary, &entries).unwrap();
        let alone = entries
            .iter()
            .map(|entry| teacher_forced(&model, &vocabulary, &[entry]).unwrap());
        let alone: Vec<_> = alone.collect();
        let targets: usize = alone.iter().map(|scores| scores.targets).sum();
        let loss: f64 =
            alone.iter().map(|scores| scores.loss * scores.targets as f64).sum();
        let missed: usize = alone.iter().map(|scores| scores.missed).sum();
        assert_eq!((together.targets, together.missed), (targets, missed));
        assert!((together.loss - loss / targets as f64).abs() < 1e-5);
    }

    #[test]
    fn misses_are_counted_row_by_row_and_padding_never() {
        let logits =
            Tensor::from_slice(&[0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]).view([2, 2, 2]);
        let count = |targets: &[i64]| {
            misses(&logits, &Tensor::from_slice(targets).view([2, 2])).unwrap()
        };
        assert_eq!(count(&[1, 0, 0, 1]), [0, 0]);
        assert_eq!(count(&[0, 1, 0, 0]), [2, 1]);
        assert_eq!(count(&[IGNORED, 1, IGNORED, IGNORED]), [1, 0]);
        let wrong = Tensor::zeros([3, 2], (Kind::Int64, Device::Cpu));
        assert!(misses(&logits, &wrong).is_err());
    }
}
