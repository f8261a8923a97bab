//! Whether a probability means what it says: of the words said with probability 0.8, are eight in ten right?

use std::fmt;

use self_attention::error::{Error, Result};

/// Some outcomes whose probabilities lie close together.
// ANCHOR: bin
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The probabilities in it are above this …
    pub above: f64,
    /// … and up to this.
    pub up_to: f64,
    /// How many outcomes fell into it.
    pub count: usize,
    /// The mean of their probabilities.
    pub confidence: f64,
    /// The part of them that was right.
    pub accuracy: f64,
}
// ANCHOR_END: bin

/// How far probabilities and outcomes are apart.
// ANCHOR: calibration
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The bins that hold an outcome, from the least probable.
    pub bins: Vec<Bin>,
    /// The expected calibration error: `ECE = Σ_b (count_b / n) · |accuracy_b − confidence_b|`.
    pub expected_error: f64,
}
// ANCHOR_END: calibration

impl Calibration {
    /// Sorts outcomes, each a probability and whether it was right, into `bins` bins of equal width.
    ///
    /// The bin `m` of `M` holds probabilities above `(m − 1) / M` and up to `m / M`, and the first holds 0 too (Naeini,
    /// Cooper & Hauskrecht 2015; Guo et al. 2017).
    ///
    /// # Errors
    /// [`Error::Input`] if there is no outcome or no bin, or if a number is not a probability.
    // ANCHOR: calibration_of
    pub fn of(outcomes: &[(f64, bool)], bins: usize) -> Result<Self> {
        let refuse = |problem: String| Err(Error::input("calibration", problem));
        if outcomes.is_empty() || bins == 0 {
            let given = outcomes.len();
            return refuse(format!(
                "{given} outcomes and {bins} bins; give at least one of each"
            ));
        }
        let mut sums = vec![(0, 0.0, 0); bins]; // outcomes, their probabilities, those that were right
        for &(probability, right) in outcomes {
            if !(0.0..=1.0).contains(&probability) {
                return refuse(format!(
                    "{probability} is not a probability; give 0 to 1"
                ));
            }
            let bin = ((probability * bins as f64).ceil() as usize).clamp(1, bins) - 1;
            let (count, confidence, hits) = &mut sums[bin];
            *count += 1;
            *confidence += probability;
            *hits += usize::from(right);
        }
        let filled = sums.into_iter().enumerate().filter(|(_, (count, ..))| *count > 0);
        let bins: Vec<Bin> = filled
            .map(|(bin, (count, confidence, hits))| Bin {
                above: bin as f64 / bins as f64,
                up_to: (bin + 1) as f64 / bins as f64,
                count,
                confidence: confidence / count as f64,
                accuracy: hits as f64 / count as f64,
            })
            .collect();
        let gap = |bin: &Bin| bin.count as f64 * (bin.accuracy - bin.confidence).abs();
        let expected_error = bins.iter().map(gap).sum::<f64>() / outcomes.len() as f64;
        Ok(Self { bins, expected_error })
    }
    // ANCHOR_END: calibration_of
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "probability   words  confidence  accuracy")?;
        for Bin { above, up_to, count, confidence, accuracy } in &self.bins {
            writeln!(f, "{above:.1} to {up_to:.1}  {count:>7}  {confidence:>10.4}  {accuracy:>8.4}")?;
        }
        write!(f, "expected calibration error {:.4}", self.expected_error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equals_its_definition() {
        let outcomes = [(0.9, true), (0.8, false), (0.1, false), (0.2, true)];
        let Calibration { bins, expected_error } = Calibration::of(&outcomes, 2).unwrap();
        assert_eq!(bins.len(), 2);
        assert_eq!((bins[0].count, bins[0].accuracy, bins[1].accuracy), (2, 0.5, 0.5));
        assert!((bins[1].confidence - 0.85).abs() < 1e-12);
        assert!((expected_error - (0.5 * 0.35 + 0.5 * 0.35)).abs() < 1e-12);
    }

    #[test]
    fn a_bin_holds_its_upper_edge() {
        let outcomes = [(0.0, false), (0.5, true), (0.500001, true), (1.0, true)];
        let counts = |bins| {
            let bins = Calibration::of(&outcomes, bins).unwrap().bins;
            bins.iter().map(|bin| bin.count).collect::<Vec<_>>()
        };
        assert_eq!(counts(2), [2, 2]);
        assert_eq!(counts(1), [4]);
        assert_eq!(counts(10), [1, 1, 1, 1]); // the empty ones are left out
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for wrong in [1.1, -0.1, f64::NAN] {
            assert!(Calibration::of(&[(wrong, true)], 10).is_err(), "{wrong}");
        }
        assert!(Calibration::of(&[], 10).is_err());
        assert!(Calibration::of(&[(0.5, true)], 0).is_err());
    }

    proptest! {
        #[test]
        fn the_bins_share_out_the_outcomes(
            outcomes in prop::collection::vec((0.0..=1.0, any::<bool>()), 1..50),
            bins in 1..20_usize,
        ) {
            let calibration = Calibration::of(&outcomes, bins).unwrap();
            let count: usize = calibration.bins.iter().map(|bin| bin.count).sum();
            prop_assert_eq!(count, outcomes.len());
            prop_assert!((0.0..=1.0).contains(&calibration.expected_error));
            for bin in &calibration.bins {
                prop_assert!(bin.confidence >= bin.above - 1e-12 && bin.confidence <= bin.up_to + 1e-12);
            }
        }
    }
}
