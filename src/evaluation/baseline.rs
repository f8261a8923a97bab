//! What letters say without attention: the sound of a letter among its nearest neighbours.
//!
//! [`LetterToSound`] moves a window over the word, a fixed number of letters on each side, and writes at each
//! place what the training words had there most often. What stands outside the window it cannot know. How
//! well it does, and how little a wider window helps in the end, is what a model that looks anywhere in the
//! word has to beat.
//!
//! Such tables are as old as the learning of pronunciations from examples. To keep every exception, however
//! rare, serves them best (van den Bosch & Daelemans 1993; Daelemans, van den Bosch & Zavrel 1999), and it
//! did so on our validation words: to ask for two examples of a window instead of one makes more errors there.

use std::collections::{BTreeMap, HashMap};

use self_attention::data::cmudict::{Entry, Phoneme};
use self_attention::error::Result;
use self_attention::evaluation::alignment::Aligner;

/// The most letters that [`LetterToSound`] looks at on each side.
pub const WIDEST: usize = 4;

/// A letter and its neighbours, the nearest first: itself, the next, the one before, the next but one …
type Context = [u8; 2 * WIDEST + 1];

/// Stands in a context for what is not looked at.
const UNSEEN: u8 = b'?';
/// Stands in a context before and after the word.
const OUTSIDE: u8 = b'#';

// ANCHOR: letter_to_sound
/// The commonest sounds of each letter in each of its surroundings.
///
/// # Example: *c* before *e*
/// ```
/// # use self_attention::data::cmudict::Dictionary;
/// # use self_attention::evaluation::baseline::LetterToSound;
/// let dictionary = Dictionary::parse(b"cat K AE1 T\ncot K AA1 T\ncent S EH1 N T\ntin T IH1 N")?;
/// let entries: Vec<_> = dictionary.iter().collect();
/// let mut rules = LetterToSound::train(&entries)?;
/// assert_eq!(format!("{:?}", rules.pronounce("cen")), "[S, EH, N]");
/// rules.window = 0;
/// assert_eq!(format!("{:?}", rules.pronounce("cen")), "[K, EH, N]");
/// # Ok::<(), self_attention::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LetterToSound {
    /// How many letters it looks at on each side, at most [`WIDEST`]. With 0 it knows each letter's commonest
    /// sound and no more.
    pub window: usize,
    /// What a letter sounds like in a context, where that is not what it sounds like in the next narrower one.
    sounds: HashMap<Context, Vec<Phoneme>>,
}
// ANCHOR_END: letter_to_sound

impl LetterToSound {
    /// Learns from words and their pronunciations, with the widest window.
    ///
    /// An [`Aligner`] says which letter has which sounds.
    ///
    /// # Errors
    /// Those of [`Aligner::train`].
    // ANCHOR: train
    pub fn train(entries: &[&Entry]) -> Result<Self> {
        let aligner = Aligner::train(entries)?;
        let mut seen: Vec<Seen> = Vec::new();
        for entry in entries {
            for phonemes in &entry.pronunciations {
                let ranges = aligner.align(&entry.word, phonemes).unwrap_or_default();
                for (place, range) in ranges.into_iter().enumerate() {
                    seen.push((context(&entry.word, place), &phonemes[range]));
                }
            }
        }
        // Sorted, what is alike in a letter and its nearest neighbours stands together.
        seen.sort_unstable();
        let mut rules = Self { window: WIDEST, sounds: HashMap::new() };
        rules.learn(&seen, 0, None);
        Ok(rules)
    }
    // ANCHOR_END: train

    /// Learns from what is alike in the first `length` letters of its context, then from each part of it that is alike
    /// in one letter more.
    fn learn(&mut self, alike: &[Seen], length: usize, narrower: Option<&[Phoneme]>) {
        let Some(&(context, first)) = alike.first() else { return };
        let sounds = commonest(alike, narrower);
        if length > 0 && narrower != Some(sounds) {
            self.sounds.insert(narrowed(context, length), sounds.to_vec());
        }
        let exceptions = alike.iter().any(|(_, sounds)| *sounds != first);
        if length < context.len() && (length == 0 || exceptions) {
            let same = |a: &Seen, b: &Seen| a.0[length] == b.0[length];
            let narrower = (length > 0).then_some(sounds);
            alike.chunk_by(same).for_each(|part| self.learn(part, length + 1, narrower));
        }
    }

    /// The pronunciation of a word.
    ///
    /// Where training words never held a letter with all the neighbours in the window, the outermost on the
    /// left is left out, then the outermost on the right, and so on until they did. A letter they never held
    /// is silent.
    // ANCHOR: pronounce
    pub fn pronounce(&self, word: &str) -> Vec<Phoneme> {
        let mut phonemes = Vec::new();
        for place in 0..word.len() {
            let context = context(word, place);
            let mut widest_first = (1..=2 * self.window.min(WIDEST) + 1).rev();
            let sounds = widest_first
                .find_map(|length| self.sounds.get(&narrowed(context, length)));
            phonemes.extend(sounds.into_iter().flatten());
        }
        phonemes
    }
    // ANCHOR_END: pronounce
}

