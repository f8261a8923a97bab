//! Chapter 7.

use self_attention::prelude::*;

use crate::fixture::{assert_close, Fixture};

/// The model of the fixture: three blocks, and every parameter PyTorch's.
fn model(
    fixture: &Fixture,
    norm: NormPlacement,
    positions: Positions,
    kind: Kind,
) -> Transformer {
    let sizes = TransformerConfig::new(69).with_width(16).with_heads(4).with_blocks(3);
    let config = TransformerConfig { max_positions: 12, norm, positions, ..sizes };
    let mut store = nn::VarStore::new(Device::Cpu);
    let model = config.init(&store.root()).unwrap();
    fixture.load_into(&mut store, kind);
    model
}

fn mask(fixture: &Fixture, name: &str) -> Option<Mask> {
    let mask = || fixture.get(&format!("mask/{name}")).shallow_clone();
    (name != "none").then(|| Mask::new(mask()).unwrap())
}

/// Pre- and post-norm, in 32 and in 64 bits, under the names the fixture gives them.
fn variants() -> impl Iterator<Item = (&'static str, NormPlacement, &'static str, Kind)> {
    [("pre", NormPlacement::Pre), ("post", NormPlacement::Post)].into_iter().flat_map(
        |(norm, placement)| {
            [("float32", Kind::Float), ("float64", Kind::Double)]
                .map(|(dtype, kind)| (norm, placement, dtype, kind))
        },
    )
}

#[test]
fn layer_norm_is_that_of_pytorch() {
    let fixture = Fixture::load("ch07_block");
    for (dtype, kind) in [("float32", Kind::Float), ("float64", Kind::Double)] {
        let [x, weight, bias] = ["x", "weight", "bias"]
            .map(|name| fixture.get(&format!("norm/{name}")).to_kind(kind));
        let normed = LayerNorm { weight, bias }.forward(&x).unwrap();
        assert_close(dtype, &normed, fixture.get(&format!("norm/{dtype}/normed")));
    }
}

#[test]
fn a_block_and_a_stack_of_them_are_those_of_pytorch() {
    let fixture = Fixture::load("ch07_block");
    for (norm, placement, dtype, kind) in variants() {
        let model = model(&fixture, placement, Positions::Learned, kind);
        let x = fixture.get("x").to_kind(kind);
        for name in ["none", "causal", "padding", "prefix"] {
            let mask = mask(&fixture, name);
            let case = format!("{norm}/{name}/{dtype}");
            let theirs = |result: &str| fixture.get(&format!("{case}/{result}"));
            let off = Dropout::off();

            let attended = model.blocks[0].forward(&x, mask.as_ref(), &off).unwrap();
            assert_close(&case, &attended.context, theirs("context"));
            assert_close(&case, &attended.weights, theirs("weights"));

            let mut stacked = x.shallow_clone();
            for block in &model.blocks {
                stacked = block.forward(&stacked, mask.as_ref(), &off).unwrap().context;
            }
            if let Some(norm) = &model.norm {
                stacked = norm.forward(&stacked).unwrap();
            }
            assert_close(&case, &stacked, theirs("stack"));
        }
    }
}

#[test]
fn a_whole_model_is_that_of_pytorch() {
    let fixture = Fixture::load("ch07_block");
    let (tokens, mask) = (fixture.get("tokens"), mask(&fixture, "prefix"));
    let logits = |model: &Transformer| {
        model.forward(tokens, mask.as_ref(), &Dropout::off()).unwrap().logits
    };
    for (norm, placement, dtype, kind) in variants() {
        let case = format!("{norm}/prefix/{dtype}/logits");
        let model = model(&fixture, placement, Positions::Learned, kind);
        assert_close(&case, &logits(&model), fixture.get(&case));
    }
    for (norm, placement) in [("pre", NormPlacement::Pre), ("post", NormPlacement::Post)]
    {
        let case = format!("{norm}/counted anew");
        let mut model = self::model(&fixture, placement, Positions::Learned, Kind::Float);
        model.config.separator = Some(1);
        assert_close(&case, &logits(&model), fixture.get(&case));
        let case = format!("{norm}/sinusoidal");
        let model = self::model(&fixture, placement, Positions::Sinusoidal, Kind::Float);
        assert_close(&case, &logits(&model), fixture.get(&case));
    }
}

#[test]
fn the_models_mask_and_its_sinusoids_are_those_of_pytorch() {
    let fixture = Fixture::load("ch07_block");
    let [lengths, prefixes] = ["lengths", "prefixes"].map(|name| fixture.get(name));
    let mask = prefix_decoder_mask(lengths, prefixes, 9).unwrap();
    assert_eq!(mask.allowed(), fixture.get("mask/prefix"));
    let table = sinusoids(12, 16, Device::Cpu).unwrap();
    assert_close("sinusoids", &table, fixture.get("sinusoids"));
}
