//! `pronounce` as a person meets it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use assert_cmd::Command;
use self_attention::evaluation::pronouncer::Card;
use serde_json::Value;

fn pronounce() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("pronounce"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_four_words_are_pronounced_four_ways() {
    let output =
        pronounce().args(["though", "through", "tough", "cough"]).assert().success();
    let expected = "though\tDH OW\nthrough\tTH R UW\ntough\tT AH F\ncough\tK AA F\n";
    let said = text(&output.get_output().stdout);
    assert_eq!(said.replace("K AO F", "K AA F"), expected); // the dictionary lists both
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    assert!(
        fs::read_to_string(readme).unwrap().contains(said),
        "the README shows: {said}"
    );
}

#[test]
fn words_come_from_standard_input_too_one_a_line() {
    let output = pronounce().write_stdin("Tough\r\nthrough\n").assert().success();
    assert_eq!(text(&output.get_output().stdout), "Tough\tT AH F\nthrough\tTH R UW\n");
}

#[test]
fn a_word_it_cannot_read_is_named_and_the_others_are_answered() {
    let long = "a".repeat(40);
    let cases = [
        ("c4t", "error: `c4t`: character '4' at position 2 is not a letter"),
        ("naïve", "error: `naïve`: character 'ï' at position 3 is not a letter"),
        ("a+b", "error: `a+b`: character '+' at position 2 is not a letter"),
        ("two words", "error: `two words`: character ' ' at position 4 is not a letter"),
        ("", "error: ``: an empty word has no pronunciation"),
        (&long, "40 letters, and the model takes at most 31; give a shorter word"),
    ];
    for (word, expected) in cases {
        let output = pronounce().args(["tough", word, "through"]).assert().code(2);
        let output = output.get_output();
        assert_eq!(text(&output.stdout), "tough\tT AH F\nthrough\tTH R UW\n", "{word}");
        assert!(
            text(&output.stderr).contains(expected),
            "{word}: {}",
            text(&output.stderr)
        );
    }
    let output = pronounce()
        .write_stdin(b"tough\n\xff\xfe\nthrough\n".as_slice())
        .assert()
        .code(2);
    assert_eq!(text(&output.get_output().stdout), "tough\tT AH F\nthrough\tTH R UW\n");
}

/// The shape of the model that is shipped.
fn shipped() -> Card {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR"));
    Card::read(&weights.join("models/pronouncer.safetensors")).unwrap()
}

#[test]
fn the_n_best_come_with_falling_probabilities() {
    let output = pronounce().args(["--n-best", "3", "tough"]).assert().success();
    let said = text(&output.get_output().stdout);
    let lines: Vec<Vec<&str>> =
        said.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(lines[0][..2], ["tough", "T AH F"]);
    let probability = |line: &Vec<&str>| line[2].parse::<f64>().unwrap();
    assert!(probability(&lines[0]) <= 1.0, "{said}");
    assert!(lines.is_sorted_by(|a, b| probability(a) >= probability(b)), "{said}");
    assert!(lines[1][1] != lines[0][1] && lines[2][1] != lines[1][1], "{said}");

    let one = pronounce().args(["--beam", "3", "tough"]).assert().success();
    assert_eq!(text(&one.get_output().stdout), "tough\tT AH F\n");
}

#[test]
fn json_has_an_object_for_each_word_also_for_one_that_is_refused() {
    let words = ["--json", "--beam", "4", "--n-best", "2", "Tough", "c4t", "through"];
    let output = pronounce().args(words).assert().code(2);
    let output = output.get_output();
    let said: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let words: Vec<&str> = said.iter().map(|o| o["word"].as_str().unwrap()).collect();
    assert_eq!(words, ["Tough", "c4t", "through"]);
    let best = &said[0]["pronunciations"][0];
    assert_eq!(best["phonemes"], serde_json::json!(["T", "AH", "F"]));
    assert!((0.0..=1.0).contains(&best["probability"].as_f64().unwrap()));
    assert_eq!(said[2]["pronunciations"].as_array().unwrap().len(), 2);
    let error = said[1]["error"].as_str().unwrap();
    assert!(error.contains("'4' at position 2"), "{error}");
    assert_eq!(text(&output.stderr), format!("error: {error}\n"));
}

#[test]
fn a_file_is_answered_like_standard_input_in_the_order_of_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.txt");
    let words: Vec<String> = ["ough", "x-", "ight", "'s", "tion", ""]
        .iter()
        .cycle()
        .enumerate()
        .map(|(i, ending)| format!("{}{ending}", &"thcknt"[i % 5..]))
        .take(60)
        .collect();
    fs::write(&path, words.join("\n")).unwrap(); // the last line has no end
    let from_file = pronounce().arg("--input").arg(&path).assert().code(2);
    let from_pipe = pronounce().write_stdin(words.join("\n")).assert().code(2);
    let said = text(&from_file.get_output().stdout);
    assert_eq!(said, text(&from_pipe.get_output().stdout));
    let answered: Vec<&str> =
        said.lines().map(|line| line.split('\t').next().unwrap()).collect();
    let readable: Vec<&String> =
        words.iter().filter(|word| !word.contains('-')).collect();
    assert_eq!(answered, readable);
    // No terminal, no progress bar.
    assert!(text(&from_file.get_output().stderr)
        .lines()
        .all(|line| line.starts_with("error: `")));
}

