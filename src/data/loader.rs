//! A loader: one shuffled epoch of batches after another.
//!
//! PyTorch's `DataLoader` puts a fixed number of examples into a batch. Here a batch has a fixed number of
//! *positions*, B·T at most, padding included: that number is what memory and time depend on, so a batch of
//! short words may have many rows and a batch of long words few.
//!
//! | PyTorch | here |
//! |---|---|
//! | `batch_size`, `batch_sampler` | [`LoaderConfig::tokens_per_batch`] |
//! | `shuffle`, `generator` | [`LoaderConfig::seed`] and the number of the epoch |
//! | `collate_fn` | [`Batch::collate`] |
//! | `num_workers`, `prefetch_factor` | [`LoaderConfig::prefetch`], one thread |

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::iter;
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use fnv::FnvHasher;
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use self_attention::data::batch::{Batch, Example};
use self_attention::error::{Error, Result};
use tch::Device;

// ANCHOR: loader_config
/// How examples become batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// The most positions, B·T with the padding, that a batch may have.
    pub tokens_per_batch: usize,
    /// Whether examples of like length share a batch, so that little of it is padding. Default: yes.
    pub bucketed: bool,
    /// Which of all shuffles to take. Default: 0.
    pub seed: u64,
    /// How many batches a thread of its own lays ready, beside the one in its hands; with 0 there is no thread.
    /// Default: 2.
    pub prefetch: usize,
}

impl LoaderConfig {
    /// Batches of at most `tokens_per_batch` positions, the rest by default.
    pub fn new(tokens_per_batch: usize) -> Self {
        Self { tokens_per_batch, bucketed: true, seed: 0, prefetch: 2 }
    }

    /// Sets whether examples of like length share a batch.
    pub fn with_bucketed(self, bucketed: bool) -> Self {
        Self { bucketed, ..self }
    }

    /// Sets the seed of the shuffle.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets how many batches are laid ready.
    pub fn with_prefetch(self, prefetch: usize) -> Self {
        Self { prefetch, ..self }
    }
}
// ANCHOR_END: loader_config

// ANCHOR: loader
/// Hands out the examples, every one once an epoch, in shuffled batches on a device.
#[derive(Clone, Debug)]
pub struct Loader {
    examples: Arc<[Example]>,
    config: LoaderConfig,
    device: Device,
}
// ANCHOR_END: loader

impl Loader {
    /// A loader of `examples` whose batches lie on `device`.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no example; [`Error::Config`] if the longest takes more positions than a
    /// batch may have.
    pub fn new(
        examples: Arc<[Example]>,
        config: LoaderConfig,
        device: Device,
    ) -> Result<Self> {
        let Some(longest) = examples.iter().map(Example::positions).max() else {
            return Err(Error::input(
                "loader",
                "there is no example to load; give at least one",
            ));
        };
        if longest > config.tokens_per_batch {
            let reason = format!(
                "the longest example takes {longest} positions; allow at least as many"
            );
            return Err(Error::config(
                "tokens_per_batch",
                config.tokens_per_batch,
                reason,
            ));
        }
        Ok(Self { examples, config, device })
    }

