//! What chapter 7 says of its figures is what the figures show.

mod common;

use std::fs;

use common::root;
use serde_json::Value;

fn figure(name: &str) -> Value {
    let path = root().join(format!("figures/{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The y of each point of a series of a panel.
fn heights(figure: &Value, panel: usize, series: usize) -> Vec<f64> {
    let points = &figure["panels"][panel]["series"][series]["points"];
    points.as_array().unwrap().iter().map(|point| point[1].as_f64().unwrap()).collect()
}

fn matrix(chart: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(chart["values"].clone()).unwrap()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_gradient_falls_along_a_pre_norm_stack_and_not_along_a_post_norm_one() {
    let figure = figure("ch07_gradients");
    let [pre, post] = [0, 1].map(|series| heights(&figure, 0, series));
    assert_eq!((pre.len(), post.len()), (24, 24));
    assert!(pre[23] < 0.65 * pre[0], "{pre:?}");
    assert!(post.iter().all(|norm| (0.225..0.305).contains(norm)), "{post:?}");
    assert!((post[23] / post[0] - 1.0).abs() < 0.05, "{post:?}");
    // The last block, in deeper and deeper stacks.
    let [pre, post] = [0, 1].map(|series| heights(&figure, 1, series));
    assert!(pre.is_sorted_by(|a, b| a > b), "{pre:?}");
    assert!(post.is_sorted_by(|a, b| a < b), "{post:?}");
}

#[test]
fn the_shipped_model_has_learned_that_neighbouring_positions_are_alike() {
    let figure = figure("ch07_positions");
    let waves = matrix(&figure["panels"][0]);
    let learned = matrix(&figure["panels"][1]);
    for here in 0..16usize {
        let of = |is_it: fn(usize) -> bool| {
            let row = learned[here].iter().enumerate();
            row.filter(move |(there, _)| is_it(here.abs_diff(*there)))
                .map(|(_, &alike)| alike)
        };
        let neighbours = mean(of(|distance| distance == 1));
        let far = of(|distance| distance >= 4).fold(f64::NEG_INFINITY, f64::max);
        assert!(neighbours > far, "position {here}: {neighbours}, {far}");
        // The sinusoids: the same all along each diagonal.
        for there in 0..16 {
            assert!((waves[here][there] - waves[0][here.abs_diff(there)]).abs() < 2e-4);
        }
    }
}

#[test]
fn the_shipped_model_has_learned_which_letters_and_phonemes_belong_together() {
    let alike = matrix(&figure("ch07_embeddings"));
    let (vowels, consonants, phonemes) = (0..5usize, 5..11usize, 11..17usize);
    let between = |a: &std::ops::Range<usize>, b: &std::ops::Range<usize>| {
        let pairs = a.clone().flat_map(|i| b.clone().map(move |j| (i, j)));
        mean(pairs.filter(|(i, j)| i != j).map(|(i, j)| alike[i][j]))
    };
    let groups = [&vowels, &consonants, &phonemes];
    for group in groups {
        let within = between(group, group);
        for other in groups.into_iter().filter(|other| *other != group) {
            let across = between(group, other);
            assert!(within > across + 0.05, "{group:?}, {other:?}: {within}, {across}");
        }
    }
    // The deepest hole within a group is where p meets z.
    let symbols = &figure("ch07_embeddings")["rows"];
    let at = |symbol: &str| (0..17usize).find(|&row| symbols[row] == *symbol).unwrap();
    let holes = groups
        .into_iter()
        .flat_map(|group| group.clone().flat_map(|i| group.clone().map(move |j| (i, j))));
    let deepest = holes.min_by(|a, b| alike[a.0][a.1].total_cmp(&alike[b.0][b.1]));
    let deepest = deepest.unwrap();
    assert_eq!([deepest.0.min(deepest.1), deepest.0.max(deepest.1)], [at("p"), at("z")]);
    for (letter, own) in consonants.zip(phonemes.clone()) {
        let others = phonemes.clone().filter(|&phoneme| phoneme != own);
        let least = others.map(|j| alike[letter][j]).fold(f64::INFINITY, f64::min);
        let own = alike[letter][own];
        assert!(own < -0.1 && own < least, "letter {letter}: {own}, {least}");
    }
}
