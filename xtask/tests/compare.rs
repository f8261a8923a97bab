//! `cargo xtask compare` with a worker that only pretends: what it says when something is not as it should be.
//!
//! `tests/compare.rs` of the crate runs it with the real one.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A worker of a few lines of shell. `special` are further cases of what it is told, before the usual ones.
fn worker(folder: &TempDir, special: &str) -> PathBuf {
    let script = format!(
        r#"#!/bin/sh
while read -r line; do
    case "$line" in
    {special}
    *'"work":"environment"'*) echo '{{"ready":{{"version":"1","units":1,"checked":{{}},"environment":{{"processor":"a processor","system":"a system"}}}}}}' ;;
    *prepare*) echo '{{"ready":{{"version":"1","units":1,"checked":{{"losses":[4.2]}}}}}}' ;;
    *'"times":1}}'*) echo '{{"seconds":[0.25]}}' ;;
    *memory*) echo '{{"memory":{{"start":1048576,"peak":2097152}}}}' ;;
    esac
done
"#
    );
    let path = folder.path().join("worker");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn compare(folder: &TempDir, special: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["compare", "--quick", "--only", "training step, no dropout", "--worker"])
        .arg(worker(folder, special))
        .args(arguments)
        .env("SELF_ATTENTION_CACHE", folder.path())
        .output()
        .unwrap()
}

const ALONE: &str = "--without=pytorch,burn,candle,g2p-en";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_side_with_other_results_stops_it_before_anything_is_timed() {
    let folder = tempfile::tempdir().unwrap();
    let other = r#"*'"way":"plain tch"'*) echo '{"ready":{"version":"1","units":1,"checked":{"losses":[4.3]}}}' ;;
    *run*) echo timed >> "$0.timed" ;;"#;
    let output = compare(&folder, other, &[ALONE]);
    assert!(!output.status.success());
    let errors = text(&output.stderr);
    let expected = "error: plain tch: its results are not ours: `losses` is 4.2 with ours and 4.3 here";
    assert!(errors.starts_with(expected), "{errors}");
    assert!(!folder.path().join("worker.timed").exists());
}

#[test]
fn without_python_one_line_says_so_and_the_rust_half_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("measured.json");
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["compare", "--quick", "--only", "training step, no dropout", "--rounds=2"])
        .args(["--without=burn,candle,g2p-en", "--worker"])
        .arg(worker(&folder, ""))
        .arg("--output")
        .arg(&written)
        .env("SELF_ATTENTION_CACHE", folder.path())
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let about_python: Vec<&str> =
        said.lines().filter(|line| line.starts_with("pytorch ")).collect();
    let expected = "pytorch is left out: no Python 3 was found (tried python3 and python); pip, which brings libtorch, needs it";
    assert_eq!(about_python, [expected]);
    let measured: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(written).unwrap()).unwrap();
    assert_eq!(measured["machine"]["processor"], "a processor");
    let work = &measured["works"][0];
    let plain = &work["sides"][1];
    assert_eq!(plain["name"], "plain tch");
    assert_eq!(plain["turns"], serde_json::json!([0.25, 0.25]));
    assert_eq!((&plain["ratio"]["median"], &plain["apart"]), (&1.0.into(), &0.0.into()));
    assert_eq!(plain["memory"]["peak"], 2097152);
    let target = &work["targets"][0];
    assert_eq!(target["than"], "PyTorch");
    assert_eq!(
        (&target["measured"], &target["met"]),
        (&serde_json::Value::Null, &false.into())
    );
}

#[test]
fn a_worker_that_dies_or_refuses_is_named() {
    for (special, expected) in [
        (
            r#"*'"way":"ours"'*'"work":"step"'*) exit 1 ;;"#,
            "error: ours: it ended before it answered",
        ),
        (
            r#"*'"way":"plain tch"'*) echo '{"error":"no such tensor"}' ;;"#,
            "error: plain tch: no such tensor",
        ),
        (
            r#"*run*) echo '{"seconds":[0]}' ;;"#,
            "error: ours: it should answer `seconds`, 1 of them, and answered",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = compare(&folder, special, &[ALONE]);
        let errors = text(&output.stderr);
        assert!(!output.status.success() && errors.starts_with(expected), "{errors}");
    }
}

#[test]
fn what_is_asked_for_and_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = compare(&folder, "", &["--python=/nowhere/python"]);
    let errors = text(&output.stderr);
    let expected = "error: /nowhere/python has no PyTorch, NumPy or safetensors; the comparison needs 2.13.0";
    assert!(errors.starts_with(expected), "{errors}");

    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["compare", "--tables"])
        .env("SELF_ATTENTION_CACHE", folder.path())
        .env("CARGO_MANIFEST_DIR", folder.path().join(".")) // a repository without results
        .output()
        .unwrap();
    let errors = text(&output.stderr);
    assert!(errors.contains("figures/appendix_measured.json: No such file"), "{errors}");
}
