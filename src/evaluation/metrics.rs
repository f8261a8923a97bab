//! Scores: how far predicted pronunciations are from the ones the dictionary lists.
//!
//! Every function compares sequences of tokens of any type. In this crate a token is a
//! [`Phoneme`](crate::data::cmudict::Phoneme) and a sequence is a pronunciation. Word i has one prediction
//! `p_i` and a list of references, of which any one is as right as another. For the scores that need one,
//! `r_i` is the *nearest* reference: the one with the smallest edit distance to `p_i`, the first listed of
//! equals.
//!
//! All scores are fractions: 1 where others print 100 %. Rates of errors may exceed 1.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;

use self_attention::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The part of the words that are right from the first token to the last:
/// `accuracy = |{i : p_i ∈ references_i}| / words`.
///
/// # Errors
/// [`Error::Input`] if there is no word, if the two lists differ in length, or if a word has no reference or
/// an empty one.
// ANCHOR: word_accuracy
pub fn word_accuracy<T: PartialEq>(
    predictions: &[Vec<T>],
    references: &[Vec<Vec<T>>],
) -> Result<f64> {
    check(predictions, references)?;
    let right = predictions
        .iter()
        .zip(references)
        .filter(|(prediction, listed)| listed.contains(prediction));
    Ok(right.count() as f64 / predictions.len() as f64)
}
// ANCHOR_END: word_accuracy

/// The part of the words that are not right: `WER = 1 − accuracy`.
///
/// The speech field uses the same name for edits per word of a sentence. In grapheme-to-phoneme conversion
/// each word stands alone, and the word error rate is this one.
///
/// # Errors
/// Those of [`word_accuracy`].
// ANCHOR: word_error_rate
pub fn word_error_rate<T: PartialEq>(
    predictions: &[Vec<T>],
    references: &[Vec<Vec<T>>],
) -> Result<f64> {
    Ok(1.0 - word_accuracy(predictions, references)?)
}
// ANCHOR_END: word_error_rate

/// The fewest insertions, deletions and substitutions that turn one sequence into the other (Levenshtein 1966).
///
/// It is symmetric, and each of the three edits counts 1, as in `nltk.edit_distance`.
///
/// # Example: one phoneme too few
/// ```
/// # use self_attention::evaluation::metrics::edit_distance;
/// assert_eq!(edit_distance(&["T", "AH", "F"], &["T", "AH", "F", "T"]), 1);
/// ```
// ANCHOR: edit_distance
pub fn edit_distance<T: PartialEq>(predicted: &[T], actual: &[T]) -> usize {
    edits(predicted, actual)[predicted.len()][actual.len()]
}

/// At `[i][j]`: the edits between the first `i` predicted tokens and the first `j` actual ones.
fn edits<T: PartialEq>(predicted: &[T], actual: &[T]) -> Vec<Vec<usize>> {
    let mut edits = vec![vec![0; actual.len() + 1]; predicted.len() + 1];
    for i in 0..=predicted.len() {
        for j in 0..=actual.len() {
            edits[i][j] = match (i, j) {
                (0, length) | (length, 0) => length, // insert or delete them all
                _ => {
                    let differ = usize::from(predicted[i - 1] != actual[j - 1]);
                    let substitution = edits[i - 1][j - 1] + differ;
                    substitution.min(edits[i - 1][j] + 1).min(edits[i][j - 1] + 1)
                }
            };
        }
    }
    edits
}
// ANCHOR_END: edit_distance

