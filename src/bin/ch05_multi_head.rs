//! Chapter 5, multi-head self-attention: `cargo run --bin ch05_multi_head`.

use std::path::PathBuf;

use clap::Parser;
use self_attention::linear::Linear;
use self_attention::prelude::*;
use self_attention::visualization::table::matrix;
use self_attention::visualization::{Chart, Heatmap, Panels};
use self_attention::worked_example::{FEATURES, LETTERS};

/// Computes everything that chapter 5 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

/// What a number of the result stands for: half of one number of head 0 and half of one of head 1.
const FOUND: [&str; 4] =
    ["vowel+breath", "consonant+breath", "vowel+soft", "consonant+soft"];

fn main() -> Result<()> {
    tch::set_num_threads(1); // sums in the same order on every machine
    let letters = Tough::letters()?.unsqueeze(0); // [B = 1, T = 5, E = 4]
    if let Some(folder) = Arguments::parse().figures {
        heads_of_tough(&letters)?.save(&folder, "ch05_heads")?;
        return scrambled(&letters)?.save(&folder, "ch05_scrambled");
    }
    question_11(&letters)?;
    question_12(&letters)?;
    question_13(&letters)
}

// ANCHOR: question_11
fn question_11(letters: &Tensor) -> Result<()> {
    println!("== q11_heads ==");
    let layer = Tough::multi_head(2)?;
    let one = contexts(&Tough::multi_head(1)?, letters)?; // weights: [B, H, T, T]
    let two = contexts(&layer, letters)?; // context: [B, H, T, D]
    for (head, asks) in [(0, "vowels and consonants"), (1, "softness and breath")] {
        println!("weights of head {head}: {asks}");
        println!("{}\n", matrix(&LETTERS, &LETTERS, &two.weights.get(0).get(head), 4)?);
    }
    let u = |attended: &Attended| -> Result<Tensor> {
        Ok(concatenate_heads(&attended.context)?.f_select(1, 2)?) // [B, E]
    };
    // Two heads again, with the scale that one head has.
    let [query, key, value] = layer.split_heads(&layer.input.forward(letters)?)?;
    let (query, off) = (query / 2f64.sqrt(), Dropout::off());
    let damped = scaled_dot_product_attention(&query, &key, &value, None, &off)?;
    println!("the context of u, and what the scores were divided by");
    let names = ["one head, √4", "two heads, √4", "two heads, √2"];
    let rows = Tensor::cat(&[u(&one)?, u(&damped)?, u(&two)?], 0); // [3, E]
    println!("{}", matrix(&names, &FEATURES, &rows, 4)?);

    println!("\n== q11_parameters ==");
    println!("     E    H    D    4E² + 4E    counted");
    for (width, heads) in [(4, 2), (128, 1), (128, 4), (128, 16), (512, 8)] {
        let store = nn::VarStore::new(Device::Cpu);
        MultiHeadConfig::new(width, heads).init(&store.root())?;
        let counted: usize = store.variables().values().map(Tensor::numel).sum();
        let (head, formula) = (width / heads, 4 * width * width + 4 * width);
        println!("{width:>6} {heads:>4} {head:>4} {formula:>11} {counted:>10}");
    }
    let store = nn::VarStore::new(Device::Cpu);
    if let Err(error) = MultiHeadConfig::new(128, 6).init(&store.root()) {
        println!("\nE = 128 and H = 6 are refused:\n{error}");
    }
    Ok(())
}
// ANCHOR_END: question_11

// ANCHOR: question_12
fn question_12(letters: &Tensor) -> Result<()> {
    println!("\n== q12_split ==");
    println!("five letters of four numbers each, as they lie in memory");
    let lying = Tensor::arange(20, (Kind::Int64, Device::Cpu)).view([1, 5, 4]); // [B, T, E]
    print_places(&lying);
    let viewed = lying.view([1, 5, 2, 2]); // [B, T, H, D]
    let heads = viewed.transpose(1, 2); // [B, H, T, D]
    println!("\nview as [B, T, H, D], then transpose to [B, H, T, D]");
    print_places(&heads);

    println!("\n== q12_wrong ==");
    println!("view as [B, H, T, D] at once");
    let wrong = lying.view([1, 2, 5, 2]); // [B, H, T, D]
    print_places(&wrong);

    println!("\n== q12_strides ==");
    println!("                               sizes          strides");
    for (name, tensor) in [
        ("as it lies, [B, T, E]", &lying),
        ("viewed, [B, T, H, D]", &viewed),
        ("then transposed, [B, H, T, D]", &heads),
        ("viewed at once, [B, H, T, D]", &wrong),
    ] {
        let sizes = format!("{:?}", tensor.size());
        println!("{name:<30} {sizes:<14} {:?}", tensor.stride());
    }

    println!("\n== q12_loop ==");
    let layer = Tough::multi_head(2)?;
    let at_once = layer.forward(letters, None, &Dropout::off())?.context;
    let looped = loop_over_heads(&layer, letters, 2)?;
    let difference = (at_once - looped).abs().max().double_value(&[]);
    println!("a loop over the heads gives the same result: {}", difference < 1e-12);
    Ok(())
}
// ANCHOR_END: question_12

