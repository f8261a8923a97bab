//! Chapter 6.

use std::collections::BTreeMap;

use self_attention::prelude::*;

use crate::fixture::{assert_close, Fixture};

const SLUG: &str = "ch06_feed_forward";

fn activation(name: &str) -> Activation {
    match name {
        "relu" => Activation::Relu,
        "gelu" => Activation::Gelu,
        "silu" => Activation::Silu,
        other => panic!("there should be no {other}"),
    }
}

/// The network with the weights that PyTorch had.
fn network(fixture: &Fixture, shape: &str, kind: Kind) -> FeedForward {
    let linear = |layer: &str| {
        let part = |part| fixture.get(&format!("{shape}/{layer}.{part}")).to_kind(kind);
        Linear { weight: part("weight"), bias: Some(part("bias")) }
    };
    let (expand, contract) = (linear("linear1"), linear("linear2"));
    FeedForward { expand, activation: Activation::Gelu, contract }
}

#[test]
fn the_feed_forward_network_is_pytorchs() {
    let fixture = Fixture::load(SLUG);
    let cases = fixture.cases("y"); // shape/activation/dtype
    assert_eq!(cases.len(), 6 * 3 * 2);
    for name in cases {
        let [shape, function, dtype] = name.split('/').collect::<Vec<_>>()[..] else {
            panic!("`{name}` should be shape/activation/dtype")
        };
        let kind = if dtype == "float64" { Kind::Double } else { Kind::Float };
        let mut network = network(&fixture, shape, kind);
        network.activation = activation(function);
        let x = fixture.get(&format!("{shape}/x")).to_kind(kind);
        let theirs = fixture.get(&format!("{name}/y"));
        assert_close(name, &network.forward(&x).unwrap(), theirs);
    }
}

#[test]
fn two_layers_with_nothing_between_them_are_the_one_that_pytorch_folds() {
    let fixture = Fixture::load(SLUG);
    for shape in fixture.cases("folded.weight") {
        let network = network(&fixture, shape, Kind::Double);
        let x = fixture.get(&format!("{shape}/x")).to_kind(Kind::Double);
        let two = network.contract.forward(&network.expand.forward(&x).unwrap()).unwrap();
        let part = |part| fixture.get(&format!("{shape}/folded.{part}")).shallow_clone();
        let one = Linear { weight: part("weight"), bias: Some(part("bias")) };
        assert_close(shape, &two, &one.forward(&x).unwrap());
    }
}

#[test]
fn activations_and_their_derivatives_are_pytorchs() {
    let fixture = Fixture::load(SLUG);
    let cases = fixture.cases("values"); // activations/name
    assert_eq!(cases.len(), 3);
    for name in cases {
        let x = fixture.get("activations/x").copy().set_requires_grad(true);
        let y = activation(&name["activations/".len()..]).apply(&x).unwrap();
        y.sum(Kind::Double).backward();
        assert_close(name, &y, fixture.get(&format!("{name}/values")));
        assert_close(name, &x.grad(), fixture.get(&format!("{name}/slopes")));
    }
}

#[test]
fn a_network_starts_from_the_very_numbers_that_pytorch_draws() {
    let fixture = Fixture::load(SLUG);
    let theirs: BTreeMap<&str, &Tensor> =
        ["linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"]
            .map(|name| (name, fixture.get(&format!("start/{name}"))))
            .into();
    let same = || {
        tch::manual_seed(14);
        let store = nn::VarStore::new(Device::Cpu);
        let _network = FeedForwardConfig::new(16).init(&store.root()).unwrap();
        let ours = store.variables();
        assert_eq!(ours.len(), theirs.len());
        theirs.iter().all(|(name, theirs)| ours[*name].equal(theirs))
    };
    // Another test may draw from libtorch's one generator in between; it will not do so every time.
    assert!((0..100).any(|_| same()), "the first weights are not those of PyTorch");
}
