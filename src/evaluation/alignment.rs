//! Which letters write which phonemes, learned from words and pronunciations alone.
//!
//! The dictionary says that *though* is `DH OW` and not that *th* writes the one and *ough* the other. The
//! [`Aligner`] finds that out. It assumes that every letter writes 0, 1 or 2 phonemes, in the order of the
//! letters:
//!
//! ```text
//! t   h   o   u   g   h        f   i   x   e   d
//! DH  –   OW  –   –   –        F   IH  K S –   T
//! ```
//!
//! An aligner of that kind was the first step of letter-to-sound rules (Black, Lenzo & Pagel 1998) and of the
//! many-to-many aligner after it (Jiampojamarn, Kondrak & Sherif 2007), which lets groups of letters write
//! groups of phonemes. This one keeps to single letters.

use std::ops::Range;

use self_attention::data::cmudict::{Entry, Phoneme, PHONEMES};
use self_attention::error::{Error, Result};

/// The letters of the vocabulary: a–z and the apostrophe.
const LETTERS: usize = 27;

/// What one letter can write: nothing, one of the phonemes, or two of them in a row.
const UNITS: usize = 1 + PHONEMES.len() + PHONEMES.len() * PHONEMES.len();

/// The most phonemes that one letter writes, as the *x* of *fix* writes `K S`.
const MOST: usize = 2;

/// How often the aligner goes through the words. After 2 rounds or 12, letters read by these alignments (see
/// [`baseline`](self_attention::evaluation::baseline)) get as many validation words right, within 1 in 200.
const ROUNDS: usize = 6;

/// So many pronunciations teach as much as all 120,230, by the same measure.
const ENOUGH: usize = 25_000;

// ANCHOR: aligner
/// `P(phonemes | letter)`, for each letter and the 0, 1 or 2 phonemes that it can write.
///
/// # Example: a silent letter is found
/// ```
/// # use self_attention::data::cmudict::Dictionary;
/// # use self_attention::evaluation::alignment::Aligner;
/// let dictionary = Dictionary::parse(b"no N OW1\nin IH1 N\nknit N IH1 T\nkin K IH1 N\ntin T IH1 N")?;
/// let entries: Vec<_> = dictionary.iter().collect();
/// let aligner = Aligner::train(&entries)?;
/// // k writes nothing, n the first phoneme, i the second, t the third.
/// let knit = aligner.align("knit", &entries[2].pronunciations[0]);
/// assert_eq!(knit, Some(vec![0..0, 0..1, 1..2, 2..3]));
/// # Ok::<(), self_attention::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Aligner {
    /// One row a letter, `[LETTERS × UNITS]`; each row sums to 1.
    probabilities: Vec<f64>,
}
// ANCHOR_END: aligner

impl Aligner {
    /// Learns from words and their pronunciations by expectation maximization (Dempster, Laird & Rubin 1977).
    ///
    /// Each round counts how often a letter writes a unit in all alignments of all words, an alignment
    /// counting as much as it is likely under the probabilities so far. The counts give the probabilities of
    /// the next round. The start prefers one phoneme a letter and knows nothing else. A word with more than
    /// twice as many phonemes as letters, such as an abbreviation, has no alignment and teaches nothing. Of
    /// more than 25,000 pronunciations it takes every second, every third and so on.
    ///
    /// # Errors
    /// [`Error::Input`] if no word can be aligned.
    // ANCHOR: train
    pub fn train(entries: &[&Entry]) -> Result<Self> {
        let all: Vec<(&str, &[Phoneme])> = entries
            .iter()
            .flat_map(|entry| {
                entry.pronunciations.iter().map(|p| (&entry.word[..], &p[..]))
            })
            .collect();
        let pairs: Vec<Pair> = all
            .iter()
            .step_by(all.len().div_ceil(ENOUGH).max(1))
            .filter_map(|(word, phonemes)| Pair::new(word, phonemes))
            .collect();
        if pairs.is_empty() {
            let problem = "no word can be aligned; give words of the letters a–z, at most two phonemes a letter";
            return Err(Error::input("aligner", problem));
        }

        let mut aligner = Self { probabilities: first_guess() };
        let mut lattice = Lattice::default();
        for _ in 0..ROUNDS {
            // A trace of everything, so that no unit ever becomes impossible.
            let mut counts = vec![1e-3; LETTERS * UNITS];
            for pair in &pairs {
                lattice.count(&aligner, pair, &mut counts);
            }
            for row in counts.chunks_mut(UNITS) {
                let total: f64 = row.iter().sum();
                row.iter_mut().for_each(|count| *count /= total);
            }
            aligner.probabilities = counts;
        }
        Ok(aligner)
    }
    // ANCHOR_END: train

