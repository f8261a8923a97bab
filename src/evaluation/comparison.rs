//! Other programs' pronunciations, scored as our own are.
//!
//! `models/comparison/g2p_en.tsv` holds what the Python package g2p-en says of our test words; the script that made it,
//! `benches/pytorch/g2p_en.py`, tells what its network saw in training.
//!
//! Published scores can be set beside ours and not compared to the decimal. Yolchuyeva, Németh & Gyires-Tóth (2019,
//! <https://arxiv.org/abs/2004.06338>) report a word error rate of 22.1 % and a phoneme error rate of 5.2 % for a
//! transformer of four encoder and four decoder layers, on an older CMUdict with a split of its own. The older
//! dictionary is easier: Phonetisaurus, a program of another kind, makes 24.4 % word errors on the split that was used
//! for it and 33.89 % on the dictionary of 2016 (<https://github.com/cmusphinx/g2p-seq2seq/issues/36>).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use self_attention::data::cmudict::{Entry, Phoneme};
use self_attention::error::{Error, Result};
use self_attention::evaluation::metrics::Scores;

// ANCHOR: score
/// Scores one pronunciation a word, each against every pronunciation the dictionary lists for that word.
///
/// # Errors
/// Those of [`Scores::of`].
pub fn score(pronunciations: &[Vec<Phoneme>], entries: &[&Entry]) -> Result<Scores> {
    let listed: Vec<_> =
        entries.iter().map(|entry| entry.pronunciations.clone()).collect();
    Scores::of(pronunciations, &listed)
}
// ANCHOR_END: score

// ANCHOR: read_pronunciations
/// Reads the pronunciations of `entries`, in their order, from a file of lines such as `tough`, tab, `T AH F`.
///
/// A word without phonemes is a word the program had nothing to say about; it counts as wrong. The file may
/// hold further words.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::File`], with the line or the word, if it lacks one of
/// the words, has one twice, or holds what is no phoneme.
pub fn read_pronunciations(path: &Path, entries: &[&Entry]) -> Result<Vec<Vec<Phoneme>>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let mut said: HashMap<&str, Vec<Phoneme>> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let refuse =
            |problem: String| Error::file(path, format!("line {}: {problem}", index + 1));
        let Some((word, phonemes)) = line.split_once('\t') else {
            return Err(refuse("write a word, a tab and its phonemes".into()));
        };
        let phonemes = phonemes.split_ascii_whitespace().map(str::parse);
        let phonemes =
            phonemes.collect::<Result<_>>().map_err(|e| refuse(e.to_string()))?;
        if said.insert(word, phonemes).is_some() {
            return Err(refuse(format!("`{word}` stands there a second time")));
        }
    }
    let of_word = |entry: &&Entry| {
        said.remove(entry.word.as_str()).ok_or_else(|| {
            Error::file(path, format!("has no line for `{}`; make it again", entry.word))
        })
    };
    entries.iter().map(of_word).collect()
}
// ANCHOR_END: read_pronunciations

#[cfg(test)]
mod tests {
    use self_attention::data::cmudict::Dictionary;

    use super::*;

    const WORDS: &[u8] = b"tough T AH1 F\ncough K AA1 F\ncough(2) K AO1 F";

    fn read(text: &str) -> Result<Vec<Vec<Phoneme>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("said.tsv");
        fs::write(&path, text).unwrap();
        let dictionary = Dictionary::parse(WORDS).unwrap();
        read_pronunciations(&path, &dictionary.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_file_is_read_in_the_order_of_the_words_and_scored() {
        let said = read("cough\tK AO F\r\nbough\tB AW\ntough\t\n").unwrap();
        assert_eq!(format!("{said:?}"), "[[], [K, AO, F]]");
        let dictionary = Dictionary::parse(WORDS).unwrap();
        let scores = score(&said, &dictionary.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((scores.words, scores.word_error_rate), (2, 0.5));
        assert_eq!(scores.phoneme_error_rate, 0.5);
    }

    #[test]
    fn a_file_that_cannot_be_scored_says_where() {
        let problem = |text| read(text).unwrap_err().to_string();
        assert!(
            problem("tough\tT AH F").ends_with("has no line for `cough`; make it again")
        );
        assert!(problem("tough T AH F").contains("line 1: write a word, a tab"));
        assert!(problem("tough\tT AH F\ncough\tK XX F").contains("line 2: phoneme: `XX`"));
        assert!(problem("tough\tT\ntough\tT")
            .contains("line 2: `tough` stands there a second"));
        let missing = read_pronunciations(Path::new("no/such.tsv"), &[]).unwrap_err();
        assert!(matches!(missing, Error::Io { .. }));
    }
}
