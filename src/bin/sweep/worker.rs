//! A worker: a process that runs one trial after the other. libtorch has one random generator for a process, so trials
//! that run side by side cannot share one.
//!
//! The sweep and its workers talk in lines of JSON: a [`Trial`] goes in, and [`Message`]s come out. A worker ends when
//! nobody talks to it or listens to it any more, so none is left behind by a sweep that was killed.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::thread;
use std::time::Duration;

use self_attention::data::cmudict::Dictionary;
use self_attention::error::{Error, Result};
use self_attention::experiments::results::Finished;
use self_attention::experiments::trial::Trial;
use serde::{Deserialize, Serialize};

/// What a worker tells.
#[derive(Serialize, Deserialize)]
pub enum Message {
    /// This part of the trial's training is done, from 0 to 1.
    Part(f64),
    /// This came of the trial.
    Finished(Box<Finished>),
    /// The trial cannot be run.
    Failed(String),
}

/// Runs the trials that come in until no more come. What a trial needs to keep for a while, it keeps in `scratch`.
pub fn work(scratch: &Path) -> Result<()> {
    // Ctrl-C in a terminal reaches the workers, too. What is to be done then, the sweep decides.
    ctrlc::set_handler(|| ())
        .map_err(|error| Error::input("Ctrl-C", error.to_string()))?;
    let dictionary = Dictionary::embedded()?;
    let mut listener = io::stdout().lock();
    let mut tell = |message: &Message| {
        let line = serde_json::to_string(message)?;
        writeln!(listener, "{line}")?;
        listener.flush()
    };
    for line in io::stdin().lock().lines() {
        let line = line.map_err(Error::io("standard input"))?;
        let trial: Trial = serde_json::from_str(&line)
            .map_err(|error| Error::input("worker", error.to_string()))?;
        let folder = tempfile::tempdir_in(scratch).map_err(Error::io(scratch))?;
        let outcome = trial.run(&dictionary, folder.path(), |part| {
            match tell(&Message::Part(part)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()), // nobody listens
            }
        });
        let message = match outcome {
            Ok(Some(finished)) => Message::Finished(Box::new(finished)),
            Ok(None) => return Ok(()),
            Err(error) => Message::Failed(error.to_string()),
        };
        if tell(&message).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A number of workers, and what they tell. When this is dropped, they are ended.
pub struct Workers {
    workers: Vec<Worker>,
    told: Receiver<(usize, Option<Message>)>,
}

struct Worker {
    process: Child,
    input: ChildStdin,
}

impl Workers {
    /// Starts workers, each with so many threads for an operation.
    pub fn start(count: usize, threads: usize, scratch: &Path) -> Result<Self> {
        let (sender, told) = channel();
        let mut workers = Vec::new();
        let failed = |reason: String| {
            Error::input("worker", format!("cannot be started: {reason}"))
        };
        for number in 0..count {
            let program =
                env::current_exe().map_err(|error| failed(error.to_string()))?;
            let mut process = Command::new(program)
                .arg("--worker")
                .arg(scratch)
                .env("OMP_NUM_THREADS", threads.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| failed(error.to_string()))?;
            let (Some(input), Some(output)) =
                (process.stdin.take(), process.stdout.take())
            else {
                return Err(failed("it has no pipes".into()));
            };
            workers.push(Worker { process, input });
            let sender = sender.clone();
            thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(io::Result::ok);
                let messages = lines.filter_map(|line| serde_json::from_str(&line).ok());
                for message in messages.map(Some).chain([None]) {
                    if sender.send((number, message)).is_err() {
                        return; // the sweep has ended
                    }
                }
            });
        }
        Ok(Self { workers, told })
    }

    /// Gives a trial to a worker that has none.
    pub fn give(&mut self, worker: usize, trial: &Trial) -> Result<()> {
        let line = serde_json::to_string(trial)
            .map_err(|error| Error::input("worker", error.to_string()))?;
        let input = &mut self.workers[worker].input;
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(|error| {
            Error::input(
                "worker",
                format!("does not take the trial `{}`: {error}", trial.name),
            )
        })
    }

    /// What a worker tells next, if one does within that time. Nothing at all means that the worker has ended.
    pub fn next(&self, within: Duration) -> Option<(usize, Option<Message>)> {
        self.told.recv_timeout(within).ok()
    }

    /// How a worker ended, in words.
    pub fn end_of(&mut self, worker: usize) -> String {
        match self.workers[worker].process.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for Worker { process, .. } in &mut self.workers {
            let _ = process.kill(); // it may have ended by itself
            let _ = process.wait();
        }
    }
}
