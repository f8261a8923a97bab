//! The vocabulary: every symbol the model knows, and its number.
//!
//! | ids | symbols |
//! |---|---|
//! | 0, 1, 2 | `<pad>`, `<sep>`, `<eos>` |
//! | 3 … 29 | `'`, `a` … `z` |
//! | 30 … 68 | the [39 phonemes](PHONEMES), `AA` … `ZH` |
//!
//! Letters are small and phonemes capital, so the letter `b` and the sound `B` are two symbols.

use self_attention::data::cmudict::{Phoneme, PHONEMES};
use self_attention::error::{Error, Result};

/// Fills a row of a batch up to the length of the longest.
pub const PAD: i64 = 0;
/// Stands between the letters and the phonemes.
pub const SEP: i64 = 1;
/// Ends a pronunciation.
pub const EOS: i64 = 2;

const SPECIAL: [&str; 3] = ["<pad>", "<sep>", "<eos>"];
const LETTERS: &str = "'abcdefghijklmnopqrstuvwxyz";
const FIRST_LETTER: usize = SPECIAL.len();
const FIRST_PHONEME: usize = FIRST_LETTER + LETTERS.len();

// ANCHOR: vocabulary
/// The two-way table between symbols and ids. It is the same for every model of this crate.
///
/// # Example: *tough* as ids
/// ```
/// # use self_attention::data::cmudict::Dictionary;
/// # use self_attention::data::vocabulary::{Vocabulary, EOS, SEP};
/// let vocabulary = Vocabulary::new();
/// assert_eq!(vocabulary.letters("tough")?, [23, 18, 24, 10, 11]);
///
/// let dictionary = Dictionary::parse(b"tough T AH1 F")?;
/// let spoken: Vec<i64> = dictionary.iter().flat_map(|e| vocabulary.phonemes(&e.pronunciations[0])).collect();
/// assert_eq!(spoken, [60, 32, 43]);
///
/// let whole = [23, 18, 24, 10, 11, SEP, 60, 32, 43, EOS];
/// assert_eq!(vocabulary.text(&whole)?, "t o u g h <sep> T AH F <eos>");
/// # Ok::<(), self_attention::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The symbols, each at the place of its id.
    symbols: Vec<&'static str>,
}
// ANCHOR_END: vocabulary

impl Default for Vocabulary {
    fn default() -> Self {
        Self::new()
    }
}

impl Vocabulary {
    /// The vocabulary in its one fixed order.
    pub fn new() -> Self {
        let letters = (0..LETTERS.len()).map(|index| &LETTERS[index..=index]);
        Self { symbols: SPECIAL.into_iter().chain(letters).chain(PHONEMES).collect() }
    }

    /// How many symbols there are: V.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether there is no symbol at all, which is never so.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// All symbols, in the order of their ids.
    pub fn symbols(&self) -> &[&'static str] {
        &self.symbols
    }

    /// The ids of a word's letters.
    ///
    /// White space around the word is dropped, capitals count as small letters, and the typographic
    /// apostrophe `’` counts as `'`.
    ///
    /// # Errors
    /// [`Error::EmptyWord`], or [`Error::UnknownSymbol`] with the first character that is no letter a–z.
    // ANCHOR: letters
    pub fn letters(&self, word: &str) -> Result<Vec<i64>> {
        let letters = word.trim();
        if letters.is_empty() {
            return Err(Error::EmptyWord { word: word.to_string() });
        }
        let id = |(index, symbol): (usize, char)| {
            let letter = if symbol == '’' { '\'' } else { symbol.to_ascii_lowercase() };
            LETTERS.find(letter).map(|place| (FIRST_LETTER + place) as i64).ok_or_else(
                || Error::UnknownSymbol {
                    word: letters.to_string(),
                    symbol,
                    position: index + 1,
                },
            )
        };
        letters.chars().enumerate().map(id).collect()
    }
    // ANCHOR_END: letters

    /// The ids of phonemes.
    pub fn phonemes(&self, phonemes: &[Phoneme]) -> Vec<i64> {
        phonemes.iter().map(|phoneme| (FIRST_PHONEME + phoneme.index()) as i64).collect()
    }

