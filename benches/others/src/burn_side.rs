//! The work in burn, on its processor backend, flex.

use burn::tensor::activation::{gelu, log_softmax, softmax};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use serde_json::Map;

use crate::task::{
    Outcome, Prepared, Result, Shape, StepTask, Task, checked_steps, place, summary,
};

const VERSION: &str = "0.22.1";

pub fn prepare(task: &Task) -> Result<Outcome> {
    match (task.work.as_str(), task.way.as_str()) {
        ("attention", "explicit") => attention(task),
        ("step", _) => step(task),
        (work, way) => {
            Ok(Outcome::Cannot(format!("`{work}`, `{way}` is not written in burn")))
        }
    }
}

fn attention(task: &Task) -> Result<Outcome> {
    let numbers = task.numbers()?;
    let device = Device::flex();
    let tensor = |name: &str| -> Result<Tensor<4>> {
        let (shape, floats) = numbers.floats(name)?;
        Ok(Tensor::from_data(TensorData::new(floats.clone(), shape.clone()), &device))
    };
    let [query, key, value] = [tensor("query")?, tensor("key")?, tensor("value")?];
    let width = query.dims()[3] as f64; // D
    let run = move || {
        let query = query.clone() / width.sqrt();
        let scores = query.matmul(key.clone().swap_dims(2, 3)); // [B, H, T, S]
        softmax(scores, 3).matmul(value.clone()) // [B, H, T, D]
    };
    let mut checked = Map::new();
    checked
        .insert("result".to_string(), summary(&run().into_data().try_into_vec::<f32>()?));
    let run = Box::new(move || {
        run();
        Ok(())
    });
    Ok(Outcome::Ready(Prepared { version: VERSION, checked, run }))
}

fn step(task: &Task) -> Result<Outcome> {
    let task = StepTask::read(task)?;
    let rate = task.dropout;
    let mut trainee = Trainee::new(task);
    let steps = [trainee.step(0.0)?, trainee.step(0.0)?, trainee.step(0.0)?];
    let run = Box::new(move || trainee.step(rate).map(drop));
    Ok(Outcome::Ready(Prepared { version: VERSION, checked: checked_steps(steps), run }))
}

struct Trainee {
    task: StepTask,
    device: Device,
    parameters: Vec<Tensor<2>>,
    moments: Vec<[Tensor<2>; 2]>,
    steps: i32,
    tokens: Tensor<1, Int>,  // [B·T]
    targets: Tensor<2, Int>, // [B·T, 1]
    shares: Tensor<2>,       // [B·T, 1]
    mask: Tensor<4>,         // [B, 1, T, T]
}

impl Trainee {
    fn new(task: StepTask) -> Trainee {
        let Shape { batch, positions, .. } = task.shape;
        let rows = batch * positions; // B·T
        let device = Device::flex().autodiff();
        let matrix = |numbers: &[f32], shape: [usize; 2]| -> Tensor<2> {
            Tensor::from_data(TensorData::new(numbers.to_vec(), shape), &device)
        };
        let parameters: Vec<Tensor<2>> = task
            .parameters
            .iter()
            .map(|parameter| matrix(&parameter.numbers, parameter.shape).require_grad())
            .collect();
        let zeros = |parameter: &Tensor<2>| parameter.clone().inner().zeros_like();
        let moments = parameters.iter().map(|p| [zeros(p), zeros(p)]).collect();
        let mask = TensorData::new(task.mask.clone(), [batch, 1, positions, positions]);
        Trainee {
            tokens: Tensor::from_data(
                TensorData::new(task.tokens.clone(), [rows]),
                &device,
            ),
            targets: Tensor::from_data(
                TensorData::new(task.targets.clone(), [rows, 1]),
                &device,
            ),
            shares: matrix(&task.shares, [rows, 1]),
            mask: Tensor::from_data(mask, &device),
            parameters,
            moments,
            steps: 0,
            device,
            task,
        }
    }

