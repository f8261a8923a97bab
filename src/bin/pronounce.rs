//! Pronounces words: `cargo run --bin pronounce -- though through tough cough`.

use std::error::Error as AnyError;
use std::fs::File;
use std::io::{self, stderr, stdin, stdout, BufRead, BufReader, BufWriter};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use self_attention::environment::DeviceChoice;
use self_attention::error::Error;
use self_attention::evaluation::decoding::{BeamSearch, Hypothesis};
use self_attention::evaluation::pronouncer::Pronouncer;
use self_attention::files::write_whole;
use self_attention::visualization::capture::Capture;
use self_attention::visualization::{Chart, Panels};
use serde::Serialize;

/// For libtorch, too: over very many words of different lengths the heap of glibc breaks into pieces, and takes thrice as
/// much memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The most words that are pronounced together, and held in memory.
const CHUNK: usize = 4096;

/// The longest line that is read as a word, in bytes. No model takes a word of that length.
const LONGEST_LINE: u64 = 1024;

const EXAMPLES: &str = "\
Output:
  tough<TAB>T AH F                        a word and its pronunciation
  tough<TAB>T AH F<TAB>0.9731             with --n-best: a line for each pronunciation,
                                          the best first, and its probability
  {\"word\":\"tough\",\"pronunciations\":[{\"phonemes\":[\"T\",\"AH\",\"F\"],\"probability\":0.9731}]}
  {\"word\":\"c4t\",\"error\":\"…\"}            with --json: an object for each word, one a line,
                                          also for a word that cannot be pronounced

Exit code: 0 if every word was pronounced, 2 if some could not be, 1 if nothing could be done.

Examples:
  pronounce though through tough cough
  pronounce --n-best 3 read                   three pronunciations, by a beam of three
  pronounce --input words.txt > spoken.tsv    a word a line, as many as you like
  pronounce --heatmap tough.svg tough         which letters each phoneme looked at";

/// Says how English words are pronounced, in the phonemes of the CMU Pronouncing Dictionary.
///
/// Prints a line for each word: the word, a tab, its phonemes. A word that cannot be pronounced gets a line on standard
/// error instead.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// The words; without any, they are read from standard input, one a line.
    words: Vec<String>,

    /// Reads the words from a file, one a line.
    #[arg(long, value_name = "FILE", conflicts_with = "words")]
    input: Option<PathBuf>,

    /// Keeps the N likeliest beginnings while it writes; 1 writes the likeliest phoneme each time [default: the number
    /// of --n-best, or 1]
    #[arg(long, value_name = "N")]
    beam: Option<usize>,

    /// Prints the N best pronunciations of each word, with their probabilities.
    #[arg(long, value_name = "N")]
    n_best: Option<usize>,

    /// Prints JSON, an object for each word, one a line.
    #[arg(long)]
    json: bool,

    /// Draws which letters each phoneme looked at, for one word.
    #[arg(long, value_name = "FILE.svg")]
    heatmap: Option<PathBuf>,

    /// The block to draw, counted from 1 [default: the last]
    #[arg(long, value_name = "B", requires = "heatmap")]
    block: Option<usize>,

    /// The head to draw, counted from 1 [default: all heads of the block]
    #[arg(long, value_name = "H", requires = "heatmap")]
    head: Option<usize>,

    /// The model's weights; its card lies beside them and ends in `.json`.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/models/pronouncer.safetensors"))]
    model: PathBuf,

    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,
}

type Outcome<T> = Result<T, Box<dyn AnyError>>;

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

/// Pronounces all words, and says whether all could be.
fn pronounce(arguments: &Arguments) -> Outcome<bool> {
    let mut speaker = Speaker::new(arguments)?;
    if let Some(path) = &arguments.heatmap {
        let drawn = speaker.heatmap(&arguments.words)?;
        speaker.say(&as_lines(&arguments.words))?;
        if let Some(chart) = drawn {
            write_whole(path, chart.to_svg()?.as_bytes())?;
        }
    } else if let Some(path) = &arguments.input {
        let file = File::open(path).map_err(Error::io(path))?;
        let size = file.metadata().map_err(Error::io(path))?.len();
        speaker.bar = progress_bar(size)?;
        speaker.say_all(Lines::new(file, path))?;
        speaker.bar.finish_and_clear();
    } else if arguments.words.is_empty() {
        if stdin().is_terminal() {
            eprintln!("Type a word and press Enter; end with Ctrl-D.");
        }
        speaker.say_all(Lines::new(stdin().lock(), Path::new("standard input")))?;
    } else {
        for words in arguments.words.chunks(CHUNK) {
            speaker.say(&as_lines(words))?;
        }
    }
    Ok(speaker.all_said)
}

/// Seen only where standard error is a terminal.
fn progress_bar(bytes: u64) -> Outcome<ProgressBar> {
    let style = "{wide_bar} {percent} %, {eta} left";
    Ok(ProgressBar::new(bytes).with_style(ProgressStyle::with_template(style)?))
}

/// A line of input: the word, or what stands there instead and why that is none.
struct Line {
    word: String,
    problem: Option<Error>,
}

fn as_lines(words: &[String]) -> Vec<Line> {
    words.iter().map(|word| Line { word: word.clone(), problem: None }).collect()
}

/// The lines of a file or a pipe.
struct Lines<'a, R> {
    reader: BufReader<R>,
    name: &'a Path,
    /// How many lines have been read.
    number: usize,
    /// How many bytes.
    bytes: u64,
}

