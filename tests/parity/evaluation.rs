//! Chapter 9: scores against those of scikit-learn, sacrebleu, nltk and jiwer.

use self_attention::evaluation::metrics::{
    bleu, edit_distance, f1, f1_aligned, phoneme_error_rate, word_accuracy,
    word_error_rate, Bleu, Counts,
};
use self_attention::prelude::*;

use crate::fixture::{assert_close, Fixture};

const SLUG: &str = "ch09_evaluation";
/// A label with nothing beside it, and what stands after the end of a sequence.
const GAP: i64 = -1;

/// The sequences in a tensor's rows, each up to its end.
fn sequences(rows: &Tensor) -> Vec<Vec<i64>> {
    let rows = Vec::<Vec<i64>>::try_from(rows).unwrap();
    let end = |row: Vec<i64>| row.into_iter().take_while(|&token| token != GAP).collect();
    rows.into_iter().map(end).collect()
}

/// Predictions, and the references of each.
type Corpus = (Vec<Vec<i64>>, Vec<Vec<Vec<i64>>>);

fn corpus(fixture: &Fixture, case: &str) -> Corpus {
    let predictions = sequences(fixture.get(&format!("{case}/predictions")));
    let references = fixture.get(&format!("{case}/references")); // [words, references, tokens]
    let listed = |word: i64| {
        let mut listed = sequences(&references.get(word));
        listed.retain(|reference| !reference.is_empty());
        listed
    };
    let references = (0..references.size()[0]).map(listed).collect();
    (predictions, references)
}

/// Expects a score to be the fixture's, to 10⁻¹².
#[track_caller]
fn assert_score(fixture: &Fixture, name: &str, ours: &[f64]) {
    let theirs = fixture.get(name);
    assert_close(name, &Tensor::from_slice(ours).view_as(theirs), theirs);
}

#[test]
fn edit_distances_are_nltks() {
    let fixture = Fixture::load(SLUG);
    let mut pairs = 0;
    for case in fixture.cases("edits") {
        let (predictions, references) = corpus(&fixture, case);
        let theirs = fixture.get(&format!("{case}/edits")); // [words, references]
        for (word, (prediction, listed)) in
            predictions.iter().zip(&references).enumerate()
        {
            for (index, reference) in listed.iter().enumerate() {
                let expected = theirs.int64_value(&[word as i64, index as i64]);
                let ours = edit_distance(prediction, reference) as i64;
                assert_eq!(ours, expected, "{case}: {prediction:?}, {reference:?}");
                pairs += 1;
            }
        }
    }
    assert!(pairs > 140, "{pairs}");
}

#[test]
fn error_rates_are_those_of_scikit_learn_and_jiwer() {
    let fixture = Fixture::load(SLUG);
    for case in fixture.cases("phoneme_error_rate") {
        let (predictions, references) = corpus(&fixture, case);
        let accuracy = word_accuracy(&predictions, &references).unwrap();
        assert_score(&fixture, &format!("{case}/word_accuracy"), &[accuracy]);
        let errors = word_error_rate(&predictions, &references).unwrap();
        assert!((accuracy + errors - 1.0).abs() < 1e-12, "{case}");
        let errors = phoneme_error_rate(&predictions, &references).unwrap();
        assert_score(&fixture, &format!("{case}/phoneme_error_rate"), &[errors]);
    }
}

#[test]
fn bleu_and_all_its_parts_are_sacrebleus() {
    let fixture = Fixture::load(SLUG);
    for case in fixture.cases("bleu") {
        let (predictions, references) = corpus(&fixture, case);
        let parts = Bleu::of(&predictions, &references).unwrap();
        let lengths = [parts.predicted_length, parts.reference_length];
        assert_eq!(
            &Tensor::from_slice(&lengths.map(|length| length as i64)),
            fixture.get(&format!("{case}/bleu_lengths")),
            "{case}"
        );
        let penalty = [parts.brevity_penalty()];
        assert_score(&fixture, &format!("{case}/bleu_precisions"), &parts.precisions());
        assert_score(&fixture, &format!("{case}/bleu_brevity_penalty"), &penalty);
        let score = bleu(&predictions, &references).unwrap();
        assert_score(&fixture, &format!("{case}/bleu"), &[score]);
    }
}

#[test]
fn precision_recall_and_f1_are_those_of_scikit_learn() {
    let fixture = Fixture::load(SLUG);
    let cases = fixture.cases("per_class");
    assert_eq!(cases.len(), 9);
    for case in cases {
        let labels = |side: &str| {
            Vec::<i64>::try_from(fixture.get(&format!("{case}/{side}"))).unwrap()
        };
        let (predicted, actual) = (labels("predicted"), labels("actual"));
        let label = |label: &'_ i64| (*label != GAP).then_some(*label);
        let pairs: Vec<_> =
            predicted.iter().map(label).zip(actual.iter().map(label)).collect();
        let scores =
            f1_aligned(pairs.iter().map(|(p, a)| (p.as_ref(), a.as_ref()))).unwrap();

        let each = [Counts::precision, Counts::recall, Counts::f1];
        let micro = each.map(|score| score(&scores.total));
        let macro_average = each.map(|score| scores.mean(score));
        let classes = scores.per_class.values();
        let per_class = each.map(|score| classes.clone().map(score).collect::<Vec<_>>());
        assert_score(&fixture, &format!("{case}/micro"), &micro);
        assert_score(&fixture, &format!("{case}/macro"), &macro_average);
        assert_score(&fixture, &format!("{case}/per_class"), &per_class.concat());
        assert_eq!((scores.micro, scores.macro_average), (micro[2], macro_average[2]));

        if !predicted.contains(&GAP) && !actual.contains(&GAP) {
            assert_eq!(f1(&predicted, &actual).unwrap(), scores, "{case}");
            assert_score(&fixture, &format!("{case}/accuracy"), &[scores.micro]);
        }
    }
}
