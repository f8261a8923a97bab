//! `sweep` as a person meets it: it is started, stopped, killed, started again, and spread over machines; and the
//! program of chapter 11, which reads what it found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use self_attention::experiments::analysis::{Findings, Metric};
use self_attention::experiments::results::{Finished, Results};
use self_attention::experiments::studies::{studies, trials, Size};
use self_attention::visualization::Chart;

/// A folder for a test, and the file of results in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("trials.jsonl");
    (folder, results)
}

/// A sweep of tiny trials.
fn sweep(results: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("sweep"));
    command.arg("--quick").arg("--results").arg(results).args(arguments);
    command
}

/// Ten of them: five numbers of heads, two seeds.
const HEADS: [&str; 2] = ["--study", "heads"];

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

fn fail(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success());
    let error = text(&stderr).to_owned();
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn lines(results: &Path) -> Vec<String> {
    let text = fs::read_to_string(results).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until `condition` holds or the program has ended, and says whether it is still running.
fn wait_until(run: &mut Child, condition: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !condition() {
        if run.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "nothing happens");
        sleep(Duration::from_millis(1));
    }
    true
}

/// The processes that work for the sweep with these results: those that were told its scratch folder.
#[cfg(target_os = "linux")]
fn workers(results: &Path) -> usize {
    let scratch = format!("{}.work", results.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .filter(|command| {
            command.split(|&byte| byte == 0).any(|word| word == scratch.as_bytes())
        })
        .count()
}

/// Waits until the workers of a sweep that has ended have noticed.
#[cfg(target_os = "linux")]
fn assert_no_worker_is_left(results: &Path) {
    let started = Instant::now();
    while workers(results) > 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "workers are left");
        sleep(Duration::from_millis(10));
    }
}

#[cfg(not(target_os = "linux"))]
fn assert_no_worker_is_left(_: &Path) {}

/// A trial without its times, which are never the same twice.
fn timeless(finished: &Finished) -> Finished {
    Finished { seconds: 0.0, core_seconds: 0.0, ..finished.clone() }
}

