//! What the model looked at: the attention weights of one word, with the tokens they belong to.
//!
//! Saved as JSON, a capture is
//!
//! | field | what it is |
//! |---|---|
//! | `model` | the hash of the weights, as on the model's card, or `null` |
//! | `word` | the word |
//! | `tokens` | `T` strings: the letters, `<sep>`, the phonemes; they name the rows (queries) and the columns (keys) |
//! | `prefix` | how many of the tokens were given: the letters and `<sep>` |
//! | `weights` | `weights[block][head][query][key]`, `blocks × H × T × T` numbers with four decimals |
//!
//! The explorer of chapter 10 (`book/theme/explorer.js`) reads it, and the model that runs in the page
//! (`book/theme/pronouncer.js`) makes it anew.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{no_grad, Device, Kind, Tensor};

use self_attention::data::cmudict::Phoneme;
use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::evaluation::decoding::prompt;
use self_attention::evaluation::pronouncer::Pronouncer;
use self_attention::files::write_whole;
use self_attention::mask::Mask;
use self_attention::visualization::Heatmap;

/// The attention weights of every head of every block while the model read one word and its pronunciation.
///
/// A row sums to one. A letter gives nothing to a phoneme, and a phoneme nothing to the phonemes after it.
// ANCHOR: capture
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// The hash of the model's weights, as on its card, where it has one.
    pub model: Option<String>,
    /// The word.
    pub word: String,
    /// What the model read: letters, `<sep>`, phonemes. `T` of them.
    pub tokens: Vec<String>,
    /// How many of them were given: the letters and `<sep>`.
    pub prefix: usize,
    /// `weights[block][head][query][key]`, before dropout.
    pub weights: Vec<Vec<Vec<Vec<f64>>>>,
}
// ANCHOR_END: capture

impl Capture {
    /// Lets the model read a word with a pronunciation, its own or another, and keeps what it looked at.
    ///
    /// # Errors
    /// What the model refuses: see [`prompt`].
    pub fn of(
        pronouncer: &Pronouncer,
        word: &str,
        pronunciation: &[Phoneme],
    ) -> Result<Self> {
        Ok(Self::with_logits(pronouncer, word, pronunciation)?.0)
    }

    /// [`Capture::of`], and the scores of the token to come after each token, `[T, V]`.
    ///
    /// The weights are those that the forward pass hands out anyway, from before dropout. Nothing is computed for them,
    /// so these logits are those of a plain forward pass to the last bit.
    ///
    /// # Errors
    /// As [`Capture::of`].
    // ANCHOR: of
    pub fn with_logits(
        pronouncer: &Pronouncer,
        word: &str,
        pronunciation: &[Phoneme],
    ) -> Result<(Self, Tensor)> {
        let Pronouncer { model, vocabulary } = pronouncer;
        let mut ids = prompt(model, vocabulary, word)?;
        let prefix = ids.len();
        ids.extend(vocabulary.phonemes(pronunciation));
        let device = model.embedding.device();
        let tokens = Tensor::f_from_slice(&ids)?.f_unsqueeze(0)?.f_to_device(device)?; // [B = 1, T]
        let prefixes = Tensor::f_full([1], prefix as i64, (Kind::Int64, device))?;
        let mask = Mask::prefix(&prefixes, ids.len() as i64)?;
        let prediction =
            no_grad(|| model.forward(&tokens, Some(&mask), &Dropout::off()))?;
        let tokens = ids
            .iter()
            .map(|&id| Ok(vocabulary.symbol(id)?.to_owned()))
            .collect::<Result<_>>()?;
        let weights = prediction.weights.iter().map(heads).collect::<Result<_>>()?;
        let capture =
            Self { model: None, word: word.to_owned(), tokens, prefix, weights };
        Ok((capture, prediction.logits.f_squeeze_dim(0)?)) // [T, V]
    }
    // ANCHOR_END: of

    /// Says which model it was: the hash on its card.
    pub fn with_model(self, hash: impl Into<String>) -> Self {
        Self { model: Some(hash.into()), ..self }
    }

