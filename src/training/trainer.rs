//! The training loop: forward, loss, backward, step, until the data has been seen often enough.
//!
//! A run is a function of its settings and its seed. Everything it does not get from these, the place in the data, the
//! parameters, the optimizer's moments, the record so far, is in its checkpoint; so a run that was killed goes on to
//! the same numbers. That holds for one machine with one number of threads: another one may add up in another order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{nn, no_grad, Device, Kind, Tensor};

use self_attention::data::batch::{Batch, Example, IGNORED};
use self_attention::data::loader::{Loader, LoaderConfig};
use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::model::{prefix_decoder_mask, Transformer, TransformerConfig};
use self_attention::training::checkpoint::Checkpoint;
use self_attention::training::log::{self, EpochRecord};
use self_attention::training::loss::cross_entropy;
use self_attention::training::optimizer::{AdamW, AdamWConfig, Schedule};

/// How a model is trained.
// ANCHOR: training_config
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// How often the training data is seen.
    pub epochs: u64,
    /// How many positions a batch has at most, padding included.
    pub tokens_per_batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The share of all steps in which the learning rate rises to it.
    pub warm_up: f64,
    /// The optimizer's other settings.
    pub optimizer: AdamWConfig,
    /// The largest norm of the gradient; a larger one is scaled down to it.
    pub clip: f64,
    /// The share of each target that is spread over all tokens.
    pub label_smoothing: f64,
    /// The share of numbers that is forgotten.
    pub dropout: f64,
    /// What the first parameters, the order of the data and dropout are drawn from.
    pub seed: u64,
}
// ANCHOR_END: training_config

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 12,
            tokens_per_batch: 2048,
            learning_rate: 2e-3,
            warm_up: 0.05,
            optimizer: AdamWConfig::default(),
            clip: 1.0,
            label_smoothing: 0.05,
            dropout: 0.02,
            seed: 1,
        }
    }
}

impl TrainingConfig {
    fn check(&self) -> Result<()> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if self.epochs == 0 {
            return Err(Error::config("epochs", self.epochs, "must be at least 1"));
        }
        for (setting, value) in
            [("learning_rate", self.learning_rate), ("clip", self.clip)]
        {
            if !positive(value) {
                return Err(Error::config(setting, value, "must be finite and above 0"));
            }
        }
        for (setting, share, shares) in [
            ("warm_up", self.warm_up, 0.0..=1.0),
            ("label_smoothing", self.label_smoothing, 0.0..=0.99),
        ] {
            if !shares.contains(&share) {
                let [least, most] = [shares.start(), shares.end()];
                let reason = format!("a share between {least} and {most} is needed");
                return Err(Error::config(setting, share, reason));
            }
        }
        Dropout::new(self.dropout, self.seed).map(drop)
    }
}

/// Where a run stands: what a checkpoint keeps beside the tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// Epochs that are complete.
    epochs: u64,
    /// Batches of the epoch under way that are done.
    batches: usize,
    /// Optimizer steps taken.
    steps: u64,
    /// What the epoch under way has added up so far.
    sums: Sums,
    /// The complete epochs.
    records: Vec<EpochRecord>,
}

/// What adds up over the batches of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    loss: f64,
    targets: f64,
    gradient_norm: f64,
    seconds: f64,
}

/// What a run tells whoever watches it.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// A step was taken.
    Step(Step),
    /// An epoch is complete.
    Epoch(EpochRecord),
}

/// How a step went.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The epoch it belongs to, from 1.
    pub epoch: u64,
    /// Steps taken, this one included.
    pub steps: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// The mean loss of the epoch so far.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
}

/// A model under training.
// ANCHOR: trainer
#[derive(Debug)]
pub struct Trainer {
    /// The model.
    pub model: Transformer,
    store: nn::VarStore,
    optimizer: AdamW,
    schedule: Schedule,
    training: Loader,
    validation: Loader,
    config: TrainingConfig,
    state: State,
    checkpoint: PathBuf,
    checkpoint_every: Duration,
    log: PathBuf,
}
// ANCHOR_END: trainer

