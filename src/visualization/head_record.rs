//! What was measured of every head of a model, kept in a file beside its weights.
//!
//! To silence each head in turn, and to let the model pronounce thousands of words each time, takes minutes. So it is
//! done once, as with the words of chapter 9 ([`self_attention::evaluation::record`]). The record names the weights it
//! belongs to, and is refused beside any others.
//!
//! All of it is on validation words, in two parts without a word in common. On the *sample* heads are measured and
//! silenced one by one. On the *rest* stands what was chosen by the sample: the best head for reading off letters, and the
//! order in which heads are silenced together. So nothing is scored on the words it was chosen by.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self_attention::data::cmudict::{Dictionary, Entry, Phoneme};
use self_attention::data::evenly;
use self_attention::data::split::Split;
use self_attention::error::{Error, Result};
use self_attention::evaluation::alignment::Aligner;
use self_attention::evaluation::pronouncer::{Card, Pronouncer};
use self_attention::files::write_whole;
use self_attention::visualization::ablation::{
    averaged, others, pronounced, silenced, Counted, Effect, Head, Rates,
};
use self_attention::visualization::heads::{
    diagonal_guess, looked_at, proportional_guess, writers, Agreement, Around, Measures,
    Observer,
};
use self_attention::visualization::inside::{
    mean_contexts, read_words, said_evenly, Inside,
};

/// All that is recorded.
// ANCHOR: head_record
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadRecord {
    /// The command that made it.
    pub command: String,
    /// The hash of the weights, as on their [`Card`].
    pub weights: String,
    /// What each head does.
    pub measured: Measured,
    /// Which letter writes which phoneme, read off the weights in several ways and guessed
    /// in two, against the aligner.
    pub alignments: Vec<ReadOff>,
    /// How often the letter that the best head finds is the n-th for the n-th phoneme, or the last where a word is shorter.
    pub nth_letter: Agreement,
    /// Each head silenced in turn.
    pub alone: Alone,
    /// One head after the other silenced, and the next one with it.
    pub together: Together,
}

/// The measures of all heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// On how many words of the sample.
    pub words: usize,
    /// `[block][head]`
    pub heads: Vec<Vec<Measures>>,
    /// What [`Measures::around_letter`] is of a head that spreads its weight evenly.
    pub around_evenly: Around,
}

/// Letters read off in one way, and how often they are the aligner's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadOff {
    /// How: see [`HeadRecord::WAYS`].
    pub way: String,
    /// Over the words of the rest.
    pub agreement: Agreement,
}

/// Heads silenced one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alone {
    /// The rates of the whole model on the sample.
    pub whole: Rates,
    /// Word by word: edits to the nearest listed pronunciation.
    pub edits: Vec<usize>,
    /// Word by word: the phonemes of that pronunciation.
    pub phonemes: Vec<usize>,
    /// Each head.
    pub heads: Vec<Removed>,
}

/// What becomes of the scores without one head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// Which head.
    pub head: Head,
    /// If it says nothing: see [`silenced`].
    pub silenced: Effect,
    /// If it always says its mean: see [`averaged`].
    pub averaged: Effect,
    /// If its weights are even, the measured words of which it says something else: see [`said_evenly`].
    pub changed_evenly: usize,
    /// Silenced, the words whose count is no longer as in [`Alone`]: their places in the sample …
    pub places: Vec<usize>,
    /// … their edits …
    pub edits: Vec<usize>,
    /// … and the phonemes of the pronunciation that is nearest now.
    pub phonemes: Vec<usize>,
}

/// Heads silenced together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Together {
    /// On how many words of the rest.
    pub words: usize,
    /// The rates of the whole model on these.
    pub whole: Rates,
    /// More and more of them, those first whose silence alone did least harm on the sample.
    pub steps: Vec<Step>,
    /// Any two heads of the first block.
    pub pairs: Vec<Pair>,
}

/// One more head is silenced.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The head that is silenced now, with all before it.
    pub head: Head,
    /// What becomes of the scores.
    pub effect: Effect,
}

/// Two heads are silenced, and no other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Which.
    pub heads: [Head; 2],
    /// What becomes of the scores.
    pub effect: Effect,
}
// ANCHOR_END: head_record

impl HeadRecord {
    /// Words of the sample.
    pub const SAMPLE: usize = 2000;

    /// Words of the sample that measures are taken on.
    pub const MEASURED: usize = 500;