/// Edits needed for each token of the references: `PER = Σ_i distance(p_i, r_i) / Σ_i |r_i|`.
///
/// For the [edit distance](edit_distance). Summed first and divided once, so that a long word weighs more than
/// a short one. It is what `jiwer.wer` gives for the nearest references, its words being our phonemes.
///
/// # Errors
/// Those of [`word_accuracy`].
// ANCHOR: phoneme_error_rate
pub fn phoneme_error_rate<T: PartialEq>(
    predictions: &[Vec<T>],
    references: &[Vec<Vec<T>>],
) -> Result<f64> {
    let nearest = nearest(predictions, references)?;
    let edits: usize =
        predictions.iter().zip(&nearest).map(|(p, r)| edit_distance(p, r)).sum();
    let tokens: usize = nearest.iter().map(|reference| reference.len()).sum();
    Ok(edits as f64 / tokens as f64)
}
// ANCHOR_END: phoneme_error_rate

/// The reference with the smallest edit distance for each prediction, the first listed of equals.
///
/// # Errors
/// Those of [`word_accuracy`].
// ANCHOR: nearest
pub fn nearest<'a, T: PartialEq>(
    predictions: &[Vec<T>],
    references: &'a [Vec<Vec<T>>],
) -> Result<Vec<&'a Vec<T>>> {
    check(predictions, references)?;
    let pairs = predictions.iter().zip(references);
    Ok(pairs
        .filter_map(|(p, listed)| {
            listed.iter().min_by_key(|reference| edit_distance(p, reference))
        })
        .collect())
}
// ANCHOR_END: nearest

/// Refuses what has no score: no words, lists of unequal length, a word without anything to compare with.
// ANCHOR: check
fn check<T>(predictions: &[Vec<T>], references: &[Vec<Vec<T>>]) -> Result<()> {
    let refuse = |problem: String| Err(Error::input("scores", problem));
    if predictions.len() != references.len() {
        let (words, lists) = (predictions.len(), references.len());
        return refuse(format!(
            "{words} predictions and {lists} lists of references; give as many of each"
        ));
    }
    if predictions.is_empty() {
        return refuse("there is nothing to score; give at least one word".into());
    }
    let useless =
        |listed: &Vec<Vec<T>>| listed.is_empty() || listed.iter().any(Vec::is_empty);
    if let Some(word) = references.iter().position(useless) {
        return refuse(format!(
            "word {word}, counted from 0, has no reference or an empty one"
        ));
    }
    Ok(())
}
// ANCHOR_END: check

/// A predicted token beside the token it stands for. One of the two is missing where the prediction has a
/// token too many or too few.
pub type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

/// Lays two sequences side by side with as few edits as possible: (predicted, actual) at each place.
///
/// ```text
/// predicted   T  AH  –  F
/// actual      T  AW  L  F     one substitution, one deletion
/// ```
///
/// Of several alignments with equally few edits it takes the one that, read from the end, substitutes before
/// it leaves out a token of `actual`, and leaves one out before it inserts (Wagner & Fischer 1974).
// ANCHOR: align
pub fn align<'a, T: PartialEq>(predicted: &'a [T], actual: &'a [T]) -> Vec<Pair<'a, T>> {
    let edits = edits(predicted, actual);
    let (mut i, mut j) = (predicted.len(), actual.len());
    let mut pairs = Vec::new();
    while i > 0 || j > 0 {
        let differ = |i: usize, j: usize| usize::from(predicted[i - 1] != actual[j - 1]);
        if i > 0 && j > 0 && edits[i][j] == edits[i - 1][j - 1] + differ(i, j) {
            (i, j) = (i - 1, j - 1);
            pairs.push((Some(&predicted[i]), Some(&actual[j])));
        } else if j > 0 && edits[i][j] == edits[i][j - 1] + 1 {
            j -= 1;
            pairs.push((None, Some(&actual[j])));
        } else {
            i -= 1;
            pairs.push((Some(&predicted[i]), None));
        }
    }
    pairs.reverse();
    pairs
}
// ANCHOR_END: align

/// How often a class was predicted, was actual, and was both: all that precision, recall and F1 are made of.
// ANCHOR: counts
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Predicted where it should have been: TP, the true positives.
    pub right: usize,
    /// Predicted at all: TP + FP, with the false positives.
    pub predicted: usize,
    /// Should have been predicted: TP + FN, with the false negatives.
    pub actual: usize,
}