    /// The symbol of an id.
    ///
    /// # Errors
    /// [`Error::Input`] if no symbol has that id.
    pub fn symbol(&self, id: i64) -> Result<&'static str> {
        usize::try_from(id).ok().and_then(|id| self.symbols.get(id).copied()).ok_or_else(
            || {
                Error::input(
                    "token id",
                    format!(
                        "{id} is not in the vocabulary; its ids are 0 to {}",
                        self.len() - 1
                    ),
                )
            },
        )
    }

    /// The symbols of ids, with spaces between.
    ///
    /// # Errors
    /// [`Error::Input`] if an id has no symbol.
    pub fn text(&self, ids: &[i64]) -> Result<String> {
        Ok(ids.iter().map(|&id| self.symbol(id)).collect::<Result<Vec<_>>>()?.join(" "))
    }

    /// The phonemes up to the first `<eos>`, or up to the end.
    ///
    /// # Errors
    /// [`Error::Input`] if an id before that is no phoneme.
    // ANCHOR: pronunciation
    pub fn pronunciation(&self, ids: &[i64]) -> Result<Vec<Phoneme>> {
        let phoneme = |&id: &i64| {
            let index =
                usize::try_from(id).ok().and_then(|id| id.checked_sub(FIRST_PHONEME));
            match index.and_then(Phoneme::from_index) {
                Some(phoneme) => Ok(phoneme),
                None => {
                    let symbol = self.symbol(id)?;
                    Err(Error::input(
                        "pronunciation",
                        format!("id {id}, `{symbol}`, is not a phoneme"),
                    ))
                }
            }
        };
        ids.iter().take_while(|&&id| id != EOS).map(phoneme).collect()
    }
    // ANCHOR_END: pronunciation
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use self_attention::data::cmudict::Dictionary;

    use super::*;

    #[test]
    fn the_order_is_fixed() {
        let vocabulary = Vocabulary::new();
        assert_eq!(vocabulary.len(), 69);
        for (id, symbol) in [
            (PAD, "<pad>"),
            (SEP, "<sep>"),
            (EOS, "<eos>"),
            (3, "'"),
            (4, "a"),
            (29, "z"),
        ] {
            assert_eq!(vocabulary.symbol(id).unwrap(), symbol);
        }
        assert_eq!(vocabulary.symbol(30).unwrap(), "AA");
        assert_eq!(vocabulary.symbol(68).unwrap(), "ZH");
        assert!(vocabulary
            .symbol(69)
            .unwrap_err()
            .to_string()
            .contains("69 is not in the vocabulary"));
        assert!(vocabulary.symbol(-100).is_err());
    }

    #[test]
    fn every_entry_of_the_dictionary_comes_back_from_its_ids() {
        let vocabulary = Vocabulary::new();
        for entry in Dictionary::embedded().unwrap().iter() {
            let ids = vocabulary.letters(&entry.word).unwrap();
            assert_eq!(vocabulary.text(&ids).unwrap().replace(' ', ""), entry.word);
            for phonemes in &entry.pronunciations {
                assert_eq!(
                    &vocabulary.pronunciation(&vocabulary.phonemes(phonemes)).unwrap(),
                    phonemes
                );
            }
        }
    }

    #[test]
    fn a_word_is_cleaned_before_it_is_read() {
        let vocabulary = Vocabulary::new();
        assert_eq!(
            vocabulary.letters(" Don’T\n").unwrap(),
            vocabulary.letters("don't").unwrap()
        );
    }

    #[test]
    fn an_unknown_symbol_is_named_with_its_place() {
        let vocabulary = Vocabulary::new();
        let error = vocabulary.letters("naïve2").unwrap_err();
        assert!(
            matches!(error, Error::UnknownSymbol { symbol: 'ï', position: 3, .. }),
            "{error}"
        );
        let error = vocabulary.letters("x-ray").unwrap_err();
        assert!(
            matches!(error, Error::UnknownSymbol { symbol: '-', position: 2, .. }),
            "{error}"
        );
        assert!(matches!(vocabulary.letters(" \t"), Err(Error::EmptyWord { .. })));
    }

    #[test]
    fn a_pronunciation_ends_at_eos_and_holds_phonemes_only() {
        let vocabulary = Vocabulary::new();
        assert_eq!(
            format!("{:?}", vocabulary.pronunciation(&[60, 32, EOS, 4]).unwrap()),
            "[T, AH]"
        );
        let error = vocabulary.pronunciation(&[60, 4]).unwrap_err().to_string();
        assert_eq!(error, "pronunciation: id 4, `a`, is not a phoneme");
        assert!(vocabulary.pronunciation(&[69]).is_err());
    }

    proptest! {
        #[test]
        fn no_word_makes_it_panic(word: String) {
            let _ = Vocabulary::new().letters(&word);
        }
    }
}