    /// The same with four decimals: as exact as a reader needs, and a third of the size.
    pub fn rounded(&self) -> Self {
        let round = |weight: f64| (weight * 1e4).round() / 1e4;
        let mut rounded = self.clone();
        for row in rounded.weights.iter_mut().flatten().flatten() {
            row.iter_mut().for_each(|weight| *weight = round(*weight));
        }
        rounded
    }

    /// One head as a heatmap: which letters each phoneme, on the left, looked at while it was about to be said.
    ///
    /// The row of a phoneme is the query of the token before it, for that is where it is predicted; so the first row is
    /// the query of `<sep>`.
    ///
    /// # Errors
    /// [`Error::Input`] if the model has no such block or head.
    pub fn heatmap(&self, block: usize, head: usize) -> Result<Heatmap> {
        let weights =
            self.weights.get(block).and_then(|heads| heads.get(head)).ok_or_else(
                || {
                    let heads = self.weights.first().map_or(0, Vec::len);
                    let problem = format!(
                        "block {block}, head {head}: there are {} × {heads}",
                        self.weights.len()
                    );
                    Error::input("heatmap", format!("{problem}, counted from 0"))
                },
            )?;
        let letters = self.prefix - 1;
        let said = &self.tokens[self.prefix..];
        let rows = weights[letters..]
            .iter()
            .take(said.len())
            .map(|row| row[..letters].to_vec())
            .collect();
        Ok(Heatmap::attention(
            format!("{}: block {}, head {}", self.word, block + 1, head + 1),
            format!(
                "How much each phoneme of {} looked at each of its letters.",
                self.word
            ),
            said,
            &self.tokens[..letters],
            rows,
        ))
    }

    /// The block and the head in which the phonemes, taken together, look most clearly at most of the letters: the
    /// largest sum, over the letters, of the weight that the letter gets from the phoneme that looks at it most.
    ///
    /// The row of a phoneme is that of the token before it, as in [`Capture::heatmap`].
    pub fn clearest_head(&self) -> (usize, usize) {
        let clarity = |head: &[Vec<f64>]| -> f64 {
            let rows = &head[self.prefix - 1..self.tokens.len() - 1];
            let most =
                |letter: usize| rows.iter().map(|row| row[letter]).fold(0.0, f64::max);
            (0..self.prefix - 1).map(most).sum()
        };
        let mut clearest = (f64::NEG_INFINITY, (0, 0));
        for (block, heads) in self.weights.iter().enumerate() {
            for (head, weights) in heads.iter().enumerate() {
                let clarity = clarity(weights);
                if clarity > clearest.0 {
                    clearest = (clarity, (block, head));
                }
            }
        }
        clearest.1
    }

    /// Writes the capture as JSON, [rounded](Capture::rounded).
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(&self.rounded())
            .map_err(|error| Error::file(path, error.to_string()))?;
        write_whole(path, text.as_bytes())
    }
}

