//! `cargo xtask compare`: the same work with this crate and with what people use otherwise, measured side by side.
//!
//! Each side of a piece of work is a process of its own that speaks the protocol of [`worker`]. All of them read the same
//! file of numbers, and are timed only after they have shown that they get the same results from it. Then they take turns,
//! one at a time, round by round, so that what else the machine does slows all alike.

mod check;
mod inputs;
mod python;
mod report;
mod statistics;
mod worker;
mod works;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{available_parallelism, sleep};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use self::check::Tolerance;
use self::python::Python;
use self::statistics::{Spread, ratios, repetitions};
use self::worker::{Memory, Ready, Worker};
use self::works::{Inputs, Program, Scale, Side, Target, Work};
use crate::error::{Error, Result, file};
use crate::places::Places;
use crate::process;

/// Where work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    Cpu,
    Cuda,
}

/// What is measured, and how.
#[derive(Debug, Args)]
pub struct Options {
    /// Tiny sizes, to see whether everything works: seconds, and nothing is written unless --output names a file
    #[arg(long)]
    quick: bool,
    /// How often every side has its turn
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), default_value_t = 7)]
    rounds: u32,
    /// Threads of every side [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Where the work is done; on a card also in TF32 and in 16 bits
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Only work whose name holds this text; nothing is written unless --output names a file
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Check that all sides get the same results, and time nothing
    #[arg(long)]
    check: bool,
    /// The share of the training words in the epoch
    #[arg(long, value_parser = share, default_value_t = 1.0, value_name = "SHARE")]
    epoch_share: f64,
    /// Leave these out: pytorch, burn, candle, g2p-en
    #[arg(long, value_parser = other_program, value_delimiter = ',', value_name = "WHO")]
    without: Vec<String>,
    /// A Python that has PyTorch, NumPy and safetensors
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Write the results into this file, and no tables
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Make the tables of the book from the saved results, and measure nothing
    #[arg(long)]
    tables: bool,
    /// The Rust side, built already: for tests
    #[arg(long, hide = true, value_name = "PROGRAM")]
    worker: Option<PathBuf>,
}

impl Options {
    /// Whether something has to be built for it.
    pub fn builds(&self) -> bool {
        !self.tables && self.worker.is_none()
    }
}

/// A share above 0 and up to 1.
fn share(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("a share is above 0 and at most 1, as in 0.1".to_string()),
    }
}

/// The name of a program that can be left out.
fn other_program(text: &str) -> std::result::Result<String, String> {
    let names: Vec<&str> = Program::ALL[1..].iter().map(|other| other.name()).collect();
    if names.contains(&text) {
        return Ok(text.to_string());
    }
    Err(format!("it is none of {}", names.join(", ")))
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        }
    }

    /// In which numbers it computes.
    fn precisions(self) -> &'static [&'static str] {
        match self {
            Device::Cpu => &["float32"],
            Device::Cuda => &["float32", "tf32", "bfloat16", "float16"],
        }
    }

    /// What the results are called, in `figures/` and in `book/output/`.
    fn results(self) -> &'static str {
        match self {
            Device::Cpu => "appendix_measured",
            Device::Cuda => "appendix_measured_cuda",
        }
    }
}

pub fn run(places: &Places, options: &Options) -> Result<()> {
    let saved = places.root.join(format!("figures/{}.json", options.device.results()));
    if options.tables {
        let text = fs::read_to_string(&saved).map_err(file("reading", &saved))?;
        let results = serde_json::from_str(&text).map_err(|error| Error::Unusable {
            path: saved,
            problem: format!("is no JSON ({error}); measure again"),
        })?;
        return write_tables(places, options.device, &results);
    }
    let works = chosen_works(places, options)?;
    let comparison = Comparison::prepare(places, options, &works)?;
    let mut measured = Vec::new();
    for work in &works {
        for precision in options.device.precisions() {
            let work = comparison.measure(work, precision)?;
            print!("{}", report::lines(&work));
            measured.push(work);
        }
    }
    if options.check {
        println!("All sides get the same results.");
        return Ok(());
    }
    let results = comparison.results(measured);
    let written = match &options.output {
        Some(output) => output,
        None if options.quick || options.only.is_some() => return Ok(()),
        None => &saved,
    };
    write_whole(written, &format!("{results:#}\n"))?;
    println!("wrote {}", written.display());
    match options.output {
        Some(_) => Ok(()),
        None => write_tables(places, options.device, &results),
    }
}

