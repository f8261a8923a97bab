//! A trial: one configuration and one seed, trained, scored, and timed.

use std::hash::Hasher;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use tch::Device;

use self_attention::data::cmudict::Dictionary;
use self_attention::data::evenly;
use self_attention::data::split::Split;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::environment::Environment;
use self_attention::error::{Error, Result};
use self_attention::evaluation::pronouncer::evaluate;
use self_attention::evaluation::teacher_forced::teacher_forced;
use self_attention::experiments::results::{Finished, TrialScores};
use self_attention::training::run::RunConfig;
use self_attention::training::trainer::{Outcome, Progress, Trainer};

/// One run that is to be made.
// ANCHOR: trial
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What a person calls it, as in `heads=8 seed=2`.
    pub name: String,
    /// What the results call it: a hash of its settings, the seed among them.
    pub id: String,
    /// Its settings.
    pub config: RunConfig,
}
// ANCHOR_END: trial

impl Trial {
    /// A configuration with a seed. The name says what differs from `baseline`.
    ///
    /// # Errors
    /// As [`Trial::id_of`].
    pub fn new(config: &RunConfig, seed: u64, baseline: &RunConfig) -> Result<Self> {
        let mut config = config.clone();
        config.training.seed = seed;
        let name = format!("{} seed={seed}", differences(&config, baseline)?);
        Ok(Self { name, id: Self::id_of(&config)?, config })
    }

    /// The FNV-1a hash of settings, in hexadecimal. The same settings have the same hash on every machine, and other
    /// settings another one.
    ///
    /// # Errors
    /// [`Error::Input`] for settings that JSON has no words for.
    // ANCHOR: id_of
    pub fn id_of(config: &RunConfig) -> Result<String> {
        let settings = serde_json::to_string(config).map_err(unwritable)?;
        let mut hasher = FnvHasher::default();
        hasher.write(settings.as_bytes());
        Ok(format!("{:016x}", hasher.finish()))
    }
    // ANCHOR_END: id_of

    /// How much work it is: a forecast, for the time left. It is about the seconds that one core of the machine needs on
    /// which the book was made, fitted to trials of the sizes in the book.
    pub fn work(&self) -> f64 {
        let RunConfig { model, data, training } = &self.config;
        let [width, heads, blocks] =
            [model.width, model.heads, model.blocks].map(|number| number as f64);
        let block = 4.0 + 0.08 * width + 0.0023 * width * width + 1.1 * heads;
        let words = data.words.unwrap_or(110_000) as f64 * training.epochs as f64;
        words / 150_000.0 * (2.0 + 0.06 * width + blocks * block)
    }

