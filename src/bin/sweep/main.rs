//! Runs the trials of chapter 11: `cargo run --release --bin sweep`.

mod worker;

use std::collections::VecDeque;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use clap::builder::PossibleValuesParser;
use clap::Parser;
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};
use self_attention::error::Error as CrateError;
use self_attention::experiments::results::{Finished, Results, ResultsFile};
use self_attention::experiments::studies::{studies, trials, Shard, Size, Study};
use self_attention::experiments::trial::Trial;
use worker::{Message, Workers};

/// Runs the trials of chapter 11, several at a time, and keeps what comes of them, a line of JSON for each.
///
/// A sweep that was stopped, by Ctrl-C or by pulling the plug, goes on when the same command is given again: a trial that
/// is finished is not run a second time, and one that was under way begins anew. All trials together take a little more
/// than an hour on two cores. To spread them over three machines, give each the same command with --shard 1/3, 2/3 and
/// 3/3, and then put their files together with --merge.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only the trials of these studies [default: all].
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',',
          value_parser = PossibleValuesParser::new(Study::NAMES))]
    study: Vec<String>,

    /// How many trials run side by side, each in a process of its own [default: one for each core]. They share the cores
    /// evenly.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// Only this part of the trials, as in 2/3: the second of three parts, which together are all.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,

    /// Tiny trials that show nothing but that it works: under a minute.
    #[arg(long)]
    quick: bool,

    /// Where the results are kept [default: runs/sweep/trials.jsonl, or runs/sweep/quick.jsonl].
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,

    /// Run nothing, but say which trials there are and which are finished.
    #[arg(long)]
    list: bool,

    /// Run nothing, but add the results of these files.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["study", "jobs", "shard", "list"])]
    merge: Vec<PathBuf>,

    /// Be a worker of a sweep.
    #[arg(long, value_name = "FOLDER", hide = true)]
    worker: Option<PathBuf>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let Some(scratch) = &arguments.worker {
        worker::work(scratch)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (size, name) = match arguments.quick {
        true => (Size::Quick, "quick.jsonl"),
        false => (Size::Full, "trials.jsonl"),
    };
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs/sweep");
    let path = arguments.results.unwrap_or_else(|| runs.join(name));
    if !arguments.merge.is_empty() {
        let mut file = ResultsFile::open(&path)?;
        let new = file.merge(&arguments.merge)?;
        println!(
            "{new} new trials in {}, now {}",
            path.display(),
            file.results().trials().len()
        );
        return Ok(ExitCode::SUCCESS);
    }

    let mut studies = studies(size)?.to_vec();
    if !arguments.study.is_empty() {
        studies.retain(|study| arguments.study.iter().any(|name| name == study.name));
    }
    let all = trials(&studies);
    let part: Vec<Trial> = match arguments.shard {
        Some(shard) => shard.part(&all).cloned().collect(),
        None => all,
    };
    if arguments.list {
        list(&part, &studies, &path)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.map_or(cores, usize::from);
    match sweep(&part, jobs, (cores / jobs).max(1), &path)? {
        Outcome::Finished => {
            println!("all {} trials are finished: {}", part.len(), path.display());
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted { finished } => {
            println!(
                "stopped; {finished} of {} trials are finished; to go on: {}",
                part.len(),
                command()
            );
            Ok(ExitCode::from(130)) // as a shell reports Ctrl-C
        }
    }
}

/// Says which trials there are, in the order in which they are run.
fn list(part: &[Trial], studies: &[Study], path: &Path) -> Result<(), Box<dyn Error>> {
    let results = if path.exists() { Results::read(path)? } else { Results::default() };
    for Trial { name, id, .. } in part {
        let state = if results.get(id).is_some() { "finished" } else { "to run" };
        let needed = studies
            .iter()
            .filter(|study| study.trials.iter().flatten().any(|trial| trial.id == *id));
        let needed: Vec<&str> = needed.map(|study| study.name).collect();
        println!("{id}  {state:8}  {name:45}  {}", needed.join(", "));
    }
    let finished = part.iter().filter(|trial| results.get(&trial.id).is_some()).count();
    println!("{} trials, {finished} of them finished, in {}", part.len(), path.display());
    Ok(())
}

/// How a sweep came to its end.
enum Outcome {
    /// All its trials are finished.
    Finished,
    /// It was stopped; so many of its trials are finished.
    Interrupted { finished: usize },
}

/// Runs those trials that are not finished, and adds each to the results when it is.
fn sweep(
    part: &[Trial],
    jobs: usize,
    threads: usize,
    path: &Path,
) -> Result<Outcome, Box<dyn Error>> {
    let mut file = ResultsFile::open(path)?;
    let is_open = |trial: &&Trial| file.results().get(&trial.id).is_none();
    let mut waiting: VecDeque<Trial> = part.iter().filter(is_open).cloned().collect();
    let finished = part.len() - waiting.len();
    println!("{} trials, {finished} of them finished, in {}", part.len(), path.display());
    if waiting.is_empty() {
        return Ok(Outcome::Finished);
    }
    let jobs = jobs.min(waiting.len());
    println!(
        "{jobs} at a time, on {threads} thread{}",
        if threads == 1 { "" } else { "s" }
    );
    let stop = watch_for_ctrl_c()?;
    let scratch = Scratch::new(path)?;
    let mut workers = Workers::start(jobs, threads, &scratch.0)?;
    let mut progress = Progress::new(finished, &waiting)?;
    let mut at_work: Vec<Option<(Trial, f64)>> = vec![None; jobs];
    for (worker, place) in at_work.iter_mut().enumerate() {
        if let Some(trial) = waiting.pop_front() {
            workers.give(worker, &trial)?;
            *place = Some((trial, 0.0));
        }
    }
    while at_work.iter().any(Option::is_some) {
        if stop.load(Ordering::Relaxed) {
            progress.end();
            return Ok(Outcome::Interrupted { finished: progress.finished });
        }
        let told = workers.next(Duration::from_millis(100));
        match told {
            None => {} // look at the clock and for Ctrl-C
            Some((worker, Some(Message::Part(part)))) => {
                if let Some((_, done)) = &mut at_work[worker] {
                    *done = part;
                }
            }
            Some((worker, Some(Message::Finished(finished)))) => {
                let Some((trial, _)) = at_work[worker].take() else { continue };
                file.add([(*finished).clone()])?;
                progress.count(&trial, &finished);
                if let Some(trial) = waiting.pop_front() {
                    workers.give(worker, &trial)?;
                    at_work[worker] = Some((trial, 0.0));
                }
            }
            Some((worker, Some(Message::Failed(error)))) => {
                progress.end();
                let name = at_work[worker].take().map(|(trial, _)| trial.name);
                let problem =
                    format!("the trial `{}`: {error}", name.unwrap_or_default());
                return Err(CrateError::input("sweep", problem).into());
            }
            Some((worker, None)) => {
                let Some((trial, _)) = at_work[worker].take() else { continue };
                progress.end();
                let end = workers.end_of(worker);
                let name = trial.name;
                let problem = format!(
                    "the process that ran the trial `{name}` ended too soon: {end}; \
                     what is finished is saved, and the same command goes on"
                );
                return Err(CrateError::input("sweep", problem).into());
            }
        }
        progress.show(&at_work);
    }
    progress.end();
    Ok(Outcome::Finished)
}

/// A folder that the trials under way may fill, beside the results. It goes when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder. Whoever holds the lock of the results may empty it: only a sweep that was killed filled it.
    fn new(results: &Path) -> Result<Self, Box<dyn Error>> {
        let mut name = results.as_os_str().to_owned();
        name.push(".work");
        let folder = PathBuf::from(name);
        let _ = fs::remove_dir_all(&folder); // it need not be there
        fs::create_dir_all(&folder).map_err(CrateError::io(&folder))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // the next sweep tries again
    }
}

/// A sign that Ctrl-C was pressed. Asked twice, the program ends at once.
fn watch_for_ctrl_c() -> Result<Arc<AtomicBool>, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(stop)
}

