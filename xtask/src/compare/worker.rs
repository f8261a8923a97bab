//! A process that does one piece of work whenever it is asked to.
//!
//! Every side speaks the same protocol: a line of JSON in, a line of JSON out.
//!
//! | it is told | it answers |
//! |---|---|
//! | `{"prepare": {…}}`: the work, its sizes, and the file with the numbers | `{"ready": {"version": "…", "units": 1, "checked": {"loss": [4.2]}}}` |
//! | `{"run": {"times": 3}}` | `{"seconds": [0.2, 0.2, 0.2]}` |
//! | `{"memory": {}}` | `{"memory": {"start": 1, "peak": 2}}`, in bytes, `null` where the system does not say |
//!
//! Instead of `ready` it may answer `{"cannot": "why"}`; that side is then left out. `{"error": "what"}` ends the whole
//! comparison. `checked` are the numbers that all sides must have in common before any is timed, and `units` is what a run
//! does, for example words. A worker does nothing unless asked, and ends when its input does.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result, file};
use crate::process;

/// How many lines of what a worker said are shown when it fails.
const LAST_LINES: usize = 12;

/// How many twentieths of a second a worker has to end by itself, with the helpers it may have started.
const PATIENCE: usize = 60;

#[derive(Debug)]
pub struct Worker {
    /// As it is called in the results.
    pub side: String,
    child: Child,
    tell: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
    /// What it writes to standard error.
    said: PathBuf,
}

/// What a worker that is ready says of itself.
#[derive(Debug, PartialEq)]
pub struct Ready {
    pub version: String,
    /// How many of what the work is counted in one run does.
    pub units: f64,
    pub checked: Map<String, Value>,
    /// Whatever else it told: the Rust side adds the machine.
    pub more: Map<String, Value>,
}

/// Ready, or not able to do this work and why.
pub type Prepared = std::result::Result<Ready, String>;

/// Bytes of memory: before it had anything to do, and at the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    pub start: Option<u64>,
    pub peak: Option<u64>,
}

impl Worker {
    /// Starts the program. What it says to standard error is kept in the file `said`.
    pub fn start(side: &str, mut command: Command, said: PathBuf) -> Result<Worker> {
        let errors = File::create(&said).map_err(file("making", &said))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(process::start(&command))?;
        let (Some(tell), Some(hear)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are piped")
        };
        let hear = BufReader::new(hear);
        Ok(Worker { side: side.to_string(), child, tell: Some(tell), hear, said })
    }

    /// Makes everything ready for `task`, and checks it.
    pub fn prepare(&mut self, task: &Value) -> Result<Prepared> {
        let answer = self.ask(&json!({ "prepare": task }))?;
        if let Some(reason) = answer["cannot"].as_str() {
            return Ok(Err(reason.to_string()));
        }
        let Value::Object(mut more) = answer["ready"].clone() else {
            return Err(self.surprise(&answer, "`ready`"));
        };
        let ready = (|| {
            Some(Ready {
                version: more.remove("version")?.as_str()?.to_string(),
                units: more.remove("units")?.as_f64().filter(|&units| units > 0.0)?,
                checked: more.remove("checked")?.as_object()?.clone(),
                more: std::mem::take(&mut more),
            })
        })();
        match ready {
            Some(ready) => Ok(Ok(ready)),
            None => {
                Err(self.surprise(&answer, "`ready` with version, units and checked"))
            }
        }
    }

    /// Does the work so often, and says how long each time took.
    pub fn run(&mut self, times: usize) -> Result<Vec<f64>> {
        let answer = self.ask(&json!({ "run": { "times": times } }))?;
        let seconds = answer["seconds"].as_array().and_then(|seconds| {
            let numbers = seconds.iter().map(|number| number.as_f64());
            numbers.collect::<Option<Vec<f64>>>()
        });
        match seconds {
            Some(seconds)
                if seconds.len() == times && seconds.iter().all(|&s| s > 0.0) =>
            {
                Ok(seconds)
            }
            _ => Err(self.surprise(&answer, &format!("`seconds`, {times} of them"))),
        }
    }