impl Counts {
    /// The part of the predictions that is right: `TP / (TP + FP)`.
    /// 0 if the class was never predicted.
    pub fn precision(&self) -> f64 {
        self.right as f64 / self.predicted.max(1) as f64
    }

    /// The part of the actual ones that was found: `TP / (TP + FN)`.
    /// 0 if the class was never actual.
    pub fn recall(&self) -> f64 {
        self.right as f64 / self.actual.max(1) as f64
    }

    /// The harmonic mean of the two: `2·TP / (2·TP + FP + FN)`. 0 if the class was neither.
    pub fn f1(&self) -> f64 {
        2.0 * self.right as f64 / (self.predicted + self.actual).max(1) as f64
    }
}
// ANCHOR_END: counts

/// F1, the harmonic mean of precision and recall, over all tokens and class by class.
// ANCHOR: f1_struct
#[derive(Clone, Debug, PartialEq)]
pub struct F1<T> {
    /// From the counts of all classes together, so that common classes weigh more.
    pub micro: f64,
    /// The mean of the classes, so that a rare one weighs as much as a common one.
    pub macro_average: f64,
    /// The counts of all classes together: micro precision and recall are its.
    pub total: Counts,
    /// The counts of each class that was predicted or should have been.
    pub per_class: BTreeMap<T, Counts>,
}

impl<T> F1<T> {
    /// The mean over the classes, as in `f1.mean(Counts::precision)` for macro precision.
    pub fn mean(&self, score: impl Fn(&Counts) -> f64) -> f64 {
        mean(&self.per_class, score)
    }
}

fn mean<T>(classes: &BTreeMap<T, Counts>, score: impl Fn(&Counts) -> f64) -> f64 {
    classes.values().map(score).sum::<f64>() / classes.len() as f64
}
// ANCHOR_END: f1_struct

/// F1 over labels that stand in pairs, one predicted and one actual (van Rijsbergen 1979).
///
/// A class c has TP true positives (c predicted and actual), FP false positives (predicted, not actual) and
/// FN false negatives (actual, not predicted): `F1_c = 2·TP / (2·TP + FP + FN)`. Each wrong label is one FP
/// and one FN, so micro F1 equals accuracy here. It is another number only for [`f1_aligned`].
///
/// A class counts if it was predicted or actual. Where a score would divide by zero it is 0. Both are so in
/// scikit-learn's `precision_recall_fscore_support` too, which warns of the second.
///
/// # Errors
/// [`Error::Input`] if there is no label or the two lists differ in length.
// ANCHOR: f1
pub fn f1<T: Ord + Clone>(predicted: &[T], actual: &[T]) -> Result<F1<T>> {
    if predicted.len() != actual.len() {
        let problem = format!(
            "{} predicted labels and {} actual ones",
            predicted.len(),
            actual.len()
        );
        return Err(Error::input(
            "F1",
            format!("{problem}; give as many of each, or align them first"),
        ));
    }
    f1_aligned(predicted.iter().map(Some).zip(actual.iter().map(Some)))
}
// ANCHOR_END: f1

/// F1 over [aligned](align) pairs: a token too many is a false positive, one too few a false negative.
///
/// # Errors
/// [`Error::Input`] if there is no pair with a token in it.
// ANCHOR: f1_aligned
pub fn f1_aligned<'a, T: Ord + Clone + 'a>(
    pairs: impl IntoIterator<Item = Pair<'a, T>>,
) -> Result<F1<T>> {
    let mut classes: BTreeMap<T, Counts> = BTreeMap::new();
    for (predicted, actual) in pairs {
        let right = predicted == actual;
        if let Some(class) = predicted {
            let counts = classes.entry(class.clone()).or_default();
            counts.predicted += 1;
            counts.right += usize::from(right);
        }
        if let Some(class) = actual {
            classes.entry(class.clone()).or_default().actual += 1;
        }
    }
    if classes.is_empty() {
        return Err(Error::input("F1", "there is no label to score; give at least one"));
    }

    let mut total = Counts::default();
    for counts in classes.values() {
        total.right += counts.right;
        total.predicted += counts.predicted;
        total.actual += counts.actual;
    }
    let (micro, macro_average) = (total.f1(), mean(&classes, Counts::f1));
    Ok(F1 { micro, macro_average, total, per_class: classes })
}
// ANCHOR_END: f1_aligned

