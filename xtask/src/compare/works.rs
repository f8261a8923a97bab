//! What is compared: each piece of work with its sizes, the sides that do it, and what is hoped for.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::inputs::{Random, Tensors};
use crate::error::{Error, Result, file};

/// Which program does the work of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// `src/bin/compare`, of this crate.
    Ours,
    /// `benches/pytorch/compare.py`.
    PyTorch,
    /// `benches/others`: burn.
    Burn,
    /// `benches/others`: candle.
    Candle,
    /// `benches/pytorch/compare.py`, with g2p-en.
    G2pEn,
}

impl Program {
    pub const ALL: [Program; 5] =
        [Program::Ours, Program::PyTorch, Program::Burn, Program::Candle, Program::G2pEn];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Program::Ours => "ours",
            Program::PyTorch => "pytorch",
            Program::Burn => "burn",
            Program::Candle => "candle",
            Program::G2pEn => "g2p-en",
        }
    }
}

/// One of those who do a piece of work.
#[derive(Debug, Clone)]
pub struct Side {
    /// As in the results; ours begin with `ours`.
    pub name: &'static str,
    pub program: Program,
    /// The way in which the program shall do it.
    pub way: &'static str,
    /// The side of ours that it is compared with.
    pub against: Option<&'static str>,
    /// What differs from the settings of the work, for this side alone.
    pub settings: Value,
    /// Whether its numbers must be those of ours. Where it does other work, there is nothing to compare.
    pub is_checked: bool,
}

impl Side {
    fn new(name: &'static str, program: Program, way: &'static str) -> Side {
        let against = (!name.starts_with("ours")).then_some("ours");
        let settings = json!({});
        Side { name, program, way, against, settings, is_checked: true }
    }

    fn against(self, against: &'static str) -> Side {
        Side { against: Some(against), ..self }
    }

    fn settings(self, settings: Value) -> Side {
        Side { settings, ..self }
    }

    fn unchecked(self) -> Side {
        Side { is_checked: false, ..self }
    }
}

/// What is hoped for: ours takes at most `most` times what `than` takes, or at most `most` seconds where there is no
/// such side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    pub than: Option<&'static str>,
    pub most: f64,
}

/// A piece of work.
#[derive(Debug, Clone)]
pub struct Work {
    /// What the tables are made of: one for each group.
    pub group: &'static str,
    /// Unlike that of any other.
    pub name: String,
    /// What is counted in a run: a call, a step, a word …
    pub unit: &'static str,
    /// What the workers know it by.
    pub kind: &'static str,
    /// What the workers are told.
    pub settings: Value,
    pub inputs: Inputs,
    pub sides: Vec<Side>,
    pub targets: Vec<Target>,
    /// How far numbers may be apart, as a share of the largest of them, in 32 bits.
    pub tolerance: f64,
    /// Whether it takes minutes: then a few rounds, and nothing before them to warm up.
    pub is_long: bool,
}

/// What lies in the file that a work begins with.
#[derive(Debug, Clone)]
pub enum Inputs {
    None,
    /// Queries, keys, values, and the gradient of the context, `[B, H, T, D]` each.
    Attention([usize; 4]),
    /// A vector for each letter and the gradient of the result, `[B, T, E]` each, and the parameters of a block.
    Block(Shape),
    /// Tokens, targets, lengths and prefixes, and the parameters of a model.
    Step(Shape),
    /// The examples of the dictionary, which the Rust side writes, and the parameters of a model.
    Epoch {
        shape: Shape,
        share: f64,
        budget: usize,
    },
}

/// The sizes of a model and its batch.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub batch: usize,     // B
    pub positions: usize, // T
    pub width: usize,     // E
    pub heads: usize,     // H
    pub hidden: usize,    // F
    pub blocks: usize,
    pub vocabulary: usize, // V
    pub max_positions: usize,
}

impl Shape {
    /// The model of the comparison: 256 sequences of 16 tokens, as many as a batch of the dictionary has.
    const STEP: Shape = Shape {
        batch: 256,
        positions: 16,
        width: 128,
        heads: 4,
        hidden: 512,
        blocks: 3,
        vocabulary: 69,
        max_positions: 64,
    };

    /// For tests: milliseconds.
    const QUICK: Shape =
        Shape { batch: 4, positions: 8, width: 16, hidden: 32, blocks: 2, ..Self::STEP };

