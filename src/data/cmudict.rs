//! The CMU Pronouncing Dictionary: how people pronounce 124,803 English words.
//!
//! One line is one pronunciation: a word, then its phonemes. A further pronunciation carries a number in
//! parentheses, a digit after a vowel is its stress, and `#` begins a comment:
//!
//! ```text
//! tough T AH1 F
//! either IY1 DH ER0
//! either(2) AY1 DH ER0
//! gdp G IY1 D IY1 P IY1 # abbrev
//! ```
//!
//! [`Dictionary::parse`] cleans this: stress is dropped, which leaves [39 phonemes](PHONEMES); the
//! pronunciations of a word stand together in one [`Entry`]; words with anything but the letters a–z and
//! the apostrophe are left out.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use self_attention::error::{Error, Result};

/// The file as Carnegie Mellon University publishes it, from the package of the crate `cmudict-fast`.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cmudict.dict"));

// ANCHOR: phonemes
/// The phonemes of American English in ARPAbet, the dictionary's alphabet, sorted.
pub const PHONEMES: [&str; 39] = [
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G",
    "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH",
    "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
];
// ANCHOR_END: phonemes

// ANCHOR: phoneme
/// One sound: an index into [`PHONEMES`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phoneme(u8);
// ANCHOR_END: phoneme

impl Phoneme {
    /// All 39, in the order of [`PHONEMES`].
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PHONEMES.len() as u8).map(Self)
    }

    /// The phoneme at `index` of [`PHONEMES`], if there is one.
    pub fn from_index(index: usize) -> Option<Self> {
        (index < PHONEMES.len()).then_some(Self(index as u8))
    }

    /// Its index in [`PHONEMES`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its ARPAbet symbol, as in `AH`.
    pub fn symbol(self) -> &'static str {
        PHONEMES[self.index()]
    }
}

impl fmt::Display for Phoneme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.symbol())
    }
}

impl fmt::Debug for Phoneme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

impl FromStr for Phoneme {
    type Err = Error;

    /// Reads an ARPAbet symbol without its stress digit.
    fn from_str(symbol: &str) -> Result<Self> {
        match PHONEMES.binary_search(&symbol) {
            Ok(index) => Ok(Self(index as u8)),
            Err(_) => Err(Error::input(
                "phoneme",
                format!("`{symbol}` is not one of the 39 ARPAbet symbols; write them in capitals and without stress"),
            )),
        }
    }
}

/// Phonemes as one text, as in `T AH F`.
pub fn text(phonemes: &[Phoneme]) -> String {
    phonemes.iter().map(|phoneme| phoneme.symbol()).collect::<Vec<_>>().join(" ")
}

// ANCHOR: entry
/// A word and every way the dictionary lists to pronounce it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The word, in the letters a–z and the apostrophe.
    pub word: String,
    /// Its pronunciations, all different, in the order of the file. There is at least one.
    pub pronunciations: Vec<Vec<Phoneme>>,
    /// For each phoneme of each pronunciation its stress, if it is a vowel: 0 for none, 1 for the main one, 2 for a
    /// lesser one.
    pub stresses: Vec<Vec<Option<u8>>>,
}
// ANCHOR_END: entry

// ANCHOR: dictionary
/// Words and their pronunciations, in the order of the file.
#[derive(Clone, Debug)]
pub struct Dictionary {
    entries: Vec<Entry>,
    /// From a word to its place in `entries`.
    places: HashMap<String, usize>,
    skipped: usize,
}
// ANCHOR_END: dictionary

impl Dictionary {
    /// The dictionary that is compiled into this crate.
    ///
    /// # Errors
    /// [`Error::DictionaryLine`] if the file in the crate `cmudict-fast` is damaged.
    pub fn embedded() -> Result<Self> {
        Self::parse(EMBEDDED)
    }

    /// Reads a dictionary in the format of CMUdict.
    ///
    /// Empty lines are passed over, and lines may end in `\n` or `\r\n`.
    ///
    /// # Errors
    /// [`Error::DictionaryLine`], with the number of the line, if one is not UTF-8, has no phonemes or an
    /// unknown one, or says again what an earlier line said of the same word and number.
    ///
    /// # Example: two pronunciations, and stress dropped
    /// ```
    /// # use self_attention::data::cmudict::Dictionary;
    /// let dictionary = Dictionary::parse(b"either IY1 DH ER0\neither(2) AY1 DH ER0\nx-ray EH1 K S R EY2")?;
    /// let either = dictionary.get("either").map(|entry| format!("{:?}", entry.pronunciations));
    /// assert_eq!(either.as_deref(), Some("[[IY, DH, ER], [AY, DH, ER]]"));
    /// assert_eq!(dictionary.skipped(), 1); // x-ray
    /// # Ok::<(), self_attention::error::Error>(())
    /// ```
    // ANCHOR: parse
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places = HashMap::new();
        let mut lines = HashMap::new();
        let mut skipped = HashSet::new();

