//! Chapter 8, training: `cargo run --bin ch08_training`. The model itself is trained by the program `train`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Parser;
use self_attention::data::vocabulary::PAD;
use self_attention::data::{examples, examples_of};
use self_attention::evaluation;
use self_attention::evaluation::metrics::{Paired, Scores};
use self_attention::evaluation::pronouncer::Card;
use self_attention::prelude::*;
use self_attention::training::checkpoint::Checkpoint;
use self_attention::training::log::{self, EpochRecord, Record, ValidationRecord};
use self_attention::training::loss::cross_entropy;
use self_attention::training::optimizer::{decays, AdamW, AdamWConfig, Schedule};
use self_attention::training::run::RunConfig;
use self_attention::training::trainer::{Outcome, Progress, Trainer, TrainingConfig};
use self_attention::visualization::table::matrix;
use self_attention::visualization::{
    loss_curves, Axis, Chart, Curves, Panels, Reference, Series,
};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// Computes everything that chapter 8 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

fn main() -> Result<()> {
    tch::set_num_threads(1); // sums in the same order on every machine
    let data = Data::new()?;
    if let Some(folder) = Arguments::parse().figures {
        schedule_figure().save(&folder, "ch08_schedule")?;
        overfit_figure(&data.family)?.save(&folder, "ch08_overfit")?;
        runs_figure()?.save(&folder, "ch08_runs")?;
        return shipped_figure()?.save(&folder, "ch08_pronouncer");
    }
    question_20(&data)?;
    question_21()?;
    question_22(&data)?;
    question_23()
}

/// What could come after the T of *tough*: the vowels of *tough*, *though*, *through* and *cough*.
const CANDIDATES: [&str; 4] = ["AH", "OW", "UW", "AO"];
/// How well each fits, by hand.
const LOGITS: [f64; 4] = [2.0, 1.0, 1.0, 0.0];

// ANCHOR: small
/// The small model of this chapter.
fn small() -> TransformerConfig {
    TransformerConfig::new(69).with_width(64).with_blocks(2)
}
// ANCHOR_END: small

/// Two batches of training words.
struct Data {
    /// About 2048 positions of words of like length.
    batch: Batch,
    /// Words with `ough`, short and long.
    family: Batch,
}

impl Data {
    // ANCHOR: data
    fn new() -> Result<Self> {
        let (dictionary, vocabulary) = (Dictionary::embedded()?, Vocabulary::new());
        let words = examples(&dictionary, &vocabulary, Split::Train)?;
        let ough = vocabulary.letters("ough")?;
        let family: Vec<&Example> = words
            .iter()
            .filter(|example| example.tokens.windows(4).any(|four| four == ough))
            .step_by(12)
            .collect();
        let family = Batch::collate(&family, Device::Cpu)?;
        let loader = Loader::new(words.into(), LoaderConfig::new(2048), Device::Cpu)?;
        let first = loader.epoch(0).next();
        let none = || Error::input("loader", "an epoch has no batch");
        Ok(Self { batch: first.ok_or_else(none)??, family })
    }
    // ANCHOR_END: data
}

