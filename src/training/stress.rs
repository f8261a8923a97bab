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
