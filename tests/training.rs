//! A training run as a whole: it learns, and it survives being killed.
//!
//! One test at a time, for the first parameters are drawn from libtorch's one generator.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self_attention::data::batch::Example;
use self_attention::data::cmudict::Dictionary;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::prelude::*;
use self_attention::training::log::{self, EpochTime, Record};
use self_attention::training::trainer::{Outcome, Progress, Trainer, TrainingConfig};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    tch::set_num_threads(1); // there is little to share
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn words() -> [Vec<Example>; 2] {
    let vocabulary = Vocabulary::new();
    let dictionary =
        b"though DH OW1\nthrough TH R UW1\ntough T AH1 F\ncough K AO1 F\nbough B AW1\nrough R AH1 F";
    let dictionary = Dictionary::parse(dictionary).unwrap();
    let examples = dictionary.iter().map(|entry| {
        Example::new(&vocabulary, &entry.word, &entry.pronunciations[0]).unwrap()
    });
    let examples: Vec<_> = examples.collect();
    [examples.clone(), examples]
}

fn small() -> TransformerConfig {
    TransformerConfig::new(69).with_width(32).with_blocks(2)
}

fn trainer(config: &TrainingConfig, folder: &Path) -> Result<Trainer> {
    Trainer::new(&small(), config.clone(), words(), Device::Cpu, folder)
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn numbers(trainer: &Trainer) -> BTreeMap<String, Vec<f32>> {
    let flat = |tensor: &Tensor| Vec::try_from(tensor.reshape([-1])).unwrap();
    trainer
        .parameters()
        .tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), flat(tensor)))
        .collect()
}

#[test]
fn a_run_begins_at_ln_v_and_learns_its_words_by_heart() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let config = TrainingConfig {
        epochs: 80,
        label_smoothing: 0.0,
        dropout: 0.0,
        learning_rate: 1e-2,
        ..TrainingConfig::default()
    };
    let mut trainer = trainer(&config, folder.path()).unwrap();
    let mut first = None;
    let watch = |progress| {
        if let Progress::Step(step) = progress {
            first = first.or(Some(step.loss));
        }
        ControlFlow::Continue(())
    };
    assert_eq!(trainer.run(watch).unwrap(), Outcome::Finished);
    assert!((first.unwrap() - 69f64.ln()).abs() < 0.1, "{first:?}");
    let epochs = trainer.epochs();
    assert_eq!(epochs.len(), 80);
    assert!(epochs[79].validation_loss < 0.05, "{:?}", epochs[79]);

    // A line for each validation, a line for each epoch, and the times apart from them.
    let lines: Vec<Record> = log::read(&folder.path().join("log.jsonl")).unwrap();
    assert_eq!(lines.len(), 160);
    assert!(matches!(lines[0], Record::Validation(_)));
    assert_eq!(lines[159], Record::Epoch(epochs[79]));
    let times: Vec<EpochTime> = log::read(&folder.path().join("times.jsonl")).unwrap();
    assert_eq!(times, trainer.times());
    assert!(times.iter().all(|time| time.seconds > 0.0 && time.tokens_per_second > 0.0));
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_at_the_same_numbers() {
    let _alone = alone();
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = TrainingConfig {
        epochs: 4,
        tokens_per_batch: 20,
        validate_every: Some(2),
        average: 0.5,
        ..TrainingConfig::default()
    };
    let mut straight = trainer(&config, whole.path()).unwrap();
    straight.run(go_on).unwrap();

    let mut kills = 0;
    let resumed = loop {
        let mut trainer = trainer(&config, broken.path())
            .unwrap()
            .with_checkpoint_every(Duration::ZERO);
        let (done, total) = trainer.steps();
        let killed = catch_unwind(AssertUnwindSafe(|| {
            let kill = |progress| {
                if let Progress::Step(step) = progress {
                    assert!(step.steps < done + 4, "killed before this step is kept");
                }
                ControlFlow::Continue(())
            };
            trainer.run(kill).unwrap();
        }));
        match killed {
            Ok(()) => break trainer,
            Err(_) => kills += 1,
        }
        assert!(kills < total, "makes no headway");
    };
    assert!(kills > 2, "{kills}");
    assert_eq!(numbers(&straight), numbers(&resumed));
    for file in ["log.jsonl", "best.safetensors"] {
        let [whole, broken] =
            [&whole, &broken].map(|folder| fs::read(folder.path().join(file)).unwrap());
        assert!(whole == broken, "{file} differs");
    }
}

#[test]
fn the_model_of_the_last_epochs_is_the_mean_of_its_parameters_over_their_steps() {
    let _alone = alone();
    let [averaged, plain] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = TrainingConfig {
        epochs: 3,
        tokens_per_batch: 20,
        warm_up: 0.3,
        lowest_rate: 0.5,
        ..TrainingConfig::default()
    };
    let mut plain = trainer(&config, plain.path()).unwrap();
    let mut rates = Vec::new();
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut taken = 0.0;
    let [words, _] = words();
    let loader = LoaderConfig::new(20).with_seed(config.seed);
    let loader = Loader::new(words.into(), loader, Device::Cpu).unwrap();
    for epoch in 0..3 {
        for batch in loader.epoch(epoch) {
            rates.push(plain.step(&batch.unwrap()).unwrap().learning_rate);
            if epoch == 0 {
                continue;
            }
            taken += 1.0;
            for (name, values) in numbers(&plain) {
                let sum = sums.entry(name).or_insert_with(|| vec![0.0; values.len()]);
                sum.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += f64::from(value));
            }
        }
    }
    // It rises from below the lowest rate, falls, and stays there.
    assert!(rates[0] < 1e-3 && rates[3] > rates[6], "{rates:?}");
    assert_eq!(rates.last(), Some(&1e-3));

    let config = TrainingConfig { average: 2.0 / 3.0, ..config };
    let mut trainer = trainer(&config, averaged.path()).unwrap();
    trainer.run(go_on).unwrap();
    assert_eq!(numbers(&trainer), numbers(&plain)); // the steps are those of a run without
    let last = trainer.epochs()[2].validation_loss;
    assert_eq!(
        trainer.best().unwrap().validation_loss,
        last,
        "the last is the best here"
    );
    trainer.restore_best().unwrap();
    for (name, values) in numbers(&trainer) {
        for (value, sum) in values.iter().zip(&sums[&name]) {
            assert!((f64::from(*value) - sum / taken).abs() < 1e-6, "{name}");
        }
    }
    assert_eq!(trainer.validation_loss().unwrap(), last); // and it is what was validated
}

