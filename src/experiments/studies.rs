//! The five studies of chapter 11: which trials answer which question.
//!
//! Each study turns one knob, or two together, and holds everything else at the [baseline](Size::baseline): the same
//! words, as often, in batches of the same size, so the same number of steps. That is an equal budget of *data*, not of
//! time: what a setting costs is a part of the answer. The learning rate is held, too, except where it is the question;
//! a setting that would do better with another one is not given it.
//!
//! | study         | question | it turns                     | beside the baseline's it holds                            |
//! |---------------|----------|------------------------------|-----------------------------------------------------------|
//! | `heads`       | Q30      | heads                        | the width, so more heads are narrower: `D = E / H`        |
//! | `width`       | Q31      | width `E`, with `F = 4E`     | the number of heads, so wider heads, as many looks        |
//! | `blocks`      | Q32      | blocks                       | everything else                                           |
//! | `rates`       | Q33      | learning rate and dropout    | everything else                                           |
//! | `activations` | Q34      | activation and learning rate | everything else                                           |
//!
//! Every setting is run with the same four seeds. The baseline is small, so that all of it fits into an hour or so, and
//! yet not too small to learn something: of the phonemes of words it has never seen it gets five in six right. It sees
//! few enough words, often enough, to learn some of them by heart, or dropout would have nothing to prevent.
//!
//! The validation words are those of the split; the test words are not touched.

use std::collections::HashSet;

use self_attention::data::vocabulary::Vocabulary;
use self_attention::error::{Error, Result};
use self_attention::experiments::trial::Trial;
use self_attention::feed_forward::Activation;
use self_attention::model::TransformerConfig;
use self_attention::training::run::{DataConfig, RunConfig};
use self_attention::training::trainer::TrainingConfig;

/// One question, and the trials that answer it.
// ANCHOR: study
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The number of the question it answers.
    pub question: usize,
    /// What it turns.
    pub knobs: &'static [&'static str],
    /// The settings it compares.
    pub settings: Vec<Setting>,
    /// For each setting a trial with each seed.
    pub trials: Vec<Vec<Trial>>,
}

/// One position of the knobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// What it is called: the value of each knob, as in `8`, or `0.003/0.1` if there are two.
    pub name: String,
    /// All settings but for the seed.
    pub config: RunConfig,
}
// ANCHOR_END: study

/// How large the trials are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Those of the book: an hour and more on two cores.
    Full,
    /// Too small to say anything, and done within a minute: for tests.
    Quick,
}

impl Size {
    /// The trial that all studies share.
    // ANCHOR: baseline
    pub fn baseline(self) -> RunConfig {
        let model = TransformerConfig::new(Vocabulary::new().len() as i64);
        let training = TrainingConfig::default();
        match self {
            Self::Full => RunConfig {
                model: model.with_blocks(2).with_width(64).with_heads(4),
                data: DataConfig {
                    words: Some(10_000),
                    validation_words: Some(2_000),
                    common_times: 1,
                },
                training: TrainingConfig {
                    epochs: 15,
                    tokens_per_batch: 512,
                    learning_rate: 3e-3,
                    dropout: 0.05,
                    label_smoothing: 0.0, // so that losses are plain cross-entropies
                    ..training
                },
            },
            Self::Quick => RunConfig {
                model: model.with_blocks(2).with_width(16).with_heads(4),
                data: DataConfig {
                    words: Some(150),
                    validation_words: Some(6),
                    common_times: 1,
                },
                training: TrainingConfig {
                    epochs: 2,
                    tokens_per_batch: 256,
                    learning_rate: 3e-3,
                    dropout: 0.05,
                    label_smoothing: 0.0,
                    ..training
                },
            },
        }
    }
    // ANCHOR_END: baseline

    /// The seeds that each setting is run with.
    fn seeds(self) -> std::ops::RangeInclusive<u64> {
        match self {
            Self::Full => 1..=4,
            Self::Quick => 1..=2,
        }
    }
}

