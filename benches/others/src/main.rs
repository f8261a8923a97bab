//! burn and candle for `cargo xtask compare`: the attention and the training step of the book, each on its processor backend.
//!
//! ```text
//! others burn      or      others candle
//! ```
//!
//! It reads a line of JSON from standard input and answers with one; `xtask/src/compare/worker.rs` describes the lines.
//! Both have the same parameters in the same order, vectors as matrices of one row, and the optimizer of the book written
//! with their own tensors: theirs clip the gradient of each tensor by itself, which would be other work.

mod burn_side;
mod candle_side;
mod task;

use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use serde_json::{Value, json};

use task::{Outcome, Prepared, Result, Task};

fn main() -> ExitCode {
    let prepare: fn(&Task) -> Result<Outcome> = match env::args().nth(1).as_deref() {
        Some("burn") => burn_side::prepare,
        Some("candle") => candle_side::prepare,
        _ => {
            eprintln!("error: which of them? others burn, or others candle");
            return ExitCode::FAILURE;
        }
    };
    match serve(prepare) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers until there is nothing more to answer.
fn serve(prepare: fn(&Task) -> Result<Outcome>) -> std::io::Result<()> {
    let start = memory("VmRSS:");
    let mut work: Option<Prepared> = None;
    for line in stdin().lock().lines() {
        let answer = answer(&line?, prepare, &mut work, start);
        let answer = answer.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let mut output = stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn answer(
    line: &str,
    prepare: fn(&Task) -> Result<Outcome>,
    work: &mut Option<Prepared>,
    start: Option<u64>,
) -> Result<Value> {
    let request: Value = serde_json::from_str(line)?;
    if let Some(task) = request.get("prepare") {
        let prepared = match prepare(&Task::read(task)?)? {
            Outcome::Ready(prepared) => prepared,
            Outcome::Cannot(reason) => return Ok(json!({ "cannot": reason })),
        };
        let Prepared { version, checked, .. } = &prepared;
        let ready = json!({ "version": version, "units": 1, "checked": checked });
        *work = Some(prepared);
        return Ok(json!({ "ready": ready }));
    }
    if let Some(run) = request.get("run") {
        let times = run["times"].as_u64().ok_or("run: `times` is missing")?;
        let work = work.as_mut().ok_or("run: there is no work yet; `prepare` some")?;
        let mut seconds = Vec::new();
        for _ in 0..times {
            let started = Instant::now();
            (work.run)()?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        return Ok(json!({ "seconds": seconds }));
    }
    if request.get("memory").is_some() {
        return Ok(json!({ "memory": { "start": start, "peak": memory("VmHWM:") } }));
    }
    Err(format!("request: `prepare`, `run` or `memory` is expected, not {line}").into())
}

/// An entry of what Linux tells of this process, in bytes; other systems are not asked.
fn memory(entry: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(entry))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