/// How far the sweep is: a bar, and a line for each trial that is finished.
struct Progress {
    bar: ProgressBar,
    started: Instant,
    finished: usize,
    all: usize,
    /// The forecast of all work and of what is done, see [`Trial::work`].
    work: f64,
    done: f64,
}

impl Progress {
    fn new(finished: usize, waiting: &VecDeque<Trial>) -> Result<Self, Box<dyn Error>> {
        let style = ProgressStyle::with_template("{elapsed_precise} [{bar:24}] {msg}")?;
        Ok(Self {
            bar: ProgressBar::new(1000).with_style(style),
            started: Instant::now(),
            finished,
            all: finished + waiting.len(),
            work: waiting.iter().map(Trial::work).sum(),
            done: 0.0,
        })
    }

    /// Tells what came of a trial.
    fn count(&mut self, trial: &Trial, finished: &Finished) {
        self.finished += 1;
        self.done += trial.work();
        let outcome = match (&finished.scores, &finished.diverged) {
            (Some(scores), _) => format!(
                "PER {:5.2} %  WER {:5.2} %  loss {:.4}",
                100.0 * scores.phoneme_error_rate,
                100.0 * scores.word_error_rate,
                scores.validation_loss,
            ),
            (None, diverged) => diverged.clone().unwrap_or_default(),
        };
        let (count, seconds) = (self.finished, finished.core_seconds);
        let left = self.left(self.done);
        self.bar.suspend(|| {
            println!(
                "{count:>3}/{}  {:45} {outcome}  {seconds:5.1} s{left}",
                self.all, trial.name
            )
        });
    }

    /// Shows the trials under way.
    fn show(&self, at_work: &[Option<(Trial, f64)>]) {
        let at_work = || at_work.iter().flatten();
        let done =
            self.done + at_work().map(|(trial, part)| part * trial.work()).sum::<f64>();
        let names = at_work()
            .map(|(trial, part)| format!("{} {:.0} %", trial.name, 100.0 * part));
        let names: Vec<String> = names.collect();
        self.bar.set_position((1000.0 * done / self.work) as u64);
        self.bar.set_message(format!(
            "{}/{} trials{}: {}",
            self.finished,
            self.all,
            self.left(done),
            names.join(", ")
        ));
    }

    /// The time that is left, if the rest goes on as what is done.
    fn left(&self, done: f64) -> String {
        if done <= 0.0 {
            return String::new();
        }
        let left = self.started.elapsed().mul_f64((self.work - done).max(0.0) / done);
        format!(", {} left", FormattedDuration(left))
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// The command that this sweep was started with, as one types it.
fn command() -> String {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let all = ["cargo run --release --bin sweep".to_owned()].into_iter();
    let dashes = (!arguments.is_empty()).then(|| "--".to_owned());
    all.chain(dashes).chain(arguments).collect::<Vec<_>>().join(" ")
}
