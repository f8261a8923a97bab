//! Chapter 7, the transformer block and the stack of blocks: `cargo run --bin ch07_block`.

use std::path::{Path, PathBuf};

use clap::Parser;
use self_attention::data::vocabulary::{Vocabulary, SEP};
use self_attention::prelude::*;
use self_attention::training::checkpoint::Checkpoint;
use self_attention::visualization::table::matrix;
use self_attention::visualization::{
    Arrow, Axis, Chart, Curves, Diagram, Heatmap, Node, Panels, Series,
};
use self_attention::worked_example::{EMBEDDINGS, FEATURES, LETTERS};
use tch::no_grad;

/// Computes everything that chapter 7 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

/// The model that is shipped.
const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/pronouncer.safetensors");

/// What the model reads of *tough*, in two parts: what is given, and what is written after it.
const TOUGH: [&str; 9] = ["t", "o", "u", "g", "h", "<sep>", "T", "AH", "F"];
const GIVEN: i64 = 6;

fn main() -> Result<()> {
    tch::set_num_threads(1); // sums in the same order on every machine
    if let Some(folder) = Arguments::parse().figures {
        norms_figure().save(&folder, "ch07_norms")?;
        gradient_figure()?.save(&folder, "ch07_gradients")?;
        sinusoid_figure()?.save(&folder, "ch07_sinusoids")?;
        let shipped = Checkpoint::read(Path::new(SHIPPED))?;
        position_figure(&shipped)?.save(&folder, "ch07_positions")?;
        return embedding_figure(&shipped)?.save(&folder, "ch07_embeddings");
    }
    question_17()?;
    question_18()?;
    question_19()
}

/// The letters of *tough* and what attention brings each of them: `x` and `attention(x)`, `[T = 5, E = 4]` each.
fn tough() -> Result<(Tensor, Tensor)> {
    let Tough { query, key, value } = Tough::new()?;
    let attended =
        scaled_dot_product_attention(&query, &key, &value, None, &Dropout::off())?;
    Ok((Tensor::from_slice2(&EMBEDDINGS), attended.context))
}

/// A layer norm with weight 1 and bias 0, as each is before training.
fn fresh_norm(width: i64, kind: Kind) -> LayerNorm {
    let options = (kind, Device::Cpu);
    LayerNorm {
        weight: Tensor::ones([width], options),
        bias: Tensor::zeros([width], options),
    }
}

fn question_17() -> Result<()> {
    println!("== q17_norm ==");
    let norm = fresh_norm(4, Kind::Double);
    let (x, attended) = tough()?; // [T = 5, E = 4]
    println!("the letters");
    println!("{}", matrix(&LETTERS, &FEATURES, &x, 0)?);
    println!("\neach row brought to mean 0 and variance 1");
    println!("{}", matrix(&LETTERS, &FEATURES, &norm.forward(&x)?, 4)?);

    println!("\n== q17_residual ==");
    let sum = &x + &attended; // [T, E]
    let steps = [&x, &attended, &sum, &norm.forward(&sum)?].map(|step| step.get(3));
    let names = ["x", "attention(x)", "x + attention(x)", "norm(x + attention(x))"];
    println!("the row of g");
    println!("{}", matrix(&names, &FEATURES, &Tensor::stack(&steps, 0), 4)?);

    let without_residual = without_residual(DEEPEST)?;
    let pre = Stack::measure(NormPlacement::Pre, DEEPEST)?;
    let post = Stack::measure(NormPlacement::Post, DEEPEST)?;
    let after = [0, 1, 2, 3, 4, 8, 16, 24];
    let table = |columns: &[&[f64]]| {
        let column = |numbers: &&[f64]| Tensor::from_slice(&after.map(|n| numbers[n]));
        Tensor::stack(&columns.iter().map(column).collect::<Vec<_>>(), 1)
    };
    println!("\n== q17_depth ==");
    println!("after so many blocks, how far the positions of a sequence differ");
    let rows = after.map(|block| block.to_string());
    let rows = rows.each_ref().map(String::as_str);
    let differences = table(&[&without_residual, &pre.difference, &post.difference]);
    let columns = ["no residual", "pre-norm", "post-norm"];
    println!("{}", matrix(&rows, &columns, &differences, 4)?);
    println!("\nand how large their numbers are");
    let sizes = table(&[&pre.size, &post.size]);
    println!("{}", matrix(&rows, &columns[1..], &sizes, 4)?);
    Ok(())
}