/// The works that are asked for.
fn chosen_works(places: &Places, options: &Options) -> Result<Vec<Work>> {
    let scale = Scale {
        quick: options.quick,
        epoch: options.epoch_share,
        on_card: options.device == Device::Cuda,
    };
    let all = works::all(scale, &places.root)?;
    let Some(only) = &options.only else { return Ok(all) };
    let names: Vec<String> = all.iter().map(|work| work.name.clone()).collect();
    let chosen: Vec<Work> =
        all.into_iter().filter(|work| work.name.contains(only.as_str())).collect();
    match chosen.is_empty() {
        true => Err(Error::NoSuchWork { asked: only.clone(), names }),
        false => Ok(chosen),
    }
}

fn write_tables(places: &Places, device: Device, results: &Value) -> Result<()> {
    for (name, table) in report::tables(results) {
        let name = format!("{}_{name}.md", device.results());
        write_whole(&places.root.join("book/output").join(name), &table)?;
    }
    for (name, chart) in report::figures(results) {
        let name = format!("{}_{name}.json", device.results());
        write_whole(&places.root.join("figures").join(name), &format!("{chart:#}\n"))?;
    }
    println!("`cargo xtask figures` draws the figures.");
    Ok(())
}

/// Writes beside the place and renames: nobody finds half a file.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let fresh = path.with_file_name(name);
    fs::write(&fresh, text).map_err(file("writing", &fresh))?;
    fs::rename(&fresh, path).map_err(file("naming", path))
}

/// How many rounds are enough where a turn takes minutes.
const FEW: usize = 3;

/// How a program is started, or why it is not there.
type Found = std::result::Result<Start, String>;

#[derive(Debug, Clone)]
enum Start {
    Rust(PathBuf),
    Python(Python),
}

/// A comparison that can begin.
struct Comparison<'a> {
    places: &'a Places,
    options: &'a Options,
    programs: BTreeMap<&'static str, Found>,
    threads: usize,
    folder: TempDir,
    /// What the Rust side tells of the machine.
    environment: Value,
}

impl<'a> Comparison<'a> {
    /// Builds and fetches what is needed for these works, and says what is not to be had.
    fn prepare(places: &'a Places, options: &'a Options, works: &[Work]) -> Result<Self> {
        let threads = match options.threads {
            Some(threads) => threads as usize,
            None => available_parallelism().map_or(1, usize::from),
        };
        let is_needed = |program: Program| {
            works.iter().any(|work| work.sides.iter().any(|side| side.program == program))
        };
        let mut comparison = Comparison {
            places,
            options,
            programs: BTreeMap::new(),
            threads,
            folder: tempfile::tempdir()
                .map_err(file("making a folder in", std::env::temp_dir()))?,
            environment: Value::Null,
        };
        for program in Program::ALL.into_iter().filter(|&program| is_needed(program)) {
            let found = comparison.find(program)?;
            if let Err(reason) = &found {
                println!("{} is left out: {reason}", program.name());
            }
            comparison.programs.insert(program.name(), found);
        }
        comparison.environment = comparison.look_around()?;
        Ok(comparison)
    }

    /// The program, or why it is left out. Without our own there is nothing to compare.
    fn find(&self, program: Program) -> Result<Found> {
        if self.options.without.iter().any(|name| name == program.name()) {
            return Ok(Err("as asked for".to_string()));
        }
        match program {
            Program::Ours => match &self.options.worker {
                Some(worker) => Ok(Ok(Start::Rust(worker.clone()))),
                None => self.build_ours().map(|path| Ok(Start::Rust(path))),
            },
            Program::PyTorch => {
                let python = Python::obtain(self.places, self.options.python.as_deref());
                match python {
                    Ok(python) => Ok(Ok(Start::Python(python))),
                    // One that was asked for by name must be there.
                    Err(error) if self.options.python.is_some() => Err(error),
                    Err(error) => Ok(Err(one_line(&error))),
                }
            }
            Program::G2pEn => match self.programs.get(Program::PyTorch.name()) {
                Some(Ok(Start::Python(python))) => {
                    let python = python.with_g2p_en(self.places);
                    Ok(python.map(Start::Python).map_err(|error| one_line(&error)))
                }
                _ => Ok(Err("it needs PyTorch's Python".to_string())),
            },
            Program::Burn | Program::Candle => match self.build_others() {
                Ok(path) => Ok(Ok(Start::Rust(path))),
                Err(error) => Ok(Err(one_line(&error))),
            },
        }
    }

