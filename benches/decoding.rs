//! Words a second: one word at a time and many side by side, with the key/value cache and without, and by beam search.
//!
//! ```text
//! cargo bench --bench decoding
//! ```
//!
//! The shipped model, greedy but where it says otherwise, on words of the test split. Both ways group the words by length
//! and drop what is finished; without the cache each step reads all positions again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use self_attention::data::vocabulary::{EOS, SEP};
use self_attention::evaluation::decoding::{greedy, BeamSearch};
use self_attention::evaluation::pronouncer::Pronouncer;
use self_attention::prelude::*;

/// Fixed, so that a machine with more cores does not measure something else.
const THREADS: i32 = 2;

/// Words that are written side by side, as in the library.
const GROUP: usize = 256;

fn main() -> Result<()> {
    tch::set_num_threads(THREADS);
    let _inference = tch::no_grad_guard();
    let weights =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pronouncer.safetensors");
    let Pronouncer { model, vocabulary } = Pronouncer::load(&weights, Device::Cpu)?;
    let words = test_words(2000)?;
    let cached = |words: &[String]| {
        let said = greedy(&model, &vocabulary, words).expect("words of the dictionary");
        said.into_iter().map(|hypothesis| hypothesis.phonemes).collect::<Vec<_>>()
    };
    let uncached = |words: &[String]| {
        greedy_without_cache(&model, &vocabulary, words).expect("words of the dictionary")
    };
    assert_same(&cached(&words), &uncached(&words));

    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let mut group = criterion.benchmark_group("decoding");
    for count in [1, 100, 2000] {
        let words = &words[..count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("cache", count), |bencher| {
            bencher.iter(|| cached(words));
        });
        group.bench_function(BenchmarkId::new("no cache", count), |bencher| {
            bencher.iter(|| uncached(words));
        });
    }
    let words = &words[..100];
    group.throughput(Throughput::Elements(words.len() as u64));
    for beams in [1, 4, 10] {
        group.bench_function(BenchmarkId::new("beams", beams), |bencher| {
            let search = BeamSearch::new(beams);
            bencher.iter(|| search.search(&model, &vocabulary, words));
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Words of the test split, spread over the alphabet.
fn test_words(count: usize) -> Result<Vec<String>> {
    let dictionary = Dictionary::embedded()?;
    let words = dictionary.iter().map(|entry| &entry.word);
    let words: Vec<&String> =
        words.filter(|word| Split::of(word) == Split::Test).collect();
    let apart = words.len() / count;
    Ok(words.into_iter().step_by(apart).take(count).cloned().collect())
}

/// Fails unless the two ways say the same, but for a word in a thousand: another order of the same additions may tip a
/// choice that is on the edge.
fn assert_same(a: &[Vec<Phoneme>], b: &[Vec<Phoneme>]) {
    let different = a.iter().zip(b).filter(|(a, b)| a != b).count();
    assert!(different * 1000 <= a.len(), "{different} of {} words differ", a.len());
}

/// Greedy decoding that reads the letters and everything it has written anew at each step.
fn greedy_without_cache(
    model: &Transformer,
    vocabulary: &Vocabulary,
    words: &[String],
) -> Result<Vec<Vec<Phoneme>>> {
    let mut by_length: BTreeMap<usize, Vec<(usize, Vec<i64>)>> = BTreeMap::new();
    for (word, letters) in words.iter().enumerate() {
        let mut prompt = vocabulary.letters(letters)?;
        prompt.push(SEP);
        by_length.entry(prompt.len()).or_default().push((word, prompt));
    }
    let spoken: Vec<Phoneme> = Phoneme::all().collect();
    let mut writable = vec![f32::NEG_INFINITY; vocabulary.len()];
    for id in vocabulary.phonemes(&spoken).into_iter().chain([EOS]) {
        writable[id as usize] = 0.0;
    }
    let writable = Tensor::from_slice(&writable); // [V]
    let mut said = vec![Vec::new(); words.len()];
    for (prefix, same) in by_length {
        for group in same.chunks(GROUP) {
            let mut rows = group.to_vec();
            for position in prefix..model.config.max_positions as usize {
                let tokens: Vec<i64> =
                    rows.iter().flat_map(|(_, tokens)| tokens).copied().collect();
                let batch = rows.len() as i64;
                let tokens = Tensor::from_slice(&tokens).f_view([batch, -1])?; // [B, T]
                let prefixes = Tensor::from_slice(&vec![prefix as i64; rows.len()]);
                let mask = Mask::prefix(&prefixes, position as i64)?;
                let logits = model.forward(&tokens, Some(&mask), &Dropout::off())?.logits;
                let last = logits.f_select(1, -1)?.f_add(&writable)?; // [B, V]
                if position == prefix {
                    let _ = last.f_select(1, EOS)?.f_fill_(f64::NEG_INFINITY)?;
                }
                let next = Vec::<i64>::try_from(&last.f_argmax(-1, false)?)?; // [B]
                for ((_, tokens), next) in rows.iter_mut().zip(next) {
                    tokens.push(next);
                }
                let (going_on, finished): (Vec<_>, Vec<_>) =
                    rows.into_iter().partition(|(_, tokens)| {
                        tokens.last() != Some(&EOS)
                            && tokens.len() < model.config.max_positions as usize
                    });
                for (word, tokens) in finished {
                    said[word] = vocabulary.pronunciation(&tokens[prefix..])?;
                }
                rows = going_on;
                if rows.is_empty() {
                    break;
                }
            }
        }
    }
    Ok(said)
}