// ANCHOR: question_13
fn question_13(letters: &Tensor) -> Result<()> {
    println!("\n== q13_result ==");
    let layer = Tough::multi_head(2)?;
    let heads = contexts(&layer, letters)?.context; // [B, H, T, D]
    let side_by_side = concatenate_heads(&heads)?; // [B, T, E]
    println!("the contexts of both heads, side by side");
    println!("{}", matrix(&LETTERS, &FEATURES, &side_by_side.get(0), 4)?);
    println!("\nafter the output projection");
    let result = layer.output.forward(&side_by_side)?; // [B, T, E]
    println!("{}", matrix(&LETTERS, &FOUND, &result.get(0), 4)?);

    println!("\n== q13_sum ==");
    println!("what each head adds to the result of u");
    let parts: Vec<Tensor> = (0..2).map(|head| only(&side_by_side, head)).collect();
    let parts = layer.output.forward(&Tensor::cat(&parts, 0))?.select(1, 2); // [H, E]
    let sum = parts.sum_dim_intlist(0, true, Kind::Double); // [1, E]
    let rows = Tensor::cat(&[parts, sum], 0); // [H + 1, E]
    println!("{}", matrix(&["head 0", "head 1", "sum"], &FOUND, &rows, 4)?);

    println!("\n== q13_mixing ==");
    println!("one head switched off: how far each of the four numbers moves, at most");
    let moved = |other: Tensor, whole: &Tensor| (other - whole).abs().amax([0, 1], false);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for head in 0..2 {
        let heads = contexts(&switched_off(&layer, head)?, letters)?.context;
        let switched = concatenate_heads(&heads)?; // [B, T, E]
        with.push(moved(layer.output.forward(&switched)?, &result)); // [E]
        without.push(moved(switched, &side_by_side)); // [E]
    }
    let (names, numbers) =
        (["head 0 off", "head 1 off"], ["first", "second", "third", "fourth"]);
    for (title, moves) in [("without the projection", without), ("with it", with)] {
        println!(
            "\n{title}\n{}",
            matrix(&names, &numbers, &Tensor::stack(&moves, 0), 4)?
        );
    }
    Ok(())
}
// ANCHOR_END: question_13

/// What the heads come away with, before they are put side by side: context `[B, H, T, D]`, weights `[B, H, T, T]`.
fn contexts(layer: &MultiHead, x: &Tensor) -> Result<Attended> {
    let [query, key, value] = layer.split_heads(&layer.input.forward(x)?)?;
    scaled_dot_product_attention(&query, &key, &value, None, &Dropout::off())
}

// ANCHOR: loop_over_heads
fn loop_over_heads(layer: &MultiHead, x: &Tensor, heads: i64) -> Result<Tensor> {
    let projected = layer.input.forward(x)?; // [B, T, 3E]
    let thirds = projected.f_chunk(3, -1)?; // [B, T, E] each
    let width = thirds[0].size()[2] / heads; // D
    let mut contexts = Vec::new();
    for head in 0..heads {
        let part = |third: &Tensor| third.f_narrow(-1, head * width, width); // [B, T, D]
        let (query, key, value) =
            (part(&thirds[0])?, part(&thirds[1])?, part(&thirds[2])?);
        let off = Dropout::off();
        let attended = scaled_dot_product_attention(&query, &key, &value, None, &off)?;
        contexts.push(attended.context); // [B, T, D]
    }
    layer.output.forward(&Tensor::f_cat(&contexts, -1)?) // [B, T, E]
}
// ANCHOR_END: loop_over_heads

/// The contexts of one of two heads, with zeros where the other's stand: `[B, T, E]`.
fn only(side_by_side: &Tensor, head: i64) -> Tensor {
    let alone = side_by_side.zeros_like();
    alone.narrow(-1, 2 * head, 2).copy_(&side_by_side.narrow(-1, 2 * head, 2));
    alone
}

