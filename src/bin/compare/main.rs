//! The Rust side of `cargo xtask compare`: does the work it is told to, as often as it is told, and says how long it took.
//!
//! It reads a line of JSON from standard input and answers with one; `xtask/src/compare/worker.rs` describes the lines.
//! `benches/pytorch/compare.py` does the same work in Python.

mod decoding;
mod epoch;
mod layers;
mod plain;
mod step;
mod task;

use std::error::Error as AnyError;
use std::fs;
use std::io::{stdin, stdout, BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

use self_attention::environment::Environment;
use self_attention::error::{Error, Result};
use serde::Deserialize;
use serde_json::{json, Value};
use tch::{Cuda, Device};

use task::{Answer, Prepared, Task};

/// What the worker is told.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    /// To make everything ready for a piece of work.
    Prepare(Box<Task>),
    /// To do it.
    Run { times: usize },
    /// To say how much memory it has had.
    Memory {},
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers until there is nothing more to answer.
fn serve() -> std::result::Result<(), Box<dyn AnyError>> {
    let start = memory("VmRSS:");
    let mut work: Option<(Device, Prepared)> = None;
    for line in stdin().lock().lines() {
        let line = line?;
        let answer = match serde_json::from_str(&line) {
            Ok(request) => answer(request, &mut work, start),
            Err(error) => Err(Error::input("request", format!("{error}: {line}"))),
        };
        let answer = answer.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let mut output = stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn answer(
    request: Request,
    work: &mut Option<(Device, Prepared)>,
    start: Option<u64>,
) -> Result<Value> {
    match request {
        Request::Prepare(task) => {
            tch::set_num_threads(task.threads);
            let device = task.device.device()?;
            let prepared = match prepare(&task, device)? {
                Answer::Ready(prepared) => prepared,
                Answer::Cannot(reason) => return Ok(json!({ "cannot": reason })),
            };
            let Environment { crate_version, tch, libtorch, .. } = Environment::detect();
            let version =
                format!("{crate_version}, with tch {tch} and libtorch {libtorch}");
            let mut ready = json!({
                "version": version, "units": prepared.units, "checked": prepared.checked,
            });
            if task.work == "environment" {
                ready["environment"] = json!(Environment::detect());
            }
            *work = Some((device, prepared));
            Ok(json!({ "ready": ready }))
        }
        Request::Run { times } => {
            let Some((device, Prepared { run, .. })) = work else {
                return Err(Error::input("run", "there is no work yet; `prepare` some"));
            };
            let mut seconds = Vec::with_capacity(times);
            for _ in 0..times {
                let started = Instant::now();
                run()?;
                if let Device::Cuda(index) = device {
                    Cuda::synchronize(*index as i64); // the call returns before the work is done
                }
                seconds.push(started.elapsed().as_secs_f64());
            }
            Ok(json!({ "seconds": seconds }))
        }
        Request::Memory {} => {
            Ok(json!({ "memory": { "start": start, "peak": memory("VmHWM:") } }))
        }
    }
}

/// Does the work once and keeps what is needed to do it again.
fn prepare(task: &Task, device: Device) -> Result<Answer> {
    match task.work.as_str() {
        "environment" => Ok(Answer::Ready(Prepared::nothing())),
        "attention" => layers::attention(task, device),
        "multi_head" | "block" => layers::layer(task, device),
        "step" => step::prepare(task, device),
        "examples" => epoch::write_examples(task),
        "epoch" => epoch::prepare(task, device),
        "decoding" => decoding::prepare(task, device),
        other => Err(Error::input("work", format!("`{other}` is not known here"))),
    }
}

/// An entry of what Linux tells of this process, in bytes; other systems are not asked.
fn memory(entry: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(entry))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
