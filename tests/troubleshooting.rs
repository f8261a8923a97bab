//! The appendix shows each message as it is printed: here each mistake is made and its message looked up.
//!
//! Those of set-up are held to the page by `xtask/src/error.rs`.

mod common;

use std::fs;
use std::ops::ControlFlow;

use common::root;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::evaluation::pronouncer::{Card, Pronouncer};
use self_attention::prelude::*;
use self_attention::training::run::RunConfig;
use self_attention::training::trainer::Trainer;

/// Expects the message on the page, as a program prints it.
#[track_caller]
fn explained(message: &str) {
    let page =
        fs::read_to_string(root().join("book/appendix_troubleshooting.md")).unwrap();
    let message = format!("error: {message}\n");
    assert!(page.contains(&message), "not on the page:\n{message}");
}

#[test]
fn shapes_that_do_not_fit() {
    let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
    let off = Dropout::off();
    let [query, key] = [zeros(&[1, 4, 5, 32]), zeros(&[1, 4, 5, 16])];
    let attended = scaled_dot_product_attention(&query, &key, &key, None, &off);
    explained(&attended.unwrap_err().to_string());

    let store = nn::VarStore::new(Device::Cpu);
    let layer = MultiHeadConfig::new(128, 7).init(&store.root());
    explained(&layer.unwrap_err().to_string());

    let model = TransformerConfig::new(69).with_blocks(1).init(&store.root()).unwrap();
    let tokens = Tensor::zeros([1, 65], (Kind::Int64, Device::Cpu));
    explained(&model.forward(&tokens, None, &off).unwrap_err().to_string());
}

#[test]
fn words_that_cannot_be_read() {
    explained(&Vocabulary::new().letters("c4t").unwrap_err().to_string());
    let shipped = root().join("models/pronouncer.safetensors");
    let pronouncer = Pronouncer::load(&shipped, Device::Cpu).unwrap();
    let long = "llanfairpwllgwyngyllgogerychwyrndrobwll";
    explained(&pronouncer.check(long).unwrap_err().to_string());
}

#[test]
fn training_that_cannot_go_on() {
    let vocabulary = Vocabulary::new();
    let mut config = RunConfig::quick(&vocabulary);
    config.model = config.model.with_width(8).with_blocks(1).with_heads(2);
    config.data.words = Some(60);
    config.data.validation_words = Some(4);
    config.training.learning_rate = 1e12;
    config.training.tokens_per_batch = 128;
    let examples =
        config.data.examples(&Dictionary::embedded().unwrap(), &vocabulary).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trainer = |examples| {
        let RunConfig { model, training, .. } = &config;
        Trainer::new(model, training.clone(), examples, Device::Cpu, folder.path())
    };
    let mut first = trainer(examples.clone()).unwrap();
    let error = trainer(examples).err().unwrap().to_string();
    explained(&error.replace(&folder.path().display().to_string(), "runs/pronouncer"));
    let error = first.run(|_| ControlFlow::Continue(())).unwrap_err().to_string();
    explained(&error);
}

#[test]
fn model_files_that_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = root().join("models/pronouncer.safetensors");
    let weights = folder.path().join("pronouncer.safetensors");
    let whole = fs::read(&shipped).unwrap();
    fs::copy(Card::path(&shipped), Card::path(&weights)).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&weights, bytes).unwrap();
        let error = Pronouncer::load(&weights, Device::Cpu).unwrap_err().to_string();
        let folder = folder.path().display().to_string();
        error.replace(&folder, "models")
    };
    explained(&refused(&whole[..whole.len() / 2]));
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let [found, said] = [&flipped, &whole].map(|bytes| {
        fs::write(&weights, bytes).unwrap();
        Card::hash(&weights).unwrap()
    });
    // The page must not change with every new model.
    let message = refused(&flipped).replace(&found, "2f0c…").replace(&said, "91be…");
    explained(&message);
}
