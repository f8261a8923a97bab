//! The model that is shipped: its card tells the truth, and it is as good as it should be.

mod common;

use std::fs;

use common::root;
use self_attention::data::cmudict::{Dictionary, Entry};
use self_attention::data::split::Split;
use self_attention::data::vocabulary::SEP;
use self_attention::evaluation::pronouncer::{evaluate, Card, Pronouncer};
use self_attention::prelude::*;
use self_attention::training::checkpoint::Checkpoint;

#[test]
fn scores_on_unseen_words_what_its_card_says() {
    let weights = root().join("models/pronouncer.safetensors");
    let card = Card::read(&weights).unwrap();
    let pronouncer = Pronouncer::load(&weights, Device::Cpu).unwrap();
    let dictionary = Dictionary::embedded().unwrap();
    let unseen = |entry: &&Entry| Split::of(&entry.word) == Split::Test;
    let unseen: Vec<_> = dictionary.iter().filter(unseen).collect();
    let scores = evaluate(&pronouncer.model, &pronouncer.vocabulary, &unseen).unwrap();
    let said = card.test_scores.expect("the shipped model is scored on the test words");
    assert_eq!(scores.words, said.words);
    // Another processor adds in another order, and a word or two on the edge may fall to the other side.
    for (found, said) in [
        (scores.word_error_rate, said.word_error_rate),
        (scores.phoneme_error_rate, said.phoneme_error_rate),
        (scores.f1_micro, said.f1_micro),
        (scores.bleu, said.bleu),
    ] {
        assert!((found - said).abs() < 1e-3, "{scores:?}\n{said:?}");
    }
    assert!(scores.word_error_rate <= 0.27, "{scores:?}");
    assert!(scores.phoneme_error_rate <= 0.066, "{scores:?}");
}

#[test]
fn the_card_and_the_readme_describe_it() {
    let weights = root().join("models/pronouncer.safetensors");
    let card = Card::read(&weights).unwrap();
    let tensors = Checkpoint::read(&weights).unwrap().tensors;
    assert_eq!(card.parameters, tensors.values().map(Tensor::numel).sum::<usize>());
    assert_eq!(card.split, Split::RULE);
    assert_eq!(card.epochs.len() as u64, card.training.epochs);

    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let readme = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    let scores = card.test_scores.unwrap();
    for fact in [
        format!("has {} parameters", grouped(card.parameters)),
        format!("On {} words", grouped(scores.words)),
        format!("word error rate of {:.1} %", 100.0 * scores.word_error_rate),
        format!("phoneme error rate of {:.1} %", 100.0 * scores.phoneme_error_rate),
    ] {
        assert!(readme.contains(&fact), "the README should say: {fact}");
    }
}

/// A number with a comma between its thousands.
fn grouped(number: usize) -> String {
    match number {
        0..=999 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// Q23: the model that counts anew and the one that counts through differ in nothing else, and not by chance.
#[test]
fn counting_anew_is_worth_more_than_chance() {
    let card = |path| Card::read(&root().join(path)).unwrap();
    let through = card("models/comparison/counted_through.safetensors");
    let anew = card("models/pronouncer.safetensors");
    assert_eq!((&through.training, &through.data), (&anew.training, &anew.data));
    assert_eq!(through.model.clone().with_separator(SEP), anew.model);

    let losses = |card: &Card| -> Vec<f64> {
        card.epochs.iter().map(|epoch| epoch.validation_loss).collect()
    };
    let (through, anew) = (losses(&through), losses(&anew));
    let leads: Vec<f64> = through.iter().zip(&anew).map(|(t, a)| t - a).collect();
    assert!(leads.iter().all(|lead| *lead > 0.005), "{leads:?}");
    assert!(leads[0] > 0.02 && leads[23] < 0.01, "{leads:?}");
    assert!(anew[17] < through[23]);

    let text = fs::read_to_string(root().join("book/output/ch08_training_q23_anew.txt"));
    let text = text.unwrap();
    let number = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let number = line.trim_end_matches(" %").rsplit(' ').next().unwrap();
        number.parse().unwrap()
    };
    assert!(number("gained") > 3.0 * number("its standard error"));
    let times = number("only counted anew") / number("only counted through");
    assert!((1.3..1.37).contains(&times), "{times}"); // four for each three
}