/// The layer of *tough* with every input weight of one of its two heads set to 0: it asks, offers and hands over nothing.
fn switched_off(layer: &MultiHead, head: i64) -> Result<MultiHead> {
    let weight = layer.input.weight.copy(); // [3E, E]
    let _ = weight.view([3, 2, 2, 4]).select(1, head).zero_(); // [3, H, D, E]
    let output = Linear { weight: layer.output.weight.shallow_clone(), bias: None };
    MultiHead::new(Linear { weight, bias: None }, output, 2)
}

/// Prints where each number came from, a column for each head: `t0` is the first number of *t*.
fn print_places(places: &Tensor) {
    let heads: Vec<Tensor> = match places.dim() {
        3 => vec![places.get(0)],                            // [T, E]
        _ => (0..2).map(|h| places.get(0).get(h)).collect(), // [T, D] each
    };
    if heads.len() > 1 {
        println!("   head 0   head 1");
    }
    for (t, letter) in LETTERS.iter().enumerate() {
        let mut line = letter.to_string();
        for head in &heads {
            line.push_str("  ");
            for d in 0..head.size()[1] {
                let place = head.int64_value(&[t as i64, d]);
                line.push_str(&format!(
                    " {}{}",
                    LETTERS[(place / 4) as usize],
                    place % 4
                ));
            }
        }
        println!("{line}");
    }
}

fn heads_of_tough(letters: &Tensor) -> Result<Chart> {
    let weights = contexts(&Tough::multi_head(2)?, letters)?.weights; // [B, H, T, T]
    let names = LETTERS.map(String::from);
    let panel = |title: &str, description: &str, head: i64| -> Result<Chart> {
        let weights = Vec::try_from(&weights.get(0).get(head))?;
        Ok(Chart::Heatmap(Heatmap::attention(
            title,
            description,
            &names,
            &names,
            weights,
        )))
    };
    Ok(Chart::Panels(Panels {
        title: "The weights of tough in two heads".into(),
        description: "Two heatmaps, t o u g h by t o u g h. In head 0 the rows of o and u give 0.37 each to o and u, the \
                      row of h 0.46 each to t and g, and the rows of t and g 0.20 to every letter. In head 1 the rows of \
                      t, u and g give most to h: 0.51, 0.87 and 0.95; the row of h gives 0.20 to every letter."
            .into(),
        columns: 2,
        panels: vec![
            panel("Head 0: vowels and consonants", "The weights of head 0.", 0)?,
            panel("Head 1: softness and breath", "The weights of head 1.", 1)?,
        ],
    }))
}

/// Under a causal mask: how far the context of each letter moves when another is replaced by zeros.
// ANCHOR: scrambled
fn scrambled(letters: &Tensor) -> Result<Chart> {
    let layer = Tough::multi_head(2)?;
    let causal = Mask::causal(5, Device::Cpu)?;
    let context = |x: &Tensor, right: bool| -> Result<Tensor> {
        let projected = layer.input.forward(x)?; // [B, T, 3E]
        let [query, key, value] = if right {
            layer.split_heads(&projected)?
        } else {
            [0, 4, 8].map(|start| projected.narrow(-1, start, 4).reshape([1, 2, 5, 2]))
        };
        let off = Dropout::off();
        let attended =
            scaled_dot_product_attention(&query, &key, &value, Some(&causal), &off)?;
        concatenate_heads(&attended.context) // [B, T, E]
    };
    let panel = |title: &str, description: &str, right: bool| -> Result<Chart> {
        let before = context(letters, right)?;
        let mut columns = Vec::new();
        for position in 0..5 {
            let other = letters.copy();
            let _ = other.narrow(1, position, 1).zero_();
            let moved = (context(&other, right)? - &before).abs(); // [B, T, E]
            columns.push(moved.amax([0, 2], false)); // [T]
        }
        let names = LETTERS.map(String::from);
        let values = Vec::try_from(&Tensor::stack(&columns, 1))?; // [T, S]
        Ok(Chart::Heatmap(Heatmap {
            row_axis: "context of".into(),
            column_axis: "letter replaced".into(),
            ..Heatmap::attention(title, description, &names, &names, values)
        }))
    };
    Ok(Chart::Panels(Panels {
        title: "What a letter's context depends on, under a causal mask".into(),
        description: "Two heatmaps, t o u g h by t o u g h: how far the context of the row's letter moves when the \
                      column's letter is replaced by zeros. With view and transpose all cells right of the diagonal \
                      are 0. With view alone they are not: t moves by 1.00 for u, o by 0.50 for u and for g, u by 0.97 \
                      for g, g by 0.60 for h; and o moves by 0 for o."
            .into(),
        columns: 2,
        panels: vec![
            panel("view, then transpose", "Nothing right of the diagonal.", true)?,
            panel("view at once", "Numbers right of the diagonal.", false)?,
        ],
    }))
}
// ANCHOR_END: scrambled
