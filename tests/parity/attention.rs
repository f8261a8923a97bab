//! Chapter 4.

use self_attention::prelude::*;

use crate::fixture::{assert_close, Fixture};

/// What PyTorch was given: names are `shape/mask/dtype`, as in `batch/causal/float32`.
struct Case {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Option<Mask>,
}

impl Case {
    fn new(fixture: &Fixture, name: &str) -> Self {
        let [shape, mask, dtype] = name.split('/').collect::<Vec<_>>()[..] else {
            panic!("`{name}` should be shape/mask/dtype")
        };
        let kind = match dtype {
            "float32" => Kind::Float,
            "float64" => Kind::Double,
            other => panic!("{name}: there should be no {other}"),
        };
        let input = |which| fixture.get(&format!("{shape}/{which}")).to_kind(kind);
        let mask = (mask != "none").then(|| {
            let mask = fixture.get(&format!("{shape}/{mask}/mask"));
            Mask::new(mask.shallow_clone()).unwrap()
        });
        Self { query: input("query"), key: input("key"), value: input("value"), mask }
    }

    fn explicit(&self) -> Attended {
        let Self { query, key, value, mask } = self;
        let off = Dropout::off();
        scaled_dot_product_attention(query, key, value, mask.as_ref(), &off).unwrap()
    }

    fn fused(&self) -> Tensor {
        let Self { query, key, value, mask } = self;
        fused_attention(query, key, value, mask.as_ref()).unwrap()
    }
}

#[test]
fn explicit_and_fused_attention_are_those_of_pytorch() {
    let fixture = Fixture::load("ch04_attention");
    let cases = fixture.cases("context");
    assert_eq!(cases.len(), 56);
    for name in cases {
        let case = Case::new(&fixture, name);
        let [context, weights] =
            ["context", "weights"].map(|result| fixture.get(&format!("{name}/{result}")));
        let attended = case.explicit();
        assert_close(&format!("{name}: context"), &attended.context, context);
        assert_close(&format!("{name}: weights"), &attended.weights, weights);
        assert_close(&format!("{name}: fused context"), &case.fused(), context);
    }
}

#[test]
fn masks_are_those_of_pytorch() {
    let fixture = Fixture::load("ch04_attention");
    let lengths = fixture.get("masks/lengths");
    let ours = [
        ("masks/padding", Mask::padding(lengths, 5).unwrap()),
        ("masks/causal", Mask::causal(5, Device::Cpu).unwrap()),
        ("masks/prefix", Mask::prefix(lengths, 5).unwrap()),
    ];
    for (name, mask) in ours {
        assert_eq!(mask.allowed(), fixture.get(name), "{name}");
    }
}

#[test]
fn a_query_without_an_open_key_gets_zeros_as_in_pytorch() {
    let fixture = Fixture::load("ch04_attention");
    let mut cases = fixture.cases("context");
    cases.retain(|name| name.contains("/closed_row/"));
    assert!(!cases.is_empty());
    for name in cases {
        let case = Case::new(&fixture, name);
        let middle = case.query.size()[case.query.dim() - 2] / 2; // the row that the script closed
        let theirs = fixture.get(&format!("{name}/context")).select(-2, middle);
        for context in [theirs, case.fused().select(-2, middle)] {
            assert_eq!(context, context.zeros_like(), "{name}");
        }
    }
}
