//! Pronounces words: `cargo run --bin pronounce -- though through tough cough`.

use std::error::Error;
use std::io::{self, stderr, stdin, stdout, BufRead, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use self_attention::environment::DeviceChoice;
use self_attention::evaluation::pronouncer::Pronouncer;

/// Says how English words are pronounced, in the phonemes of the CMU Pronouncing Dictionary.
///
/// Prints a line for each word: the word, a tab, its phonemes. A word that cannot be pronounced gets a line on standard
/// error instead, and the exit code is 2.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The words; without any, they are read from standard input, one a line.
    words: Vec<String>,

    /// The model's weights; its card lies beside them and ends in `.json`.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/models/pronouncer.safetensors"))]
    model: PathBuf,

    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,
}

fn main() -> ExitCode {
    match pronounce(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        // Whoever reads has read enough, as `head` does.
        Err(error) if error.downcast_ref().is_some_and(is_broken_pipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
}

/// Pronounces each word on a line of its own, and says whether all could be.
fn pronounce(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let pronouncer = Pronouncer::load(&arguments.model, arguments.device.device()?)?;
    let mut all = true;
    let mut say = |word: &str| -> Result<(), Box<dyn Error>> {
        if let Err(error) = pronouncer.check(word) {
            all = false;
            return Ok(writeln!(stderr(), "error: {error}")?);
        }
        let phonemes = pronouncer.pronounce(&[word])?.concat();
        let symbols: Vec<_> = phonemes.iter().map(|phoneme| phoneme.symbol()).collect();
        Ok(writeln!(stdout(), "{word}\t{}", symbols.join(" "))?)
    };
    if arguments.words.is_empty() {
        if stdin().is_terminal() {
            eprintln!("Type a word and press Enter; end with Ctrl-D.");
        }
        for line in stdin().lock().split(b'\n') {
            say(String::from_utf8_lossy(&line?).trim_end_matches('\r'))?;
        }
    } else {
        arguments.words.iter().try_for_each(|word| say(word))?;
    }
    Ok(all)
}