    fn json(self) -> Value {
        let Shape { batch, positions, width, heads, hidden, blocks, .. } = self;
        let Shape { vocabulary, max_positions, .. } = self;
        json!({
            "batch": batch, "positions": positions, "width": width, "heads": heads,
            "hidden": hidden, "blocks": blocks, "vocabulary": vocabulary,
            "max_positions": max_positions,
        })
    }
}

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Sizes for a test: seconds in all.
    pub quick: bool,
    /// The share of the training words in an epoch.
    pub epoch: f64,
    /// Whether a CUDA card does the work.
    pub on_card: bool,
}

/// Every piece of work, in the order of the appendix.
pub fn all(scale: Scale, root: &Path) -> Result<Vec<Work>> {
    let shape = if scale.quick { Shape::QUICK } else { Shape::STEP };
    let lengths: &[usize] =
        if scale.quick { &[8, 16] } else { &[64, 128, 256, 512, 1024, 2048] };
    let mut works = Vec::new();
    for backward in [false, true] {
        works.extend(lengths.iter().map(|&length| attention(length, backward)));
    }
    for kind in ["multi_head", "block"] {
        works.extend([false, true].map(|backward| layer(kind, backward, shape)));
    }
    works.extend([0.0, 0.1].map(|dropout| step(dropout, shape)));
    works.push(epoch(scale, shape));
    let words = test_words(root)?;
    works.extend([true, false].map(|batched| decoding(batched, scale, &words)));
    if scale.on_card {
        // What has no CUDA here, and the dictionary's loop, which no card makes faster.
        for work in &mut works {
            work.sides
                .retain(|side| matches!(side.program, Program::Ours | Program::PyTorch));
            work.targets.clear(); // those are for the processor
        }
    }
    Ok(works)
}

fn attention(length: usize, backward: bool) -> Work {
    use Program::{Burn, Candle, Ours, PyTorch};
    let explicit = "ours, explicit";
    let mut sides = vec![
        Side::new(explicit, Ours, "explicit"),
        Side::new("ours, fused", Ours, "fused"),
        Side::new("PyTorch, explicit", PyTorch, "explicit").against(explicit),
        Side::new("PyTorch, explicit, compiled", PyTorch, "explicit compiled")
            .against(explicit),
        Side::new("PyTorch, fused", PyTorch, "fused").against("ours, fused"),
    ];
    if !backward {
        sides.push(Side::new("burn, explicit", Burn, "explicit").against(explicit));
        sides.push(Side::new("candle, explicit", Candle, "explicit").against(explicit));
    }
    let there_and_back = if backward { "forward and backward" } else { "forward" };
    Work {
        group: if backward { "attention_backward" } else { "attention" },
        name: format!("attention, {there_and_back}, T = {length}"),
        unit: "call",
        kind: "attention",
        settings: json!({ "backward": backward, "T": length }),
        inputs: Inputs::Attention([1, 4, length, 64]),
        sides,
        targets: Vec::new(),
        tolerance: 1e-4,
        is_long: false,
    }
}

fn layer(kind: &'static str, backward: bool, shape: Shape) -> Work {
    use Program::{Ours, PyTorch};
    let there_and_back = if backward { "forward and backward" } else { "forward" };
    let name = if kind == "block" { "block" } else { "multi-head layer" };
    Work {
        group: "layers",
        name: format!("{name}, {there_and_back}"),
        unit: "call",
        kind,
        settings: json!({ "backward": backward, "model": shape.json() }),
        inputs: Inputs::Block(shape),
        sides: vec![
            Side::new("ours", Ours, "ours"),
            Side::new("PyTorch", PyTorch, "eager"),
            Side::new("PyTorch, compiled", PyTorch, "compiled"),
        ],
        targets: Vec::new(),
        tolerance: 1e-4,
        is_long: false,
    }
}

fn step(dropout: f64, shape: Shape) -> Work {
    use Program::{Burn, Candle, Ours, PyTorch};
    let (name, targets) = if dropout > 0.0 {
        (
            format!("training step, dropout {dropout}"),
            vec![("PyTorch", 0.8), ("PyTorch, compiled", 0.8), (PRODUCTS, 1.6)],
        )
    } else {
        ("training step, no dropout".to_string(), vec![("PyTorch", 0.95)])
    };
    let mut sides = vec![
        Side::new("ours", Ours, "ours"),
        Side::new("plain tch", Ours, "plain tch"),
        Side::new("PyTorch", PyTorch, "eager"),
        Side::new("PyTorch, compiled", PyTorch, "compiled"),
        Side::new("burn", Burn, "burn"),
        Side::new("candle", Candle, "candle"),
        Side::new(PRODUCTS, Ours, "products")
            .settings(json!({ "products": products(shape) }))
            .unchecked(),
    ];
    if dropout > 0.0 {
        // With one dropout more in each block, inside the feed-forward network.
        sides.push(Side::new("PyTorch, its own block", PyTorch, "as it comes"));
    }
    let target = |(than, most)| Target { than: Some(than), most };
    Work {
        group: "step",
        name,
        unit: "step",
        kind: "step",
        settings: json!({ "dropout": dropout, "model": shape.json(), "training": training() }),
        inputs: Inputs::Step(shape),
        sides,
        targets: targets.into_iter().map(target).collect(),
        tolerance: 1e-3,
        is_long: false,
    }
}

