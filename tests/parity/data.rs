//! Chapter 3.

use std::sync::Arc;

use self_attention::prelude::*;

use crate::fixture::Fixture;

/// The text of a case, which the fixture holds as the numbers of its characters.
fn text(fixture: &Fixture, case: &str) -> String {
    let characters = Vec::<i64>::try_from(fixture.get(&format!("{case}/text"))).unwrap();
    characters.into_iter().map(|c| char::from(c as u8)).collect()
}

/// The examples of a case: a word and its phonemes on each line.
fn examples(fixture: &Fixture, case: &str) -> Vec<Example> {
    let example = |line: &str| {
        let mut fields = line.split(' ');
        let word = fields.next().unwrap();
        let phonemes: Vec<Phoneme> =
            fields.map(|symbol| symbol.parse().unwrap()).collect();
        Example::new(&Vocabulary::new(), word, &phonemes).unwrap()
    };
    text(fixture, case).lines().map(example).collect()
}

/// Ids and lengths are the same or they are wrong.
#[track_caller]
fn assert_same(fixture: &Fixture, case: &str, ours: &Batch) {
    let Batch { tokens, targets, lengths, prefixes } = ours;
    for (part, ours) in [
        ("tokens", tokens),
        ("targets", targets),
        ("lengths", lengths),
        ("prefixes", prefixes),
    ] {
        assert_eq!(ours, fixture.get(&format!("{case}/{part}")), "{case}: {part}");
    }
}

#[test]
fn the_rows_of_a_table_are_those_that_pytorch_looks_up() {
    let fixture = Fixture::load("ch03_data");
    let ids = fixture.get("embed/ids");
    let spelled = Vocabulary::new().letters("tough").unwrap();
    assert_eq!(&Tensor::from_slice(&spelled), ids);
    let vectors = fixture.get("embed/table").index_select(0, ids); // [T, E]
    assert_eq!(&vectors, fixture.get("embed/vectors"));
}

#[test]
fn words_are_split_as_in_python() {
    let fixture = Fixture::load("ch03_data");
    let sides: Vec<i64> = Vec::try_from(fixture.get("split/sides")).unwrap();
    let words = text(&fixture, "split");
    let ours: Vec<i64> = words.lines().map(|word| Split::of(word) as i64).collect();
    assert_eq!(ours, sides);
    assert!((0..3).all(|side| sides.contains(&side)));
}

#[test]
fn batches_are_those_of_pytorch() {
    let fixture = Fixture::load("ch03_data");
    for case in ["ough", "one", "apostrophe", "many"] {
        let examples = examples(&fixture, case);
        let batch = Batch::collate(&examples.iter().collect::<Vec<_>>(), Device::Cpu);
        assert_same(&fixture, case, &batch.unwrap());
    }
}

/// The shuffles differ, for they come from different generators. What shares a batch does not, as no two lengths are
/// the same here.
#[test]
fn the_loader_fills_its_batches_as_the_dataloader_does() {
    let fixture = Fixture::load("ch03_data");
    let budget = fixture.get("loader/budget").int64_value(&[0]) as usize;
    let examples: Arc<[Example]> = examples(&fixture, "loader").into();
    let loader = Loader::new(examples, LoaderConfig::new(budget), Device::Cpu).unwrap();
    let mut batches: Vec<Batch> = loader.epoch(0).map(Result::unwrap).collect();
    batches.sort_by_key(|batch| batch.tokens.size()[1]);
    let theirs = fixture.cases("tokens");
    let theirs: Vec<_> =
        theirs.into_iter().filter(|case| case.starts_with("loader/")).collect();
    assert_eq!(batches.len(), theirs.len());
    for (case, batch) in theirs.into_iter().zip(&batches) {
        assert_same(&fixture, case, batch);
    }
}
