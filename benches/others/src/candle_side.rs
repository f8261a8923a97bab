//! The work in candle.

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::{dropout, log_softmax, softmax, softmax_last_dim};
use serde_json::Map;

use crate::task::{
    Outcome, Prepared, Result, Shape, StepTask, Task, checked_steps, place, summary,
};

const VERSION: &str = "0.11.1";

pub fn prepare(task: &Task) -> Result<Outcome> {
    match (task.work.as_str(), task.way.as_str()) {
        ("attention", "explicit") => attention(task),
        ("step", _) => step(task),
        (work, way) => {
            Ok(Outcome::Cannot(format!("`{work}`, `{way}` is not written in candle")))
        }
    }
}

fn attention(task: &Task) -> Result<Outcome> {
    let numbers = task.numbers()?;
    let tensor = |name: &str| -> Result<Tensor> {
        let (shape, floats) = numbers.floats(name)?;
        Ok(Tensor::from_slice(floats, shape.as_slice(), &Device::Cpu)?)
    };
    let [query, key, value] = [tensor("query")?, tensor("key")?, tensor("value")?];
    let width = query.dim(D::Minus1)? as f64; // D
    let run = move || -> Result<Tensor> {
        let scores = (&query / width.sqrt())?.matmul(&key.t()?)?; // [B, H, T, S]
        Ok(softmax_last_dim(&scores)?.matmul(&value)?) // [B, H, T, D]
    };
    let mut checked = Map::new();
    let result = run()?.flatten_all()?.to_vec1::<f32>()?;
    checked.insert("result".to_string(), summary(&result));
    let run = Box::new(move || run().map(drop));
    Ok(Outcome::Ready(Prepared { version: VERSION, checked, run }))
}

fn step(task: &Task) -> Result<Outcome> {
    let task = StepTask::read(task)?;
    let rate = task.dropout;
    let mut trainee = Trainee::new(task)?;
    let steps = [trainee.step(0.0)?, trainee.step(0.0)?, trainee.step(0.0)?];
    let run = Box::new(move || trainee.step(rate).map(drop));
    Ok(Outcome::Ready(Prepared { version: VERSION, checked: checked_steps(steps), run }))
}

struct Trainee {
    task: StepTask,
    parameters: Vec<Var>,
    moments: Vec<[Tensor; 2]>,
    steps: i32,
    tokens: Tensor,  // [B·T]
    targets: Tensor, // [B·T, 1]
    shares: Tensor,  // [B·T]
    mask: Tensor,    // [B, 1, T, T]
}

impl Trainee {
    fn new(task: StepTask) -> Result<Trainee> {
        let Shape { batch, positions, .. } = task.shape;
        let device = &Device::Cpu;
        let parameters = task
            .parameters
            .iter()
            .map(|p| {
                Ok(Var::from_tensor(&Tensor::from_slice(&p.numbers, &p.shape, device)?)?)
            })
            .collect::<Result<Vec<Var>>>()?;
        let moments = parameters
            .iter()
            .map(|parameter| Ok([parameter.zeros_like()?, parameter.zeros_like()?]))
            .collect::<Result<_>>()?;
        let rows = batch * positions; // B·T
        Ok(Trainee {
            tokens: Tensor::from_slice(&task.tokens, rows, device)?,
            targets: Tensor::from_slice(&task.targets, (rows, 1), device)?,
            shares: Tensor::from_slice(&task.shares, rows, device)?,
            mask: Tensor::from_slice(
                &task.mask,
                (batch, 1, positions, positions),
                device,
            )?,
            parameters,
            moments,
            steps: 0,
            task,
        })
    }

