//! Chapter 12, what was built: `cargo run --bin ch12_conclusion`.

use std::path::{Path, PathBuf};

use clap::Parser;
use self_attention::data::cmudict::text;
use self_attention::evaluation::decoding::greedy;
use self_attention::evaluation::metrics::Scores;
use self_attention::evaluation::pronouncer::{Card, Pronouncer};
use self_attention::prelude::*;
use self_attention::visualization::{Arrow, Chart, Diagram, Node};

/// Computes everything that chapter 12 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figure into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

/// The model that is shipped.
const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/pronouncer.safetensors");

fn main() -> Result<()> {
    tch::set_num_threads(1); // sums in the same order on every machine
    if let Some(folder) = Arguments::parse().figures {
        return model_figure().save(&folder, "ch12_model");
    }
    let pronouncer = Pronouncer::load(Path::new(SHIPPED), Device::Cpu)?;
    println!("== ough ==");
    ough(&pronouncer)?;
    println!("\n== scores ==");
    if let Some(scores) = Card::read(Path::new(SHIPPED))?.test_scores {
        print_scores(&scores);
    }
    println!("\n== parts ==");
    parts(&pronouncer.model)
}

// ANCHOR: ough
fn ough(Pronouncer { model, vocabulary }: &Pronouncer) -> Result<()> {
    let words = ["though", "through", "tough", "cough"];
    for (word, said) in words.iter().zip(greedy(model, vocabulary, &words)?) {
        println!("{word:8} {:8} {:.4}", text(&said.phonemes), said.probability());
    }
    Ok(())
}
// ANCHOR_END: ough

fn print_scores(scores: &Scores) {
    let Scores { words, word_error_rate, phoneme_error_rate, .. } = scores;
    println!("words it never saw  {words:>8}");
    println!("of these wrong      {:>8.2} %", 100.0 * word_error_rate);
    println!("phoneme error rate  {:>8.2} %", 100.0 * phoneme_error_rate);
}

/// How many numbers each part of the model has, and which chapter built it.
fn parts(model: &Transformer) -> Result<()> {
    let linear = |linear: &Linear| {
        linear.weight.numel() + linear.bias.as_ref().map_or(0, Tensor::numel)
    };
    let norm = |norm: &LayerNorm| norm.weight.numel() + norm.bias.numel();
    let over_blocks =
        |count: &dyn Fn(&Block) -> usize| model.blocks.iter().map(count).sum::<usize>();
    let parts = [
        ("token vectors", model.embedding.numel(), "7"),
        ("position vectors", model.positions.numel(), "7"),
        (
            "attention",
            over_blocks(&|block| {
                linear(&block.attention.input) + linear(&block.attention.output)
            }),
            "4, 5",
        ),
        (
            "feed-forward networks",
            over_blocks(&|block| {
                linear(&block.feed_forward.expand) + linear(&block.feed_forward.contract)
            }),
            "6",
        ),
        (
            "layer norms",
            over_blocks(&|block| {
                norm(&block.attention_norm) + norm(&block.feed_forward_norm)
            }) + model.norm.as_ref().map_or(0, norm),
            "7",
        ),
    ];
    println!("part                    numbers   chapter");
    for (part, numbers, chapter) in parts {
        println!("{part:21} {numbers:>9}   {chapter}");
    }
    println!(
        "{:21} {:>9}",
        "all of it",
        parts.map(|(_, numbers, _)| numbers).iter().sum::<usize>()
    );
    Ok(())
}

/// The boxes of the picture: name, what it is, where it is explained, and row and column.
///
/// The first column is the way of `x` through the model; what is added to it stands beside.
const BOXES: [(&str, &str, &str, (usize, usize)); 15] = [
    ("data", "t o u g h <sep> T AH F", "ch03_data#q04", (0, 0)),
    ("embedding", "tokens + positions", "ch07_block#q19", (1, 0)),
    ("norm1", "layer norm", "ch07_block#q17", (2, 1)),
    ("heads", "multi-head attention", "ch05_multi_head#q11", (3, 1)),
    ("attention", "softmax(QKᵀ/√D)·V", "ch04_attention#q07", (3, 2)),
    ("sum1", "+", "ch07_block#q17", (4, 0)),
    ("weights", "weights, heatmaps", "ch10_visualization#q27", (4, 2)),
    ("norm2", "layer norm", "ch07_block#q17", (5, 1)),
    ("network", "feed-forward", "ch06_feed_forward#q14", (6, 1)),
    ("sum2", "+", "ch07_block#q18", (7, 0)),
    ("logits", "norm, scores [B, T, V]", "ch07_block#q19", (8, 0)),
    ("loss", "loss, AdamW, loop", "ch08_training#q20", (9, 0)),
    ("decoding", "greedy, beams", "ch09_evaluation#q26", (9, 1)),
    ("metrics", "error rates, F1", "ch09_evaluation#q25", (9, 2)),
    ("knobs", "experiments", "ch11_experiments#q30", (10, 0)),
];

/// The arrows between them, with what flows along.
const FLOWS: [(&str, &str, &str); 16] = [
    ("data", "embedding", "[B, T]"),
    ("embedding", "norm1", ""),
    ("embedding", "sum1", ""),
    ("norm1", "heads", "[B, T, E]"),
    ("heads", "attention", ""),
    ("attention", "weights", ""),
    ("heads", "sum1", ""),
    ("sum1", "norm2", ""),
    ("sum1", "sum2", ""),
    ("norm2", "network", ""),
    ("network", "sum2", ""),
    ("sum2", "logits", "after six blocks"),
    ("logits", "loss", ""),
    ("logits", "decoding", ""),
    ("decoding", "metrics", ""),
    ("loss", "knobs", ""),
];

fn model_figure() -> Chart {
    let node = |(name, what, place, at): (&str, &str, &str, (usize, usize))| {
        let (page, question) = place.split_once('#').unwrap_or((place, ""));
        let chapter = format!(
            "chapter {}, Q{}",
            page[2..4].trim_start_matches('0'),
            question[1..].trim_start_matches('0')
        );
        Node::new(name, [what, &chapter], at).with_link(format!("{page}.html#{question}"))
    };
    let arrow = |(from, to, flow): (&str, &str, &str)| match flow {
        "" => Arrow::new(from, to),
        flow => Arrow::new(from, to).with_label(flow),
    };
    Chart::Diagram(Diagram {
        title: "The whole model".into(),
        description: "From top to bottom: the tokens of a word become vectors, which pass through six blocks. In each block \
                      a norm and multi-head attention, then a norm and a feed-forward network, add to what passes. At the \
                      end stand a score for each token, and from these the loss in training or the pronunciation and its \
                      metrics. Each box leads to its chapter."
            .into(),
        columns: 3,
        nodes: BOXES.map(node).to_vec(),
        arrows: FLOWS.map(arrow).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::chapters::CHAPTERS;

    #[test]
    fn every_box_leads_to_a_question_of_its_chapter() {
        for (name, _, place, _) in BOXES {
            let (page, question) = place.split_once('#').unwrap();
            let chapter = CHAPTERS.iter().find(|chapter| chapter.slug == page).unwrap();
            let number: usize = question[1..].parse().unwrap();
            assert!(chapter.numbered_questions().any(|(n, _)| n == number), "{name}");
        }
    }
}