/// The studies of chapter 11, in the order of the questions.
///
/// # Errors
/// As [`Trial::new`].
// ANCHOR: studies
pub fn studies(size: Size) -> Result<[Study; 5]> {
    let base = size.baseline();
    let width = base.model.width;
    Ok([
        study(size, "heads", 30, &["heads"], {
            let heads = [1, 2, 4, 8, 16];
            heads.map(|heads| {
                set(&base, &heads.to_string(), |run| run.model.heads = heads)
            })
        })?,
        study(size, "width", 31, &["width"], {
            let widths = [width / 4, width / 2, width, width * 2];
            widths.map(|width| {
                set(&base, &width.to_string(), |run| {
                    run.model = run.model.clone().with_width(width)
                })
            })
        })?,
        study(size, "blocks", 32, &["blocks"], {
            let blocks = [1, 2, 3, 4, 6];
            blocks.map(|blocks| {
                set(&base, &blocks.to_string(), |run| run.model.blocks = blocks)
            })
        })?,
        study(size, "rates", 33, &["learning rate", "dropout"], {
            grid([1e-3, 3e-3, 1e-2, 3e-2], [0.0, 0.05, 0.1, 0.2]).map(
                |(rate, dropout)| {
                    set(&base, &format!("{rate}/{dropout}"), |run| {
                        run.training.learning_rate = rate;
                        run.training.dropout = dropout;
                    })
                },
            )
        })?,
        study(size, "activations", 34, &["activation", "learning rate"], {
            grid(ACTIVATIONS, [3e-3, 1e-2, 3e-2]).map(|((name, activation), rate)| {
                set(&base, &format!("{name}/{rate}"), |run| {
                    run.model.activation = activation;
                    run.training.learning_rate = rate;
                })
            })
        })?,
    ])
}
// ANCHOR_END: studies

/// What stands between the two layers of the feed-forward network.
const ACTIVATIONS: [(&str, Activation); 4] = [
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("silu", Activation::Silu),
    ("identity", Activation::Identity),
];

/// Each of the one with each of the other.
fn grid<A: Copy, B: Copy, const M: usize, const N: usize>(
    rows: [A; M],
    columns: [B; N],
) -> impl Iterator<Item = (A, B)> {
    rows.into_iter().flat_map(move |row| columns.map(|column| (row, column)))
}

/// The baseline with a change.
fn set(base: &RunConfig, name: &str, change: impl FnOnce(&mut RunConfig)) -> Setting {
    let mut config = base.clone();
    change(&mut config);
    Setting { name: name.to_owned(), config }
}

fn study(
    size: Size,
    name: &'static str,
    question: usize,
    knobs: &'static [&'static str],
    settings: impl IntoIterator<Item = Setting>,
) -> Result<Study> {
    let settings: Vec<Setting> = settings.into_iter().collect();
    let base = size.baseline();
    let trials = settings.iter().map(|Setting { config, .. }| {
        size.seeds().map(|seed| Trial::new(config, seed, &base)).collect()
    });
    let trials = trials.collect::<Result<_>>()?;
    Ok(Study { name, question, knobs, settings, trials })
}

impl Study {
    /// The names of all studies, in the order of the questions.
    pub const NAMES: [&'static str; 5] =
        ["heads", "width", "blocks", "rates", "activations"];

    /// The place of a setting in [`Study::settings`] and [`Study::trials`].
    ///
    /// # Errors
    /// [`Error::Input`] if there is no such setting.
    pub fn position(&self, setting: &str) -> Result<usize> {
        let found = self.settings.iter().position(|known| known.name == setting);
        found.ok_or_else(|| {
            let names: Vec<&str> =
                self.settings.iter().map(|setting| &setting.name[..]).collect();
            let problem = format!("`{setting}` is none of {}", names.join(", "));
            Error::input("setting of the study", problem)
        })
    }

    /// The setting that all studies share.
    ///
    /// # Errors
    /// [`Error::Input`] if the study leaves it out.
    pub fn baseline(&self, size: Size) -> Result<&Setting> {
        let base = size.baseline();
        let found = self.settings.iter().find(|setting| setting.config == base);
        found.ok_or_else(|| {
            Error::input("study", format!("`{}` has no baseline", self.name))
        })
    }
}

/// The trials of studies, each once, though several studies may need it. All settings with the first seed come first, so
/// that a sweep that is cut off has seen everything once rather than a part of it thrice.
pub fn trials(studies: &[Study]) -> Vec<Trial> {
    let all = || studies.iter().flat_map(|study| &study.trials);
    let rounds = all().map(Vec::len).max().unwrap_or(0);
    let mut seen = HashSet::new();
    (0..rounds)
        .flat_map(|round| all().filter_map(move |of_a_setting| of_a_setting.get(round)))
        .filter(|trial| seen.insert(trial.id.clone()))
        .cloned()
        .collect()
}

/// A part of all trials, so that a sweep can be spread over machines.
// ANCHOR: shard
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 1.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

impl Shard {
    /// Every `of`-th trial, beginning with the `index`-th. Together the parts are everything, and no two share a trial.
    pub fn part<'a, T>(&self, trials: &'a [T]) -> impl Iterator<Item = &'a T> {
        trials.iter().skip(self.index - 1).step_by(self.of)
    }
}
// ANCHOR_END: shard