/// A `pronounce` that is written to line by line, and its answers as they come.
fn conversation() -> (Child, Receiver<String>) {
    let mut child =
        std::process::Command::new(assert_cmd::cargo::cargo_bin!("pronounce"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in answers.lines() {
            if sender.send(line.unwrap()).is_err() {
                break; // nobody listens any more
            }
        }
    });
    (child, receiver)
}

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn each_line_of_a_slow_pipe_is_answered_before_the_next_comes() {
    let (mut child, answers) = conversation();
    let mut input = child.stdin.take().unwrap();
    for (words, expected) in [
        ("tough\n", &["tough\tT AH F"][..]),
        ("through\ntough\nthr", &["through\tTH R UW", "tough\tT AH F"]),
        ("ough\n", &["through\tTH R UW"]),
    ] {
        input.write_all(words.as_bytes()).unwrap();
        for line in expected {
            assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), *line);
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// 20 MB go through, and the memory stays as it was after the first two. Few lines hold a word, for words cost time.
#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_input() {
    let (mut child, answers) = conversation();
    let mut input = child.stdin.take().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_after = |lines: usize| -> u64 {
        for line in 0..lines {
            let word = if line % 500 == 0 { "ox".into() } else { "x".repeat(1000) };
            writeln!(input, "{word}").unwrap();
        }
        for _ in 0..lines / 500 {
            let answer = answers.recv_timeout(PATIENCE).unwrap();
            assert!(answer.starts_with("ox\t"), "{answer}");
        }
        let status = fs::read_to_string(&status).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let first = peak_after(2_000);
    let last = peak_after(18_000);
    assert!(last < first + 6_000, "{first} kB after 2,000 lines, {last} kB after 20,000");
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn the_heatmap_of_a_word_shows_one_head_or_all_of_a_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("tough.svg");
    let draw = |arguments: &[&str]| {
        let output =
            pronounce().arg("--heatmap").arg(&path).args(arguments).assert().success();
        assert_eq!(text(&output.get_output().stdout), "tough\tT AH F\n");
        let svg = fs::read_to_string(&path).unwrap();
        roxmltree::Document::parse(&svg).unwrap();
        svg
    };
    let model = shipped().model;
    let all = draw(&["tough"]);
    for head in 1..=model.heads {
        let title = format!("tough: block {}, head {head}", model.blocks);
        assert!(all.contains(&title), "{title}");
    }
    let one = draw(&["tough", "--block", "1", "--head", "2"]);
    assert!(one.contains("tough: block 1, head 2") && !one.contains("head 1"));

    fs::remove_file(&path).unwrap();
    pronounce().arg("--heatmap").arg(&path).arg("c4t").assert().code(2);
    assert!(!path.exists());
}

#[test]
fn what_it_cannot_do_is_said_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_str().unwrap();
    let gone = folder.path().join("gone.txt");
    let svg = folder.path().join("word.svg");
    let (gone, svg) = (gone.to_str().unwrap(), svg.to_str().unwrap());
    let model = shipped().model;
    let blocks = format!("block = 99: the model has blocks 1 to {}", model.blocks);
    let heads = format!("head = 99: the model has heads 1 to {}", model.heads);
    for (arguments, code, expected) in [
        (&["--beam", "0", "tough"][..], 1, "beams = 0: must be between 1 and 4096"),
        (&["--beam", "5000", "tough"], 1, "beams = 5000: must be between 1 and 4096"),
        (&["--n-best", "0", "tough"], 1, "n-best = 0: must be between 1 and"),
        (&["--beam", "2", "--n-best", "3", "tough"], 1, "n-best = 3: must be between 1"),
        (&["--beam", "two", "tough"], 2, "invalid value 'two' for '--beam <N>'"),
        (&["--input", gone], 1, "gone.txt: No such file"),
        (&["--input", here], 1, "Is a directory"),
        (&["--input", gone, "tough"], 2, "cannot be used with"),
        (&["--heatmap", svg], 1, "heatmap: draws one word; give it as the only argument"),
        (&["--heatmap", svg, "--input", gone], 1, "heatmap: draws one word"),
        (&["--heatmap", svg, "tough", "cough"], 1, "the only argument, not 2"),
        (&["--heatmap", here, "tough"], 1, here),
        (&["--heatmap", svg, "--block", "0", "tough"], 1, "block = 0: the model has"),
        (&["--heatmap", svg, "--block", "99", "tough"], 1, &blocks),
        (&["--heatmap", svg, "--head", "0", "tough"], 1, "head = 0: the model has"),
        (&["--heatmap", svg, "--head", "99", "tough"], 1, &heads),
        (&["--head", "1", "tough"], 2, "--heatmap"),
    ] {
        let output = pronounce().args(arguments).assert().code(code);
        let said = text(&output.get_output().stderr);
        assert!(said.starts_with("error: ") && said.contains(expected), "{said}");
    }
    let lines = [b"tough\n\xff\xfe\n".to_vec(), vec![b'a'; 100_000], b"\ntough".to_vec()];
    let output = pronounce().write_stdin(lines.concat()).assert().code(2);
    let said = text(&output.get_output().stderr);
    assert_eq!(
        said,
        "error: standard input: line 2 is not UTF-8; save the words in that encoding\n\
         error: standard input: line 3 is longer than 1024 bytes; put a word on each line\n"
    );
    assert_eq!(text(&output.get_output().stdout), "tough\tT AH F\ntough\tT AH F\n");
}

