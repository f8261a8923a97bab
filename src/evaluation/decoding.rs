//! Letting the model write a pronunciation, one phoneme after the other.
//!
//! [`greedy`] always takes the likeliest next phoneme. [`BeamSearch`] keeps several beginnings at a time, and so finds
//! pronunciations that begin with a less likely phoneme but are likelier as a whole.

use std::collections::BTreeMap;

use tch::{no_grad, Device, Kind, Tensor};

use self_attention::cache::Cache;
use self_attention::data::cmudict::Phoneme;
use self_attention::data::vocabulary::{Vocabulary, EOS, SEP};
use self_attention::error::{Error, Result};
use self_attention::model::Transformer;

/// Sequences that are written side by side: more fill the memory and save little time.
const GROUP: usize = 256;

/// A pronunciation that the model has written, and how likely it holds it to be.
// ANCHOR: hypothesis
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hypothesis {
    /// What it has written, without the `<eos>`.
    pub phonemes: Vec<Phoneme>,
    /// The natural logarithm of its probability: the sum over its tokens, `<eos>` included, each among the tokens that
    /// could have been written in its place. One that was cut off, because no position was left, has no `<eos>`.
    pub log_probability: f64,
}
// ANCHOR_END: hypothesis

impl Hypothesis {
    /// How likely the model holds it to be, from 0 to 1.
    pub fn probability(&self) -> f64 {
        self.log_probability.exp()
    }
}

/// The longest word the model can read: half of its positions, so that as many are left to write in.
pub fn longest_word(model: &Transformer) -> usize {
    usize::try_from(model.config.max_positions / 2 - 1).unwrap_or(0)
}

/// Checks a word and turns it into what the model is given: the ids of its letters and the `<sep>`.
///
/// # Errors
/// [`Error::EmptyWord`], [`Error::UnknownSymbol`] or [`Error::LongWord`].
pub fn prompt(
    model: &Transformer,
    vocabulary: &Vocabulary,
    word: &str,
) -> Result<Vec<i64>> {
    let mut ids = vocabulary.letters(word)?;
    let limit = longest_word(model);
    if ids.len() > limit {
        return Err(Error::LongWord { word: word.to_owned(), length: ids.len(), limit });
    }
    ids.push(SEP);
    Ok(ids)
}

/// Writes a pronunciation of each word, always with the likeliest next phoneme.
///
/// At each step the model reads what it has just written. Letters cannot be written, and a pronunciation has at least
/// one phoneme. Words of one length are written side by side; one that is finished leaves.
///
/// # Errors
/// Those of [`prompt`], for the first word that has one.
// ANCHOR: greedy
pub fn greedy<W: AsRef<str>>(
    model: &Transformer,
    vocabulary: &Vocabulary,
    words: &[W],
) -> Result<Vec<Hypothesis>> {
    let mut hypotheses = vec![Hypothesis::default(); words.len()];
    for prompts in by_length(model, vocabulary, words, GROUP)? {
        let mut writing = Writing::start(model, vocabulary, prompts)?;
        while !writing.drafts.is_empty() {
            let likeliest = writing.ways(1)?; // one for each draft
            for draft in writing.go_on(&likeliest)? {
                hypotheses[draft.word] = draft.hypothesis(vocabulary)?;
            }
        }
    }
    Ok(hypotheses)
}
// ANCHOR_END: greedy

/// Beam search: writes several pronunciations of a word side by side and keeps the likeliest.
///
/// At each step every unfinished hypothesis is continued with every phoneme and with `<eos>`, and of all these the
/// likeliest `beams` are kept. One that is finished stands aside and leaves one place less to the others, until no place
/// is left. Of the finished ones, the best is the one with the highest [score](BeamSearch::score).
///
/// With one beam this is [`greedy`]. With as many beams as there are pronunciations it would find the best of all.
// ANCHOR: beam_search
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamSearch {
    /// How many hypotheses are kept of each word.
    pub beams: usize,
    /// `α`: how far a long pronunciation is forgiven that its probability has more factors. 0 forgives nothing.
    pub length_penalty: f64,
}
// ANCHOR_END: beam_search

