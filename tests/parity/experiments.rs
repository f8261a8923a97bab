//! Chapter 11: intervals and verdicts against those of SciPy.

use self_attention::experiments::analysis::{Interval, Summary, Verdict};
use self_attention::prelude::*;

use crate::fixture::{assert_close, Fixture};

#[test]
fn intervals_and_verdicts_are_scipys() {
    let fixture = Fixture::load("ch11_experiments");
    let cases = fixture.cases("scores");
    assert!(cases.len() >= 40);
    for case in cases {
        let get = |what: &str| fixture.get(&format!("{case}/{what}"));
        let scores = get("scores"); // [settings, seeds]
        let differences = Vec::<f64>::try_from(scores.get(0) - scores.get(1)).unwrap();
        let Summary { mean, deviation } = Summary::of(&differences).unwrap();
        assert_close(case, &Tensor::from_slice(&[deviation]), get("deviation"));

        let ours = Interval::of(&differences).unwrap();
        let [their_mean, their_reach] =
            [0, 1].map(|place| get("interval").double_value(&[place]));
        assert!((ours.mean - their_mean).abs() < 1e-12, "{case}");
        assert_eq!(ours.mean, mean, "{case}");
        // Our table of t has three decimals.
        assert!((ours.reach / their_reach - 1.0).abs() < 3e-4, "{case}");
        let verdict = match ours.verdict() {
            Verdict::Better => 0,
            Verdict::Worse => 1,
            Verdict::NotDecided => 2,
        };
        assert_eq!(verdict, get("verdict").int64_value(&[0]), "{case}");
    }
}