#[test]
fn killed_at_any_moment_and_started_again_it_loses_no_trial_and_repeats_none() {
    let ((_whole, whole), (_broken, broken)) = (place(), place());
    succeed(sweep(&whole, &HEADS).args(["--jobs", "2"]));

    let mut kills = 0;
    for round in 0..6 {
        let before = lines(&broken);
        let mut run = sweep(&broken, &HEADS)
            .args(["--jobs", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Once before the first trial is finished, then a little later each time.
        let wanted = before.len() + usize::from(round > 0);
        let is_running = wait_until(&mut run, || lines(&broken).len() >= wanted);
        sleep(Duration::from_millis(37 * round));
        run.kill().unwrap(); // SIGKILL: nothing is tidied up
        run.wait().unwrap();
        kills += usize::from(is_running);
        assert_no_worker_is_left(&broken);

        let after = lines(&broken);
        assert!(after.starts_with(&before), "a finished trial was lost or changed");
        if !after.is_empty() {
            Results::read(&broken).unwrap(); // no half line, and none twice
        }
    }
    assert!(kills >= 3, "killed {kills} times only");
    let before = lines(&broken);
    let said = succeed(sweep(&broken, &HEADS).args(["--jobs", "2"]));
    assert!(
        said.contains(&format!("10 trials, {} of them finished", before.len())),
        "{said}"
    );
    assert!(said.contains("all 10 trials are finished"), "{said}");
    assert!(lines(&broken).starts_with(&before));
    assert_eq!(lines(&broken).len(), 10);

    // The very numbers of the sweep that was left alone.
    let [whole, broken] = [&whole, &broken].map(|path| Results::read(path).unwrap());
    for finished in whole.trials() {
        let other = broken.get(&finished.id).unwrap();
        assert_eq!(timeless(other), timeless(finished));
    }
    let left: Vec<_> =
        fs::read_dir(_broken.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    // A kill in the middle of a write leaves what was half written, under a name that nothing reads.
    let is_whole = |name: &&std::ffi::OsString| {
        !name.to_string_lossy().starts_with(".half-written-")
    };
    let whole = left.iter().filter(is_whole).count();
    assert_eq!(whole, 2, "{left:?}"); // the results and their lock
}

#[test]
fn a_sweep_that_is_finished_runs_nothing_and_one_that_grows_runs_the_rest() {
    let (_folder, results) = place();
    let said = succeed(&mut sweep(&results, &["--study", "heads", "--shard", "1/2"]));
    assert!(said.contains("  5/5  "), "{said}");
    assert!(said.contains("PER") && said.contains("baseline seed="), "{said}");
    let before = lines(&results);
    let started = Instant::now();
    let said = succeed(&mut sweep(&results, &["--study", "heads", "--shard", "1/2"]));
    assert!(said.contains("5 trials, 5 of them finished"), "{said}");
    assert!(said.contains("all 5 trials are finished"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(lines(&results), before);

    let listed = succeed(&mut sweep(&results, &["--study", "heads", "--list"]));
    assert_eq!(
        listed.lines().filter(|line| line.contains("finished  ")).count(),
        5,
        "{listed}"
    );
    assert_eq!(
        listed.lines().filter(|line| line.contains("to run")).count(),
        5,
        "{listed}"
    );
    assert!(listed.contains("10 trials, 5 of them finished"), "{listed}");
    assert_eq!(lines(&results), before);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_it_and_says_how_to_go_on() {
    let (folder, results) = place();
    let mut run = sweep(&results, &HEADS)
        .args(["--jobs", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_until(&mut run, || lines(&results).len() >= 2), "ended too soon");
    let interrupt = Command::new("kill").args(["-INT", &run.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let expected = "to go on: cargo run --release --bin sweep -- --quick --results";
    assert!(said.contains(expected), "{said}");
    assert_no_worker_is_left(&results);
    assert!(!folder.path().join("trials.jsonl.work").exists());
    let finished = lines(&results).len();
    assert!((2..10).contains(&finished), "{finished}");
    assert!(said.contains(&format!("{finished} of 10 trials are finished")), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_dies_is_named_and_what_is_finished_stays() {
    let (_folder, results) = place();
    let mut run = sweep(&results, &HEADS)
        .args(["--jobs", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_until(&mut run, || lines(&results).len() >= 2), "ended too soon");
    let children = format!("/proc/{0}/task/{0}/children", run.id());
    let worker = fs::read_to_string(children).unwrap();
    let kill = Command::new("kill").arg("-KILL").args(worker.split_whitespace()).status();
    assert!(kill.unwrap().success());
    let output = run.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("the process that ran the trial `"), "{error}");
    assert!(error.contains("signal: 9"), "{error}");
    let before = lines(&results);
    assert!(succeed(&mut sweep(&results, &HEADS)).contains("all 10 trials are finished"));
    assert!(lines(&results).starts_with(&before));
}

#[test]
fn shards_are_run_apart_and_put_together() {
    let (_folder, all) = place();
    let shard = |number: usize| all.with_file_name(format!("shard{number}.jsonl"));
    for number in [1, 2, 3] {
        succeed(sweep(&shard(number), &HEADS).args(["--shard", &format!("{number}/3")]));
    }
    let files = [shard(1), shard(2), shard(3)];
    let sizes = files.each_ref().map(|path| lines(path).len());
    assert_eq!(sizes.iter().sum::<usize>(), 10, "{sizes:?}");
    let merge = || {
        let mut command = sweep(&all, &["--merge"]);
        command.args(&files);
        command
    };
    assert!(succeed(&mut merge()).starts_with("10 new trials"));
    assert!(succeed(&mut merge()).starts_with("0 new trials"));
    let [heads, ..] = studies(Size::Quick).unwrap();
    let results = Results::read(&all).unwrap();
    assert!(Findings::new(&heads, &results).is_ok());

    // Another run of a trial that is there already is another measurement, and not thrown away in silence.
    let again = all.with_file_name("again.jsonl");
    succeed(sweep(&again, &HEADS).args(["--shard", "1/10"]));
    let error = fail(sweep(&all, &["--merge"]).arg(&again));
    assert!(error.contains("was run a second time"), "{error}");
    assert_eq!(Results::read(&all).unwrap(), results);
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let (_folder, results) = place();
    for (arguments, expected) in [
        (
            ["--study", "hats"],
            "[possible values: heads, width, blocks, rates, activations]",
        ),
        (["--jobs", "0"], "0 is not in 1.."),
        (["--shard", "4/3"], "`4/3` is not a part such as 2/3"),
        (["--merge", "missing.jsonl"], "missing.jsonl: No such file"),
    ] {
        let error = fail(&mut sweep(&results, &arguments));
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(!results.exists(), "{arguments:?} left something behind");
    }
    let both = fail(&mut sweep(&results, &["--merge", "a.jsonl", "--shard", "1/2"]));
    assert!(both.contains("cannot be used with"), "{both}");

    // A line that was cut short, as when a file was copied from a machine that was still writing.
    succeed(&mut sweep(&results, &["--study", "heads", "--shard", "1/10"]));
    let whole = fs::read_to_string(&results).unwrap();
    fs::write(&results, &whole[..whole.len() / 2]).unwrap();
    let error = fail(&mut sweep(&results, &HEADS));
    assert!(error.contains("line 1: is not a whole trial"), "{error}");
    assert!(error.contains("delete the line and run the sweep again"), "{error}");

    fs::write(&results, "").unwrap();
    let mut first = sweep(&results, &HEADS).stdout(Stdio::null()).spawn().unwrap();
    assert!(wait_until(&mut first, || lines(&results).len() == 1));
    let error = fail(&mut sweep(&results, &HEADS));
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(error.contains("another sweep writes its results there"), "{error}");
    assert_no_worker_is_left(&results);
}

#[test]
fn the_chapter_shows_what_a_whole_sweep_found() {
    let (folder, results) = place();
    let chapter = || {
        let mut command = Command::new(cargo_bin!("ch11_experiments"));
        command.arg("--quick").arg("--results").arg(&results);
        command
    };
    let error = fail(&mut chapter());
    assert!(
        error
            .contains("the trials have to be run first: cargo run --release --bin sweep"),
        "{error}"
    );

    let all = studies(Size::Quick).unwrap();
    succeed(&mut sweep(&results, &HEADS));
    let error = fail(&mut chapter());
    assert!(error.contains("of the study `width` is missing; run it"), "{error}");

    let said = succeed(&mut sweep(&results, &[]));
    assert!(said.contains("10 of them finished"), "{said}");
    let found = Results::read(&results).unwrap();
    let needed = trials(&all);
    assert_eq!(found.trials().len(), needed.len());
    for study in &all {
        let findings = Findings::new(study, &found).unwrap();
        let baseline = &study.baseline(Size::Quick).unwrap().name;
        for setting in &study.settings {
            let found =
                findings.compare(Metric::Seconds, &setting.name, baseline).unwrap();
            assert!(found.difference.is_some(), "{}", setting.name);
        }
    }

    let started = Instant::now();
    let said = succeed(&mut chapter());
    assert!(started.elapsed() < Duration::from_secs(20));
    let sections: Vec<&str> =
        said.lines().filter(|line| line.starts_with("== ")).collect();
    let expected = [
        "method",
        "one_seed",
        "one_seed_pairs",
        "by_hand",
        "chosen",
        "line",
        "q30_table",
        "q30_verdicts",
        "q30_losses",
        "q31_table",
        "q31_verdicts",
        "q31_convergence",
        "q31_budget",
        "q32_table",
        "q32_verdicts",
        "q32_losses",
        "q33_table",
        "q33_verdicts",
        "q33_seeds",
        "q34_table",
        "q34_seeds",
        "q34_gradients",
        "q34_stability",
        "q34_verdicts",
    ];
    assert_eq!(sections, expected.map(|name| format!("== {name} ==")));
    assert!(!said.contains("NaN"), "{said}");

    let figures = folder.path().join("figures");
    succeed(chapter().arg("--figures").arg(&figures));
    let drawn: BTreeSet<String> = fs::read_dir(&figures)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    assert_eq!(drawn.len(), 9, "{drawn:?}");
    for name in drawn {
        assert!(
            Chart::load(figures.join(name)).unwrap().to_svg().unwrap().len() < 60_000
        );
    }
}
