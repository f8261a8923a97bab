//! Trains the model that pronounces: `cargo run --release --bin train`.

use std::env;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use self_attention::data::cmudict::Dictionary;
use self_attention::data::split::Split;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::environment::DeviceChoice;
use self_attention::evaluation::pronouncer::{evaluate, Card};
use self_attention::feed_forward::Activation;
use self_attention::training::log::EpochRecord;
use self_attention::training::run::RunConfig;
use self_attention::training::stress::Stresses;
use self_attention::training::trainer::{Outcome, Progress, Step, Trainer};
use self_attention::visualization::{loss_curves, Chart};

/// Trains the model that pronounces, scores it on the validation words, and saves it.
///
/// A run that was stopped, by Ctrl-C or by pulling the plug, goes on when the same command is given again. Its folder
/// holds `config.json` (all settings), `log.jsonl` (losses), `curves.svg` (the same, drawn), `times.jsonl` (seconds),
/// `checkpoint.safetensors` (where it stands) and `best.safetensors` (the parameters with the lowest validation loss).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Train a small model on a tenth of the words: under a minute.
    #[arg(long, conflicts_with = "config")]
    quick: bool,

    /// Take the settings from this file; flags come before it. Every run writes one into its folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the run is kept [default: runs/pronouncer, or runs/quick].
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Where the model is saved [default: model.safetensors inside the folder of the run].
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Score the model on the test words, too. Do this once, when nothing is left to be tuned.
    #[arg(long)]
    test: bool,

    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,

    /// Seconds between two checkpoints.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    checkpoint_every: u64,

    #[command(flatten)]
    settings: Settings,
}

/// The settings that have a flag.
#[derive(clap::Args)]
#[command(next_help_heading = "Settings of the run")]
struct Settings {
    /// How many training words, spread evenly over the dictionary.
    #[arg(long)]
    words: Option<usize>,

    /// How many validation words, chosen likewise.
    #[arg(long)]
    validation_words: Option<usize>,

    /// How often a common word stands among the training words.
    #[arg(long)]
    common_times: Option<usize>,

    /// Numbers a position; four times as many inside the feed-forward network.
    #[arg(long)]
    width: Option<i64>,

    /// Blocks in the stack.
    #[arg(long)]
    blocks: Option<i64>,

    /// Attention heads in each block.
    #[arg(long)]
    heads: Option<i64>,

    /// The non-linearity of the feed-forward network.
    #[arg(long, value_enum)]
    activation: Option<Activation>,

    /// How often the training words are seen.
    #[arg(long)]
    epochs: Option<u64>,

    /// Positions in a batch, at most.
    #[arg(long)]
    tokens_per_batch: Option<usize>,

    /// The highest learning rate.
    #[arg(long)]
    learning_rate: Option<f64>,

    /// The share of numbers that is forgotten.
    #[arg(long)]
    dropout: Option<f64>,

    /// How much the stress of the vowels counts beside the phonemes.
    #[arg(long)]
    stress_weight: Option<f64>,

    /// The share of the highest learning rate below which it does not fall after the warm-up.
    #[arg(long)]
    lowest_rate: Option<f64>,

    /// The share of all steps, at the end, over which the mean of the parameters is taken, which is then the model.
    #[arg(long)]
    average: Option<f64>,

    /// The share of each target that is spread over all tokens.
    #[arg(long)]
    label_smoothing: Option<f64>,

    /// Validate after so many steps, too, and not only after each epoch.
    #[arg(long, value_name = "STEPS")]
    validate_every: Option<u64>,

    /// Stop after so many validations without a lower loss.
    #[arg(long, value_name = "VALIDATIONS")]
    patience: Option<u64>,

    /// Compute in 16 bits what bears it; needs a CUDA card.
    #[arg(long)]
    mixed_precision: bool,

    /// What everything random is drawn from.
    #[arg(long)]
    seed: Option<u64>,
}

impl Settings {
    /// The settings of `base`, but for those that were given as flags.
    fn over(self, base: RunConfig) -> RunConfig {
        let RunConfig { mut model, mut data, mut training } = base;
        data.words = self.words.or(data.words);
        data.validation_words = self.validation_words.or(data.validation_words);
        set(&mut data.common_times, self.common_times);
        if let Some(width) = self.width {
            model = model.with_width(width);
        }
        set(&mut model.blocks, self.blocks);
        set(&mut model.heads, self.heads);
        set(&mut model.activation, self.activation);
        set(&mut training.epochs, self.epochs);
        set(&mut training.tokens_per_batch, self.tokens_per_batch);
        set(&mut training.learning_rate, self.learning_rate);
        set(&mut training.dropout, self.dropout);
        set(&mut training.label_smoothing, self.label_smoothing);
        set(&mut training.stress_weight, self.stress_weight);
        set(&mut training.lowest_rate, self.lowest_rate);
        set(&mut training.average, self.average);
        training.validate_every = self.validate_every.or(training.validate_every);
        training.patience = self.patience.or(training.patience);
        training.mixed_precision |= self.mixed_precision;
        set(&mut training.seed, self.seed);
        RunConfig { model, data, training }
    }
}