// ANCHOR: question_20
fn question_20(Data { batch, family }: &Data) -> Result<()> {
    println!("== q20_by_hand ==");
    let logits = Tensor::from_slice(&LOGITS); // [V = 4]
    let probabilities = logits.softmax(-1, Kind::Double); // [V]
    let losses = -probabilities.log(); // [V]: the loss, if that one is right
    println!("what comes after the T of tough?");
    let rows = [&logits, &logits.exp(), &probabilities, &losses];
    let columns = ["logit", "exponential", "probability", "−ln probability"];
    println!("{}", matrix(&CANDIDATES, &columns, &Tensor::stack(&rows, 1), 4)?);
    println!(
        "sum of the exponentials: {:.4}",
        logits.exp().sum(Kind::Double).double_value(&[])
    );
    let right = Tensor::from_slice2(&[[0i64]]); // AH, [B = 1, T = 1]
    let loss = |smoothing| -> Result<f64> {
        let loss = cross_entropy(&logits.view([1, 1, 4]), &right, smoothing)?;
        Ok(loss.double_value(&[]))
    };
    println!("cross_entropy, if AH is right: {:.4}", loss(0.0)?);

    println!("\n== q20_smoothing ==");
    let plain = Tensor::from_slice(&[1.0, 0.0, 0.0, 0.0]);
    let smooth = &plain * 0.9 + 0.1 / 4.0;
    println!("a tenth of the target is spread over all four");
    let rows = [&plain, &smooth, &losses, &(&smooth * &losses)];
    let columns = ["target", "smoothed", "−ln probability", "product"];
    println!("{}", matrix(&CANDIDATES, &columns, &Tensor::stack(&rows, 1), 4)?);
    let sum = (smooth * losses).sum(Kind::Double).double_value(&[]);
    println!("sum of the products: {sum:.4}");
    println!("cross_entropy with label smoothing 0.1: {:.4}", loss(0.1)?);

    println!("\n== q20_floor ==");
    println!("smoothing   best probability   lowest loss   ln V   (V = 69)");
    for smoothing in [0.0, 0.05, 0.1] {
        let (best, lowest) = floor(smoothing)?;
        println!("{smoothing:>9.2} {best:>18.4} {lowest:>13.4} {:>6.4}", 69f64.ln());
    }

    println!("\n== q20_targets ==");
    println!("position  reads  is asked  probability    loss");
    let positions = positions_of_tough()?;
    for (t, Position { reads, asked }) in positions.iter().enumerate() {
        print!("{t:>8} {reads:>6} ");
        match asked {
            Some((symbol, loss)) => {
                println!("{symbol:>9} {:>12.4} {loss:>7.4}", (-loss).exp())
            }
            None => println!("{:>9}", "·"),
        }
    }
    let losses: Vec<f64> = positions
        .iter()
        .flat_map(|position| position.asked)
        .map(|(_, loss)| loss)
        .collect();
    println!(
        "mean of the {}: {:.4}",
        losses.len(),
        losses.iter().sum::<f64>() / losses.len() as f64
    );

    println!("\n== q20_first_loss ==");
    println!(
        "a batch of {} words, {} positions",
        batch.tokens.size()[0],
        batch.positions()
    );
    for (what, loss) in first_losses(batch)? {
        println!("{what:52} {loss:>8.4}");
    }
    println!("{:52} {:>8.4}", "ln V, V = 69", 69f64.ln());

    println!("\n== q20_counting ==");
    println!(
        "{} words, {:.0} % padding; a model that is trained on all positions",
        family.tokens.size()[0],
        100.0 * family.padding()?
    );
    println!("step   its loss   letters   padding   phonemes");
    for (step, [all, letters, padding, phonemes]) in counting_everything(family)? {
        println!("{step:>4} {all:>10.2} {letters:>9.2} {padding:>9.2} {phonemes:>10.2}");
    }
    Ok(())
}
// ANCHOR_END: question_20

/// The best probability of the right token under label smoothing, and the loss it has then: the least there is.
fn floor(smoothing: f64) -> Result<(f64, f64)> {
    let wrong = smoothing / 69.0;
    let right = 1.0 - smoothing + wrong;
    let mut best = [wrong.max(1e-300); 69]; // the logarithm of 0 would be −∞
    best[0] = right;
    let logits = Tensor::from_slice(&best).log().view([1, 1, 69]); // [B, T, V]
    let target = Tensor::from_slice2(&[[0i64]]);
    let loss = cross_entropy(&logits, &target, smoothing)?;
    Ok((right, loss.double_value(&[])))
}

/// A new model, the same each time, in 64 bits, so that rounding does not show.
fn new_model(config: &TransformerConfig) -> Result<(nn::VarStore, Transformer)> {
    tch::manual_seed(8);
    let mut store = nn::VarStore::new(Device::Cpu);
    let model = config.init(&store.root())?;
    store.double();
    Ok((store, model))
}

/// The logits of a batch, `[B, T, V]`, without dropout.
fn logits(model: &Transformer, batch: &Batch) -> Result<Tensor> {
    let positions = batch.tokens.size()[1];
    let mask = prefix_decoder_mask(&batch.lengths, &batch.prefixes, positions)?;
    Ok(model.forward(&batch.tokens, Some(&mask), &Dropout::off())?.logits)
}

