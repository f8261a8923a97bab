//! The training loop: forward, loss, backward, step, until the data has been seen often enough.
//!
//! A run is a function of its settings and its seed. Everything it does not get from these, the place in the data, the
//! parameters, the optimizer's moments, the record so far, is in its checkpoint; so a run that was killed goes on to
//! the same numbers. That holds for one machine with one number of threads: another one may add up in another order.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{nn, no_grad, Device, Kind, Tensor};

use self_attention::data::batch::{Batch, Example, IGNORED};
use self_attention::data::loader::{Loader, LoaderConfig};
use self_attention::dropout::Dropout;
use self_attention::environment::mixed_precision;
use self_attention::error::{Error, Result};
use self_attention::files::remove_half_written;
use self_attention::model::{prefix_decoder_mask, Transformer, TransformerConfig};
use self_attention::training::checkpoint::Checkpoint;
use self_attention::training::log::{
    self, EpochRecord, EpochTime, Record, ValidationRecord,
};
use self_attention::training::loss::cross_entropy;
use self_attention::training::optimizer::{AdamW, AdamWConfig, LossScale, Schedule};
use self_attention::training::stress::{StressHead, Stresses};

/// Where the parameters of the layer for the stresses have their names.
const STRESS_HEAD: &str = "stress";

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
    /// How much the stress of the vowels counts beside the phonemes; with 0 it is not asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stress_weight: f64,
    /// The share of the highest learning rate below which it does not fall after the warm-up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lowest_rate: f64,
    /// The share of all steps, at the end, over which the mean of the parameters is taken, which is then the model; with 0
    /// there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub average: f64,
    /// Steps between two validations; there is one at the end of each epoch in any case.
    pub validate_every: Option<u64>,
    /// After how many validations without a lower loss the run stops before its last epoch.
    pub patience: Option<u64>,
    /// Whether a CUDA card computes in 16 bits what bears it.
    pub mixed_precision: bool,
    /// What the first parameters, the order of the data and dropout are drawn from.
    pub seed: u64,
}
// ANCHOR_END: training_config

/// A setting that changes nothing is not written down.
fn is_zero<T: Default + PartialEq>(setting: &T) -> bool {
    *setting == T::default()
}

// ANCHOR: training_defaults
impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 24,
            tokens_per_batch: 2048,
            learning_rate: 2e-3,
            warm_up: 0.05,
            optimizer: AdamWConfig::default(),
            clip: 1.0,
            label_smoothing: 0.05,
            dropout: 0.1,
            stress_weight: 0.0,
            lowest_rate: 0.0,
            average: 0.0,
            validate_every: None,
            patience: None,
            mixed_precision: false,
            seed: 1,
        }
    }
}
// ANCHOR_END: training_defaults

impl TrainingConfig {
    fn check(&self, device: Device) -> Result<()> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        for (setting, count) in [
            ("epochs", Some(self.epochs)),
            ("validate_every", self.validate_every),
            ("patience", self.patience),
        ] {
            if count == Some(0) {
                return Err(Error::config(setting, 0, "must be at least 1"));
            }
        }
        if self.mixed_precision && !device.is_cuda() {
            let reason = "needs a CUDA card; leave it out to compute in 32 bits";
            return Err(Error::config("mixed_precision", true, reason));
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
            ("lowest_rate", self.lowest_rate, 0.0..=1.0),
            ("average", self.average, 0.0..=1.0),
        ] {
            if !shares.contains(&share) {
                let [least, most] = [shares.start(), shares.end()];
                let reason = format!("a share between {least} and {most} is needed");
                return Err(Error::config(setting, share, reason));
            }
        }
        if !(self.stress_weight.is_finite() && self.stress_weight >= 0.0) {
            let reason = "must be 0, for none, or a number above it";
            return Err(Error::config("stress_weight", self.stress_weight, reason));
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
    /// The validation with the lowest loss.
    best: Option<ValidationRecord>,
    /// Validations since then.
    validations_since_best: u64,
    /// Steps whose parameters are in the mean.
    #[serde(default)]
    averaged_steps: u64,
    /// The optimizer's steps; fewer than `steps` if some were left out for an overflow.
    optimizer_steps: u64,
    /// The factor on the loss in mixed precision.
    loss_scale: LossScale,
    /// The lines of the log.
    records: Vec<Record>,
    /// How long the complete epochs took.
    times: Vec<EpochTime>,
}

/// What adds up over the batches of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    loss: f64,
    targets: f64,
    gradient_norm: f64,
    tokens: f64,
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

/// Why a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// The validation loss has not fallen for as long as [`TrainingConfig::patience`] allows.
    OutOfPatience,
    /// Whoever watched wanted it to stop. Everything is saved; the run can go on later.
    Interrupted,
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
    /// The loss of this step's batch.
    pub batch_loss: f64,
    /// The norm of the gradient before clipping; nothing if mixed precision made it overflow.
    pub gradient_norm: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
    /// Tokens a second in the epoch so far, without padding.
    pub tokens_per_second: f64,
}