fn question_18() -> Result<()> {
    println!("\n== q18_halves ==");
    halves()?;
    tch::manual_seed(7);
    let store = nn::VarStore::new(Device::Cpu);
    let block = BlockConfig::new(160, 4).init(&store.root())?;
    let x = Tensor::randn([1, 9, 160], (Kind::Float, Device::Cpu)); // [B, T, E]
    let mask = Mask::prefix(&Tensor::from_slice(&[GIVEN]), 9)?; // [B, 1, T, T]
    println!("\n== q18_shapes ==");
    shapes(&block, &x, &mask)?;
    println!("\n== q18_dropout ==");
    modes(&block, &x, &mask)
}

/// One unit of a feed-forward network on the letters, before and after attention.
fn halves() -> Result<()> {
    let (x, attended) = tough()?; // [T = 5, E = 4]
    let f = Linear {
        weight: Tensor::from_slice2(&[[0.0, 1.0, 1.0, 1.0]]), // consonant, soft, breath
        bias: Some(Tensor::from_slice(&[-3.0])),
    };
    let columns = [&x, &(&x + &attended)]
        .map(|x| Activation::Relu.apply(&f.forward(x)?))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    println!("max(0, consonant + soft + breath − 3)");
    let names = ["before attention", "after attention"];
    println!("{}", matrix(&LETTERS, &names, &Tensor::cat(&columns, 1), 4)?);
    Ok(())
}

/// The forward pass of a pre-norm block, one step at a time.
fn shapes(block: &Block, x: &Tensor, mask: &Mask) -> Result<()> {
    let line = |name: &str, letters: &str, tensor: &Tensor| {
        println!("{name:<28}{letters:<16}{:?}", tensor.size());
    };
    line("x", "[B, T, E]", x);
    line("mask", "[B, 1, T, T]", mask.allowed());
    let normed = block.attention_norm.forward(x)?;
    line("norm(x)", "[B, T, E]", &normed);
    let [query, key, value] =
        block.attention.split_heads(&block.attention.input.forward(&normed)?)?;
    line("queries, keys and values", "[B, H, T, D]", &query);
    let off = Dropout::off();
    let heads = scaled_dot_product_attention(&query, &key, &value, Some(mask), &off)?;
    line("weights", "[B, H, T, T]", &heads.weights);
    line("what each head found", "[B, H, T, D]", &heads.context);
    let attended = block.attention.forward(&normed, Some(mask), &off)?;
    line("attention(norm(x))", "[B, T, E]", &attended.context);
    let sum = x + attended.context;
    line("the sum", "[B, T, E]", &sum);
    let normed = block.feed_forward_norm.forward(&sum)?;
    let hidden = block.feed_forward.expand.forward(&normed)?;
    line("inside the feed-forward", "[B, T, F]", &hidden);
    let digested = block.feed_forward.forward(&normed)?;
    line("feed_forward(norm(sum))", "[B, T, E]", &digested);
    let out = sum + digested;
    line("the block's output", "[B, T, E]", &out);
    let same = block.forward(x, Some(mask), &off)?.context == out;
    println!("\nthe same numbers as from block.forward: {same}");
    Ok(())
}