    /// Words of the rest that heads are silenced on together.
    pub const TOGETHER: usize = 1000;

    /// The ways to find a letter for each phoneme: two guesses, and six from weights.
    pub const WAYS: [&'static str; 8] = [
        "the n-th letter for the n-th phoneme",
        "the letter in proportion",
        "the best head",
        "the best head, weight times length",
        "the best head, one row late",
        "the best echo, one row late",
        "the mean of the three best heads",
        "the mean of all heads",
    ];

    /// Measures all heads, and silences each. `watch` hears how many words were pronounced, and of how many.
    ///
    /// # Errors
    /// What the model refuses.
    pub fn make(
        pronouncer: &Pronouncer,
        card: &Card,
        command: &str,
        dictionary: &Dictionary,
        mut watch: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let Pronouncer { model, vocabulary } = pronouncer;
        let (sample, rest) = parts(dictionary);
        let few = evenly(&rest, Self::TOGETHER);
        let heads = Head::all(model);
        let couples = couples(&heads[..model.config.heads as usize]);
        let all = sample.len()
            + rest.len()
            + heads.len() * (2 * sample.len() + few.len())
            + couples.len() * few.len();
        let mut done = 0;
        let mut said = |model: &_, entries: &[&Entry]| {
            let found = pronounced(model, vocabulary, entries)?;
            done += entries.len();
            watch(done, all);
            Ok::<_, Error>(found)
        };

        let before = said(model, &sample)?;
        let of_sample = pairs(&sample, &before.0);
        let training: Vec<&Entry> =
            dictionary.iter().filter(|e| Split::of(&e.word) == Split::Train).collect();
        let aligner = Aligner::train(&training)?;
        let few_said = few_of(&of_sample);
        let measured = measure(pronouncer, &aligner, &few_said)?;
        let rest_said = said(model, &rest)?.0;
        let (alignments, nth_letter) =
            read_off(pronouncer, &aligner, &pairs(&rest, &rest_said), &measured.heads)?;

        let means = mean_contexts(pronouncer, &few_said)?; // [H, D] each
        let mut removed = Vec::new();
        for &head in &heads {
            let zero = said(&silenced(model, &[head])?, &sample)?;
            let mean = means[head.block].f_select(0, head.head as i64)?; // [D]
            let same = said(&averaged(model, head, &mean)?, &sample)?;
            let whole = (&before.0[..], &before.1[..]);
            let differs = |place: &usize| before.1[*place] != zero.1[*place];
            let places: Vec<usize> = (0..sample.len()).filter(differs).collect();
            removed.push(Removed {
                head,
                silenced: Effect::of(whole, (&zero.0, &zero.1))?,
                averaged: Effect::of(whole, (&same.0, &same.1))?,
                changed_evenly: few_said.len()
                    - said_evenly(pronouncer, &few_said, (head.block, head.head))?,
                edits: places.iter().map(|&place| zero.1[place].edits).collect(),
                phonemes: places.iter().map(|&place| zero.1[place].phonemes).collect(),
                places,
            });
        }

        let mut order: Vec<&Removed> = removed.iter().collect();
        let harm = |removed: &Removed| removed.silenced.rise.phoneme_error_rate;
        order.sort_by(|a, b| harm(a).total_cmp(&harm(b)));
        let order: Vec<Head> = order.into_iter().map(|removed| removed.head).collect();
        let whole = pronounced(model, vocabulary, &few)?;
        let mut without = |heads: &[Head]| {
            let less = said(&silenced(model, heads)?, &few)?;
            Effect::of((&whole.0, &whole.1), (&less.0, &less.1))
        };
        let mut steps = Vec::new();
        for (before, &head) in order.iter().enumerate() {
            steps.push(Step { head, effect: without(&order[..=before])? });
        }
        let mut pairs = Vec::new();
        for heads in couples {
            pairs.push(Pair { heads, effect: without(&heads)? });
        }
        Ok(Self {
            command: command.to_owned(),
            weights: card.weights.clone(),
            measured,
            alignments,
            nth_letter,
            alone: Alone {
                whole: Rates::of(&before.1),
                edits: before.1.iter().map(|word| word.edits).collect(),
                phonemes: before.1.iter().map(|word| word.phonemes).collect(),
                heads: removed,
            },
            together: Together {
                words: few.len(),
                whole: Rates::of(&whole.1),
                steps,
                pairs,
            },
        })
    }