/// The longest n-gram that BLEU counts.
const MAX_ORDER: usize = 4;

/// Corpus BLEU-4: `BLEU = BP · (p_1 · p_2 · p_3 · p_4)^(1/4)` (Papineni, Roukos, Ward & Zhu 2002).
///
/// `p_n` is the part of all predicted n-grams that a reference holds too. An n-gram counts at most as often
/// as it stands in the one reference that has it most often: *clipping*, without which repeating a right
/// token would pay. `BP = min(1, exp(1 − r/c))` punishes shortness, for c the tokens of all predictions and r
/// those of the references closest in length, the shorter of two that are equally close.
///
/// The tokens are those of the sequences as they come: no text is cut up, which is where most differences
/// between two BLEU scores come from (Post 2018).
///
/// There is no smoothing: without a single matching 4-gram the score is 0. (`nltk` takes the smallest
/// positive number for a zero precision and gives a score a little above 0.) Counts are summed over the whole
/// corpus before dividing, so the score is not a mean of scores of words. It equals `sacrebleu` with
/// `smooth_method="none"` and `tokenize="none"`, which prints it times 100.
///
/// # Errors
/// Those of [`word_accuracy`].
// ANCHOR: bleu
pub fn bleu<T: Eq + Hash>(
    predictions: &[Vec<T>],
    references: &[Vec<Vec<T>>],
) -> Result<f64> {
    Ok(Bleu::of(predictions, references)?.score())
}

/// What [`bleu`] counts, over the whole corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bleu {
    /// The n-grams that a reference holds too, clipped, for n = 1 … 4.
    pub matched: [usize; MAX_ORDER],
    /// All n-grams of the predictions, for n = 1 … 4.
    pub total: [usize; MAX_ORDER],
    /// c: the tokens of the predictions.
    pub predicted_length: usize,
    /// r: the tokens of the references closest in length.
    pub reference_length: usize,
}

impl Bleu {
    /// Counts the n-grams of `predictions` and those that are in the references too.
    ///
    /// # Errors
    /// Those of [`word_accuracy`].
    pub fn of<T: Eq + Hash>(
        predictions: &[Vec<T>],
        references: &[Vec<Vec<T>>],
    ) -> Result<Self> {
        check(predictions, references)?;
        let mut counts = Self::default();
        for (prediction, listed) in predictions.iter().zip(references) {
            counts.predicted_length += prediction.len();
            let closeness = |length: &usize| (length.abs_diff(prediction.len()), *length);
            let closest = listed.iter().map(Vec::len).min_by_key(closeness);
            counts.reference_length += closest.unwrap_or(0);
            for order in 1..=MAX_ORDER {
                let listed: Vec<_> =
                    listed.iter().map(|reference| ngrams(reference, order)).collect();
                for (ngram, count) in ngrams(prediction, order) {
                    let most = listed.iter().filter_map(|ngrams| ngrams.get(ngram)).max();
                    counts.matched[order - 1] += count.min(most.copied().unwrap_or(0));
                    counts.total[order - 1] += count;
                }
            }
        }
        Ok(counts)
    }

    /// `p_1 … p_4`; 0 where there is no n-gram.
    pub fn precisions(&self) -> [f64; MAX_ORDER] {
        std::array::from_fn(|n| self.matched[n] as f64 / self.total[n].max(1) as f64)
    }