/// A position of a batch.
struct Position {
    reads: &'static str,
    /// What it is asked for, and its loss, if it counts.
    asked: Option<(&'static str, f64)>,
}

/// What a new model reads and is asked in *tough*, in a batch with *through*.
fn positions_of_tough() -> Result<Vec<Position>> {
    let vocabulary = Vocabulary::new();
    let dictionary = Dictionary::parse(b"tough T AH1 F\nthrough TH R UW1")?;
    let words = dictionary
        .iter()
        .map(|entry| Example::new(&vocabulary, &entry.word, &entry.pronunciations[0]));
    let words = words.collect::<Result<Vec<_>>>()?;
    let batch = Batch::collate(&words.iter().collect::<Vec<_>>(), Device::Cpu)?;
    let (_store, model) = new_model(&small())?;
    let logs = logits(&model, &batch)?.log_softmax(-1, Kind::Double).get(0); // [T, V]
    let row = |tensor: &Tensor| Vec::<i64>::try_from(tensor.get(0));
    let asked = row(&batch.tokens)?.into_iter().zip(row(&batch.targets)?).enumerate();
    let position = |(t, (token, target))| {
        let reads = vocabulary.symbol(token)?;
        let loss = |target| -logs.double_value(&[t as i64, target]);
        let asked = match target {
            IGNORED => None,
            target => Some((vocabulary.symbol(target)?, loss(target))),
        };
        Ok(Position { reads, asked })
    };
    asked.map(position).collect()
}

/// The first loss of a model, as it should be and as mistakes make it.
// ANCHOR: first_losses
fn first_losses(batch: &Batch) -> Result<Vec<(&'static str, f64)>> {
    let (_store, model) = new_model(&small())?;
    let loss = |model: &Transformer, targets: &Tensor| -> Result<f64> {
        Ok(cross_entropy(&logits(model, batch)?, targets, 0.0)?.double_value(&[]))
    };
    let (_store, wide) = new_model(&small())?;
    let mut table = wide.embedding.detach();
    let _ = table.normal_(0.0, 1.0); // as nn.Embedding draws it
    Ok(vec![
        ("a new model", loss(&model, &batch.targets)?),
        ("its embedding drawn with a deviation of 1", loss(&wide, &batch.targets)?),
        (
            "asked for what it reads, not for what comes next",
            loss(&model, &not_shifted(batch))?,
        ),
        (
            "all positions counted, letters and padding too",
            loss(&model, &everything(batch)?)?,
        ),
    ])
}
// ANCHOR_END: first_losses

/// Wrong targets: at each position that counts, the token that stands there.
fn not_shifted(batch: &Batch) -> Tensor {
    batch.tokens.masked_fill(&batch.targets.eq(IGNORED), IGNORED) // [B, T]
}

/// Wrong targets: what comes next at all positions, letters and padding too.
fn everything(batch: &Batch) -> Result<Tensor> {
    let (rows, columns) = batch.tokens.size2()?;
    let end = Tensor::full([rows, 1], PAD, (Kind::Int64, Device::Cpu));
    let next = Tensor::cat(&[batch.tokens.narrow(1, 1, columns - 1), end], 1); // [B, T]
    Ok(batch.targets.where_self(&batch.targets.ne(IGNORED), &next))
}

/// Trains on all positions: at some steps the loss over all, over letters, over padding, and over phonemes.
fn counting_everything(batch: &Batch) -> Result<Vec<(u64, [f64; 4])>> {
    let all = everything(batch)?;
    let columns = Tensor::arange(batch.tokens.size()[1], (Kind::Int64, Device::Cpu));
    let asked = batch.targets.ne(IGNORED); // [B, T]
    let padding = columns.unsqueeze(0).ge_tensor(&batch.lengths.unsqueeze(1)); // [B, T]
    let letters = asked.logical_or(&padding).logical_not(); // [B, T]
    let mut rows = Vec::new();
    overfit(batch, &all, learn, |step, logits| {
        if [0, 10, 25, 50, 100].contains(&step) {
            let among = |part: &Tensor| -> Result<f64> {
                let targets = all.masked_fill(&part.logical_not(), IGNORED);
                Ok(cross_entropy(logits, &targets, 0.0)?.double_value(&[]))
            };
            let everywhere = asked.ones_like();
            let losses =
                [among(&everywhere)?, among(&letters)?, among(&padding)?, among(&asked)?];
            rows.push((step, losses));
        }
        Ok(())
    })?;
    Ok(rows)
}

const STEPS: u64 = 100;

/// Trains a new model on one batch, and shows the logits before each step and after the last.
// ANCHOR: overfit
fn overfit(
    batch: &Batch,
    targets: &Tensor,
    mut update: impl FnMut(&mut AdamW, &Tensor) -> Result<()>,
    mut watch: impl FnMut(u64, &Tensor) -> Result<()>,
) -> Result<()> {
    let (store, model) = new_model(&small().with_width(32))?;
    let mut optimizer = AdamW::new(&store, AdamWConfig::default())?;
    for step in 0..STEPS {
        let logits = logits(&model, batch)?; // [B, T, V]
        watch(step, &logits)?;
        update(&mut optimizer, &cross_entropy(&logits, targets, 0.0)?)?;
    }
    watch(STEPS, &logits(&model, batch)?)
}
// ANCHOR_END: overfit

/// How the parameters change at each step.
// ANCHOR: learn
fn learn(optimizer: &mut AdamW, loss: &Tensor) -> Result<()> {
    optimizer.zero_grad();
    loss.f_backward()?;
    optimizer.clip_gradients(1.0)?;
    optimizer.step(1e-2)
}
// ANCHOR_END: learn

/// Wrong: the gradients of all steps so far are added up.
fn learn_without_zero_grad(optimizer: &mut AdamW, loss: &Tensor) -> Result<()> {
    loss.f_backward()?;
    optimizer.clip_gradients(1.0)?;
    optimizer.step(1e-2)
}

// ANCHOR: question_21
fn question_21() -> Result<()> {
    println!("\n== q21_by_hand ==");
    println!("one weight, η = 0.1, β₁ = 0.9, β₂ = 0.98, λ = 0.05");
    println!("step  gradient       m       v      m̂      v̂  m̂/√v̂       θ");
    println!("   0                                                 1.0000");
    for row in adam_by_hand(&GRADIENTS) {
        let ByHand { step, gradient, m, v, m_hat, v_hat, ratio, theta } = row;
        println!(
            "{step:>4} {gradient:>9.0} {m:>7.4} {v:>7.4} {m_hat:>6.4} {v_hat:>6.4} \
             {ratio:>6.4} {theta:>7.4}"
        );
    }
    println!("AdamW of the crate: θ = {:.4}", adam_of_the_crate(&GRADIENTS)?);

    println!("\n== q21_groups ==");
    println!("                                tensors  numbers  decays");
    for (kind, tensors, numbers, decays) in groups()? {
        let decays = if decays { "yes" } else { "no" };
        println!("{kind:30} {tensors:>8} {numbers:>8} {decays:>7}");
    }

    println!("\n== q21_schedule ==");
    println!("step of 1000   share of the highest learning rate");
    for step in [1, 25, 50, 51, 200, 525, 800, 900, 1000] {
        println!("{step:>12} {:>12.4}", SCHEDULE.learning_rate(step));
    }

    println!("\n== q21_clipping ==");
    println!(
        "gradients of 1 but for step 6, where it is 100: how far each step goes, in η"
    );
    println!("step      gradient   not clipped   clipped to 1");
    let [plain, clipped] = [outlier(f64::INFINITY)?, outlier(1.0)?];
    for (step, (plain, clipped)) in plain.iter().zip(&clipped).enumerate() {
        let gradient = if step + 1 == 6 { 100 } else { 1 };
        println!("{:>4} {gradient:>13} {plain:>13.4} {clipped:>14.4}", step + 1);
    }
    Ok(())
}
// ANCHOR_END: question_21

/// Three gradients, one after the other.
const GRADIENTS: [f64; 3] = [2.0, 2.0, -1.0];

/// A run of 1000 steps.
const SCHEDULE: Schedule = Schedule { peak: 1.0, warm_up: 50, total: 1000 };

/// A step of AdamW, written down.
struct ByHand {
    step: i32,
    gradient: f64,
    m: f64,
    v: f64,
    m_hat: f64,
    v_hat: f64,
    ratio: f64,
    theta: f64,
}

// ANCHOR: adam_by_hand
fn adam_by_hand(gradients: &[f64]) -> Vec<ByHand> {
    let (rate, beta1, beta2, decay) = (0.1, 0.9, 0.98, 0.05);
    let (mut m, mut v, mut theta) = (0.0, 0.0, 1.0);
    let steps = (1..).zip(gradients).map(|(step, &gradient)| {
        m = beta1 * m + (1.0 - beta1) * gradient;
        v = beta2 * v + (1.0 - beta2) * gradient * gradient;
        let m_hat = m / (1.0 - f64::powi(beta1, step));
        let v_hat = v / (1.0 - f64::powi(beta2, step));
        let ratio = m_hat / (v_hat.sqrt() + 1e-8);
        theta -= rate * decay * theta + rate * ratio;
        ByHand { step, gradient, m, v, m_hat, v_hat, ratio, theta }
    });
    steps.collect()
}
// ANCHOR_END: adam_by_hand

/// A weight of 1 in 64 bits, as a matrix of one number, so that it decays.
fn one_weight() -> (nn::VarStore, Tensor) {
    let mut store = nn::VarStore::new(Device::Cpu);
    let weight = store.root().ones("weight", &[1, 1]);
    store.double();
    (store, weight)
}

fn adam_of_the_crate(gradients: &[f64]) -> Result<f64> {
    let (store, weight) = one_weight();
    let mut optimizer = AdamW::new(&store, AdamWConfig::default())?;
    for &gradient in gradients {
        optimizer.zero_grad();
        (&weight * gradient).sum(Kind::Double).f_backward()?;
        optimizer.step(0.1)?;
    }
    Ok(weight.double_value(&[0, 0]))
}

/// How far each of 12 steps moves a weight when one gradient is a hundred times the others.
fn outlier(limit: f64) -> Result<Vec<f64>> {
    let (store, weight) = one_weight();
    let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(&store, config)?;
    let mut steps = Vec::new();
    for step in 1..=12 {
        let before = weight.double_value(&[0, 0]);
        let gradient = if step == 6 { 100.0 } else { 1.0 };
        optimizer.zero_grad();
        (&weight * gradient).sum(Kind::Double).f_backward()?;
        optimizer.clip_gradients(limit)?;
        optimizer.step(1e-3)?;
        steps.push((before - weight.double_value(&[0, 0])) / 1e-3);
    }
    Ok(steps)
}

/// The parameters of the small model by what they are: how many tensors, how many numbers, and whether they decay.
fn groups() -> Result<Vec<(&'static str, usize, usize, bool)>> {
    let (store, _model) = new_model(&small())?;
    let kind = |name: &str, parameter: &Tensor| match name {
        "embedding" => "embedding, [V, E]",
        "positions" => "positions, [P, E]",
        _ if parameter.dim() >= 2 => "weights of linear layers",
        _ if name.contains("norm") => "weights and biases of norms",
        _ => "biases of linear layers",
    };
    let mut groups: Vec<(&str, usize, usize, bool)> = Vec::new();
    let mut named: Vec<_> = store.variables().into_iter().collect();
    named.sort_by_key(|(name, value)| {
        (!decays(name, value), -(value.dim() as i64), name.clone())
    });
    for (name, parameter) in named {
        let (kind, numbers) = (kind(&name, &parameter), parameter.numel());
        match groups.iter_mut().find(|group| group.0 == kind) {
            Some((_, tensors, total, _)) => {
                (*tensors, *total) = (*tensors + 1, *total + numbers)
            }
            None => groups.push((kind, 1, numbers, decays(&name, &parameter))),
        }
    }
    Ok(groups)
}

/// What overfitting one batch looks like, step by step.
struct Overfit {
    name: &'static str,
    /// The loss it is trained on, before each step and after the last.
    losses: Vec<f64>,
    /// The share of phonemes it gets right in the end.
    right: f64,
}

/// The same batch learned by heart three times: as it should be, and with a mistake.
// ANCHOR: overfits
fn overfits(batch: &Batch) -> Result<[Overfit; 3]> {
    let run = |name, targets: &Tensor, update: fn(&mut AdamW, &Tensor) -> Result<()>| {
        let mut run = Overfit { name, losses: Vec::new(), right: 0.0 };
        overfit(batch, targets, update, |_, logits| {
            run.losses.push(cross_entropy(logits, targets, 0.0)?.double_value(&[]));
            run.right = share_right(logits, &batch.targets)?;
            Ok(())
        })?;
        Ok::<_, Error>(run)
    };
    Ok([
        run("as it should be", &batch.targets, learn)?,
        run("targets not shifted", &not_shifted(batch), learn)?,
        run("gradients not zeroed", &batch.targets, learn_without_zero_grad)?,
    ])
}
// ANCHOR_END: overfits

/// The losses of the same batch if the optimizer forgets at one step all it has gathered.
fn forget_moments(batch: &Batch, at: u64) -> Result<Vec<f64>> {
    let (mut step, mut losses) = (0, Vec::new());
    let update = |optimizer: &mut AdamW, loss: &Tensor| {
        if step == at {
            for (_, moment) in optimizer.moments() {
                let _ = moment.shallow_clone().f_zero_()?;
            }
            optimizer.set_steps(0);
        }
        step += 1;
        learn(optimizer, loss)
    };
    overfit(batch, &batch.targets, update, |_, logits| {
        losses.push(cross_entropy(logits, &batch.targets, 0.0)?.double_value(&[]));
        Ok(())
    })?;
    Ok(losses)
}

fn temporary_folder() -> Result<TempDir> {
    tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))
}