    /// The head with the largest alignment score.
    pub fn best(&self) -> Head {
        best_by(&self.measured.heads, |head| head.alignment)[0]
    }

    /// The measures of a head; none if the record has no such head.
    pub fn of(&self, head: Head) -> Option<&Measures> {
        self.measured.heads.get(head.block).and_then(|heads| heads.get(head.head))
    }

    /// How one way to find letters agrees with the aligner.
    pub fn agreement(&self, way: &str) -> Option<&Agreement> {
        self.alignments.iter().find(|read| read.way == way).map(|read| &read.agreement)
    }

    /// Where the record of a model file lies: beside it, ending in `.heads.json`.
    pub fn path(weights: &Path) -> PathBuf {
        weights.with_extension("heads.json")
    }

    /// Reads the record of a model file.
    ///
    /// # Errors
    /// [`Error::Io`] if it is missing, [`Error::File`] if it is damaged, belongs to other weights, or has not a line for
    /// each of the model's heads.
    pub fn read(weights: &Path, card: &Card) -> Result<Self> {
        let path = Self::path(weights);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let record: Self = serde_json::from_str(&text)
            .map_err(|error| Error::file(&path, format!("is damaged: {error}")))?;
        if record.weights != card.weights {
            let problem = format!(
                "belongs to the weights {} and the model has {}; make it again: {}",
                record.weights, card.weights, record.command
            );
            return Err(Error::file(&path, problem));
        }
        let (blocks, heads) = (card.model.blocks as usize, card.model.heads as usize);
        let measured = &record.measured.heads;
        let as_many = measured.len() == blocks
            && measured.iter().all(|of_block| of_block.len() == heads)
            && record.alone.heads.len() == blocks * heads
            && record.together.steps.len() == blocks * heads;
        if !as_many {
            let problem = format!(
                "is damaged: the model has {blocks} × {heads} heads; make it again: {}",
                record.command
            );
            return Err(Error::file(&path, problem));
        }
        Ok(record)
    }

    /// Writes the record of a model file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, weights: &Path) -> Result<()> {
        let path = Self::path(weights);
        let failed = |error: serde_json::Error| Error::file(&path, error.to_string());
        let value = rounded(serde_json::to_value(self).map_err(failed)?);
        let text = serde_json::to_string_pretty(&value).map_err(failed)?;
        write_whole(&path, super::join_short_lists(&text).as_bytes())
    }
}

/// The validation words, in the sample and the rest.
pub fn parts(dictionary: &Dictionary) -> (Vec<&Entry>, Vec<&Entry>) {
    let validation: Vec<&Entry> =
        dictionary.iter().filter(|e| Split::of(&e.word) == Split::Validation).collect();
    let sample = evenly(&validation, HeadRecord::SAMPLE);
    let rest = others(&validation, &sample);
    (sample, rest)
}

/// Any two of some heads.
fn couples(heads: &[Head]) -> Vec<[Head; 2]> {
    let after = |place| heads[place + 1..].iter().copied();
    let with = |(place, &head)| after(place).map(move |other| [head, other]);
    heads.iter().enumerate().flat_map(with).collect()
}

/// A word, and what the model says of it.
type Spoken<'a> = (&'a str, &'a [Phoneme]);

fn pairs<'a>(entries: &[&'a Entry], said: &'a [Vec<Phoneme>]) -> Vec<Spoken<'a>> {
    entries.iter().zip(said).map(|(entry, said)| (&entry.word[..], &said[..])).collect()
}

/// The words that measures are taken on.
fn few_of<'a>(spoken: &[Spoken<'a>]) -> Vec<Spoken<'a>> {
    let count = HeadRecord::MEASURED.min(spoken.len());
    (0..count).map(|place| spoken[place * spoken.len() / count]).collect()
}

/// The measures of all heads while the model reads words with its own pronunciations.
///
/// Its own and not the dictionary's, because the question is what a head does when the model is used. On a word that it
/// gets wrong, its own phonemes are what it was about to say; the dictionary's would show it being corrected. For
/// alignment scores too, only the letters that it took for something can be held against it.
///
/// # Errors
/// What the model refuses.
// ANCHOR: measure
pub fn measure(
    pronouncer: &Pronouncer,
    aligner: &Aligner,
    spoken: &[(&str, &[Phoneme])],
) -> Result<Measured> {
    let mut observer = Observer::default();
    read_words(pronouncer, spoken, |place, inside| {
        let (word, phonemes) = spoken[place];
        let writers = aligner.align(word, phonemes).map(|ranges| writers(&ranges));
        observer.add(inside, writers.as_deref());
        Ok(())
    })?;
    Ok(Measured {
        words: spoken.len(),
        heads: observer.measures(),
        around_evenly: observer.around_evenly(),
    })
}
// ANCHOR_END: measure

