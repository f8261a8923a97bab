//! Chapter 6, the position-wise feed-forward network: `cargo run --bin ch06_feed_forward`.

use std::path::PathBuf;

use clap::Parser;
use self_attention::prelude::*;
use self_attention::visualization::table::matrix;
use self_attention::visualization::{
    Axis, Chart, Curves, Heatmap, Panels, Reference, Series,
};
use self_attention::worked_example::{FEATURES, LETTERS, UNITS};
use tch::nn::OptimizerConfig;
use tch::Reduction;

/// Computes everything that chapter 6 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

fn main() -> Result<()> {
    tch::set_num_threads(1); // sums in the same order on every machine
    if let Some(folder) = Arguments::parse().figures {
        reach_figure()?.save(&folder, "ch06_reach")?;
        activation_figure()?.save(&folder, "ch06_activations")?;
        return training_figure(&trainings()?)?.save(&folder, "ch06_training");
    }
    question_14()?;
    question_15()?;
    question_16()
}

/// The non-linearities by name.
const ACTIVATIONS: [(&str, Activation); 3] =
    [("ReLU", Activation::Relu), ("GELU", Activation::Gelu), ("SiLU", Activation::Silu)];

// ANCHOR: question_14
fn question_14() -> Result<()> {
    println!("== q14_tough ==");
    let (network, letters) = (Tough::feed_forward()?, Tough::letters()?);
    let found = network.expand.forward(&letters)?; // [T = 5, F = 5]
    let hidden = network.activation.apply(&found)?; // [T, F]
    let given = network.contract.forward(&hidden)?; // [T, E = 4]
    println!("the letters, x");
    println!("{}", matrix(&LETTERS, &FEATURES, &letters, 0)?);
    println!("\nhow far each fits each unit, x·W₁ᵀ + b₁");
    println!("{}", matrix(&LETTERS, &UNITS, &found, 0)?);
    println!("\nhidden, with everything below zero cut off");
    println!("{}", matrix(&LETTERS, &UNITS, &hidden, 0)?);
    println!("\nwhat the network gives, hidden·W₂ᵀ + b₂");
    println!("{}", matrix(&LETTERS, &FEATURES, &given, 0)?);
    println!("\nthe letters with that added");
    println!("{}", matrix(&LETTERS, &FEATURES, &(letters + given), 0)?);

    println!("\n== q14_parameters ==");
    println!("     E      F  feed-forward    8E² + 5E       block  12E² + 13E   share");
    for width in [16, 160, 512, 768] {
        let [block, feed_forward] = count_parameters(width)?;
        println!(
            "{width:>6} {:>6} {feed_forward:>13} {:>11} {block:>11} {:>11}  {:.4}",
            4 * width,
            8 * width * width + 5 * width,
            12 * width * width + 13 * width,
            feed_forward as f64 / block as f64,
        );
    }
    let (model, share) = share_of_model()?;
    println!("the model of this book: {share} of {model}");

    println!("\n== q14_start ==");
    println!("                                    as PyTorch       tch's");
    println!("                                     nn.Linear  nn::linear");
    let [as_pytorch, as_tch] = [Start::PyTorch, Start::Tch].map(start);
    for ((name, pytorch), (_, tch)) in as_pytorch?.into_iter().zip(as_tch?) {
        println!("{name:34} {pytorch:>11.4} {tch:>11.4}");
    }

    println!("\n== q14_first_loss ==");
    println!("the last layer            deviation σ   ln V + σ²/2   first loss");
    println!("                        of the logits");
    for (name, deviation, loss) in first_losses()? {
        let expected = 69f64.ln() + deviation.powi(2) / 2.0;
        println!("{name:24} {deviation:>12.4} {expected:>13.4} {loss:>12.4}");
    }
    println!("ln V = {:.4}, V = 69", 69f64.ln());
    Ok(())
}
// ANCHOR_END: question_14