#[test]
fn whoever_reads_no_further_is_not_bothered() {
    let (mut child, answers) = conversation();
    drop(answers);
    let mut input = child.stdin.take().unwrap();
    for _ in 0..20_000 {
        if writeln!(input, "ox").is_err() {
            break;
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// A copy of the shipped model that a test may damage.
fn copy(folder: &Path) -> PathBuf {
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pronouncer.safetensors");
    let weights = folder.join("model.safetensors");
    fs::copy(&shipped, &weights).unwrap();
    fs::copy(Card::path(&shipped), Card::path(&weights)).unwrap();
    weights
}

#[test]
fn a_model_file_that_is_not_right_is_named_with_what_is_wrong() {
    let refuses = |weights: &Path, expected: &str| {
        let output =
            pronounce().arg("tough").arg("--model").arg(weights).assert().code(1);
        let said = text(&output.get_output().stderr).to_owned();
        assert!(
            said.starts_with("error: ") && said.contains(expected),
            "expected {expected}, found {said}"
        );
        assert!(!said.contains("panicked") && !said.contains("exception"), "{said}");
    };
    let folder = tempfile::tempdir().unwrap();
    refuses(&folder.path().join("gone.safetensors"), "gone.json: No such file");

    let weights = copy(folder.path());
    fs::remove_file(&weights).unwrap();
    refuses(&weights, "model.safetensors: No such file");

    let weights = copy(folder.path());
    let whole = fs::read(&weights).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        refuses(&weights, "cut short or damaged");
    }
    fs::write(
        &weights,
        b"this is not a model, but it is long enough to be looked at twice",
    )
    .unwrap();
    refuses(&weights, "cut short or damaged");

    let weights = copy(folder.path());
    let card = fs::read_to_string(Card::path(&weights)).unwrap();
    let refuses_card = |card: &str, expected: &str| {
        fs::write(Card::path(&weights), card).unwrap();
        refuses(&weights, expected);
    };
    refuses_card(&card[..card.len() / 2], "model.json: is cut short or damaged");
    refuses_card(
        &card.replace("\"blocks\": 6", "\"blocks\": 7"),
        "has no tensor `layers.6.",
    );
    refuses_card(
        &card.replace("\"blocks\": 6", "\"blocks\": 5"),
        "has a tensor `layers.5.",
    );
    refuses_card(
        &card.replace("\"hidden\": 640", "\"hidden\": 320"),
        "it belongs to another model",
    );
    refuses_card(
        &card.replace("\"heads\": 4", "\"heads\": 7"),
        "heads = 7: the width 160 cannot be cut",
    );
    refuses_card(&card.replace("\"<sep>\"", "\"<gap>\""), "is for another vocabulary");
    for (setting, value) in [
        ("width", 160),
        ("hidden", 640),
        ("blocks", 6),
        ("heads", 4),
        ("max_positions", 64),
    ] {
        let said = format!("\"{setting}\": {value}");
        assert!(card.contains(&said), "{said}");
        for wrong in [0, -1, 3, 1_000_000_000, i64::MAX] {
            let wrong = card.replace(&said, &format!("\"{setting}\": {wrong}"));
            refuses_card(&wrong, "model.");
        }
    }

    let weights = copy(folder.path());
    let mut flipped = whole;
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&weights, &flipped).unwrap();
    refuses(&weights, "its hash is");
}