    fn build_ours(&self) -> Result<PathBuf> {
        let mut build = self.places.cargo();
        build.args(["build", "--release", "--bin", "compare"]);
        self.build(&mut build, self.places.target().join("release/compare"))
    }

    /// burn and candle have a workspace and a lock file of their own, so that the crate does not depend on them.
    fn build_others(&self) -> Result<PathBuf> {
        let target = self.places.target().join("others");
        let mut build = self.places.cargo();
        build.args(["build", "--release", "--locked", "--manifest-path"]);
        build.arg("benches/others/Cargo.toml").arg("--target-dir").arg(&target);
        self.build(&mut build, target.join("release/others"))
    }

    fn build(&self, command: &mut Command, built: PathBuf) -> Result<PathBuf> {
        let built = built.with_extension(std::env::consts::EXE_EXTENSION);
        let (status, _) = process::watch(command)?;
        match status.success() && built.exists() {
            true => Ok(built),
            false => Err(Error::Build { program: built.display().to_string() }),
        }
    }

    /// What the Rust side tells of the machine and of itself.
    fn look_around(&self) -> Result<Value> {
        let mut worker = self.start("ours", Program::Ours, "float32", 0)?;
        let task = json!({
            "work": "environment", "way": "ours", "threads": self.threads,
            "device": self.options.device.name(), "precision": "float32",
        });
        match worker.prepare(&task)? {
            Ok(ready) => Ok(ready.more.get("environment").cloned().unwrap_or_default()),
            Err(reason) => Err(Error::Side {
                side: "ours".to_string(),
                problem: reason,
                said: String::new(),
            }),
        }
    }

    /// Starts the program of a side; it waits to be told what to do.
    fn start(
        &self,
        side: &str,
        program: Program,
        precision: &str,
        place: usize,
    ) -> Result<Worker> {
        let mut command = match self.programs.get(program.name()) {
            Some(Ok(Start::Rust(path))) => {
                let mut command = Command::new(path);
                if matches!(program, Program::Burn | Program::Candle) {
                    command.arg(program.name());
                }
                command
            }
            Some(Ok(Start::Python(python))) => {
                let mut command = python.command();
                command.arg(self.places.root.join("benches/pytorch/compare.py"));
                command
            }
            _ => unreachable!("what is left out is not started"),
        };
        command.current_dir(&self.places.root);
        // One number for every library that starts threads.
        for variable in [
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "RAYON_NUM_THREADS",
        ] {
            command.env(variable, self.threads.to_string());
        }
        let tf32 = if precision == "tf32" { "1" } else { "0" };
        command.env("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", tf32);
        Worker::start(side, command, self.folder.path().join(format!("said-{place}")))
    }

    /// Has all sides of a work show their results, compares these, and times them in turns.
    fn measure(&self, work: &Work, precision: &str) -> Result<Value> {
        let path = self.write_inputs(work)?;
        let mut absent = Vec::new();
        let mut racers: Vec<Racer> = Vec::new();
        for (place, side) in work.sides.iter().enumerate() {
            let reason = match &self.programs[side.program.name()] {
                Ok(_) => match self.racer(work, side, precision, &path, place)? {
                    Ok(mut racer) => {
                        racer.check(racers.first(), tolerance(work, precision))?;
                        racers.push(racer);
                        continue;
                    }
                    Err(reason) => reason,
                },
                Err(reason) => reason.clone(),
            };
            absent.push(json!({ "side": side.name, "reason": reason }));
        }
        let most = if work.is_long { FEW } else { usize::MAX };
        let rounds = most.min(self.options.rounds as usize);
        if !self.options.check {
            self.take_turns(&mut racers, rounds, work.is_long)?;
        }
        let sides: Vec<Value> = racers.iter().map(|racer| racer.json(&racers)).collect();
        let measured = |target: &Target| target_json(target, &sides);
        Ok(json!({
            "group": work.group, "name": work.name, "unit": work.unit,
            "device": self.options.device.name(), "precision": precision,
            "settings": told_apart(&work.settings),
            "sides": sides, "absent": absent,
            "targets": work.targets.iter().map(measured).collect::<Vec<_>>(),
        }))
    }

