//! What chapter 9 says of the shipped model, held against the model.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::root;
use self_attention::evaluation::baseline::LetterToSound;
use self_attention::evaluation::comparison::{read_pronunciations, score};
use self_attention::evaluation::decoding::{greedy, BeamSearch, Hypothesis};
use self_attention::evaluation::metrics::Scores;
use self_attention::evaluation::pronouncer::{Card, Pronouncer};
use self_attention::evaluation::record::Record;
use self_attention::prelude::*;

fn weights() -> PathBuf {
    root().join("models/pronouncer.safetensors")
}

fn record() -> Record {
    Record::read(&weights(), &Card::read(&weights()).unwrap()).unwrap()
}

fn output(name: &str) -> String {
    let path = root().join(format!("book/output/ch09_evaluation_{name}.txt"));
    fs::read_to_string(path).unwrap()
}

/// The percentages of a line that begins with `name`.
fn percentages(text: &str, name: &str) -> Vec<f64> {
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no line `{name}` in:\n{text}"));
    let before = line.split(" %").collect::<Vec<_>>();
    let numbers = before[..before.len() - 1].iter();
    numbers.map(|part| part.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn the_record_is_what_the_model_says_today() {
    let dictionary = Dictionary::embedded().unwrap();
    let record = record();
    let validation =
        dictionary.iter().filter(|entry| Split::of(&entry.word) == Split::Validation);
    let words: Vec<&str> = validation.map(|entry| &entry.word[..]).collect();
    let recorded: Vec<&str> = record.said.iter().map(|said| &said.word[..]).collect();
    assert_eq!(recorded, words);

    let Pronouncer { model, vocabulary } =
        Pronouncer::load(&weights(), Device::Cpu).unwrap();
    let sample: Vec<_> = record.said.iter().step_by(100).collect();
    let words: Vec<&str> = sample.iter().map(|said| &said.word[..]).collect();
    let written = greedy(&model, &vocabulary, &words).unwrap();
    let found =
        BeamSearch::new(Record::BEAMS).search(&model, &vocabulary, &words).unwrap();
    let same = |ours: &Hypothesis, recorded: &Hypothesis| {
        let apart = (ours.log_probability - recorded.log_probability).abs();
        assert!(
            ours.phonemes == recorded.phonemes && apart < 1e-3,
            "{ours:?}, {recorded:?}"
        );
    };
    for ((said, written), found) in sample.iter().zip(&written).zip(&found) {
        same(written, &said.greedy);
        same(&found[0], &said.beams);
    }
}

#[test]
fn the_records_scores_are_those_of_what_was_said() {
    let dictionary = Dictionary::embedded().unwrap();
    let record = record();
    let listed: Vec<_> = record
        .said
        .iter()
        .map(|said| dictionary.get(&said.word).unwrap().pronunciations.clone())
        .collect();
    let greedy: Vec<_> =
        record.said.iter().map(|said| said.greedy.phonemes.clone()).collect();
    let beams: Vec<_> =
        record.said.iter().map(|said| said.beams.phonemes.clone()).collect();
    let searches = &record.summary.searches;
    assert_eq!(Scores::of(&greedy, &listed).unwrap(), *record.greedy_scores());
    assert_eq!(Scores::of(&beams, &listed).unwrap(), *record.beams_scores());
    assert_eq!(
        searches.iter().map(|search| search.beams).collect::<Vec<_>>(),
        [1, 2, Record::BEAMS, Record::BEAMS]
    );
}

/// Q24: the two scores agree on which words are wholly right, and on nothing else.
#[test]
fn a_teacher_hides_how_wrong_the_wrong_words_are() {
    let record = record();
    let (given, alone) = (record.summary.teacher_forced, record.greedy_scores());
    assert_eq!(given.words, alone.words);
    // To a word: one near tie may fall to either side, for the two sum in another order.
    let apart = (1.0 - given.word_accuracy - alone.word_error_rate).abs();
    assert!(apart * (given.words as f64) < 1.5, "{apart}");
    assert!(1.0 - given.accuracy < alone.phoneme_error_rate);
    let text = output("q24_two_scores");
    let number = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.trim().starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(number("wrong targets a word") < number("edits a word"));

    let text = output("q24_references");
    let any = percentages(&text, "word error rate, any listed")[0];
    assert!(percentages(&text, "word error rate, the first listed")[0] > any + 1.0);
}

/// Q26: the likelier, the more beams.
#[test]
fn more_beams_find_likelier_pronunciations() {
    let searches = record().summary.searches;
    let mean: Vec<f64> =
        searches[..3].iter().map(|found| found.log_probability).collect();
    assert!(mean[0] < mean[1] && mean[1] <= mean[2], "{mean:?}");
}

/// Q26: what is hard for one is hard for the other.
#[test]
fn a_paired_comparison_is_finer() {
    let text = output("q26_beams");
    let paired = percentages(&text, "its standard error, paired")[0];
    assert!(paired < percentages(&text, "unpaired, on two sets of words")[0] / 2.0);
}

/// Q25: an unusual spelling is harder.
#[test]
fn unusual_spellings_are_harder() {
    let text = output("q25_kinds");
    let usual = percentages(&text, "usual")[0];
    let unusual = percentages(&text, "unusual")[0];
    assert!(unusual > 1.5 * usual, "{usual} and {unusual}");
}

#[test]
fn the_model_beats_what_looks_at_a_fixed_window() {
    let text = output("q25_scores");
    let model = percentages(&text, "this book's model");
    for baseline in ["a letter, its commonest sound", "a letter in a window of nine"] {
        let baseline = percentages(&text, baseline);
        assert!(model[0] < baseline[0] && model[1] < baseline[1]);
    }
}

#[test]
fn what_pronounce_prints_is_what_the_page_shows() {
    let dictionary = Dictionary::embedded().unwrap();
    let words = ["frough", "softmax", "tokenizer", "rustacean"];
    assert!(words.iter().all(|word| dictionary.get(word).is_none()));
    let printed = Command::new(assert_cmd::cargo::cargo_bin!("pronounce"))
        .args(["--beam", "5", "--n-best", "3"])
        .args(words)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), output("q26_invented"));
}