/// A letter with its neighbours, and what it sounded like there.
type Seen<'a> = (Context, &'a [Phoneme]);

/// The letter at `place` and its neighbours, the nearest first.
fn context(word: &str, place: usize) -> Context {
    let at = |place: Option<usize>| {
        place.and_then(|place| word.as_bytes().get(place)).copied().unwrap_or(OUTSIDE)
    };
    let mut context = [OUTSIDE; 2 * WIDEST + 1];
    context[0] = at(Some(place));
    for distance in 1..=WIDEST {
        context[2 * distance - 1] = at(Some(place + distance));
        context[2 * distance] = at(place.checked_sub(distance));
    }
    context
}

/// The first `length` letters of a context.
fn narrowed(mut context: Context, length: usize) -> Context {
    context[length..].fill(UNSEEN);
    context
}

/// The sounds that were seen most often; of equals `preferred`, or else the first in order.
fn commonest<'a>(seen: &[Seen<'a>], preferred: Option<&[Phoneme]>) -> &'a [Phoneme] {
    let mut counts: BTreeMap<&[Phoneme], usize> = BTreeMap::new();
    for (_, sounds) in seen {
        *counts.entry(sounds).or_default() += 1;
    }
    let backwards = counts.into_iter().rev(); // for the last of equals is the one that is found
    let most =
        backwards.max_by_key(|(sounds, count)| (*count, Some(*sounds) == preferred));
    most.map_or(&[], |(sounds, _)| sounds)
}

#[cfg(test)]
mod tests {
    use self_attention::data::cmudict::Dictionary;
    use self_attention::data::split::Split;
    use self_attention::evaluation::comparison::score;

    use super::*;

    fn said(rules: &LetterToSound, word: &str) -> String {
        let symbols: Vec<_> = rules.pronounce(word).iter().map(|p| p.symbol()).collect();
        symbols.join(" ")
    }

    #[test]
    fn the_widest_window_that_was_seen_decides() {
        let dictionary = Dictionary::parse(
            b"go G OW1\ngot G AA1 T\ndog D AO1 G\nage EY1 JH\ncage K EY1 JH\nan AE1 N\nat AE1 T",
        )
        .unwrap();
        let mut rules =
            LetterToSound::train(&dictionary.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(said(&rules, "age"), "EY JH");
        // `t-a-g` was never seen, and neither was `a` with what stands around it; `a` before `g` was.
        assert_eq!(said(&rules, "tag"), "T EY G");
        assert_eq!(said(&rules, "go"), "G OW");
        rules.window = 0;
        assert_eq!(said(&rules, "go"), "G AA"); // AA, AO and OW once each: the first
        assert_eq!(said(&rules, "z"), "");
        assert_eq!(said(&rules, ""), "");
        rules.window = 100;
        assert_eq!(said(&rules, "cage"), "K EY JH");
    }

    #[test]
    fn every_training_word_of_one_sound_a_window_comes_back() {
        let dictionary = Dictionary::parse(
            b"though DH OW1\nthrough TH R UW1\ntough T AH1 F\ncough K AO1 F",
        )
        .unwrap();
        let entries: Vec<_> = dictionary.iter().collect();
        let rules = LetterToSound::train(&entries).unwrap();
        for entry in &entries {
            assert_eq!(
                rules.pronounce(&entry.word),
                entry.pronunciations[0],
                "{}",
                entry.word
            );
        }
        assert_eq!(said(&rules, "Tough"), said(&rules, "ough")); // it knows no capitals
    }

    /// Validation words, as all tuning: the test words are scored by the program of chapter 9.
    #[test]
    fn a_wider_window_helps_less_and_less() {
        let dictionary = Dictionary::embedded().unwrap();
        let side = |side| -> Vec<&Entry> {
            dictionary.iter().filter(|entry| Split::of(&entry.word) == side).collect()
        };
        let words = side(Split::Validation);
        let mut rules = LetterToSound::train(&side(Split::Train)).unwrap();
        let errors: Vec<f64> = (0..=WIDEST)
            .map(|window| {
                rules.window = window;
                let said: Vec<_> =
                    words.iter().map(|e| rules.pronounce(&e.word)).collect();
                score(&said, &words).unwrap().word_error_rate
            })
            .collect();
        let gains: Vec<f64> = errors.windows(2).map(|pair| pair[0] - pair[1]).collect();
        assert!(errors[0] > 0.95, "{errors:?}");
        assert!((0.38..0.42).contains(&errors[WIDEST]), "{errors:?}");
        assert!(
            gains.windows(2).all(|pair| pair[0] > pair[1] && pair[1] > 0.0),
            "{errors:?}"
        );
    }
}