    /// A number that tells these examples from others: the FNV-1a hash of their tokens.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FnvHasher::default();
        self.examples.hash(&mut hasher);
        hasher.finish()
    }

    /// How many batches an epoch has. Without buckets it may differ from epoch to epoch.
    pub fn batches(&self, epoch: u64) -> usize {
        self.plan(epoch).len()
    }

    /// The part of a plan's positions that is padding, computed and thrown away: `1 − Σ lengths / Σ B·T`.
    ///
    /// It is counted without making a single tensor. A plan of this loader's own is expected; places it has no example
    /// for do not count.
    // ANCHOR: padding
    pub fn padding(&self, plan: &[Vec<usize>]) -> f64 {
        let (mut real, mut computed) = (0, 0);
        for places in plan {
            let examples = places.iter().filter_map(|&place| self.examples.get(place));
            let lengths: Vec<usize> = examples.map(Example::positions).collect();
            real += lengths.iter().sum::<usize>();
            computed += lengths.len() * lengths.iter().max().unwrap_or(&0); // B·T
        }
        1.0 - real as f64 / computed.max(1) as f64
    }
    // ANCHOR_END: padding

    /// The batches of an epoch. The same seed and epoch give the same batches in the same order.
    pub fn epoch(&self, epoch: u64) -> Batches {
        self.epoch_from(epoch, 0)
    }

    /// The batches of an epoch without the first `first_batch`, to go on where a run was cut off.
    pub fn epoch_from(&self, epoch: u64, first_batch: usize) -> Batches {
        let mut plan = self.plan(epoch);
        plan.drain(..first_batch.min(plan.len()));
        let examples = Arc::clone(&self.examples);
        let collate = move |places: Vec<usize>| {
            let examples: Vec<&Example> =
                places.iter().map(|&place| &examples[place]).collect();
            Batch::collate(&examples, Device::Cpu)
        };
        Batches::start(plan, collate, self.config.prefetch, self.device)
    }

    /// Which examples share a batch, by their places, and in which order the batches come.
    ///
    /// The sort is stable, so within a length the order is the shuffle's, and the same words do not meet in
    /// every epoch. The batches are shuffled last, or training would go from short words to long ones.
    // ANCHOR: plan
    pub fn plan(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut random = ChaCha8Rng::seed_from_u64(self.config.seed);
        random.set_stream(epoch);

        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        order.shuffle(&mut random);
        if self.config.bucketed {
            order.sort_by_key(|&place| self.examples[place].positions());
        }
        let mut plan = self.cut(&order);
        plan.shuffle(&mut random);
        plan
    }

    /// Cuts an order of examples into batches, each as large as it may be.
    fn cut(&self, order: &[usize]) -> Vec<Vec<usize>> {
        let mut plan = Vec::new();
        let mut batch = Vec::new();
        let mut longest = 0;
        for &place in order {
            let positions = self.examples[place].positions();
            if (batch.len() + 1) * longest.max(positions) > self.config.tokens_per_batch {
                plan.push(std::mem::take(&mut batch));
                longest = 0;
            }
            batch.push(place);
            longest = longest.max(positions);
        }
        plan.push(batch);
        plan
    }
    // ANCHOR_END: plan
}

// ANCHOR: batches
/// The batches of one epoch. After an error it is at its end.
///
/// A thread collates the next batches while the model works on the present one. The channel
/// between them holds a few batches and no more, so a fast thread waits instead of filling
/// the memory. Dropping this before its end stops the thread and waits for it.
pub struct Batches {
    source: Source,
    left: usize,
    device: Device,
}

enum Source {
    /// The batches are made when they are asked for.
    Inline(Box<dyn Iterator<Item = Result<Batch>> + Send>),
    /// The batches come from a thread.
    Thread(Receiver<Result<Batch>>, JoinHandle<()>),
    /// Nothing more comes.
    Ended,
}
// ANCHOR_END: batches

impl Batches {
    // ANCHOR: start
    fn start<F>(
        plan: Vec<Vec<usize>>,
        mut collate: F,
        prefetch: usize,
        device: Device,
    ) -> Self
    where
        F: FnMut(Vec<usize>) -> Result<Batch> + Send + 'static,
    {
        let left = plan.len();
        let source = if prefetch == 0 {
            Source::Inline(Box::new(plan.into_iter().map(collate)))
        } else {
            let (sender, receiver) = sync_channel(prefetch);
            let work = move || {
                for places in plan {
                    // The send fails when the receiver is gone: nobody wants the rest.
                    if sender.send(collate(places)).is_err() {
                        return;
                    }
                }
            };
            match Builder::new().name("prefetch".into()).spawn(work) {
                Ok(thread) => Source::Thread(receiver, thread),
                Err(error) => Source::Inline(Box::new(iter::once(Err(worker_error(
                    error.to_string(),
                ))))),
            }
        };
        Self { source, left, device }
    }
    // ANCHOR_END: start

