//! Chapter 10, what the model looked at: `cargo run --bin ch10_visualization`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use self_attention::evaluation::decoding::greedy;
use self_attention::evaluation::pronouncer::{Card, Pronouncer};
use self_attention::files::write_whole;
use self_attention::prelude::*;
use self_attention::visualization::capture::Capture;
use self_attention::visualization::{Chart, Heatmap};
use serde::Serialize;

/// Computes everything that chapter 10 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,

    /// Write what the explorer of the page shows before the model is loaded.
    #[arg(long, value_name = "FILE")]
    explorer: Option<PathBuf>,
}

/// The model that is shipped.
const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/pronouncer.safetensors");

/// The words to choose from in the explorer. The first is the one it begins with.
const WORDS: [&str; 8] =
    ["though", "through", "tough", "cough", "thorough", "bough", "night", "knight"];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tch::set_num_threads(1); // sums in the same order on every machine
    let pronouncer = Pronouncer::load(Path::new(SHIPPED), Device::Cpu)?;
    if let Some(file) = arguments.explorer {
        return save_explorer(&pronouncer, &file);
    }
    if let Some(folder) = arguments.figures {
        return explorer_figure(&pronouncer)?.save(&folder, "ch10_explorer");
    }
    Ok(())
}

/// What the page hands to `book/theme/explorer.js`.
#[derive(Serialize)]
struct Explorer {
    /// How large the file of weights is.
    bytes: u64,
    /// What the model looked at in each word, with the pronunciation it writes itself.
    captures: Vec<Capture>,
}

/// Writes what the explorer shows before the model is loaded.
fn save_explorer(pronouncer: &Pronouncer, file: &Path) -> Result<()> {
    let weights = Path::new(SHIPPED);
    let hash = Card::read(weights)?.weights;
    let captures = captures(pronouncer, &WORDS)?.into_iter();
    let explorer = Explorer {
        bytes: fs::metadata(weights).map_err(Error::io(weights))?.len(),
        captures: captures.map(|capture| capture.with_model(&hash).rounded()).collect(),
    };
    let text = serde_json::to_string(&explorer)
        .map_err(|error| Error::file(file, error.to_string()))?;
    write_whole(file, (text + "\n").as_bytes())
}

/// The words with the pronunciations the model writes itself.
fn captures(pronouncer: &Pronouncer, words: &[&str]) -> Result<Vec<Capture>> {
    let said = greedy(&pronouncer.model, &pronouncer.vocabulary, words)?;
    let pairs = words.iter().zip(said);
    pairs.map(|(word, said)| Capture::of(pronouncer, word, &said.phonemes)).collect()
}

/// What stands in the explorer's place where no script runs: the head that it begins with.
fn explorer_figure(pronouncer: &Pronouncer) -> Result<Chart> {
    let capture = captures(pronouncer, &WORDS[..1])?.remove(0);
    let Capture { word, tokens, weights, .. } = &capture;
    let (block, head) = capture.clearest_head();
    Ok(Chart::Heatmap(Heatmap::attention(
        format!("{word}: block {}, head {}", block + 1, head + 1),
        format!(
            "How much each token of {word} and its pronunciation, on the left, looks at each other."
        ),
        tokens,
        tokens,
        weights[block][head].clone(),
    )))
}
