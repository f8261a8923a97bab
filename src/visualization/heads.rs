//! What a head does, in numbers: measures of its attention weights, averaged over many words.
//!
//! To look at heatmaps until one shows something is to find what one looks for. A measure is computed for every head
//! alike. Those here are the usual ones: entropy and the weight on particular tokens (Clark et al., "What Does BERT Look
//! At?", 2019; Ghader & Monz, 2017), relative positions (Voita et al., 2019; Raganato & Tiedemann, 2018), and the
//! weight on the letter that a word aligner holds responsible.
//!
//! Throughout, `w[t][s]` is the weight that query `t` gives to key `s` in one head, and `T` the number of tokens of
//! `l e t t e r s <sep> P H O N E M E S`. The first `prefix` of them, letters and `<sep>`, are seen by all; a phoneme is
//! seen by itself and those after it. So query `t` has `max(prefix, t + 1)` open keys.
//!
//! The phoneme at place `n` of a pronunciation, counted from 0, is *predicted* in the row of the token before it,
//! `t = prefix − 1 + n`: the first in the row of `<sep>`. In row `t + 1` it is *read*. To take the one row for the other
//! moves every alignment by one.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use self_attention::visualization::inside::Inside;

/// How evenly a row spreads its weight: `−Σ_s w[s]·ln w[s]`, in nats.
///
/// 0 if all of it is on one key; `ln n`, the most there can be, if `n` keys have equal weight.
///
/// # Example: two keys with half of the weight each
/// ```
/// # use self_attention::visualization::heads::entropy;
/// assert_eq!(entropy(&[0.0, 1.0, 0.0]), 0.0);
/// assert!((entropy(&[0.5, 0.0, 0.5]) - 2f64.ln()).abs() < 1e-12);
/// ```
// ANCHOR: entropy
pub fn entropy(row: &[f64]) -> f64 {
    let terms = row.iter().filter(|w| **w > 0.0).map(|w| -w * w.ln()); // 0·ln 0 is 0
    terms.sum()
}
// ANCHOR_END: entropy

/// How far a row looks, in positions: `Σ_s w[s]·|t − s|`.
// ANCHOR: distance
pub fn distance(query: usize, row: &[f64]) -> f64 {
    let term = |(key, w): (usize, &f64)| w * query.abs_diff(key) as f64;
    row.iter().enumerate().map(term).sum()
}
// ANCHOR_END: distance

/// Where a row looks from where it stands: `Σ_s w[s]·(s − t)`. Below 0 is back, above 0 ahead.
// ANCHOR: offset
pub fn offset(query: usize, row: &[f64]) -> f64 {
    let term = |(key, w): (usize, &f64)| w * (key as f64 - query as f64);
    row.iter().enumerate().map(term).sum()
}
// ANCHOR_END: offset

/// For each phoneme the letter that writes it, from what each letter writes, as
/// [`Aligner::align`](self_attention::evaluation::alignment::Aligner::align) says it.
///
/// # Example: the *x* of *fix* writes two
/// ```
/// # use self_attention::visualization::heads::writers;
/// assert_eq!(writers(&[0..1, 1..2, 2..4]), [0, 1, 2, 2]); // F, IH, K S
/// ```
pub fn writers(ranges: &[Range<usize>]) -> Vec<usize> {
    let letters = ranges.iter().enumerate();
    letters.flat_map(|(letter, range)| range.clone().map(move |_| letter)).collect()
}

/// For each of `phonemes` phonemes the letter that one head looks at most where the phoneme is predicted, or `later`
/// rows after that. Of equals the first.
// ANCHOR: looked_at
pub fn looked_at(
    weights: &[Vec<f64>], // [T][T]
    prefix: usize,
    phonemes: usize,
    later: usize,
) -> Vec<usize> {
    let letters = prefix - 1; // without <sep>
    let largest = |row: &Vec<f64>| {
        let larger =
            |best: usize, letter| if row[letter] > row[best] { letter } else { best };
        (0..letters).fold(0, larger)
    };
    let rows = weights.iter().skip(prefix - 1 + later).take(phonemes);
    rows.map(largest).collect()
}
// ANCHOR_END: looked_at