    /// Ends the source, waiting for its thread; the thread's panic, if that was its end.
    // ANCHOR: end
    fn end(&mut self) -> Option<Error> {
        self.left = 0;
        match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Thread(receiver, thread) => {
                drop(receiver); // first, or a thread that waits to send would never end
                thread
                    .join()
                    .err()
                    .map(|panic| worker_error(panic_message(panic.as_ref())))
            }
            Source::Inline(_) | Source::Ended => None,
        }
    }
    // ANCHOR_END: end
}

// ANCHOR: iterator
impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let collated = match &mut self.source {
            Source::Inline(batches) => batches.next(),
            Source::Thread(receiver, _) => receiver.recv().ok(),
            Source::Ended => None,
        };
        let batch = match collated {
            Some(batch) => batch.and_then(|batch| batch.to_device(self.device)),
            None => Err(self
                .end()
                .unwrap_or_else(|| worker_error("batches are missing".into()))),
        };
        match batch {
            Ok(_) => self.left -= 1,
            Err(_) => self.left = 0,
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}
// ANCHOR_END: iterator

impl ExactSizeIterator for Batches {}

// ANCHOR: drop
impl Drop for Batches {
    fn drop(&mut self) {
        self.end();
    }
}
// ANCHOR_END: drop

fn worker_error(reason: String) -> Error {
    Error::Worker { worker: "prefetch", reason }
}

