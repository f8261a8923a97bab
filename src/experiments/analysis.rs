//! What the results of a study say: means with their spread, and whether one setting is better than another.
//!
//! The rule was fixed before the first trial was run. Two settings are compared seed by seed, because a seed gives both
//! the same order of the data: of each pair the difference is taken, and the 95 % interval of the mean difference is
//! `mean ± t · deviation / √seeds`, with Student's `t` for as many differences (Student, 1908). If the whole interval
//! lies below zero, the first setting is better; if it lies above, it is worse; if it holds zero, the data do not decide.
//!
//! What the rule does not cover: the words are the same in all trials, so the interval is about other seeds, not about
//! other words. And of twenty comparisons between settings that are in truth alike, about one is decided by chance.

use std::fmt;
use std::str::FromStr;

use self_attention::error::{Error, Result};
use self_attention::experiments::results::{Finished, Results};
use self_attention::experiments::studies::Study;

/// What is compared. Less is better in each.
// ANCHOR: metric
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Edits for each listed phoneme of the validation words, written greedily.
    PhonemeErrorRate,
    /// The part of the validation words that are not right.
    WordErrorRate,
    /// The mean loss of a target of the validation words.
    ValidationLoss,
    /// The same of as many training words.
    TrainingLoss,
    /// How much the first is above the second: what was learned by heart only.
    Gap,
    /// The seconds that processors worked on the training.
    Seconds,
    /// The largest norm of the gradient after the warm-up.
    LargestGradient,
    /// How far the training loss ever rose above where it had been.
    Rise,
}
// ANCHOR_END: metric

impl Metric {
    /// All of them, with the names they have in a claim.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::PhonemeErrorRate, "PER"),
        (Self::WordErrorRate, "WER"),
        (Self::ValidationLoss, "loss"),
        (Self::TrainingLoss, "learned"),
        (Self::Gap, "gap"),
        (Self::Seconds, "seconds"),
        (Self::LargestGradient, "gradient"),
        (Self::Rise, "rise"),
    ];

    /// Its value for a trial; none if the trial diverged.
    pub fn of(self, finished: &Finished) -> Option<f64> {
        let scores = finished.scores.as_ref()?;
        Some(match self {
            Self::PhonemeErrorRate => scores.phoneme_error_rate,
            Self::WordErrorRate => scores.word_error_rate,
            Self::ValidationLoss => scores.validation_loss,
            Self::TrainingLoss => scores.training_loss,
            Self::Gap => scores.validation_loss - scores.training_loss,
            Self::Seconds => finished.core_seconds,
            Self::LargestGradient => finished.stability.largest_gradient,
            Self::Rise => finished.stability.rise,
        })
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(metric, _)| metric == self);
        f.pad(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::NAMES.into_iter().find(|(_, name)| *name == text);
        found.map(|(metric, _)| metric).ok_or_else(|| {
            let names = Self::NAMES.map(|(_, name)| name).join(", ");
            Error::input("metric", format!("`{text}` is none of {names}"))
        })
    }
}

/// Some numbers in two: where they lie, and how far apart.
// ANCHOR: summary
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation, `√(Σ(x − mean)² / (n − 1))`.
    pub deviation: f64,
}

impl Summary {
    /// Of two numbers or more; of fewer there is no spread.
    pub fn of(numbers: &[f64]) -> Option<Self> {
        let n = numbers.len() as f64;
        if n < 2.0 {
            return None;
        }
        let mean = numbers.iter().sum::<f64>() / n;
        let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
        Some(Self { mean, deviation: (squares / (n - 1.0)).sqrt() })
    }
}
// ANCHOR_END: summary

/// Where the true difference of two settings lies, as far as the seeds can tell.
// ANCHOR: interval
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean difference.
    pub mean: f64,
    /// How far the 95 % interval reaches to each side of it.
    pub reach: f64,
}

impl Interval {
    /// Of differences, two or more.
    pub fn of(differences: &[f64]) -> Option<Self> {
        let Summary { mean, deviation } = Summary::of(differences)?;
        let freedom = differences.len() - 1;
        let t = STUDENT_95[freedom.min(STUDENT_95.len()) - 1];
        Some(Self { mean, reach: t * deviation / (differences.len() as f64).sqrt() })
    }