    /// Trains the model and scores it on the validation words. A watcher hears which part of the training is done, and
    /// may break it off; then nothing comes of it.
    ///
    /// That the loss leaves the range of a float is a result like another. The scores are those of the epoch with the
    /// lowest validation loss. `folder` holds what the trainer keeps; it should be empty and can go when all is done.
    ///
    /// # Errors
    /// Those of [`Trainer::new`] and [`Trainer::run`], but for a loss that is no number.
    // ANCHOR: run
    pub fn run(
        &self,
        dictionary: &Dictionary,
        folder: &Path,
        mut watch: impl FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Option<Finished>> {
        let vocabulary = Vocabulary::new();
        let RunConfig { model, data, training } = &self.config;
        let examples = data.examples(dictionary, &vocabulary)?;
        let mut trainer =
            Trainer::new(model, training.clone(), examples, Device::Cpu, folder)?
                .with_checkpoint_every(Duration::MAX); // a trial is short enough to begin anew
        let mut course = Course::default();
        let before = worked();
        let outcome = trainer.run(|progress| match progress {
            Progress::Step(step) => {
                course.losses.push(step.batch_loss);
                course.gradient_norms.extend(step.gradient_norm);
                watch(step.steps as f64 / step.total as f64)
            }
            Progress::Epoch(_) => ControlFlow::Continue(()),
        });
        let core_seconds = worked().saturating_sub(before).as_secs_f64();

        let diverged = match outcome {
            Ok(Outcome::Interrupted) => return Ok(None),
            Ok(Outcome::Finished | Outcome::OutOfPatience) => None,
            // The trainer's word for a loss or a gradient that is no number.
            Err(Error::Config { setting: "learning_rate", reason, .. }) => Some(reason),
            Err(error) => return Err(error),
        };
        let scores = match diverged {
            Some(_) => None,
            None => {
                trainer.restore_best()?;
                let model = &trainer.model;
                let unseen = data.entries(dictionary, Split::Validation)?;
                let learned = data.entries(dictionary, Split::Train)?;
                let learned = evenly(&learned, unseen.len());
                let loss = |entries| {
                    Ok::<_, Error>(teacher_forced(model, &vocabulary, entries)?.loss)
                };
                let scores = evaluate(model, &vocabulary, &unseen)?;
                Some(TrialScores {
                    phoneme_error_rate: scores.phoneme_error_rate,
                    word_error_rate: scores.word_error_rate,
                    validation_loss: loss(&unseen)?,
                    training_loss: loss(&learned)?,
                })
            }
        };
        let (steps, total) = trainer.steps();
        let warm_up = (training.warm_up * total as f64).round() as usize;
        let environment = Environment::detect();
        let tensors = trainer.parameters().tensors;
        let epochs = trainer.epochs();
        let finished = Finished {
            name: self.name.clone(),
            id: self.id.clone(),
            parameters: tensors.values().map(|tensor| tensor.numel()).sum(),
            steps,
            scores,
            diverged,
            training_losses: epochs.iter().map(|epoch| epoch.train_loss).collect(),
            validation_losses: epochs.iter().map(|epoch| epoch.validation_loss).collect(),
            stability: course.stability(warm_up, training.clip),
            core_seconds,
            seconds: trainer.times().iter().map(|time| time.seconds).sum(),
            threads: environment.threads,
            processor: environment.processor,
            config: self.config.clone(),
        };
        Ok(Some(finished.rounded()))
    }
    // ANCHOR_END: run
}

/// How quietly a training went.
// ANCHOR: stability
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stability {
    /// The median of the norms of the gradient before clipping, after the warm-up.
    pub median_gradient: f64,
    /// Their standard deviation.
    pub gradient_deviation: f64,
    /// The largest of them.
    pub largest_gradient: f64,
    /// The share of them that was clipped.
    pub clipped: f64,
    /// How far the training loss, as a mean over [`Stability::WINDOW`] steps, ever rose above the lowest it had been.
    pub rise: f64,
}

impl Stability {
    /// The steps whose losses are taken together, so that a hard batch is no rise.
    pub const WINDOW: usize = 200;
}
// ANCHOR_END: stability

/// What a training told, step by step.
#[derive(Debug, Default)]
struct Course {
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
}

impl Course {
    /// What is to be said of it. If it never came to the end of the warm-up, all steps are taken.
    fn stability(&self, warm_up: usize, clip: f64) -> Stability {
        let norms = match self.gradient_norms.get(warm_up..) {
            Some(norms @ [_, ..]) => norms,
            _ => &self.gradient_norms,
        };
        let count = norms.len().max(1) as f64;
        let mean = norms.iter().sum::<f64>() / count;
        let squares: f64 = norms.iter().map(|norm| (norm - mean).powi(2)).sum();
        let mut sorted = norms.to_vec();
        sorted.sort_by(f64::total_cmp);
        let clipped = norms.iter().filter(|&&norm| norm > clip).count();
        Stability {
            median_gradient: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
            gradient_deviation: (squares / (count - 1.0).max(1.0)).sqrt(),
            largest_gradient: sorted.last().copied().unwrap_or_default(),
            clipped: clipped as f64 / count,
            rise: rise(&self.losses),
        }
    }
}

/// See [`Stability::rise`].
// ANCHOR: rise
fn rise(losses: &[f64]) -> f64 {
    let means = losses
        .windows(Stability::WINDOW)
        .map(|window| window.iter().sum::<f64>() / Stability::WINDOW as f64);
    let (mut lowest, mut rise) = (f64::INFINITY, 0f64);
    for mean in means {
        lowest = lowest.min(mean);
        rise = rise.max(mean - lowest);
    }
    rise
}
// ANCHOR_END: rise

/// The time that processors have worked for this process so far, all its threads together. Unlike the time on the clock
/// it does not count how long the process waited for a processor that another program had.
#[cfg(unix)]
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default() // it is never negative
}