/// A run of four epochs over six words, in a folder. It goes on from its checkpoint, if there is one.
// ANCHOR: six_words
fn six_words(folder: &Path) -> Result<Trainer> {
    let words = b"though DH OW1\nthrough TH R UW1\ntough T AH1 F\n\
                  cough K AO1 F\nbough B AW1\ndough D OW1";
    let (dictionary, vocabulary) = (Dictionary::parse(words)?, Vocabulary::new());
    let words = examples_of(dictionary.iter(), &vocabulary)?;
    let model = small().with_width(16);
    let config =
        TrainingConfig { epochs: 4, tokens_per_batch: 20, ..TrainingConfig::default() };
    Trainer::new(&model, config, [words.clone(), words], Device::Cpu, folder)
}
// ANCHOR_END: six_words

/// The same run, stopped after every second step and started again, and how often that was.
// ANCHOR: stopped_again_and_again
fn stopped_again_and_again(folder: &Path) -> Result<(Trainer, usize)> {
    let mut stops = 0;
    loop {
        let mut trainer = six_words(folder)?;
        let (done, _) = trainer.steps();
        let watch = |progress| match progress {
            Progress::Step(step) if step.steps == done + 2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        match trainer.run(watch)? {
            Outcome::Interrupted => stops += 1,
            Outcome::Finished | Outcome::OutOfPatience => return Ok((trainer, stops)),
        }
    }
}
// ANCHOR_END: stopped_again_and_again

/// What a checkpoint holds.
fn print_checkpoint(path: &Path) -> Result<()> {
    let checkpoint = Checkpoint::read(path)?;
    for (part, what) in [
        ("model", "the parameters"),
        ("first", "the first moment of each, m"),
        ("second", "the second moment of each, v"),
    ] {
        let prefix = format!("{part}.");
        let tensors =
            checkpoint.tensors.iter().filter(|(name, _)| name.starts_with(&prefix));
        let sizes: Vec<usize> = tensors.map(|(_, tensor)| tensor.numel()).collect();
        let numbers: usize = sizes.iter().sum();
        println!("{part:8} {:>3} tensors {numbers:>6} numbers   {what}", sizes.len());
    }
    for key in ["settings", "state"] {
        let text = checkpoint.texts.get(key).map_or("{}", String::as_str);
        let values: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| Error::file(path, error.to_string()))?;
        let names: Vec<_> = values.keys().map(String::as_str).collect();
        let lines: Vec<_> = names.chunks(5).map(|names| names.join(", ")).collect();
        println!("{key:8} {}", lines.join(",\n         "));
    }
    Ok(())
}

