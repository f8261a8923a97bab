//! Sequences of different lengths, side by side in one tensor.
//!
//! One example is one sequence, `l e t t e r s <sep> P H O N E M E S <eos>`. The model reads a sequence
//! without its last token and is asked, at every position, for the token that comes next. So tokens and
//! targets are the same sequence, shifted by one. Worked out for *tough*, `T AH F`, in a batch whose longest
//! row is two tokens longer:
//!
//! ```text
//! sequence    t    o    u    g    h  <sep>  T    AH    F   <eos>
//!
//! position    0    1    2    3    4    5    6    7    8    9   10
//! tokens      t    o    u    g    h  <sep>  T    AH   F  <pad> <pad>
//!   as ids   23   18   24   10   11    1   60   32   43    0    0
//! targets     ·    ·    ·    ·    ·    T   AH    F  <eos>  ·    ·
//!   as ids -100 -100 -100 -100 -100   60   32   43    2 -100 -100
//!
//! length 9 (positions 0 … 8 are real), prefix 6 (positions 0 … 5 are given)
//! ```
//!
//! A dot is [`IGNORED`]: nothing is asked there. Letters are given and not predicted, and padding is nothing
//! at all. Counting either in the loss would reward the model for what nobody wants from it.

use self_attention::data::cmudict::Phoneme;
use self_attention::data::vocabulary::{Vocabulary, EOS, PAD, SEP};
use self_attention::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// The target where the loss does not look. It is the `ignore_index` that PyTorch's cross-entropy defaults to.
pub const IGNORED: i64 = -100;

// ANCHOR: example
/// One word with one of its pronunciations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Example {
    /// The ids of `letters <sep> phonemes <eos>`.
    pub tokens: Vec<i64>,
    /// How many tokens are given: the letters and the `<sep>`.
    pub prefix: usize,
}

impl Example {
    /// The sequence of a word and a pronunciation.
    ///
    /// # Errors
    /// [`Error::EmptyWord`], [`Error::UnknownSymbol`], or [`Error::Input`] if there is no
    /// phoneme.
    pub fn new(
        vocabulary: &Vocabulary,
        word: &str,
        phonemes: &[Phoneme],
    ) -> Result<Self> {
        if phonemes.is_empty() {
            return Err(Error::input(
                "example",
                format!("`{word}` has no phonemes; give at least one"),
            ));
        }
        let mut tokens = vocabulary.letters(word)?;
        tokens.push(SEP);
        let prefix = tokens.len();
        tokens.extend(vocabulary.phonemes(phonemes));
        tokens.push(EOS);
        Ok(Self { tokens, prefix })
    }

    /// How many positions it takes in a batch: all tokens but the last, only ever a target.
    pub fn positions(&self) -> usize {
        self.tokens.len().saturating_sub(1)
    }
}
// ANCHOR_END: example

// ANCHOR: batch
/// Examples in tensors: what the model reads, and what it should answer.
#[derive(Debug)]
pub struct Batch {
    /// What the model reads: ids, shape `[B, T]`, padded on the right with `<pad>`.
    pub tokens: Tensor,
    /// What should come next: ids, or [`IGNORED`] at letters and padding, shape `[B, T]`.
    pub targets: Tensor,
    /// How many positions of each row are real, shape `[B]`.
    pub lengths: Tensor,
    /// How many positions of each row are given, letters and `<sep>`, shape `[B]`.
    pub prefixes: Tensor,
}
// ANCHOR_END: batch

impl Batch {
    /// Lays examples side by side, in their order.
    ///
    /// # Shapes
    /// `examples`: B, the longest of T + 1 tokens; tokens: `[B, T]`, targets: `[B, T]`, lengths: `[B]`,
    /// prefixes: `[B]`, all of 64-bit integers.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no example, or one with nothing given or nothing to predict;
    /// [`Error::Torch`] if the device cannot hold the tensors.
    // ANCHOR: collate
    pub fn collate(examples: &[&Example], device: Device) -> Result<Self> {
        let rows = examples.len();
        let columns =
            examples.iter().map(|example| example.positions()).max().unwrap_or(0);
        if rows == 0 {
            return Err(Error::input(
                "batch",
                "there is no example in it; give at least one",
            ));
        }

        let mut tokens = vec![PAD; rows * columns];
        let mut targets = vec![IGNORED; rows * columns];
        for (row, Example { tokens: sequence, prefix }) in examples.iter().enumerate() {
            let (start, tokens_in, prefix) =
                (row * columns, sequence.len().saturating_sub(1), *prefix);
            if prefix == 0 || prefix > tokens_in {
                let problem = format!(
                    "row {row} has {} tokens and a prefix of {prefix}; \
                     the prefix must leave out at least one",
                    sequence.len()
                );
                return Err(Error::input("batch", problem));
            }
            tokens[start..start + tokens_in].copy_from_slice(&sequence[..tokens_in]);
            // The <sep>, last of the prefix, is the first with an answer: the first phoneme.
            targets[start + prefix - 1..start + tokens_in]
                .copy_from_slice(&sequence[prefix..]);
        }
        let lengths: Vec<i64> =
            examples.iter().map(|example| example.positions() as i64).collect();
        let prefixes: Vec<i64> =
            examples.iter().map(|example| example.prefix as i64).collect();

        let shape = [rows as i64, columns as i64];
        let batch = Self {
            tokens: Tensor::f_from_slice(&tokens)?.f_view(shape)?, // [B, T]
            targets: Tensor::f_from_slice(&targets)?.f_view(shape)?, // [B, T]
            lengths: Tensor::f_from_slice(&lengths)?,              // [B]
            prefixes: Tensor::f_from_slice(&prefixes)?,            // [B]
        };
        batch.to_device(device)
    }
    // ANCHOR_END: collate