    /// `BP`: 1 unless the predictions together are shorter than the references.
    pub fn brevity_penalty(&self) -> f64 {
        let ratio = self.reference_length as f64 / self.predicted_length as f64; // may be ∞
        (1.0 - ratio).exp().min(1.0)
    }

    /// `BP · (p_1 · p_2 · p_3 · p_4)^(1/4)`.
    pub fn score(&self) -> f64 {
        let mean = self.precisions().iter().product::<f64>().powf(1.0 / MAX_ORDER as f64);
        self.brevity_penalty() * mean
    }
}

/// How often each run of `order` tokens stands in a sequence.
fn ngrams<T: Eq + Hash>(tokens: &[T], order: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for ngram in tokens.windows(order) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}
// ANCHOR_END: bleu

/// Two systems on the same words, compared word by word.
///
/// Words that both get right, or both wrong, say nothing about which is better; what counts are those in which they
/// differ (McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paired {
    /// All words.
    pub words: usize,
    /// Words that only the first system gets right.
    pub only_first: usize,
    /// Words that only the second gets right.
    pub only_second: usize,
}

impl Paired {
    /// Compares what two systems predict of each word.
    ///
    /// # Errors
    /// Those of [`word_accuracy`], for either of the two.
    pub fn of<T: PartialEq>(
        first: &[Vec<T>],
        second: &[Vec<T>],
        references: &[Vec<Vec<T>>],
    ) -> Result<Self> {
        check(first, references)?;
        check(second, references)?;
        let (mut only_first, mut only_second) = (0, 0);
        for ((first, second), listed) in first.iter().zip(second).zip(references) {
            match (listed.contains(first), listed.contains(second)) {
                (true, false) => only_first += 1,
                (false, true) => only_second += 1,
                _ => {}
            }
        }
        Ok(Self { words: references.len(), only_first, only_second })
    }

    /// By how much the second system's accuracy is higher: `(c − b) / n`, where only the first is right on `b` words of `n`
    /// and only the second on `c`.
    pub fn gained(&self) -> f64 {
        (self.only_second as f64 - self.only_first as f64) / self.words as f64
    }

    /// The standard error of [`Paired::gained`]: `√(b + c − (c − b)² / n) / n`.
    pub fn standard_error(&self) -> f64 {
        let n = self.words as f64;
        let differ = (self.only_first + self.only_second) as f64;
        (differ - n * self.gained().powi(2)).sqrt() / n
    }
}

/// All scores of one set of predictions.
// ANCHOR: scores
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How many words were scored.
    pub words: usize,
    /// See [`word_error_rate`].
    pub word_error_rate: f64,
    /// See [`phoneme_error_rate`].
    pub phoneme_error_rate: f64,
    /// Micro F1 of the predictions aligned to their nearest references; see [`f1_aligned`].
    pub f1_micro: f64,
    /// Macro F1 of the same.
    pub f1_macro: f64,
    /// See [`bleu`].
    pub bleu: f64,
}

