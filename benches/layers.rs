//! Every layer on its own and the training step, on a batch as large as those of the dictionary.
//!
//! ```text
//! cargo bench --bench layers
//! cargo bench --bench layers -- --save-baseline before       then change something, and
//! cargo bench --bench layers -- --baseline before            says by how much each has changed
//! ```
//!
//! 256 sequences of 16 tokens, 128 numbers wide, four heads, 512 hidden units, three blocks, with the mask of the model.
//! Throughput counts positions. `cargo xtask compare` does the same work with PyTorch.

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput};
use self_attention::data::vocabulary::{EOS, PAD, SEP};
use self_attention::prelude::*;
use self_attention::training::trainer::{Trainer, TrainingConfig};

/// Fixed, so that a machine with more cores does not measure something else.
const THREADS: i32 = 2;

const BATCH: i64 = 256;
const POSITIONS: i64 = 16;
const WIDTH: i64 = 128;
const HEADS: i64 = 4;
const BLOCKS: i64 = 3;
const PREFIX: i64 = 8;

/// A layer as a function of `[B, T, E]`.
type Layer<'a> = (&'a str, Box<dyn Fn(&Tensor) -> Result<Tensor> + 'a>);

fn main() -> Result<()> {
    tch::set_num_threads(THREADS);
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("layers");
    group.throughput(Throughput::Elements((BATCH * POSITIONS) as u64));
    layers(&mut group)?;
    for dropout in [0.0, 0.1] {
        let mut step = step(dropout)?;
        group.bench_function(format!("training step, dropout {dropout}"), |bencher| {
            bencher.iter(|| step().expect("the batch fits the model"));
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Each of the batch has half of its positions given.
fn mask() -> Result<Mask> {
    let rows = |number: i64| Tensor::full([BATCH], number, (Kind::Int64, Device::Cpu));
    prefix_decoder_mask(&rows(POSITIONS), &rows(PREFIX), POSITIONS)
}

/// Forward, and forward and backward.
fn layers(group: &mut BenchmarkGroup<criterion::measurement::WallTime>) -> Result<()> {
    let store = nn::VarStore::new(Device::Cpu);
    let block = BlockConfig::new(WIDTH, HEADS).init(&store.root())?;
    let mask = mask()?;
    let off = Dropout::off();
    let some = Dropout::new(0.1, 1)?;
    let layers: [Layer; 5] = [
        (
            "multi-head",
            Box::new(|x| Ok(block.attention.forward(x, Some(&mask), &off)?.context)),
        ),
        ("feed-forward", Box::new(|x| block.feed_forward.forward(x))),
        ("layer norm", Box::new(|x| block.attention_norm.forward(x))),
        ("dropout", Box::new(|x| some.apply(x))),
        ("block", Box::new(|x| Ok(block.forward(x, Some(&mask), &off)?.context))),
    ];
    let x = Tensor::randn([BATCH, POSITIONS, WIDTH], (Kind::Float, Device::Cpu));
    let leaf = x.copy().set_requires_grad(true);
    for (name, layer) in layers {
        group.bench_function(format!("{name}, forward"), |bencher| {
            bencher.iter(|| tch::no_grad(|| layer(&x).expect("x fits the layer")));
        });
        group.bench_function(format!("{name}, forward and backward"), |bencher| {
            bencher.iter(|| {
                let sum = layer(&leaf).expect("x fits the layer").sum(Kind::Float);
                Tensor::run_backward(&[sum], &[&leaf], false, false)
            });
        });
    }
    Ok(())
}

/// A step of the trainer: mask, forward pass, loss, backward pass, clipping, optimizer.
fn step(dropout: f64) -> Result<impl FnMut() -> Result<()>> {
    let vocabulary = Vocabulary::new().len() as i64;
    let config = TransformerConfig::new(vocabulary)
        .with_width(WIDTH)
        .with_heads(HEADS)
        .with_blocks(BLOCKS);
    let training = TrainingConfig { dropout, ..TrainingConfig::default() };
    let unused = vec![Example { tokens: vec![PAD, SEP, EOS], prefix: 2 }];
    let data = [unused.clone(), unused];
    let folder = tempfile::tempdir().map_err(Error::io("a temporary folder"))?;
    let mut trainer = Trainer::new(&config, training, data, Device::Cpu, folder.path())?;
    let ids =
        || Tensor::randint(vocabulary, [BATCH, POSITIONS], (Kind::Int64, Device::Cpu));
    let (tokens, targets) = (ids(), ids());
    let _ = targets.narrow(1, 0, PREFIX - 1).fill_(IGNORED);
    let rows = |number: i64| Tensor::full([BATCH], number, (Kind::Int64, Device::Cpu));
    let (lengths, prefixes) = (rows(POSITIONS), rows(PREFIX));
    let batch = Batch { tokens, targets, lengths, prefixes };
    Ok(move || {
        let _folder = &folder; // it lives as long as the trainer
        trainer.step(&batch).map(drop)
    })
}
