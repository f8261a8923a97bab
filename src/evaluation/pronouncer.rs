//! The trained model as it is shipped: weights in a safetensors file, and beside it a card that says what they are.

use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use tch::{nn, Device};

use self_attention::data::cmudict::{Entry, Phoneme};
use self_attention::data::vocabulary::Vocabulary;
use self_attention::error::{Error, Result};
use self_attention::evaluation::comparison::score;
use self_attention::evaluation::decoding::{greedy, prompt};
use self_attention::evaluation::metrics::Scores;
use self_attention::files::write_whole;
use self_attention::model::{Transformer, TransformerConfig};
use self_attention::training::checkpoint::Checkpoint;
use self_attention::training::log::EpochRecord;
use self_attention::training::run::DataConfig;
use self_attention::training::trainer::TrainingConfig;

/// What a model file holds and where it comes from.
// ANCHOR: card
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The command that made it.
    pub command: String,
    /// The shape of the model.
    pub model: TransformerConfig,
    /// How many numbers it has learned.
    pub parameters: usize,
    /// The FNV-1a hash of the file of weights: which weights this card belongs to.
    pub weights: String,
    /// The words it learned from.
    pub data: DataConfig,
    /// How it was trained.
    pub training: TrainingConfig,
    /// Its tokens, in the order of their ids.
    pub vocabulary: Vec<String>,
    /// How the dictionary was split.
    pub split: String,
    /// Its scores on the validation words, which it was tuned on.
    pub validation_scores: Scores,
    /// Its scores on the words it was never trained or tuned on, once it was tried on them.
    pub test_scores: Option<Scores>,
    /// How training went.
    pub epochs: Vec<EpochRecord>,
    /// How long it took.
    pub seconds: f64,
}
// ANCHOR_END: card

/// A model that pronounces.
#[derive(Debug)]
pub struct Pronouncer {
    /// The model.
    pub model: Transformer,
    /// Its tokens.
    pub vocabulary: Vocabulary,
}

impl Pronouncer {
    /// Reads a model file, such as `models/pronouncer.safetensors`, and the card of the same name ending in `.json`.
    ///
    /// # Errors
    /// [`Error::Io`] if one of the two is missing; [`Error::File`] if one is damaged, or if they do not belong together.
    pub fn load(weights: &Path, device: Device) -> Result<Self> {
        let card = Card::read(weights)?;
        let vocabulary = Vocabulary::new();
        let ours = vocabulary.symbols();
        if card.vocabulary != ours || card.model.vocabulary != ours.len() as i64 {
            let problem = format!(
                "is for another vocabulary; this program has the {} tokens {ours:?}",
                ours.len()
            );
            return Err(Error::file(Card::path(weights), problem));
        }
        let found = Checkpoint::read(weights)?;
        // First of all, or a card that says too much would ask for more memory than there is.
        let TransformerConfig { vocabulary: tokens, width, hidden, blocks, .. } =
            card.model;
        let last = format!("layers.{}.linear1.weight", blocks.saturating_sub(1));
        found.find("embedding", &[tokens, width], weights)?;
        found.find(&last, &[hidden, width], weights)?;

        let store = nn::VarStore::new(device);
        let model = card
            .model
            .init(&store.root())
            .map_err(|error| Error::file(Card::path(weights), error.to_string()))?;
        let parameters = store.variables();
        if let Some(name) =
            found.tensors.keys().find(|name| !parameters.contains_key(*name))
        {
            let problem = format!(
                "has a tensor `{name}` that the model on its card lacks; the two do not belong together"
            );
            return Err(Error::file(weights, problem));
        }
        found.restore(parameters, weights)?;
        let hash = Card::hash(weights)?;
        if hash != card.weights {
            let problem = format!(
                "its hash is {hash} and its card says {}; it was damaged, or the card is another model's: \
                 get both files again, or train the model again",
                card.weights
            );
            return Err(Error::file(weights, problem));
        }
        Ok(Self { model, vocabulary })
    }

    /// Checks that a word can be pronounced.
    ///
    /// # Errors
    /// [`Error::EmptyWord`], [`Error::UnknownSymbol`] or [`Error::LongWord`].
    pub fn check(&self, word: &str) -> Result<()> {
        prompt(&self.model, &self.vocabulary, word).map(drop)
    }

    /// Pronounces words.
    ///
    /// # Errors
    /// Those of [`Pronouncer::check`], for the first word that has one.
    pub fn pronounce<W: AsRef<str>>(&self, words: &[W]) -> Result<Vec<Vec<Phoneme>>> {
        let said = greedy(&self.model, &self.vocabulary, words)?;
        Ok(said.into_iter().map(|hypothesis| hypothesis.phonemes).collect())
    }
}

/// Scores a model on words, each against every pronunciation the dictionary lists for it. The model writes on its own,
/// with nothing of the reference before it.
///
/// # Errors
/// What the model or the scores refuse.
// ANCHOR: evaluate
pub fn evaluate(
    model: &Transformer,
    vocabulary: &Vocabulary,
    entries: &[&Entry],
) -> Result<Scores> {
    let words: Vec<&str> = entries.iter().map(|entry| entry.word.as_str()).collect();
    let said = greedy(model, vocabulary, &words)?;
    let said: Vec<_> = said.into_iter().map(|hypothesis| hypothesis.phonemes).collect();
    score(&said, entries)
}
// ANCHOR_END: evaluate

impl Card {
    /// Where the card of a model file lies: beside it, ending in `.json`.
    pub fn path(weights: &Path) -> PathBuf {
        weights.with_extension("json")
    }

    /// The FNV-1a hash of a file of weights, in hexadecimal: it tells an accident, not a forgery.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn hash(weights: &Path) -> Result<String> {
        let mut hasher = FnvHasher::default();
        hasher.write(&fs::read(weights).map_err(Error::io(weights))?);
        Ok(format!("{:016x}", hasher.finish()))
    }

    /// Reads the card of a model file.
    ///
    /// # Errors
    /// [`Error::Io`] if it is missing, [`Error::File`] if it is damaged.
    pub fn read(weights: &Path) -> Result<Self> {
        let path = Self::path(weights);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        serde_json::from_str(&text).map_err(|error| {
            Error::file(
                &path,
                format!("is cut short or damaged ({error}); get it again, or train the model again"),
            )
        })
    }

    /// Writes the card of a model file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, weights: &Path) -> Result<()> {
        let path = Self::path(weights);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::file(&path, error.to_string()))?;
        write_whole(&path, (text + "\n").as_bytes())
    }
}