/// A model under training.
// ANCHOR: trainer
#[derive(Debug)]
pub struct Trainer {
    /// The model.
    pub model: Transformer,
    stress_head: Option<StressHead>,
    stresses: Stresses,
    store: nn::VarStore,
    /// The mean of the parameters, under their names; empty where none is taken.
    means: BTreeMap<String, Tensor>,
    optimizer: AdamW,
    schedule: Schedule,
    training: Loader,
    validation: Loader,
    config: TrainingConfig,
    state: State,
    folder: PathBuf,
    _lock: File,
    checkpoint_every: Duration,
}
// ANCHOR_END: trainer

impl Trainer {
    /// A run in `folder`, where its checkpoint and its log are kept. It goes on from the checkpoint if there is one.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot train; [`Error::File`] if the checkpoint in the folder is damaged or
    /// was made with other settings, or if another program trains there.
    pub fn new(
        model: &TransformerConfig,
        config: TrainingConfig,
        [training, validation]: [Vec<Example>; 2],
        device: Device,
        folder: &Path,
    ) -> Result<Self> {
        config.check(device)?;
        tch::manual_seed(config.seed as i64);
        let store = nn::VarStore::new(device);
        let model = model.init(&store.root())?;
        let stress_head = match config.stress_weight > 0.0 {
            true => {
                Some(StressHead::new(&(store.root() / STRESS_HEAD), model.config.width)?)
            }
            false => None,
        };
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
        let lock = lock(folder)?;
        remove_half_written(folder)?;
        let mut trainer = Self {
            model,
            stress_head,
            stresses: Stresses::default(),
            optimizer: AdamW::new(&store, config.optimizer)?,
            store,
            means: BTreeMap::new(),
            schedule,
            training,
            validation,
            config,
            state: State::default(),
            folder: folder.to_owned(),
            _lock: lock,
            checkpoint_every: Duration::from_secs(30),
        };
        if trainer.config.average > 0.0 {
            let parameters = trainer.parameters().tensors.into_iter();
            let zeros = |(name, tensor): (String, Tensor)| {
                Ok((name, tensor.f_detach()?.f_zeros_like()?))
            };
            trainer.means = parameters.map(zeros).collect::<Result<_>>()?;
        }
        let path = trainer.checkpoint_path();
        if path.try_exists().map_err(Error::io(&path))? {
            trainer.resume()?;
        }
        Ok(trainer)
    }

    /// Sets how much work a run may lose when it is killed; 30 seconds of it, if this is not called.
    pub fn with_checkpoint_every(self, checkpoint_every: Duration) -> Self {
        Self { checkpoint_every, ..self }
    }

    /// Sets the stresses of the training words, which are needed if they [count](TrainingConfig::stress_weight).
    pub fn with_stresses(self, stresses: Stresses) -> Self {
        Self { stresses, ..self }
    }