// ANCHOR: question_15
fn question_15() -> Result<()> {
    println!("\n== q15_perturbed ==");
    println!("the last letter of tough is blanked out: how far each output moves");
    let last = |reach: &Tensor| reach.narrow(1, 4, 1); // the column of h, [T, 1]
    let moved = [last(&reach(by_attention)?), last(&reach(by_feed_forward)?)];
    let columns = ["attention", "feed-forward"];
    println!("{}", matrix(&LETTERS, &columns, &Tensor::cat(&moved, 1), 4)?);

    println!("\n== q15_equal ==");
    tch::manual_seed(15);
    let mut store = nn::VarStore::new(Device::Cpu);
    let network = FeedForwardConfig::new(8).init(&store.root())?;
    store.double();
    let x = Tensor::randn([3, 7, 8], (Kind::Double, Device::Cpu)); // [B, T, E]
    let at_once = network.forward(&x)?;
    println!("a batch of 3 sequences of 7 positions, E = 8, F = 32, in 64 bits");
    for (way, products, result) in [
        ("a loop over the positions", 2 * 3 * 7, one_at_a_time(&network, &x)?),
        ("two convolutions of kernel 1", 2, as_convolution(&network, &x)?),
    ] {
        let difference = (&at_once - result).abs().max().double_value(&[]);
        let same = difference < 1e-12;
        println!("{way}: {products} products, the same result: {same}");
    }
    Ok(())
}
// ANCHOR_END: question_15

// ANCHOR: question_16
fn question_16() -> Result<()> {
    println!("\n== q16_activations ==");
    println!("     x     ReLU   slope     GELU   slope     SiLU   slope");
    let x = grid(3, 1)?; // −3, −2, …, 3
    let [relu, gelu, silu] = ACTIVATIONS.map(|(_, phi)| with_slope(phi, &x));
    let columns = [relu?, gelu?, silu?];
    for row in 0..x.size()[0] {
        print!("{:>6.1}", x.double_value(&[row]));
        for [value, slope] in &columns {
            let [value, slope] = [value, slope].map(|y| y.double_value(&[row]));
            print!(" {value:>8.4} {slope:>7.4}");
        }
        println!();
    }
    println!("\n        lowest value    at x   largest slope    at x");
    let fine = grid(6, 1000)?;
    for (name, activation) in ACTIVATIONS {
        let [values, slopes] = with_slope(activation, &fine)?;
        let at = |place: Tensor| fine.double_value(&[place.int64_value(&[])]);
        let lowest = (at(values.argmin(0, false)), values.min().double_value(&[]));
        let steepest = (at(slopes.argmax(0, false)), slopes.max().double_value(&[]));
        match activation {
            Activation::Relu => {
                println!("ReLU  {:>14.4}       – {:>15.4}       –", lowest.1, steepest.1)
            }
            _ => println!(
                "{name}  {:>14.4} {:>7.2} {:>15.4} {:>7.2}",
                lowest.1, lowest.0, steepest.1, steepest.0
            ),
        }
    }
    let difference = (fine.f_gelu("none")? - fine.f_gelu("tanh")?).abs().max();
    println!("\nGELU and its tanh approximation differ by at most {:.4}", {
        difference.double_value(&[])
    });

    println!("\n== q16_fold ==");
    let (network, letters) = (Tough::feed_forward()?, Tough::letters()?);
    let folded = fold(&network.expand, &network.contract)?;
    println!("the network of tough without ReLU as one layer: W₂·W₁");
    println!("{}", matrix(&FEATURES, &FEATURES, &folded.weight, 0)?);
    if let Some(bias) = &folded.bias {
        println!("\nand W₂·b₁ + b₂");
        println!("{}", matrix(&[""; 1], &FEATURES, &bias.unsqueeze(0), 0)?);
    }
    println!("\nwhat it gives, in place of what the network gives");
    println!("{}", matrix(&LETTERS, &FEATURES, &folded.forward(&letters)?, 0)?);
    let two = without_activation(&network, &letters)?;
    println!("\nto the last bit what two layers give: {}", {
        two == folded.forward(&letters)?
    });

    println!("\n== q16_and ==");
    println!("is it a soft consonant?");
    let wanted = Tensor::from_slice(&[0.0, 0.0, 0.0, 1.0, 0.0]).unsqueeze(1); // [T, 1]
    let layer = network.expand.forward(&letters)?.narrow(1, 3, 1); // [T, 1]
    let columns = [&wanted, &layer, &best_linear(&letters, &wanted)?, &layer.relu()];
    let names = ["wanted", "x·w + b", "best linear", "ReLU(x·w + b)"];
    let table = (Tensor::cat(&columns, 1) * 100.0).round() / 100.0; // no −0.00
    println!("{}", matrix(&LETTERS, &names, &table, 2)?);

    println!("\n== q16_training ==");
    println!("mean squared error after      0     25     50    100    200 steps");
    for (name, losses) in trainings()? {
        print!("{name:24}");
        [0, 25, 50, 100, 200].iter().for_each(|&step| print!(" {:.4}", losses[step]));
        println!();
    }
    println!("best linear layer        {:.4}", linear_floor()?);
    Ok(())
}
// ANCHOR_END: question_16