impl<'a, R: Read> Lines<'a, R> {
    fn new(source: R, name: &'a Path) -> Self {
        let reader = BufReader::with_capacity(1 << 16, source);
        Self { reader, name, number: 0, bytes: 0 }
    }

    /// The next line, and those that have come in with it; none at the end.
    ///
    /// So a file is read in large chunks, and whoever types a line, or writes one into a pipe and waits, is answered.
    fn chunk(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        while let Some(line) = self.line()? {
            lines.push(line);
            if lines.len() == CHUNK || !self.reader.buffer().contains(&b'\n') {
                break;
            }
        }
        Ok(lines)
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let mut start = self.reader.by_ref().take(LONGEST_LINE);
        let read = start.read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.bytes += read;
        self.number += 1;
        let is_long = read == LONGEST_LINE && !bytes.ends_with(b"\n");
        if is_long {
            self.bytes += self.reader.skip_until(b'\n')? as u64;
        }
        let problem = match std::str::from_utf8(&bytes) {
            _ if is_long => Some(format!(
                "is longer than {LONGEST_LINE} bytes; put a word on each line"
            )),
            Err(_) => Some("is not UTF-8; save the words in that encoding".to_owned()),
            Ok(_) => None,
        };
        let problem = problem
            .map(|text| Error::file(self.name, format!("line {} {text}", self.number)));
        let text = String::from_utf8_lossy(&bytes);
        Ok(Some(Line { word: text.trim_end_matches(['\r', '\n']).to_owned(), problem }))
    }
}

/// What is printed of a word with `--json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Said { word: &'a str, pronunciations: Vec<Pronunciation> },
    Refused { word: &'a str, error: String },
}

#[derive(Serialize)]
struct Pronunciation {
    phonemes: Vec<&'static str>,
    probability: f64,
}

impl Pronunciation {
    fn of(hypothesis: &Hypothesis) -> Self {
        let phonemes = hypothesis.phonemes.iter().map(|phoneme| phoneme.symbol());
        Self { phonemes: phonemes.collect(), probability: hypothesis.probability() }
    }
}

/// Pronounces and prints.
struct Speaker<'a> {
    arguments: &'a Arguments,
    pronouncer: Pronouncer,
    beams: usize,
    bar: ProgressBar,
    all_said: bool,
}

impl<'a> Speaker<'a> {
    fn new(arguments: &'a Arguments) -> Outcome<Self> {
        let n_best = arguments.n_best.unwrap_or(1);
        let beams = arguments.beam.unwrap_or(n_best.max(1));
        BeamSearch::new(beams).check()?;
        if !(1..=beams).contains(&n_best) {
            let reason = format!("must be between 1 and the number of beams, {beams}");
            return Err(Error::config("n-best", n_best, reason).into());
        }
        let pronouncer = Pronouncer::load(&arguments.model, arguments.device.device()?)?;
        let bar = ProgressBar::hidden();
        Ok(Self { arguments, pronouncer, beams, bar, all_said: true })
    }

    /// Pronounces the words of a file or a pipe, in the order they come in.
    fn say_all<R: Read>(&mut self, mut lines: Lines<R>) -> Outcome<()> {
        loop {
            let chunk = lines.chunk().map_err(Error::io(lines.name))?;
            if chunk.is_empty() {
                return Ok(());
            }
            self.say(&chunk)?;
            self.bar.set_position(lines.bytes);
        }
    }

