//! What a model said of every word of one part of the dictionary, kept in a file beside its weights.
//!
//! To let a model write thousands of words takes minutes, and there are many questions to ask of what it wrote. So it is
//! asked once. The record names the weights it belongs to, and is refused beside any others.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self_attention::data::cmudict::{text as text_of, Entry};
use self_attention::error::{Error, Result};
use self_attention::evaluation::comparison::score;
use self_attention::evaluation::decoding::{BeamSearch, Hypothesis};
use self_attention::evaluation::metrics::Scores;
use self_attention::evaluation::pronouncer::{Card, Pronouncer};
use self_attention::evaluation::teacher_forced::{teacher_forced, TeacherForced};
use self_attention::files::write_whole;

/// The words that one search is given at a time.
const GROUP: usize = 256;

/// All that is recorded.
// ANCHOR: record
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What is true of all words together.
    pub summary: Summary,
    /// What was said of each word.
    pub said: Vec<Said>,
}

/// The first line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The command that made it.
    pub command: String,
    /// The hash of the weights that spoke, as on their [`Card`].
    pub weights: String,
    /// The scores when the right phonemes are given.
    pub teacher_forced: TeacherForced,
    /// The scores of each way to search.
    pub searches: Vec<Searched>,
}

/// How one way to search did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Searched {
    /// How many beams; 1 is greedy.
    pub beams: usize,
    /// The exponent of the length penalty; 0 is none.
    pub length_penalty: f64,
    /// How far what it found is from the dictionary.
    pub scores: Scores,
    /// The mean log-probability of what it found.
    pub log_probability: f64,
    /// The mean number of phonemes it found.
    pub phonemes: f64,
}

/// A further line of the file: one word.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The word.
    pub word: String,
    /// What greedy decoding wrote.
    pub greedy: Hypothesis,
    /// The best of [`Record::BEAMS`] beams.
    pub beams: Hypothesis,
}
// ANCHOR_END: record

/// A line as it stands in the file: a word, and two pronunciations with their log-probabilities.
type Line = (String, String, f64, String, f64);

impl Record {
    /// How many beams the second pronunciation of each word was searched with.
    pub const BEAMS: usize = 5;

    /// The ways to search: beams and length penalty.
    const SEARCHES: [(usize, f64); 4] =
        [(1, 0.0), (2, 0.0), (Self::BEAMS, 0.0), (Self::BEAMS, 1.0)];

    /// Where among these greedy decoding stands.
    const GREEDY: usize = 0;

    /// Where the search stands that gave [`Said::beams`].
    const WITH_BEAMS: usize = 2;

    /// Lets a model pronounce words in each way there is. `watch` hears how many words are done, and of how many.
    ///
    /// # Errors
    /// What the model or the scores refuse.
    pub fn make(
        pronouncer: &Pronouncer,
        card: &Card,
        command: &str,
        entries: &[&Entry],
        mut watch: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let Pronouncer { model, vocabulary } = pronouncer;
        let words: Vec<&str> = entries.iter().map(|entry| entry.word.as_str()).collect();
        let mut found: Vec<Vec<Hypothesis>> = Vec::new();
        for (done, (beams, length_penalty)) in Self::SEARCHES.into_iter().enumerate() {
            let mut hypotheses = Vec::with_capacity(words.len());
            for group in words.chunks(GROUP) {
                let search = BeamSearch::new(beams).with_length_penalty(length_penalty);
                let best = search.search(model, vocabulary, group)?;
                hypotheses.extend(
                    best.into_iter().filter_map(|beams| beams.into_iter().next()),
                );
                watch(
                    done * words.len() + hypotheses.len(),
                    Self::SEARCHES.len() * words.len(),
                );
            }
            found.push(hypotheses);
        }
        let searches =
            Self::SEARCHES.iter().zip(&found).map(|(&(beams, length_penalty), found)| {
                let mean = |number: fn(&Hypothesis) -> f64| {
                    found.iter().map(number).sum::<f64>() / found.len() as f64
                };
                let predicted: Vec<_> =
                    found.iter().map(|found| found.phonemes.clone()).collect();
                Ok(Searched {
                    beams,
                    length_penalty,
                    scores: score(&predicted, entries)?,
                    log_probability: mean(|found| found.log_probability),
                    phonemes: mean(|found| found.phonemes.len() as f64),
                })
            });
        let summary = Summary {
            command: command.to_owned(),
            weights: card.weights.clone(),
            teacher_forced: teacher_forced(model, vocabulary, entries)?,
            searches: searches.collect::<Result<_>>()?,
        };
        let pairs = found[Self::GREEDY].iter().zip(&found[Self::WITH_BEAMS]);
        let said = words.into_iter().zip(pairs).map(|(word, (greedy, beams))| Said {
            word: word.to_owned(),
            greedy: greedy.clone(),
            beams: beams.clone(),
        });
        Ok(Self { summary, said: said.collect() })
    }

    /// The scores of [`Said::greedy`].
    pub fn greedy_scores(&self) -> &Scores {
        &self.summary.searches[Self::GREEDY].scores
    }

    /// The scores of [`Said::beams`].
    pub fn beams_scores(&self) -> &Scores {
        &self.summary.searches[Self::WITH_BEAMS].scores
    }

    /// Where the record of a model file lies: beside it, ending in `.validation.jsonl`.
    pub fn path(weights: &Path) -> PathBuf {
        weights.with_extension("validation.jsonl")
    }

    /// Reads the record of a model file.
    ///
    /// # Errors
    /// [`Error::Io`] if it is missing, [`Error::File`] if it is damaged or belongs to other weights.
    pub fn read(weights: &Path, card: &Card) -> Result<Self> {
        let path = Self::path(weights);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let damaged =
            |error: serde_json::Error| Error::file(&path, format!("is damaged: {error}"));
        let mut lines = text.lines();
        let summary: Summary =
            serde_json::from_str(lines.next().unwrap_or_default()).map_err(damaged)?;
        if summary.weights != card.weights {
            let problem = format!(
                "belongs to the weights {} and the model has {}; make it again: {}",
                summary.weights, card.weights, summary.command
            );
            return Err(Error::file(&path, problem));
        }
        let said = lines.map(|line| {
            let (word, greedy, greedy_log, beams, beams_log): Line =
                serde_json::from_str(line).map_err(damaged)?;
            let hypothesis = |text: &str, log_probability| {
                let phonemes =
                    text.split_whitespace().map(str::parse).collect::<Result<_>>()?;
                Ok::<_, Error>(Hypothesis { phonemes, log_probability })
            };
            Ok(Said {
                word,
                greedy: hypothesis(&greedy, greedy_log)?,
                beams: hypothesis(&beams, beams_log)?,
            })
        });
        Ok(Self { summary, said: said.collect::<Result<_>>()? })
    }

    /// Writes the record of a model file: a line for the summary and one for each word.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, weights: &Path) -> Result<()> {
        let path = Self::path(weights);
        let failed = |error: serde_json::Error| Error::file(&path, error.to_string());
        let mut text = serde_json::to_string(&self.summary).map_err(failed)?;
        for Said { word, greedy, beams } in &self.said {
            let rounded =
                |found: &Hypothesis| (found.log_probability * 1e5).round() / 1e5;
            let line: Line = (
                word.clone(),
                text_of(&greedy.phonemes),
                rounded(greedy),
                text_of(&beams.phonemes),
                rounded(beams),
            );
            text += "\n";
            text += &serde_json::to_string(&line).map_err(failed)?;
        }
        write_whole(&path, (text + "\n").as_bytes())
    }
}
