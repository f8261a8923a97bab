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
use self_attention::data::cmudict::{Dictionary, Entry};
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
    let entries = dictionary.iter().filter(|entry| Split::of(&entry.word) == split);
    examples_of(entries, vocabulary)
}
// ANCHOR_END: examples

/// The sequences of some entries of the dictionary: one for each pronunciation.
///
/// # Errors
/// As [`examples`].
pub fn examples_of<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    vocabulary: &Vocabulary,
) -> Result<Vec<Example>> {
    let each_pronunciation = |entry: &'a Entry| {
        let example =
            |phonemes: &'a Vec<_>| Example::new(vocabulary, &entry.word, phonemes);
        entry.pronunciations.iter().map(example)
    };
    entries.into_iter().flat_map(each_pronunciation).collect()
}

/// The 2,000 commonest words of English that the dictionary has, the commonest first.
///
/// From wordfreq 3.1.1 (Robyn Speer, 2022), whose data is under CC BY-SA 4.0.
const COMMON_WORDS: &str = include_str!("common_words.txt");

// ANCHOR: common_examples
/// The training sequences of the commonest words.
///
/// In a dictionary *though* stands once, like any surname, and a reader meets it every day.
/// Given to the model several times an epoch, such words weigh more.
///
/// # Errors
/// As [`examples`].
pub fn common_examples(
    dictionary: &Dictionary,
    vocabulary: &Vocabulary,
) -> Result<Vec<Example>> {
    let words = COMMON_WORDS.lines().filter(|word| Split::of(word) == Split::Train);
    examples_of(words.filter_map(|word| dictionary.get(word)), vocabulary)
}
// ANCHOR_END: common_examples

/// `count` of the words, evenly spread over their list; all of them if there are no more.
pub fn evenly<'a>(entries: &[&'a Entry], count: usize) -> Vec<&'a Entry> {
    let count = count.min(entries.len());
    (0..count).map(|place| entries[place * entries.len() / count]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn common_examples_are_training_examples() {
        let dictionary = Dictionary::embedded().unwrap();
        let vocabulary = Vocabulary::new();
        let training = examples(&dictionary, &vocabulary, Split::Train).unwrap();
        let training: HashSet<_> =
            training.iter().map(|example| &example.tokens).collect();
        let common = common_examples(&dictionary, &vocabulary).unwrap();
        assert!(common.iter().all(|example| training.contains(&example.tokens)));
        assert!(common.len() > 1800 && common.len() < 2600, "{}", common.len());
    }

    #[test]
    fn no_word_stands_on_two_sides() {
        let dictionary = Dictionary::embedded().unwrap();
        let vocabulary = Vocabulary::new();
        let words = |examples: Vec<Example>| -> HashSet<Vec<i64>> {
            examples
                .iter()
                .map(|example| example.tokens[..example.prefix].to_vec())
                .collect()
        };
        let [mut train, validation, test] =
            [Split::Train, Split::Validation, Split::Test]
                .map(|split| words(examples(&dictionary, &vocabulary, split).unwrap()));
        train.extend(words(common_examples(&dictionary, &vocabulary).unwrap()));
        assert!(train.is_disjoint(&validation));
        assert!(train.is_disjoint(&test));
        assert!(validation.is_disjoint(&test));
        assert_eq!(train.len() + validation.len() + test.len(), dictionary.len());
    }

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