/// How far from a place weights are told apart: up to so many positions before it and after it.
pub const REACH: usize = 4;

/// The weights at the positions from [`REACH`] before a place to [`REACH`] after it; the place itself is in the middle.
pub type Around = [f64; 2 * REACH + 1];

/// Of how many letters at the beginning of a word the [favourites](Measures::favourites) are kept.
pub const PLACES: usize = 8;

/// What a head does in the rows of one kind, on average over all such rows of all words.
// ANCHOR: look
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// The [entropy], in nats.
    pub entropy: f64,
    /// The entropy over the largest there can be, `ln max(prefix, t + 1)`: from 0, all on
    /// one key, to 1, evenly over all.
    pub relative_entropy: f64,
    /// The [distance] between query and key.
    pub distance: f64,
    /// The [offset] of the key from the query.
    pub offset: f64,
    /// The weight on the positions around the query, `w[t][t−4]` to `w[t][t+4]`, each over
    /// the rows that have it open.
    pub around: Around,
    /// The weight on all letters together.
    pub letters: f64,
    /// The weight on `<sep>`.
    pub separator: f64,
    /// The weight on all phonemes together.
    pub phonemes: f64,
}
// ANCHOR_END: look

impl Look {
    /// The weight on the query's own position, `w[t][t]`.
    pub fn diagonal(&self) -> f64 {
        self.around[REACH]
    }

    /// The weight on the position before, `w[t][t−1]`.
    pub fn previous(&self) -> f64 {
        self.around[REACH - 1]
    }

    /// The weight on the position after, `w[t][t+1]`.
    pub fn next(&self) -> f64 {
        self.around[REACH + 1]
    }
}

/// What one head does, on average over many words.
// ANCHOR: measures
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// In the rows of the letters, while the word is read.
    pub reading: Look,
    /// In the rows of `<sep>` and the phonemes, while the pronunciation is written.
    pub writing: Look,
    /// The weight on the letter that writes a phoneme, where the phoneme is predicted.
    pub alignment: f64,
    /// The same for the four letters before it to the four after it, each over the phonemes
    /// that have it; in the middle the letter itself.
    pub around_letter: Around,
    /// The weight on that letter one row later, where the phoneme is read.
    pub echo: f64,
    /// The part of all letters that give their largest weight to the place that most letters
    /// at their own place do. 1 if a head looks at places, whatever letters stand there.
    pub same_place: f64,
    /// That place, for each of the first letters of a word; none for `<sep>`.
    pub favourites: [Option<usize>; PLACES],
    /// The part of all rows in which the largest weight is also the largest contribution:
    /// weight times [length](super::inside::Heads::lengths).
    pub same_largest: f64,
    /// The length of what `<sep>` hands over, over the mean length of what the letters of
    /// its word do.
    pub separator_length: f64,
}
// ANCHOR_END: measures