/// The time on the clock: right as long as no other program is at work.
#[cfg(not(unix))]
fn worked() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::input("settings of a trial", error.to_string())
}

/// What of some settings differs from others, as in `heads=8 dropout=0.2`; `baseline` if nothing does. The seed is not
/// named, and the hidden width only where it is not four times the width.
fn differences(config: &RunConfig, baseline: &RunConfig) -> Result<String> {
    let [ours, theirs] =
        [config, baseline].map(|config| serde_json::to_value(config).map_err(unwritable));
    let (ours, theirs) = (ours?, theirs?);
    let is_implied = |setting: &str| {
        setting == "seed"
            || (setting == "hidden" && config.model.hidden == 4 * config.model.width)
    };
    let mut named = Vec::new();
    for (part, settings) in ours.as_object().into_iter().flatten() {
        for (setting, value) in settings.as_object().into_iter().flatten() {
            if *value != theirs[part][setting] && !is_implied(setting) {
                named.push(format!("{setting}={}", value.to_string().replace('"', "")));
            }
        }
    }
    Ok(if named.is_empty() { "baseline".into() } else { named.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::training::run::DataConfig;

    fn baseline() -> RunConfig {
        RunConfig::quick(&Vocabulary::new())
    }

    /// A trial of less than a second.
    fn tiny(learning_rate: f64) -> Trial {
        let mut config = baseline();
        config.model = config.model.with_width(8).with_blocks(1).with_heads(2);
        config.data =
            DataConfig { words: Some(60), validation_words: Some(4), common_times: 1 };
        config.training.epochs = 2;
        config.training.tokens_per_batch = 64;
        config.training.learning_rate = learning_rate;
        Trial::new(&config, 1, &baseline()).unwrap()
    }

    #[test]
    fn the_name_says_what_differs_and_the_id_tells_settings_apart() {
        let mut config = baseline();
        let name = |config: &RunConfig| Trial::new(config, 3, &baseline()).unwrap().name;
        assert_eq!(name(&config), "baseline seed=3");
        config.model = config.model.with_width(128).with_heads(8);
        config.training.dropout = 0.2;
        assert_eq!(name(&config), "heads=8 width=128 dropout=0.2 seed=3");
        config.model.hidden = 128;
        assert!(name(&config).contains("hidden=128"), "{}", name(&config));

        let id = |seed| Trial::new(&baseline(), seed, &baseline()).unwrap().id;
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        assert_eq!(id(1).len(), 16);
    }

    /// If this fails, the results that were saved are no longer known by the trials they belong to.
    #[test]
    fn an_id_never_changes() {
        let settings = r#"{
            "model": {"vocabulary": 69, "max_positions": 64, "width": 64, "blocks": 2, "heads": 4, "hidden": 256,
                "activation": "gelu", "norm": "pre", "positions": "learned"},
            "data": {"words": 15000, "validation_words": 2000, "common_times": 1},
            "training": {"epochs": 10, "tokens_per_batch": 512, "learning_rate": 0.003, "warm_up": 0.05,
                "optimizer": {"beta1": 0.9, "beta2": 0.98, "epsilon": 1e-8, "weight_decay": 0.05}, "clip": 1.0,
                "label_smoothing": 0.0, "dropout": 0.1, "validate_every": null, "patience": null,
                "mixed_precision": false, "seed": 1}
        }"#;
        let config: RunConfig = serde_json::from_str(settings).unwrap();
        // FNV-1a of these settings without a blank, computed elsewhere.
        assert_eq!(Trial::id_of(&config).unwrap(), "4e8f47d0b445cb2b");
    }

    #[test]
    fn a_trial_is_trained_scored_and_timed() {
        let dictionary = Dictionary::embedded().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut parts = Vec::new();
        let watch = |part| {
            parts.push(part);
            ControlFlow::Continue(())
        };
        let finished =
            tiny(1e-3).run(&dictionary, folder.path(), watch).unwrap().unwrap();
        assert_eq!(parts.len() as u64, finished.steps);
        assert_eq!(parts.last(), Some(&1.0));
        assert_eq!((finished.diverged.as_ref(), &finished.id), (None, &tiny(1e-3).id));
        assert_eq!(finished.training_losses.len(), 2);
        assert_eq!(finished.validation_losses.len(), 2);
        let scores = finished.scores.unwrap();
        assert!(scores.phoneme_error_rate > 0.5 && scores.word_error_rate == 1.0);
        assert!(scores.validation_loss > 1.0 && scores.training_loss > 1.0);
        assert!(finished.seconds > 0.0 && finished.core_seconds > 0.0);
        let Stability { median_gradient, largest_gradient, .. } = finished.stability;
        assert!(0.0 < median_gradient && median_gradient <= largest_gradient);
    }

    #[test]
    fn a_loss_that_is_no_number_is_a_result_and_a_watcher_may_break_off() {
        let dictionary = Dictionary::embedded().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let go_on = |_| ControlFlow::Continue(());
        let finished =
            tiny(1e30).run(&dictionary, folder.path(), go_on).unwrap().unwrap();
        let reason = finished.diverged.unwrap();
        assert!(reason.contains("became NaN after step"), "{reason}");
        assert_eq!(finished.scores, None);
        assert!(finished.steps < 10, "{}", finished.steps);

        let folder = tempfile::tempdir().unwrap();
        let stop = |part| if part > 0.5 { ControlFlow::Break(()) } else { go_on(part) };
        assert_eq!(tiny(1e-3).run(&dictionary, folder.path(), stop).unwrap(), None);
        let wrong = tiny(-1.0).run(&dictionary, folder.path(), go_on).unwrap_err();
        assert!(wrong.to_string().contains("learning_rate = -1"), "{wrong}");
    }

    #[test]
    fn the_course_of_a_training_is_summed_up() {
        let course = Course {
            losses: [vec![3.0; 200], vec![2.0; 200], vec![2.5; 200], vec![1.0; 200]]
                .concat(),
            gradient_norms: vec![50.0, 60.0, 0.5, 2.0, 1.5, 8.0],
        };
        let Stability { median_gradient, largest_gradient, clipped, rise, .. } =
            course.stability(2, 1.0);
        assert_eq!((median_gradient, largest_gradient), (2.0, 8.0));
        assert_eq!((clipped, rise), (0.75, 0.5));
        assert_eq!(course.stability(6, 1.0).largest_gradient, 60.0); // it never came so far
        assert_eq!(Course::default().stability(0, 1.0), Stability::default());
    }

    #[test]
    fn the_work_grows_with_what_is_turned_up() {
        let work = |change: fn(&mut RunConfig)| {
            let mut config = baseline();
            change(&mut config);
            Trial::new(&config, 1, &baseline()).unwrap().work()
        };
        let base = work(|_| ());
        assert!(work(|config| config.model.blocks = 4) > 1.5 * base);
        assert!(work(|config| config.model.width = 128) > 2.0 * base);
        assert!(work(|config| config.model.heads = 8) > base);
        assert_eq!(work(|config| config.training.epochs *= 2), 2.0 * base);
    }
}
