//! Chapter 2, the environment: `cargo run --bin ch02_environment`.

mod phrasebook;

use std::path::PathBuf;

use clap::Parser;
use phrasebook::{phrasebook, Inputs, Phrase};
use self_attention::environment::{DeviceChoice, Environment};
use self_attention::prelude::*;
use self_attention::visualization::{Arrow, Chart, Diagram, Node};
use serde::Deserialize;

/// Prints everything that chapter 2 shows, or what this machine has.
#[derive(Parser)]
struct Arguments {
    /// Print what this program runs on, and try it.
    #[arg(long)]
    report: bool,

    /// Print what this program runs on as JSON.
    #[arg(long)]
    json: bool,

    /// Where the report tries to compute.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,

    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = arguments.figures {
        return layers_figure().save(&folder, "ch02_layers");
    }
    let json_error = |what: &'static str| {
        move |error: serde_json::Error| Error::input(what, error.to_string())
    };
    if arguments.json {
        let report = serde_json::to_string_pretty(&Environment::detect());
        println!("{}", report.map_err(json_error("report"))?);
        return Ok(());
    }
    if arguments.report {
        println!("{}", Environment::detect());
        println!("{:<16}{}", "a small model", first_step(arguments.device.device()?)?);
        return Ok(());
    }
    let measured: Measured = serde_json::from_str(include_str!("measured.json"))
        .map_err(json_error("measured.json"))?;
    println!("== q1_report ==\n{}", measured.environment);
    for (section, phrases) in phrasebook() {
        print_phrases(section, &phrases)?;
    }
    let phrases: Vec<_> = phrasebook().into_iter().flat_map(|(_, rows)| rows).collect();
    print_phrases("phrasebook", &phrases)?;
    print_measured("q3_devices", &measured);
    let on_a_card: Measured = serde_json::from_str(include_str!("measured_h200.json"))
        .map_err(json_error("measured_h200.json"))?;
    print_measured("q3_devices_h200", &on_a_card);
    Ok(())
}

/// Makes a small model and a batch on a device, and lets the one read the other.
// ANCHOR: first_step
fn first_step(device: Device) -> Result<String> {
    let store = nn::VarStore::new(device); // the parameters live here …
    let model = TransformerConfig::new(69).with_blocks(1).init(&store.root())?;
    let tokens = Tensor::from_slice2(&[[23i64, 18, 24, 10, 11]]) // … and the batch is made on the CPU
        .to_device(device); // [B = 1, T = 5]
    let logits = model.forward(&tokens, None, &Dropout::off())?.logits; // [B, T, V]
    Ok(format!("logits {:?} on {:?}", logits.size(), logits.device()))
}
// ANCHOR_END: first_step

/// Prints rows as a table of Markdown, with what each gives.
fn print_phrases(section: &str, phrases: &[Phrase]) -> Result<()> {
    println!("\n== {section} ==\n| Python | Rust | gives |\n|---|---|---|");
    for Phrase { python, rust, run } in phrases {
        let cell = |text: &str| format!("`{}`", text.replace('|', "\\|"));
        let python: Vec<_> = python.lines().map(cell).collect();
        let given = run(Inputs::new())?;
        let given = match given.kind() {
            _ if given.dim() > 0 => format!("{:?}", given.size()),
            Kind::Bool => (given.int64_value(&[]) != 0).to_string(),
            Kind::Int64 => given.int64_value(&[]).to_string(),
            _ => format!("{:.2}", given.double_value(&[])),
        };
        let rust: Vec<_> = rust.split_whitespace().collect(); // a long one is broken over lines
        println!("| {} | {} | `{given}` |", python.join("<br>"), cell(&rust.join(" ")));
    }
    Ok(())
}

/// What `cargo bench --bench devices` has measured.
#[derive(Deserialize)]
struct Measured {
    environment: Environment,
    rows: Vec<Row>,
}

/// How long one piece of work took on one device.
#[derive(Deserialize)]
struct Row {
    work: String,
    device: String,
    milliseconds: f64,
}

fn print_measured(section: &str, Measured { environment, rows }: &Measured) {
    let Environment { processor, threads, tch, libtorch, .. } = environment;
    println!("\n== {section} ==");
    println!("on {processor}, {threads} threads, tch {tch}, libtorch {libtorch}");
    println!("{:<44}{:<8}milliseconds", "work", "device");
    for Row { work, device, milliseconds } in rows {
        println!("{work:<44}{device:<8}{milliseconds:>12.2}");
    }
}

/// What calls what, from a program down to the processor.
fn layers_figure() -> Chart {
    let nodes = vec![
        Node::new("python", ["your Python"], (0, 0)),
        Node::new("rust", ["your Rust"], (0, 1)),
        Node::new("torch", ["torch", "Python"], (1, 0)).with_series(0),
        Node::new("crate", ["self_attention", "this book"], (1, 1)).with_series(1),
        Node::new("bindings", ["bindings", "C++"], (2, 0)).with_series(0),
        Node::new("tch", ["tch, torch-sys", "Rust and C++"], (2, 1)).with_series(1),
        Node::new("libtorch", ["libtorch 2.13.0", "tensors, gradients, kernels"], (3, 0))
            .with_span(2),
        Node::new("devices", ["CPU, CUDA, MPS"], (4, 0)).with_span(2),
    ];
    let arrows = [
        ("python", "torch"),
        ("torch", "bindings"),
        ("bindings", "libtorch"),
        ("rust", "crate"),
        ("crate", "tch"),
        ("tch", "libtorch"),
        ("libtorch", "devices"),
    ];
    Chart::Diagram(Diagram {
        title: "Two languages, one library".into(),
        description: "On the left your Python, the package torch and its bindings in C++; on the right your Rust, the crate \
                      of this book, tch and torch-sys. Both lead down to libtorch 2.13.0, and that to the devices."
            .into(),
        columns: 2,
        nodes,
        arrows: arrows.map(|(from, to)| Arrow::new(from, to)).to_vec(),
    })
}
