//! What many measurements of one thing come down to.

use serde_json::{Value, json};

/// The middle of some numbers, and the range that holds the middle half of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// A quarter of the numbers lies below it.
    pub low: f64,
    pub median: f64,
    /// A quarter of the numbers lies above it.
    pub high: f64,
}

impl Spread {
    /// Of some numbers, in any order; nothing if there are none. Between two numbers it goes along a straight line, as
    /// NumPy's `quantile` does unless told otherwise.
    pub fn of(numbers: &[f64]) -> Option<Spread> {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let quantile = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
        };
        Some(Spread { low: quantile(0.25), median: quantile(0.5), high: quantile(0.75) })
    }

    pub fn json(self) -> Value {
        let Spread { low, median, high } = self;
        json!({ "low": low, "median": median, "high": high })
    }

    /// What [`Spread::json`] wrote.
    pub fn read(value: &Value) -> Option<Spread> {
        let number = |name: &str| value[name].as_f64();
        Some(Spread {
            low: number("low")?,
            median: number("median")?,
            high: number("high")?,
        })
    }
}

/// How long ours took for each unit of theirs, round by round: what slows the machine for a while slows both, so the
/// quotient of two turns that followed each other says more than the quotient of two medians.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// How often to do something that takes `seconds` so that a turn takes about `turn` seconds.
pub fn repetitions(seconds: f64, turn: f64) -> usize {
    // As many as this are enough for a median.
    const MOST: f64 = 500.0;
    (turn / seconds.max(1e-9)).round().clamp(1.0, MOST) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_numpys() {
        // numpy.quantile([3, 1, 2, 10], [0.25, 0.5, 0.75])
        let spread = Spread::of(&[3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!(spread, Spread { low: 1.75, median: 2.5, high: 4.75 });
        let one = Spread::of(&[7.0]).unwrap();
        assert_eq!(one, Spread { low: 7.0, median: 7.0, high: 7.0 });
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_spread_comes_back_from_json_and_nothing_else_does() {
        let spread = Spread { low: 0.1, median: 0.2, high: 0.30000000000000004 };
        assert_eq!(Spread::read(&spread.json()), Some(spread));
        assert_eq!(Spread::read(&json!({ "low": 1, "median": "2", "high": 3 })), None);
    }

    #[test]
    fn a_machine_that_slows_down_does_not_change_the_ratio() {
        let (ours, theirs) = ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]);
        let spread = Spread::of(&ratios(&ours, &theirs)).unwrap();
        assert_eq!(spread, Spread { low: 0.5, median: 0.5, high: 0.5 });
    }

    #[test]
    fn a_turn_is_about_as_long_as_it_shall_be() {
        assert_eq!(repetitions(0.1, 1.0), 10);
        assert_eq!(repetitions(5.0, 1.0), 1);
        assert_eq!(repetitions(0.0, 1.0), 500);
    }
}