    /// Pronounces words side by side and prints what it says of them.
    fn say(&mut self, lines: &[Line]) -> Outcome<()> {
        let refusal = |line: &Line| match &line.problem {
            Some(problem) => Some(problem.to_string()),
            None => self.pronouncer.check(&line.word).err().map(|e| e.to_string()),
        };
        let refusals: Vec<Option<String>> = lines.iter().map(refusal).collect();
        self.all_said &= refusals.iter().all(Option::is_none);
        let words: Vec<&str> = lines
            .iter()
            .zip(&refusals)
            .filter(|(_, refusal)| refusal.is_none())
            .map(|(line, _)| line.word.as_str())
            .collect();
        let mut found = self.decode(&words)?.into_iter();
        self.bar.suspend(|| {
            let mut out = BufWriter::new(stdout().lock());
            for (Line { word, .. }, refusal) in lines.iter().zip(refusals) {
                match refusal {
                    Some(error) => self.print_refusal(&mut out, word, error)?,
                    None => {
                        let hypotheses = found.next().unwrap_or_default();
                        self.print(&mut out, word, &hypotheses)?;
                    }
                }
            }
            Ok(out.flush()?)
        })
    }

    /// The best pronunciations of each word, the best first.
    fn decode(&self, words: &[&str]) -> Result<Vec<Vec<Hypothesis>>, Error> {
        let Pronouncer { model, vocabulary } = &self.pronouncer;
        let mut found = BeamSearch::new(self.beams).search(model, vocabulary, words)?;
        for hypotheses in &mut found {
            hypotheses.truncate(self.arguments.n_best.unwrap_or(1));
        }
        Ok(found)
    }

    fn print(
        &self,
        out: &mut impl Write,
        word: &str,
        hypotheses: &[Hypothesis],
    ) -> Outcome<()> {
        let pronunciations: Vec<_> = hypotheses.iter().map(Pronunciation::of).collect();
        if self.arguments.json {
            return print_json(out, &Answer::Said { word, pronunciations });
        }
        for Pronunciation { phonemes, probability } in pronunciations {
            let phonemes = phonemes.join(" ");
            match self.arguments.n_best {
                None => writeln!(out, "{word}\t{phonemes}")?,
                Some(_) => writeln!(out, "{word}\t{phonemes}\t{probability:.4}")?,
            }
        }
        Ok(())
    }

    fn print_refusal(
        &self,
        out: &mut impl Write,
        word: &str,
        error: String,
    ) -> Outcome<()> {
        writeln!(stderr(), "error: {error}")?;
        if self.arguments.json {
            print_json(out, &Answer::Refused { word, error })?;
        }
        Ok(())
    }

    /// The attention of one word, unless that word cannot be pronounced.
    fn heatmap(&self, words: &[String]) -> Outcome<Option<Chart>> {
        let [word] = words else {
            let problem = "draws one word; give it as the only argument".to_owned();
            let problem = match words.len() {
                0 => problem,
                count => format!("{problem}, not {count}"),
            };
            return Err(Error::input("heatmap", problem).into());
        };
        let config = &self.pronouncer.model.config;
        let block = counted_from_1("block", self.arguments.block, config.blocks)?
            .unwrap_or(config.blocks as usize - 1);
        let head = counted_from_1("head", self.arguments.head, config.heads)?;
        if self.pronouncer.check(word).is_err() {
            return Ok(None);
        }
        let best = self.decode(&[word])?.concat().into_iter().next();
        let phonemes = best.unwrap_or_default().phonemes;
        let capture = Capture::of(&self.pronouncer, word, &phonemes)?;
        if let Some(head) = head {
            return Ok(Some(Chart::Heatmap(capture.heatmap(block, head)?)));
        }
        let heads = 0..config.heads as usize;
        let panels = heads.map(|head| Ok(Chart::Heatmap(capture.heatmap(block, head)?)));
        Ok(Some(Chart::Panels(Panels {
            title: format!("{word}: block {}", block + 1),
            description: format!(
                "How much each phoneme of {word} looked at each of its letters, in each head."
            ),
            columns: 2,
            panels: panels.collect::<Result<_, Error>>()?,
        })))
    }
}

fn print_json(out: &mut impl Write, answer: &Answer) -> Outcome<()> {
    serde_json::to_writer(&mut *out, answer).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// A number that a person counts from 1, counted from 0.
fn counted_from_1(
    what: &'static str,
    number: Option<usize>,
    count: i64,
) -> Result<Option<usize>, Error> {
    match number {
        Some(number) if !(1..=count as usize).contains(&number) => {
            let reason = format!("the model has {what}s 1 to {count}");
            Err(Error::config(what, number, reason))
        }
        number => Ok(number.map(|number| number - 1)),
    }
}
