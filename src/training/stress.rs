//! A second question to learn from: which stress does the next vowel have?
//!
//! CMUdict marks every vowel with its stress, which the model of this book does not write. But how a vowel sounds depends
//! on it: without stress most are AH or IH. A model that must also tell the stress has to find out where it lies, and
//! what it finds out serves the vowels. The second answer is given by a layer of its own, and thrown away with it when
//! training is over. Learning several tasks with one network, so that one helps the other, is *multitask learning*
//! (Caruana, 1997).

use std::collections::HashMap;

use tch::{nn, Tensor};

use self_attention::data::batch::{Batch, Example};
use self_attention::data::cmudict::Entry;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::error::{Error, Result};
use self_attention::linear::Linear;
use self_attention::training::loss::cross_entropy;

/// The stresses a vowel can have: none, the main one, a lesser one.
const KINDS: i64 = 3;

/// The stress of every vowel of some words.
// ANCHOR: stresses
#[derive(Clone, Debug, Default)]
pub struct Stresses {
    /// By the tokens that a model reads of an example: for each of its phonemes the stress, if it is a vowel.
    of_read: HashMap<Vec<i64>, Vec<Option<u8>>>,
}
// ANCHOR_END: stresses

impl Stresses {
    /// The stresses of all pronunciations of these words.
    ///
    /// # Errors
    /// As [`Example::new`].
    pub fn new<'a>(
        entries: impl IntoIterator<Item = &'a Entry>,
        vocabulary: &Vocabulary,
    ) -> Result<Self> {
        let mut of_read = HashMap::new();
        for entry in entries {
            for (phonemes, stresses) in entry.pronunciations.iter().zip(&entry.stresses) {
                let mut read = Example::new(vocabulary, &entry.word, phonemes)?.tokens;
                read.pop(); // the <eos> is only ever a target
                of_read.insert(read, stresses.clone());
            }
        }
        Ok(Self { of_read })
    }

    /// Which targets of a batch are vowels, as places among those that are [asked](Batch::asked), and their stresses:
    /// two lists of one length.
    ///
    /// # Errors
    /// [`Error::Input`] for an example that these words do not have; [`Error::Torch`] if libtorch fails.
    // ANCHOR: of
    pub fn of(&self, batch: &Batch) -> Result<[Vec<i64>; 2]> {
        let tokens = Vec::<Vec<i64>>::try_from(&batch.tokens)?; // [B, T]
        let [lengths, prefixes] =
            [&batch.lengths, &batch.prefixes].map(Vec::<i64>::try_from);
        let (mut places, mut stresses, mut first) = (Vec::new(), Vec::new(), 0);
        for ((tokens, length), prefix) in tokens.iter().zip(lengths?).zip(prefixes?) {
            let Some(of_phonemes) = self.of_read.get(&tokens[..length as usize]) else {
                let problem = "there is an example without stresses; give those of all training words";
                return Err(Error::input("stresses", problem));
            };
            for (place, stress) in (first..).zip(of_phonemes) {
                if let Some(stress) = stress {
                    places.push(place);
                    stresses.push(i64::from(*stress));
                }
            }
            first += length - prefix + 1; // its phonemes and the <eos>
        }
        Ok([places, stresses])
    }
    // ANCHOR_END: of
}

/// The layer that tells the stress of the next phoneme, should it be a vowel.
// ANCHOR: stress_head
#[derive(Debug)]
pub struct StressHead {
    layer: Linear,
}

impl StressHead {
    /// A layer for a model of that width, `E`.
    ///
    /// # Errors
    /// As [`Linear::new`].
    pub fn new(path: &nn::Path, width: i64) -> Result<Self> {
        Ok(Self { layer: Linear::new(path, width, KINDS)? })
    }

    /// The mean cross-entropy of the stresses of a batch's vowels; 0 if it has no vowel.
    ///
    /// # Shapes
    /// `read`: `[N, E]`, what the model has made of the positions that are asked; the loss has no dimension.
    ///
    /// # Errors
    /// Those of [`Stresses::of`], and [`Error::Shape`] if `read` has another width.
    pub fn loss(
        &self,
        read: &Tensor,
        batch: &Batch,
        stresses: &Stresses,
    ) -> Result<Tensor> {
        let [places, stresses] = stresses.of(batch)?;
        if places.is_empty() {
            return Ok(Tensor::f_zeros([], (read.kind(), read.device()))?);
        }
        let [places, stresses] = [places, stresses]
            .map(|list| Tensor::from_slice(&list).to_device(read.device()));
        let logits = self.layer.forward(&read.f_index_select(0, &places)?)?; // [vowels, 3]
        cross_entropy(&logits, &stresses, 0.0)
    }
}
// ANCHOR_END: stress_head

#[cfg(test)]
mod tests {
    use tch::{no_grad, Device, Kind};

    use super::*;
    use crate::data::cmudict::Dictionary;
    use crate::data::examples_of;

    fn words(lines: &[u8]) -> (Stresses, Batch) {
        let (dictionary, vocabulary) =
            (Dictionary::parse(lines).unwrap(), Vocabulary::new());
        let examples = examples_of(dictionary.iter(), &vocabulary).unwrap();
        let batch = Batch::collate(&examples.iter().collect::<Vec<_>>(), Device::Cpu);
        (Stresses::new(dictionary.iter(), &vocabulary).unwrap(), batch.unwrap())
    }

    #[test]
    fn vowels_are_found_among_the_targets_of_a_batch() {
        let (stresses, batch) =
            words(b"tough T AH1 F\nthorough TH ER1 OW0\nshh SH\nout AW2 T");
        // Targets: T AH F <eos>, TH ER OW <eos>, SH <eos>, AW T <eos>.
        assert_eq!(stresses.of(&batch).unwrap(), [vec![1, 5, 6, 10], vec![1, 1, 0, 2]]);
        let asked = batch.targets.flatten(0, 1);
        let asked = asked.index_select(0, &batch.asked().unwrap());
        let at = |place| Vocabulary::new().symbol(asked.int64_value(&[place])).unwrap();
        assert_eq!([1, 5, 6, 10].map(at), ["AH", "ER", "OW", "AW"]);
    }

    #[test]
    fn a_layer_that_knows_nothing_loses_ln_3_for_each_vowel() {
        let store = nn::VarStore::new(Device::Cpu);
        let head = StressHead::new(&store.root(), 8).unwrap();
        no_grad(|| {
            store.variables().into_values().for_each(|mut tensor| drop(tensor.zero_()))
        });
        let read = |count| Tensor::randn([count, 8], (Kind::Float, Device::Cpu));
        let (stresses, batch) = words(b"tough T AH1 F\nthorough TH ER1 OW0");
        let loss = head.loss(&read(8), &batch, &stresses).unwrap();
        assert!((loss.double_value(&[]) - 3f64.ln()).abs() < 1e-6);
        let (stresses, batch) = words(b"shh SH"); // a mean over nothing would be NaN
        assert_eq!(
            head.loss(&read(2), &batch, &stresses).unwrap().double_value(&[]),
            0.0
        );
    }

    #[test]
    fn a_word_without_stresses_is_refused() {
        let (stresses, _) = words(b"tough T AH1 F");
        let (_, batch) = words(b"tough T AH1 F\ncough K AO1 F");
        let error = stresses.of(&batch).unwrap_err().to_string();
        assert!(error.starts_with("stresses: there is an example without"), "{error}");
    }
}