/// The parameters of a block, counted: all of them, and those of its feed-forward network.
fn count_parameters(width: i64) -> Result<[i64; 2]> {
    let store = nn::VarStore::new(Device::Cpu);
    let _block = BlockConfig::new(width, 4).init(&store.root())?;
    let count = |wanted: fn(&str) -> bool| {
        let variables = store.variables().into_iter();
        variables.filter(|(name, _)| wanted(name)).map(|(_, x)| x.numel() as i64).sum()
    };
    Ok([count(|_| true), count(|name| name.starts_with("linear"))])
}

/// The parameters of the book's model, and which share of them is in feed-forward networks.
fn share_of_model() -> Result<(i64, String)> {
    let config = TransformerConfig::new(69);
    let store = nn::VarStore::new(Device::Cpu);
    config.init(&store.root())?;
    let all: i64 = store.variables().values().map(|x| x.numel() as i64).sum();
    let [_, feed_forward] = count_parameters(config.width)?;
    let share = config.blocks * feed_forward;
    Ok((all, format!("{share} ({:.1} %)", 100.0 * share as f64 / all as f64)))
}

/// Who draws a layer's first weights.
#[derive(Clone, Copy)]
enum Start {
    PyTorch,
    Tch,
}

impl Start {
    /// A layer that starts this way.
    fn linear(self, path: &nn::Path, inputs: i64, outputs: i64) -> Result<Linear> {
        match self {
            Self::PyTorch => Linear::new(path, inputs, outputs),
            Self::Tch => {
                let layer = nn::linear(path, inputs, outputs, Default::default());
                Ok(Linear { weight: layer.ws, bias: layer.bs })
            }
        }
    }
}

/// What the first weights of a network of `E = 128` are, and what they make of numbers of mean 0 and variance 1.
fn start(start: Start) -> Result<Vec<(&'static str, f64)>> {
    let (width, hidden) = (128, 512);
    tch::manual_seed(14);
    let mut store = nn::VarStore::new(Device::Cpu);
    let network = FeedForward {
        expand: start.linear(&(store.root() / "linear1"), width, hidden)?,
        activation: Activation::Gelu,
        contract: start.linear(&(store.root() / "linear2"), hidden, width)?,
    };
    store.double();
    let x = Tensor::randn([1280, width], (Kind::Double, Device::Cpu)); // [B·T, E]
    let found = network.expand.forward(&x)?;
    let given = network.forward(&x)?;
    let root = (width as f64).sqrt();
    let largest = |x: &Tensor| x.abs().max().double_value(&[]);
    let Linear { weight, bias } = &network.expand;
    Ok(vec![
        ("layer 1: largest weight, times √E", root * largest(weight)),
        ("layer 1: largest bias, times √E", root * bias.as_ref().map_or(0.0, largest)),
        ("deviation of the weights, times √E", root * deviation(weight)),
        ("deviation of the input", deviation(&x)),
        ("after layer 1", deviation(&found)),
        ("after GELU", deviation(&network.activation.apply(&found)?)),
        ("after layer 2", deviation(&given)),
        ("of the input with that added", deviation(&(x + given))),
    ])
}