const PRODUCTS: &str = "its matrix products alone";

/// How every side trains.
fn training() -> Value {
    json!({
        "learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-8,
        "weight_decay": 0.05, "clip": 1.0, "label_smoothing": 0.05,
    })
}

/// The matrix products of one training step: `batch` products of `[m, k]` with `[k, n]`, `times` times. Each product of
/// the forward pass has two in the backward pass, one for the gradient of each of its factors, with as many
/// multiplications.
fn products(shape: Shape) -> Value {
    let Shape { batch, positions, width, heads, hidden, blocks, vocabulary, .. } = shape;
    let rows = batch * positions; // B·T
    let linear = |inputs: usize, outputs: usize, times: usize| {
        [
            json!({ "m": rows, "k": inputs, "n": outputs, "times": times, "batch": 1,
                    "transposed": "second" }), // x·Wᵀ
            json!({ "m": rows, "k": outputs, "n": inputs, "times": times, "batch": 1,
                    "transposed": "none" }), // the gradient of x
            json!({ "m": outputs, "k": rows, "n": inputs, "times": times, "batch": 1,
                    "transposed": "first" }), // the gradient of W
        ]
    };
    let head = width / heads; // D
    let pairs = |m: usize, k: usize, n: usize, transposed: &str| {
        json!({ "m": m, "k": k, "n": n, "times": blocks, "batch": batch * heads,
                "transposed": transposed })
    };
    let attention = [
        pairs(positions, head, positions, "second"), // Q·Kᵀ
        pairs(positions, positions, head, "none"),   // the gradient of Q
        pairs(positions, positions, head, "first"),  // the gradient of K
        pairs(positions, positions, head, "none"),   // weights·V
        pairs(positions, head, positions, "second"), // the gradient of the weights
        pairs(positions, positions, head, "first"),  // the gradient of V
    ];
    let linears = [
        linear(width, 3 * width, blocks),
        linear(width, width, blocks),
        linear(width, hidden, blocks),
        linear(hidden, width, blocks),
        linear(width, vocabulary, 1),
    ];
    Value::Array(linears.into_iter().flatten().chain(attention).collect())
}

fn epoch(scale: Scale, shape: Shape) -> Work {
    use Program::{Ours, PyTorch};
    let budget = if scale.quick { 512 } else { 4096 };
    let share = if scale.quick { 0.002 } else { scale.epoch };
    let (tutorial, buckets) = ("PyTorch, as its tutorials do it", "PyTorch, our buckets");
    Work {
        group: "epoch",
        name: "one epoch on the dictionary".to_string(),
        unit: "epoch",
        kind: "epoch",
        settings: json!({
            "dropout": 0.1, "model": shape.json(), "training": training(),
            "share": share, "tokens_per_batch": budget,
        }),
        inputs: Inputs::Epoch { shape, share, budget },
        sides: vec![
            Side::new("ours", Ours, "ours"),
            Side::new(buckets, PyTorch, "buckets"),
            Side::new(tutorial, PyTorch, "tutorial").unchecked(),
        ],
        targets: vec![
            Target { than: Some(tutorial), most: 0.45 },
            Target { than: Some(buckets), most: 0.85 },
        ],
        tolerance: 1e-3,
        is_long: true,
    }
}