    /// Trains until all epochs are done, and tells how each step and each epoch went. It stops sooner when whoever
    /// watches breaks off or when the patience is at its end.
    ///
    /// # Errors
    /// [`Error::Io`] if the checkpoint or the log cannot be written; [`Error::Config`] if the loss is no longer a number;
    /// and what the model or libtorch refuses.
    // ANCHOR: run
    pub fn run(
        &mut self,
        mut watch: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Outcome> {
        while self.state.epochs < self.config.epochs {
            let epoch = self.state.epochs;
            let batches = self.training.batches(epoch);
            let mut saved = Instant::now();
            for batch in self.training.epoch_from(epoch, self.state.batches) {
                if self.is_out_of_patience() {
                    self.save()?;
                    return Ok(Outcome::OutOfPatience);
                }
                let step = self.step(&batch?)?;
                if self.state.batches < batches && self.is_validation_due() {
                    self.validate()?;
                }
                let stop = watch(Progress::Step(step)).is_break();
                if stop || saved.elapsed() >= self.checkpoint_every {
                    self.save()?;
                    saved = Instant::now();
                }
                if stop {
                    return Ok(Outcome::Interrupted);
                }
            }
            let stop = watch(Progress::Epoch(self.end_epoch()?)).is_break();
            self.save()?;
            if stop && self.state.epochs < self.config.epochs {
                return Ok(Outcome::Interrupted);
            }
        }
        Ok(Outcome::Finished)
    }
    // ANCHOR_END: run

    /// One step: forward, loss, backward, and a change of the parameters.
    ///
    /// # Errors
    /// [`Error::Config`] if the loss is no longer a number; and what the model or libtorch refuses.
    // ANCHOR: step
    pub fn step(&mut self, batch: &Batch) -> Result<Step> {
        let started = Instant::now();
        let learning_rate = self.learning_rate(self.state.steps + 1);
        let seed = self.config.seed.wrapping_add(self.state.steps);
        tch::manual_seed(seed as i64); // from it an accelerator draws its dropout
        let dropout = Dropout::new(self.config.dropout, seed)?;

        let [loss, all] = self.loss(batch, &dropout, self.stress_head.as_ref())?;
        self.optimizer.zero_grad();
        let gradient_norm = self.backward(&all)?;
        let loss = loss.f_double_value(&[])?;
        self.check_finite("loss", loss)?;
        if let Some(gradient_norm) = gradient_norm {
            self.check_finite("norm of the gradient", gradient_norm)?;
            self.optimizer.step(learning_rate)?;
        }
        self.average()?;
        self.add_up(batch, loss, gradient_norm.unwrap_or_default())?;
        self.state.sums.seconds += started.elapsed().as_secs_f64();
        Ok(self.last_step(loss, gradient_norm, learning_rate))
    }
    // ANCHOR_END: step

    /// The learning rate of a step, counted from 1.
    fn learning_rate(&self, step: u64) -> f64 {
        let rate = self.schedule.learning_rate(step);
        match step > self.schedule.warm_up {
            true => rate.max(self.config.lowest_rate * self.schedule.peak),
            false => rate,
        }
    }

    /// Takes the parameters as they are after a step into their mean, in the last part of the run.
    // ANCHOR: average
    fn average(&mut self) -> Result<()> {
        let total = self.schedule.total as f64;
        let averaged = (self.config.average * total).round() as u64; // steps
        if self.state.steps + averaged < self.schedule.total {
            return Ok(());
        }
        let parameters = self.parameters().tensors;
        self.state.averaged_steps += 1;
        let share = 1.0 / self.state.averaged_steps as f64; // 1, 1/2, 1/3, …
        for (mean, now) in self.means.values_mut().zip(parameters.values()) {
            let _ = no_grad(|| mean.f_lerp_(now, share))?; // mean += share · (now − mean)
        }
        Ok(())
    }
    // ANCHOR_END: average

    /// Exchanges the parameters and their mean, as soon as there is one.
    fn exchange(&self) -> Result<()> {
        if self.state.averaged_steps == 0 {
            return Ok(());
        }
        for (mean, mut now) in
            self.means.values().zip(self.parameters().tensors.into_values())
        {
            let (mut mean, held) = (mean.shallow_clone(), mean.copy());
            no_grad(|| {
                mean.f_copy_(&now)?;
                now.f_copy_(&held)
            })?;
        }
        Ok(())
    }

    /// Counts a step, and adds what it found to the sums of the epoch.
    fn add_up(&mut self, batch: &Batch, loss: f64, gradient_norm: f64) -> Result<()> {
        let targets = count_targets(batch)?;
        let State { batches, steps, sums, .. } = &mut self.state;
        *batches += 1;
        *steps += 1;
        sums.loss += loss * targets;
        sums.targets += targets;
        sums.gradient_norm += gradient_norm;
        sums.tokens += batch.lengths.f_sum(Kind::Int64)?.f_double_value(&[])?;
        Ok(())
    }

    /// What there is to tell of the step that was taken last.
    fn last_step(
        &self,
        batch_loss: f64,
        gradient_norm: Option<f64>,
        learning_rate: f64,
    ) -> Step {
        let State { epochs, steps, sums, .. } = &self.state;
        Step {
            epoch: epochs + 1,
            steps: *steps,
            total: self.schedule.total,
            loss: sums.loss / sums.targets,
            batch_loss,
            gradient_norm,
            learning_rate,
            tokens_per_second: sums.tokens / sums.seconds,
        }
    }

    /// Finds the gradients, limits them, and says what their norm was; nothing if mixed precision made them overflow.
    fn backward(&mut self, loss: &Tensor) -> Result<Option<f64>> {
        if !self.config.mixed_precision {
            loss.f_backward()?;
            return self.optimizer.clip_gradients(self.config.clip).map(Some);
        }
        let factor = self.state.loss_scale.factor;
        loss.f_mul_scalar(factor)?.f_backward()?;
        self.optimizer.scale_gradients(1.0 / factor)?;
        let norm = self.optimizer.clip_gradients(self.config.clip)?;
        self.state.loss_scale.update(!norm.is_finite());
        Ok(norm.is_finite().then_some(norm))
    }

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

    /// The loss of the phonemes of a batch, and the loss to go down: the same, or with that of the stresses.
    // ANCHOR: loss
    fn loss(
        &self,
        batch: &Batch,
        dropout: &Dropout,
        stress_head: Option<&StressHead>,
    ) -> Result<[Tensor; 2]> {
        let mask =
            prefix_decoder_mask(&batch.lengths, &batch.prefixes, batch.tokens.size()[1])?;
        let asked = batch.asked()?; // [N]
        let loss = || {
            let read = self.model.read_at(&batch.tokens, Some(&mask), &asked, dropout)?; // [N, E]
            let logits = self.model.scores(&read)?; // [N, V]
            let targets = batch.targets.f_flatten(0, 1)?.f_index_select(0, &asked)?; // [N]
            let loss = cross_entropy(&logits, &targets, self.config.label_smoothing)?;
            let all = match stress_head {
                Some(head) => {
                    &loss
                        + head.loss(&read, batch, &self.stresses)?
                            * self.config.stress_weight
                }
                None => loss.shallow_clone(),
            };
            Ok([loss, all])
        };
        match self.config.mixed_precision {
            true => mixed_precision(batch.tokens.device(), loss),
            false => loss(),
        }
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
            let [mean, _] = no_grad(|| self.loss(&batch, &Dropout::off(), None))?;
            loss += count * mean.f_double_value(&[])?;
            targets += count;
        }
        Ok(loss / targets)
    }
    // ANCHOR_END: validation_loss

