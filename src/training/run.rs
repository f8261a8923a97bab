//! All settings of a run in one file: it is written beside the result, and a run can be started from it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self_attention::data::batch::Example;
use self_attention::data::cmudict::{Dictionary, Entry};
use self_attention::data::split::Split;
use self_attention::data::vocabulary::{Vocabulary, SEP};
use self_attention::data::{common_examples, evenly, examples_of};
use self_attention::error::{Error, Result};
use self_attention::files::write_whole;
use self_attention::model::TransformerConfig;
use self_attention::training::trainer::TrainingConfig;

/// What is trained, on what, and how.
// ANCHOR: run_config
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The shape of the model.
    pub model: TransformerConfig,
    /// The words it learns from and is tried on.
    pub data: DataConfig,
    /// How it is trained.
    pub training: TrainingConfig,
}
// ANCHOR_END: run_config

/// Which words of the dictionary a run uses.
// ANCHOR: data_config
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// How many training words, spread evenly over the dictionary; all, if it does not say.
    pub words: Option<usize>,
    /// How many validation words, chosen likewise.
    pub validation_words: Option<usize>,
    /// How often a common word stands among the training words; any other stands there once.
    pub common_times: usize,
}
// ANCHOR_END: data_config

impl RunConfig {
    /// The run that made the model in `models/`: more than an hour on two cores.
    pub fn new(vocabulary: &Vocabulary) -> Self {
        Self {
            model: TransformerConfig::new(vocabulary.len() as i64).with_separator(SEP),
            data: DataConfig { words: None, validation_words: None, common_times: 10 },
            training: TrainingConfig::default(),
        }
    }

    /// A small model, a tenth of the words, a few epochs: less than a minute. Its positions are counted through, as in the
    /// experiments of the book.
    pub fn quick(vocabulary: &Vocabulary) -> Self {
        let RunConfig { training, .. } = Self::new(vocabulary);
        let model = TransformerConfig::new(vocabulary.len() as i64);
        Self {
            model: model.with_blocks(2).with_width(64),
            data: DataConfig {
                words: Some(11_000),
                validation_words: Some(600),
                common_times: 1,
            },
            training: TrainingConfig { epochs: 4, dropout: 0.0, ..training },
        }
    }

    /// Reads the settings of a run. None may be missing, so that a file says all there is to say.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::File`] that names the setting that is missing, unknown or wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        serde_json::from_str(&text).map_err(|error| {
            let problem = format!(
                "{error}; every run writes such a file, `config.json`, into its folder: change a copy of one"
            );
            Error::file(path, problem)
        })
    }

    /// Writes the settings of a run.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::file(path, error.to_string()))?;
        write_whole(path, (text + "\n").as_bytes())
    }
}

impl DataConfig {
    /// The words of one side of the split that the run uses.
    ///
    /// # Errors
    /// [`Error::Config`] if there are not as many as it asks for, or if it asks for none.
    pub fn entries<'a>(
        &self,
        dictionary: &'a Dictionary,
        split: Split,
    ) -> Result<Vec<&'a Entry>> {
        let entries: Vec<_> =
            dictionary.iter().filter(|entry| Split::of(&entry.word) == split).collect();
        let (setting, wanted) = match split {
            Split::Train => ("words", self.words),
            Split::Validation => ("validation_words", self.validation_words),
            Split::Test => return Ok(entries),
        };
        let all = entries.len();
        match wanted {
            None => Ok(entries),
            Some(wanted @ 1..) if wanted <= all => Ok(evenly(&entries, wanted)),
            Some(wanted) => {
                let reason = format!("there are {all}; ask for 1 to {all}");
                Err(Error::config(setting, wanted, reason))
            }
        }
    }

    /// The sequences to train on and those to validate on.
    ///
    /// # Errors
    /// Those of [`DataConfig::entries`], and [`Error::Config`] if a common word shall not stand there even once.
    pub fn examples(
        &self,
        dictionary: &Dictionary,
        vocabulary: &Vocabulary,
    ) -> Result<[Vec<Example>; 2]> {
        let Some(more_times) = self.common_times.checked_sub(1) else {
            return Err(Error::config("common_times", 0, "must be at least 1"));
        };
        let examples = |split| examples_of(self.entries(dictionary, split)?, vocabulary);
        let mut training = examples(Split::Train)?;
        let common = common_examples(dictionary, vocabulary)?;
        (0..more_times).for_each(|_| training.extend_from_slice(&common));
        Ok([training, examples(Split::Validation)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_from_their_file_and_each_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let config = RunConfig::quick(&Vocabulary::new());
        config.write(&path).unwrap();
        assert_eq!(RunConfig::read(&path).unwrap(), config);
        let text = fs::read_to_string(&path).unwrap();
        for (change, expected) in [
            (text.replace("\"clip\": 1.0,", ""), "missing field `clip`"),
            (text.replace("\"clip\"", "\"cilp\""), "unknown field `cilp`"),
            (text.replace("1.0", "\"one\""), "invalid type"),
        ] {
            fs::write(&path, change).unwrap();
            let error = RunConfig::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_part_of_the_words_is_spread_over_the_dictionary() {
        let dictionary = Dictionary::embedded().unwrap();
        let data =
            DataConfig { words: Some(26), validation_words: None, common_times: 1 };
        let words = data.entries(&dictionary, Split::Train).unwrap();
        assert_eq!(words.len(), 26);
        assert!(words.iter().all(|entry| Split::of(&entry.word) == Split::Train));
        let firsts: std::collections::BTreeSet<_> =
            words.iter().map(|entry| &entry.word[..1]).collect();
        assert!(firsts.len() > 10, "{firsts:?}");
        for wrong in [0, 1_000_000] {
            let data = DataConfig { words: Some(wrong), ..data };
            let error = data.entries(&dictionary, Split::Train).unwrap_err();
            assert!(error.to_string().contains("ask for 1 to"), "{error}");
        }
    }
}