/// The standard deviation of all numbers.
fn deviation(x: &Tensor) -> f64 {
    x.std(true).double_value(&[])
}

/// What an untrained model of the book's size says of random text, by the layer that makes its logits.
fn first_losses() -> Result<[(&'static str, f64, f64); 3]> {
    tch::manual_seed(69);
    let mut store = nn::VarStore::new(Device::Cpu);
    let path = store.root();
    let model = TransformerConfig::new(69).init(&path)?;
    let pytorchs = Start::PyTorch.linear(&(&path / "pytorch"), model.config.width, 69)?;
    let tchs = Start::Tch.linear(&(&path / "tch"), model.config.width, 69)?;
    let embedding = Linear { weight: model.embedding.shallow_clone(), bias: None };
    store.double();

    let [tokens, next] =
        [0, 1].map(|_| Tensor::randint(69, [64, 20], (Kind::Int64, Device::Cpu)));
    let mut x = model.embed(&tokens)?; // [B, T, E]
    for block in &model.blocks {
        x = block.forward(&x, None, &Dropout::off())?.context; // [B, T, E]
    }
    if let Some(norm) = &model.norm {
        x = norm.forward(&x)?; // [B, T, E]
    }
    let score = |name, layer: &Linear| -> Result<_> {
        let logits = layer.forward(&x)?.flatten(0, 1); // [B·T, V]
        let loss = logits.cross_entropy_for_logits(&next.flatten(0, 1));
        Ok((name, deviation(&logits), loss.double_value(&[])))
    };
    Ok([
        score("the embedding, as here", &embedding)?,
        score("as PyTorch's nn.Linear", &pytorchs)?,
        score("tch's nn::linear", &tchs)?,
    ])
}

/// What comes out of *tough* if the letters marked 0 in `kept`, `[T, 1]`, are blanked out.
type Layer = fn(kept: &Tensor) -> Result<Tensor>;

fn by_attention(kept: &Tensor) -> Result<Tensor> {
    let Tough { query, key, value } = Tough::new()?;
    // The projections have no bias, so a blank letter has a blank query, key and value.
    let [query, key, value] = [query, key, value].map(|x| x * kept);
    Ok(scaled_dot_product_attention(&query, &key, &value, None, &Dropout::off())?.context)
}

fn by_feed_forward(kept: &Tensor) -> Result<Tensor> {
    Tough::feed_forward()?.forward(&(Tough::letters()? * kept))
}

/// How far the output of each letter moves, in the number that moves most, when one letter is blanked out: a row for
/// each output, a column for each letter, `[T, T]`.
fn reach(layer: Layer) -> Result<Tensor> {
    let all = Tensor::ones([5, 1], (Kind::Double, Device::Cpu)); // [T, 1]
    let before = layer(&all)?; // [T, E]
    let columns = (0..5)
        .map(|blank| {
            let kept = all.copy();
            let _ = kept.narrow(0, blank, 1).fill_(0.0);
            Ok((layer(&kept)? - &before).abs().amax([1], true)) // [T, 1]
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&columns, 1))
}

/// The same network, a position at a time.
// ANCHOR: one_at_a_time
fn one_at_a_time(network: &FeedForward, x: &Tensor) -> Result<Tensor> {
    let size = x.size(); // [B, T, E]
    let positions = x.f_reshape([-1, size[2]])?; // [B·T, E]
    let results = (0..positions.size()[0])
        .map(|place| network.forward(&positions.f_get(place)?)) // [E]
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_stack(&results, 0)?.f_reshape(size)?) // [B, T, E]
}
// ANCHOR_END: one_at_a_time

