//! Chapter 8.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use self_attention::prelude::*;
use self_attention::training::checkpoint::Checkpoint;
use self_attention::training::loss::cross_entropy;
use self_attention::training::optimizer::{AdamW, AdamWConfig, Schedule};

use crate::fixture::{assert_close, Fixture};

const DTYPES: [(&str, Kind); 2] = [("float32", Kind::Float), ("float64", Kind::Double)];

/// Copies what PyTorch saved under `folder` into the parameters of a store, each by its name.
fn load(fixture: &Fixture, folder: &str, store: &mut nn::VarStore, kind: Kind) {
    store.set_kind(kind);
    let named = |name: &String| {
        (name.clone(), fixture.get(&format!("{folder}/{name}")).shallow_clone())
    };
    let tensors: BTreeMap<_, _> = store.variables().keys().map(named).collect();
    let checkpoint = Checkpoint { tensors, texts: HashMap::new() };
    checkpoint.restore(store.variables(), Path::new("ch08_training")).unwrap();
}

#[test]
fn the_loss_and_its_gradient_are_those_of_pytorch() {
    let fixture = Fixture::load("ch08_training");
    let targets = fixture.get("loss/targets");
    for (dtype, kind) in DTYPES {
        for smoothing in [0.0, 0.05, 0.5] {
            let logits = fixture.get("loss/logits").to_kind(kind).copy();
            let logits = logits.set_requires_grad(true);
            let loss = cross_entropy(&logits, targets, smoothing).unwrap();
            loss.backward();
            let case =
                if smoothing == 0.0 { "0.0".into() } else { smoothing.to_string() };
            let case = format!("loss/{case}/{dtype}");
            assert_close(&case, &loss, fixture.get(&format!("{case}/loss")));
            let gradient = fixture.get(&format!("{case}/gradient"));
            assert_close(&case, &logits.grad(), gradient);
        }
    }
}