/// Replaces a setting if another value was given.
fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    let vocabulary = Vocabulary::new();
    let base = match &arguments.config {
        Some(path) => RunConfig::read(path)?,
        None if arguments.quick => RunConfig::quick(&vocabulary),
        None => RunConfig::new(&vocabulary),
    };
    let config = arguments.settings.over(base);
    let name = if arguments.quick { "quick" } else { "pronouncer" };
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let folder = arguments.folder.unwrap_or_else(|| runs.join(name));
    let weights = arguments.model.unwrap_or_else(|| folder.join("model.safetensors"));

    let dictionary = Dictionary::embedded()?;
    let examples = config.data.examples(&dictionary, &vocabulary)?;
    let learned =
        dictionary.iter().filter(|entry| Split::of(&entry.word) == Split::Train);
    let device = arguments.device.device()?;
    let mut trainer =
        Trainer::new(&config.model, config.training.clone(), examples, device, &folder)?
            .with_stresses(Stresses::new(learned, &vocabulary)?)
            .with_checkpoint_every(Duration::from_secs(arguments.checkpoint_every));
    config.write(&folder.join("config.json"))?;
    let tensors = trainer.parameters().tensors;
    let parameters: usize = tensors.values().map(|tensor| tensor.numel()).sum();
    println!("{parameters} parameters, run in {}", folder.display());
    let outcome = train_with_progress(&mut trainer)?;
    draw(&trainer.epochs(), &folder)?;
    match outcome {
        Outcome::Finished => {}
        Outcome::OutOfPatience => println!("stopped: the validation loss falls no more"),
        Outcome::Interrupted => {
            println!("stopped and saved; to go on: {}", command());
            return Ok(ExitCode::from(130)); // as a shell reports Ctrl-C
        }
    }

    trainer.restore_best()?;
    if let Some(best) = trainer.best() {
        println!("the best of it: step {}, {:.4}", best.steps, best.validation_loss);
    }
    let shipped = trainer.parameters().halved()?;
    shipped.restore(trainer.parameters().tensors, &weights)?; // what is scored is what is saved
    let scores = |split| {
        let entries = config.data.entries(&dictionary, split)?;
        evaluate(&trainer.model, &vocabulary, &entries)
    };
    let validation_scores = scores(Split::Validation)?;
    println!("\nvalidation\n{validation_scores}");
    let test_scores = arguments.test.then(|| scores(Split::Test)).transpose()?;
    if let Some(scores) = &test_scores {
        println!("\ntest\n{scores}");
    }
    shipped.write(&weights)?;
    let card = Card {
        command: command(),
        model: config.model,
        parameters,
        weights: Card::hash(&weights)?,
        data: config.data,
        training: config.training,
        vocabulary: vocabulary.symbols().iter().map(ToString::to_string).collect(),
        split: Split::RULE.to_owned(),
        validation_scores,
        test_scores,
        epochs: trainer.epochs(),
        seconds: trainer.times().iter().map(|time| time.seconds).sum(),
    };
    card.write(&weights)?;
    println!("saved {}", weights.display());
    Ok(ExitCode::SUCCESS)
}

/// The command that this run was started with, as one types it.
fn command() -> String {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let all = ["cargo run --release --bin train".to_owned()].into_iter();
    let dashes = (!arguments.is_empty()).then(|| "--".to_owned());
    all.chain(dashes).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Runs the training with a bar for the steps and a line for each epoch. Ctrl-C lets the step under way end.
fn train_with_progress(trainer: &mut Trainer) -> Result<Outcome, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice: at once
        }
        eprintln!("stopping after this step; Ctrl-C again stops at once");
    })?;

    let (done, total) = trainer.steps();
    if done > 0 {
        println!("going on after step {done}");
    }
    println!("epoch  train loss  validation loss  learning rate");
    trainer.epochs().iter().for_each(print_epoch);
    // ANCHOR: bar
    let style = "{elapsed_precise} [{bar:24}] {pos}/{len} steps, {eta} left, {msg}";
    let bar = ProgressBar::new(total)
        .with_style(ProgressStyle::with_template(style)?)
        .with_position(done);
    bar.reset_eta();
    let outcome = trainer.run(|progress| {
        match progress {
            Progress::Step(Step { steps, loss, tokens_per_second, .. }) => {
                bar.set_position(steps);
                bar.set_message(format!(
                    "{tokens_per_second:.0} tokens/s, loss {loss:.4}"
                ));
            }
            Progress::Epoch(record) => bar.suspend(|| print_epoch(&record)),
        }
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    bar.finish_and_clear();
    // ANCHOR_END: bar
    stop.store(true, Ordering::Relaxed); // all is saved: from here on Ctrl-C stops at once
    Ok(outcome)
}

/// Draws how the losses fell, once an epoch is complete.
fn draw(epochs: &[EpochRecord], folder: &Path) -> Result<(), Box<dyn Error>> {
    if epochs.is_empty() {
        return Ok(());
    }
    let validations: Vec<_> =
        epochs.iter().map(|epoch| (epoch.steps, epoch.validation_loss)).collect();
    let curves = loss_curves("The losses of this run", epochs, &validations);
    Ok(Chart::Curves(curves).save(folder, "curves")?)
}

fn print_epoch(record: &EpochRecord) {
    let EpochRecord { epoch, train_loss, validation_loss, learning_rate, .. } = record;
    println!(
        "{epoch:>5}  {train_loss:>10.4}  {validation_loss:>15.4}  {learning_rate:>13.1e}"
    );
}
