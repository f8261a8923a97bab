//! `pronounce` as a person meets it.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use self_attention::evaluation::pronouncer::Card;

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
        &card.replace("\"blocks\": 4", "\"blocks\": 5"),
        "has no tensor `layers.4.",
    );
    refuses_card(
        &card.replace("\"blocks\": 4", "\"blocks\": 3"),
        "has a tensor `layers.3.",
    );
    refuses_card(
        &card.replace("\"hidden\": 512", "\"hidden\": 256"),
        "it belongs to another model",
    );
    refuses_card(
        &card.replace("\"heads\": 4", "\"heads\": 7"),
        "heads = 7: the width 128 cannot be cut",
    );
    refuses_card(&card.replace("\"<sep>\"", "\"<gap>\""), "is for another vocabulary");
    for (setting, value) in [
        ("width", 128),
        ("hidden", 512),
        ("blocks", 4),
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
