//! How training went: a line of JSON for each epoch.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self_attention::error::{Error, Result};
use self_attention::files::write_whole;

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
    /// Seconds the epoch took, validation included.
    pub seconds: f64,
}
// ANCHOR_END: epoch_record

/// Reads a log.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::File`] that names the line that is not a record.
pub fn read(path: &Path) -> Result<Vec<EpochRecord>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let record = |(index, line)| {
        serde_json::from_str(line).map_err(|error| {
            Error::file(
                path,
                format!("line {} is not a record of an epoch: {error}", index + 1),
            )
        })
    };
    text.lines().enumerate().map(record).collect()
}

/// Writes a log, a record a line.
///
/// The file is small and is written whole each time: so a run that was killed between its checkpoint and its log, and
/// goes on from the checkpoint, neither loses a line nor has one twice.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub fn write(path: &Path, records: &[EpochRecord]) -> Result<()> {
    let mut text = String::new();
    for record in records {
        let line = serde_json::to_string(record)
            .map_err(|error| Error::file(path, error.to_string()))?;
        text.push_str(&line);
        text.push('\n');
    }
    write_whole(path, text.as_bytes())
}
