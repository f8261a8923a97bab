//! Chapter 3: from the pronouncing dictionary to batches.
//!
//! Data flows one way through these files, in this order: [`cmudict`] reads words and their pronunciations,
//! [`vocabulary`] turns symbols into ids, [`split`] says which words are held back, [`batch`] lays sequences
//! side by side in tensors, and [`loader`] hands out a shuffled epoch of them.

pub mod batch;
pub mod cmudict;
pub mod loader;
pub mod split;
pub mod vocabulary;

use self_attention::data::batch::Example;
use self_attention::data::cmudict::Dictionary;
use self_attention::data::split::Split;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::error::Result;

// ANCHOR: examples
/// The training sequences of one side of the split, in the dictionary's order: one for each pronunciation.
///
/// A word with two pronunciations gives two examples with the same letters. The model cannot know which one
/// is meant, and learns to give each its share of the probability.
///
/// # Errors
/// [`Error::UnknownSymbol`](crate::error::Error::UnknownSymbol) for a word outside the vocabulary. The
/// dictionary keeps no such word.
pub fn examples(
    dictionary: &Dictionary,
    vocabulary: &Vocabulary,
    split: Split,
) -> Result<Vec<Example>> {
    dictionary
        .iter()
        .filter(|entry| Split::of(&entry.word) == split)
        .flat_map(|entry| {
            entry.pronunciations.iter().map(|phonemes| (&entry.word, phonemes))
        })
        .map(|(word, phonemes)| Example::new(vocabulary, word, phonemes))
        .collect()
}
// ANCHOR_END: examples

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pronunciation_is_an_example_on_exactly_one_side() {
        let dictionary = Dictionary::embedded().unwrap();
        let vocabulary = Vocabulary::new();
        let count = |split| examples(&dictionary, &vocabulary, split).unwrap().len();
        let counts = [Split::Train, Split::Validation, Split::Test].map(count);
        assert_eq!(counts, [120_230, 6_630, 6_654]);
        assert_eq!(counts.iter().sum::<usize>(), dictionary.pronunciations());
    }
}