    /// The loss before the step and the norm of the gradient.
    fn step(&mut self, rate: f64) -> Result<[f64; 2]> {
        let loss = self.loss(rate);
        let gradients = loss.backward();
        let gradients: Vec<Tensor<2>> = self
            .parameters
            .iter()
            .map(|parameter| {
                parameter.grad(&gradients).ok_or("a parameter has no gradient")
            })
            .collect::<std::result::Result<_, _>>()?;
        let mut squares = 0.0;
        for gradient in &gradients {
            squares += f64::from(gradient.clone().square().sum().into_scalar::<f32>());
        }
        let norm = squares.sqrt();
        let StepTask { learning_rate, beta1, beta2, epsilon, weight_decay, clip, .. } =
            self.task;
        let scale = (clip / norm).min(1.0);
        self.steps += 1;
        let [seen1, seen2] = [beta1, beta2].map(|beta| 1.0 - beta.powi(self.steps));
        for (index, gradient) in gradients.into_iter().enumerate() {
            let gradient = gradient.mul_scalar(scale);
            let [first, second] = &mut self.moments[index];
            *first = first.clone().mul_scalar(beta1)
                + gradient.clone().mul_scalar(1.0 - beta1);
            *second = second.clone().mul_scalar(beta2)
                + gradient.square().mul_scalar(1.0 - beta2);
            let root = second.clone().div_scalar(seen2).sqrt().add_scalar(epsilon);
            let update = first.clone().div(root).mul_scalar(learning_rate / seen1);
            let kept = match self.task.parameters[index].decays {
                true => 1.0 - learning_rate * weight_decay,
                false => 1.0,
            };
            let moved = self.parameters[index].clone().inner().mul_scalar(kept) - update;
            self.parameters[index] = Tensor::from_inner(moved).require_grad();
        }
        Ok([f64::from(loss.into_scalar::<f32>()), norm])
    }

    fn loss(&self, rate: f64) -> Tensor<1> {
        let Shape { batch, positions, width, heads, blocks } = self.task.shape;
        let rows = batch * positions;
        let last = |index: usize| self.parameters[blocks * place::COUNT + index].clone();
        let (embedding, table) = (last(2), last(3));
        let places: Tensor<3> = table.narrow(0, 0, positions).unsqueeze(); // [1, T, E]
        let x = embedding.clone().select(0, self.tokens.clone());
        let x = x.reshape([batch, positions, width]) + places;
        let mut x = self.drop(x.reshape([rows, width]), rate); // [B·T, E]
        for block in 0..blocks {
            let own =
                |index: usize| self.parameters[block * place::COUNT + index].clone();
            let linear = |x: Tensor<2>, weight: usize, bias: usize| {
                x.matmul(own(weight).transpose()) + own(bias)
            };
            let normed = norm(x.clone(), own(place::NORM1), own(place::NORM1_BIAS));
            let projected = linear(normed, place::INPUT, place::INPUT_BIAS)
                .reshape([batch, positions, 3, heads, width / heads])
                .permute([2, 0, 3, 1, 4]); // [3, B, H, T, D]
            let part = |index: usize| -> Tensor<4> {
                let shape = [batch, heads, positions, width / heads];
                projected.clone().narrow(0, index, 1).reshape(shape)
            };
            let query = part(0) / ((width / heads) as f64).sqrt(); // [B, H, T, D]
            let scores = query.matmul(part(1).swap_dims(2, 3)) + self.mask.clone(); // [B, H, T, T]
            let weights = self.drop(softmax(scores, 3), rate);
            let context = weights.matmul(part(2)).swap_dims(1, 2).reshape([rows, width]);
            x = x + self.drop(linear(context, place::OUTPUT, place::OUTPUT_BIAS), rate);
            let normed = norm(x.clone(), own(place::NORM2), own(place::NORM2_BIAS));
            let inner = gelu(linear(normed, place::EXPAND, place::EXPAND_BIAS)); // [B·T, F]
            x = x + self.drop(linear(inner, place::CONTRACT, place::CONTRACT_BIAS), rate);
        }
        let logits = norm(x, last(0), last(1)).matmul(embedding.transpose()); // [B·T, V]
        let logs = log_softmax(logits, 1);
        let right = logs.clone().gather(1, self.targets.clone()); // [B·T, 1]
        let spread = logs.mean_dim(1); // [B·T, 1]
        let smoothing = self.task.label_smoothing;
        let each = right.mul_scalar(1.0 - smoothing) + spread.mul_scalar(smoothing);
        (each * self.shares.clone()).sum().neg()
    }

    /// Dropout as burn's module does it.
    fn drop<const N: usize>(&self, x: Tensor<N>, rate: f64) -> Tensor<N> {
        if rate == 0.0 {
            return x;
        }
        let kept = Distribution::Bernoulli(1.0 - rate);
        let kept = Tensor::random(x.shape(), kept, &self.device);
        (x * kept).div_scalar(1.0 - rate)
    }
}

fn norm(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<2>) -> Tensor<2> {
    let x = x.clone() - x.mean_dim(1);
    let variance = x.clone().square().mean_dim(1);
    x / variance.add_scalar(1e-5).sqrt() * weight + bias
}
