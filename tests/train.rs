//! `train` as a person meets it: it is started, stopped, killed and started again, and runs out of room.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt;
use assert_cmd::cargo::cargo_bin;
use self_attention::evaluation::pronouncer::Card;

/// A run of a few seconds: 240 steps, in which checkpoints are written all the time.
const SMALL: [&str; 21] = [
    "--quick",
    "--blocks=1",
    "--width=16",
    "--heads=2",
    "--dropout=0.1",
    "--stress-weight=0.3",
    "--lowest-rate=0.2",
    "--average=0.5",
    "--words=1500",
    "--validation-words=40",
    "--epochs=4",
    "--tokens-per-batch=400",
    "--validate-every=20",
    "--device=cpu",
    "--common-times=1",
    "--label-smoothing=0.05",
    "--learning-rate=0.003",
    "--activation=relu",
    "--patience=100",
    "--seed=3",
    "--folder",
];

/// A run that keeps a checkpoint after each step.
fn train(folder: &Path) -> Command {
    let mut command = Command::new(cargo_bin!("train"));
    command.arg("--checkpoint-every=0").args(SMALL).arg(folder);
    command.env("OMP_NUM_THREADS", "1"); // there is little to share
    command
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until `condition` holds or the program has ended, and says whether it is still running.
fn wait_until(run: &mut Child, condition: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !condition() {
        if run.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "nothing happens");
        sleep(Duration::from_micros(200));
    }
    true
}

/// How many files of a run are being written: those with a temporary name.
fn half_written(folder: &Path) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".half-written-"))
        .count()
}

fn assert_same_results(one: &Path, other: &Path) {
    for file in [
        "model.safetensors",
        "best.safetensors",
        "log.jsonl",
        "config.json",
        "curves.svg",
    ] {
        let [one, other] =
            [one, other].map(|folder| fs::read(folder.join(file)).unwrap());
        assert!(one == other, "{file} differs");
    }
    let [mut one, mut other] =
        [one, other].map(|folder| Card::read(&folder.join("model.safetensors")).unwrap());
    for card in [&mut one, &mut other] {
        (card.seconds, card.command) = (0.0, String::new()); // the folders differ
    }
    assert_eq!(one, other);
}

#[test]
fn killed_at_any_moment_and_started_again_it_ends_at_the_same_bytes() {
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let printed_whole = printed(&mut train(whole.path()));
    assert!(printed_whole.contains("word error rate"), "{printed_whole}");

    let folder = broken.path();
    let checkpoint = folder.join("checkpoint.safetensors");
    let (mut kills, mut while_writing) = (0, 0);
    for round in 0..8 {
        let mut run = train(folder).stdout(Stdio::null()).spawn().unwrap();
        let before = fs::metadata(&checkpoint).and_then(|file| file.modified()).ok();
        let is_newer = || {
            let now = fs::metadata(&checkpoint).and_then(|file| file.modified()).ok();
            now.is_some() && now != before
        };
        let is_running = wait_until(&mut run, is_newer) && {
            sleep(Duration::from_millis(40 * (round / 2)));
            // Every second time in the middle of writing a file.
            round % 2 == 0 || wait_until(&mut run, || half_written(folder) > 0)
        };
        run.kill().unwrap(); // SIGKILL: nothing is tidied up
        run.wait().unwrap();
        if is_running {
            kills += 1;
            while_writing += usize::from(half_written(folder) > 0);
        }
    }
    assert!(kills >= 3, "killed {kills} times only");
    assert!(while_writing >= 1, "never killed while writing");
    let printed_broken = printed(&mut train(folder));
    assert!(printed_broken.contains("going on after step"), "{printed_broken}");
    assert_same_results(whole.path(), folder);
    assert_eq!(half_written(folder), 0, "temporary files of killed runs are left");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_the_run_and_says_how_to_go_on() {
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    printed(&mut train(whole.path()));

    // Without a checkpoint in an hour: what is kept is kept because it was stopped.
    let mut run = Command::new(cargo_bin!("train"))
        .arg("--checkpoint-every=3600")
        .args(SMALL)
        .arg(broken.path())
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = broken.path().join("log.jsonl");
    assert!(wait_until(&mut run, || log.exists()), "ended too soon");
    let interrupt = Command::new("kill").args(["-INT", &run.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let [said, errors] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(errors.contains("stopping after this step"), "{errors}");
    let expected = "stopped and saved; to go on: cargo run --release --bin train -- --checkpoint-every";
    assert!(said.contains(expected), "{said}");
    assert!(broken.path().join("checkpoint.safetensors").exists());

    assert!(printed(&mut train(broken.path())).contains("going on after step"));
    assert_same_results(whole.path(), broken.path());
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_the_last_checkpoint_stays() {
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    printed(&mut train(whole.path()));
    let folder = broken.path();
    let checkpoint = folder.join("checkpoint.safetensors");
    let mut run = train(folder).stdout(Stdio::null()).spawn().unwrap();
    assert!(wait_until(&mut run, || checkpoint.exists()));
    run.kill().unwrap();
    run.wait().unwrap();

    // No file may grow beyond 8 blocks of 512 bytes: the next write fails, as on a full disk.
    let kept = fs::read(&checkpoint).unwrap();
    let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let command = train(folder);
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(command.get_program())
        .args(command.get_args())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(".safetensors: File too large"), "{error}");
    assert!(fs::read(&checkpoint).unwrap() == kept, "the checkpoint was touched");

    printed(&mut train(folder));
    assert_same_results(whole.path(), folder);
}

#[test]
fn two_runs_cannot_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = train(folder.path()).stdout(Stdio::null()).spawn().unwrap();
    let log = folder.path().join("log.jsonl");
    assert!(wait_until(&mut run, || log.exists()));
    let assert = train(folder.path()).assert().failure();
    let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(error.contains("another program trains in this folder"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let assert = train(&file.join("run")).assert().failure();
    let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn settings_come_from_a_file_and_flags_come_before_it() {
    let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    printed(&mut train(first.path()));
    let config = first.path().join("config.json");
    let again = |folder: &Path| {
        let mut command = Command::new(cargo_bin!("train"));
        command.env("OMP_NUM_THREADS", "1").arg("--device=cpu");
        command.arg("--config").arg(&config).arg("--folder").arg(folder);
        command
    };
    printed(&mut again(second.path()));
    assert_same_results(first.path(), second.path());

    let mut other = again(second.path());
    let assert = other.arg("--learning-rate=0.002").assert().failure();
    let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(error.contains("was made with other settings"), "{error}");
    assert!(error.contains("\"learning_rate\":0.002"), "{error}");

    for (flag, expected) in [
        ("--heads=3", "heads = 3"),
        ("--words=1000000", "words = 1000000"),
        ("--learning-rate=-1", "learning_rate = -1"),
        ("--mixed-precision", "mixed_precision = true"),
        ("--config=missing.json", "missing.json"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let mut command = Command::new(cargo_bin!("train"));
        command.arg("--device=cpu").arg("--folder").arg(&run).arg(flag);
        let assert = command.assert().failure();
        let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(error.contains(expected), "{flag}: {error}");
        assert!(!run.exists(), "{flag} left something behind");
    }
}
