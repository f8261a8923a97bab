//! `cargo xtask compare`, the Rust half of it, and the worker that does the work.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use common::root;
use serde_json::{json, Value};
use tch::{Kind, Tensor};

/// Measures tiny work with our side alone, and gives what was written.
fn compare(output: &Path, arguments: &[&str]) -> Value {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let ran = Command::new(cargo)
        .args(["xtask", "compare", "--quick", "--rounds=3", "--threads=1"])
        .args(["--without=pytorch,burn,candle,g2p-en", "--worker"])
        .arg(cargo_bin!("compare"))
        .arg("--output")
        .arg(output)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_str(&std::fs::read_to_string(output).unwrap()).unwrap()
}

#[test]
fn the_rust_half_is_measured_from_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let measured = compare(&folder.path().join("measured.json"), &[]);
    assert_eq!((&measured["threads"], &measured["rounds"]), (&json!(1), &json!(3)));
    assert!(measured["machine"]["processor"].is_string());
    assert!(measured["versions"]["ours"].as_str().unwrap().contains("libtorch 2.13.0"));
    let works = measured["works"].as_array().unwrap();
    let groups: Vec<&str> =
        works.iter().map(|work| work["group"].as_str().unwrap()).collect();
    for group in
        ["attention", "attention_backward", "layers", "step", "epoch", "decoding"]
    {
        assert!(groups.contains(&group), "{group}");
    }
    for work in works {
        let name = &work["name"];
        for side in work["sides"].as_array().unwrap() {
            assert_eq!(side["program"], "ours", "{name}");
            let turns = side["turns"].as_array().unwrap();
            assert!(!turns.is_empty() && turns.len() <= 3, "{name}");
            let number = |name: &str| side["seconds"][name].as_f64().unwrap();
            let [low, median, high] = ["low", "median", "high"].map(number);
            assert!(0.0 < low && low <= median && median <= high, "{name}: {side}");
            if cfg!(target_os = "linux") {
                let memory = |name: &str| side["memory"][name].as_u64().unwrap();
                assert!(
                    0 < memory("start") && memory("start") <= memory("peak"),
                    "{name}"
                );
            }
        }
        for absent in work["absent"].as_array().unwrap() {
            assert_eq!(absent["reason"], "as asked for", "{name}");
        }
        for target in work["targets"].as_array().unwrap() {
            let is_other = target["than"]
                .as_str()
                .is_some_and(|than| than.starts_with("PyTorch") || than == "g2p-en");
            assert_eq!(target["measured"].is_null(), is_other, "{name}: {target}");
        }
    }
    // tch alone took the same three steps, and was compared with ours.
    let step = works.iter().find(|work| work["group"] == "step").unwrap();
    let plain = step["sides"].as_array().unwrap();
    let plain = plain.iter().find(|side| side["name"] == "plain tch").unwrap();
    assert!(plain["apart"].as_f64().unwrap() < 1e-3, "{plain}");
    assert!(plain["ratio"]["median"].as_f64().unwrap() > 0.0, "{plain}");
}

/// The worker, to be talked to.
struct Worker(Child, BufReader<std::process::ChildStdout>);

impl Worker {
    fn start() -> Self {
        let mut child = Command::new(cargo_bin!("compare"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .current_dir(root())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    fn ask(&mut self, line: &str) -> Value {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.1.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn prepare(&mut self, changed: &Value) -> Value {
        let mut task = json!({
            "work": "attention", "way": "fused", "threads": 1, "device": "cpu",
            "precision": "float32", "settings": { "backward": true },
        });
        for (name, value) in changed.as_object().unwrap() {
            task[name] = value.clone();
        }
        self.ask(&json!({ "prepare": task }).to_string())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait().unwrap(); // at the end of its input it ends
        assert!(status.success() || std::thread::panicking(), "{status}");
    }
}

#[test]
fn a_worker_does_what_it_is_told_and_ends_with_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("numbers.safetensors");
    let ones = Tensor::ones([1, 2, 3, 4], (Kind::Float, tch::Device::Cpu));
    let names = ["query", "key", "value", "upstream"];
    let tensors = names.map(|name| (name, ones.shallow_clone()));
    Tensor::write_safetensors(&tensors, &file).unwrap();

    let mut worker = Worker::start();
    for way in ["explicit", "fused"] {
        let ready = worker.prepare(&json!({ "file": file, "way": way }));
        let checked = &ready["ready"]["checked"];
        // The average of ones is one: the norm of 24 of them, and eight of its numbers.
        let result = checked["result"].as_array().unwrap();
        assert!((result[0].as_f64().unwrap() - 24f64.sqrt()).abs() < 1e-6, "{ready}");
        assert!(result[1..].iter().all(|x| (x.as_f64().unwrap() - 1.0).abs() < 1e-6));
        // Of the values each has a third of the weight of three queries; of the queries nothing depends.
        let value = checked["gradient of value"].as_array().unwrap();
        assert!((value[0].as_f64().unwrap() - 24f64.sqrt()).abs() < 1e-5, "{ready}");
        assert!(checked["gradient of query"][0].as_f64().unwrap() < 1e-5, "{ready}");
        let ran = worker.ask(r#"{"run":{"times":3}}"#);
        assert_eq!(ran["seconds"].as_array().unwrap().len(), 3);
    }
    let memory = worker.ask(r#"{"memory":{}}"#);
    assert!(memory["memory"].is_object(), "{memory}");
}

#[test]
fn what_a_worker_cannot_do_is_named_and_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("numbers.safetensors");
    let ones = Tensor::ones([1, 2, 3, 4], (Kind::Float, tch::Device::Cpu));
    Tensor::write_safetensors(&[("query", ones)], &file).unwrap();

    let mut worker = Worker::start();
    for (line, expected) in [
        ("prepare", "expected value at line 1 column 1: prepare"),
        (r#"{"sleep":{}}"#, "unknown variant `sleep`"),
        (r#"{"run":{}}"#, "missing field `times`"),
        (r#"{"run":{"times":1}}"#, "run: there is no work yet; `prepare` some"),
    ] {
        let answer = worker.ask(line);
        assert!(answer["error"].as_str().unwrap().contains(expected), "{answer}");
    }
    let missing = folder.path().join("missing");
    let share = json!({ "share": 0, "tokens_per_batch": 512 });
    for (changed, expected) in [
        (json!({ "work": "convolution" }), "work: `convolution` is not known here"),
        (json!({ "file": file }), "has no tensor `key`"),
        (json!({ "file": missing }), "missing"),
        (json!({}), "task: `attention` needs a `file` of numbers"),
        (
            json!({ "file": file, "way": "slow" }),
            "way: `attention` has no way `slow` here",
        ),
        (json!({ "settings": {} }), "settings: attention: missing field `backward`"),
        (json!({ "precision": "float8" }), "unknown variant `float8`"),
        (json!({ "device": "tpu" }), "unknown variant `tpu`"),
        (
            json!({ "work": "examples", "file": missing, "settings": share }),
            "share = 0: must be above 0",
        ),
    ] {
        let answer = worker.prepare(&changed);
        assert!(
            answer["error"].as_str().unwrap().contains(expected),
            "{changed}: {answer}"
        );
    }
}
