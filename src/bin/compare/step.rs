//! A training step: ours, the same by tch alone, and its matrix products and nothing else.

use self_attention::data::batch::Batch;
use self_attention::dropout::Dropout;
use self_attention::environment::mixed_precision;
use self_attention::error::Result;
use self_attention::model::{prefix_decoder_mask, Transformer};
use self_attention::training::loss::cross_entropy;
use self_attention::training::optimizer::{AdamW, LossScale};
use serde::Deserialize;
use serde_json::{json, Map, Value};
use tch::{nn, no_grad, Device, Kind, Tensor};

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
            let trainee = Trainee::new(model, training, mixed, &inputs, device)?;
            stepwise(trainee, batch, dropout)
        }
        "plain tch" if mixed => {
            Ok(Answer::Cannot("it is measured in 32 bits only".to_owned()))
        }
        "plain tch" => {
            let plain = Plain::new(model, training, &inputs, device)?;
            stepwise(plain, batch, dropout)
        }
        _ => Err(task.unknown_way()),
    }
}

/// A model that can take a step.
pub trait Steps {
    /// Takes a step, and gives the loss before it and the norm of the gradient.
    fn step(&mut self, batch: &Batch, dropout: f64) -> Result<[f64; 2]>;
}

/// Checks three steps without dropout, in which every side must go the same way.
fn stepwise(
    mut model: impl Steps + 'static,
    batch: Batch,
    dropout: f64,
) -> Result<Answer> {
    let mut checked: Map<String, Value> = Map::new();
    let mut losses = Vec::new();
    let mut norms = Vec::new();
    for _ in 0..3 {
        let [loss, norm] = model.step(&batch, 0.0)?;
        losses.push(loss);
        norms.push(norm);
    }
    checked.insert("losses".to_owned(), json!(losses));
    checked.insert("norms of the gradient".to_owned(), json!(norms));
    let run = Box::new(move || model.step(&batch, dropout).map(drop));
    Ok(Answer::Ready(Prepared { units: 1.0, checked, run }))
}

/// Our model and what trains it, as in [`self_attention::training::trainer::Trainer`].
#[derive(Debug)]
pub struct Trainee {
    model: Transformer,
    optimizer: AdamW,
    training: Training,
    mixed: bool,
    loss_scale: LossScale,
    steps: u64,
}

impl Trainee {
    /// With the parameters of the file.
    pub fn new(
        shape: Shape,
        training: Training,
        mixed: bool,
        inputs: &Inputs,
        device: Device,
    ) -> Result<Self> {
        let store = nn::VarStore::new(device);
        let model = shape.config().init(&store.root())?;
        inputs.fill(store.variables(), str::to_owned)?;
        let optimizer = AdamW::new(&store, training.optimizer())?;
        let loss_scale = LossScale::default();
        Ok(Self { model, optimizer, training, mixed, loss_scale, steps: 0 })
    }

    fn loss(&self, batch: &Batch, dropout: &Dropout) -> Result<Tensor> {
        let mask =
            prefix_decoder_mask(&batch.lengths, &batch.prefixes, batch.tokens.size()[1])?;
        let loss = || {
            let prediction = self.model.forward(&batch.tokens, Some(&mask), dropout)?; // [B, T, V]
            let smoothing = self.training.label_smoothing;
            cross_entropy(&prediction.logits, &batch.targets, smoothing)
        };
        match self.mixed {
            true => mixed_precision(batch.tokens.device(), loss),
            false => loss(),
        }
    }

    /// The loss of a batch and the norm of its gradient, without a step.
    pub fn look(&mut self, batch: &Batch) -> Result<[f64; 2]> {
        let loss = self.loss(batch, &Dropout::off())?;
        self.optimizer.zero_grad();
        loss.f_backward()?;
        Ok([loss.f_double_value(&[])?, self.optimizer.clip_gradients(f64::INFINITY)?])
    }
}

impl Steps for Trainee {
    fn step(&mut self, batch: &Batch, dropout: f64) -> Result<[f64; 2]> {
        self.steps += 1;
        tch::manual_seed(self.steps as i64); // from it a card draws its dropout
        let dropout = match dropout > 0.0 {
            true => Dropout::new(dropout, self.steps)?,
            false => Dropout::off(),
        };
        let loss = self.loss(batch, &dropout)?;
        self.optimizer.zero_grad();
        let clip = self.training.clip;
        let norm = if self.mixed {
            let factor = self.loss_scale.factor;
            loss.f_mul_scalar(factor)?.f_backward()?;
            self.optimizer.scale_gradients(1.0 / factor)?;
            let norm = self.optimizer.clip_gradients(clip)?;
            self.loss_scale.update(!norm.is_finite());
            norm
        } else {
            loss.f_backward()?;
            self.optimizer.clip_gradients(clip)?
        };
        let loss = loss.f_double_value(&[])?;
        if norm.is_finite() {
            self.optimizer.step(self.training.learning_rate)?;
        }
        Ok([loss, norm])
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
