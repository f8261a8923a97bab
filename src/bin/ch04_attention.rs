//! Chapter 4, scaled dot-product attention: `cargo run --bin ch04_attention`.

use std::path::PathBuf;

use clap::Parser;
use self_attention::prelude::*;
use self_attention::visualization::table::matrix;
use self_attention::visualization::{Axis, Chart, Curves, Heatmap, Panels, Series};
use self_attention::worked_example::{Tough, FEATURES, LETTERS};

/// Computes everything that chapter 4 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

fn main() -> Result<()> {
    tch::set_num_threads(1); // sums in the same order on every machine
    let tough = Tough::new()?;
    if let Some(folder) = Arguments::parse().figures {
        weights_of_tough(&tough)?.save(&folder, "ch04_tough")?;
        return saturation_figure(&saturation()?).save(&folder, "ch04_saturation");
    }
    question_7(&tough)?;
    question_8(&tough)?;
    question_9(&tough)?;
    question_10(&tough)
}

// ANCHOR: question_7
fn question_7(tough: &Tough) -> Result<()> {
    println!("== q7 ==");
    let Tough { query, key, value } = tough;
    let attended =
        scaled_dot_product_attention(query, key, value, None, &Dropout::off())?;
    println!(
        "weights, a row for each letter that looks, a column for each letter it looks at"
    );
    println!("{}", matrix(&LETTERS, &LETTERS, &attended.weights, 4)?);
    println!("\ncontext, what each letter came away with");
    println!("{}", matrix(&LETTERS, &FEATURES, &attended.context, 4)?);
    let [query, key, value] = [query, key, value].map(|tensor| tensor.view([1, 1, 5, 4]));
    let fused = fused_attention(&query, &key, &value, None)?.view([5, 4]);
    let difference = (attended.context - fused).abs().max().double_value(&[]);
    println!("\nthe fused kernel gives the same context: {}", difference < 1e-12);
    Ok(())
}
// ANCHOR_END: question_7

// ANCHOR: question_8
fn question_8(Tough { query, key, .. }: &Tough) -> Result<()> {
    println!("\n== q8_scores ==");
    println!("queries, what each letter looks for");
    println!("{}", matrix(&LETTERS, &FEATURES, query, 0)?);
    println!("\nkeys, what each letter offers to be found by");
    println!("{}", matrix(&LETTERS, &FEATURES, key, 0)?);
    println!("\ndot products, query times key");
    println!("{}", matrix(&LETTERS, &LETTERS, &query.matmul(&key.tr()), 0)?);
    println!("\nscores, divided by the root of D = 4");
    println!("{}", matrix(&LETTERS, &LETTERS, &attention_scores(query, key)?, 0)?);

    println!("\n== q8_saturation ==");
    println!("         standard deviation      largest weight      gradient left");
    println!("    D    q·k       q·k/√D      q·k      q·k/√D      q·k      q·k/√D");
    for row in
        saturation()?.iter().filter(|row| [1, 4, 16, 64, 256, 1024].contains(&row.width))
    {
        let [plain, scaled] = [&row.plain, &row.scaled];
        println!(
            "{:>5} {:>6.2} {:>12.2} {:>8.2} {:>11.2} {:>8.2} {:>11.2}",
            row.width,
            plain.deviation,
            scaled.deviation,
            plain.largest,
            scaled.largest,
            plain.gradient,
            scaled.gradient,
        );
    }
    Ok(())
}
// ANCHOR_END: question_8

// ANCHOR: question_9
fn question_9(Tough { query, key, .. }: &Tough) -> Result<()> {
    println!("\n== q9_softmax ==");
    let scores = attention_scores(query, key)?; // [T = 5, S = 5]
    let g = scores.narrow(0, 3, 1); // [1, S]
    let exponentials = g.exp();
    let rows = Tensor::cat(&[&g, &exponentials, &attention_weights(&g, None)?], 0); // [3, S]
    println!("the row of g: scores, their exponentials, and these divided by their sum");
    println!("{}", matrix(&["score", "exponential", "weight"], &LETTERS, &rows, 4)?);
    println!(
        "sum of the exponentials: {:.4}",
        exponentials.sum(Kind::Double).double_value(&[])
    );

    println!("\n== q9_overflow ==");
    println!("scores of 1000, 999 and 998 in 32-bit floats");
    let large = Tensor::from_slice(&[1000f32, 999.0, 998.0]).unsqueeze(0); // [1, 3]
    let by_definition = |scores: &Tensor| scores.exp() / scores.exp().sum(Kind::Float);
    let ways = [
        by_definition(&large),
        by_definition(&(&large - large.max())),
        attention_weights(&large, None)?,
    ];
    let names = ["as defined", "less the maximum", "attention_weights"];
    println!("{}", matrix(&names, &["1000", "999", "998"], &Tensor::cat(&ways, 0), 4)?);

    let padding = Mask::padding(&Tensor::from_slice(&[3i64]), 5)?;
    let nothing = Mask::new(scores.zeros_like().to_kind(Kind::Bool))?;
    println!("\n== q9_masks ==");
    for (name, mask) in [
        ("padding: only the first three letters are real", padding),
        ("causal: no letter sees the letters after it", Mask::causal(5, Device::Cpu)?),
        ("prefix: the first two are seen by all, the rest is causal", {
            Mask::prefix(&Tensor::from_slice(&[2i64]), 5)?
        }),
        ("nothing to attend to: zeros, not NaN", nothing),
    ] {
        let weights = attention_weights(&scores.view([1, 1, 5, 5]), Some(&mask))?; // [1, 1, T, S]
        println!("{name}");
        println!("{}\n", matrix(&LETTERS, &LETTERS, &weights.view([5, 5]), 4)?);
    }
    Ok(())
}
// ANCHOR_END: question_9

