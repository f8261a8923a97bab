//! Chapter 1.

use self_attention::prelude::*;
use self_attention::worked_example::{matrix, KEY_WEIGHT, QUERY_WEIGHT, VALUE_WEIGHT};

use crate::fixture::{assert_close, Fixture};

#[test]
fn letters_and_matrices_are_those_of_the_script() {
    let fixture = Fixture::load("ch01_understanding");
    assert_eq!(&Tough::letters().unwrap(), fixture.get("tough/letters"));
    for (name, weight) in [
        ("query_weight", QUERY_WEIGHT),
        ("key_weight", KEY_WEIGHT),
        ("value_weight", VALUE_WEIGHT),
    ] {
        assert_eq!(&matrix(&weight).unwrap(), fixture.get(name), "{name}");
    }
}

#[test]
fn one_pass_over_letters_in_any_order_is_that_of_pytorch() {
    let fixture = Fixture::load("ch01_understanding");
    let cases = fixture.cases("context");
    assert_eq!(cases.len(), 4);
    for name in cases {
        let saved = |what: &str| fixture.get(&format!("{name}/{what}"));
        let Tough { query, key, value } = Tough::project(saved("letters")).unwrap();
        let off = Dropout::off();
        let attended =
            scaled_dot_product_attention(&query, &key, &value, None, &off).unwrap();
        for (what, ours) in [
            ("query", query),
            ("key", key),
            ("value", value),
            ("weights", attended.weights),
            ("context", attended.context),
        ] {
            assert_close(&format!("{name}: {what}"), &ours, saved(what));
        }
    }
}
