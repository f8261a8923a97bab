//! What PyTorch was given and what it gave back, as the scripts in `tests/fixtures/` saved it.

#![allow(dead_code)] // each test uses a part of it

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use self_attention::prelude::*;
use self_attention::training::checkpoint::Checkpoint;
use serde::Deserialize;

use crate::common::{files, root, stem};

/// The tensors that the script of one chapter saved, by name.
pub struct Fixture {
    tensors: BTreeMap<String, Tensor>,
    made: Made,
}

/// What a fixture says of its making.
#[derive(Deserialize)]
struct Made {
    torch: String,
    script: String,
}

impl Fixture {
    /// Reads `tests/fixtures/<slug>.safetensors`.
    pub fn load(slug: &str) -> Self {
        let path = root().join(format!("tests/fixtures/{slug}.safetensors"));
        let bytes =
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let made = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["made"]);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F64 => Kind::Double,
                Dtype::BOOL => Kind::Bool,
                Dtype::I64 => Kind::Int64,
                other => panic!("{slug}: {name}: there should be no {other:?} here"),
            };
            (name, Tensor::f_from_data_size(view.data(), &shape, kind).unwrap())
        });
        Self { tensors: tensors.collect(), made: made.unwrap() }
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("the fixture has no tensor `{name}`"))
    }

    /// Copies what PyTorch calls `parameters/…` into all parameters of a store, each by its name.
    pub fn load_into(&self, store: &mut nn::VarStore, kind: Kind) {
        store.set_kind(kind);
        let named = |name: &String| {
            let tensor = self.get(&format!("parameters/{name}"));
            (name.clone(), tensor.shallow_clone())
        };
        let tensors: BTreeMap<_, _> = store.variables().keys().map(named).collect();
        let checkpoint = Checkpoint { tensors, texts: HashMap::new() };
        checkpoint.restore(store.variables(), Path::new("the fixture")).unwrap();
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The names of all cases: what stands before `/<result>` in the names of its tensors.
    pub fn cases(&self, result: &str) -> Vec<&str> {
        let ending = format!("/{result}");
        let cases: Vec<_> =
            self.tensors.keys().filter_map(|name| name.strip_suffix(&ending)).collect();
        assert!(!cases.is_empty(), "the fixture has no case with a `{result}`");
        cases
    }
}

/// Expects the same shape and kind and nearly the same numbers: a millionth of the largest in 32 bits, 10⁻¹² of it in
/// 64.
#[track_caller]
pub fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shape");
    assert_eq!(ours.kind(), theirs.kind(), "{what}: kind");
    let tolerance = if theirs.kind() == Kind::Double { 1e-12 } else { 1e-6 };
    let difference = relative_difference(ours, theirs);
    // Not `difference > tolerance`, which a NaN would pass.
    assert!(
        difference <= tolerance,
        "{what}: differs from PyTorch's by {difference:.1e} relative, above {tolerance:.0e}"
    );
}

/// `max |ours − theirs| / max |theirs|`, or the plain difference where theirs is zero throughout.
fn relative_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let [ours, theirs] = [ours, theirs].map(|tensor| tensor.to_kind(Kind::Double));
    let difference = (ours - &theirs).abs().max().double_value(&[]);
    let scale = theirs.abs().max().double_value(&[]);
    if scale == 0.0 {
        difference
    } else {
        difference / scale
    }
}

#[test]
fn fixtures_are_made_by_their_scripts_as_they_are_with_pytorch_2_13() {
    for path in files(&root().join("tests/fixtures"), "safetensors") {
        let slug = stem(&path);
        let Made { torch, script } = Fixture::load(slug).made;
        assert_eq!(torch, "2.13.0", "{slug}");
        let now = fs::read_to_string(path.with_extension("py")).unwrap();
        // Whatever the line endings of this checkout.
        let same = script.lines().eq(now.lines());
        assert!(
            same,
            "the script has changed since; run `python tests/fixtures/{slug}.py`"
        );
    }
}