impl Measures {
    /// What a head could be called, each with the weight that speaks for it.
    // ANCHOR: roles
    pub fn roles(&self) -> [(&'static str, f64); 9] {
        let Self { reading, writing, .. } = self;
        [
            ("letters: itself", reading.diagonal()),
            ("letters: the one before", reading.previous()),
            ("letters: the one after", reading.next()),
            ("letters: <sep>", reading.separator),
            ("phonemes: its letter", self.alignment),
            ("phonemes: the last one's letter", self.echo),
            ("phonemes: itself", writing.diagonal()),
            ("phonemes: the one before", writing.previous()),
            ("phonemes: <sep>", writing.separator),
        ]
    }
    // ANCHOR_END: roles
}

/// A mean in the making.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// 0 of nothing.
    fn value(self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

/// The measures of the rows of one kind in the making.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    entropy: Mean,
    relative_entropy: Mean,
    distance: Mean,
    offset: Mean,
    around: [Mean; 2 * REACH + 1],
    letters: Mean,
    separator: Mean,
    phonemes: Mean,
}

impl Looks {
    fn add(&mut self, query: usize, row: &[f64], prefix: usize) {
        let open = prefix.max(query + 1);
        let nats = entropy(row);
        self.entropy.add(nats);
        self.relative_entropy.add(nats / (open as f64).ln()); // at least a letter and <sep>
        self.distance.add(distance(query, row));
        self.offset.add(offset(query, row));
        add_around(&mut self.around, query, &row[..open]);
        self.letters.add(row[..prefix - 1].iter().sum());
        self.separator.add(row[prefix - 1]);
        self.phonemes.add(row[prefix..].iter().sum());
    }

    fn look(&self) -> Look {
        Look {
            entropy: self.entropy.value(),
            relative_entropy: self.relative_entropy.value(),
            distance: self.distance.value(),
            offset: self.offset.value(),
            around: self.around.map(Mean::value),
            letters: self.letters.value(),
            separator: self.separator.value(),
            phonemes: self.phonemes.value(),
        }
    }
}

/// Adds the weights around a place, as far as there are any.
fn add_around(means: &mut [Mean], place: usize, weights: &[f64]) {
    for (step, mean) in means.iter_mut().enumerate() {
        let key = (place + step).checked_sub(REACH);
        if let Some(weight) = key.and_then(|key| weights.get(key)) {
            mean.add(*weight);
        }
    }
}

/// For the letters at each place of a word, how often the largest weight lies at which other; none is `<sep>`.
#[derive(Clone, Debug, Default)]
struct Places(BTreeMap<usize, BTreeMap<Option<usize>, usize>>);

impl Places {
    fn add(&mut self, query: usize, row: &[f64], prefix: usize) {
        let key = Some(largest(row)).filter(|key| *key != prefix - 1);
        *self.0.entry(query).or_default().entry(key).or_default() += 1;
    }

    /// Which place the letters at this one choose most often, and how many of them do.
    fn favourite(&self, query: usize) -> Option<(Option<usize>, usize)> {
        let counts = self.0.get(&query)?.iter();
        counts.max_by_key(|(_, count)| **count).map(|(key, count)| (*key, *count))
    }

    /// The part of all letters that choose the favourite of their place.
    fn same(&self) -> f64 {
        let favoured = self.0.keys().filter_map(|query| self.favourite(*query));
        let favoured: usize = favoured.map(|(_, count)| count).sum();
        let all: usize = self.0.values().flat_map(BTreeMap::values).sum();
        favoured as f64 / all.max(1) as f64
    }
}

/// The measures of one head in the making.
#[derive(Clone, Debug, Default)]
struct Tally {
    reading: Looks,
    writing: Looks,
    alignment: Mean,
    around_letter: [Mean; 2 * REACH + 1],
    echo: Mean,
    places: Places,
    same_largest: Mean,
    separator_length: Mean,
}

impl Tally {
    fn add(
        &mut self,
        weights: &[Vec<f64>], // [T][T]
        lengths: &[f64],      // [T]
        prefix: usize,
        writers: Option<&[usize]>,
    ) {
        let letters = prefix - 1;
        for (query, row) in weights.iter().enumerate() {
            let looks =
                if query < letters { &mut self.reading } else { &mut self.writing };
            looks.add(query, row, prefix);
            if query < letters {
                self.places.add(query, row, prefix);
            }
            let contributions: Vec<f64> =
                row.iter().zip(lengths).map(|(w, length)| w * length).collect();
            let same = largest(row) == largest(&contributions);
            self.same_largest.add(f64::from(u8::from(same)));
        }
        let mean = lengths[..letters].iter().sum::<f64>() / letters as f64;
        self.separator_length.add(lengths[letters] / mean);
        for (place, &letter) in writers.unwrap_or_default().iter().enumerate() {
            let predicted = letters + place;
            if let [before, after] = &weights[predicted..][..2] {
                self.alignment.add(before[letter]);
                add_around(&mut self.around_letter, letter, &before[..letters]);
                self.echo.add(after[letter]);
            }
        }
    }