        for (index, bytes) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let malformed =
                |problem: String| Error::DictionaryLine { line: index + 1, problem };
            let line = std::str::from_utf8(bytes).map_err(|error| {
                let byte = error.valid_up_to() + 1;
                malformed(format!(
                    "byte {byte} is not UTF-8 text; save the file as UTF-8"
                ))
            })?;
            let Some((key, phonemes)) = parse_line(line).map_err(malformed)? else {
                continue;
            };
            if let Some(earlier) = lines.insert(key, index + 1) {
                return Err(malformed(format!(
                    "`{key}` stands on line {earlier} already; give it another number"
                )));
            }

            let word = without_number(key);
            if !word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'\'') {
                skipped.insert(word);
                continue;
            }
            let place = *places.entry(word.to_string()).or_insert(entries.len());
            if place == entries.len() {
                let word = word.to_string();
                entries.push(Entry { word, pronunciations: vec![], stresses: vec![] });
            }
            // Pronunciations that differ in stress alone are the same; the first counts.
            let Entry { pronunciations, stresses, .. } = &mut entries[place];
            let (phonemes, marks): (Vec<_>, Vec<_>) = phonemes.into_iter().unzip();
            if !pronunciations.contains(&phonemes) {
                pronunciations.push(phonemes);
                stresses.push(marks);
            }
        }
        Ok(Self { entries, places, skipped: skipped.len() })
    }
    // ANCHOR_END: parse

    /// The entries in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The entry of a word, which is looked up exactly as it stands.
    pub fn get(&self, word: &str) -> Option<&Entry> {
        self.places.get(word).map(|&place| &self.entries[place])
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no word at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many pronunciations there are, over all words.
    pub fn pronunciations(&self) -> usize {
        self.entries.iter().map(|entry| entry.pronunciations.len()).sum()
    }

    /// How many words were left out because of a character such as a hyphen or a full stop.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

/// A phoneme, and its stress if it is a vowel.
type Stressed = (Phoneme, Option<u8>);

/// A line's key, as in `either(2)`, and its phonemes with their stresses; nothing for an empty line.
fn parse_line(line: &str) -> std::result::Result<Option<(&str, Vec<Stressed>)>, String> {
    let line = line.split_once(" #").map_or(line, |(line, _comment)| line);
    let mut fields = line.split_ascii_whitespace();
    let Some(key) = fields.next() else { return Ok(None) };
    let phonemes: Vec<Stressed> = fields
        .map(|field| match field.as_bytes() {
            [.., mark @ b'0'..=b'2'] => {
                Ok((field[..field.len() - 1].parse()?, Some(mark - b'0')))
            }
            _ => Ok((field.parse()?, None)),
        })
        .collect::<Result<_>>()
        .map_err(|error| format!("`{key}`: {error}"))?;
    if phonemes.is_empty() {
        return Err(format!(
            "`{key}` has no phonemes; write them after the word, with spaces between"
        ));
    }
    Ok(Some((key, phonemes)))
}

/// `either(2)` without its `(2)`.
fn without_number(key: &str) -> &str {
    match key.strip_suffix(')').and_then(|key| key.rsplit_once('(')) {
        Some((word, number)) if !word.is_empty() && number.parse::<u32>().is_ok() => word,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &[u8]) -> String {
        Dictionary::parse(text).unwrap_err().to_string()
    }

    fn said(dictionary: &Dictionary, word: &str) -> String {
        format!("{:?}", dictionary.get(word).unwrap().pronunciations)
    }

    #[test]
    fn the_embedded_dictionary_is_the_one_the_book_describes() {
        let dictionary = Dictionary::embedded().unwrap();
        assert_eq!(
            EMBEDDED.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count(),
            135_010
        );
        assert_eq!(dictionary.len(), 124_803);
        assert_eq!(dictionary.pronunciations(), 133_514);
        assert_eq!(dictionary.skipped(), 1_126);
        assert_eq!(said(&dictionary, "though"), "[[DH, OW]]");
        assert_eq!(said(&dictionary, "through"), "[[TH, R, UW]]");
        assert_eq!(said(&dictionary, "tough"), "[[T, AH, F]]");
        assert_eq!(said(&dictionary, "cough"), "[[K, AA, F], [K, AO, F]]");
        assert!(dictionary.get("Tough").is_none());
        assert!(dictionary.iter().is_sorted_by(|a, b| a.word < b.word));
        let used: HashSet<_> =
            dictionary.iter().flat_map(|entry| entry.pronunciations.concat()).collect();
        assert_eq!(used.len(), PHONEMES.len());
    }

    #[test]
    fn comments_empty_lines_and_both_line_ends_are_read() {
        let dictionary =
            Dictionary::parse(b"gdp G IY1 # abbrev\r\n\nhiv V IY1\n\n").unwrap();
        assert_eq!((dictionary.len(), dictionary.skipped()), (2, 0));
        assert_eq!(said(&dictionary, "gdp"), "[[G, IY]]");
        let nameless = Dictionary::parse(b"(2) T IY1").unwrap();
        assert_eq!((nameless.len(), nameless.skipped()), (0, 1));
    }

    #[test]
    fn pronunciations_that_differ_in_stress_alone_are_merged() {
        let dictionary = Dictionary::parse(b"a AH0\na(2) AH1\na(3) EY1").unwrap();
        assert_eq!(said(&dictionary, "a"), "[[AH], [EY]]");
        let entry = dictionary.get("a").unwrap();
        assert_eq!(entry.stresses, [[Some(0)], [Some(1)]]); // of the first of those that are the same
    }

    #[test]
    fn every_vowel_and_no_consonant_has_a_stress() {
        let dictionary = Dictionary::parse(b"outgrow AW2 T G R OW1").unwrap();
        let entry = dictionary.get("outgrow").unwrap();
        assert_eq!(entry.stresses, [[Some(2), None, None, None, Some(1)]]);
        let dictionary = Dictionary::embedded().unwrap();
        let pairs = dictionary.iter().flat_map(|entry| {
            entry.pronunciations.concat().into_iter().zip(entry.stresses.concat())
        });
        let stressed: HashSet<_> =
            pairs.map(|(phoneme, stress)| (phoneme.symbol(), stress.is_some())).collect();
        assert_eq!(stressed.len(), PHONEMES.len()); // each is the one or the other
        assert_eq!(stressed.iter().filter(|(_, is_vowel)| *is_vowel).count(), 15);
    }

    #[test]
    fn a_malformed_line_is_named() {
        assert!(
            problem(b"a AH0\nb\xff T").starts_with("dictionary, line 2: byte 2 is not")
        );
        assert!(
            problem(b"a AH0\nb").starts_with("dictionary, line 2: `b` has no phonemes")
        );
        assert!(problem(b"b # T").starts_with("dictionary, line 1: `b` has no phonemes"));
        assert!(problem(b"b XX1")
            .starts_with("dictionary, line 1: `b`: phoneme: `XX` is not one of"));
        assert!(problem(b"b B\na EY1\nb IY1")
            .starts_with("dictionary, line 3: `b` stands on line 1 already"));
        assert!(problem(b"b B\nb(2) B IY1\nb(2) B IY1")
            .contains("line 3: `b(2)` stands on line 2"));
    }

    #[test]
    fn every_phoneme_is_read_back_from_its_symbol() {
        assert!(PHONEMES.is_sorted());
        for (index, phoneme) in Phoneme::all().enumerate() {
            assert_eq!(phoneme.symbol().parse::<Phoneme>().unwrap(), phoneme);
            assert_eq!(Phoneme::from_index(index), Some(phoneme));
        }
        assert_eq!(Phoneme::from_index(39), None);
        assert!("ah".parse::<Phoneme>().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Dictionary::parse(&bytes);
        }

        #[test]
        fn a_broken_line_among_good_ones_is_reported_by_its_own_number(
            before in 0_usize..20,
            after in 0_usize..20,
            broken in prop::sample::select(vec![&b"x"[..], b"x XX", b"x # T", b"\xc3 T", b"w0 T"]),
        ) {
            let mut lines: Vec<_> = (0..before + after).map(|n| format!("w{n} T AH1 F").into_bytes()).collect();
            lines.insert(before, broken.to_vec());
            let broken_line = if broken == b"w0 T" { (before + 1).max(2) } else { before + 1 };
            prop_assume!(broken != b"w0 T" || before + after > 0);
            let start = format!("dictionary, line {broken_line}: ");
            let problem = problem(&lines.join(&b'\n'));
            prop_assert!(problem.starts_with(&start), "{}", problem);
        }

        #[test]
        fn no_text_like_a_dictionary_makes_it_panic(text in "([a-c(2)#' ]{0,5} (AH[0-2]|T|#|X) ?\r?\n?){0,8}") {
            let _ = Dictionary::parse(text.as_bytes());
        }
    }
}