/// What dropout does to a block's output, and that it does nothing to the weights that are handed out.
fn modes(block: &Block, x: &Tensor, mask: &Mask) -> Result<()> {
    let pass = |dropout: Result<Dropout>| block.forward(x, Some(mask), &dropout?);
    let training = |seed| pass(Dropout::new(0.1, seed));
    let evaluation = || pass(Ok(Dropout::off()));
    let same = |a: Attended, b: Attended| a.context == b.context;
    println!("the same output twice");
    println!("  in evaluation: {}", same(evaluation()?, evaluation()?));
    println!("  in training, seeds 1 and 1: {}", same(training(1)?, training(1)?));
    println!("  in training, seeds 1 and 2: {}", same(training(1)?, training(2)?));
    let weights = training(1)?.weights; // [B, H, T, T]
    let dropped = Dropout::new(0.1, 1)?.apply(&weights)?;
    println!("sums of the rows of attention weights in training");
    for (name, weights) in [("as handed out", weights), ("after dropout", dropped)] {
        let sums = weights.sum_dim_intlist(-1, false, Kind::Double); // [B, H, T]
        let [least, most] = [sums.min(), sums.max()].map(|sum| sum.double_value(&[]));
        println!("  {name}: {least:.4} to {most:.4}");
    }
    Ok(())
}

fn question_19() -> Result<()> {
    println!("\n== q19_positions ==");
    let names = TOUGH.iter().enumerate().map(|(t, token)| format!("{t} {token}"));
    let names: Vec<String> = names.collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let numbers = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let table = sinusoids(9, 8, Device::Cpu)?; // [T = 9, E = 8]
    println!("{}", matrix(&names, &numbers, &table, 4)?);

    println!("\n== q19_places ==");
    let store = nn::VarStore::new(Device::Cpu);
    let config = TransformerConfig::new(69).with_width(8).with_blocks(1);
    let model = config.with_separator(SEP).init(&store.root())?;
    let vocabulary = Vocabulary::new();
    for (word, phonemes) in [("go", vec!["G", "OW"]), ("through", vec!["TH", "R", "UW"])]
    {
        let phonemes: Vec<Phoneme> =
            phonemes.iter().map(|name| name.parse()).collect::<Result<_>>()?;
        let tokens = Example::new(&vocabulary, word, &phonemes)?.tokens;
        let read = &tokens[..tokens.len() - 1]; // <eos> is only ever a target
        let places = model.places(&Tensor::from_slice(read).unsqueeze(0))?;
        let places = Vec::<i64>::try_from(places.get(0))?;
        let stand = |(token, place): (&i64, i64)| {
            Ok(format!("{} {place}", vocabulary.symbol(*token)?))
        };
        let stand = read.iter().zip(places).map(stand);
        println!("{}", stand.collect::<Result<Vec<_>>>()?.join("  "));
    }

    println!("\n== q19_parameters ==");
    parameters(&Checkpoint::read(Path::new(SHIPPED))?)?;

    println!("\n== q19_leak ==");
    tch::manual_seed(7);
    let store = nn::VarStore::new(Device::Cpu);
    let model = TransformerConfig::new(69).with_width(32).init(&store.root())?;
    let mask = Mask::prefix(&Tensor::from_slice(&[GIVEN]), 9)?;
    for (name, mask, rate) in [
        ("prefix mask, evaluation", Some(&mask), 0.0),
        ("prefix mask, training with dropout 0.1", Some(&mask), 0.1),
        ("no mask, evaluation", None, 0.0),
    ] {
        println!("{name}");
        println!("{}\n", influence(&model, mask, rate)?);
    }
    Ok(())
}