    /// The likeliest alignment: for each letter the range of `phonemes` that it writes.
    ///
    /// The ranges follow one upon the other and cover all phonemes. Silent letters have an empty one.
    /// Nothing if the word is empty, has a character that is neither a–z nor the apostrophe, or has more than
    /// twice as many phonemes as letters.
    // ANCHOR: align
    pub fn align(&self, word: &str, phonemes: &[Phoneme]) -> Option<Vec<Range<usize>>> {
        let pair = Pair::new(word, phonemes)?;
        // best[i][j]: how likely the first i letters write the first j phonemes, on the likeliest way, and how many of
        // them letter i − 1 writes there.
        let columns = pair.phonemes.len() + 1;
        let mut best = vec![(0.0, 0); (pair.letters.len() + 1) * columns];
        best[0].0 = 1.0;
        for i in 0..pair.letters.len() {
            for j in pair.reachable(i) {
                for (count, unit) in pair.units(j) {
                    let way =
                        best[i * columns + j].0 * self.probability(pair.letters[i], unit);
                    let next = &mut best[(i + 1) * columns + j + count];
                    if way > next.0 {
                        *next = (way, count);
                    }
                }
            }
        }

        let mut ranges = Vec::with_capacity(pair.letters.len());
        let mut end = pair.phonemes.len();
        for i in (1..=pair.letters.len()).rev() {
            let start = end - best[i * columns + end].1;
            ranges.push(start..end);
            end = start;
        }
        ranges.reverse();
        Some(ranges)
    }
    // ANCHOR_END: align

    fn probability(&self, letter: usize, unit: usize) -> f64 {
        self.probabilities[letter * UNITS + unit]
    }
}

/// One phoneme a letter is likelier than none or two; nothing else is known.
fn first_guess() -> Vec<f64> {
    let count = PHONEMES.len();
    let row = (0..UNITS).map(|unit| match unit {
        0 => 0.1,
        unit if unit <= count => 0.8 / count as f64,
        _ => 0.1 / (count * count) as f64,
    });
    row.collect::<Vec<_>>().repeat(LETTERS)
}

/// A word and a pronunciation that can be aligned, as numbers.
struct Pair {
    letters: Vec<usize>,
    phonemes: Vec<usize>,
}

impl Pair {
    fn new(word: &str, phonemes: &[Phoneme]) -> Option<Self> {
        let letters: Vec<usize> = word.bytes().map(letter).collect::<Option<_>>()?;
        let phonemes: Vec<usize> = phonemes.iter().map(|p| p.index()).collect();
        let fits = !letters.is_empty() && phonemes.len() <= MOST * letters.len();
        fits.then_some(Self { letters, phonemes })
    }

    /// How many phonemes the first `i` letters can have written if the others are to write the rest.
    fn reachable(&self, i: usize) -> std::ops::RangeInclusive<usize> {
        let rest = MOST * (self.letters.len() - i);
        self.phonemes.len().saturating_sub(rest)..=self.phonemes.len().min(MOST * i)
    }