    fn measures(&self) -> Measures {
        Measures {
            reading: self.reading.look(),
            writing: self.writing.look(),
            alignment: self.alignment.value(),
            around_letter: self.around_letter.map(Mean::value),
            echo: self.echo.value(),
            same_place: self.places.same(),
            favourites: std::array::from_fn(|query| self.places.favourite(query)?.0),
            same_largest: self.same_largest.value(),
            separator_length: self.separator_length.value(),
        }
    }
}

/// Where the largest number stands; of equals the first.
fn largest(numbers: &[f64]) -> usize {
    (0..numbers.len())
        .fold(0, |best, place| if numbers[place] > numbers[best] { place } else { best })
}

/// Watches all heads while the model reads word after word.
///
/// A mean is over rows, not over words: a long word has more of them and weighs more, as with the phoneme error rate.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// `[block][head]`
    tallies: Vec<Vec<Tally>>,
    around_evenly: [Mean; 2 * REACH + 1],
}

impl Observer {
    /// Adds what all heads did with one word. `writers` says which letter writes each phoneme; without it the word has no
    /// part in alignment scores.
    pub fn add(&mut self, inside: &Inside, writers: Option<&[usize]>) {
        let Inside { prefix, weights, lengths } = inside;
        if self.tallies.is_empty() {
            let none = |heads: &Vec<_>| vec![Tally::default(); heads.len()];
            self.tallies = weights.iter().map(none).collect();
        }
        for (block, tallies) in self.tallies.iter_mut().enumerate() {
            for (head, tally) in tallies.iter_mut().enumerate() {
                let (weights, lengths) = (&weights[block][head], &lengths[block][head]);
                tally.add(weights, lengths, *prefix, writers);
            }
        }
        for (place, &letter) in writers.unwrap_or_default().iter().enumerate() {
            let even = vec![1.0 / (prefix + place) as f64; prefix - 1];
            add_around(&mut self.around_evenly, letter, &even);
        }
    }

    /// The measures of each head, `[block][head]`.
    pub fn measures(&self) -> Vec<Vec<Measures>> {
        let of_block =
            |tallies: &Vec<Tally>| tallies.iter().map(Tally::measures).collect();
        self.tallies.iter().map(of_block).collect()
    }

    /// What [`Measures::around_letter`] is of a head that spreads its weight evenly: one over the number of open keys, on
    /// average over the phonemes that have such a letter.
    pub fn around_evenly(&self) -> Around {
        self.around_evenly.map(Mean::value)
    }
}

/// How often letters found in some way are those of the aligner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Phonemes that were compared.
    pub phonemes: usize,
    /// Those with the same letter.
    pub same: usize,
    /// Those with the same letter or one of its neighbours.
    pub near: usize,
}

impl Agreement {
    /// Compares the letters of one more word, a letter for each phoneme.
    pub fn add(&mut self, found: &[usize], writers: &[usize]) {
        for (found, writer) in found.iter().zip(writers) {
            self.phonemes += 1;
            self.same += usize::from(found == writer);
            self.near += usize::from(found.abs_diff(*writer) <= 1);
        }
    }

    /// The part with the same letter.
    pub fn rate(&self) -> f64 {
        self.same as f64 / self.phonemes.max(1) as f64
    }

    /// The part with the same letter or a neighbour of it.
    pub fn near_rate(&self) -> f64 {
        self.near as f64 / self.phonemes.max(1) as f64
    }
}