impl std::str::FromStr for Shard {
    type Err = Error;

    /// Reads `i/n`, as in `2/3`.
    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').map(|(index, of)| (index.parse(), of.parse()));
        match numbers {
            Some((Ok(index), Ok(of))) if (1..=of).contains(&index) => {
                Ok(Self { index, of })
            }
            _ => {
                let problem =
                    format!("`{text}` is not a part such as 2/3, the second of three");
                Err(Error::input("shard", problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_study_turns_its_knobs_and_nothing_else() {
        for size in [Size::Full, Size::Quick] {
            let base = size.baseline();
            for Study { name, knobs, settings, trials, .. } in studies(size).unwrap() {
                assert!(settings.len() >= 4, "{name}");
                let seeds = if size == Size::Full { 3 } else { 2 };
                assert!(trials.iter().all(|trials| trials.len() >= seeds), "{name}");
                let shared = settings.iter().filter(|setting| setting.config == base);
                assert_eq!(shared.count(), 1, "{name}");
                for Setting { name: setting, config } in &settings {
                    // Put back what the study turns, and the baseline must be left.
                    let mut config = config.clone();
                    for knob in knobs {
                        match *knob {
                            "heads" => config.model.heads = base.model.heads,
                            "width" => {
                                config.model = config.model.with_width(base.model.width)
                            }
                            "blocks" => config.model.blocks = base.model.blocks,
                            "learning rate" => {
                                config.training.learning_rate =
                                    base.training.learning_rate
                            }
                            "dropout" => config.training.dropout = base.training.dropout,
                            "activation" => {
                                config.model.activation = base.model.activation
                            }
                            knob => panic!("{name}: what is {knob}?"),
                        }
                    }
                    assert_eq!(config, base, "{name}, {setting}");
                    assert_eq!(
                        setting.split('/').count(),
                        knobs.len(),
                        "{name}, {setting}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_studies_answer_questions_30_to_34() {
        let studies = studies(Size::Full).unwrap();
        assert_eq!(studies.each_ref().map(|study| study.name), Study::NAMES);
        assert_eq!(studies.map(|study| study.question), [30, 31, 32, 33, 34]);
    }

    #[test]
    fn settings_and_trials_are_told_apart_by_their_names() {
        for size in [Size::Full, Size::Quick] {
            let studies = studies(size).unwrap();
            for study in &studies {
                let names: HashSet<_> = study.settings.iter().map(|s| &s.name).collect();
                assert_eq!(names.len(), study.settings.len(), "{}", study.name);
                assert!(study.baseline(size).is_ok());
            }
            let trials = trials(&studies);
            let count = |of: fn(&Trial) -> &String| {
                trials.iter().map(of).collect::<HashSet<_>>().len()
            };
            assert_eq!(count(|trial| &trial.id), trials.len());
            assert_eq!(count(|trial| &trial.name), trials.len());
            let all: usize =
                studies.iter().flat_map(|study| &study.trials).map(Vec::len).sum();
            assert!(trials.len() < all, "the baseline is run once");
            assert!(trials.iter().take(10).all(|trial| trial.config.training.seed == 1));
        }
    }

    #[test]
    fn every_setting_makes_a_model() {
        use tch::{nn, Device};
        for size in [Size::Full, Size::Quick] {
            for setting in studies(size).unwrap().iter().flat_map(|study| &study.settings)
            {
                let store = nn::VarStore::new(Device::Cpu);
                assert!(
                    setting.config.model.init(&store.root()).is_ok(),
                    "{}",
                    setting.name
                );
            }
        }
    }

    proptest! {
        #[test]
        fn shards_are_a_partition(trials in 0usize..200, of in 1usize..20) {
            let trials: Vec<usize> = (0..trials).collect();
            let mut together: Vec<usize> = Vec::new();
            let mut sizes = Vec::new();
            for index in 1..=of {
                let shard: Shard = format!("{index}/{of}").parse().unwrap();
                let part: Vec<usize> = shard.part(&trials).copied().collect();
                sizes.push(part.len());
                together.extend(part);
            }
            together.sort_unstable();
            prop_assert_eq!(together, trials);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn a_shard_that_is_none_is_refused() {
        for text in ["", "1", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/3"] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("is not a part such as 2/3"), "{error}");
        }
    }
}