/// What a panic said, where it said it in words.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;

    use proptest::prelude::*;
    use self_attention::data::batch::IGNORED;
    use self_attention::data::vocabulary::{EOS, SEP};

    use super::*;

    /// Examples of the given lengths. The first letter, which is no real id, tells them apart.
    fn examples(letters: &[usize]) -> Arc<[Example]> {
        let example = |(index, &letters): (usize, &usize)| {
            let mut tokens = vec![1000 + index as i64; letters];
            tokens.extend([SEP, 30, EOS]);
            Example { tokens, prefix: letters + 1 }
        };
        letters.iter().enumerate().map(example).collect()
    }

    fn loader(letters: &[usize], config: LoaderConfig) -> Loader {
        Loader::new(examples(letters), config, Device::Cpu).unwrap()
    }

    /// Which examples each batch holds.
    fn order(batches: Batches) -> Vec<Vec<i64>> {
        batches
            .map(|batch| Vec::try_from(batch.unwrap().tokens.select(1, 0)).unwrap())
            .collect()
    }

    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1_usize..20, 1..60)
    }

    proptest! {
        #[test]
        fn every_example_comes_once_and_no_batch_is_over_budget(
            lengths in lengths(),
            budget in 22_usize..100,
            bucketed: bool,
            prefetch in 0_usize..3,
            seed: u64,
            epoch: u64,
        ) {
            let config =
                LoaderConfig::new(budget).with_bucketed(bucketed).with_prefetch(prefetch).with_seed(seed);
            let loader = loader(&lengths, config);
            let mut seen = Vec::new();
            let batches = loader.epoch(epoch);
            prop_assert_eq!(batches.len(), loader.batches(epoch));
            for batch in batches {
                let batch = batch.unwrap();
                prop_assert!(batch.positions() <= budget);
                seen.extend(Vec::<i64>::try_from(batch.tokens.select(1, 0)).unwrap());
                // Each example asks for one phoneme and the <eos>.
                let asked = batch.targets.ne(IGNORED).sum(tch::Kind::Int64).int64_value(&[]);
                prop_assert_eq!(asked, 2 * batch.tokens.size()[0]);
            }
            seen.sort_unstable();
            let all: Vec<i64> = (0..lengths.len()).map(|index| 1000 + index as i64).collect();
            prop_assert_eq!(seen, all);
        }

        #[test]
        fn seed_and_epoch_decide_the_order(lengths in lengths(), bucketed: bool, seed: u64, epoch in 0..u64::MAX) {
            let config = LoaderConfig::new(64).with_bucketed(bucketed).with_seed(seed);
            let plain = order(loader(&lengths, config).epoch(epoch));
            prop_assert_eq!(&plain, &order(loader(&lengths, config.with_prefetch(0)).epoch(epoch)));
            let rest = order(loader(&lengths, config).epoch_from(epoch, 2));
            prop_assert_eq!(&plain[plain.len().min(2)..], &rest[..]);
        }
    }

    #[test]
    fn another_epoch_or_seed_gives_another_order() {
        let lengths: Vec<usize> = (0..200).map(|index| 1 + index % 15).collect();
        for bucketed in [true, false] {
            let config = LoaderConfig::new(64).with_bucketed(bucketed);
            let first = order(loader(&lengths, config).epoch(0));
            assert_ne!(first, order(loader(&lengths, config).epoch(1)));
            assert_ne!(first, order(loader(&lengths, config.with_seed(1)).epoch(0)));
        }
    }

    /// If this fails, a checkpoint from before would resume on other batches than it was cut off from.
    #[test]
    fn the_shuffle_is_the_same_on_every_machine() {
        let config = LoaderConfig::new(20).with_seed(7);
        assert_eq!(
            loader(&[3, 3, 3, 8, 8, 1, 2], config).plan(2),
            [vec![4], vec![5, 6, 2, 1], vec![0, 3]]
        );
    }

    #[test]
    fn buckets_save_padding() {
        let lengths: Vec<usize> = (0..500).map(|index| 1 + index % 15).collect();
        let padding = |bucketed| -> f64 {
            let loader = loader(&lengths, LoaderConfig::new(256).with_bucketed(bucketed));
            let (mut wasted, mut computed) = (0.0, 0.0);
            for batch in loader.epoch(0).map(Result::unwrap) {
                wasted += batch.padding().unwrap() * batch.positions() as f64;
                computed += batch.positions() as f64;
            }
            assert!((loader.padding(&loader.plan(0)) - wasted / computed).abs() < 1e-12);
            loader.padding(&loader.plan(0))
        };
        assert!(
            padding(true) < 0.05 && padding(false) > 0.3,
            "{} {}",
            padding(true),
            padding(false)
        );
    }

    #[test]
    fn dropping_early_does_not_hang() {
        for taken in [0, 1, 5] {
            let loader = loader(&[5; 100], LoaderConfig::new(7).with_prefetch(1));
            let mut batches = loader.epoch(0);
            assert_eq!(batches.by_ref().take(taken).count(), taken);
            assert_eq!(batches.len(), 100 - taken);
            drop(batches);
        }
    }

    #[test]
    fn going_on_after_the_end_gives_nothing() {
        let loader = loader(&[5; 10], LoaderConfig::new(7));
        assert_eq!(loader.epoch_from(0, 10).count(), 0);
        assert_eq!(loader.epoch_from(0, usize::MAX).count(), 0);
    }

    #[test]
    fn an_error_in_the_thread_reaches_the_caller_and_ends_the_epoch() {
        let broken: Arc<[Example]> =
            vec![Example { tokens: vec![SEP, EOS], prefix: 2 }; 3].into();
        for prefetch in [0, 2] {
            let config = LoaderConfig::new(1).with_prefetch(prefetch);
            let mut batches =
                Loader::new(broken.clone(), config, Device::Cpu).unwrap().epoch(0);
            assert!(batches
                .next()
                .unwrap()
                .unwrap_err()
                .to_string()
                .starts_with("batch: row 0"));
            assert!(batches.next().is_none());
        }
    }

    #[test]
    fn a_panic_in_the_thread_is_an_error() {
        let mut batches = Batches::start(
            vec![vec![0]; 3],
            |_| resume_unwind(Box::new("out of paper")),
            1,
            Device::Cpu,
        );
        let error = batches.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the prefetch thread ended early: out of paper");
        assert!(batches.next().is_none());
    }

    #[test]
    fn what_cannot_be_loaded_is_refused() {
        let error =
            Loader::new(Arc::new([]), LoaderConfig::new(9), Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("no example"), "{error}");
        let error =
            Loader::new(examples(&[8]), LoaderConfig::new(9), Device::Cpu).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("tokens_per_batch = 9: the longest example takes 10"),
            "{error}"
        );
    }
}
