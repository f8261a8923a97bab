//! What the model looked at: the attention weights of one word, with the tokens they belong to.

use std::path::Path;

use serde::Serialize;
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capture {
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
    // ANCHOR: of
    pub fn of(
        pronouncer: &Pronouncer,
        word: &str,
        pronunciation: &[Phoneme],
    ) -> Result<Self> {
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
        Ok(Self { word: word.to_owned(), tokens, prefix, weights })
    }
    // ANCHOR_END: of

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

    /// Writes the capture as JSON.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)
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

    #[test]
    fn rows_sum_to_one_and_nothing_is_seen_before_its_time() {
        let vocabulary = Vocabulary::new();
        let store = nn::VarStore::new(Device::Cpu);
        let config =
            TransformerConfig::new(vocabulary.len() as i64).with_width(16).with_blocks(2);
        let pronouncer =
            Pronouncer { model: config.init(&store.root()).unwrap(), vocabulary };
        let phonemes = ["T", "AH", "F"].map(|symbol| symbol.parse().unwrap());
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
