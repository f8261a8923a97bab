//! Trains the model on the pronouncing dictionary: `cargo run --release --bin ch08_training`.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use self_attention::data::cmudict::Dictionary;
use self_attention::data::split::Split;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::data::{common_examples, examples};
use self_attention::environment::DeviceChoice;
use self_attention::evaluation::pronouncer::{evaluate, Card};
use self_attention::model::TransformerConfig;
use self_attention::training::log::EpochRecord;
use self_attention::training::trainer::{Progress, Step, Trainer, TrainingConfig};

/// How often a common word stands among the training words of an epoch; any other stands there once.
const COMMON_TIMES: usize = 10;

/// Trains the model that pronounces, scores it on words it has never seen, and saves it.
///
/// A run that is stopped goes on from its checkpoint when it is started again.
#[derive(Parser)]
struct Arguments {
    /// Train a small model on a tenth of the words: under a minute.
    #[arg(long)]
    quick: bool,

    /// Where the checkpoint and the log are kept [default: runs/pronouncer, or runs/quick].
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Where the model is saved [default: models/pronouncer.safetensors, or inside the folder of a quick run].
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let name = if arguments.quick { "quick" } else { "pronouncer" };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = arguments.folder.unwrap_or_else(|| root.join("runs").join(name));
    let weights = arguments.model.unwrap_or_else(|| match arguments.quick {
        true => folder.join("quick.safetensors"),
        false => root.join("models/pronouncer.safetensors"),
    });

    let dictionary = Dictionary::embedded()?;
    let vocabulary = Vocabulary::new();
    let mut parts = [Split::Train, Split::Validation]
        .map(|split| examples(&dictionary, &vocabulary, split));
    let mut test: Vec<_> =
        dictionary.iter().filter(|entry| Split::of(&entry.word) == Split::Test).collect();
    let mut model = TransformerConfig::new(vocabulary.len() as i64);
    let mut training = TrainingConfig::default();
    if arguments.quick {
        parts = parts.map(|part| Ok(part?.into_iter().step_by(10).collect()));
        test = test.into_iter().step_by(10).collect();
        model = model.with_blocks(2).with_width(64);
        training.epochs = 4;
    }
    let [train, validation] = parts;
    let (mut train, validation) = (train?, validation?);
    let common_times = if arguments.quick { 1 } else { COMMON_TIMES };
    let common = common_examples(&dictionary, &vocabulary)?;
    (1..common_times).for_each(|_| train.extend_from_slice(&common));

    let device = arguments.device.device()?;
    let mut trainer =
        Trainer::new(&model, training.clone(), [train, validation], device, &folder)?;
    let parameters = trainer.parameters();
    let count: usize = parameters.tensors.values().map(|tensor| tensor.numel()).sum();
    println!("{count} parameters, run in {}", folder.display());
    train_with_progress(&mut trainer)?;

    let scores = evaluate(&trainer.model, &vocabulary, &test)?;
    println!("\n{scores}");
    parameters.write(&weights)?;
    let quick = if arguments.quick { " -- --quick" } else { "" };
    let card = Card {
        command: format!("cargo run --release --bin ch08_training{quick}"),
        model,
        parameters: count,
        weights: Card::hash(&weights)?,
        training,
        common_times,
        vocabulary: vocabulary.symbols().iter().map(ToString::to_string).collect(),
        split: Split::RULE.to_owned(),
        test_scores: scores,
        epochs: trainer.records().to_vec(),
    };
    card.write(&weights)?;
    println!("saved {}", weights.display());
    Ok(())
}

/// Runs the training with a bar for the steps and a line for each epoch.
fn train_with_progress(trainer: &mut Trainer) -> Result<(), Box<dyn Error>> {
    let (done, total) = trainer.steps();
    if done > 0 {
        println!("going on after step {done}");
    }
    println!("epoch  train loss  validation loss  seconds");
    trainer.records().iter().for_each(print_record);
    let style = "{elapsed_precise} [{bar:32}] step {pos} of {len}, {eta} left, {msg}";
    let bar = ProgressBar::new(total)
        .with_style(ProgressStyle::with_template(style)?)
        .with_position(done);
    bar.reset_eta();
    trainer.run(|progress| match progress {
        Progress::Step(Step { steps, loss, learning_rate, .. }) => {
            bar.set_position(steps);
            bar.set_message(format!("loss {loss:.4}, learning rate {learning_rate:.1e}"));
        }
        Progress::Epoch(record) => bar.suspend(|| print_record(&record)),
    })?;
    bar.finish();
    Ok(())
}

fn print_record(record: &EpochRecord) {
    let EpochRecord { epoch, train_loss, validation_loss, seconds, .. } = record;
    println!("{epoch:>5}  {train_loss:>10.4}  {validation_loss:>15.4}  {seconds:>7.0}");
}
