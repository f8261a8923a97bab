//! How training went, a line of JSON for each thing that happened.
//!
//! What a run computes and how long it takes are kept apart. `log.jsonl` holds what follows from the settings alone, so
//! two runs with the same settings write the same bytes, however often one of them was interrupted. `times.jsonl` holds
//! the seconds.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self_attention::error::{Error, Result};
use self_attention::files::write_whole;

/// A line of `log.jsonl`.
// ANCHOR: record
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// The model was tried on the validation words.
    Validation(ValidationRecord),
    /// An epoch is complete.
    Epoch(EpochRecord),
}
// ANCHOR_END: record

/// What is written down of one validation.
// ANCHOR: validation_record
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// The epoch under way, from 1.
    pub epoch: u64,
    /// Optimizer steps since the beginning.
    pub steps: u64,
    /// The mean loss a target of the validation words, without dropout, in nats.
    pub validation_loss: f64,
}
// ANCHOR_END: validation_record

/// What is written down of one epoch.
// ANCHOR: epoch_record
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Optimizer steps since the beginning.
    pub steps: u64,
    /// The learning rate of its last step.
    pub learning_rate: f64,
    /// The mean loss a target during the epoch, with dropout, in nats.
    pub train_loss: f64,
    /// The mean loss a target of the validation words after it, without dropout, in nats.
    pub validation_loss: f64,
    /// The mean norm of the gradient before clipping.
    pub gradient_norm: f64,
}
// ANCHOR_END: epoch_record

/// A line of `times.jsonl`.
// ANCHOR: epoch_time
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochTime {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Seconds it took, validation included.
    pub seconds: f64,
    /// Letters, phonemes and separators that were read in each of them; padding does not count.
    pub tokens_per_second: f64,
}
// ANCHOR_END: epoch_time

/// Reads lines of JSON: a log, or the times.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::File`] that names the line that is not a record.
pub fn read<R: DeserializeOwned>(path: &Path) -> Result<Vec<R>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let record = |(index, line)| {
        serde_json::from_str(line).map_err(|error| {
            Error::file(path, format!("line {} is not a record: {error}", index + 1))
        })
    };
    text.lines().enumerate().map(record).collect()
}

/// Writes records, a line each.
///
/// The file is small and is written whole each time: so a run that was killed between its checkpoint and its log, and
/// goes on from the checkpoint, neither loses a line nor has one twice.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub fn write<R: Serialize>(path: &Path, records: &[R]) -> Result<()> {
    let mut text = String::new();
    for record in records {
        let line = serde_json::to_string(record)
            .map_err(|error| Error::file(path, error.to_string()))?;
        text.push_str(&line);
        text.push('\n');
    }
    write_whole(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_is_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let validation = ValidationRecord { epoch: 1, steps: 50, validation_loss: 0.75 };
        let epoch = EpochRecord {
            epoch: 1,
            steps: 100,
            learning_rate: 1e-3,
            train_loss: 0.1 + 0.2,
            validation_loss: 0.5,
            gradient_norm: 2.0,
        };
        let records = [Record::Validation(validation), Record::Epoch(epoch)];
        write(&path, &records).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let first =
            r#"{"kind":"validation","epoch":1,"steps":50,"validation_loss":0.75}"#;
        assert_eq!(text.lines().next(), Some(first));
        assert_eq!(read::<Record>(&path).unwrap(), records);

        fs::write(&path, text + "{\"kind\":\"epo").unwrap();
        let error = read::<Record>(&path).unwrap_err().to_string();
        assert!(error.contains("line 3 is not a record"), "{error}");
    }
}