impl Trainer {
    /// A run in `folder`, where its checkpoint and its log are kept. It goes on from the checkpoint if there is one.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot train; [`Error::File`] if the checkpoint in the folder is damaged or
    /// was made with other settings.
    pub fn new(
        model: &TransformerConfig,
        config: TrainingConfig,
        [training, validation]: [Vec<Example>; 2],
        device: Device,
        folder: &Path,
    ) -> Result<Self> {
        config.check()?;
        tch::manual_seed(config.seed as i64);
        let store = nn::VarStore::new(device);
        let model = model.init(&store.root())?;
        let loader = |examples| {
            let loader =
                LoaderConfig::new(config.tokens_per_batch).with_seed(config.seed);
            Loader::new(Arc::<[Example]>::from(examples), loader, device)
        };
        let (training, validation) = (loader(training)?, loader(validation)?);
        let total: u64 =
            (0..config.epochs).map(|epoch| training.batches(epoch) as u64).sum();
        let schedule = Schedule {
            peak: config.learning_rate,
            warm_up: (config.warm_up * total as f64).round() as u64,
            total,
        };
        let mut trainer = Self {
            model,
            optimizer: AdamW::new(&store, config.optimizer)?,
            store,
            schedule,
            training,
            validation,
            config,
            state: State::default(),
            checkpoint: folder.join("checkpoint.safetensors"),
            checkpoint_every: Duration::from_secs(30),
            log: folder.join("log.jsonl"),
        };
        let path = &trainer.checkpoint;
        if path.try_exists().map_err(Error::io(path))? {
            trainer.resume()?;
        }
        Ok(trainer)
    }

    /// Sets how much work a run may lose when it is killed; 30 seconds of it, if this is not called.
    pub fn with_checkpoint_every(self, checkpoint_every: Duration) -> Self {
        Self { checkpoint_every, ..self }
    }

    /// Trains until all epochs are done, and tells how each step and each epoch went.
    ///
    /// # Errors
    /// [`Error::Io`] if the checkpoint or the log cannot be written; [`Error::Config`] if the loss is no longer a number;
    /// and what the model or libtorch refuses.
    // ANCHOR: run
    pub fn run(&mut self, mut watch: impl FnMut(Progress)) -> Result<()> {
        while self.state.epochs < self.config.epochs {
            let epoch = self.state.epochs;
            let mut saved = Instant::now();
            for batch in self.training.epoch_from(epoch, self.state.batches) {
                watch(Progress::Step(self.step(&batch?)?));
                if saved.elapsed() >= self.checkpoint_every {
                    self.save()?;
                    saved = Instant::now();
                }
            }
            watch(Progress::Epoch(self.end_epoch()?));
            self.save()?;
        }
        Ok(())
    }
    // ANCHOR_END: run

    /// One step: forward, loss, backward, and a change of the parameters.
    // ANCHOR: step
    fn step(&mut self, batch: &Batch) -> Result<Step> {
        let started = Instant::now();
        let learning_rate = self.schedule.learning_rate(self.state.steps + 1);
        let seed = self.config.seed.wrapping_add(self.state.steps);
        tch::manual_seed(seed as i64); // an accelerator draws its dropout from libtorch's generator
        let dropout = Dropout::new(self.config.dropout, seed)?;

        let loss = self.loss(batch, &dropout)?;
        self.optimizer.zero_grad();
        loss.f_backward()?;
        let gradient_norm = self.optimizer.clip_gradients(self.config.clip)?;
        let (loss, targets) = (loss.f_double_value(&[])?, count_targets(batch)?);
        self.check_finite("loss", loss)?;
        self.check_finite("norm of the gradient", gradient_norm)?;
        self.optimizer.step(learning_rate)?;

        let State { epochs, batches, steps, sums, .. } = &mut self.state;
        *batches += 1;
        *steps += 1;
        sums.loss += loss * targets;
        sums.targets += targets;
        sums.gradient_norm += gradient_norm;
        sums.seconds += started.elapsed().as_secs_f64();
        let (epoch, total) = (*epochs + 1, self.schedule.total);
        Ok(Step {
            epoch,
            steps: *steps,
            total,
            loss: sums.loss / sums.targets,
            learning_rate,
        })
    }
    // ANCHOR_END: step

    /// Refuses to go on with numbers that have left the range of a float.
    fn check_finite(&self, what: &str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let steps = self.state.steps;
        let reason =
            format!("the {what} became {value} after step {steps}; try a smaller one");
        Err(Error::config("learning_rate", self.config.learning_rate, reason))
    }

    /// The loss of a batch.
    // ANCHOR: loss
    fn loss(&self, batch: &Batch, dropout: &Dropout) -> Result<Tensor> {
        let mask =
            prefix_decoder_mask(&batch.lengths, &batch.prefixes, batch.tokens.size()[1])?;
        let prediction = self.model.forward(&batch.tokens, Some(&mask), dropout)?; // [B, T, V]
        cross_entropy(&prediction.logits, &batch.targets, self.config.label_smoothing)
    }
    // ANCHOR_END: loss