/// The words of the sample that measures are taken on, with the pronunciations of the sample, as [`HeadRecord::make`]
/// takes them.
pub fn measured_words<'a>(
    sample: &[&'a Entry],
    said: &'a [Vec<Phoneme>],
) -> Vec<(&'a str, &'a [Phoneme])> {
    few_of(&pairs(sample, said))
}

/// Finds a letter for each phoneme in each of [`HeadRecord::WAYS`], and compares with the aligner; and those of the best
/// head with the n-th for the n-th phoneme.
///
/// # Errors
/// What the model refuses.
pub fn read_off(
    pronouncer: &Pronouncer,
    aligner: &Aligner,
    spoken: &[(&str, &[Phoneme])],
    measures: &[Vec<Measures>],
) -> Result<(Vec<ReadOff>, Agreement)> {
    let by_score = best_by(measures, |head| head.alignment);
    let best = by_score[0];
    let echo = best_by(measures, |head| head.echo)[0];
    let three = &by_score[..by_score.len().min(3)];
    let mut agreements = [Agreement::default(); HeadRecord::WAYS.len()];
    let mut nth_letter = Agreement::default();
    read_words(pronouncer, spoken, |place, inside| {
        let (word, phonemes) = spoken[place];
        let Some(ranges) = aligner.align(word, phonemes) else { return Ok(()) };
        let writers = writers(&ranges);
        let (letters, count) = (word.len(), phonemes.len());
        let of =
            |weights: &[Vec<f64>], later| looked_at(weights, inside.prefix, count, later);
        let of_best = &inside.weights[best.block][best.head];
        let lengths = &inside.lengths[best.block][best.head];
        let contributions: Vec<Vec<f64>> = of_best
            .iter()
            .map(|row| row.iter().zip(lengths).map(|(w, length)| w * length).collect())
            .collect();
        let nth = diagonal_guess(letters, count);
        let best = of(of_best, 0);
        nth_letter.add(&best, &nth);
        let found = [
            nth,
            proportional_guess(letters, count),
            best,
            of(&contributions, 0),
            of(of_best, 1),
            of(&inside.weights[echo.block][echo.head], 1),
            of(&mean(inside, three), 0),
            of(&mean(inside, &by_score), 0),
        ];
        for (agreement, found) in agreements.iter_mut().zip(&found) {
            agreement.add(found, &writers);
        }
        Ok(())
    })?;
    let ways = HeadRecord::WAYS.into_iter().zip(agreements);
    let read = ways.map(|(way, agreement)| ReadOff { way: way.to_owned(), agreement });
    Ok((read.collect(), nth_letter))
}

/// All heads, those first for which `score` is largest.
fn best_by(measures: &[Vec<Measures>], score: impl Fn(&Measures) -> f64) -> Vec<Head> {
    let mut heads: Vec<(Head, f64)> = Vec::new();
    for (block, of_block) in measures.iter().enumerate() {
        for (head, measures) in of_block.iter().enumerate() {
            heads.push((Head { block, head }, score(measures)));
        }
    }
    heads.sort_by(|a, b| b.1.total_cmp(&a.1));
    heads.into_iter().map(|(head, _)| head).collect()
}

/// The mean weights of some heads, `[T][T]`.
fn mean(inside: &Inside, heads: &[Head]) -> Vec<Vec<f64>> {
    let of = |head: &Head| &inside.weights[head.block][head.head];
    let length = heads.first().map_or(0, |head| of(head).len());
    let mut sum = vec![vec![0.0; length]; length];
    for head in heads {
        for (sums, row) in sum.iter_mut().zip(of(head)) {
            sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += w / heads.len() as f64);
        }
    }
    sum
}

/// The same JSON, its numbers with six decimals.
fn rounded(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().map(|number| (number * 1e6).round() / 1e6);
            rounded.map_or(Value::Null, Value::from)
        }
        Value::Array(items) => items.into_iter().map(rounded).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, rounded(value))).collect()
        }
        other => other,
    }
}

