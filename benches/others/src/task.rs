//! What the worker is told of a piece of work, and the numbers it begins with.

use std::collections::HashMap;
use std::error::Error;
use std::fs;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A piece of work.
#[derive(Debug)]
pub struct Task {
    pub work: String,
    pub way: String,
    pub settings: Value,
    file: String,
}

/// What comes of a task.
pub enum Outcome {
    Ready(Prepared),
    /// It cannot be done here, and why.
    Cannot(String),
}

/// Work that can be done as often as wanted.
pub struct Prepared {
    pub version: &'static str,
    /// Numbers that every side must get.
    pub checked: Map<String, Value>,
    pub run: Box<dyn FnMut() -> Result<()>>,
}

impl Task {
    pub fn read(task: &Value) -> Result<Task> {
        let text = |name: &str| -> Result<String> {
            let text = task[name].as_str();
            Ok(text.ok_or_else(|| format!("task: `{name}` is missing"))?.to_string())
        };
        if (task["device"].as_str(), task["precision"].as_str())
            != (Some("cpu"), Some("float32"))
        {
            return Err(
                "task: it is measured on the processor and in 32 bits only".into()
            );
        }
        let settings = task["settings"].clone();
        Ok(Task { work: text("work")?, way: text("way")?, file: text("file")?, settings })
    }

    pub fn numbers(&self) -> Result<Numbers> {
        let bytes = fs::read(&self.file).map_err(|e| format!("{}: {e}", self.file))?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        let mut numbers = Numbers { file: self.file.clone(), ..Numbers::default() };
        for (name, view) in tensors.tensors() {
            let shape = view.shape().to_vec();
            match view.dtype() {
                Dtype::F32 => {
                    let floats = view.data().as_chunks().0.iter();
                    let floats = floats.map(|&bytes| f32::from_le_bytes(bytes)).collect();
                    numbers.floats.insert(name, (shape, floats));
                }
                Dtype::I64 => {
                    let integers = view.data().as_chunks().0.iter();
                    let integers =
                        integers.map(|&bytes| i64::from_le_bytes(bytes)).collect();
                    numbers.integers.insert(name, integers);
                }
                other => return Err(format!("`{name}` holds {other:?}").into()),
            }
        }
        Ok(numbers)
    }

    /// A number of the settings, by its path, as in `["training", "clip"]`.
    pub fn setting(&self, path: &[&str]) -> Result<f64> {
        let value = path.iter().fold(&self.settings, |value, name| &value[name]);
        let missing = || format!("settings: {} is missing", path.join("."));
        Ok(value.as_f64().ok_or_else(missing)?)
    }
}

/// The numbers that all sides begin with.
#[derive(Debug, Default)]
pub struct Numbers {
    file: String,
    floats: HashMap<String, (Vec<usize>, Vec<f32>)>,
    integers: HashMap<String, Vec<i64>>,
}

impl Numbers {
    pub fn floats(&self, name: &str) -> Result<&(Vec<usize>, Vec<f32>)> {
        let missing = || format!("{} has no floats `{name}`", self.file);
        Ok(self.floats.get(name).ok_or_else(missing)?)
    }

    pub fn integers(&self, name: &str) -> Result<&[i64]> {
        let missing = || format!("{} has no integers `{name}`", self.file);
        Ok(self.integers.get(name).ok_or_else(missing)?)
    }
}

/// The sizes of a model and its batch.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub batch: usize,     // B
    pub positions: usize, // T
    pub width: usize,     // E
    pub heads: usize,     // H
    pub blocks: usize,
}

/// A training step as all sides take it.
#[derive(Debug)]
pub struct StepTask {
    pub shape: Shape,
    pub dropout: f64,
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub clip: f64,
    pub label_smoothing: f64,
    /// `B·T` tokens.
    pub tokens: Vec<i64>,
    /// `B·T` targets, 0 where nothing is asked.
    pub targets: Vec<i64>,
    /// What each target counts in the loss: 1/N, or 0 where nothing is asked.
    pub shares: Vec<f32>,
    /// 0 where a query may attend and −∞ where not, `[B, 1, T, T]`.
    pub mask: Vec<f32>,
    pub parameters: Vec<Parameter>,
}

/// A matrix, or a vector as a matrix of one row.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub shape: [usize; 2],
    pub numbers: Vec<f32>,
    pub decays: bool,
}

