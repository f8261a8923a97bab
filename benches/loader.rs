//! What buckets save: an epoch of batches with and without them, the loader alone and with a model behind it.
//!
//! ```text
//! cargo bench --bench loader
//! SAVE_FIGURE=1 cargo bench --bench loader     also measures both in turns and draws figures/ch03_loader (Linux)
//! ```
//!
//! Every twentieth training example, one thread for the batches and one for everything else. Throughput counts
//! batches. The figure (Linux) shows ratios of processor time, each of epochs that ran one right after the other: they
//! depend less on the machine, and on what else it does, than times on a clock.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use self_attention::data::examples;
use self_attention::model::prefix_decoder_mask;
use self_attention::prelude::*;
use self_attention::visualization::{Axis, Chart, Curves, Series};

/// The most positions of a batch.
const BUDGETS: [usize; 4] = [512, 1024, 2048, 4096];

/// How many pairs of epochs each ratio of the figure comes from.
const ROUNDS: u64 = 7;

/// How many epochs are timed at once, for each work: about a second.
const EPOCHS: [u64; 2] = [500, 1];

type Outcome<T> = std::result::Result<T, Box<dyn Error>>;

/// What is done with each batch, by name.
const WORK: [(&str, Work); 2] = [("loader", keep), ("model", attend)];
type Work = fn(&Transformer, &Batch) -> Result<Tensor>;

/// Nothing is done with it: the loader alone.
fn keep(_: &Transformer, batch: &Batch) -> Result<Tensor> {
    Ok(batch.tokens.shallow_clone())
}

/// The model reads it, without learning.
fn attend(model: &Transformer, batch: &Batch) -> Result<Tensor> {
    let positions = batch.tokens.size()[1];
    let mask = prefix_decoder_mask(&batch.lengths, &batch.prefixes, positions)?;
    Ok(model.forward(&batch.tokens, Some(&mask), &Dropout::off())?.logits)
}

struct Bench {
    examples: Arc<[Example]>,
    model: Transformer,
}

impl Bench {
    fn new() -> Result<Self> {
        let vocabulary = Vocabulary::new();
        let training = examples(&Dictionary::embedded()?, &vocabulary, Split::Train)?;
        let parameters = nn::VarStore::new(Device::Cpu);
        let config = TransformerConfig::new(vocabulary.len() as i64).with_blocks(1);
        Ok(Self {
            examples: training.into_iter().step_by(20).collect(),
            model: config.init(&parameters.root())?,
        })
    }

    fn loader(&self, budget: usize, bucketed: bool) -> Result<Loader> {
        let config = LoaderConfig::new(budget).with_bucketed(bucketed);
        Loader::new(Arc::clone(&self.examples), config, Device::Cpu)
    }

    /// Goes through an epoch.
    fn epoch(&self, loader: &Loader, epoch: u64, work: Work) -> Result<()> {
        for batch in loader.epoch(epoch) {
            drop(std::hint::black_box(work(&self.model, &batch?)?));
        }
        Ok(())
    }

    /// Batches a second, by criterion.
    fn measure(&self, criterion: &mut Criterion) -> Result<()> {
        for (name, work) in WORK {
            let mut group = criterion.benchmark_group(name);
            for budget in BUDGETS {
                for (way, bucketed) in [("shuffled", false), ("buckets", true)] {
                    let loader = self.loader(budget, bucketed)?;
                    group.throughput(Throughput::Elements(loader.batches(0) as u64));
                    group.bench_function(BenchmarkId::new(way, budget), |bencher| {
                        bencher.iter(|| {
                            self.epoch(&loader, 0, work).expect("the batches are good");
                        });
                    });
                }
            }
            group.finish();
        }
        Ok(())
    }

    /// How many times the processor time of an epoch in buckets one without them takes: the median over rounds, and
    /// half the range of the middle five of the seven rounds.
    fn ratio(&self, budget: usize, work: Work, epochs: u64) -> Outcome<(f64, f64)> {
        let loaders = [self.loader(budget, false)?, self.loader(budget, true)?];
        let mut ratios = Vec::new();
        for round in 0..ROUNDS {
            let mut seconds = [0.0; 2];
            for (loader, seconds) in loaders.iter().zip(&mut seconds) {
                let start = processor_seconds()?;
                for epoch in 0..epochs {
                    self.epoch(loader, round * epochs + epoch, work)?;
                }
                *seconds = processor_seconds()? - start;
            }
            ratios.push(seconds[0] / seconds[1]);
        }
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        let [low, median, high] =
            [ratios[last / 4], ratios[last / 2], ratios[last - last / 4]];
        println!("{budget:>5}: {median:.2}, the middle five from {low:.2} to {high:.2}");
        Ok((median, (high - low) / 2.0))
    }

    /// How many times as many positions an epoch has without buckets.
    fn positions(&self, budget: usize) -> Result<f64> {
        let [shuffled, buckets] =
            [self.loader(budget, false)?, self.loader(budget, true)?]
                .map(|loader| 1.0 / (1.0 - loader.padding(&loader.plan(0))));
        Ok(shuffled / buckets)
    }

    fn figure(&self) -> Outcome<Chart> {
        let counted: Result<Vec<_>> = BUDGETS
            .iter()
            .map(|&budget| Ok((budget as f64, self.positions(budget)?)))
            .collect();
        let mut series = vec![Series::new("positions, counted", counted?).with_dashes()];
        for ((name, work), epochs) in WORK.into_iter().zip(EPOCHS) {
            println!("{name}");
            let (mut points, mut spread) = (Vec::new(), Vec::new());
            for budget in BUDGETS {
                let (ratio, range) = self.ratio(budget, work, epochs)?;
                points.push((budget as f64, ratio));
                spread.push(range);
            }
            series.push(Series::new(format!("time, {name}"), points).with_spread(spread));
        }
        Ok(Chart::Curves(Curves {
            title: "An epoch without buckets, divided by one with them".into(),
            description: "Three lines against the positions of a batch, from 512 to 4096: how many times as many positions, \
                          how many times the processor time of the loader alone, and of the loader with a model of one block."
                .into(),
            x_axis: Axis::log("positions of a batch at most"),
            y_axis: Axis::linear("times as much").with_include([1.0]),
            series,
            references: Vec::new(),
        }))
    }
}

/// The time that processors have spent on this program, in all its threads, as Linux counts it.
fn processor_seconds() -> Outcome<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    // In user mode and in the kernel: fields 14 and 15, counted from 1, and the name is the second.
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<std::result::Result<f64, _>>()? / TICKS_PER_SECOND)
}

fn main() -> Outcome<()> {
    tch::set_num_threads(1);
    let _inference = tch::no_grad_guard();
    let bench = Bench::new()?;
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    bench.measure(&mut criterion)?;
    criterion.final_summary();

    if std::env::var_os("SAVE_FIGURE").is_some() {
        let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures");
        bench.figure()?.save(figures, "ch03_loader")?;
        println!("wrote figures/ch03_loader.json and .svg");
    }
    Ok(())
}
