//! Pronouncing words with the shipped model, many side by side or one at a time.

use std::path::PathBuf;

use self_attention::error::Result;
use self_attention::evaluation::pronouncer::Pronouncer;
use serde::Deserialize;
use serde_json::{json, Map, Value};
use tch::Device;

use crate::task::{Answer, Precision, Prepared, Task};

#[derive(Debug, Deserialize)]
struct Settings {
    words: Vec<String>,
    side_by_side: usize,
    weights: PathBuf,
}

/// Reads the model, and pronounces the words once to check them.
pub fn prepare(task: &Task, device: Device) -> Result<Answer> {
    let Settings { words, side_by_side, weights } = task.settings()?;
    if task.way != "ours" {
        return Err(task.unknown_way());
    }
    if !matches!(task.precision, Precision::Float32 | Precision::Tf32) {
        return Ok(Answer::Cannot("it is measured in 32 bits only".to_owned()));
    }
    let pronouncer = Pronouncer::load(&weights, device)?;
    let units = words.len() as f64;
    let pronounce = move || -> Result<Vec<String>> {
        let mut said = Vec::with_capacity(words.len());
        for words in match side_by_side {
            1 => words.chunks(1),
            _ => words.chunks(words.len().max(1)), // the library makes batches of them
        } {
            for phonemes in pronouncer.pronounce(words)? {
                let symbols: Vec<&str> = phonemes.iter().map(|p| p.symbol()).collect();
                said.push(symbols.join(" "));
            }
        }
        Ok(said)
    };
    let mut checked: Map<String, Value> = Map::new();
    checked.insert("pronunciations".to_owned(), json!(pronounce()?));
    let run = Box::new(move || pronounce().map(drop));
    Ok(Answer::Ready(Prepared { units, checked, run }))
}
