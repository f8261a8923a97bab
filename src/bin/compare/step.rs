//! A training step: ours, the same by tch alone, and its matrix products and nothing else.

use self_attention::data::batch::{Batch, Example};
use self_attention::data::vocabulary::{EOS, PAD, SEP};
use self_attention::error::{Error, Result};
use self_attention::training::trainer::{Trainer, TrainingConfig};
use serde::Deserialize;
use serde_json::{json, Map, Value};
use tch::{no_grad, Device, Kind, Tensor};
use tempfile::TempDir;

use crate::plain::Plain;
use crate::task::{Answer, Inputs, Precision, Prepared, Shape, Task, Training};

#[derive(Debug, Deserialize)]
struct Settings {
    dropout: f64,
    model: Shape,
    training: Training,
    #[serde(default)]
    products: Vec<Product>,
}

/// Makes a step ready in the way that the task names.
pub fn prepare(task: &Task, device: Device) -> Result<Answer> {
    let settings: Settings = task.settings()?;
    if task.way == "products" {
        return products(&settings.products, device, task.precision.kind());
    }
    if task.precision == Precision::Bfloat16 {
        let reason = "tch can choose 16 bits only as float16 where a network is in mixed precision";
        return Ok(Answer::Cannot(reason.to_owned()));
    }
    let Settings { dropout, model, training, .. } = settings;
    let inputs = task.inputs(device, Kind::Float)?;
    let batch = inputs.batch()?;
    let mixed = task.precision == Precision::Float16;
    match task.way.as_str() {
        "ours" => {
            let make = |dropout| {
                // Its own data, which it is never asked for, makes its schedule long.
                let config = training.config(dropout, mixed);
                let config = TrainingConfig { tokens_per_batch: 2, ..config };
                let unused = Example { tokens: vec![PAD, SEP, EOS], prefix: 2 };
                Ours::new(model, config, vec![unused; 1000], &inputs, device)
            };
            stepwise(make, batch, dropout)
        }
        "plain tch" if mixed => {
            Ok(Answer::Cannot("it is measured in 32 bits only".to_owned()))
        }
        "plain tch" => {
            let make = |dropout| Plain::new(model, training, dropout, &inputs, device);
            stepwise(make, batch, dropout)
        }
        _ => Err(task.unknown_way()),
    }
}

/// A model that can take a step.
pub trait Steps {
    /// Takes a step, and gives the loss before it and the norm of the gradient.
    fn step(&mut self, batch: &Batch) -> Result<[f64; 2]>;
}

/// Checks three steps without dropout, in which every side must go the same way.
fn stepwise<S: Steps + 'static>(
    make: impl Fn(f64) -> Result<S>,
    batch: Batch,
    dropout: f64,
) -> Result<Answer> {
    let mut model = make(0.0)?;
    let mut losses = Vec::new();
    let mut norms = Vec::new();
    for _ in 0..3 {
        let [loss, norm] = model.step(&batch)?;
        losses.push(loss);
        norms.push(norm);
    }
    let mut checked: Map<String, Value> = Map::new();
    checked.insert("losses".to_owned(), json!(losses));
    checked.insert("norms of the gradient".to_owned(), json!(norms));
    let mut model = make(dropout)?;
    let run = Box::new(move || model.step(&batch).map(drop));
    Ok(Answer::Ready(Prepared { units: 1.0, checked, run }))
}

/// The trainer of chapter 8, from the first parameter to the last.
#[derive(Debug)]
pub struct Ours {
    trainer: Trainer,
    _folder: TempDir,
}

impl Ours {
    /// With the parameters of the file, and examples for those who ask it for an epoch.
    pub fn new(
        model: Shape,
        training: TrainingConfig,
        examples: Vec<Example>,
        inputs: &Inputs,
        device: Device,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::io("a temporary folder"))?;
        let validation = examples[..examples.len().min(1)].to_vec();
        let data = [examples, validation];
        let trainer =
            Trainer::new(&model.config(), training, data, device, folder.path())?;
        inputs.fill(trainer.parameters().tensors, str::to_owned)?;
        Ok(Self { trainer, _folder: folder })
    }
}

impl Steps for Ours {
    fn step(&mut self, batch: &Batch) -> Result<[f64; 2]> {
        let step = self.trainer.step(batch)?;
        Ok([step.batch_loss, step.gradient_norm.unwrap_or(f64::INFINITY)])
    }
}

/// `batch` products of `[m, k]` with `[k, n]`, `times` times.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Product {
    batch: i64,
    m: i64,
    k: i64,
    n: i64,
    times: usize,
    transposed: Transposed,
}

/// Which factor lies in memory the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Transposed {
    None,
    First,
    Second,
}

/// The matrix products of a step and nothing else.
fn products(products: &[Product], device: Device, kind: Kind) -> Result<Answer> {
    let mut factors = Vec::new();
    for &Product { batch, m, k, n, times, transposed } in products {
        let random = |rows: i64, columns: i64, turned: bool| -> Result<Tensor> {
            let [stored_rows, stored_columns] =
                if turned { [columns, rows] } else { [rows, columns] };
            let shape = match batch {
                1 => vec![stored_rows, stored_columns],
                _ => vec![batch, stored_rows, stored_columns],
            };
            let stored = Tensor::f_randn(&shape[..], (Kind::Float, device))?;
            let stored = stored.f_to_kind(kind)?;
            Ok(if turned { stored.f_transpose(-2, -1)? } else { stored })
        };
        let first = random(m, k, transposed == Transposed::First)?;
        let second = random(k, n, transposed == Transposed::Second)?;
        factors.push((first, second, times));
    }
    let run = Box::new(move || {
        no_grad(|| {
            for (first, second, times) in &factors {
                for _ in 0..*times {
                    drop(first.f_matmul(second)?);
                }
            }
            Ok(())
        })
    });
    Ok(Answer::Ready(Prepared { units: 1.0, checked: Map::new(), run }))
}