/// The same network as two convolutions that see one position each.
// ANCHOR: as_convolution
fn as_convolution(network: &FeedForward, x: &Tensor) -> Result<Tensor> {
    let convolve = |layer: &Linear, x: &Tensor| {
        let kernel = layer.weight.f_unsqueeze(2)?; // [out, in, 1]
        x.f_conv1d(&kernel, layer.bias.as_ref(), 1, 0, 1, 1)
    };
    let x = x.f_transpose(1, 2)?; // [B, E, T]
    let hidden = convolve(&network.expand, &x)?; // [B, F, T]
    let hidden = network.activation.apply(&hidden)?; // [B, F, T]
    let y = convolve(&network.contract, &hidden)?; // [B, E, T]
    Ok(y.f_transpose(1, 2)?) // [B, T, E]
}
// ANCHOR_END: as_convolution

/// From `−end` to `end` in steps of `1/parts`. In the middle stands 0 itself, where the slope of ReLU jumps.
fn grid(end: i64, parts: i64) -> Result<Tensor> {
    let double = (Kind::Double, Device::Cpu);
    let steps = Tensor::f_arange_start(-end * parts, end * parts + 1, double)?; // [N]
    Ok(steps.f_div_scalar(parts as f64)?)
}

/// An activation and its derivative at each point, the derivative by libtorch's automatic differentiation.
// ANCHOR: with_slope
fn with_slope(phi: Activation, x: &Tensor) -> Result<[Tensor; 2]> {
    let x = x.copy().set_requires_grad(true); // [N]
    let y = phi.apply(&x)?; // [N]
    y.f_sum(Kind::Double)?.f_backward()?; // ∂(Σ y)/∂x_i: the slope at x_i
    Ok([y.detach(), x.grad()])
}
// ANCHOR_END: with_slope

/// Two linear layers with nothing between them.
fn without_activation(network: &FeedForward, x: &Tensor) -> Result<Tensor> {
    network.contract.forward(&network.expand.forward(x)?) // [B, T, E]
}

/// The one layer that two layers are if there is nothing between them.
// ANCHOR: fold
fn fold(first: &Linear, second: &Linear) -> Result<Linear> {
    let weight = second.weight.f_matmul(&first.weight)?; // [E, E]
    let bias = match &first.bias {
        Some(bias) => Some(second.forward(bias)?), // W₂·b₁ + b₂, [E]
        None => second.bias.as_ref().map(Tensor::shallow_clone),
    };
    Ok(Linear { weight, bias })
}
// ANCHOR_END: fold

/// What the linear layer that comes closest to `wanted` gives.
fn best_linear(x: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let one = x.f_narrow(1, 0, 1)?.f_ones_like()?; // the bias
    let x = Tensor::f_cat(&[x, &one], 1)?; // [T, E + 1]
    let weight = x.f_pinverse(1e-9)?.f_matmul(wanted)?; // least squares
    Ok(x.f_matmul(&weight)?)
}

/// How close a linear layer can come to the network of *tough*: the mean squared error.
fn linear_floor() -> Result<f64> {
    let letters = Tough::letters()?;
    let wanted = Tough::feed_forward()?.forward(&letters)?;
    let best = best_linear(&letters, &wanted)?;
    Ok(best.mse_loss(&wanted, Reduction::Mean).double_value(&[]))
}

/// Teaches new networks what the one made by hand gives: the loss before each step and after the last.
fn trainings() -> Result<Vec<(&'static str, Vec<f64>)>> {
    let x = Tough::letters()?; // [T = 5, E = 4]
    let wanted = Tough::feed_forward()?.forward(&x)?; // [T, E]
    let mut trainings = ACTIVATIONS.map(|(name, kind)| (name, Some(kind))).to_vec();
    trainings.push(("none", None));
    let train = |(name, activation): (&'static str, Option<Activation>)| {
        tch::manual_seed(16);
        let mut store = nn::VarStore::new(Device::Cpu);
        let config = FeedForwardConfig::new(4); // F = 16
        let config = config.with_activation(activation.unwrap_or(Activation::Relu));
        let network = config.init(&store.root())?;
        store.double();
        let mut optimizer = nn::Adam::default().build(&store, 1e-2)?;
        let mut losses = Vec::new();
        for _ in 0..=200 {
            let y = match activation {
                Some(_) => network.forward(&x)?,
                None => without_activation(&network, &x)?,
            };
            let loss = y.f_mse_loss(&wanted, Reduction::Mean)?;
            optimizer.backward_step(&loss);
            losses.push(loss.double_value(&[]));
        }
        Ok((name, losses))
    };
    trainings.into_iter().map(train).collect()
}