/// Where the parameters of a block stand among its own.
pub mod place {
    pub const INPUT: usize = 0;
    pub const INPUT_BIAS: usize = 1;
    pub const OUTPUT: usize = 2;
    pub const OUTPUT_BIAS: usize = 3;
    pub const EXPAND: usize = 4;
    pub const EXPAND_BIAS: usize = 5;
    pub const CONTRACT: usize = 6;
    pub const CONTRACT_BIAS: usize = 7;
    pub const NORM1: usize = 8;
    pub const NORM1_BIAS: usize = 9;
    pub const NORM2: usize = 10;
    pub const NORM2_BIAS: usize = 11;
    /// How many they are. After those of all blocks come the last norm's two, the embedding and the positions.
    pub const COUNT: usize = 12;
}

const NAMES: [&str; place::COUNT] = [
    "self_attn.in_proj_weight",
    "self_attn.in_proj_bias",
    "self_attn.out_proj.weight",
    "self_attn.out_proj.bias",
    "linear1.weight",
    "linear1.bias",
    "linear2.weight",
    "linear2.bias",
    "norm1.weight",
    "norm1.bias",
    "norm2.weight",
    "norm2.bias",
];

impl StepTask {
    pub fn read(task: &Task) -> Result<StepTask> {
        let numbers = task.numbers()?;
        let size = |name: &str| -> Result<usize> {
            Ok(task.setting(&["model", name])? as usize)
        };
        let shape = Shape {
            batch: size("batch")?,
            positions: size("positions")?,
            width: size("width")?,
            heads: size("heads")?,
            blocks: size("blocks")?,
        };
        let parameter = |name: &str| -> Result<Parameter> {
            let (shape, numbers) = numbers.floats(name)?;
            let is_table = ["embedding", "positions"].contains(&name);
            let (shape, is_matrix) = match shape[..] {
                [rows, columns] => ([rows, columns], true),
                [columns] => ([1, columns], false),
                _ => return Err(format!("`{name}` is no matrix and no vector").into()),
            };
            let decays = is_matrix && !is_table;
            Ok(Parameter { shape, numbers: numbers.clone(), decays })
        };
        let mut parameters = Vec::new();
        for block in 0..shape.blocks {
            for name in NAMES {
                parameters.push(parameter(&format!("layers.{block}.{name}"))?);
            }
        }
        for name in ["norm.weight", "norm.bias", "embedding", "positions"] {
            parameters.push(parameter(name)?);
        }
        let targets = numbers.integers("targets")?;
        let asked = targets.iter().filter(|&&target| target >= 0).count() as f32;
        let share = |&target: &i64| if target >= 0 { 1.0 / asked } else { 0.0 };
        let training = |name: &str| task.setting(&["training", name]);
        Ok(StepTask {
            shape,
            dropout: task.setting(&["dropout"])?,
            learning_rate: training("learning_rate")?,
            beta1: training("beta1")?,
            beta2: training("beta2")?,
            epsilon: training("epsilon")?,
            weight_decay: training("weight_decay")?,
            clip: training("clip")?,
            label_smoothing: training("label_smoothing")?,
            tokens: numbers.integers("tokens")?.to_vec(),
            shares: targets.iter().map(share).collect(),
            targets: targets.iter().map(|&target| target.max(0)).collect(),
            mask: mask(
                numbers.integers("lengths")?,
                numbers.integers("prefixes")?,
                shape,
            ),
            parameters,
        })
    }
}

/// The prefix is seen by all, the rest only by what comes after it, and padding by none.
fn mask(lengths: &[i64], prefixes: &[i64], shape: Shape) -> Vec<f32> {
    let positions = shape.positions as i64;
    let mut mask = Vec::with_capacity(lengths.len() * shape.positions * shape.positions);
    for (&length, &prefix) in lengths.iter().zip(prefixes) {
        for query in 0..positions {
            for key in 0..positions {
                let is_open = key < length && (key < prefix || key <= query);
                mask.push(if is_open { 0.0 } else { f32::NEG_INFINITY });
            }
        }
    }
    mask
}

/// A tensor in few numbers: its norm, and eight of its numbers, evenly spread.
pub fn summary(numbers: &[f32]) -> Value {
    let norm = numbers.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let last = numbers.len() - 1;
    let eight = (0..8).map(|place| f64::from(numbers[place * last / 7]));
    json!([norm].into_iter().chain(eight).collect::<Vec<f64>>())
}

/// The losses and the norms of the gradient of the three steps that are checked.
pub fn checked_steps(steps: [[f64; 2]; 3]) -> Map<String, Value> {
    let mut checked = Map::new();
    checked.insert("losses".to_string(), json!(steps.map(|[loss, _]| loss)));
    checked
        .insert("norms of the gradient".to_string(), json!(steps.map(|[_, norm]| norm)));
    checked
}