#[test]
fn a_record_is_refused_beside_other_weights() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model.safetensors");
    fs::copy(Record::path(&weights()), Record::path(&copy)).unwrap();
    let mut card = Card::read(&weights()).unwrap();
    assert_eq!(Record::read(&copy, &card).unwrap(), record());
    card.weights = "0123456789abcdef".into();
    let error = Record::read(&copy, &card).unwrap_err().to_string();
    assert!(error.contains("the model has 0123456789abcdef; make it again"), "{error}");
    fs::write(Record::path(&copy), "{}").unwrap();
    assert!(Record::read(&copy, &card).unwrap_err().to_string().contains("is damaged"));
}

#[test]
fn a_record_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model.safetensors");
    let record = record();
    record.write(&copy).unwrap();
    let [ours, theirs] =
        [&copy, &weights()].map(|path| fs::read(Record::path(path)).unwrap());
    assert_eq!(ours, theirs);
}

/// Q25: what the shipped model said of the test words is what its card was scored on, and what it says today.
#[test]
fn the_model_says_what_is_saved() {
    let dictionary = Dictionary::embedded().unwrap();
    let test: Vec<_> =
        dictionary.iter().filter(|entry| Split::of(&entry.word) == Split::Test).collect();
    let saved = root().join("models/comparison/pronouncer.tsv");
    let saved = read_pronunciations(&saved, &test).unwrap();
    let card = Card::read(&weights()).unwrap();
    assert_eq!(Some(score(&saved, &test).unwrap()), card.test_scores);
    let pronouncer = Pronouncer::load(&weights(), Device::Cpu).unwrap();
    let some: Vec<usize> = (0..test.len()).step_by(50).collect();
    let words: Vec<&str> = some.iter().map(|&place| &test[place].word[..]).collect();
    let said = pronouncer.pronounce(&words).unwrap();
    let differ = some.iter().zip(said).filter(|(place, said)| *said != saved[**place]);
    assert!(differ.count() <= 1); // on another processor a word on the edge may fall to the other side
}

/// A part of the test words: to say all of them again takes no longer, but to learn does.
#[test]
fn the_baselines_say_what_is_saved() {
    let dictionary = Dictionary::embedded().unwrap();
    let part = |split| -> Vec<_> {
        dictionary.iter().filter(|entry| Split::of(&entry.word) == split).collect()
    };
    let (train, test) = (part(Split::Train), part(Split::Test));
    let mut baseline = LetterToSound::train(&train).unwrap();
    for (window, file) in
        [(0, "commonest_sound.tsv"), (baseline.window, "letter_to_sound.tsv")]
    {
        baseline.window = window;
        let path = root().join("models/comparison").join(file);
        let saved = read_pronunciations(&path, &test).unwrap();
        for (entry, saved) in test.iter().zip(saved) {
            assert_eq!(baseline.pronounce(&entry.word), saved, "{}", entry.word);
        }
    }
}
