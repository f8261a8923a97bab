//! What came of the trials: a file with a line of JSON for each finished one, and never two for one trial.
//!
//! The file is written by one program at a time, which holds a lock beside it, and it is written whole each time. So
//! whoever reads it, and whatever is killed when, there is no half line in it and no line twice.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self_attention::error::{Error, Result};
use self_attention::experiments::trial::{Stability, Trial};
use self_attention::files::write_whole;
use self_attention::training::run::RunConfig;

/// What came of a trial: a line of the results.
// ANCHOR: finished
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// What a person calls the trial.
    pub name: String,
    /// The hash of its settings.
    pub id: String,
    /// How many numbers the model has learned.
    pub parameters: usize,
    /// Optimizer steps taken.
    pub steps: u64,
    /// How good it is; nothing if it diverged.
    pub scores: Option<TrialScores>,
    /// What became of the loss, if it left the range of a float.
    pub diverged: Option<String>,
    /// The mean training loss of each epoch, with dropout.
    pub training_losses: Vec<f64>,
    /// The validation loss after each epoch.
    pub validation_losses: Vec<f64>,
    /// How quietly the training went.
    pub stability: Stability,
    /// The seconds that processors worked on the training: every step, the validation after each epoch, and laying the
    /// batches ready, of all threads together. Not the start of the program, and not the scoring at the end.
    pub core_seconds: f64,
    /// The seconds that passed on the clock during steps and validations. Other programs make them more.
    pub seconds: f64,
    /// How many threads one operation was spread over.
    pub threads: i32,
    /// What the system calls its processor.
    pub processor: String,
    /// All settings.
    pub config: RunConfig,
}

/// How good the model of a trial is, at the epoch with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialScores {
    /// Of the validation words, written greedily.
    pub phoneme_error_rate: f64,
    /// Of the same.
    pub word_error_rate: f64,
    /// The mean cross-entropy of a target of the validation words, without dropout and label smoothing, in nats.
    pub validation_loss: f64,
    /// The same for as many of the training words.
    pub training_loss: f64,
}
// ANCHOR_END: finished

impl Finished {
    /// The same with six decimals: more would only make the file long.
    pub(super) fn rounded(mut self) -> Self {
        let round = |number: &mut f64| *number = (*number * 1e6).round() / 1e6;
        self.training_losses.iter_mut().for_each(round);
        self.validation_losses.iter_mut().for_each(round);
        let Stability {
            median_gradient,
            gradient_deviation,
            largest_gradient,
            clipped,
            rise,
        } = &mut self.stability;
        [median_gradient, gradient_deviation, largest_gradient, clipped, rise]
            .into_iter()
            .for_each(round);
        if let Some(scores) = &mut self.scores {
            let TrialScores {
                phoneme_error_rate,
                word_error_rate,
                validation_loss,
                training_loss,
            } = scores;
            [phoneme_error_rate, word_error_rate, validation_loss, training_loss]
                .into_iter()
                .for_each(round);
        }
        [&mut self.core_seconds, &mut self.seconds].into_iter().for_each(round);
        self
    }
}

/// The finished trials of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    trials: Vec<Finished>,
    places: HashMap<String, usize>,
}

impl Results {
    /// Results of these trials.
    ///
    /// # Errors
    /// [`Error::Input`] if one stands there twice, or under an id that is not its own.
    pub fn new(trials: Vec<Finished>) -> Result<Self> {
        let mut results = Self::default();
        trials.into_iter().try_for_each(|finished| results.add(finished))?;
        Ok(results)
    }