impl Scores {
    /// Scores `predictions`, one a word, against the acceptable pronunciations of each word.
    ///
    /// # Errors
    /// Those of [`word_accuracy`].
    pub fn of<T: Ord + Hash + Clone>(
        predictions: &[Vec<T>],
        references: &[Vec<Vec<T>>],
    ) -> Result<Self> {
        let nearest = nearest(predictions, references)?;
        let f1 =
            f1_aligned(predictions.iter().zip(nearest).flat_map(|(p, r)| align(p, r)))?;
        Ok(Self {
            words: predictions.len(),
            word_error_rate: word_error_rate(predictions, references)?,
            phoneme_error_rate: phoneme_error_rate(predictions, references)?,
            f1_micro: f1.micro,
            f1_macro: f1.macro_average,
            bleu: bleu(predictions, references)?,
        })
    }
}
// ANCHOR_END: scores

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "words              {:>9}", self.words)?;
        writeln!(f, "word error rate    {:>7.2} %", 100.0 * self.word_error_rate)?;
        writeln!(f, "phoneme error rate {:>7.2} %", 100.0 * self.phoneme_error_rate)?;
        writeln!(f, "F1, micro          {:>7.2} %", 100.0 * self.f1_micro)?;
        writeln!(f, "F1, macro          {:>7.2} %", 100.0 * self.f1_macro)?;
        write!(f, "BLEU-4             {:>7.2} %", 100.0 * self.bleu)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }

    /// Lines of `prediction = reference / another reference`.
    fn corpus(text: &str) -> (Vec<Vec<&str>>, Vec<Vec<Vec<&str>>>) {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines
            .map(|(p, references)| {
                (tokens(p), references.split('/').map(tokens).collect())
            })
            .unzip()
    }

    fn bleu_of(text: &str) -> f64 {
        let (predictions, references) = corpus(text);
        bleu(&predictions, &references).unwrap()
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    const SIX_WORDS: &str = "T AH F = T AH F
        K AO F T = K AA F / K AO F
        TH R UW = TH R UW / TH ER UW
        AH T EH N CH AH N = AH T EH N SH AH N
        DH OW OW OW OW = DH OW
        S EH L F = S EH L F / S EH L F S";

    #[test]
    fn two_systems_are_compared_where_they_differ() {
        let text = ["a = a / x", "b = b", "c = d", "e = f"].join("\n");
        let (first, references) = corpus(&text); // right, right, wrong, wrong
        let second = ["x", "z", "d", "e"].map(tokens).to_vec(); // right, wrong, right, wrong
        let paired = Paired::of(&first, &second, &references).unwrap();
        assert_eq!(paired, Paired { words: 4, only_first: 1, only_second: 1 });
        assert_eq!(paired.gained(), 0.0);
        assert!((paired.standard_error() - 2f64.sqrt() / 4.0).abs() < 1e-12);
        // Where the second is right on every word that the first misses, n differences of 1 do not scatter.
        let all = Paired { words: 9, only_first: 0, only_second: 9 };
        assert_eq!((all.gained(), all.standard_error()), (1.0, 0.0));
        assert!(Paired::of(&first, &second[..3], &references).is_err());
    }

    #[test]
    fn word_scores_count_whole_words() {
        let (predictions, references) = corpus(SIX_WORDS);
        close(word_accuracy(&predictions, &references).unwrap(), 0.5);
        close(word_error_rate(&predictions, &references).unwrap(), 0.5);
        let (predictions, references) = corpus("K AO F = K AA F / K AO F");
        close(word_error_rate(&predictions, &references).unwrap(), 0.0);
    }

    #[test]
    fn the_phoneme_error_rate_equals_that_of_jiwer_4_0_0() {
        let (predictions, references) = corpus(SIX_WORDS);
        close(
            phoneme_error_rate(&predictions, &references).unwrap(),
            0.22727272727272727,
        );
        // 5 of 22
    }

    #[test]
    fn of_equally_near_references_the_first_listed_counts() {
        let (predictions, references) = corpus("A B C = A B / A B C D");
        assert_eq!(nearest(&predictions, &references).unwrap(), [&references[0][0]]);
        close(phoneme_error_rate(&predictions, &references).unwrap(), 1.0 / 2.0);
        let (predictions, references) = corpus("A B C = A B C D / A B");
        close(phoneme_error_rate(&predictions, &references).unwrap(), 1.0 / 4.0);
    }

    #[test]
    fn an_error_rate_may_exceed_one() {
        let (predictions, references) = corpus("B C D = A");
        close(phoneme_error_rate(&predictions, &references).unwrap(), 3.0);
    }

    #[test]
    fn f1_equals_that_of_scikit_learn_1_9_1() {
        let predicted = tokens("T AH F K AO F T TH R UW AH N N");
        let actual = tokens("T AH F K AA F F TH R UW UW N M");
        let f1 = f1(&predicted, &actual).unwrap();
        close(f1.micro, 0.6923076923076923);
        close(f1.macro_average, 0.5878787878787879);
        let thirds = 2.0 / 3.0;
        let expected = [
            ("AA", 0.0),
            ("AH", thirds),
            ("AO", 0.0),
            ("F", 0.8),
            ("K", 1.0),
            ("M", 0.0),
            ("N", thirds),
            ("R", 1.0),
            ("T", thirds),
            ("TH", 1.0),
            ("UW", thirds),
        ];
        let found = f1.per_class.iter().map(|(class, counts)| (*class, counts.f1()));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn precision_and_recall_part_where_a_class_is_guessed_too_often() {
        let (predicted, actual) =
            (tokens("AH AH AH AH IH IH"), tokens("AH AH AH IH IH EH"));
        let f1 = f1(&predicted, &actual).unwrap();
        let ah = f1.per_class["AH"];
        assert_eq!(ah, Counts { right: 3, predicted: 4, actual: 3 });
        close(ah.precision(), 0.75);
        close(ah.recall(), 1.0);
        // Never predicted: its precision is 0 of 0.
        close(f1.per_class["EH"].precision(), 0.0);
        close(f1.mean(Counts::precision), (0.75 + 0.5 + 0.0) / 3.0);
        close(f1.mean(Counts::recall), (1.0 + 0.5 + 0.0) / 3.0);
        // With a label at each place, one too many is one too few elsewhere.
        close(f1.total.precision(), f1.total.recall());
    }

    #[test]
    fn tokens_too_many_and_too_few_lower_f1() {
        let (predicted, actual) = (["T", "AH", "F"], ["T", "AW", "L", "F"]);
        let f1 = f1_aligned(align(&predicted, &actual)).unwrap();
        close(f1.micro, 2.0 * 2.0 / (3.0 + 4.0));
        close(f1.macro_average, (1.0 + 1.0) / 5.0); // T, F right; AH, AW, L wrong
    }

    #[test]
    fn alignment_prefers_substitutions_seen_from_the_end() {
        let pairs = align(&["T", "AH", "F"], &["T", "AW", "L", "F"]);
        let shown: Vec<_> = pairs
            .iter()
            .map(|(p, a)| [p.map_or("–", |p| *p), a.map_or("–", |a| *a)].concat())
            .collect();
        assert_eq!(shown, ["TT", "–AW", "AHL", "FF"]);
    }

    #[test]
    fn bleu_equals_that_of_sacrebleu_2_6_0() {
        close(bleu_of(SIX_WORDS), 0.5156007019578839);
        // Predictions shorter than every reference: the brevity penalty.
        close(
            bleu_of(
                "AH T EH N CH = AH T EH N CH AH N\nS EH L F = S EH L F S / S EH L F S T",
            ),
            0.7165313105737896,
        );
        // Two references equally close in length: the shorter counts.
        close(bleu_of("A B C D E = A B C D / A B C D E F"), 1.0);
        // Clipped at the one reference that has the n-gram most often.
        close(bleu_of("A A A A A = A A A B A A A / A A A A C"), 0.7598356856515927);
        // An empty prediction still costs brevity.
        close(bleu_of(" = T AH F\nS EH L F S T = S EH L F S T"), 0.6065306597126336);
        // No 4-gram at all, or none that matches.
        close(bleu_of("T AH F = T AH F"), 0.0);
        close(bleu_of("T AH F K = T AH K F"), 0.0);
    }

    #[test]
    fn the_parts_of_bleu_can_be_looked_at() {
        let (predictions, references) = corpus("A B C D = A B C D E / A B C D E F");
        let bleu = Bleu::of(&predictions, &references).unwrap();
        assert_eq!((bleu.matched, bleu.total), ([4, 3, 2, 1], [4, 3, 2, 1]));
        close(bleu.brevity_penalty(), (1.0 - 5.0 / 4.0_f64).exp());
        let nothing = Bleu::of(&[vec![]], &[vec![vec![1]]]).unwrap();
        assert_eq!((nothing.brevity_penalty(), nothing.score()), (0.0, 0.0));
    }

    #[test]
    fn all_scores_together() {
        let (predictions, references) = corpus(SIX_WORDS);
        let scores = Scores::of(&predictions, &references).unwrap();
        expect_test::expect![[r#"
            words                      6
            word error rate      50.00 %
            phoneme error rate   22.73 %
            F1, micro            87.50 %
            F1, macro            82.50 %
            BLEU-4               51.56 %"#]]
        .assert_eq(&scores.to_string());
        let json = serde_json::to_string(&scores).unwrap();
        assert_eq!(
            serde_json::from_str::<Scores>(&json).unwrap().to_string(),
            scores.to_string()
        );
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let refused = |predictions: &[Vec<u8>], references: &[Vec<Vec<u8>>]| {
            Scores::of(predictions, references).unwrap_err().to_string()
        };
        assert!(refused(&[], &[]).contains("nothing to score"));
        assert!(
            refused(&[vec![1]], &[]).contains("1 predictions and 0 lists of references")
        );
        assert!(refused(&[vec![1]], &[vec![]])
            .contains("word 0, counted from 0, has no reference"));
        assert!(refused(&[vec![1], vec![1]], &[vec![vec![1]], vec![vec![1], vec![]]])
            .contains("word 1"));
        assert!(f1::<u8>(&[], &[]).is_err());
        assert!(f1(&[1], &[1, 2])
            .unwrap_err()
            .to_string()
            .contains("1 predicted labels and 2 actual"));
        assert!(f1_aligned::<u8>([(None, None)]).is_err());
    }

    fn sequence(longest: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0_u8..4, 1..=longest)
    }

    proptest! {
        #[test]
        fn an_alignment_keeps_both_sequences_and_needs_the_fewest_edits(a in sequence(9), b in sequence(9)) {
            let pairs = align(&a, &b);
            prop_assert!(pairs.iter().filter_map(|pair| pair.0).eq(&a));
            prop_assert!(pairs.iter().filter_map(|pair| pair.1).eq(&b));
            let edits = pairs.iter().filter(|(p, r)| p != r).count();
            prop_assert_eq!(edits, strsim::generic_levenshtein(&a, &b));
        }

        #[test]
        fn a_perfect_prediction_scores_perfectly(words in prop::collection::vec(sequence(9), 1..9)) {
            let references: Vec<_> = words.iter().map(|word| vec![word.clone()]).collect();
            let scores = Scores::of(&words, &references).unwrap();
            prop_assert_eq!((scores.word_error_rate, scores.phoneme_error_rate), (0.0, 0.0));
            prop_assert_eq!((scores.f1_micro, scores.f1_macro), (1.0, 1.0));
            let has_4_grams = words.iter().any(|word| word.len() >= MAX_ORDER);
            prop_assert!((scores.bleu - f64::from(u8::from(has_4_grams))).abs() < 1e-12);
        }

        #[test]
        fn micro_f1_of_aligned_labels_is_accuracy(pairs in prop::collection::vec((0_u8..4, 0_u8..4), 1..30)) {
            let (predicted, actual): (Vec<u8>, Vec<u8>) = pairs.iter().copied().unzip();
            let right = pairs.iter().filter(|(p, a)| p == a).count() as f64;
            prop_assert!((f1(&predicted, &actual).unwrap().micro - right / pairs.len() as f64).abs() < 1e-12);
        }

        #[test]
        fn scores_stay_within_their_bounds(
            predictions in prop::collection::vec(sequence(9), 5),
            references in prop::collection::vec(prop::collection::vec(sequence(9), 1..3), 5),
        ) {
            let scores = Scores::of(&predictions, &references).unwrap();
            for score in [scores.word_error_rate, scores.f1_micro, scores.f1_macro, scores.bleu] {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&score));
            }
            prop_assert!(scores.phoneme_error_rate >= 0.0);
        }
    }
}