/// The share of the targets that count which get the highest logit.
fn share_right(logits: &Tensor, targets: &Tensor) -> Result<f64> {
    let counted = targets.ne(IGNORED); // [B, T]
    let right = logits.argmax(-1, false).eq_tensor(targets).logical_and(&counted);
    let count = |which: &Tensor| which.sum(Kind::Double).double_value(&[]);
    Ok(count(&right) / count(&counted))
}

// ANCHOR: question_22
fn question_22(Data { family, .. }: &Data) -> Result<()> {
    println!("\n== q22_overfit ==");
    let runs = overfits(family)?;
    println!("the loss of one batch of {} words", family.tokens.size()[0]);
    println!("step {:>20} {:>20} {:>20}", runs[0].name, runs[1].name, runs[2].name);
    for step in [0, 10, 20, 30, 50, 75, 100] {
        print!("{step:>4}");
        runs.iter().for_each(|run| print!(" {:>20.3}", run.losses[step]));
        println!();
    }
    println!("phonemes right in the end");
    print!("    ");
    runs.iter().for_each(|run| print!(" {:>18.0} %", 100.0 * run.right));

    println!("\n\n== q22_moments ==");
    println!("step   moments kept   moments forgotten before step 40");
    let forgetful = forget_moments(family, 40)?;
    for step in [38, 39, 40, 41, 42, 44, 46, 50, 60] {
        println!("{step:>4} {:>14.3} {:>34.3}", runs[0].losses[step], forgetful[step]);
    }

    println!("\n== q22_resume ==");
    let [whole, broken] = [temporary_folder()?, temporary_folder()?];
    let mut straight = six_words(whole.path())?;
    straight.run(|_| ControlFlow::Continue(()))?;
    let (resumed, stops) = stopped_again_and_again(broken.path())?;
    println!("{} steps in all, stopped {stops} times", straight.steps().1);
    let same = straight.parameters().tensors == resumed.parameters().tensors;
    println!("the same parameters, to the bit: {same}");
    let log = |folder: &TempDir| {
        let path = folder.path().join("log.jsonl");
        fs::read(&path).map_err(Error::io(&path))
    };
    println!("the same log, to the byte: {}", log(&whole)? == log(&broken)?);

    println!("\n== q22_checkpoint ==");
    print_checkpoint(&broken.path().join("checkpoint.safetensors"))
}
// ANCHOR_END: question_22