    /// The same batch on `device`. Nothing is copied where it is there already.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device cannot hold it.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        Ok(Self {
            tokens: self.tokens.f_to_device(device)?,
            targets: self.targets.f_to_device(device)?,
            lengths: self.lengths.f_to_device(device)?,
            prefixes: self.prefixes.f_to_device(device)?,
        })
    }

    /// Which positions have a target, of the `B·T` laid out in one row: `[N]`.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    pub fn asked(&self) -> Result<Tensor> {
        let is_asked = self.targets.f_flatten(0, 1)?.f_ne(IGNORED)?; // [B·T]
        Ok(is_asked.f_nonzero()?.f_squeeze_dim(1)?)
    }

    /// How many positions the model computes, padding and all: B·T.
    pub fn positions(&self) -> usize {
        self.tokens.numel()
    }

    /// The part of the positions that is padding, computed and thrown away: `1 − Σ lengths / (B·T)`.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device fails.
    pub fn padding(&self) -> Result<f64> {
        let real = i64::try_from(&self.lengths.f_sum(Kind::Int64)?)?;
        Ok(1.0 - real as f64 / self.positions() as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example(word: &str, phonemes: &str) -> Example {
        let phonemes: Vec<Phoneme> =
            phonemes.split(' ').map(|symbol| symbol.parse().unwrap()).collect();
        Example::new(&Vocabulary::new(), word, &phonemes).unwrap()
    }

    fn rows(tensor: &Tensor) -> Vec<Vec<i64>> {
        Vec::try_from(tensor).unwrap()
    }

    #[test]
    fn the_worked_example_of_the_documentation_holds() {
        let (tough, through) =
            (example("tough", "T AH F"), example("through", "TH R UW"));
        assert_eq!(
            tough,
            Example { tokens: vec![23, 18, 24, 10, 11, SEP, 60, 32, 43, EOS], prefix: 6 }
        );
        let batch = Batch::collate(&[&tough, &through], Device::Cpu).unwrap();

        assert_eq!(rows(&batch.tokens)[0], [23, 18, 24, 10, 11, 1, 60, 32, 43, 0, 0]);
        assert_eq!(
            rows(&batch.targets)[0],
            [-100, -100, -100, -100, -100, 60, 32, 43, 2, -100, -100]
        );
        assert_eq!(Vec::<i64>::try_from(&batch.lengths).unwrap(), [9, 11]);
        assert_eq!(Vec::<i64>::try_from(&batch.prefixes).unwrap(), [6, 8]);
        assert_eq!(batch.positions(), 22);
        assert!((batch.padding().unwrap() - 2.0 / 22.0).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_a_batch_is_refused() {
        assert!(Batch::collate(&[], Device::Cpu)
            .unwrap_err()
            .to_string()
            .contains("no example"));
        for (tokens, prefix) in
            [(vec![], 0), (vec![4, SEP], 2), (vec![4, SEP, EOS], 0), (vec![4], 9)]
        {
            let broken = Example { tokens, prefix };
            let error =
                Batch::collate(&[&example("a", "AH"), &broken], Device::Cpu).unwrap_err();
            assert!(error.to_string().starts_with("batch: row 1 has"), "{error}");
        }
        assert!(Example::new(&Vocabulary::new(), "a", &[]).is_err());
        assert!(matches!(
            Example::new(&Vocabulary::new(), "", &[]),
            Err(Error::Input { .. })
        ));
    }

    proptest! {
        #[test]
        fn every_row_gives_back_its_sequence(sizes in prop::collection::vec((1_usize..9, 1_usize..9), 1..6)) {
            let of_size =
                |&(letters, sounds): &(usize, usize)| example(&"a".repeat(letters), &vec!["AH"; sounds].join(" "));
            let examples: Vec<Example> = sizes.iter().map(of_size).collect();
            let batch = Batch::collate(&examples.iter().collect::<Vec<_>>(), Device::Cpu).unwrap();

            let (tokens, targets) = (rows(&batch.tokens), rows(&batch.targets));
            for (row, example) in examples.iter().enumerate() {
                let (real, padding) = tokens[row].split_at(example.positions());
                prop_assert_eq!(real, &example.tokens[..example.positions()]);
                prop_assert!(padding.iter().all(|&id| id == PAD));
                let asked: Vec<i64> = targets[row].iter().copied().filter(|&id| id != IGNORED).collect();
                prop_assert_eq!(&asked, &example.tokens[example.prefix..]);
                prop_assert_eq!(targets[row][example.prefix - 1], example.tokens[example.prefix]);
            }
        }
    }
}
