//! The crate against real PyTorch: the same inputs, the same results.
//!
//! The results come from a file made by PyTorch itself. To make it again, after its script has changed:
//! `python tests/fixtures/ch04_attention.py`, with torch 2.13.0 and safetensors installed.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};
use self_attention::prelude::*;
use serde::Deserialize;

const SCRIPT: &str = include_str!("fixtures/ch04_attention.py");
const FIXTURE: &[u8] = include_bytes!("fixtures/ch04_attention.safetensors");

/// What a fixture says of its making.
#[derive(Deserialize)]
struct Made {
    torch: String,
    cases: usize,
    script: String,
}

fn made() -> Made {
    let (_, metadata) = SafeTensors::read_metadata(FIXTURE).unwrap();
    serde_json::from_str(&metadata.metadata().as_ref().unwrap()["made"]).unwrap()
}

/// The tensors of the fixture by name: `shape/query`, `shape/mask name/mask`, `shape/mask name/dtype/context`, …
struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    fn load() -> Self {
        let file = SafeTensors::deserialize(FIXTURE).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F64 => Kind::Double,
                Dtype::BOOL => Kind::Bool,
                Dtype::I64 => Kind::Int64,
                other => panic!("{name}: there should be no {other:?} in the fixture"),
            };
            (name, Tensor::f_from_data_size(view.data(), &shape, kind).unwrap())
        });
        Self(tensors.collect())
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the fixture has no tensor `{name}`"))
    }

    /// The names of all cases, as in `batch/causal/float32`.
    fn cases(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.strip_suffix("/context"))
    }
}

/// What PyTorch was given and what it gave back.
struct Case<'a> {
    name: &'a str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Option<Mask>,
    context: &'a Tensor,
    weights: &'a Tensor,
    tolerance: f64,
}

impl<'a> Case<'a> {
    fn new(tensors: &'a Tensors, name: &'a str) -> Self {
        let [shape, mask, dtype] = name.split('/').collect::<Vec<_>>()[..] else {
            panic!("`{name}` should be shape/mask/dtype")
        };
        let (kind, tolerance) = match dtype {
            "float32" => (Kind::Float, 1e-6),
            "float64" => (Kind::Double, 1e-12),
            other => panic!("{name}: no tolerance is set for {other}"),
        };
        let input = |which| tensors.get(&format!("{shape}/{which}")).to_kind(kind);
        let mask = (mask != "none").then(|| {
            Mask::new(tensors.get(&format!("{shape}/{mask}/mask")).shallow_clone())
                .unwrap()
        });
        Self {
            name,
            query: input("query"),
            key: input("key"),
            value: input("value"),
            mask,
            context: tensors.get(&format!("{name}/context")),
            weights: tensors.get(&format!("{name}/weights")),
            tolerance,
        }
    }

    fn check(&self, what: &str, ours: &Tensor, theirs: &Tensor) {
        assert_eq!(ours.size(), theirs.size(), "{}: shape of the {what}", self.name);
        assert_eq!(ours.kind(), theirs.kind(), "{}: kind of the {what}", self.name);
        let difference = relative_difference(ours, theirs);
        // Not `difference > tolerance`, which a NaN would pass.
        assert!(
            difference <= self.tolerance,
            "{}: the {what} differs from PyTorch's by {difference:.1e} relative, above {:.0e}",
            self.name,
            self.tolerance,
        );
    }
}

/// `max |ours − theirs| / max |theirs|`, or the plain difference where theirs is zero throughout.
fn relative_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let difference = (ours - theirs).abs().max().double_value(&[]);
    let scale = theirs.abs().max().double_value(&[]);
    if scale == 0.0 {
        difference
    } else {
        difference / scale
    }
}

#[test]
fn the_fixture_is_whole_and_made_by_this_script_with_pytorch_2_13() {
    let made = made();
    assert_eq!(made.torch, "2.13.0");
    assert_eq!(made.cases, Tensors::load().cases().count());
    let same = made.script.lines().eq(SCRIPT.lines()); // whatever the line endings of this checkout
    assert!(
        same,
        "the script has changed since; run `python tests/fixtures/ch04_attention.py`"
    );
}

#[test]
fn explicit_attention_is_that_of_pytorch() {
    let tensors = Tensors::load();
    for case in tensors.cases().map(|name| Case::new(&tensors, name)) {
        let Case { query, key, value, mask, .. } = &case;
        let attended = scaled_dot_product_attention(
            query,
            key,
            value,
            mask.as_ref(),
            &Dropout::off(),
        )
        .unwrap();
        case.check("context", &attended.context, case.context);
        case.check("weights", &attended.weights, case.weights);
    }
}

#[test]
fn fused_attention_is_that_of_pytorch() {
    let tensors = Tensors::load();
    for case in tensors.cases().map(|name| Case::new(&tensors, name)) {
        let context =
            fused_attention(&case.query, &case.key, &case.value, case.mask.as_ref())
                .unwrap();
        case.check("context", &context, case.context);
    }
}

#[test]
fn masks_are_those_of_pytorch() {
    let tensors = Tensors::load();
    let lengths = tensors.get("masks/lengths");
    let ours = [
        ("masks/padding", Mask::padding(lengths, 5).unwrap()),
        ("masks/causal", Mask::causal(5, Device::Cpu).unwrap()),
        ("masks/prefix", Mask::prefix(lengths, 5).unwrap()),
    ];
    for (name, mask) in ours {
        assert_eq!(mask.allowed(), tensors.get(name), "{name}");
    }
}

#[test]
fn a_query_without_an_open_key_gets_zeros_as_in_pytorch() {
    let tensors = Tensors::load();
    let closed: Vec<_> =
        tensors.cases().filter(|name| name.contains("/closed_row/")).collect();
    assert!(!closed.is_empty());
    for name in closed {
        let case = Case::new(&tensors, name);
        let middle = case.query.size()[case.query.dim() - 2] / 2; // the row that the script closed
        let theirs = case.context.select(-2, middle);
        let ours =
            fused_attention(&case.query, &case.key, &case.value, case.mask.as_ref())
                .unwrap();
        for context in [theirs, ours.select(-2, middle)] {
            assert_eq!(context, context.zeros_like(), "{name}");
        }
    }
}