    /// Tries the model on the validation words: with the mean of the parameters, if one is taken.
    fn validate(&mut self) -> Result<f64> {
        self.exchange()?;
        let validation_loss = self.validate_now();
        self.exchange()?;
        validation_loss
    }

    /// Tries the model on the validation words, writes down how it did, and keeps its parameters if it never did better.
    // ANCHOR: validate
    fn validate_now(&mut self) -> Result<f64> {
        let started = Instant::now();
        let validation_loss = self.validation_loss()?;
        self.check_finite("validation loss", validation_loss)?;
        let State { epochs, steps, best, .. } = self.state;
        let record = ValidationRecord { epoch: epochs + 1, steps, validation_loss };
        if best.is_none_or(|best| validation_loss < best.validation_loss) {
            self.parameters().write(&self.best_path())?;
            self.state.best = Some(record);
            self.state.validations_since_best = 0;
        } else {
            self.state.validations_since_best += 1;
        }
        self.write_down(Record::Validation(record))?;
        self.state.sums.seconds += started.elapsed().as_secs_f64();
        Ok(validation_loss)
    }
    // ANCHOR_END: validate

    /// Closes an epoch with its record, and starts the next from its first batch.
    fn end_epoch(&mut self) -> Result<EpochRecord> {
        let validation_loss = self.validate()?;
        let learning_rate = self.learning_rate(self.state.steps);
        let State { epochs, batches, steps, sums, times, .. } = &mut self.state;
        *epochs += 1;
        let record = EpochRecord {
            epoch: *epochs,
            steps: *steps,
            learning_rate,
            train_loss: sums.loss / sums.targets,
            validation_loss,
            gradient_norm: sums.gradient_norm / *batches as f64,
        };
        let seconds = sums.seconds;
        let tokens_per_second = sums.tokens / seconds;
        times.push(EpochTime { epoch: *epochs, seconds, tokens_per_second });
        (*batches, *sums) = (0, Sums::default());
        log::write(&self.folder.join("times.jsonl"), times)?;
        self.write_down(Record::Epoch(record))?;
        Ok(record)
    }

