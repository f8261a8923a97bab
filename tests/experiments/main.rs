//! Chapter 11: the results are those of the studies, and the page says no more than they bear out.

#[path = "../common/mod.rs"]
mod common;

mod claims;

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use common::{root, written};
use self_attention::experiments::analysis::Findings;
use self_attention::experiments::results::{Finished, Results};
use self_attention::experiments::studies::{studies, trials, Size, Study};
use self_attention::experiments::trial::Trial;
use self_attention::prelude::*;
use self_attention::training::run::{DataConfig, RunConfig};

/// The page and its results, once the page is written. Before that there is nothing to hold against each other.
fn chapter() -> Option<(String, Results)> {
    written().find(|chapter| chapter.slug == "ch11_experiments").map(|chapter| {
        let page = root().join("book").join(format!("{}.md", chapter.slug));
        (fs::read_to_string(page).unwrap(), Results::read(&saved()).unwrap())
    })
}

fn saved() -> PathBuf {
    root().join("figures/ch11_trials.jsonl")
}

/// What is wrong with the results of studies: trials that are missing or too many, and such as were not run alike.
fn faults(studies: &[Study], results: &Results) -> Vec<String> {
    let mut faults = Vec::new();
    for study in studies {
        faults.extend(Findings::new(study, results).err().map(|error| error.to_string()));
    }
    let needed = trials(studies);
    for finished in results.trials() {
        let name = &finished.name;
        let Some(trial) = needed.iter().find(|trial| trial.id == finished.id) else {
            faults.push(format!("`{name}` belongs to no study"));
            continue;
        };
        if trial.name != *name {
            faults.push(format!("`{name}` is called `{}` by its study", trial.name));
        }
        // Times can be compared only if they were taken on the same machine in the same way.
        let first = &results.trials()[0];
        if (&finished.processor, finished.threads) != (&first.processor, first.threads) {
            faults.push(format!(
                "`{name}` was run on another machine, or with other threads"
            ));
        }
        let epochs = trial.config.training.epochs as usize;
        let losses = [&finished.training_losses, &finished.validation_losses];
        match &finished.scores {
            None => {
                if finished.diverged.is_none() {
                    faults
                        .push(format!("`{name}` has no scores, and no reason for that"));
                }
            }
            Some(scores) => {
                if losses.iter().any(|losses| losses.len() != epochs) {
                    faults.push(format!(
                        "`{name}` has not a loss for each of {epochs} epochs"
                    ));
                }
                let best =
                    finished.validation_losses.iter().copied().fold(f64::MAX, f64::min);
                if (best - scores.validation_loss).abs() > 1e-4 {
                    faults.push(format!(
                        "`{name}` was scored at a loss of {}, and its best is {best}",
                        scores.validation_loss
                    ));
                }
                if !(0.0..=1.0).contains(&scores.word_error_rate) {
                    faults.push(format!("`{name}` has a word error rate that is none"));
                }
            }
        }
    }
    // The same budget for all: whoever came to the end took as many steps as any other.
    let whole = || results.trials().iter().filter(|trial| trial.diverged.is_none());
    if let Some(first) = whole().next() {
        for other in whole().filter(|other| other.steps != first.steps) {
            faults.push(format!(
                "`{}` took {} steps and `{}` {}",
                first.name, first.steps, other.name, other.steps
            ));
        }
    }
    faults
}

#[test]
fn the_results_of_the_book_are_those_of_its_studies() {
    if let Some((_, results)) = chapter() {
        assert_eq!(faults(&studies(Size::Full).unwrap(), &results), Vec::<String>::new());
    }
}

#[test]
fn the_page_compares_nothing_that_the_results_do_not_bear_out() {
    if let Some((page, results)) = chapter() {
        let studies = studies(Size::Full).unwrap();
        assert_eq!(claims::problems(&page, &studies, &results), Vec::<String>::new());
    }
}

/// Here and not beside the code, where other tests draw from libtorch's generator at the same time.
#[test]
fn a_trial_gives_the_same_again() {
    let mut config = RunConfig::quick(&Vocabulary::new());
    config.model = config.model.with_width(8).with_blocks(1).with_heads(2);
    config.data =
        DataConfig { words: Some(60), validation_words: Some(4), common_times: 1 };
    config.training.epochs = 2;
    config.training.tokens_per_batch = 64;
    let trial = Trial::new(&config, 1, &config).unwrap();
    let dictionary = Dictionary::embedded().unwrap();
    let run = || {
        let folder = tempfile::tempdir().unwrap();
        let watch = |_| ControlFlow::Continue(());
        let finished = trial.run(&dictionary, folder.path(), watch).unwrap().unwrap();
        Finished { seconds: 0.0, core_seconds: 0.0, ..finished }
    };
    assert_eq!(run(), run());
}

#[test]
fn results_that_do_not_belong_together_fail() {
    let studies = studies(Size::Quick).unwrap();
    let good = claims::tests::made_up(&studies, |_| 0.2);
    assert_eq!(faults(&studies, &good), Vec::<String>::new());

    let changed = |change: fn(&mut Vec<_>)| {
        let mut trials = good.trials().to_vec();
        change(&mut trials);
        faults(&studies, &Results::new(trials).unwrap()).join("\n")
    };
    for (found, expected) in [
        (changed(|trials| drop(trials.pop())), "is missing; run it"),
        (changed(|trials| trials[1].threads = 2), "with other threads"),
        (changed(|trials| trials[1].processor = "another".into()), "on another machine"),
        (changed(|trials| trials[1].steps += 1), "steps and"),
        (changed(|trials| trials[1].scores = None), "and no reason for that"),
        (changed(|trials| trials[1].validation_losses.truncate(1)), "a loss for each of"),
        (changed(|trials| trials[1].validation_losses[0] = 0.01), "and its best is 0.01"),
        (changed(|trials| trials[1].name = "heads=3".into()), "by its study"),
    ] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
    let too_many = faults(&studies[1..], &good).join("\n");
    assert!(too_many.contains("belongs to no study"), "{too_many}");
}
