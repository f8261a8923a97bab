//! Whether two sides did the same work: their numbers, side by side, before anything is timed.

use serde_json::{Map, Value};

/// How far two sides may be apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Numbers of one list, as a share of the largest of them.
    pub numbers: f64,
    /// The share of texts that may differ: another order of the same additions may tip a choice that is on the edge.
    pub texts: f64,
}

/// The largest distance between the numbers of two sides, as a share of the largest of their list; or what it is that
/// differs by more than it may.
pub fn apart(
    ours: &Map<String, Value>,
    theirs: &Map<String, Value>,
    tolerance: Tolerance,
) -> Result<f64, String> {
    let names = |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
    if names(ours) != names(theirs) {
        return Err(format!("ours tells {:?}, and it {:?}", names(ours), names(theirs)));
    }
    let mut largest = 0f64;
    for (name, ours) in ours {
        let theirs = &theirs[name];
        let (Some(a), Some(b)) = (ours.as_array(), theirs.as_array()) else {
            return Err(format!("`{name}` should be a list, and is {theirs}"));
        };
        if a.len() != b.len() {
            return Err(format!(
                "`{name}` has {} values with ours, {} here",
                a.len(),
                b.len()
            ));
        }
        if a.iter().chain(b).any(Value::is_null) {
            return Err(format!(
                "`{name}` holds what is no number: {a:?} with ours, {b:?} here"
            ));
        }
        if let (Some(a), Some(b)) = (numbers(a), numbers(b)) {
            let scale = a.iter().fold(f64::MIN_POSITIVE, |most, x| most.max(x.abs()));
            for (ours, theirs) in a.iter().zip(&b) {
                let distance = (ours - theirs).abs() / scale;
                if distance > tolerance.numbers {
                    let most = tolerance.numbers;
                    return Err(format!(
                        "`{name}` is {ours} with ours and {theirs} here, {distance:.1e} of the largest apart; {most:.1e} may be"
                    ));
                }
                largest = largest.max(distance);
            }
        } else {
            let different: Vec<_> = a.iter().zip(b).filter(|(a, b)| a != b).collect();
            if different.len() as f64 > tolerance.texts * a.len() as f64 {
                let (ours, theirs) = different[0];
                return Err(format!(
                    "{} of {} values of `{name}` differ; the first is {ours} with ours and {theirs} here",
                    different.len(),
                    a.len()
                ));
            }
        }
    }
    Ok(largest)
}

fn numbers(list: &[Value]) -> Option<Vec<f64>> {
    list.iter().map(Value::as_f64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compare(ours: Value, theirs: Value) -> Result<f64, String> {
        let map = |value: Value| value.as_object().unwrap().clone();
        let tolerance = Tolerance { numbers: 1e-3, texts: 0.25 };
        apart(&map(ours), &map(theirs), tolerance)
    }

    #[test]
    fn numbers_are_measured_by_the_largest_of_their_list() {
        let apart =
            compare(json!({ "x": [10.0, 0.001] }), json!({ "x": [10.005, 0.002] }));
        assert!((apart.unwrap() - 5e-4).abs() < 1e-9);
        let error = compare(json!({ "x": [1.0, 5.0] }), json!({ "x": [1.0, 5.1] }));
        let error = error.unwrap_err();
        assert!(error.starts_with("`x` is 5 with ours and 5.1 here, 2.0e-2"), "{error}");
    }

    #[test]
    fn a_few_texts_may_differ_and_no_more() {
        let ours = json!({ "said": ["T AH F", "K AO F", "TH R UW", "DH OW"] });
        let one = json!({ "said": ["T AH F", "K AA F", "TH R UW", "DH OW"] });
        assert_eq!(compare(ours.clone(), one), Ok(0.0));
        let two = json!({ "said": ["T AH F", "K AA F", "TH R UW", "D OW"] });
        let error = compare(ours, two).unwrap_err();
        assert!(error.contains("2 of 4 values of `said` differ"), "{error}");
        assert!(error.contains("\"K AO F\" with ours and \"K AA F\" here"), "{error}");
    }

    #[test]
    fn what_one_side_lacks_is_a_difference() {
        let ours = json!({ "loss": [4.2], "norm": [1.0] });
        let error = compare(ours.clone(), json!({ "loss": [4.2] })).unwrap_err();
        assert!(error.contains("ours tells [\"loss\", \"norm\"]"), "{error}");
        let error = compare(ours.clone(), json!({ "loss": [4.2], "norm": [1, 1] }));
        assert!(error.unwrap_err().contains("1 values with ours, 2 here"));
        // NaN becomes null in JSON, and is no result even if both have it.
        let lost = json!({ "loss": [null], "norm": [1.0] });
        assert!(compare(ours, lost.clone()).is_err());
        assert!(compare(lost.clone(), lost).unwrap_err().contains("no number"));
    }
}