    fn take_turns(&self, racers: &mut [Racer], rounds: usize, once: bool) -> Result<()> {
        let turn = if self.options.quick { 0.005 } else { 0.5 };
        if !once {
            for racer in racers.iter_mut() {
                racer.worker.run(1)?; // to warm up
                let seconds = racer.worker.run(1)?[0];
                racer.repetitions = repetitions(seconds, turn);
            }
        }
        for _ in 0..rounds {
            for racer in racers.iter_mut() {
                // OpenMP's threads wait for more to do, awake, before they go to sleep. They shall not do so beside others.
                sleep(Duration::from_millis(20));
                let seconds = racer.worker.run(racer.repetitions)?;
                let seconds = Spread::of(&seconds).map_or(f64::NAN, |turn| turn.median);
                racer.seconds.push(seconds / racer.ready.units);
            }
        }
        for racer in racers {
            racer.memory = Some(racer.worker.memory()?);
        }
        Ok(())
    }

    /// Writes the numbers that all sides begin with; for an epoch, the Rust side adds the examples of the dictionary.
    fn write_inputs(&self, work: &Work) -> Result<PathBuf> {
        let path = self.folder.path().join("inputs.safetensors");
        work.inputs.draw().write(&path)?;
        if let Inputs::Epoch { share, budget, .. } = work.inputs {
            let mut worker = self.start("ours", Program::Ours, "float32", 0)?;
            let task = json!({
                "work": "examples", "way": "ours", "file": self.examples(),
                "threads": self.threads, "device": "cpu", "precision": "float32",
                "settings": { "share": share, "tokens_per_batch": budget },
            });
            if let Err(problem) = worker.prepare(&task)? {
                let side = "ours".to_string();
                return Err(Error::Side { side, problem, said: String::new() });
            }
        }
        Ok(path)
    }

    fn examples(&self) -> PathBuf {
        self.folder.path().join("examples.safetensors")
    }

    /// A side that is ready, or why it cannot take part.
    fn racer<'w>(
        &self,
        work: &Work,
        side: &'w Side,
        precision: &str,
        path: &Path,
        place: usize,
    ) -> Result<std::result::Result<Racer<'w>, String>> {
        let mut worker = self.start(side.name, side.program, precision, place)?;
        let mut settings = work.settings.clone();
        merge(&mut settings, &side.settings);
        let task = json!({
            "work": work.kind, "way": side.way, "settings": settings, "file": path,
            "examples": self.examples(), "threads": self.threads,
            "device": self.options.device.name(), "precision": precision,
        });
        Ok(worker.prepare(&task)?.map(|ready| Racer {
            side,
            worker,
            ready,
            apart: None,
            repetitions: 1,
            seconds: Vec::new(),
            memory: None,
        }))
    }

    /// Everything that is saved. There is no date in it: the versions say more.
    fn results(&self, works: Vec<Value>) -> Value {
        let mut versions = Map::new();
        for work in &works {
            for side in work["sides"].as_array().into_iter().flatten() {
                if let Some(program) = side["program"].as_str() {
                    versions.insert(program.to_string(), side["version"].clone());
                }
            }
        }
        let card = process::answer(
            Command::new("nvidia-smi")
                .args(["--query-gpu=name", "--format=csv,noheader"]),
        );
        let card = card.filter(|_| self.options.device == Device::Cuda);
        json!({
            "machine": {
                "processor": self.environment["processor"],
                "system": self.environment["system"],
                "card": card,
            },
            "threads": self.threads,
            "rounds": self.options.rounds,
            "quick": self.options.quick,
            "versions": versions,
            "works": works,
        })
    }
}

/// A side that takes part.
struct Racer<'a> {
    side: &'a Side,
    worker: Worker,
    ready: Ready,
    /// How far its numbers are from ours at the most.
    apart: Option<f64>,
    repetitions: usize,
    /// For a unit of the work, the median of each turn.
    seconds: Vec<f64>,
    memory: Option<Memory>,
}