fn decoding(batched: bool, scale: Scale, words: &[String]) -> Work {
    use Program::{G2pEn, Ours, PyTorch};
    let count = match (scale.quick, batched) {
        (true, _) => 6,
        (false, true) => 2000,
        (false, false) => 200,
    };
    let spread = |count: usize| -> Vec<&String> {
        let apart = (words.len() / count).max(1);
        words.iter().step_by(apart).take(count).collect()
    };
    let g2p_en = json!({ "words": spread(count.min(200)) });
    let (name, targets) = if batched {
        let targets = vec![("PyTorch, no cache", 1.0 / 5.0), ("g2p-en", 1.0 / 100.0)];
        let targets =
            targets.into_iter().map(|(than, most)| Target { than: Some(than), most });
        (format!("pronouncing {count} words together"), targets.collect())
    } else {
        let target = Target { than: None, most: 0.015 };
        (format!("pronouncing {count} words, one at a time"), vec![target])
    };
    Work {
        group: "decoding",
        name,
        unit: "word",
        kind: "decoding",
        settings: json!({
            "words": spread(count), "side_by_side": if batched { 256 } else { 1 },
            "weights": weights(Path::new("")),
        }),
        inputs: Inputs::None,
        sides: vec![
            Side::new("ours", Ours, "ours"),
            Side::new("PyTorch, with a cache", PyTorch, "cache"),
            Side::new("PyTorch, no cache", PyTorch, "no cache"),
            Side::new("g2p-en", G2pEn, "g2p-en").settings(g2p_en).unchecked(),
        ],
        targets,
        tolerance: 0.0,
        is_long: false,
    }
}

/// The model that is shipped, seen from the repository at `root`.
fn weights(root: &Path) -> PathBuf {
    root.join("models/pronouncer.safetensors")
}

/// The words that no model was trained on, as they stand in a file with what g2p-en makes of them.
fn test_words(root: &Path) -> Result<Vec<String>> {
    let path = root.join("models/comparison/g2p_en.tsv");
    let text = std::fs::read_to_string(&path).map_err(file("reading", &path))?;
    let word = |line: &str| Some(line.split_once('\t')?.0.to_string());
    let words: Vec<String> = text.lines().filter_map(word).collect();
    if words.is_empty() {
        let problem = "holds no word; each line should be a word, a tab and its phonemes";
        return Err(Error::Unusable { path, problem: problem.to_string() });
    }
    Ok(words)
}

impl Inputs {
    /// The tensors of the file, drawn from a seed that is the same for all.
    pub fn draw(&self) -> Tensors {
        let mut random = Random::new(6);
        let mut tensors = Tensors::default();
        match *self {
            Inputs::None => {}
            Inputs::Attention(shape) => {
                for name in ["query", "key", "value", "upstream"] {
                    let numbers = random.normal(shape.iter().product(), 0.0, 1.0);
                    tensors.floats(name, &shape, &numbers);
                }
            }
            Inputs::Block(shape) => {
                let Shape { batch, positions, width, .. } = shape;
                for name in ["x", "upstream"] {
                    let numbers = random.normal(batch * positions * width, 0.0, 1.0);
                    tensors.floats(name, &[batch, positions, width], &numbers);
                }
                lengths(&mut tensors, shape);
                block(&mut tensors, &mut random, "", shape);
            }
            Inputs::Step(shape) => {
                let Shape { batch, positions, vocabulary, .. } = shape;
                let prefix = positions / 2;
                let mut tokens = Vec::new();
                let mut targets = Vec::new();
                for _ in 0..batch {
                    // Letters, then phonemes, of which each is asked for at the place before its own.
                    let letters = random.integers(prefix, 3, 30);
                    let phonemes =
                        random.integers(positions + 1 - prefix, 30, vocabulary as i64);
                    tokens.extend(letters.iter().chain(&phonemes[..positions - prefix]));
                    targets.extend(vec![IGNORED; prefix - 1]);
                    targets.extend(&phonemes);
                }
                tensors.integers("tokens", &[batch, positions], &tokens);
                tensors.integers("targets", &[batch, positions], &targets);
                lengths(&mut tensors, shape);
                model(&mut tensors, &mut random, shape);
            }
            Inputs::Epoch { shape, .. } => model(&mut tensors, &mut random, shape),
        }
        tensors
    }
}

/// The target at a place where nothing is asked.
const IGNORED: i64 = -100;

/// All sequences are of full length, and half of each is given.
fn lengths(tensors: &mut Tensors, Shape { batch, positions, .. }: Shape) {
    tensors.integers("lengths", &[batch], &vec![positions as i64; batch]);
    tensors.integers("prefixes", &[batch], &vec![positions as i64 / 2; batch]);
}

/// The parameters of one block, under the names that they have in `nn.TransformerEncoderLayer`.
fn block(tensors: &mut Tensors, random: &mut Random, before: &str, shape: Shape) {
    let Shape { width, hidden, .. } = shape;
    let mut linear = |weight: &str, bias: &str, inputs: usize, outputs: usize| {
        let deviation = 1.0 / (inputs as f64).sqrt();
        let numbers = random.normal(outputs * inputs, 0.0, deviation);
        tensors.floats(&format!("{before}{weight}"), &[outputs, inputs], &numbers);
        let numbers = random.normal(outputs, 0.0, 0.1);
        tensors.floats(&format!("{before}{bias}"), &[outputs], &numbers);
    };
    linear("self_attn.in_proj_weight", "self_attn.in_proj_bias", width, 3 * width);
    linear("self_attn.out_proj.weight", "self_attn.out_proj.bias", width, width);
    linear("linear1.weight", "linear1.bias", width, hidden);
    linear("linear2.weight", "linear2.bias", hidden, width);
    for name in ["norm1", "norm2"] {
        norm(tensors, random, &format!("{before}{name}"), width);
    }
}