/// The weights of one block, `[1, H, T, T]`, as numbers.
fn heads(weights: &Tensor) -> Result<Vec<Vec<Vec<f64>>>> {
    let heads = weights.f_select(0, 0)?.f_to_device(Device::Cpu)?; // [H, T, T]
    let heads = heads.f_to_kind(Kind::Double)?; // not before, for not every device has doubles
    (0..heads.size()[0])
        .map(|head| Ok(Vec::try_from(heads.f_select(0, head)?)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::data::vocabulary::Vocabulary;
    use self_attention::model::TransformerConfig;
    use tch::nn;

    /// A small model, and *tough* as phonemes.
    fn setting() -> (Pronouncer, [Phoneme; 3]) {
        let vocabulary = Vocabulary::new();
        let store = nn::VarStore::new(Device::Cpu);
        let config =
            TransformerConfig::new(vocabulary.len() as i64).with_width(16).with_blocks(2);
        let model = config.init(&store.root()).unwrap();
        let phonemes = ["T", "AH", "F"].map(|symbol| symbol.parse().unwrap());
        (Pronouncer { model, vocabulary }, phonemes)
    }

    #[test]
    fn taking_it_changes_no_bit_of_what_the_model_says() {
        let (pronouncer, phonemes) = setting();
        let Pronouncer { model, vocabulary } = &pronouncer;
        let mut ids = prompt(model, vocabulary, "tough").unwrap();
        ids.extend(vocabulary.phonemes(&phonemes));
        let tokens = Tensor::from_slice(&ids).unsqueeze(0);
        let mask = Mask::prefix(&Tensor::from_slice(&[6i64]), 9).unwrap();
        let plain = || {
            let predicted = model.forward(&tokens, Some(&mask), &Dropout::off()).unwrap();
            predicted.logits.squeeze_dim(0)
        };
        let before = plain();
        let (_, logits) = Capture::with_logits(&pronouncer, "tough", &phonemes).unwrap();
        assert_eq!(logits, before); // to the last bit
        assert_eq!(plain(), before);
    }

    #[test]
    fn saved_it_comes_back_with_four_decimals() {
        let (pronouncer, phonemes) = setting();
        let capture = Capture::of(&pronouncer, "tough", &phonemes).unwrap();
        let capture = capture.with_model("0123");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tough.json");
        capture.save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let saved: Capture = serde_json::from_str(&text).unwrap();
        assert_eq!(saved, capture.rounded());
        assert_eq!(saved.model.as_deref(), Some("0123"));
        assert_eq!((saved.weights.len(), saved.weights[0].len()), (2, 4));
        let pairs = saved.weights.iter().flatten().flatten().flatten();
        let exact = capture.weights.iter().flatten().flatten().flatten();
        for (saved, exact) in pairs.zip(exact) {
            assert!((saved - exact).abs() <= 0.5001e-4);
            assert!(format!("{saved}").len() <= "0.1234".len(), "{saved}");
        }
        assert!(serde_json::from_str::<Capture>(r#"{"word": "tough"}"#).is_err());
    }

    #[test]
    fn the_clearest_head_is_the_one_in_which_the_phonemes_share_the_letters() {
        // The letters `a` and `b`, `<sep>` and two phonemes: row 2 says the first phoneme, row 3 the second.
        let head = |rows: [[f64; 2]; 2]| {
            let mut weights = vec![vec![0.0; 5]; 5];
            for (row, [a, b]) in rows.into_iter().enumerate() {
                weights[2 + row][..2].copy_from_slice(&[a, b]);
            }
            weights
        };
        let vague = head([[0.5, 0.5], [0.5, 0.5]]);
        let stuck = head([[1.0, 0.0], [1.0, 0.0]]);
        let clear = head([[0.9, 0.1], [0.2, 0.8]]);
        let tokens = ["a", "b", "<sep>", "AA", "B"].map(String::from).to_vec();
        let weights = vec![vec![vague, stuck.clone()], vec![clear, stuck]];
        let capture =
            Capture { model: None, word: "ab".into(), tokens, prefix: 3, weights };
        assert_eq!(capture.clearest_head(), (1, 0));
    }

    #[test]
    fn rows_sum_to_one_and_nothing_is_seen_before_its_time() {
        let (pronouncer, phonemes) = setting();
        let capture = Capture::of(&pronouncer, "tough", &phonemes).unwrap();

        assert_eq!(capture.tokens.join(" "), "t o u g h <sep> T AH F");
        assert_eq!((capture.weights.len(), capture.weights[0].len()), (2, 4));
        for (query, row) in
            capture.weights.iter().flatten().flat_map(|head| head.iter().enumerate())
        {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            for (key, &weight) in row.iter().enumerate() {
                let open = key < capture.prefix || key <= query;
                assert_eq!(weight > 0.0, open, "query {query}, key {key}");
                assert!(open || weight == 0.0);
            }
        }
        let heatmap = capture.heatmap(1, 3).unwrap();
        assert_eq!(
            (heatmap.rows.concat(), heatmap.columns.concat()),
            ("TAHF".into(), "tough".into())
        );
        assert_eq!(heatmap.values[0], capture.weights[1][3][5][..5]);
        assert!(capture.heatmap(2, 0).is_err());
    }
}