    /// The loss before the step and the norm of the gradient.
    fn step(&mut self, rate: f64) -> Result<[f64; 2]> {
        let loss = self.loss(rate)?;
        let gradients = loss.backward()?;
        let gradients: Vec<&Tensor> = self
            .parameters
            .iter()
            .map(|p| gradients.get(p).ok_or("a parameter has no gradient"))
            .collect::<std::result::Result<_, _>>()?;
        let mut squares = 0.0;
        for gradient in &gradients {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let norm = squares.sqrt();
        let StepTask { learning_rate, beta1, beta2, epsilon, weight_decay, clip, .. } =
            self.task;
        let scale = (clip / norm).min(1.0);
        self.steps += 1;
        let [seen1, seen2] = [beta1, beta2].map(|beta| 1.0 - beta.powi(self.steps));
        for (index, gradient) in gradients.into_iter().enumerate() {
            let gradient = (gradient * scale)?;
            let [first, second] = &mut self.moments[index];
            *first = ((&*first * beta1)? + (&gradient * (1.0 - beta1))?)?.detach();
            *second =
                ((&*second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?.detach();
            let root = ((&*second / seen2)?.sqrt()? + epsilon)?;
            let update = ((&*first / root)? * (learning_rate / seen1))?;
            let kept = match self.task.parameters[index].decays {
                true => 1.0 - learning_rate * weight_decay,
                false => 1.0,
            };
            let parameter = &self.parameters[index];
            parameter.set(&((parameter.as_detached_tensor() * kept)? - update)?)?;
        }
        Ok([f64::from(loss.to_scalar::<f32>()?), norm])
    }

    fn loss(&self, rate: f64) -> Result<Tensor> {
        let Shape { batch, positions, width, heads, blocks } = self.task.shape;
        let rows = batch * positions;
        let drop = |x: Tensor| match rate > 0.0 {
            true => dropout(&x, rate as f32),
            false => Ok(x),
        };
        let [last_norm, last_bias, embedding, table] = [0, 1, 2, 3]
            .map(|index| self.parameters[blocks * place::COUNT + index].as_tensor());
        let places = table.narrow(0, 0, positions)?.unsqueeze(0)?; // [1, T, E]
        let x = embedding
            .index_select(&self.tokens, 0)?
            .reshape((batch, positions, width))?;
        let x = x.broadcast_add(&places)?.reshape((rows, width))?;
        let mut x = drop(x)?; // [B·T, E]
        for block in 0..blocks {
            let own =
                |index: usize| self.parameters[block * place::COUNT + index].as_tensor();
            let linear =
                |x: &Tensor, weight: usize, bias: usize| -> candle_core::Result<Tensor> {
                    x.matmul(&own(weight).t()?)?.broadcast_add(own(bias))
                };
            let normed = norm(&x, own(place::NORM1), own(place::NORM1_BIAS))?;
            let projected = linear(&normed, place::INPUT, place::INPUT_BIAS)?
                .reshape((batch, positions, 3, heads, width / heads))?
                .permute((2, 0, 3, 1, 4))?
                .contiguous()?; // [3, B, H, T, D]
            let [query, key, value] =
                [projected.get(0)?, projected.get(1)?, projected.get(2)?]; // [B, H, T, D]
            let query = (query / ((width / heads) as f64).sqrt())?;
            let scores = query.matmul(&key.t()?)?.broadcast_add(&self.mask)?; // [B, H, T, T]
            // `softmax_last_dim` is faster and has no gradient.
            let weights = drop(softmax(&scores, D::Minus1)?)?;
            let context =
                weights.matmul(&value)?.transpose(1, 2)?.reshape((rows, width))?;
            x = (x + drop(linear(&context, place::OUTPUT, place::OUTPUT_BIAS)?)?)?;
            let normed = norm(&x, own(place::NORM2), own(place::NORM2_BIAS))?;
            let inner = linear(&normed, place::EXPAND, place::EXPAND_BIAS)?.gelu_erf()?; // [B·T, F]
            x = (x + drop(linear(&inner, place::CONTRACT, place::CONTRACT_BIAS)?)?)?;
        }
        let logits = norm(&x, last_norm, last_bias)?.matmul(&embedding.t()?)?; // [B·T, V]
        let logs = log_softmax(&logits, D::Minus1)?;
        let right = logs.gather(&self.targets, 1)?.squeeze(1)?; // [B·T]
        let spread = logs.mean(D::Minus1)?; // [B·T]
        let smoothing = self.task.label_smoothing;
        let each = ((right * (1.0 - smoothing))? + (spread * smoothing)?)?;
        Ok((each * &self.shares)?.sum_all()?.neg()?.to_dtype(DType::F32)?)
    }
}

/// Layer norm; candle's own fast one has no gradient.
fn norm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
    let x = x.broadcast_div(&(variance + 1e-5)?.sqrt()?)?;
    x.broadcast_mul(weight)?.broadcast_add(bias)
}