    /// Whether the first of the two settings, the one that was subtracted from, is better: less is.
    pub fn verdict(&self) -> Verdict {
        if self.mean + self.reach < 0.0 {
            Verdict::Better
        } else if self.mean - self.reach > 0.0 {
            Verdict::Worse
        } else {
            Verdict::NotDecided
        }
    }
}

/// Student's t: with 1, 2, 3 … degrees of freedom it lies between −t and t with a probability of 95 %.
///
/// With more than nine the last is taken, which makes the interval a little wider than need be.
const STUDENT_95: [f64; 9] =
    [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
// ANCHOR_END: interval

/// What a comparison comes to.
// ANCHOR: verdict
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first setting is better than the second.
    Better,
    /// The first setting is worse than the second.
    Worse,
    /// The seeds differ too much, or too little, to say.
    NotDecided,
}
// ANCHOR_END: verdict

impl Verdict {
    /// The verdict on the two settings in the other order.
    pub fn reversed(self) -> Self {
        match self {
            Self::Better => Self::Worse,
            Self::Worse => Self::Better,
            Self::NotDecided => Self::NotDecided,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NotDecided => "not decided",
        })
    }
}

/// Two settings side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The first less the second; none if trials of one of them diverged.
    pub difference: Option<Interval>,
    /// What it comes to.
    pub verdict: Verdict,
}

/// The results of a study: of each setting the finished trials, one for each seed.
#[derive(Debug)]
pub struct Findings<'a> {
    /// The study.
    pub study: &'a Study,
    trials: Vec<Vec<&'a Finished>>,
}

impl<'a> Findings<'a> {
    /// Looks up all trials of a study.
    ///
    /// # Errors
    /// [`Error::Input`] that names the first trial that is missing.
    pub fn new(study: &'a Study, results: &'a Results) -> Result<Self> {
        let trials = study.trials.iter().map(|of_a_setting| {
            let finished = of_a_setting.iter().map(|trial| {
                results.get(&trial.id).ok_or_else(|| {
                    let problem = format!(
                        "the trial `{}` of the study `{}` is missing; run it: \
                         cargo run --release --bin sweep -- --study {1}",
                        trial.name, study.name
                    );
                    Error::input("results", problem)
                })
            });
            finished.collect()
        });
        Ok(Self { study, trials: trials.collect::<Result<_>>()? })
    }

    /// The trials of a setting, in the order of the seeds.
    ///
    /// # Errors
    /// [`Error::Input`] if the study has no such setting.
    pub fn trials(&self, setting: &str) -> Result<&[&'a Finished]> {
        Ok(&self.trials[self.study.position(setting)?])
    }

    /// In how many trials of a setting the loss left the range of a float.
    ///
    /// # Errors
    /// As [`Findings::trials`].
    pub fn diverged(&self, setting: &str) -> Result<usize> {
        let trials = self.trials(setting)?;
        Ok(trials.iter().filter(|trial| trial.diverged.is_some()).count())
    }

    /// A metric of each trial of a setting that did not diverge.
    ///
    /// # Errors
    /// As [`Findings::trials`].
    pub fn values(&self, metric: Metric, setting: &str) -> Result<Vec<f64>> {
        Ok(self.trials(setting)?.iter().filter_map(|trial| metric.of(trial)).collect())
    }

    /// Mean and deviation of a metric over the trials of a setting; none if fewer than two came to an end.
    ///
    /// # Errors
    /// As [`Findings::trials`].
    pub fn summary(&self, metric: Metric, setting: &str) -> Result<Option<Summary>> {
        Ok(Summary::of(&self.values(metric, setting)?))
    }

    /// Whether setting `a` is better than setting `b`.
    ///
    /// If all trials of one diverged and none of the other, the other is better. If only some did, nothing is decided.
    ///
    /// # Errors
    /// As [`Findings::trials`].
    // ANCHOR: compare
    pub fn compare(&self, metric: Metric, a: &str, b: &str) -> Result<Comparison> {
        let [of_a, of_b] = [self.trials(a)?, self.trials(b)?];
        let seeds = of_a.len();
        let difference = match [self.diverged(a)?, self.diverged(b)?] {
            [0, 0] => {
                let pairs = of_a.iter().zip(of_b); // one for each seed
                let differences: Vec<f64> = pairs
                    .filter_map(|(a, b)| Some(metric.of(a)? - metric.of(b)?))
                    .collect();
                Interval::of(&differences)
            }
            [0, all] if all == seeds => return Ok(Comparison::without(Verdict::Better)),
            [all, 0] if all == seeds => return Ok(Comparison::without(Verdict::Worse)),
            _ => None,
        };
        let verdict = difference.map_or(Verdict::NotDecided, |found| found.verdict());
        Ok(Comparison { difference, verdict })
    }
    // ANCHOR_END: compare
}