/// A guess that knows nothing of the word: the n-th phoneme is written by the n-th letter, or by the last one.
pub fn diagonal_guess(letters: usize, phonemes: usize) -> Vec<usize> {
    (0..phonemes).map(|place| place.min(letters - 1)).collect()
}

/// A guess that knows how long both are: the phoneme in the middle is written by the letter in the middle, and so on.
pub fn proportional_guess(letters: usize, phonemes: usize) -> Vec<usize> {
    (0..phonemes).map(|place| (2 * place + 1) * letters / (2 * phonemes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREFIX: usize = 6; // t o u g h <sep>
    const TOKENS: usize = 9; // and T AH F

    /// A word of one head, its weights by query and key.
    fn inside(weight: impl Fn(usize, usize) -> f64) -> Inside {
        let row =
            |query: usize| (0..TOKENS).map(|key| weight(query, key)).collect::<Vec<_>>();
        Inside {
            prefix: PREFIX,
            weights: vec![vec![(0..TOKENS).map(row).collect()]],
            lengths: vec![vec![vec![1.0; TOKENS]]],
        }
    }

    fn measured(weight: impl Fn(usize, usize) -> f64) -> Measures {
        let mut observer = Observer::default();
        observer.add(&inside(weight), Some(&[0, 2, 3])); // t writes T, u AH, g F
        observer.measures()[0][0]
    }

    /// The roles with more than half of the weight.
    fn had_by(measures: &Measures) -> Vec<&'static str> {
        let roles = measures.roles().into_iter();
        roles.filter(|(_, weight)| *weight > 0.5).map(|(role, _)| role).collect()
    }

    fn one(is: bool) -> f64 {
        f64::from(u8::from(is))
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} and not {expected}");
    }

    #[test]
    fn even_weights() {
        let open = |query: usize| PREFIX.max(query + 1);
        let measures = measured(|query, key| one(key < open(query)) / open(query) as f64);
        let Measures { reading, writing, alignment, echo, .. } = measures;
        for look in [reading, writing] {
            close(look.relative_entropy, 1.0);
            close(look.letters + look.separator + look.phonemes, 1.0);
        }
        close(reading.entropy, 6f64.ln());
        close(
            writing.entropy,
            [6f64, 7.0, 8.0, 9.0].iter().map(|n| n.ln()).sum::<f64>() / 4.0,
        );
        for weight in reading.around {
            close(weight, 1.0 / 6.0);
        }
        close(reading.letters, 5.0 / 6.0);
        close(reading.phonemes, 0.0);
        // The first letter: 0 + 1 + 2 + 3 + 4 + 5 over 6; the second 1 + 0 + 1 + 2 + 3 + 4; and so on.
        close(reading.distance, (15.0 + 11.0 + 9.0 + 9.0 + 11.0) / 6.0 / 5.0);
        close(reading.offset, 2.5 - 2.0); // the middle of the keys less the middle of the letters
        close(alignment, (1.0 / 6.0 + 1.0 / 7.0 + 1.0 / 8.0) / 3.0);
        close(measures.around_letter[REACH], alignment);
        // One before the letter: T, written by the first letter, has none.
        close(measures.around_letter[REACH - 1], (1.0 / 7.0 + 1.0 / 8.0) / 2.0);
        close(echo, (1.0 / 7.0 + 1.0 / 8.0 + 1.0 / 9.0) / 3.0);
        let mut observer = Observer::default();
        observer.add(&inside(|_, _| 0.0), Some(&[0, 2, 3]));
        for (evenly, found) in observer.around_evenly().iter().zip(measures.around_letter)
        {
            close(*evenly, found);
        }
    }

    #[test]
    fn all_on_the_diagonal() {
        let Measures { reading, writing, alignment, same_largest, .. } =
            measured(|query, key| one(query == key));
        for look in [reading, writing] {
            close(look.diagonal(), 1.0);
            for zero in [
                look.entropy,
                look.relative_entropy,
                look.distance,
                look.offset,
                look.previous(),
                look.next(),
            ] {
                close(zero, 0.0);
            }
        }
        close(reading.letters, 1.0);
        close(writing.separator, 1.0 / 4.0);
        close(writing.phonemes, 3.0 / 4.0);
        close(alignment, 0.0);
        close(same_largest, 1.0);
    }

    #[test]
    fn all_on_the_token_before() {
        // The first token has none before it and looks at itself.
        let measures = measured(|query, key| one(query.saturating_sub(1) == key));
        close(measures.reading.previous(), 1.0);
        close(measures.writing.previous(), 1.0);
        close(measures.reading.distance, 4.0 / 5.0);
        close(measures.reading.offset, -4.0 / 5.0);
        close(measures.writing.offset, -1.0);
        let had = had_by(&measures);
        assert_eq!(had, ["letters: the one before", "phonemes: the one before"]);

        let after = |query: usize| (query + 1).min(PREFIX.max(query + 1) - 1);
        let measures = measured(|query, key| one(after(query) == key));
        close(measures.reading.next(), 1.0);
        close(measures.reading.offset, 1.0);
        assert_eq!(had_by(&measures)[0], "letters: the one after");
    }

    #[test]
    fn the_row_that_predicts_a_phoneme_is_that_of_the_token_before_it() {
        // <sep> → t, T → u, AH → g: the letters of T, AH and F.
        let aligned = [0, 2, 3];
        let head = |later: usize| {
            move |query: usize, key: usize| {
                let place = query.checked_sub(PREFIX - 1 + later);
                let letter = place.and_then(|place| aligned.get(place));
                one(key == *letter.unwrap_or(&(PREFIX - 1)))
            }
        };
        let (ahead, behind) = (measured(head(0)), measured(head(1)));
        close(ahead.alignment, 1.0);
        close(ahead.echo, 0.0);
        close(behind.alignment, 0.0);
        close(behind.echo, 1.0);
        for (later, head) in [(0, inside(head(0))), (1, inside(head(1)))] {
            assert_eq!(looked_at(&head.weights[0][0], PREFIX, 3, later), aligned);
        }
        assert_eq!(had_by(&ahead), ["letters: <sep>", "phonemes: its letter"]);
        assert!(had_by(&behind).contains(&"phonemes: the last one's letter"));
    }

    #[test]
    fn a_large_weight_on_a_short_vector_is_not_the_largest_contribution() {
        let mut inside = inside(|_, key| [0.7, 0.3][key.min(1)] * one(key < 2));
        inside.lengths[0][0][0] = 0.1;
        let mut observer = Observer::default();
        observer.add(&inside, None);
        let measures = observer.measures()[0][0];
        close(measures.same_largest, 0.0);
        close(measures.separator_length, 1.0 / (4.1 / 5.0));
        close(measures.alignment, 0.0); // of no phoneme
    }

    #[test]
    fn a_head_that_looks_at_places_is_told_from_one_that_looks_at_letters() {
        let word = |keys: &[usize]| Inside {
            prefix: keys.len() + 1,
            weights: vec![vec![keys
                .iter()
                .map(|key| (0..=keys.len()).map(|k| one(k == *key)).collect())
                .chain([vec![0.0; keys.len() + 1]])
                .collect()]],
            lengths: vec![vec![vec![1.0; keys.len() + 1]]],
        };
        let measures = |words: &[&[usize]]| {
            let mut observer = Observer::default();
            words.iter().for_each(|keys| observer.add(&word(keys), None));
            observer.measures()[0][0]
        };
        // Three words: every first letter looks at the second, every second at <sep>.
        let by_place = measures(&[&[1, 2], &[1, 3, 0], &[1, 3, 1]]);
        close(by_place.same_place, 7.0 / 8.0); // the third letters are of two minds
        assert_eq!(by_place.favourites[..2], [Some(1), None]);
        assert_eq!(by_place.favourites[PLACES - 1], None); // no word is so long
        let by_letter = measures(&[&[0, 0], &[1, 1], &[2, 2]]);
        close(by_letter.same_place, 2.0 / 6.0);
    }

    #[test]
    fn means_are_over_rows_and_not_over_words() {
        let short = Inside {
            prefix: 2,
            weights: vec![vec![vec![vec![1.0, 0.0, 0.0]; 3]]],
            lengths: vec![vec![vec![1.0; 3]]],
        };
        let mut observer = Observer::default();
        observer.add(&short, Some(&[0]));
        observer.add(&inside(|_, key| one(key == 5)), Some(&[0, 2, 3]));
        let measures = observer.measures()[0][0];
        close(measures.reading.separator, 5.0 / 6.0); // five letters of six
        close(measures.writing.letters, 2.0 / 6.0);
        close(measures.alignment, 1.0 / 4.0);
    }

    #[test]
    fn guesses_and_agreement() {
        assert_eq!(diagonal_guess(5, 3), [0, 1, 2]);
        assert_eq!(diagonal_guess(2, 4), [0, 1, 1, 1]);
        assert_eq!(proportional_guess(5, 3), [0, 2, 4]);
        assert_eq!(proportional_guess(2, 4), [0, 0, 1, 1]);
        assert_eq!(proportional_guess(4, 4), [0, 1, 2, 3]);
        let mut agreement = Agreement::default();
        agreement.add(&[0, 2, 4], &[0, 2, 3]);
        agreement.add(&[3], &[0]);
        assert_eq!(agreement, Agreement { phonemes: 4, same: 2, near: 3 });
        assert_eq!((agreement.rate(), agreement.near_rate()), (0.5, 0.75));
        assert_eq!(writers(&[0..1, 1..1, 1..3, 3..3]), [0, 2, 2]);
    }

    proptest! {
        #[test]
        fn measures_stay_within_their_bounds(
            scores in prop::collection::vec(-8.0..8.0f64, TOKENS * TOKENS),
            lengths in prop::collection::vec(0.01..9.0f64, TOKENS),
        ) {
            let open = |query: usize| PREFIX.max(query + 1);
            let weight = |query: usize, key: usize| {
                let exp = |key: usize| scores[query * TOKENS + key].exp();
                let sum: f64 = (0..open(query)).map(exp).sum();
                one(key < open(query)) * exp(key) / sum
            };
            let mut inside = inside(weight);
            inside.lengths[0][0] = lengths;
            let mut observer = Observer::default();
            observer.add(&inside, Some(&[4, 0, 1]));
            let measures = observer.measures()[0][0];
            let largest = (TOKENS - 1) as f64;
            for look in [measures.reading, measures.writing] {
                prop_assert!((0.0..=(TOKENS as f64).ln()).contains(&look.entropy));
                prop_assert!((0.0..=1.0 + 1e-12).contains(&look.relative_entropy));
                prop_assert!((0.0..=largest).contains(&look.distance));
                prop_assert!(look.offset.abs() <= look.distance + 1e-12);
                prop_assert!((look.letters + look.separator + look.phonemes - 1.0).abs() < 1e-12);
                for weight in look.around.into_iter().chain([look.letters]) {
                    prop_assert!((0.0..=1.0).contains(&weight));
                }
                prop_assert!(look.diagonal() + look.distance >= 1.0 - 1e-12); // what is not here is at least 1 away
            }
            prop_assert!(measures.alignment <= measures.writing.letters * 4.0 / 3.0 + 1e-12);
            prop_assert!((measures.around_letter[REACH] - measures.alignment).abs() < 1e-12);
            for share in [measures.alignment, measures.echo, measures.same_largest, measures.same_place] {
                prop_assert!((0.0..=1.0).contains(&share));
            }
            prop_assert!(measures.separator_length > 0.0);
        }
    }
}