/// The logs that were saved, and what each of them shows.
const RUNS: [(&str, &str); 4] = [
    ("good", "A good run"),
    ("high", "A learning rate too high"),
    ("low", "A learning rate too low"),
    ("overfit", "Few words, seen often"),
];

/// A run that was saved: its settings and its log.
struct Run {
    config: RunConfig,
    epochs: Vec<EpochRecord>,
    validations: Vec<ValidationRecord>,
}

impl Run {
    /// Where the logs of this chapter's runs lie, and their settings.
    fn path(name: &str, ending: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures/ch08_runs");
        folder.join(format!("{name}.{ending}"))
    }

    // ANCHOR: read_run
    fn read(name: &str) -> Result<Self> {
        let config = RunConfig::read(&Self::path(name, "json"))?;
        let (mut epochs, mut validations) = (Vec::new(), Vec::new());
        for record in log::read(&Self::path(name, "jsonl"))? {
            match record {
                Record::Epoch(record) => epochs.push(record),
                Record::Validation(record) => validations.push(record),
            }
        }
        Ok(Self { config, epochs, validations })
    }
    // ANCHOR_END: read_run
}

/// The epochs of a long run that are printed.
const SHOWN_EPOCHS: [u64; 6] = [1, 2, 6, 12, 18, 24];