impl Alone {
    /// Word by word, how the whole model did.
    pub fn counted(&self) -> Vec<Counted> {
        let words = self.edits.iter().zip(&self.phonemes);
        words.map(|(&edits, &phonemes)| Counted { edits, phonemes }).collect()
    }

    /// Word by word, how the model did with that head silenced.
    pub fn counted_without(&self, removed: &Removed) -> Vec<Counted> {
        let mut counted = self.counted();
        let changes = removed.edits.iter().zip(&removed.phonemes);
        for (&place, (&edits, &phonemes)) in removed.places.iter().zip(changes) {
            if let Some(word) = counted.get_mut(place) {
                *word = Counted { edits, phonemes };
            }
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visualization::heads::REACH;
    use self_attention::block::NormPlacement;
    use self_attention::visualization::inside::tests::{phonemes, pronouncer};

    fn aligner() -> Aligner {
        let dictionary = Dictionary::parse(
            b"no N OW1\nin IH1 N\nknit N IH1 T\nkin K IH1 N\ntin T IH1 N\nton T AH1 N",
        )
        .unwrap();
        Aligner::train(&dictionary.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_is_read_off_is_what_each_way_says() {
        let pronouncer = pronouncer(NormPlacement::Pre);
        let knit = phonemes("N IH T");
        let spoken = [("knit", &knit[..])];
        let measured = measure(&pronouncer, &aligner(), &spoken).unwrap();
        assert_eq!((measured.words, measured.heads.len()), (1, 2));
        let chance = (1.0 / 5.0 + 1.0 / 6.0 + 1.0 / 7.0) / 3.0;
        assert!((measured.around_evenly[REACH] - chance).abs() < 1e-12);

        let (found, nth_letter) =
            read_off(&pronouncer, &aligner(), &spoken, &measured.heads).unwrap();
        let of = |way: usize| found[way].agreement;
        assert!(found.iter().map(|read| &read.way[..]).eq(HeadRecord::WAYS));
        assert!(found.iter().all(|read| read.agreement.phonemes == 3));
        // N is written by n, the second letter; so the n-th letter is wrong each time, and next to the right one.
        assert_eq!(of(0), Agreement { phonemes: 3, same: 0, near: 3 });
        assert_eq!(proportional_guess(4, 3), [0, 2, 3]);
        assert_eq!(of(1), Agreement { phonemes: 3, same: 2, near: 3 });
        let best = best_by(&measured.heads, |head| head.alignment);
        let mut seen = None;
        read_words(&pronouncer, &spoken, |_, inside| {
            seen = Some(inside.clone());
            Ok(())
        })
        .unwrap();
        let seen = seen.unwrap();
        let mut expected = Agreement::default();
        let weights = &seen.weights[best[0].block][best[0].head];
        expected.add(&looked_at(weights, 5, 3, 0), &[1, 2, 3]);
        assert_eq!(of(2), expected);
        let mut expected = Agreement::default();
        expected.add(&looked_at(weights, 5, 3, 0), &[0, 1, 2]);
        assert_eq!(nth_letter, expected);
        // A mean over heads is a row of weights again.
        for row in mean(&seen, &best) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(mean(&seen, &best[..1]), *weights);
    }

    #[test]
    fn any_two_heads_are_a_couple_once() {
        let heads = [0, 1, 2].map(|head| Head { block: 0, head });
        let [a, b, c] = heads;
        assert_eq!(couples(&heads), [[a, b], [a, c], [b, c]]);
    }

    #[test]
    fn numbers_are_rounded_wherever_they_stand() {
        let value =
            serde_json::json!({"a": [0.123_456_789, 3], "b": {"c": 1e-9, "d": "x"}});
        let expected =
            serde_json::json!({"a": [0.123_457, 3], "b": {"c": 0.0, "d": "x"}});
        assert_eq!(rounded(value), expected);
    }

    #[test]
    fn the_two_parts_have_no_word_in_common() {
        let dictionary = Dictionary::embedded().unwrap();
        let (sample, rest) = parts(&dictionary);
        assert_eq!(sample.len(), HeadRecord::SAMPLE);
        let validation =
            dictionary.iter().filter(|e| Split::of(&e.word) == Split::Validation).count();
        assert_eq!(sample.len() + rest.len(), validation);
        assert!(rest.iter().all(|entry| !sample.contains(entry)));
    }
}