    /// Puts a line into the log.
    fn write_down(&mut self, record: Record) -> Result<()> {
        self.state.records.push(record);
        log::write(&self.folder.join("log.jsonl"), &self.state.records)
    }

    fn is_validation_due(&self) -> bool {
        self.config
            .validate_every
            .is_some_and(|every| self.state.steps.is_multiple_of(every))
    }

    fn is_out_of_patience(&self) -> bool {
        let since_best = self.state.validations_since_best;
        self.config.patience.is_some_and(|patience| since_best >= patience)
    }

    /// What was recorded of the epochs that are complete.
    pub fn epochs(&self) -> Vec<EpochRecord> {
        let epoch = |record: &Record| match record {
            Record::Epoch(record) => Some(*record),
            Record::Validation(_) => None,
        };
        self.state.records.iter().filter_map(epoch).collect()
    }

    /// How long the complete epochs took.
    pub fn times(&self) -> &[EpochTime] {
        &self.state.times
    }

    /// Steps taken and steps of the whole run.
    pub fn steps(&self) -> (u64, u64) {
        (self.state.steps, self.schedule.total)
    }

    /// The validation with the lowest loss so far.
    pub fn best(&self) -> Option<ValidationRecord> {
        self.state.best
    }

    /// Gives the model the parameters of the validation with the lowest loss.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] if the file that holds them is missing or damaged.
    pub fn restore_best(&self) -> Result<()> {
        let path = self.best_path();
        Checkpoint::read(&path)?.restore(self.parameters().tensors, &path)
    }

    /// The parameters of the model under their names. What tells the stresses is no part of it.
    pub fn parameters(&self) -> Checkpoint {
        let mut parameters = self.store.variables();
        parameters.retain(|name, _| !name.starts_with(STRESS_HEAD));
        Checkpoint { tensors: parameters.into_iter().collect(), ..Checkpoint::default() }
    }

    /// Where everything lies that the run needs to go on.
    fn checkpoint_path(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }

    /// Where the parameters of the validation with the lowest loss lie.
    fn best_path(&self) -> PathBuf {
        self.folder.join("best.safetensors")
    }

    /// Keeps everything the run needs to go on.
    fn save(&self) -> Result<()> {
        let path = self.checkpoint_path();
        let mut checkpoint = Checkpoint::default();
        for (name, tensor) in self.named_tensors() {
            checkpoint.tensors.insert(name, tensor.shallow_clone());
        }
        let settings = Ok(self.settings().to_string());
        let state =
            State { optimizer_steps: self.optimizer.steps(), ..self.state.clone() };
        for (key, text) in
            [("settings", settings), ("state", serde_json::to_string(&state))]
        {
            let text = text.map_err(|error| Error::file(&path, error.to_string()))?;
            checkpoint.texts.insert(key.to_owned(), text);
        }
        checkpoint.write(&path)
    }

    /// Goes back to where the checkpoint was made.
    fn resume(&mut self) -> Result<()> {
        let path = &self.checkpoint_path();
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
        self.optimizer.set_steps(state.optimizer_steps);
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
        let means = self
            .means
            .iter()
            .map(|(name, tensor)| (format!("mean.{name}"), tensor.shallow_clone()));
        parameters.chain(moments).chain(means).collect()
    }
}

/// Keeps the folder of a run for this program, for as long as the file that is handed back lives.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let file = File::create(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let problem = "another program trains in this folder; wait for it, stop it, or choose another folder";
            Err(Error::file(folder, problem))
        }
        Err(TryLockError::Error(error)) => Err(Error::io(&path)(error)),
    }
}

/// How many targets of a batch count.
fn count_targets(batch: &Batch) -> Result<f64> {
    Ok(batch.targets.f_ne(IGNORED)?.f_sum(Kind::Int64)?.f_double_value(&[])?)
}