// ANCHOR: question_23
fn question_23() -> Result<()> {
    println!("\n== q23_log ==");
    let path = Run::path("good", "jsonl");
    let log = fs::read_to_string(&path).map_err(Error::io(&path))?;
    log.lines().take(5).for_each(|line| println!("{line}"));

    println!("\n== q23_runs ==");
    println!("          training  learning                  at the end        lowest");
    println!("run          words      rate  epochs  steps  training  validation  validation  at step");
    for (name, _) in RUNS {
        let Run { config, epochs, validations } = Run::read(name)?;
        let (Some(last), Some(best)) = (
            epochs.last(),
            validations
                .iter()
                .min_by(|a, b| a.validation_loss.total_cmp(&b.validation_loss)),
        ) else {
            return Err(Error::file(Run::path(name, "jsonl"), "has no epoch"));
        };
        println!(
            "{name:10} {:>7} {:>9} {:>7} {:>6} {:>9.4} {:>11.4} {:>11.4} {:>8}",
            config.data.words.map_or("all".into(), |words| words.to_string()),
            config.training.learning_rate,
            config.training.epochs,
            last.steps,
            last.train_loss,
            last.validation_loss,
            best.validation_loss,
            best.steps,
        );
    }

    println!("\n== q23_pronouncer ==");
    let card = shipped_card()?;
    println!("blocks {}, width {}", card.model.blocks, card.model.width);
    println!("parameters {}, dropout {}", card.parameters, card.training.dropout);
    println!("\nepoch  steps  training  validation");
    for epoch in card.epochs.iter().filter(|epoch| SHOWN_EPOCHS.contains(&epoch.epoch)) {
        let EpochRecord { epoch, steps, train_loss, validation_loss, .. } = epoch;
        println!("{epoch:>5} {steps:>6} {train_loss:>9.4} {validation_loss:>11.4}");
    }
    println!("\n{:.0} minutes", card.seconds / 60.0);

    println!("\n== q23_anew ==");
    counted_anew()
}
// ANCHOR_END: question_23

