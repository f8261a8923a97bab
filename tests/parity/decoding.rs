//! Chapter 9: reading with a teacher, writing, and calibration, against PyTorch without a cache.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use self_attention::evaluation::calibration::Calibration;
use self_attention::evaluation::decoding::{greedy, BeamSearch, Hypothesis};
use self_attention::evaluation::teacher_forced::{misses, teacher_forced_logits};
use self_attention::prelude::*;
use self_attention::training::checkpoint::Checkpoint;
use self_attention::training::loss::cross_entropy;

use crate::fixture::{assert_close, Fixture};

const SLUG: &str = "ch09_decoding";
const WORDS: [&str; 6] = ["tough", "a", "though", "cough", "knights", "ox"];

fn model(fixture: &Fixture) -> Transformer {
    let sizes = TransformerConfig::new(69).with_width(16).with_heads(4).with_blocks(2);
    let config = TransformerConfig { max_positions: 20, ..sizes };
    let store = nn::VarStore::new(Device::Cpu);
    let model = config.init(&store.root()).unwrap();
    let named = |name: &String| {
        let tensor = fixture.get(&format!("parameters/{name}"));
        (name.clone(), tensor.shallow_clone())
    };
    let tensors: BTreeMap<_, _> = store.variables().keys().map(named).collect();
    let checkpoint = Checkpoint { tensors, texts: HashMap::new() };
    checkpoint.restore(store.variables(), Path::new(SLUG)).unwrap();
    model
}

#[test]
fn teacher_forced_losses_and_misses_are_those_of_pytorch() {
    let fixture = Fixture::load(SLUG);
    let examples =
        [("tough", "T AH F"), ("a", "AH"), ("though", "DH OW"), ("enough", "IH N AH F")];
    let examples = examples.map(|(word, phonemes)| {
        let phonemes: Vec<Phoneme> =
            phonemes.split(' ').map(|symbol| symbol.parse().unwrap()).collect();
        Example::new(&Vocabulary::new(), word, &phonemes).unwrap()
    });
    let batch =
        Batch::collate(&examples.iter().collect::<Vec<_>>(), Device::Cpu).unwrap();
    let logits =
        teacher_forced_logits(&model(&fixture), &batch, &Dropout::off()).unwrap();
    let loss = cross_entropy(&logits, &batch.targets, 0.0).unwrap();
    assert_close("loss", &loss, fixture.get("teacher_forced/loss"));
    let theirs = Vec::<i64>::try_from(fixture.get("teacher_forced/missed")).unwrap();
    assert_eq!(misses(&logits, &batch.targets).unwrap(), theirs);
}

/// Expects the tokens of PyTorch, and its log-probabilities to 10⁻⁴: sums of up to eighteen numbers, some of them beyond
/// −5, in 32 bits and in another order.
#[track_caller]
fn assert_same(fixture: &Fixture, case: &str, ours: &[Hypothesis]) {
    let tokens = fixture.get(&format!("{case}/tokens"));
    let tokens = Vec::<Vec<i64>>::try_from(tokens.reshape([-1, 20])).unwrap();
    let log_probabilities = fixture.get(&format!("{case}/log_probability"));
    let log_probabilities =
        Vec::<f64>::try_from(log_probabilities.reshape([-1])).unwrap();
    assert_eq!(ours.len(), tokens.len(), "{case}");
    let vocabulary = Vocabulary::new();
    for ((ours, tokens), theirs) in ours.iter().zip(tokens).zip(log_probabilities) {
        let padding = tokens.iter().position(|&token| token == 0).unwrap_or(tokens.len());
        let written = vocabulary.pronunciation(&tokens[..padding]).unwrap();
        assert_eq!(ours.phonemes, written, "{case}");
        let apart = (ours.log_probability - theirs).abs();
        assert!(apart < 1e-4, "{case}: {} and {theirs}", ours.log_probability);
    }
}

#[test]
fn greedy_decoding_with_a_cache_writes_what_pytorch_writes_without() {
    let fixture = Fixture::load(SLUG);
    let written = greedy(&model(&fixture), &Vocabulary::new(), &WORDS).unwrap();
    for (word, written) in WORDS.iter().zip(&written) {
        assert_same(&fixture, &format!("{word}/greedy"), std::slice::from_ref(written));
    }
}

#[test]
fn four_beams_with_a_cache_find_what_pytorch_finds_without() {
    let fixture = Fixture::load(SLUG);
    let found =
        BeamSearch::new(4).search(&model(&fixture), &Vocabulary::new(), &WORDS).unwrap();
    for (word, found) in WORDS.iter().zip(&found) {
        assert_same(&fixture, &format!("{word}/beams"), found);
    }
}

#[test]
fn the_expected_calibration_error_is_that_of_pytorch() {
    let fixture = Fixture::load(SLUG);
    let [confidence, right] = ["confidence", "right"].map(|name| {
        Vec::<f64>::try_from(fixture.get(&format!("calibration/{name}"))).unwrap()
    });
    let outcomes: Vec<_> =
        confidence.into_iter().zip(right.into_iter().map(|right| right == 1.0)).collect();
    for bins in [1, 7, 10] {
        let ours = Calibration::of(&outcomes, bins).unwrap().expected_error;
        let theirs = fixture.get(&format!("calibration/{bins}/error"));
        assert_close("ECE", &Tensor::from(ours), theirs);
    }
}