#[test]
fn whoever_watches_can_stop_a_run_and_it_goes_on_from_that_step() {
    let _alone = alone();
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config =
        TrainingConfig { epochs: 2, tokens_per_batch: 20, ..TrainingConfig::default() };
    let mut straight = trainer(&config, whole.path()).unwrap();
    straight.run(go_on).unwrap();
    let mut stops = 0;
    loop {
        let mut trainer = trainer(&config, broken.path()).unwrap();
        assert_eq!(trainer.steps().0, stops);
        match trainer.run(|_| ControlFlow::Break(())).unwrap() {
            Outcome::Interrupted => stops = trainer.steps().0,
            outcome => {
                assert_eq!(outcome, Outcome::Finished);
                assert_eq!(numbers(&straight), numbers(&trainer));
                break;
            }
        }
    }
    assert!(stops > 2, "{stops}");
}

#[test]
fn patience_ends_a_run_that_learns_no_more_and_the_best_parameters_are_kept() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let config = TrainingConfig {
        epochs: 200,
        learning_rate: 1e-2,
        label_smoothing: 0.0,
        dropout: 0.0,
        validate_every: Some(1),
        patience: Some(5),
        ..TrainingConfig::default()
    };
    let [training, _] = words();
    let vocabulary = Vocabulary::new();
    let other = Dictionary::parse(
        b"cow K AW1
dog D AO1 G",
    )
    .unwrap();
    let validation = other.iter().map(|entry| {
        Example::new(&vocabulary, &entry.word, &entry.pronunciations[0]).unwrap()
    });
    let words = [training, validation.collect()];
    let new = || {
        let words = words.clone();
        Trainer::new(&small(), config.clone(), words, Device::Cpu, folder.path()).unwrap()
    };
    let mut trainer = new();
    assert_eq!(trainer.run(go_on).unwrap(), Outcome::OutOfPatience);
    let (steps, total) = trainer.steps();
    assert!(steps < total);
    let best = trainer.best().unwrap();
    assert!(trainer.validation_loss().unwrap() > best.validation_loss);
    trainer.restore_best().unwrap();
    assert_eq!(trainer.validation_loss().unwrap(), best.validation_loss);

    drop(trainer);

    // Started again, it knows that it is at its end.
    let mut again = new();
    assert_eq!(again.run(go_on).unwrap(), Outcome::OutOfPatience);
    assert_eq!(again.steps().0, steps);
}

#[test]
fn a_checkpoint_of_other_settings_or_a_damaged_one_is_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let config = TrainingConfig { epochs: 1, ..TrainingConfig::default() };
    trainer(&config, folder.path()).unwrap().run(go_on).unwrap();

    let other = TrainingConfig { learning_rate: 1e-3, ..config.clone() };
    let error = trainer(&other, folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("was made with other settings") && error.contains("0.002"),
        "{error}"
    );

    let checkpoint = folder.path().join("checkpoint.safetensors");
    let whole = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &whole[..whole.len() / 2]).unwrap();
    let error = trainer(&config, folder.path()).unwrap_err().to_string();
    assert!(error.contains("cut short or damaged"), "{error}");
}

#[test]
fn settings_that_cannot_train_are_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let config = TrainingConfig::default;
    for bad in [
        TrainingConfig { epochs: 0, ..config() },
        TrainingConfig { stress_weight: -0.1, ..config() },
        TrainingConfig { lowest_rate: 1.1, ..config() },
        TrainingConfig { average: -0.1, ..config() },
        TrainingConfig { learning_rate: f64::NAN, ..config() },
        TrainingConfig { clip: 0.0, ..config() },
        TrainingConfig { warm_up: 1.5, ..config() },
        TrainingConfig { dropout: 1.0, ..config() },
        TrainingConfig { tokens_per_batch: 0, ..config() },
        TrainingConfig { validate_every: Some(0), ..config() },
        TrainingConfig { patience: Some(0), ..config() },
        TrainingConfig { mixed_precision: true, ..config() }, // on a CPU
    ] {
        assert!(
            matches!(trainer(&bad, folder.path()), Err(Error::Config { .. })),
            "{bad:?}"
        );
    }
    let error = trainer(
        &TrainingConfig { learning_rate: 1e30, clip: 1e30, ..config() },
        folder.path(),
    )
    .unwrap()
    .run(go_on)
    .unwrap_err();
    let expected = "the validation loss became NaN after step 1; try a smaller one";
    assert!(error.to_string().contains(expected), "{error}");
}
