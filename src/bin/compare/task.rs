//! What the worker is told of a piece of work, and what it makes of it.

use std::collections::HashMap;
use std::path::PathBuf;

use self_attention::data::batch::Batch;
use self_attention::environment::DeviceChoice;
use self_attention::error::{Error, Result};
use self_attention::model::TransformerConfig;
use self_attention::training::optimizer::AdamWConfig;
use self_attention::training::trainer::TrainingConfig;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Map, Value};
use tch::{no_grad, Device, Kind, Tensor};

/// A piece of work.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Which.
    pub work: String,
    /// In which of several ways.
    pub way: String,
    /// How many threads an operation may use.
    pub threads: i32,
    /// Where.
    pub device: DeviceChoice,
    /// In which numbers.
    pub precision: Precision,
    /// The numbers that all sides begin with.
    pub file: Option<PathBuf>,
    /// The examples of an epoch.
    pub examples: Option<PathBuf>,
    /// What belongs to this work alone.
    #[serde(default)]
    pub settings: Value,
}

/// In which numbers a card computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    Float32,
    /// 32 bits, of which matrix products use 19. Whoever starts the program sets that.
    Tf32,
    /// 16 bits, as many for the exponent as in 32.
    Bfloat16,
    /// 16 bits, as many for the fraction as there is room for.
    Float16,
}

impl Precision {
    /// The kind of tensors for a layer on its own.
    pub fn kind(self) -> Kind {
        match self {
            Self::Float32 | Self::Tf32 => Kind::Float,
            Self::Bfloat16 => Kind::BFloat16,
            Self::Float16 => Kind::Half,
        }
    }
}

/// The sizes of a model and its batch.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    #[allow(dead_code)] // the tensors of the file say it, too
    pub batch: i64,
    #[allow(dead_code)]
    pub positions: i64,
    pub width: i64,
    pub heads: i64,
    pub hidden: i64,
    pub blocks: i64,
    pub vocabulary: i64,
    pub max_positions: i64,
}

impl Shape {
    /// Our model of these sizes.
    pub fn config(self) -> TransformerConfig {
        TransformerConfig {
            max_positions: self.max_positions,
            width: self.width,
            blocks: self.blocks,
            heads: self.heads,
            hidden: self.hidden,
            ..TransformerConfig::new(self.vocabulary)
        }
    }
}

/// How a model is trained.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub clip: f64,
    pub label_smoothing: f64,
}

impl Training {
    /// How ours is trained. The others have no schedule, but the first steps of a long cosine are at its peak.
    pub fn config(self, dropout: f64, mixed_precision: bool) -> TrainingConfig {
        let Self { beta1, beta2, epsilon, weight_decay, .. } = self;
        TrainingConfig {
            epochs: 1,
            warm_up: 0.0,
            learning_rate: self.learning_rate,
            optimizer: AdamWConfig { beta1, beta2, epsilon, weight_decay },
            clip: self.clip,
            label_smoothing: self.label_smoothing,
            dropout,
            mixed_precision,
            ..TrainingConfig::default()
        }
    }
}

/// What comes of a task.
pub enum Answer {
    /// It can be run.
    Ready(Prepared),
    /// It cannot be done here, and why.
    Cannot(String),
}

/// Work that can be done as often as wanted.
pub struct Prepared {
    /// How much of it a run does.
    pub units: f64,
    /// Numbers and texts that every side must get.
    pub checked: Map<String, Value>,
    /// Does it once.
    pub run: Box<dyn FnMut() -> Result<()>>,
}

impl Prepared {
    /// There is nothing to do.
    pub fn nothing() -> Self {
        Self { units: 1.0, checked: Map::new(), run: Box::new(|| Ok(())) }
    }
}

impl Task {
    /// The settings of this work.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.settings.clone())
            .map_err(|error| Error::input("settings", format!("{}: {error}", self.work)))
    }

    /// The numbers of the file, floats in the kind of the precision.
    pub fn inputs(&self, device: Device, kind: Kind) -> Result<Inputs> {
        let Some(path) = &self.file else {
            let problem = format!("`{}` needs a `file` of numbers", self.work);
            return Err(Error::input("task", problem));
        };
        let mut tensors = HashMap::new();
        for (name, tensor) in Tensor::read_safetensors(path)? {
            let tensor = match tensor.kind() {
                Kind::Float => tensor.f_to_device(device)?.f_to_kind(kind)?,
                _ => tensor.f_to_device(device)?,
            };
            tensors.insert(name, tensor);
        }
        Ok(Inputs { path: path.clone(), tensors })
    }

    /// An error for a way that this work cannot be done in.
    pub fn unknown_way(&self) -> Error {
        let problem = format!("`{}` has no way `{}` here", self.work, self.way);
        Error::input("way", problem)
    }
}

/// The numbers that all sides begin with.
#[derive(Debug)]
pub struct Inputs {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Inputs {
    /// A tensor by its name.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor.shallow_clone()),
            None => Err(Error::file(&self.path, format!("has no tensor `{name}`"))),
        }
    }

    /// The batch of a training step.
    pub fn batch(&self) -> Result<Batch> {
        Ok(Batch {
            tokens: self.get("tokens")?,
            targets: self.get("targets")?,
            lengths: self.get("lengths")?,
            prefixes: self.get("prefixes")?,
        })
    }

    /// Gives parameters the numbers of the file. `name_here` says what a parameter is called in it.
    pub fn fill(
        &self,
        parameters: impl IntoIterator<Item = (String, Tensor)>,
        name_here: impl Fn(&str) -> String,
    ) -> Result<()> {
        for (name, mut parameter) in parameters {
            let source = self.get(&name_here(&name))?;
            if source.size() != parameter.size() {
                let problem = format!(
                    "`{name}` is {:?} and the model needs {:?}",
                    source.size(),
                    parameter.size()
                );
                return Err(Error::file(&self.path, problem));
            }
            no_grad(|| parameter.f_copy_(&source))?;
        }
        Ok(())
    }
}

/// A tensor in few numbers: its norm, and eight of its numbers, evenly spread.
pub fn summary(tensor: &Tensor) -> Result<Value> {
    let flat = tensor.f_detach()?.f_to_kind(Kind::Double)?.f_reshape(-1)?;
    let last = flat.size()[0] - 1;
    let mut numbers = vec![flat.f_norm()?.f_double_value(&[])?];
    for place in 0..8 {
        numbers.push(flat.f_double_value(&[place * last / 7])?);
    }
    Ok(json!(numbers))
}
