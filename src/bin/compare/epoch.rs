//! One epoch on the dictionary, with buckets and a thread that lays batches ready.

use std::sync::Arc;

use self_attention::data::batch::Example;
use self_attention::data::cmudict::Dictionary;
use self_attention::data::examples;
use self_attention::data::loader::{Loader, LoaderConfig};
use self_attention::data::split::Split;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::error::{Error, Result};
use self_attention::training::trainer::TrainingConfig;
use serde::Deserialize;
use serde_json::{json, Map, Value};
use tch::{Device, Kind, Tensor};

use crate::step::{Ours, Steps};
use crate::task::{Answer, Precision, Prepared, Shape, Task, Training};

#[derive(Debug, Deserialize)]
struct Settings {
    dropout: f64,
    model: Shape,
    training: Training,
    tokens_per_batch: usize,
}

#[derive(Debug, Deserialize)]
struct DataSettings {
    share: f64,
    tokens_per_batch: usize,
}

fn loader(examples: Vec<Example>, budget: usize, device: Device) -> Result<Loader> {
    Loader::new(Arc::from(examples), LoaderConfig::new(budget), device)
}

/// Writes training examples, and which of them share a batch of ours, into the file of the task, so that every side has
/// the same.
pub fn write_examples(task: &Task) -> Result<Answer> {
    let DataSettings { share, tokens_per_batch } = task.settings()?;
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::config("share", share, "must be above 0 and at most 1"));
    }
    let Some(path) = &task.file else {
        return Err(Error::input("task", "`examples` needs a `file` to write"));
    };
    let all = examples(&Dictionary::embedded()?, &Vocabulary::new(), Split::Train)?;
    let count = ((all.len() as f64 * share) as usize).max(1);
    let total = all.len();
    let some: Vec<Example> =
        (0..count).map(|index| all[index * total / count].clone()).collect();
    let numbers = |numbers: Vec<usize>| -> Result<Tensor> {
        let numbers: Vec<i64> = numbers.into_iter().map(|number| number as i64).collect();
        Ok(Tensor::f_from_slice(&numbers)?)
    };
    let tokens: Vec<i64> =
        some.iter().flat_map(|example| &example.tokens).copied().collect();
    let sizes = some.iter().map(|example| example.tokens.len()).collect();
    let prefixes = some.iter().map(|example| example.prefix).collect();
    let plan = loader(some, tokens_per_batch, Device::Cpu)?.plan(0);
    let tensors = [
        ("tokens", Tensor::f_from_slice(&tokens)?),
        ("sizes", numbers(sizes)?),
        ("prefixes", numbers(prefixes)?),
        ("batch_sizes", numbers(plan.iter().map(Vec::len).collect())?),
        ("plan", numbers(plan.concat())?),
    ];
    Tensor::write_safetensors(&tensors, path)?;
    Ok(Answer::Ready(Prepared::nothing()))
}

/// The examples of the file.
fn read_examples(task: &Task) -> Result<Vec<Example>> {
    let Some(path) = &task.examples else {
        return Err(Error::input("task", "`epoch` needs a file of `examples`"));
    };
    let mut columns = [Vec::new(), Vec::new(), Vec::new()];
    for (name, tensor) in Tensor::read_safetensors(path)? {
        let names = ["tokens", "sizes", "prefixes"];
        if let Some(place) = names.iter().position(|known| *known == name) {
            columns[place] = Vec::<i64>::try_from(&tensor)?;
        }
    }
    let [tokens, sizes, prefixes] = columns;
    let mut left = &tokens[..];
    let mut examples = Vec::with_capacity(sizes.len());
    for (&size, &prefix) in sizes.iter().zip(&prefixes) {
        let Some((own, rest)) = left.split_at_checked(size as usize) else {
            return Err(Error::file(path, "has fewer tokens than its sizes say"));
        };
        examples.push(Example { tokens: own.to_vec(), prefix: prefix as usize });
        left = rest;
    }
    Ok(examples)
}

/// An epoch of training, from the first batch to the last.
pub fn prepare(task: &Task, device: Device) -> Result<Answer> {
    if task.way != "ours" {
        return Err(task.unknown_way());
    }
    if task.precision == Precision::Bfloat16 {
        let reason = "tch can choose 16 bits only as float16 where a network is in mixed precision";
        return Ok(Answer::Cannot(reason.to_owned()));
    }
    let Settings { dropout, model, training, tokens_per_batch } = task.settings()?;
    let inputs = task.inputs(device, Kind::Float)?;
    let mixed = task.precision == Precision::Float16;
    let examples = read_examples(task)?;
    let make = |dropout| {
        let config = training.config(dropout, mixed);
        let config = TrainingConfig { tokens_per_batch, ..config };
        Ours::new(model, config, examples.clone(), &inputs, device)
    };

    let mut look = make(0.0)?;
    let loader = loader(examples.clone(), tokens_per_batch, device)?;
    let (mut batches, mut positions, mut real) = (0, 0, 0.0);
    let mut first = None;
    for batch in loader.epoch(0) {
        let batch = batch?;
        batches += 1;
        positions += batch.positions();
        real += batch.lengths.f_sum(Kind::Int64)?.f_double_value(&[])?;
        if first.is_none() {
            first = Some(look.step(&batch)?);
        }
    }
    let [loss, norm] = first.unwrap_or([f64::NAN; 2]);
    let mut checked: Map<String, Value> = Map::new();
    checked.insert("batches".to_owned(), json!([batches]));
    checked.insert("positions".to_owned(), json!([positions]));
    checked.insert("positions that are no padding".to_owned(), json!([real]));
    checked.insert("first loss".to_owned(), json!([loss]));
    checked.insert("first norm of the gradient".to_owned(), json!([norm]));
    let mut ours = make(dropout)?;
    let run = Box::new(move || {
        for batch in loader.epoch(0) {
            ours.step(&batch?)?;
        }
        Ok(())
    });
    Ok(Answer::Ready(Prepared { units: 1.0, checked, run }))
}