impl Comparison {
    /// A verdict that no difference stands behind.
    fn without(verdict: Verdict) -> Self {
        Self { difference: None, verdict }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use self_attention::experiments::results::tests::made_up;
    use self_attention::experiments::studies::{studies, Size};

    #[test]
    fn mean_and_deviation_are_those_of_the_definition() {
        let summary = Summary::of(&[1.0, 2.0, 6.0]).unwrap();
        assert_eq!(summary.mean, 3.0);
        assert!((summary.deviation - 7f64.sqrt()).abs() < 1e-12); // (4 + 1 + 9) / 2
        assert_eq!(Summary::of(&[5.0]), None);
    }

    /// The share of Student's distribution between −t and t, by Simpson's rule over its density.
    fn share_within(t: f64, freedom: f64) -> f64 {
        let density = |x: f64| (1.0 + x * x / freedom).powf(-(freedom + 1.0) / 2.0);
        // x = tan(u) makes the whole line finite.
        let area = |to: f64| {
            let n = 20_000;
            let h = 2.0 * to / n as f64;
            let at = |i: usize| {
                let u = -to + h * i as f64;
                density(u.tan()) / u.cos().powi(2)
            };
            (0..n / 2)
                .map(|i| at(2 * i) + 4.0 * at(2 * i + 1) + at(2 * i + 2))
                .sum::<f64>()
                * h
                / 3.0
        };
        area(t.atan()) / area(std::f64::consts::FRAC_PI_2 - 1e-9)
    }

    #[test]
    fn the_table_of_students_t_is_right() {
        for (index, t) in STUDENT_95.into_iter().enumerate() {
            let share = share_within(t, index as f64 + 1.0);
            assert!((share - 0.95).abs() < 1e-4, "{} degrees: {share}", index + 1);
        }
    }

    #[test]
    fn three_seeds_decide_what_is_clear_and_no_more() {
        let verdict = |differences: &[f64]| Interval::of(differences).unwrap().verdict();
        assert_eq!(verdict(&[-1.0, -1.1, -0.9]), Verdict::Better);
        assert_eq!(verdict(&[1.0, 1.1, 0.9]), Verdict::Worse);
        assert_eq!(verdict(&[-1.0, -2.0, -0.1]), Verdict::NotDecided); // all three below zero
        assert_eq!(verdict(&[0.0, 0.0, 0.0]), Verdict::NotDecided);
        let interval = Interval::of(&[1.0, 2.0, 6.0]).unwrap();
        assert!((interval.reach - 4.303 * (7f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Interval::of(&[1.0]), None);
    }

    #[test]
    fn of_twenty_comparisons_between_equals_one_is_decided_by_chance() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        // The sum of twelve uniform numbers is normal enough.
        let mut normal = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        for seeds in [3, 5] {
            let rounds = 20_000;
            let decided = (0..rounds)
                .filter(|_| {
                    let differences: Vec<f64> =
                        (0..seeds).map(|_| normal() - normal()).collect();
                    Interval::of(&differences).unwrap().verdict() != Verdict::NotDecided
                })
                .count();
            let share = decided as f64 / rounds as f64;
            assert!((share - 0.05).abs() < 0.006, "{seeds} seeds: {share}"); // four standard errors
        }
    }

    proptest! {
        #[test]
        fn what_is_better_than_another_is_not_worse(
            differences in vec(-10.0..10.0f64, 2..12),
            factor in 0.1..10.0f64,
            rotation in 0usize..12,
        ) {
            let verdict = |differences: &[f64]| Interval::of(differences).unwrap().verdict();
            let found = verdict(&differences);
            let mirrored: Vec<f64> = differences.iter().map(|x| -x).collect();
            prop_assert_eq!(verdict(&mirrored), found.reversed());
            let scaled: Vec<f64> = differences.iter().map(|x| x * factor).collect();
            prop_assert_eq!(verdict(&scaled), found); // seconds or minutes, percent or parts
            let mut turned = differences.clone();
            turned.rotate_left(rotation % differences.len());
            // The order of the seeds may change the last bit of a sum.
            let [a, b] = [&turned, &differences].map(|list| Interval::of(list).unwrap());
            prop_assert!((a.mean - b.mean).abs() < 1e-9 && (a.reach - b.reach).abs() < 1e-9);
            // No verdict against the mean, and none if the signs are mixed as often as not.
            let mean = differences.iter().sum::<f64>() / differences.len() as f64;
            match found {
                Verdict::Better => prop_assert!(mean < 0.0),
                Verdict::Worse => prop_assert!(mean > 0.0),
                Verdict::NotDecided => {}
            }
        }

        #[test]
        fn two_numbers_decide_nothing_unless_they_nearly_agree(a in -10.0..10.0f64, b in -10.0..10.0f64) {
            let decided = Interval::of(&[a, b]).unwrap().verdict() != Verdict::NotDecided;
            // 12.706 · |a − b| / 2 < |a + b| / 2
            prop_assert_eq!(decided, 12.706 * (a - b).abs() < (a + b).abs());
        }
    }

    /// The study of heads, and results in which each trial has the PER that `per` gives for its heads and seed.
    fn heads(per: impl Fn(i64, u64) -> Option<f64>) -> (Study, Results) {
        let [study, ..] = studies(Size::Full).unwrap();
        let trials = study.trials.iter().flatten();
        let finished = trials.map(|trial| {
            made_up(trial, per(trial.config.model.heads, trial.config.training.seed))
        });
        let results = Results::new(finished.collect()).unwrap();
        (study, results)
    }

    #[test]
    fn settings_are_compared_seed_by_seed() {
        // The seeds lie far apart; within each, eight heads are better by a little, and always by about as much.
        let (study, results) = heads(|heads, seed| {
            let step = if heads == 8 { 0.02 + 0.001 * (seed % 2) as f64 } else { 0.0 };
            Some(0.1 * seed as f64 - step)
        });
        let findings = Findings::new(&study, &results).unwrap();
        let compare = |a, b| findings.compare(Metric::PhonemeErrorRate, a, b).unwrap();
        let found = compare("8", "4");
        assert_eq!(found.verdict, Verdict::Better);
        assert!(found.difference.unwrap().mean < -0.02, "{found:?}");
        assert_eq!(compare("4", "8").verdict, Verdict::Worse);
        assert_eq!(compare("2", "4").verdict, Verdict::NotDecided);
        let summary = findings.summary(Metric::PhonemeErrorRate, "4").unwrap().unwrap();
        assert!(summary.deviation > 0.09, "{summary:?}");
        let error = findings.compare(Metric::Gap, "5", "4").unwrap_err().to_string();
        assert!(error.contains("`5` is none of 1, 2, 4"), "{error}");
    }

    #[test]
    fn what_always_diverges_is_worse_and_what_sometimes_does_is_not_decided() {
        let (study, results) = heads(|heads, seed| match heads {
            1 => None,
            2 if seed == 1 => None,
            _ => Some(0.2),
        });
        let findings = Findings::new(&study, &results).unwrap();
        let verdict =
            |a, b| findings.compare(Metric::WordErrorRate, a, b).unwrap().verdict;
        assert_eq!(verdict("1", "4"), Verdict::Worse);
        assert_eq!(verdict("4", "1"), Verdict::Better);
        assert_eq!(verdict("2", "4"), Verdict::NotDecided);
        assert_eq!(verdict("1", "2"), Verdict::NotDecided);
        assert_eq!(findings.diverged("2").unwrap(), 1);
        assert_eq!(findings.summary(Metric::WordErrorRate, "1").unwrap(), None);
    }

    #[test]
    fn a_trial_that_is_missing_is_named_with_what_to_do() {
        let (study, _) = heads(|_, _| Some(0.2));
        let empty = Results::default();
        let error = Findings::new(&study, &empty).unwrap_err().to_string();
        assert!(error.contains("the trial `heads=1 seed=1`"), "{error}");
        assert!(error.contains("--bin sweep -- --study heads"), "{error}");
    }

    #[test]
    fn metrics_have_names() {
        for (metric, name) in Metric::NAMES {
            assert_eq!(name.parse::<Metric>().unwrap(), metric);
            assert_eq!(metric.to_string(), name);
        }
        let error = "accuracy".parse::<Metric>().unwrap_err().to_string();
        assert!(error.contains("`accuracy` is none of PER, WER, loss"), "{error}");
    }
}