/// The run of the shipped model beside one whose positions were counted through. Of that one the card and what it said of
/// the validation words are kept, and not its weights.
fn counted_anew() -> Result<()> {
    let read = |weights: &str| -> Result<_> {
        let weights = models().join(weights);
        let card = Card::read(&weights)?;
        let said = evaluation::record::Record::read(&weights, &card)?.said;
        Ok((card, said))
    };
    let (through, said_through) = read("comparison/counted_through.safetensors")?;
    let (anew, said_anew) = read("pronouncer.safetensors")?;
    println!("what is written is counted   through      anew");
    for (through, anew) in through.epochs.iter().zip(&anew.epochs) {
        let epoch = anew.epoch;
        if SHOWN_EPOCHS.contains(&epoch) {
            let [through, anew] = [through, anew].map(|epoch| epoch.validation_loss);
            let name = format!("validation loss, epoch {epoch}");
            println!("{name:26} {through:>9.4} {anew:>9.4}");
        }
    }
    for (name, rate) in [
        ("words wrong", (|scores| scores.word_error_rate) as fn(&Scores) -> f64),
        ("phoneme error rate", |scores| scores.phoneme_error_rate),
    ] {
        let [through, anew] =
            [&through, &anew].map(|card| 100.0 * rate(&card.validation_scores));
        println!("{name:26} {through:>7.2} % {anew:>7.2} %");
    }

    if !said_through
        .iter()
        .map(|said| &said.word)
        .eq(said_anew.iter().map(|said| &said.word))
    {
        return Err(Error::input("records", "are of different words; make both again"));
    }
    let dictionary = Dictionary::embedded()?;
    let listed = said_anew.iter().filter_map(|said| dictionary.get(&said.word));
    let listed: Vec<_> = listed.map(|entry| entry.pronunciations.clone()).collect();
    let [through, anew] = [said_through, said_anew].map(|said| {
        said.into_iter().map(|said| said.greedy.phonemes).collect::<Vec<_>>()
    });
    let paired = Paired::of(&through, &anew, &listed)?;
    println!("\nword by word");
    println!("only counted through is right {:>5}", paired.only_first);
    println!("only counted anew is right    {:>5}", paired.only_second);
    println!("gained                        {:>5.2} %", 100.0 * paired.gained());
    println!("its standard error            {:>5.2} %", 100.0 * paired.standard_error());
    Ok(())
}

fn shipped_card() -> Result<Card> {
    Card::read(&models().join("pronouncer.safetensors"))
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn runs_figure() -> Result<Chart> {
    let panel = |(name, title): (&str, &str)| {
        let run = Run::read(name)?;
        let validations = run.validations.iter();
        let validations: Vec<_> = validations
            .map(|validation| (validation.steps, validation.validation_loss))
            .collect();
        let curves = loss_curves(title, &run.epochs, &validations);
        let y_axis = curves.y_axis.clone().with_include([0.0, 4.2]); // one scale for all
        Ok(Chart::Curves(Curves { y_axis, ..curves }))
    };
    Ok(Chart::Panels(Panels {
        title: "Four runs of the small model".into(),
        description: "Four charts of training and validation loss. In the good run both fall together and flatten out. With a \
                      learning rate too high both stay far above that. With one too low both come down smoothly and flatten \
                      out far above the good run. With few words the training loss falls lowest of all, while the validation loss turns and rises."
            .into(),
        columns: 2,
        panels: RUNS.into_iter().map(panel).collect::<Result<_>>()?,
    }))
}

fn shipped_figure() -> Result<Chart> {
    let card = shipped_card()?;
    let validations: Vec<_> =
        card.epochs.iter().map(|epoch| (epoch.steps, epoch.validation_loss)).collect();
    let (_, floor) = floor(card.training.label_smoothing)?;
    Ok(Chart::Curves(Curves {
        description: "Training and validation loss against the step. Both fall steeply at first and then more and more slowly, \
                      towards a dashed line, below which label smoothing lets no loss fall."
            .into(),
        references: vec![Reference { name: "lowest possible".into(), value: floor }],
        ..loss_curves("How the shipped model was trained", &card.epochs, &validations)
    }))
}

fn schedule_figure() -> Chart {
    let rate = |step: u64| (step as f64, SCHEDULE.learning_rate(step));
    let steps = (1..50).step_by(7).chain((50..=1000).step_by(10));
    Chart::Curves(Curves {
        title: "The learning rate of a run of 1000 steps".into(),
        description: "A curve that rises in a straight line from nearly 0 to 1 within 50 steps, stays near it for a while, falls \
                      steepest in the middle, and flattens out towards 0 at step 1000."
            .into(),
        x_axis: Axis::linear("step"),
        y_axis: Axis::linear("share of the highest learning rate").with_include([0.0, 1.0]),
        series: vec![Series::new("learning rate", steps.map(rate).collect())],
        references: Vec::new(),
    })
}

fn overfit_figure(batch: &Batch) -> Result<Chart> {
    let series = overfits(batch)?.into_iter().map(|run| {
        let points = (0..).map(f64::from).zip(run.losses);
        Series::new(run.name, points.step_by(2).collect())
    });
    Ok(Chart::Curves(Curves {
        title: "One batch, learned by heart".into(),
        description: "The loss over 100 steps, on a logarithmic scale. As it should be, it falls from ln 69 to nearly 0. With \
                      targets that are not shifted it falls faster and further. With gradients that are never zeroed it \
                      falls slowly and unevenly."
            .into(),
        x_axis: Axis::linear("step"),
        y_axis: Axis::log("loss (nats a target)"),
        series: series.collect(),
        references: vec![Reference { name: "ln 69".into(), value: 69f64.ln() }],
    }))
}