    /// Reads a file of results.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::File`] that names the line that is not a trial, is cut short, or
    /// stands there twice.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let mut results = Self::default();
        for (index, line) in text.lines().enumerate() {
            let refuse = |problem: String| {
                let problem = format!(
                    "line {}: {problem}; delete the line and run the sweep again, which makes that trial anew",
                    index + 1
                );
                Error::file(path, problem)
            };
            let finished = serde_json::from_str(line)
                .map_err(|error| refuse(format!("is not a whole trial: {error}")))?;
            results.add(finished).map_err(|error| refuse(error.to_string()))?;
        }
        Ok(results)
    }

    fn add(&mut self, finished: Finished) -> Result<()> {
        let Finished { name, id, config, .. } = &finished;
        let own = Trial::id_of(config)?;
        if *id != own {
            let problem =
                format!("`{name}` has the id {id}, and its settings have {own}");
            return Err(Error::input("results", problem));
        }
        if self.places.insert(own, self.trials.len()).is_some() {
            let problem = format!("`{name}` ({id}) stands there a second time");
            return Err(Error::input("results", problem));
        }
        self.trials.push(finished);
        Ok(())
    }

    /// What came of the trial with this id, if it is finished.
    pub fn get(&self, id: &str) -> Option<&Finished> {
        self.places.get(id).and_then(|&place| self.trials.get(place))
    }

    /// All trials, in the order of the file.
    pub fn trials(&self) -> &[Finished] {
        &self.trials
    }
}

/// A file of results that this program, and no other, writes to.
#[derive(Debug)]
pub struct ResultsFile {
    path: PathBuf,
    results: Results,
    _lock: File,
}

impl ResultsFile {
    /// Takes possession of a file of results, which need not be there yet.
    ///
    /// # Errors
    /// [`Error::File`] if another program writes to it, and those of [`Results::read`].
    pub fn open(path: &Path) -> Result<Self> {
        let lock = lock(path)?;
        let results = match Results::read(path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Results::default()
            }
            read => read?,
        };
        Ok(Self { path: path.to_owned(), results, _lock: lock })
    }

    /// What is in it.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Adds finished trials. When this comes back, they are on the disk.
    ///
    /// # Errors
    /// [`Error::Input`] if one of them is there already; [`Error::Io`] if the file cannot be written. It is then as it
    /// was.
    // ANCHOR: add
    pub fn add(&mut self, finished: impl IntoIterator<Item = Finished>) -> Result<()> {
        let mut results = self.results.clone();
        finished.into_iter().try_for_each(|finished| results.add(finished))?;
        let mut text = String::new();
        for finished in &results.trials {
            let line = serde_json::to_string(finished)
                .map_err(|error| Error::file(&self.path, error.to_string()))?;
            text += &line;
            text.push('\n');
        }
        write_whole(&self.path, text.as_bytes())?;
        self.results = results;
        Ok(())
    }
    // ANCHOR_END: add

    /// Adds the trials of other files, such as those of shards. A trial that is here already, with the very same line,
    /// is passed over. How many are new comes back.
    ///
    /// # Errors
    /// [`Error::File`] if a trial is here with another outcome, and those of [`Results::read`]; then nothing is added.
    pub fn merge(&mut self, paths: &[PathBuf]) -> Result<usize> {
        let mut new: Vec<Finished> = Vec::new();
        for path in paths {
            for finished in Results::read(path)?.trials {
                let is_same = |other: &&Finished| other.id == finished.id;
                match self.results.get(&finished.id).or(new.iter().find(is_same)) {
                    None => new.push(finished),
                    Some(known) if *known == finished => {}
                    Some(_) => {
                        let problem = format!(
                            "the trial `{}` ({}) was run a second time, with another outcome or another time; \
                             delete one of the two lines",
                            finished.name, finished.id
                        );
                        return Err(Error::file(path, problem));
                    }
                }
            }
        }
        let count = new.len();
        self.add(new)?;
        Ok(count)
    }
}