/// Who notices it when a token is replaced by another: a row for each position, a column for each token replaced.
fn influence(model: &Transformer, mask: Option<&Mask>, rate: f64) -> Result<String> {
    let vocabulary = Vocabulary::new();
    let ids = |symbol: &&str| vocabulary.symbols().iter().position(|s| s == symbol);
    let ids: Vec<i64> = TOUGH.iter().filter_map(ids).map(|id| id as i64).collect();
    let read = |ids: &[i64]| {
        let tokens = Tensor::from_slice(ids).unsqueeze(0); // [B = 1, T]
        let dropout = Dropout::new(rate, 1)?; // forgets the same numbers each time
        no_grad(|| model.forward(&tokens, mask, &dropout))
    };
    let before = read(&ids)?.logits; // [B, T, V]
    let mut columns = Vec::new();
    for place in 0..ids.len() {
        let mut other = ids.clone();
        other[place] += 1;
        let changed = read(&other)?.logits.not_equal_tensor(&before); // [B, T, V]
        columns.push(Vec::<bool>::try_from(changed.any_dim(-1, false).view([-1]))?);
    }
    let header: String = TOUGH.iter().map(|token| format!("{token:>6}")).collect();
    let rows = TOUGH.iter().enumerate().map(|(row, token)| {
        let marks = columns.iter().map(|column| if column[row] { 'x' } else { '.' });
        let marks: String = marks.map(|mark| format!("{mark:>6}")).collect();
        format!("\n{token:<5}{marks}")
    });
    Ok(format!("     {header}{}", rows.collect::<String>()))
}

/// Prints what the shipped model's parameters are, and that they add up.
fn parameters(shipped: &Checkpoint) -> Result<()> {
    const BLOCK: [(&str, &str); 12] = [
        ("norm1.weight", "[E]"),
        ("norm1.bias", "[E]"),
        ("self_attn.in_proj_weight", "[3E, E]"),
        ("self_attn.in_proj_bias", "[3E]"),
        ("self_attn.out_proj.weight", "[E, E]"),
        ("self_attn.out_proj.bias", "[E]"),
        ("norm2.weight", "[E]"),
        ("norm2.bias", "[E]"),
        ("linear1.weight", "[F, E]"),
        ("linear1.bias", "[F]"),
        ("linear2.weight", "[E, F]"),
        ("linear2.bias", "[E]"),
    ];
    let total = |name: &str, numbers| println!("{name:<50}{:>9}", grouped(numbers));
    let sum = |parts: &[(&str, &str)], path: &str| {
        parts.iter().fold(0, |sum, (name, letters)| {
            let tensor = &shipped.tensors[&format!("{path}{name}")];
            let shape = format!("{:?}", tensor.size());
            total(&format!("{name:<28}{letters:<10}{shape}"), tensor.numel());
            sum + tensor.numel()
        })
    };
    let config = TransformerConfig::new(Vocabulary::new().len() as i64);
    let tables = sum(&[("embedding", "[V, E]"), ("positions", "[P, E]")], "");
    println!();
    let block = sum(&BLOCK, "layers.0.");
    let blocks = block * config.blocks as usize;
    total("one block", block);
    total(&format!("{} blocks", config.blocks), blocks);
    println!();
    let norm = sum(&[("norm.weight", "[E]"), ("norm.bias", "[E]")], "");
    println!();
    total("both tables, the blocks and the last norm", tables + blocks + norm);
    let store = nn::VarStore::new(Device::Cpu);
    config.init(&store.root())?;
    total("a new model", store.variables().values().map(Tensor::numel).sum());
    total("the shipped model", shipped.tensors.values().map(Tensor::numel).sum());
    Ok(())
}