impl Racer<'_> {
    /// Refuses a side that did something else than the first did.
    fn check(&mut self, first: Option<&Racer>, tolerance: Tolerance) -> Result<()> {
        let Some(first) = first.filter(|_| self.side.is_checked) else { return Ok(()) };
        match check::apart(&first.ready.checked, &self.ready.checked, tolerance) {
            Ok(apart) => {
                self.apart = Some(apart);
                Ok(())
            }
            Err(problem) => Err(Error::Side {
                side: self.side.name.to_string(),
                problem: format!("its results are not ours: {problem}"),
                said: String::new(),
            }),
        }
    }

    fn json(&self, all: &[Racer]) -> Value {
        let Racer { side, ready, apart, seconds, memory, .. } = self;
        let ours = all.iter().find(|racer| Some(racer.side.name) == side.against);
        let ratio = ours.and_then(|ours| Spread::of(&ratios(&ours.seconds, seconds)));
        json!({
            "name": side.name, "program": side.program.name(), "version": ready.version,
            "against": side.against, "units": ready.units, "apart": apart,
            "turns": seconds, "seconds": Spread::of(seconds).map(Spread::json),
            "ratio": ratio.map(Spread::json),
            "memory": memory.map(|Memory { start, peak }| json!({ "start": start, "peak": peak })),
        })
    }
}

/// A target with what was measured, the median.
fn target_json(target: &Target, sides: &[Value]) -> Value {
    let named = |name: &str| sides.iter().find(|side| side["name"] == name);
    let measured = match target.than {
        Some(than) => named(than).and_then(|side| Spread::read(&side["ratio"])),
        None => named("ours").and_then(|side| Spread::read(&side["seconds"])),
    };
    let measured = measured.map(|spread| spread.median);
    json!({
        "than": target.than, "most": target.most, "measured": measured,
        "met": measured.is_some_and(|measured| measured <= target.most),
    })
}

fn tolerance(work: &Work, precision: &str) -> Tolerance {
    let (least, texts) = match precision {
        "float32" => (0.0, 0.001),
        "tf32" => (1e-2, 0.01), // ten bits of each factor
        _ => (5e-2, 0.05),
    };
    Tolerance { numbers: work.tolerance.max(least), texts }
}

/// The settings as they are saved: how many words, not which.
fn told_apart(settings: &Value) -> Value {
    let mut settings = settings.clone();
    if let Some(words) = settings["words"].as_array() {
        settings["words"] = words.len().into();
    }
    settings
}

fn merge(settings: &mut Value, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        settings[name] = value.clone();
    }
}

/// The first line of an error, for a list of what was left out.
fn one_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn refused(argument: &str) -> String {
        Cli::try_parse_from(["compare", argument]).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_by_name() {
        assert!(refused("--epoch-share=0").contains("a share is above 0 and at most 1"));
        assert!(refused("--epoch-share=NaN").contains("--epoch-share"));
        assert!(refused("--rounds=0").contains("--rounds"));
        assert!(refused("--threads=0").contains("--threads"));
        assert!(refused("--device=tpu").contains("possible values: cpu, cuda"));
        let error = refused("--without=jax");
        assert!(error.contains("it is none of pytorch, burn, candle, g2p-en"), "{error}");
    }

    #[test]
    fn a_work_that_is_not_there_is_refused_with_the_names_of_all() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let places = Places { cache: root.clone(), root };
        let options = |only: &str| {
            Cli::try_parse_from(["compare", "--only", only]).unwrap().options
        };
        let works = chosen_works(&places, &options("training step")).unwrap();
        assert_eq!(works.len(), 2);
        let error = chosen_works(&places, &options("convolution")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("`convolution`"), "{error}");
        assert!(error.contains("\n  training step, dropout 0.1\n"), "{error}");
    }

    #[test]
    fn a_target_is_met_at_its_limit_and_never_unmeasured() {
        let spread = |x: f64| Spread { low: x, median: x, high: x }.json();
        let sides = [
            json!({ "name": "ours", "seconds": spread(0.02) }),
            json!({ "name": "PyTorch", "seconds": spread(0.025), "ratio": spread(0.8) }),
        ];
        let met = |than: Option<&'static str>, most: f64| {
            target_json(&Target { than, most }, &sides)["met"] == true
        };
        assert!(met(Some("PyTorch"), 0.8));
        assert!(!met(Some("PyTorch"), 0.79));
        assert!(!met(Some("burn"), 100.0));
        assert!(met(None, 0.02) && !met(None, 0.015));
    }
}
