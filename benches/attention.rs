//! Time and memory of attention, explicit and fused, against the length `T` and the width `D`.
//!
//! ```text
//! cargo bench --bench attention
//! SAVE_FIGURE=1 cargo bench --bench attention     also measures memory and draws figures/ch04_cost (Linux)
//! ```
//!
//! Inference only, float32, one sequence, four heads, no mask, and as many keys as queries. Throughput counts pairs of
//! a query and a key. `benches/pytorch/attention.py` does the same work in Python.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use criterion::{BenchmarkId, Criterion, Throughput};
use self_attention::environment::Environment;
use self_attention::prelude::*;
use self_attention::visualization::{Axis, Chart, Curves, Panels, Series};

const HEADS: i64 = 4;

const LENGTHS: [i64; 6] = [64, 128, 256, 512, 1024, 2048]; // at this width:
const WIDTH: i64 = 64;

const WIDTHS: [i64; 4] = [16, 32, 64, 128]; // at this length:
const LENGTH: i64 = 512;

/// Fixed, so that a machine with more cores does not measure something else.
const THREADS: i32 = 2;

/// Both ways to compute attention, by name.
const WAYS: [(&str, Way); 2] = [("explicit", explicit), ("fused", fused)];
type Way = fn(&Inputs) -> Result<Tensor>;

fn explicit(Inputs { query, key, value }: &Inputs) -> Result<Tensor> {
    Ok(scaled_dot_product_attention(query, key, value, None, &Dropout::off())?.context)
}

fn fused(Inputs { query, key, value }: &Inputs) -> Result<Tensor> {
    fused_attention(query, key, value, None)
}

struct Inputs {
    query: Tensor, // [1, H, T, D], as are the others
    key: Tensor,
    value: Tensor,
}

impl Inputs {
    fn new(length: i64, width: i64) -> Self {
        let random =
            || Tensor::randn([1, HEADS, length, width], (Kind::Float, Device::Cpu));
        Self { query: random(), key: random(), value: random() }
    }
}

type Outcome<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    tch::set_num_threads(THREADS);
    let _inference = tch::no_grad_guard();
    if let Ok(task) = env::var(MEMORY_TASK) {
        return answer_with_memory(&task);
    }

    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    measure_time(&mut criterion);
    criterion.final_summary();

    if env::var_os("SAVE_FIGURE").is_some() {
        let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures");
        cost_figure()?.save(&figures, "ch04_cost")?;
        println!("wrote figures/ch04_cost.json and .svg");
    }
    Ok(())
}

fn measure_time(criterion: &mut Criterion) {
    for (name, attention) in WAYS {
        let mut group = criterion.benchmark_group(name);
        let mut point = |against: &str, parameter: i64, length: i64, width: i64| {
            let inputs = Inputs::new(length, width);
            group.throughput(Throughput::Elements((HEADS * length * length) as u64));
            group.bench_function(BenchmarkId::new(against, parameter), |bencher| {
                bencher.iter(|| attention(&inputs).expect("the inputs fit together"));
            });
        };
        for length in LENGTHS {
            point("T", length, length, WIDTH);
        }
        for width in WIDTHS {
            point("D", width, LENGTH, width);
        }
        group.finish();
    }
}

/// What criterion found a call to take, in milliseconds: the median of its last run.
fn median_time(name: &str, length: i64) -> Outcome<f64> {
    // Where criterion puts its results unless told otherwise: beside cargo's folder for the files of tests.
    let beside = || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion");
    let home = env::var_os("CRITERION_HOME").map_or_else(beside, PathBuf::from);
    let path = home.join(format!("{name}/T/{length}/new/estimates.json"));
    let text = fs::read_to_string(&path).map_err(|error| {
        format!("{}: {error}; run the whole benchmark, without a filter", path.display())
    })?;
    let estimates: serde_json::Value = serde_json::from_str(&text)?;
    let nanoseconds = estimates["median"]["point_estimate"].as_f64();
    Ok(nanoseconds.ok_or_else(|| format!("{}: holds no median", path.display()))? / 1e6)
}

/// Set for a fresh process of this program, which then measures the memory of one call, as in `fused 512`, and nothing
/// else. What a call frees stays with the process, so each call needs a process of its own.
const MEMORY_TASK: &str = "ATTENTION_MEMORY_TASK";

/// The memory that one call adds at its peak, in MiB.
fn peak_memory(name: &str, length: i64) -> Outcome<f64> {
    let child = Command::new(env::current_exe()?)
        .env(MEMORY_TASK, format!("{name} {length}"))
        .output()?;
    if !child.status.success() {
        return Err(format!(
            "{name}, T = {length}: {}",
            String::from_utf8_lossy(&child.stderr)
        )
        .into());
    }
    let kibibytes: f64 = String::from_utf8(child.stdout)?.trim().parse()?;
    Ok(kibibytes / 1024.0)
}

/// Prints the memory, in KiB, that the call named by `task` adds at its peak.
fn answer_with_memory(task: &str) -> Outcome<()> {
    let (name, length) =
        task.split_once(' ').ok_or("a memory task is a name and a length")?;
    let (_, attention) = WAYS
        .into_iter()
        .find(|(way, _)| *way == name)
        .ok_or("no such way of attention")?;
    let inputs = Inputs::new(length.parse()?, WIDTH);
    drop(attention(&Inputs::new(LENGTHS[0], WIDTH))?); // what the libraries keep for good is there from now on
    fs::write("/proc/self/clear_refs", "5")?; // the peak so far is forgotten
    let before = peak_resident()?;
    drop(attention(&inputs)?);
    println!("{}", peak_resident()? - before);
    Ok(())
}

/// The largest memory this process has had, in KiB, as Linux counts it.
fn peak_resident() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM in /proc/self/status")?;
    Ok(peak.trim().trim_end_matches("kB").trim_end().parse()?)
}

/// Time and memory against the length, side by side.
fn cost_figure() -> Outcome<Chart> {
    let time = panel("Time of one call", "milliseconds", median_time)?;
    let memory = panel("Memory added by one call", "MiB at the peak", peak_memory)?;
    let environment = Environment::detect();
    let description = format!(
        "{} {} Measured on {}, {THREADS} threads, libtorch {}, float32, {HEADS} heads of width {WIDTH}, no mask.",
        time.description,
        memory.description,
        environment.processor,
        environment.libtorch,
    );
    Ok(Chart::Panels(Panels {
        title: "What attention costs as the sequence grows".into(),
        description,
        columns: 2,
        panels: vec![Chart::Curves(time), Chart::Curves(memory)],
    }))
}

/// A cost against the length, one line for each way. Its description tells the longest and the shortest apart.
fn panel(
    title: &str,
    unit: &str,
    cost: impl Fn(&str, i64) -> Outcome<f64>,
) -> Outcome<Curves> {
    let mut series = Vec::new();
    for (name, _) in WAYS {
        let points: Outcome<Vec<_>> = LENGTHS
            .into_iter()
            .map(|length| Ok((length as f64, cost(name, length)?)))
            .collect();
        series.push(Series::new(name, points?));
    }
    let ends = series.iter().map(|Series { name, points, .. }| {
        let [(from, low), .., (to, high)] = points[..] else {
            unreachable!("there are six lengths")
        };
        format!("{name} from {low:.2} at T = {from} to {high:.2} at T = {to}")
    });
    Ok(Curves {
        title: title.into(),
        description: format!("{title}, {unit}: {}.", ends.collect::<Vec<_>>().join(", ")),
        x_axis: Axis::log("T, queries and keys"),
        y_axis: Axis::log(unit),
        series,
        references: Vec::new(),
    })
}
