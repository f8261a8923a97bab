//! Which words are for learning, which for choosing, and which for the final score.
//!
//! The side of a word is a function of its letters alone. So all pronunciations of a word fall on one side,
//! and a word keeps its side when the dictionary grows, when its order changes, and on every machine. A
//! shuffle with a seed promises none of that.
//!
//! What the split does not hide: the test word *toughness* has a near relative, *tough*, in training. Published
//! scores on random splits share this; their versions of the dictionary and their splits differ from ours.

use std::fmt;
use std::hash::Hasher;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};

// ANCHOR: split
/// One of the three parts of the dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// 90 % of the words: the model learns from these.
    Train,
    /// 5 %: settings are chosen by these.
    Validation,
    /// 5 %: looked at once, for the score that is reported.
    Test,
}
// ANCHOR_END: split

impl Split {
    /// How words are split, in words.
    pub const RULE: &str =
        "FNV-1a of the word modulo 20: 0 to 17 train, 18 validation, 19 test";

    /// The side of a word: its hash modulo 20 gives 0 … 17 for training, 18 for validation, 19 for test.
    ///
    /// The hash is FNV-1a with 64 bits (Fowler, Noll & Vo), which is defined once and for all. The hasher of
    /// the standard library is not: it may change from one release of Rust to the next.
    // ANCHOR: of
    pub fn of(word: &str) -> Self {
        let mut hasher = FnvHasher::default();
        hasher.write(word.as_bytes());
        match hasher.finish() % 20 {
            0..=17 => Self::Train,
            18 => Self::Validation,
            _ => Self::Test,
        }
    }
    // ANCHOR_END: of
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

#[cfg(test)]
mod tests {
    use self_attention::data::cmudict::Dictionary;

    use super::*;

    /// If this fails, the split has moved: the shipped model has then seen words of the test part.
    #[test]
    fn words_never_change_sides() {
        for word in [
            "though",
            "through",
            "tough",
            "cough",
            "dough",
            "enough",
            "attention",
            "self",
        ] {
            assert_eq!(Split::of(word), Split::Train, "{word}");
        }
        for word in ["rough", "bough"] {
            assert_eq!(Split::of(word), Split::Validation, "{word}");
        }
        assert_eq!(Split::of("borough"), Split::Test);
    }

    #[test]
    fn the_parts_have_their_sizes() {
        let dictionary = Dictionary::embedded().unwrap();
        let count = |split| {
            dictionary.iter().filter(|entry| Split::of(&entry.word) == split).count()
        };
        assert_eq!(
            [Split::Train, Split::Validation, Split::Test].map(count),
            [112_363, 6_211, 6_229]
        );
    }

    #[test]
    fn its_name_is_the_same_in_text_and_in_json() {
        for split in [Split::Train, Split::Validation, Split::Test] {
            assert_eq!(serde_json::to_string(&split).unwrap(), format!("\"{split}\""));
        }
    }
}