// ANCHOR: question_10
fn question_10(Tough { query, key, value }: &Tough) -> Result<()> {
    println!("\n== q10_average ==");
    let weights = attention_weights(&attention_scores(query, key)?, None)?; // [T = 5, S = 5]
    let g = weights.narrow(0, 3, 1); // [1, S]
    println!("values, what each letter hands over");
    println!("{}", matrix(&LETTERS, &FEATURES, value, 0)?);
    println!(
        "\nthe values, each times the weight g gives it; their sum is the context of g"
    );
    println!("{}", matrix(&LETTERS, &FEATURES, &(g.tr() * value), 4)?);
    println!("{}", matrix(&["g"], &FEATURES, &weighted_average(&g, value)?, 4)?);

    println!("\n== q10_memory ==");
    println!("weights written down by explicit attention, one head, 32-bit floats");
    println!("     T     numbers         KiB");
    for positions in [64, 512, 4096, 32_768u64] {
        let numbers = positions * positions;
        println!("{positions:>6} {numbers:>11} {:>11}", numbers * 4 / 1024);
    }
    Ok(())
}
// ANCHOR_END: question_10

/// What random queries and keys of one width give.
struct Saturation {
    width: i64,
    plain: Softmax,
    scaled: Softmax,
}

/// A softmax over dot products, in three numbers.
struct Softmax {
    /// The standard deviation of the scores.
    deviation: f64,
    /// The mean over rows of the largest weight.
    largest: f64,
    /// The mean over rows of `Σ w(1 − w)`, the trace of the Jacobian of softmax: what is left of the gradient.
    gradient: f64,
}

/// Softmax over the dot products of 2000 random queries with 16 random keys each, for growing widths.
// ANCHOR: saturation
fn saturation() -> Result<Vec<Saturation>> {
    let summary = |scores: &Tensor| -> Result<Softmax> {
        let weights = attention_weights(scores, None)?; // [B, T, S]
        let jacobian = &weights - weights.square(); // its diagonal, row by row: [B, T, S]
        Ok(Softmax {
            deviation: scores.std(true).double_value(&[]),
            largest: weights.amax([-1], false).mean(Kind::Double).double_value(&[]),
            gradient: jacobian
                .sum_dim_intlist(-1, false, Kind::Double)
                .mean(Kind::Double)
                .double_value(&[]),
        })
    };
    tch::manual_seed(4);
    let widths = (0..=10).map(|power| 1i64 << power); // 1, 2, 4, …, 1024
    widths
        .map(|width| {
            let random = |positions| {
                Tensor::randn([100, positions, width], (Kind::Double, Device::Cpu))
            };
            let (query, key) = (random(20), random(16)); // [B, T, D], [B, S, D]
            let scaled = attention_scores(&query, &key)?; // [B, T, S]
            let plain = query.matmul(&key.transpose(-2, -1)); // [B, T, S]
            Ok(Saturation { width, plain: summary(&plain)?, scaled: summary(&scaled)? })
        })
        .collect()
}
// ANCHOR_END: saturation

fn weights_of_tough(Tough { query, key, value }: &Tough) -> Result<Chart> {
    let attended =
        scaled_dot_product_attention(query, key, value, None, &Dropout::off())?;
    let letters = LETTERS.map(String::from);
    Ok(Chart::Heatmap(Heatmap::attention(
        "The weights of tough",
        "Five rows and five columns, t o u g h. The row of g gives 0.83 to h. The row of u gives 0.59 to h and 0.22 to \
         itself. The row of h gives 0.42 to t and 0.42 to g: it cannot tell them apart.",
        &letters,
        &letters,
        Vec::try_from(&attended.weights)?,
    )))
}

fn saturation_figure(rows: &[Saturation]) -> Chart {
    let panel =
        |title: &str, description: &str, label: &str, value: fn(&Softmax) -> f64| {
            let points = |softmax: fn(&Saturation) -> &Softmax| {
                rows.iter().map(|row| (row.width as f64, value(softmax(row)))).collect()
            };
            Chart::Curves(Curves {
                title: title.into(),
                description: description.into(),
                x_axis: Axis::log("width D"),
                y_axis: Axis::linear(label).with_include([0.0, 1.0]),
                series: vec![
                    Series::new("divided by √D", points(|row| &row.scaled)),
                    Series::new("not divided", points(|row| &row.plain)).with_dashes(),
                ],
                references: Vec::new(),
            })
        };
    Chart::Panels(Panels {
        title: "Softmax over dot products, as vectors grow wider".into(),
        description: "Two charts against the width D from 1 to 1024. Not divided, the largest weight rises towards 1 and \
                      the gradient falls towards 0. Divided by the root of D, both stay level."
            .into(),
        columns: 2,
        panels: vec![
            panel("Largest weight", "The largest of 16 weights.", "mean over rows", |softmax| softmax.largest),
            panel("Gradient left", "The trace of the Jacobian.", "mean over rows", |softmax| softmax.gradient),
        ],
    })
}