    /// What a letter can write after the first `j` phonemes: how many, and which unit they are.
    fn units(&self, j: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let unit = move |count| match self.phonemes[j..j + count] {
            [first] => 1 + first,
            [first, second] => 1 + PHONEMES.len() * (1 + first) + second,
            _ => 0,
        };
        (0..=MOST.min(self.phonemes.len() - j)).map(move |count| (count, unit(count)))
    }
}

/// The number of a letter: 0 for the apostrophe, 1 to 26 for a to z.
fn letter(byte: u8) -> Option<usize> {
    match byte {
        b'\'' => Some(0),
        b'a'..=b'z' => Some(usize::from(byte - b'a') + 1),
        _ => None,
    }
}

/// How likely all alignments of a word are together, up to each place and from it on.
#[derive(Default)]
struct Lattice {
    /// At `[i][j]`: that the first i letters write the first j phonemes.
    forward: Vec<f64>,
    /// At `[i][j]`: that the letters from i on write the phonemes from j on.
    backward: Vec<f64>,
}

impl Lattice {
    /// Adds to `counts` how often each letter of the pair writes each unit, over all its alignments.
    fn count(&mut self, aligner: &Aligner, pair: &Pair, counts: &mut [f64]) {
        let (rows, columns) = (pair.letters.len(), pair.phonemes.len() + 1);
        for table in [&mut self.forward, &mut self.backward] {
            table.clear();
            table.resize((rows + 1) * columns, 0.0);
        }
        let last = rows * columns + pair.phonemes.len();
        self.forward[0] = 1.0;
        for i in 0..rows {
            for j in pair.reachable(i) {
                for (count, unit) in pair.units(j) {
                    let way = self.forward[i * columns + j];
                    self.forward[(i + 1) * columns + j + count] +=
                        way * aligner.probability(pair.letters[i], unit);
                }
            }
        }
        self.backward[last] = 1.0;
        let whole = self.forward[last];
        for i in (0..rows).rev() {
            for j in pair.reachable(i) {
                let mut onward = 0.0;
                for (count, unit) in pair.units(j) {
                    let way = aligner.probability(pair.letters[i], unit)
                        * self.backward[(i + 1) * columns + j + count];
                    onward += way;
                    counts[pair.letters[i] * UNITS + unit] +=
                        self.forward[i * columns + j] * way / whole;
                }
                self.backward[i * columns + j] = onward;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use self_attention::data::cmudict::Dictionary;

    use super::*;

    fn phonemes(text: &str) -> Vec<Phoneme> {
        text.split_ascii_whitespace().map(|symbol| symbol.parse().unwrap()).collect()
    }

    fn trained(lines: &str) -> Aligner {
        let dictionary = Dictionary::parse(lines.as_bytes()).unwrap();
        Aligner::train(&dictionary.iter().collect::<Vec<_>>()).unwrap()
    }

    /// As in `t=DH h= o=OW`.
    fn shown(aligner: &Aligner, word: &str, text: &str) -> String {
        let phonemes = phonemes(text);
        let ranges = aligner.align(word, &phonemes).unwrap();
        let written = |range: Range<usize>| {
            let symbols: Vec<_> = phonemes[range].iter().map(|p| p.symbol()).collect();
            symbols.join("+")
        };
        let letters: Vec<_> = word
            .chars()
            .zip(ranges)
            .map(|(letter, range)| format!("{letter}={}", written(range)))
            .collect();
        letters.join(" ")
    }

    const WORDS: &str = "fix F IH1 K S\nfin F IH1 N\nkin K IH1 N\nkit K IH1 T\nsit S IH1 T\nsix S IH1 K S\n\
                         mix M IH1 K S\nhim HH IH1 M\nhit HH IH1 T\nthin TH IH1 N\nthis DH IH1 S\nfit F IH1 T";

    #[test]
    fn a_letter_may_write_two_phonemes_or_none() {
        let aligner = trained(WORDS);
        assert_eq!(shown(&aligner, "fix", "F IH K S"), "f=F i=IH x=K+S");
        assert_eq!(shown(&aligner, "mix", "M IH K S"), "m=M i=IH x=K+S");
        let thin = shown(&aligner, "thin", "TH IH N");
        assert!(["t=TH h= i=IH n=N", "t= h=TH i=IH n=N"].contains(&&thin[..]), "{thin}");
        // Never seen like this, and aligned all the same.
        assert_eq!(aligner.align("zz", &phonemes("ZH OY ZH OY")), Some(vec![0..2, 2..4]));
        assert_eq!(aligner.align("no", &[]), Some(vec![0..0, 0..0]));
    }

    #[test]
    fn what_has_no_alignment_is_told() {
        let aligner = trained(WORDS);
        assert_eq!(aligner.align("w", &phonemes("D AH B AH L Y UW")), None);
        assert_eq!(aligner.align("", &phonemes("T")), None);
        assert_eq!(aligner.align("Fix", &phonemes("F IH K S")), None);
        let dictionary = Dictionary::parse(b"w D AH1 B AH0 L Y UW0").unwrap();
        let error = Aligner::train(&dictionary.iter().collect::<Vec<_>>()).unwrap_err();
        assert!(error.to_string().starts_with("aligner: no word can"), "{error}");
        assert!(Aligner::train(&[]).is_err());
    }

    #[test]
    fn training_twice_gives_the_same_to_the_last_bit() {
        assert_eq!(trained(WORDS), trained(WORDS));
        for row in trained(WORDS).probabilities.chunks(UNITS) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    /// Goes through all alignments of the rest of a pair, one by one: adds up their probabilities, and into
    /// `counts` each unit times the probability of the alignments that have it.
    fn enumerate(
        aligner: &Aligner,
        pair: &Pair,
        (i, j): (usize, usize),
        way: f64,
        counts: &mut Vec<f64>,
    ) -> f64 {
        if i == pair.letters.len() {
            return if j == pair.phonemes.len() { way } else { 0.0 };
        }
        let mut total = 0.0;
        for (count, unit) in pair.units(j) {
            let way = way * aligner.probability(pair.letters[i], unit);
            let ways = enumerate(aligner, pair, (i + 1, j + count), way, counts);
            counts[pair.letters[i] * UNITS + unit] += ways;
            total += ways;
        }
        total
    }

    #[test]
    fn all_alignments_are_counted_as_if_one_by_one() {
        let aligner = trained(WORDS);
        for (word, text) in
            [("thix", "TH IH K S"), ("hhh", "HH"), ("i", "AY"), ("fi", "F AH F AH")]
        {
            let pair = Pair::new(word, &phonemes(text)).unwrap();
            let mut counts = vec![0.0; LETTERS * UNITS];
            Lattice::default().count(&aligner, &pair, &mut counts);
            let mut expected = vec![0.0; LETTERS * UNITS];
            let total = enumerate(&aligner, &pair, (0, 0), 1.0, &mut expected);
            for (found, expected) in counts.iter().zip(&expected) {
                assert!((found - expected / total).abs() < 1e-9, "{word}");
            }
            assert!(
                (counts.iter().sum::<f64>() - word.len() as f64).abs() < 1e-9,
                "{word}"
            );
        }
    }

    proptest! {
        #[test]
        fn ranges_follow_one_upon_the_other_and_cover_all(
            word in "[a-z']{1,8}",
            indices in prop::collection::vec(0_usize..39, 0..16),
        ) {
            let phonemes: Vec<_> = indices.into_iter().filter_map(Phoneme::from_index).collect();
            let aligner = Aligner { probabilities: first_guess() };
            let ranges = aligner.align(&word, &phonemes);
            prop_assert_eq!(ranges.is_some(), phonemes.len() <= 2 * word.len());
            let mut end = 0;
            for range in ranges.unwrap_or_default() {
                prop_assert_eq!(range.start, end);
                prop_assert!(range.len() <= MOST);
                end = range.end;
            }
            prop_assert!(end == phonemes.len() || phonemes.len() > 2 * word.len());
        }
    }
}