impl BeamSearch {
    /// The most beams there can be, for each keeps keys and values of its own.
    pub const MOST: usize = 4096;

    /// A search with that many beams that compares plain probabilities.
    pub fn new(beams: usize) -> Self {
        Self { beams, length_penalty: 0.0 }
    }

    /// Sets the exponent `α` of the length penalty.
    pub fn with_length_penalty(self, length_penalty: f64) -> Self {
        Self { length_penalty, ..self }
    }

    /// What the finished hypotheses of a word are compared by: `log P / ((5 + n) / 6)^α`, for `n` phonemes
    /// (Wu et al., 2016, section 7).
    ///
    /// For `α = 0` this is the log-probability. The larger `α`, the better the long ones fare.
    // ANCHOR: score
    pub fn score(&self, hypothesis: &Hypothesis) -> f64 {
        let length = hypothesis.phonemes.len() as f64;
        hypothesis.log_probability / ((5.0 + length) / 6.0).powf(self.length_penalty)
    }
    // ANCHOR_END: score

    /// Writes up to `beams` pronunciations of each word, the best first.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no beams or more than [`BeamSearch::MOST`], or if the length penalty is negative;
    /// those of [`prompt`], for the first word that has one.
    ///
    /// # Example: the second best has another probability, and other phonemes
    /// ```
    /// use self_attention::evaluation::decoding::BeamSearch;
    /// use self_attention::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vocabulary = Vocabulary::new();
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let config = TransformerConfig::new(vocabulary.len() as i64).with_width(16);
    /// let model = config.init(&store.root())?;
    /// let found = BeamSearch::new(2).search(&model, &vocabulary, &["tough"])?;
    /// let (best, second) = (&found[0][0], &found[0][1]);
    /// assert!(best.log_probability >= second.log_probability);
    /// assert_ne!(best.phonemes, second.phonemes);
    /// # Ok(())
    /// # }
    /// ```
    // ANCHOR: search
    pub fn search<W: AsRef<str>>(
        &self,
        model: &Transformer,
        vocabulary: &Vocabulary,
        words: &[W],
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.check()?;
        let mut finished = vec![Vec::new(); words.len()];
        for prompts in by_length(model, vocabulary, words, GROUP.div_ceil(self.beams))? {
            let mut writing = Writing::start(model, vocabulary, prompts)?;
            while !writing.drafts.is_empty() {
                let mut ways = writing.ways(self.beams)?; // as many for each draft
                ways.sort_by(|a, b| {
                    let likelier_first = b.log_probability.total_cmp(&a.log_probability);
                    a.word.cmp(&b.word).then(likelier_first)
                });
                let of_a_word = ways.chunk_by(|a, b| a.word == b.word);
                let kept = of_a_word.flat_map(|ways| {
                    let places = self.beams - finished[ways[0].word].len();
                    ways.iter().copied().take(places)
                });
                let kept: Vec<Way> = kept.collect();
                for draft in writing.go_on(&kept)? {
                    finished[draft.word].push(draft.hypothesis(vocabulary)?);
                }
            }
        }
        for hypotheses in &mut finished {
            hypotheses.sort_by(|a, b| self.score(b).total_cmp(&self.score(a)));
        }
        Ok(finished)
    }
    // ANCHOR_END: search

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`]: see [`BeamSearch::search`].
    pub fn check(&self) -> Result<()> {
        let Self { beams, length_penalty } = *self;
        if !(1..=Self::MOST).contains(&beams) {
            let reason = format!("must be between 1 and {}", Self::MOST);
            return Err(Error::config("beams", beams, reason));
        }
        if !(length_penalty.is_finite() && length_penalty >= 0.0) {
            let reason = "must be 0, for none, or a number above it";
            return Err(Error::config("length penalty", length_penalty, reason));
        }
        Ok(())
    }
}

/// What is given of some words of one length: for each the place of the word in the list, and the ids.
type Prompts = Vec<(usize, Vec<i64>)>;

/// The prompts of words, in groups of one length and of at most `most`: such a group stands in one tensor without
/// padding, and all of it writes at the same position.
// ANCHOR: by_length
fn by_length<W: AsRef<str>>(
    model: &Transformer,
    vocabulary: &Vocabulary,
    words: &[W],
    most: usize,
) -> Result<Vec<Prompts>> {
    let mut groups: BTreeMap<usize, Vec<Prompts>> = BTreeMap::new();
    for (word, letters) in words.iter().enumerate() {
        let prompt = prompt(model, vocabulary, letters.as_ref())?;
        let of_this_length = groups.entry(prompt.len()).or_default();
        match of_this_length.last_mut() {
            Some(group) if group.len() < most => group.push((word, prompt)),
            _ => of_this_length.push(vec![(word, prompt)]),
        }
    }
    Ok(groups.into_values().flatten().collect())
}
// ANCHOR_END: by_length

/// What has been written of one pronunciation.
// ANCHOR: draft
#[derive(Clone, Debug)]
struct Draft {
    /// Of which word: its place in the list.
    word: usize,
    tokens: Vec<i64>,
    log_probability: f64,
}
// ANCHOR_END: draft

impl Draft {
    fn hypothesis(&self, vocabulary: &Vocabulary) -> Result<Hypothesis> {
        Ok(Hypothesis {
            phonemes: vocabulary.pronunciation(&self.tokens)?,
            log_probability: self.log_probability,
        })
    }
}

/// A way to go on with a draft.
// ANCHOR: way
#[derive(Clone, Copy, Debug)]
struct Way {
    word: usize,
    /// Which draft.
    row: usize,
    /// What to write.
    token: i64,
    /// Of all that is then written.
    log_probability: f64,
}
// ANCHOR_END: way

/// Pronunciations that are written side by side.
// ANCHOR: writing
struct Writing<'a> {
    model: &'a Transformer,
    /// What the model has read of each, a row of the batch for each draft.
    cache: Cache,
    drafts: Vec<Draft>,
    /// 0 for what may be written, phonemes and `<eos>`, and −∞ for the rest, `[V]`.
    writable: Tensor,
    /// The log-probability of each token to come next, `[B, V]`.
    next: Tensor,
}
// ANCHOR_END: writing

impl<'a> Writing<'a> {
    /// Reads the prompts.
    // ANCHOR: writing_start
    fn start(
        model: &'a Transformer,
        vocabulary: &Vocabulary,
        prompts: Prompts,
    ) -> Result<Self> {
        let (words, prompts): (Vec<usize>, Vec<Vec<i64>>) = prompts.into_iter().unzip();
        let draft = |word| Draft { word, tokens: Vec::new(), log_probability: 0.0 };
        let drafts: Vec<Draft> = words.into_iter().map(draft).collect();
        let prompts = Tensor::f_from_slice(&prompts.concat())?
            .f_view([drafts.len() as i64, -1])?
            .f_to_device(model.embedding.device())?; // [B, T]
        let writable = writable(vocabulary, model)?; // [V]
        let (cache, logits) = no_grad(|| model.start(&prompts))?; // [B, V]
        let logits = logits.f_add(&writable)?;
        // Not at once: a pronunciation has a phoneme.
        let _ = logits.f_select(1, EOS)?.f_fill_(f64::NEG_INFINITY)?;
        let next = logits.f_log_softmax(-1, Kind::Float)?; // [B, V]
        Ok(Self { model, cache, drafts, writable, next })
    }
    // ANCHOR_END: writing_start

    /// The `count` likeliest ways to go on with each draft, the likeliest first.
    // ANCHOR: ways
    fn ways(&self, count: usize) -> Result<Vec<Way>> {
        let count = self.next.size()[1].min(count as i64); // at most V
        let (log_probabilities, tokens) = self.next.f_topk(count, -1, true, true)?; // [B, count]
        let tokens = Vec::<Vec<i64>>::try_from(&tokens.f_to_device(Device::Cpu)?)?;
        let log_probabilities = log_probabilities.f_to_device(Device::Cpu)?;
        let log_probabilities = Vec::<Vec<f32>>::try_from(&log_probabilities)?;
        let mut ways = Vec::new();
        for (row, draft) in self.drafts.iter().enumerate() {
            for (&token, &next) in tokens[row].iter().zip(&log_probabilities[row]) {
                if next > f32::NEG_INFINITY {
                    let log_probability = draft.log_probability + f64::from(next);
                    ways.push(Way { word: draft.word, row, token, log_probability });
                }
            }
        }
        Ok(ways)
    }
    // ANCHOR_END: ways

    /// Goes these ways and no others, and hands out what is finished by that: at its `<eos>`, or because no position is
    /// left.
    // ANCHOR: go_on
    fn go_on(&mut self, ways: &[Way]) -> Result<Vec<Draft>> {
        let is_last = self.cache.next() + 1 >= self.model.config.max_positions;
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        let (mut drafts, mut finished) = (Vec::new(), Vec::new());
        for &Way { word, row, token, log_probability } in ways {
            let written = [&self.drafts[row].tokens[..], &[token]].concat();
            let draft = Draft { word, tokens: written, log_probability };
            if token == EOS || is_last {
                finished.push(draft);
            } else {
                rows.push(row as i64);
                tokens.push(token);
                drafts.push(draft);
            }
        }
        self.drafts = drafts;
        if !self.drafts.is_empty() {
            let tokens =
                Tensor::f_from_slice(&tokens)?.f_to_device(self.next.device())?; // [B]
            self.cache.select(&rows)?;
            let logits = no_grad(|| self.model.advance(&mut self.cache, &tokens))?; // [B, V]
            self.next = logits.f_add(&self.writable)?.f_log_softmax(-1, Kind::Float)?;
        }
        Ok(finished)
    }
    // ANCHOR_END: go_on
}

/// 0 for each token that may be written, phonemes and `<eos>`, and −∞ for the rest, `[V]`.
// ANCHOR: writable
fn writable(vocabulary: &Vocabulary, model: &Transformer) -> Result<Tensor> {
    let mut allowed = vec![f32::NEG_INFINITY; model.config.vocabulary as usize];
    let phonemes: Vec<Phoneme> = Phoneme::all().collect();
    for id in vocabulary.phonemes(&phonemes).into_iter().chain([EOS]) {
        match allowed.get_mut(id as usize) {
            Some(allowed) => *allowed = 0.0,
            None => {
                let reason = format!(
                    "the model has no token {id}; this vocabulary has {}",
                    vocabulary.len()
                );
                return Err(Error::config("vocabulary", model.config.vocabulary, reason));
            }
        }
    }
    Ok(Tensor::f_from_slice(&allowed)?.f_to_device(model.embedding.device())?)
}
// ANCHOR_END: writable

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::dropout::Dropout;
    use self_attention::mask::Mask;
    use self_attention::model::TransformerConfig;
    use tch::nn;

    const WORDS: [&str; 6] = ["tough", "a", "though", "cough", "knight's", "ox"];

    /// A model that knows nothing but has opinions: it prefers some tokens clearly to others.
    fn model(max_positions: i64, separator: Option<i64>) -> (Transformer, Vocabulary) {
        tch::manual_seed(5);
        let vocabulary = Vocabulary::new();
        let store = nn::VarStore::new(Device::Cpu);
        let config = TransformerConfig {
            max_positions,
            separator,
            ..TransformerConfig::new(vocabulary.len() as i64)
                .with_blocks(2)
                .with_width(16)
        };
        let model = config.init(&store.root()).unwrap();
        let _ = no_grad(|| model.embedding.shallow_clone().normal_(0.0, 0.5));
        (model, vocabulary)
    }

    /// The log-probability of a pronunciation of a word, from one full forward pass over all of it.
    fn log_probability(
        model: &Transformer,
        vocabulary: &Vocabulary,
        word: &str,
        phonemes: &[Phoneme],
    ) -> f64 {
        let mut tokens = prompt(model, vocabulary, word).unwrap();
        let prefix = tokens.len();
        tokens.extend(vocabulary.phonemes(phonemes));
        let next = model.next_place(&Tensor::from_slice(&tokens).unsqueeze(0)).unwrap();
        if next < model.config.max_positions {
            tokens.push(EOS);
        } // or else it was cut off
        let read = (tokens.len() - 1) as i64;
        let mask = Mask::prefix(&Tensor::from_slice(&[prefix as i64]), read).unwrap();
        let x = Tensor::from_slice(&tokens[..tokens.len() - 1]).unsqueeze(0);
        let logits = model.forward(&x, Some(&mask), &Dropout::off()).unwrap().logits;
        let logits = (logits + writable(vocabulary, model).unwrap()).squeeze_dim(0); // [T, V]
        let _ = logits.get(prefix as i64 - 1).narrow(0, EOS, 1).fill_(f64::NEG_INFINITY);
        let log_probabilities = logits.log_softmax(-1, Kind::Double);
        (prefix..tokens.len())
            .map(|t| log_probabilities.double_value(&[t as i64 - 1, tokens[t]]))
            .sum()
    }

    #[test]
    fn a_word_is_pronounced_the_same_alone_and_among_others() {
        let (model, vocabulary) = model(64, None);
        let together = greedy(&model, &vocabulary, &WORDS).unwrap();
        let lengths: Vec<usize> = together.iter().map(|h| h.phonemes.len()).collect();
        assert!(lengths.iter().any(|length| *length != lengths[0]), "{lengths:?}");
        for (word, expected) in WORDS.iter().zip(&together) {
            let alone = &greedy(&model, &vocabulary, &[word]).unwrap()[0];
            assert_eq!(alone.phonemes, expected.phonemes, "{word}");
            assert!((alone.log_probability - expected.log_probability).abs() < 1e-4);
            assert!(!expected.phonemes.is_empty() && expected.phonemes.len() <= 64);
        }
        assert!(greedy::<&str>(&model, &vocabulary, &[]).unwrap().is_empty());
    }

    #[test]
    fn a_hypothesis_is_as_likely_as_a_full_forward_pass_says() {
        // With 24 positions, some are cut off.
        for (max_positions, separator) in [(64, None), (24, None), (24, Some(SEP))] {
            let (model, vocabulary) = model(max_positions, separator);
            let greedy = greedy(&model, &vocabulary, &WORDS).unwrap();
            let beams = BeamSearch::new(5).search(&model, &vocabulary, &WORDS).unwrap();
            for ((word, greedy), beams) in WORDS.iter().zip(greedy).zip(beams) {
                assert_eq!(beams.len(), 5);
                for hypothesis in beams.iter().chain([&greedy]) {
                    let Hypothesis { phonemes, log_probability: said } = hypothesis;
                    let full = log_probability(&model, &vocabulary, word, phonemes);
                    assert!((said - full).abs() < 1e-4, "{word}: {said}, {full}");
                    assert!((hypothesis.probability().ln() - said).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn one_beam_is_greedy_whatever_the_length_penalty() {
        let (model, vocabulary) = model(64, None);
        let greedy = greedy(&model, &vocabulary, &WORDS).unwrap();
        for length_penalty in [0.0, 1.0] {
            let search = BeamSearch::new(1).with_length_penalty(length_penalty);
            let found = search.search(&model, &vocabulary, &WORDS).unwrap();
            assert_eq!(found.concat(), greedy);
        }
    }

    #[test]
    fn with_as_many_beams_as_pronunciations_it_finds_the_best_of_all() {
        // One letter, `<sep>`, and two positions to write in.
        let (model, vocabulary) = model(4, None);
        let phonemes: Vec<Phoneme> = Phoneme::all().collect();
        let ones = phonemes.iter().map(|&one| vec![one]);
        let pairs = phonemes
            .iter()
            .flat_map(|&one| phonemes.iter().map(move |&two| vec![one, two]));
        let all: Vec<Hypothesis> = ones
            .chain(pairs)
            .map(|phonemes| Hypothesis {
                log_probability: log_probability(&model, &vocabulary, "a", &phonemes),
                phonemes,
            })
            .collect();
        let sum: f64 = all.iter().map(Hypothesis::probability).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
        let mut best_lengths = Vec::new();
        for length_penalty in [0.0, 0.6, 20.0] {
            let search = BeamSearch::new(all.len()).with_length_penalty(length_penalty);
            let found = &search.search(&model, &vocabulary, &["a"]).unwrap()[0];
            let by_score = |a: &&Hypothesis, b: &&Hypothesis| {
                search.score(a).total_cmp(&search.score(b))
            };
            let best = all.iter().max_by(by_score).unwrap();
            assert_eq!(found[0].phonemes, best.phonemes, "α = {length_penalty}");
            assert_eq!(found.len(), all.len());
            best_lengths.push(best.phonemes.len());
        }
        // A large length penalty prefers the long ones.
        assert_eq!(best_lengths[2], 2, "{best_lengths:?}");
    }

    #[test]
    fn the_best_comes_first_none_twice_and_words_do_not_mix() {
        let (model, vocabulary) = model(64, None);
        for search in [BeamSearch::new(7), BeamSearch::new(7).with_length_penalty(1.0)] {
            let together = search.search(&model, &vocabulary, &WORDS).unwrap();
            for (word, found) in WORDS.iter().zip(&together) {
                assert!(found.is_sorted_by(|a, b| search.score(a) >= search.score(b)));
                for (i, hypothesis) in found.iter().enumerate() {
                    assert!(found[..i].iter().all(|h| h.phonemes != hypothesis.phonemes));
                }
                let alone = &search.search(&model, &vocabulary, &[word]).unwrap()[0];
                let phonemes = |found: &[Hypothesis]| -> Vec<Vec<Phoneme>> {
                    found.iter().map(|hypothesis| hypothesis.phonemes.clone()).collect()
                };
                assert_eq!(phonemes(alone), phonemes(found), "{word}");
            }
        }
        // α changes what hypotheses are compared by, and only that.
        let one = &BeamSearch::new(1).search(&model, &vocabulary, &["ox"]).unwrap()[0][0];
        let n = one.phonemes.len() as f64;
        assert_eq!(BeamSearch::new(1).score(one), one.log_probability);
        let forgiving = BeamSearch::new(1).with_length_penalty(1.0).score(one);
        assert!((forgiving - one.log_probability * 6.0 / (5.0 + n)).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_searched_is_refused_by_name() {
        let (model, vocabulary) = model(64, None);
        let refused = |search: BeamSearch| {
            search.search(&model, &vocabulary, &["a"]).unwrap_err().to_string()
        };
        let message = "beams = 0: must be between 1 and 4096";
        assert_eq!(refused(BeamSearch::new(0)), message);
        assert!(refused(BeamSearch::new(5000)).starts_with("beams = 5000: "));
        for penalty in [-0.5, f64::NAN, f64::INFINITY] {
            let said = refused(BeamSearch::new(2).with_length_penalty(penalty));
            assert!(said.starts_with("length penalty = "), "{said}");
        }
    }

    #[test]
    fn words_it_cannot_read_are_refused_by_name() {
        let (model, vocabulary) = model(64, None);
        let long = "a".repeat(longest_word(&model) + 1);
        let error = greedy(&model, &vocabulary, &["though", &long]).unwrap_err();
        assert!(
            matches!(&error, Error::LongWord { length: 32, limit: 31, .. }),
            "{error}"
        );
        assert!(matches!(
            greedy(&model, &vocabulary, &["c4t"]),
            Err(Error::UnknownSymbol { symbol: '4', .. })
        ));
    }
}