/// Where the lock of a file of results lies: beside it.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Keeps a file of results for this program, for as long as the file that is handed back lives.
fn lock(path: &Path) -> Result<File> {
    let lock = lock_path(path);
    if let Some(folder) = lock.parent() {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let file = File::create(&lock).map_err(Error::io(&lock))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let problem = "another sweep writes its results there; wait for it, stop it, or give this one another file: --results FILE";
            Err(Error::file(path, problem))
        }
        Err(TryLockError::Error(error)) => Err(Error::io(&lock)(error)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use self_attention::experiments::studies::{studies, trials, Size};

    /// A line that no trial has written: what a trial would have measured. Without an error rate it has diverged.
    pub(crate) fn made_up(trial: &Trial, error_rate: Option<f64>) -> Finished {
        let scores = error_rate.map(|rate| TrialScores {
            phoneme_error_rate: rate,
            word_error_rate: 2.0 * rate,
            validation_loss: 3.0 * rate,
            training_loss: 2.0 * rate,
        });
        Finished {
            name: trial.name.clone(),
            id: trial.id.clone(),
            parameters: 1000,
            steps: 100,
            scores,
            diverged: error_rate.is_none().then(|| "the loss became NaN".to_owned()),
            training_losses: vec![2.0, 1.0],
            validation_losses: vec![1.5, 1.25],
            stability: Stability::default(),
            core_seconds: 50.0,
            seconds: 60.0,
            threads: 1,
            processor: "a processor".into(),
            config: trial.config.clone(),
        }
    }

    fn three() -> Vec<Finished> {
        let trials = trials(&studies(Size::Full).unwrap());
        trials.iter().take(3).map(|trial| made_up(trial, Some(0.25))).collect()
    }

    #[test]
    fn results_come_back_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("trials.jsonl");
        let [first, second, third] = <[_; 3]>::try_from(three()).unwrap();
        let mut file = ResultsFile::open(&path).unwrap();
        assert!(file.results().trials().is_empty());
        file.add([first.clone()]).unwrap();
        file.add([second.clone()]).unwrap();
        let error = file.add([third.clone(), first.clone()]).unwrap_err().to_string();
        assert!(error.contains("stands there a second time"), "{error}");
        let expected = [first, second];
        assert_eq!(file.results().trials(), expected);
        drop(file);
        let read = Results::read(&path).unwrap();
        assert_eq!(read.trials(), expected);
        assert_eq!(read.get(&expected[1].id), Some(&expected[1]));
        assert_eq!(read.get(&third.id), None);
        assert_eq!(ResultsFile::open(&path).unwrap().results(), &read);
    }

    #[test]
    fn two_writers_cannot_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trials.jsonl");
        let first = ResultsFile::open(&path).unwrap();
        let error = ResultsFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("another sweep writes its results there"), "{error}");
        drop(first);
        assert!(ResultsFile::open(&path).is_ok());
    }

    #[test]
    fn a_line_that_is_cut_short_doubled_or_edited_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trials.jsonl");
        let lines: Vec<String> =
            three().iter().map(|trial| serde_json::to_string(trial).unwrap()).collect();
        let whole = lines.join("\n") + "\n";
        let cut = &whole[..whole.len() - 40];
        let doubled = format!("{whole}{}\n", lines[1]);
        let edited = whole.replacen("\"heads\":", "\"heads\": 1", 1);
        let unknown = whole.replace("\"steps\"", "\"stops\"");
        for (text, expected) in [
            (cut, "line 3: is not a whole trial"),
            (&doubled, "stands there a second time; delete the line and run the sweep"),
            (&edited, "and its settings have"),
            (&unknown, "line 1: is not a whole trial: unknown field `stops`"),
            ("\n", "line 1: is not a whole trial"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Results::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert_eq!(ResultsFile::open(&path).unwrap_err().to_string(), error);
            assert_eq!(fs::read_to_string(&path).unwrap(), text); // nothing is touched
        }
        fs::write(&path, whole.trim_end()).unwrap(); // only the last line break is missing
        assert_eq!(Results::read(&path).unwrap().trials(), three());
    }

    #[test]
    fn shards_are_merged_and_a_trial_with_two_outcomes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let trials = three();
        for (name, of_shard) in [("one", &trials[..2]), ("two", &trials[1..])] {
            ResultsFile::open(&path(name)).unwrap().add(of_shard.to_vec()).unwrap();
        }
        let mut all = ResultsFile::open(&path("all")).unwrap();
        assert_eq!(all.merge(&[path("one"), path("two")]).unwrap(), 3);
        assert_eq!(all.merge(&[path("two")]).unwrap(), 0);
        assert_eq!(all.results().trials(), trials);

        let other = Finished { core_seconds: 51.0, ..trials[2].clone() };
        ResultsFile::open(&path("again")).unwrap().add([other]).unwrap();
        let error = all.merge(&[path("again")]).unwrap_err().to_string();
        assert!(error.contains("was run a second time"), "{error}");
        assert!(matches!(all.merge(&[path("none")]), Err(Error::Io { .. })));
        assert_eq!(Results::read(&path("all")).unwrap().trials(), trials);
    }
}