    /// The mean loss a target of the validation words, without dropout.
    ///
    /// # Errors
    /// What the model or libtorch refuses.
    // ANCHOR: validation_loss
    pub fn validation_loss(&self) -> Result<f64> {
        let (mut loss, mut targets) = (0.0, 0.0);
        for batch in self.validation.epoch(0) {
            let batch = batch?;
            let count = count_targets(&batch)?;
            loss += count
                * no_grad(|| self.loss(&batch, &Dropout::off()))?.f_double_value(&[])?;
            targets += count;
        }
        Ok(loss / targets)
    }
    // ANCHOR_END: validation_loss

    /// Closes an epoch with its record, and starts the next from its first batch.
    fn end_epoch(&mut self) -> Result<EpochRecord> {
        let started = Instant::now();
        let validation_loss = self.validation_loss()?;
        self.check_finite("validation loss", validation_loss)?;
        let State { epochs, batches, steps, sums, records } = &mut self.state;
        *epochs += 1;
        let record = EpochRecord {
            epoch: *epochs,
            steps: *steps,
            learning_rate: self.schedule.learning_rate(*steps),
            train_loss: sums.loss / sums.targets,
            validation_loss,
            gradient_norm: sums.gradient_norm / *batches as f64,
            seconds: sums.seconds + started.elapsed().as_secs_f64(),
        };
        records.push(record);
        (*batches, *sums) = (0, Sums::default());
        log::write(&self.log, records)?;
        Ok(record)
    }

    /// What was recorded of the epochs that are complete.
    pub fn records(&self) -> &[EpochRecord] {
        &self.state.records
    }

    /// Steps taken and steps of the whole run.
    pub fn steps(&self) -> (u64, u64) {
        (self.state.steps, self.schedule.total)
    }

    /// The parameters of the model under their names.
    pub fn parameters(&self) -> Checkpoint {
        Checkpoint {
            tensors: self.store.variables().into_iter().collect(),
            ..Checkpoint::default()
        }
    }

    /// Keeps everything the run needs to go on.
    fn save(&self) -> Result<()> {
        let mut checkpoint = Checkpoint::default();
        for (name, tensor) in self.named_tensors() {
            checkpoint.tensors.insert(name, tensor.shallow_clone());
        }
        let settings = Ok(self.settings().to_string());
        let state = serde_json::to_string(&self.state);
        for (key, text) in [("settings", settings), ("state", state)] {
            let text =
                text.map_err(|error| Error::file(&self.checkpoint, error.to_string()))?;
            checkpoint.texts.insert(key.to_owned(), text);
        }
        checkpoint.write(&self.checkpoint)
    }

    /// Goes back to where the checkpoint was made.
    fn resume(&mut self) -> Result<()> {
        let path = &self.checkpoint;
        let checkpoint = Checkpoint::read(path)?;
        let text = |key: &str| {
            let missing = || {
                Error::file(
                    path,
                    format!("has no {key}; it is not a checkpoint of a training run"),
                )
            };
            checkpoint.texts.get(key).ok_or_else(missing)
        };
        let unreadable = |error: serde_json::Error| {
            Error::file(path, format!("has a state that cannot be read: {error}"))
        };
        let settings: serde_json::Value =
            serde_json::from_str(text("settings")?).map_err(unreadable)?;
        let ours = self.settings();
        if settings != ours {
            let problem = format!(
                "was made with other settings or data: {settings}; this run has {ours}. \
                 Go on with those, or choose another folder, or delete the file to start anew"
            );
            return Err(Error::file(path, problem));
        }
        let state: State = serde_json::from_str(text("state")?).map_err(unreadable)?;
        checkpoint.restore(self.named_tensors(), path)?;
        self.optimizer.set_steps(state.steps);
        self.state = state;
        Ok(())
    }

    /// What a checkpoint must share with the run that goes on from it: the settings and the data.
    fn settings(&self) -> serde_json::Value {
        let data = [&self.training, &self.validation].map(Loader::fingerprint);
        json!({ "model": self.model.config, "training": self.config, "data": data })
    }

    /// Everything that changes from step to step: parameters and moments.
    fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let parameters = self
            .store
            .variables()
            .into_iter()
            .map(|(name, tensor)| (format!("model.{name}"), tensor));
        let moments =
            self.optimizer.moments().map(|(name, tensor)| (name, tensor.shallow_clone()));
        parameters.chain(moments).collect()
    }
}

/// How many targets of a batch count.
fn count_targets(batch: &Batch) -> Result<f64> {
    Ok(batch.targets.f_ne(IGNORED)?.f_sum(Kind::Int64)?.f_double_value(&[])?)
}
