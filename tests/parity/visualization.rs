//! Chapter 10.

use self_attention::prelude::*;
use self_attention::visualization::ablation::{averaged, silenced, Head};
use self_attention::visualization::heads::{distance, entropy};
use self_attention::visualization::inside::look_inside;

use crate::fixture::{assert_close, Fixture};

/// The model of the fixture: three blocks of four heads, every parameter PyTorch's.
fn model(fixture: &Fixture, norm: NormPlacement, kind: Kind) -> Transformer {
    let sizes = TransformerConfig::new(69).with_width(16).with_heads(4).with_blocks(3);
    let config = TransformerConfig { max_positions: 12, norm, ..sizes };
    let mut store = nn::VarStore::new(Device::Cpu);
    let model = config.init(&store.root()).unwrap();
    fixture.load_into(&mut store, kind);
    model
}

fn for_each_variant(check: impl Fn(&Fixture, &str, &Transformer, &Mask)) {
    let fixture = Fixture::load("ch10_visualization");
    let mask = Mask::new(fixture.get("mask").shallow_clone()).unwrap();
    for (norm, placement) in [("pre", NormPlacement::Pre), ("post", NormPlacement::Post)]
    {
        for (dtype, kind) in [("float32", Kind::Float), ("float64", Kind::Double)] {
            let model = model(&fixture, placement, kind);
            check(&fixture, &format!("{norm}/{dtype}"), &model, &mask);
        }
    }
}

#[test]
fn the_weights_are_those_that_hooks_get_out_of_pytorch() {
    for_each_variant(|fixture, case, model, mask| {
        let tokens = fixture.get("tokens");
        let handed_out = model.forward(tokens, Some(mask), &Dropout::off()).unwrap();
        let weights = Tensor::stack(&handed_out.weights, 0); // [L, B, H, T, T]
        assert_close(case, &weights, fixture.get(&format!("{case}/weights")));
    });
}

#[test]
fn measures_and_lengths_are_those_of_pytorch() {
    for_each_variant(|fixture, case, model, mask| {
        let (mut weights, mut lengths) = (Vec::new(), Vec::new());
        let _ = look_inside(model, fixture.get("tokens"), Some(mask), |_, heads| {
            weights.push(heads.weights.shallow_clone());
            lengths.push(heads.lengths()?);
            Ok(heads.weights.shallow_clone())
        })
        .unwrap();
        let found = Tensor::stack(&lengths, 0); // [L, B, H, T]
        assert_close(case, &found, fixture.get(&format!("{case}/lengths")));

        let size = found.size();
        let flat = Tensor::stack(&weights, 0).to_kind(Kind::Double).reshape([-1, 9]);
        let rows = Vec::<Vec<f64>>::try_from(&flat).unwrap();
        let measured = |measure: &dyn Fn(usize, &[f64]) -> f64| {
            let measured: Vec<f64> =
                rows.iter().enumerate().map(|(n, row)| measure(n % 9, row)).collect();
            Tensor::from_slice(&measured).view(&size[..])
        };
        for (name, found) in [
            ("entropy", measured(&|_, row| entropy(row))),
            ("distance", measured(&distance)),
        ] {
            let theirs = fixture.get(&format!("{case}/{name}"));
            assert_close(
                &format!("{case}/{name}"),
                &found.to_kind(theirs.kind()),
                theirs,
            );
        }
    });
}

#[test]
fn a_model_without_a_head_is_that_of_pytorch() {
    for_each_variant(|fixture, case, model, mask| {
        let head = Head { block: 1, head: 2 };
        let mean = fixture.get("mean").to_kind(model.embedding.kind());
        for (name, less) in [
            ("silenced", silenced(model, &[head]).unwrap()),
            ("averaged", averaged(model, head, &mean).unwrap()),
        ] {
            let tokens = fixture.get("tokens");
            let logits =
                less.forward(tokens, Some(mask), &Dropout::off()).unwrap().logits;
            let case = format!("{case}/{name}");
            assert_close(&case, &logits, fixture.get(&case));
        }
    });
}

/// What the page says of PyTorch: without gradients, too, a hook is called. Older versions took a way that passed it by.
#[test]
fn pytorch_calls_a_hook_without_gradients() {
    let fixture = Fixture::load("ch10_visualization");
    assert_eq!(fixture.get("wrong/called").int64_value(&[]), 1);
}

/// What the page says of PyTorch: in training its layer hands out the weights after dropout.
#[test]
fn in_training_pytorchs_weights_do_not_sum_to_one() {
    let fixture = Fixture::load("ch10_visualization");
    let far = |name: &str| (fixture.get(name) - 1.0).abs().max().double_value(&[]);
    assert!(far("wrong/evaluation") < 1e-5);
    assert!(far("wrong/training") > 0.1);
    let sums = fixture.get("wrong/training");
    assert!(sums.max().double_value(&[]) > 1.1);
}