/// A number with a comma between its thousands.
fn grouped(number: usize) -> String {
    match number {
        0..=999 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// What one stack does.
struct Stack {
    /// The size of the numbers of `x` before the first block and after each: their root mean square.
    size: Vec<f64>,
    /// How far the positions of a sequence differ, before the first block and after each.
    difference: Vec<f64>,
    /// The norm of the gradient of each block's weight matrices, together.
    gradient: Vec<f64>,
}

/// How many blocks the stacks have.
const DEPTHS: [i64; 5] = [2, 4, 8, 16, DEEPEST];
const DEEPEST: i64 = 24;

/// Each number is the mean over stacks from so many seeds.
const SEEDS: i64 = 5;

/// A stack of blocks 32 wide with four heads, and a batch of random input for it, `[B = 8, T = 10, E = 32]`.
fn random_stack(
    norm: NormPlacement,
    depth: i64,
    seed: i64,
) -> Result<(Vec<Block>, Tensor)> {
    tch::manual_seed(seed);
    let store = nn::VarStore::new(Device::Cpu);
    let config = BlockConfig::new(32, 4).with_norm(norm);
    let blocks = (0..depth).map(|index| config.init(&(store.root() / index)));
    let blocks = blocks.collect::<Result<_>>()?;
    Ok((blocks, Tensor::randn([8, 10, 32], (Kind::Float, Device::Cpu))))
}

impl Stack {
    fn measure(norm: NormPlacement, depth: i64) -> Result<Self> {
        let seeds = (0..SEEDS).map(|seed| {
            let (blocks, mut x) = random_stack(norm, depth, seed)?; // x: [B, T, E]
            let target = x.randn_like(); // [B, T, E]
            let mut size = vec![root_mean_square(&x)];
            let mut difference = vec![difference_of_positions(&x)];
            for block in &blocks {
                x = block.forward(&x, None, &Dropout::off())?.context; // [B, T, E]
                size.push(root_mean_square(&x));
                difference.push(difference_of_positions(&x));
            }
            if norm == NormPlacement::Pre {
                x = fresh_norm(32, Kind::Float).forward(&x)?; // [B, T, E]
            }
            (x - target).square().mean(Kind::Float).backward();
            let gradient = blocks.iter().map(gradient_norm).collect();
            Ok(Self { size, difference, gradient })
        });
        let seeds = seeds.collect::<Result<Vec<Self>>>()?;
        Ok(Self {
            size: mean(seeds.iter().map(|stack| &stack.size)),
            difference: mean(seeds.iter().map(|stack| &stack.difference)),
            gradient: mean(seeds.iter().map(|stack| &stack.gradient)),
        })
    }
}

/// How far positions differ after each block if nothing is added up: the output of each sub-layer replaces its input.
fn without_residual(depth: i64) -> Result<Vec<f64>> {
    let seeds = (0..SEEDS).map(|seed| {
        let (blocks, mut x) = random_stack(NormPlacement::Pre, depth, seed)?;
        let mut difference = vec![difference_of_positions(&x)];
        for block in &blocks {
            let normed = block.attention_norm.forward(&x)?;
            x = block.attention.forward(&normed, None, &Dropout::off())?.context;
            x = block.feed_forward.forward(&block.feed_forward_norm.forward(&x)?)?;
            difference.push(difference_of_positions(&x));
        }
        Ok(difference)
    });
    Ok(mean(seeds.collect::<Result<Vec<_>>>()?.iter()))
}

fn root_mean_square(x: &Tensor) -> f64 {
    x.square().mean(Kind::Double).sqrt().double_value(&[])
}

/// How much of `x`, `[B, T, E]`, is not the same at all positions of its sequence: 0 if all positions are alike.
fn difference_of_positions(x: &Tensor) -> f64 {
    let common = x.mean_dim(1, true, Kind::Float); // [B, 1, E]
    root_mean_square(&(x - common)) / root_mean_square(x)
}

/// The joint norm of the gradients of a block's four weight matrices.
fn gradient_norm(block: &Block) -> f64 {
    let Block { attention, feed_forward, .. } = block;
    let layers = [
        &attention.input,
        &attention.output,
        &feed_forward.expand,
        &feed_forward.contract,
    ];
    let squares = layers.map(|layer| layer.weight.grad().square().sum(Kind::Double));
    squares.iter().map(|sum| sum.double_value(&[])).sum::<f64>().sqrt()
}

/// The mean of several lists of the same length, number by number.
fn mean<'a>(lists: impl Iterator<Item = &'a Vec<f64>>) -> Vec<f64> {
    let lists: Vec<&Vec<f64>> = lists.collect();
    let length = lists.first().map_or(0, |list| list.len());
    (0..length)
        .map(|i| lists.iter().map(|list| list[i]).sum::<f64>() / lists.len() as f64)
        .collect()
}

/// What a line is drawn through.
type Points = Vec<(f64, f64)>;

/// Both ways to put a block together, side by side: the way of `x` on the left of each, the sub-layers beside it.
fn norms_figure() -> Chart {
    let block = |title: &str,
                 description: &str,
                 parts: [(&str, usize); 7],
                 past: [(usize, usize); 2]| {
        let node = |(row, (part, column)): (usize, &(&str, usize))| Node {
            series: ["attention", "feed-forward"]
                .iter()
                .position(|sub_layer| sub_layer == part),
            ..Node::new(row.to_string(), [*part], (row, *column))
        };
        let through = (1..parts.len()).map(|row| (row - 1, row));
        let arrow =
            |(from, to): (usize, usize)| Arrow::new(from.to_string(), to.to_string());
        Chart::Diagram(Diagram {
            title: title.into(),
            description: description.into(),
            columns: 2,
            nodes: parts.iter().enumerate().map(node).collect(),
            arrows: through.chain(past).map(arrow).collect(),
        })
    };
    Chart::Panels(Panels {
        title: "A block, with its norms in either place".into(),
        description: "Two drawings of boxes. On the left, pre-norm, both norms lie beside the way of x. On the right, \
                      post-norm, the way of x leads through them."
            .into(),
        columns: 2,
        panels: vec![
            block(
                "pre-norm",
                "x goes straight to a plus, and by norm and attention to the same plus; from there straight to a second \
                 plus, and by norm and feed-forward to the same.",
                [("x", 0), ("norm", 1), ("attention", 1), ("+", 0), ("norm", 1), ("feed-forward", 1), ("+", 0)],
                [(0, 3), (3, 6)],
            ),
            block(
                "post-norm",
                "x goes straight to a plus, and by attention to the same plus; then through a norm; from there straight \
                 to a second plus, and by feed-forward to the same; then through a second norm.",
                [("x", 0), ("attention", 1), ("+", 0), ("norm", 0), ("feed-forward", 1), ("+", 0), ("norm", 0)],
                [(0, 2), (3, 5)],
            ),
        ],
    })
}

fn gradient_figure() -> Result<Chart> {
    let stacks = |norm| {
        let depths = DEPTHS.into_iter();
        depths.map(|depth| Stack::measure(norm, depth)).collect::<Result<Vec<_>>>()
    };
    let (pre, post) = (stacks(NormPlacement::Pre)?, stacks(NormPlacement::Post)?);
    let both = |points: fn(&[Stack]) -> Points| {
        vec![
            Series::new("pre-norm", points(&pre)),
            Series::new("post-norm", points(&post)).with_dashes(),
        ]
    };
    let label = "norm of the gradient";
    let by_block = |stacks: &[Stack]| {
        let gradient = stacks.last().into_iter().flat_map(|deepest| &deepest.gradient);
        gradient.enumerate().map(|(i, &norm)| (i as f64 + 1.0, norm)).collect()
    };
    let of_the_last = |stacks: &[Stack]| {
        let last = stacks.iter().filter_map(|stack| stack.gradient.last());
        DEPTHS.iter().zip(last).map(|(&depth, &norm)| (depth as f64, norm)).collect()
    };
    let panel = |title: &str, description: &str, x_axis, series| {
        Chart::Curves(Curves {
            title: title.into(),
            description: description.into(),
            x_axis,
            y_axis: Axis::linear(label).with_include([0.0]),
            series,
            references: Vec::new(),
        })
    };
    Ok(Chart::Panels(Panels {
        title: "The gradient before training, pre-norm and post-norm".into(),
        description: "Two charts. In a stack of 24 blocks, the gradient of a pre-norm block falls from 0.23 at the first \
                      block to 0.14 at the last; that of a post-norm block stays between 0.23 and 0.30. In stacks of 2 \
                      to 24 blocks, the gradient of the last block falls with the depth of the stack if pre-norm, and \
                      rises if post-norm."
            .into(),
        columns: 2,
        panels: vec![
            panel("In a stack of 24", "By block.", Axis::linear("block"), both(by_block)),
            panel(
                "The last block",
                "By the depth of the stack.",
                Axis::log("blocks in the stack"),
                both(of_the_last),
            ),
        ],
    }))
}

fn sinusoid_figure() -> Result<Chart> {
    let (positions, width) = (36, 16);
    Ok(Chart::Heatmap(Heatmap {
        title: "Sinusoidal positions".into(),
        description: "Sixteen rows, a number each, over 36 positions. The first two rows swing up and down once in six \
                      positions, each further pair more slowly than the one before, and the last hardly change."
            .into(),
        row_axis: "number".into(),
        column_axis: "position".into(),
        rows: (0..width).map(|i| i.to_string()).collect(),
        columns: (0..positions).map(|t| t.to_string()).collect(),
        min: -1.0,
        max: 1.0,
        show_values: false,
        values: Vec::try_from(&sinusoids(positions, width, Device::Cpu)?.tr())?,
    }))
}

/// The cosine of the angle between each two rows.
fn similarity(rows: &Tensor) -> Tensor {
    let length = rows.square().sum_dim_intlist(-1, true, Kind::Float).sqrt(); // [N, 1]
    let unit = rows / length; // [N, E]
    unit.matmul(&unit.tr()) // [N, N]
}

/// How alike the rows of a table are. The colours begin at `min`.
fn similarity_chart(
    title: &str,
    description: &str,
    what: &str,
    names: &[String],
    alike: &Tensor,
    min: f64,
) -> Result<Chart> {
    Ok(Chart::Heatmap(Heatmap {
        title: title.into(),
        description: description.into(),
        row_axis: what.into(),
        column_axis: what.into(),
        rows: names.to_vec(),
        columns: names.to_vec(),
        min,
        max: 1.0,
        show_values: false,
        values: Vec::try_from(alike)?,
    }))
}

/// The least of all numbers, rounded down to a tenth.
fn least(numbers: &Tensor) -> f64 {
    (numbers.min().double_value(&[]) * 10.0).floor() / 10.0
}

fn position_figure(shipped: &Checkpoint) -> Result<Chart> {
    let shown = 16;
    let names: Vec<String> = (0..shown).map(|t| t.to_string()).collect();
    let learned = shipped.tensors["positions"].narrow(0, 0, shown); // [N, E]
    let waves = similarity(&sinusoids(shown, learned.size()[1], Device::Cpu)?); // [N, N]
    let learned = similarity(&learned); // [N, N]
    let panel = |title: &str, description: &str, alike: &Tensor| {
        similarity_chart(title, description, "position", &names, alike, least(&learned))
    };
    Ok(Chart::Panels(Panels {
        title: "How alike two positions are".into(),
        description: "Two matrices of 16 by 16 positions. Sinusoidal: a band along the diagonal, the same all along it. \
                      Learned: neighbours are alike too, the more so the later they stand, and positions far off are not."
            .into(),
        columns: 2,
        panels: vec![
            panel("Sinusoidal", "Computed.", &waves)?,
            panel("Learned", "Of the shipped model.", &learned)?,
        ],
    }))
}

fn embedding_figure(shipped: &Checkpoint) -> Result<Chart> {
    let vocabulary = Vocabulary::new();
    let shown = "a e i o u t d p b s z T D P B S Z";
    let id = |symbol: &str| vocabulary.symbols().iter().position(|s| *s == symbol);
    let ids = shown.split(' ').filter_map(id).map(|id| id as i64).collect::<Vec<_>>();
    let rows = shipped.tensors["embedding"].index_select(0, &Tensor::from_slice(&ids)); // [N, E]
    let names: Vec<String> = shown.split(' ').map(String::from).collect();
    let alike = similarity(&rows); // [N, N]
    similarity_chart(
        "How alike two symbols are",
        "Five vowel letters, six consonant letters and the six phonemes of the same names, with one another. The vowel \
         letters are alike, the consonant letters a little, and so are the phonemes. A consonant letter and its own \
         phoneme point away from each other.",
        "symbol",
        &names,
        &alike,
        least(&alike),
    )
}