/// A matrix and a bias, as PyTorch started them.
fn parameters(
    fixture: &Fixture,
    kind: Kind,
) -> (nn::VarStore, [(&'static str, Tensor); 2]) {
    let mut store = nn::VarStore::new(Device::Cpu);
    let parameters = [("matrix", vec![3, 4]), ("bias", vec![4])]
        .map(|(name, size)| (name, store.root().zeros(name, &size)));
    load(fixture, "optimizer/start", &mut store, kind);
    (store, parameters)
}

/// Gives each parameter the gradient `gradient(name)`.
fn set_gradients(parameters: &[(&str, Tensor)], gradient: impl Fn(&str) -> Tensor) {
    for (name, parameter) in parameters {
        (parameter * gradient(name)).sum(parameter.kind()).backward();
    }
}

#[test]
fn gradients_are_clipped_as_by_pytorch() {
    let fixture = Fixture::load("ch08_training");
    for (dtype, kind) in DTYPES {
        for done in 0..8 {
            let case = format!("optimizer/{dtype}/{done}");
            let (store, parameters) = parameters(&fixture, kind);
            let mut optimizer = AdamW::new(&store, AdamWConfig::default()).unwrap();
            set_gradients(&parameters, |name| {
                fixture
                    .get(&format!("optimizer/gradients/{name}"))
                    .get(done)
                    .to_kind(kind)
            });
            let norm = optimizer.clip_gradients(1.0).unwrap();
            let theirs = fixture.get(&format!("{case}/norm")).to_kind(Kind::Double);
            let ours = Tensor::from_slice(&[norm]).get(0);
            let accuracy = if kind == Kind::Double { 1e-12 } else { 1e-6 };
            assert!(ours.allclose(&theirs, accuracy, 0.0, false), "{case}: norm {norm}");
            for (name, parameter) in &parameters {
                // PyTorch divides by the norm plus a millionth.
                let more = if norm > 1.0 { (norm + 1e-6) / norm } else { 1.0 };
                let theirs = fixture.get(&format!("{case}/clipped/{name}")) * more;
                assert_close(&format!("{case}/{name}"), &parameter.grad(), &theirs);
            }
        }
    }
}

#[test]
fn the_optimizer_with_its_two_groups_and_its_schedule_is_pytorchs() {
    let fixture = Fixture::load("ch08_training");
    let config = AdamWConfig { weight_decay: 0.5, ..AdamWConfig::default() };
    let schedule = Schedule { peak: 0.02, warm_up: 3, total: 8 };
    for (dtype, kind) in DTYPES {
        let (store, parameters) = parameters(&fixture, kind);
        let mut optimizer = AdamW::new(&store, config).unwrap();
        for done in 0..8 {
            let case = format!("optimizer/{dtype}/{done}");
            optimizer.zero_grad();
            set_gradients(&parameters, |name| {
                fixture.get(&format!("{case}/clipped/{name}")).shallow_clone()
            });
            optimizer.step(schedule.learning_rate(done + 1)).unwrap();
            for (name, parameter) in &parameters {
                let theirs = fixture.get(&format!("{case}/{name}"));
                assert_close(&format!("{case}/{name}"), parameter, theirs);
            }
        }
    }
}

#[test]
fn the_schedule_is_what_pytorch_was_given() {
    let fixture = Fixture::load("ch08_training");
    for (warm_up, total) in [(3, 8), (0, 5), (10, 200)] {
        let case = format!("schedule/{warm_up}/{total}");
        let schedule = Schedule { peak: 0.02, warm_up, total };
        let rates: Vec<f64> =
            (1..=total + 2).map(|step| schedule.learning_rate(step)).collect();
        assert_close(&case, &Tensor::from_slice(&rates), fixture.get(&case));
    }
}

#[test]
fn five_steps_of_training_are_those_of_pytorch() {
    let fixture = Fixture::load("ch08_training");
    let [tokens, targets, lengths, prefixes] =
        ["tokens", "targets", "lengths", "prefixes"]
            .map(|name| fixture.get(name).shallow_clone());
    let batch = Batch { tokens, targets, lengths, prefixes };
    let sizes = TransformerConfig::new(69).with_width(8).with_heads(2).with_blocks(2);
    let config = TransformerConfig { max_positions: 12, ..sizes };
    let mut store = nn::VarStore::new(Device::Cpu);
    let model = config.init(&store.root()).unwrap();
    load(&fixture, "training/start", &mut store, Kind::Double);

    let mut optimizer = AdamW::new(&store, AdamWConfig::default()).unwrap();
    let schedule = Schedule { peak: 0.01, warm_up: 2, total: 5 };
    let mask = prefix_decoder_mask(&batch.lengths, &batch.prefixes, 9).unwrap();
    let asked = batch.asked().unwrap(); // [N]
    let answers = batch.targets.flatten(0, 1).index_select(0, &asked); // [N]
    let mut history = Vec::new();
    for step in 1..=5 {
        let logits = model
            .forward_at(&batch.tokens, Some(&mask), &asked, &Dropout::off())
            .unwrap();
        let loss = cross_entropy(&logits, &answers, 0.05).unwrap();
        optimizer.zero_grad();
        loss.backward();
        let norm = optimizer.clip_gradients(1e3).unwrap();
        optimizer.step(schedule.learning_rate(step)).unwrap();
        history.extend([loss.double_value(&[]), norm]);
    }
    // A gradient of nearly zero, such as that of the bias of the keys, is divided by ε = 10⁻⁸, so that differences of
    // rounding come out 10⁸ times as large; hence in 64 bits, and not to the last of them.
    let close = |what: &str, ours: &Tensor, theirs: &Tensor| {
        let difference = (ours - theirs).abs().max().double_value(&[]);
        assert!(difference < 1e-9, "{what}: differs by {difference:.1e}");
    };
    let history = Tensor::from_slice(&history).view([5, 2]);
    close("loss and norm", &history, fixture.get("training/history"));
    for (name, ours) in store.variables() {
        close(&name, &ours, fixture.get(&format!("training/end/{name}")));
    }
}