    pub fn memory(&mut self) -> Result<Memory> {
        let answer = self.ask(&json!({ "memory": {} }))?;
        match answer["memory"].as_object() {
            Some(memory) => Ok(Memory {
                start: memory.get("start").and_then(Value::as_u64),
                peak: memory.get("peak").and_then(Value::as_u64),
            }),
            None => Err(self.surprise(&answer, "`memory`")),
        }
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        let told = match &mut self.tell {
            Some(tell) => writeln!(tell, "{request}").and_then(|()| tell.flush()),
            None => Ok(()),
        };
        let mut line = String::new();
        match told.and_then(|()| self.hear.read_line(&mut line)) {
            Ok(1..) => {}
            _ => return Err(self.failure("it ended before it answered")),
        }
        let Ok(answer) = serde_json::from_str::<Value>(&line) else {
            return Err(self.failure(&format!("its answer is no JSON: {}", line.trim())));
        };
        match answer["error"].as_str() {
            Some(error) => Err(self.failure(error)),
            None => Ok(answer),
        }
    }

    fn surprise(&self, answer: &Value, expected: &str) -> Error {
        self.failure(&format!("it should answer {expected}, and answered {answer}"))
    }

    fn failure(&self, problem: &str) -> Error {
        let said = fs::read(&self.said).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        let said = last.iter().map(|line| format!("\n  | {line}")).collect();
        Error::Side { side: self.side.clone(), problem: problem.to_string(), said }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.tell.take()); // the end of its input is its end
        for _ in 0..PATIENCE {
            match self.child.try_wait() {
                Ok(None) => sleep(Duration::from_millis(50)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A worker that answers each line with the next of `answers`.
    fn worker(folder: &tempfile::TempDir, answers: &[&str]) -> Worker {
        let lines = answers.iter().map(|a| format!("read line; echo '{a}'\n"));
        let script: String = lines.collect();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("echo starting >&2\n{script}read line"));
        Worker::start("theirs", command, folder.path().join("said")).unwrap()
    }

    #[test]
    fn a_worker_gets_ready_runs_and_tells_its_memory() {
        let folder = tempfile::tempdir().unwrap();
        let ready = r#"{"ready":{"version":"1","units":2,"checked":{"loss":[4.2]},"card":"none"}}"#;
        let answers =
            [ready, r#"{"seconds":[0.1,0.2]}"#, r#"{"memory":{"start":1,"peak":null}}"#];
        let mut worker = worker(&folder, &answers);
        let ready = worker.prepare(&json!({ "work": "step" })).unwrap().unwrap();
        assert_eq!((ready.version.as_str(), ready.units), ("1", 2.0));
        assert_eq!(ready.checked["loss"], json!([4.2]));
        assert_eq!(ready.more["card"], "none");
        assert_eq!(worker.run(2).unwrap(), [0.1, 0.2]);
        assert_eq!(worker.memory().unwrap(), Memory { start: Some(1), peak: None });
    }

    #[test]
    fn a_worker_may_say_that_it_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let mut worker = worker(&folder, &[r#"{"cannot":"there is no card"}"#]);
        let prepared = worker.prepare(&json!({})).unwrap();
        assert_eq!(prepared, Err("there is no card".to_string()));
    }

    #[test]
    fn what_a_worker_does_wrong_is_named_with_what_it_said() {
        for (answer, expected) in [
            (r#"{"error":"no such work: step"}"#, "theirs: no such work: step"),
            ("Traceback", "theirs: its answer is no JSON: Traceback"),
            (r#"{"ready":{"version":"1"}}"#, "it should answer `ready` with version"),
            (r#"{"seconds":[0.1]}"#, "theirs: it should answer `ready`, and answered"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let error = worker(&folder, &[answer]).prepare(&json!({})).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.ends_with("\n  | starting"), "{error}");
        }
        for answer in [r#"{"seconds":[0.1]}"#, r#"{"seconds":[0.1,0]}"#, "{}"] {
            let folder = tempfile::tempdir().unwrap();
            let error = worker(&folder, &[answer]).run(2).unwrap_err().to_string();
            assert!(error.contains("it should answer `seconds`, 2 of them"), "{error}");
        }
    }

    #[test]
    fn a_worker_that_ends_too_soon_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out of memory >&2; exit 1"]);
        let said = folder.path().join("said");
        let mut worker = Worker::start("theirs", command, said).unwrap();
        let error = worker.run(1).unwrap_err().to_string();
        assert!(error.starts_with("theirs: it ended before it answered"), "{error}");
        assert!(error.contains("out of memory"), "{error}");
        let missing = Command::new("no-such-program-of-that-name");
        let said = folder.path().join("said");
        let error = Worker::start("theirs", missing, said).unwrap_err().to_string();
        assert!(error.starts_with("no-such-program-of-that-name could not"), "{error}");
    }
}