fn reach_figure() -> Result<Chart> {
    let letters = LETTERS.map(String::from).to_vec();
    let panel = |title: &str, description: &str, layer: Layer| -> Result<Chart> {
        Ok(Chart::Heatmap(Heatmap {
            title: title.into(),
            description: description.into(),
            row_axis: "output that moves".into(),
            column_axis: "letter blanked out".into(),
            rows: letters.clone(),
            columns: letters.clone(),
            min: 0.0,
            max: 1.0,
            show_values: true,
            values: Vec::try_from(&reach(layer)?)?,
        }))
    };
    Ok(Chart::Panels(Panels {
        title: "Which outputs move when a letter of tough is blanked out".into(),
        description: "Two tables of five outputs by five letters. In attention every letter moves every output; h moves those \
                      of t, u, g and h most, and o moves most by itself. In the feed-forward network each letter moves its own output by 1 and no other."
            .into(),
        columns: 2,
        panels: vec![
            panel("Attention", "Every cell is above zero.", by_attention)?,
            panel("Feed-forward network", "Ones on the diagonal, else zeros.", by_feed_forward)?,
        ],
    }))
}

fn activation_figure() -> Result<Chart> {
    let x = grid(5, 20)?;
    let places = Vec::<f64>::try_from(&x)?;
    let [mut values, mut slopes] = [Vec::new(), Vec::new()];
    for (name, activation) in ACTIVATIONS {
        let [value, slope] = with_slope(activation, &x)?;
        let points = |y: Tensor| -> Result<Vec<(f64, f64)>> {
            Ok(places.iter().copied().zip(Vec::<f64>::try_from(y)?).collect())
        };
        values.push(Series::new(name, points(value)?));
        slopes.push(Series::new(name, points(slope)?));
    }
    let panel = |title: &str, description: &str, label: &str, series| {
        Chart::Curves(Curves {
            title: title.into(),
            description: description.into(),
            x_axis: Axis::linear("x"),
            y_axis: Axis::linear(label),
            series,
            references: Vec::new(),
        })
    };
    Ok(Chart::Panels(Panels {
        title: "Three non-linearities and their derivatives".into(),
        description: "Two charts over x from −5 to 5. Left, the functions: ReLU is zero to the left of 0 and x to the right; GELU \
                      and SiLU are smooth and dip below zero on the left. Right, their derivatives: ReLU's jumps from 0 to 1, \
                      the other two rise smoothly, from below 0 to above 1 and back to 1."
            .into(),
        columns: 2,
        panels: vec![
            panel("The function", "Values.", "activation(x)", values),
            panel("Its derivative", "Slopes.", "d activation / dx", slopes),
        ],
    }))
}

fn training_figure(trainings: &[(&'static str, Vec<f64>)]) -> Result<Chart> {
    let series = trainings.iter().map(|(name, losses)| {
        let points = losses.iter().enumerate().step_by(5);
        let line =
            Series::new(*name, points.map(|(step, &loss)| (step as f64, loss)).collect());
        if *name == "none" {
            line.with_dashes()
        } else {
            line
        }
    });
    Ok(Chart::Curves(Curves {
        title: "Learning what the network of tough gives".into(),
        description: "The mean squared error over 200 steps. With ReLU, GELU or SiLU it falls towards zero. Without a \
                      non-linearity it stays at that of the best linear layer."
            .into(),
        x_axis: Axis::linear("step"),
        y_axis: Axis::linear("mean squared error").with_include([0.0]),
        series: series.collect(),
        references: vec![Reference { name: "best linear layer".into(), value: linear_floor()? }],
    }))
}
