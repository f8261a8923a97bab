//! Chapter 5.

use std::collections::BTreeMap;
use std::path::Path;

use self_attention::prelude::*;
use self_attention::training::checkpoint::Checkpoint;

use crate::fixture::{assert_close, Fixture};

/// The parameters, under the names that `nn.MultiheadAttention` gives them.
const NAMES: [&str; 4] =
    ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"];

/// A layer with the weights that the script saved under `case`, as `case.in_proj_weight`.
fn layer(fixture: &Fixture, case: &str, kind: Kind) -> MultiHead {
    let weight = fixture.get(&format!("{case}.out_proj.weight"));
    let heads = match case {
        "one_head" => 1,
        "two_heads" | "one_position" | "averaged" => 2,
        "three_heads" => 3,
        "heads_of_one" => 4,
        "large" => 8,
        other => panic!("there should be no case `{other}`"),
    };
    let mut store = nn::VarStore::new(Device::Cpu);
    let layer =
        MultiHeadConfig::new(weight.size()[0], heads).init(&store.root()).unwrap();
    let tensors = NAMES.map(|name| {
        let tensor = fixture.get(&format!("{case}.{name}"));
        (name.to_owned(), tensor.shallow_clone())
    });
    let file = Checkpoint { tensors: BTreeMap::from(tensors), ..Checkpoint::default() };
    file.restore(store.variables(), Path::new("(fixture)")).unwrap();
    if kind == Kind::Double {
        store.double();
    }
    layer
}

#[test]
fn with_pytorchs_weights_multi_head_attention_is_that_of_pytorch() {
    let fixture = Fixture::load("ch05_multi_head");
    let cases = fixture.cases("context");
    assert_eq!(cases.len(), 6 * 5 * 2);
    for name in cases {
        let [case, mask, dtype] = name.split('/').collect::<Vec<_>>()[..] else {
            panic!("`{name}` should be case/mask/dtype")
        };
        let kind = if dtype == "float64" { Kind::Double } else { Kind::Float };
        let mask = (mask != "none").then(|| {
            let mask = fixture.get(&format!("{case}/{mask}/mask"));
            Mask::new(mask.shallow_clone()).unwrap()
        });
        let x = fixture.get(&format!("{case}/x")).to_kind(kind);
        let ours =
            layer(&fixture, case, kind).forward(&x, mask.as_ref(), &Dropout::off());
        let ours = ours.unwrap();
        let theirs = |result| fixture.get(&format!("{name}/{result}"));
        assert_close(&format!("{name}: context"), &ours.context, theirs("context"));
        assert_close(&format!("{name}: weights"), &ours.weights, theirs("weights"));
    }
}

#[test]
fn by_default_pytorch_hands_out_the_mean_over_heads() {
    let fixture = Fixture::load("ch05_multi_head");
    let layer = layer(&fixture, "averaged", Kind::Float);
    let attended = layer.forward(fixture.get("averaged/x"), None, &Dropout::off());
    let weights = attended.unwrap().weights.mean_dim(1, false, Kind::Float); // [B, T, S]
    assert_close("averaged", &weights, fixture.get("averaged/averaged"));
}

#[test]
fn a_query_without_an_open_key_is_nan_in_pytorch_on_two_paths_and_zeros_on_one() {
    let fixture = Fixture::load("ch05_multi_head");
    let layer = layer(&fixture, "averaged", Kind::Float);
    let mask = Mask::new(fixture.get("closed_row/mask").shallow_clone()).unwrap();
    let ours = layer.forward(fixture.get("averaged/x"), Some(&mask), &Dropout::off());
    let ours = ours.unwrap();
    assert_close("context", &ours.context, fixture.get("closed_row/not_asked"));
    let closed = ours.weights.select(2, 2); // [B, H, S]
    assert_eq!(closed, closed.zeros_like());

    let is_nan = |name| fixture.get(name).select(-2, 2).isnan().all();
    assert!(bool::try_from(is_nan("closed_row/asked")).unwrap());
    assert!(bool::try_from(is_nan("closed_row/weights")).unwrap());
    assert!(bool::try_from(is_nan("closed_row/evaluated")).unwrap());
}

#[test]
fn a_fresh_layer_starts_as_pytorchs_does() {
    let fixture = Fixture::load("ch05_multi_head");
    let store = nn::VarStore::new(Device::Cpu);
    let _layer = MultiHeadConfig::new(64, 4).init(&store.root()).unwrap();
    let variables = store.variables();
    assert_eq!(variables.len(), NAMES.len());
    for name in NAMES {
        // The largest of thousands of uniform numbers is the bound but for a thousandth; the biases are 0.
        let theirs = fixture.get(&format!("start/{name}")).double_value(&[]);
        let ours = variables[name].abs().max().double_value(&[]);
        assert!((ours - theirs).abs() <= 0.002 * theirs, "{name}: {ours} and {theirs}");
    }
}

#[test]
fn loading_a_store_of_tch_broadcasts_and_restoring_a_checkpoint_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one_number.safetensors");
    let mut store = nn::VarStore::new(Device::Cpu);
    let layer = MultiHeadConfig::new(8, 2).init(&store.root()).unwrap();
    let mut file = Checkpoint {
        tensors: store.variables().into_iter().collect(),
        ..Checkpoint::default()
    };
    file.tensors.insert("in_proj_bias".into(), Tensor::from_slice(&[7f32]));
    file.write(&path).unwrap();

    let error = Checkpoint::read(&path).unwrap().restore(store.variables(), &path);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`in_proj_bias` is [1] and the model needs [24]"), "{error}");
    store.load(&path).unwrap();
    let bias = layer.input.bias.unwrap();
    assert_eq!(bias, Tensor::full([24], 7, (Kind::Float, Device::Cpu)));
}