fn norm(tensors: &mut Tensors, random: &mut Random, name: &str, width: usize) {
    for (part, mean) in [("weight", 1.0), ("bias", 0.0)] {
        let numbers = random.normal(width, mean, 0.1);
        tensors.floats(&format!("{name}.{part}"), &[width], &numbers);
    }
}

/// The parameters of a whole model.
fn model(tensors: &mut Tensors, random: &mut Random, shape: Shape) {
    let Shape { width, vocabulary, max_positions, blocks, .. } = shape;
    for (name, rows) in [("embedding", vocabulary), ("positions", max_positions)] {
        let numbers = random.normal(rows * width, 0.0, 0.05);
        tensors.floats(name, &[rows, width], &numbers);
    }
    for index in 0..blocks {
        block(tensors, random, &format!("layers.{index}."), shape);
    }
    norm(tensors, random, "norm", width);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    fn works(quick: bool, on_card: bool) -> Vec<Work> {
        all(Scale { quick, epoch: 1.0, on_card }, Path::new(ROOT)).unwrap()
    }

    #[test]
    fn names_differ_and_every_side_is_compared_with_one_of_ours() {
        for (quick, on_card) in [(false, false), (true, false), (false, true)] {
            let works = works(quick, on_card);
            let names: BTreeSet<_> = works.iter().map(|work| &work.name).collect();
            assert_eq!(names.len(), works.len());
            for work in &works {
                let named = |name: &str| work.sides.iter().find(|side| side.name == name);
                for side in &work.sides {
                    if let Some(against) = side.against {
                        let ours = named(against).unwrap_or_else(|| panic!("{work:?}"));
                        assert_eq!((ours.program, ours.against), (Program::Ours, None));
                    }
                }
                for than in work.targets.iter().filter_map(|target| target.than) {
                    assert!(named(than).is_some(), "{}: {than}", work.name);
                }
                let ours = |side: &Side| side.program == Program::Ours && side.is_checked;
                assert!(
                    ours(&work.sides[0]),
                    "{}: what the others are checked by",
                    work.name
                );
            }
        }
    }

    #[test]
    fn the_products_are_all_the_multiplications_of_a_step() {
        let count = |product: &Value| -> u64 {
            let size = |name: &str| product[name].as_u64().unwrap();
            ["batch", "m", "k", "n", "times"].into_iter().map(size).product()
        };
        let counted: u64 =
            products(Shape::STEP).as_array().unwrap().iter().map(count).sum();
        // By hand: B·T·(4·E² + 2·E·F) a block, 2·B·T²·E for its attention, B·T·E·V for the logits; three times.
        let (rows, width, hidden) = (256 * 16, 128, 512);
        let block =
            rows * (4 * width * width + 2 * width * hidden) + 2 * rows * 16 * width;
        assert_eq!(counted, 3 * (3 * block + rows * width * 69));
    }

    #[test]
    fn a_step_asks_for_each_phoneme_at_the_place_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step");
        Inputs::Step(Shape::QUICK).draw().write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let integers = |name: &str| -> Vec<i64> {
            let offset =
                |end: usize| header[name]["data_offsets"][end].as_u64().unwrap() as usize;
            let numbers = &bytes[8 + length..][offset(0)..offset(1)];
            numbers.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let (tokens, targets) = (integers("tokens"), integers("targets"));
        for (tokens, targets) in tokens.chunks(8).zip(targets.chunks(8)) {
            assert!(tokens[..4].iter().all(|&token| token < 30));
            assert_eq!(targets[..3], [IGNORED; 3]);
            assert_eq!(targets[3..7], tokens[4..]);
            assert!(targets[7] >= 30);
        }
        assert_eq!(integers("prefixes"), [4; 4]);
    }

    #[test]
    fn a_file_without_words_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models/comparison/g2p_en.tsv");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "though\n").unwrap();
        let error = test_words(folder.path()).unwrap_err().to_string();
        assert!(error.contains("g2p_en.tsv holds no word"), "{error}");
    }
}
