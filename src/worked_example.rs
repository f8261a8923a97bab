//! The worked example: one pass of attention over the five letters of *tough*, with numbers small enough for paper.
//!
//! Chapters 1, 4 and 5 compute with these numbers, and there is no other place they come from.

use tch::{Kind, Tensor};

use self_attention::error::Result;
use self_attention::linear::Linear;
use self_attention::multi_head::MultiHead;

/// The letters.
pub const LETTERS: [&str; 5] = ["t", "o", "u", "g", "h"];

/// What the four numbers of a letter stand for.
// ANCHOR: features
pub const FEATURES: [&str; 4] = ["vowel", "consonant", "soft", "breath"];
// ANCHOR_END: features

/// A vector for each letter, `[T = 5, E = 4]`.
// ANCHOR: embeddings
pub const EMBEDDINGS: [[f64; 4]; 5] = [
    [0.0, 1.0, 0.0, 0.0], // t: a consonant
    [1.0, 0.0, 0.0, 0.0], // o: a vowel
    [1.0, 0.0, 1.0, 0.0], // u: a vowel, and soft
    [0.0, 1.0, 1.0, 0.0], // g: a consonant, and soft
    [0.0, 0.0, 1.0, 1.0], // h: soft, and a breath
];
// ANCHOR_END: embeddings

/// Turns a letter into what it looks for, `[D = 4, E = 4]`, used as `x·Wᵀ`.
// ANCHOR: query_weight
pub const QUERY_WEIGHT: [[f64; 4]; 4] = [
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 2.0],
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 2.0, -2.0],
];
// ANCHOR_END: query_weight

/// Turns a letter into what it offers to be found by: itself, twice.
// ANCHOR: key_weight
pub const KEY_WEIGHT: [[f64; 4]; 4] = [
    [2.0, 0.0, 0.0, 0.0],
    [0.0, 2.0, 0.0, 0.0],
    [0.0, 0.0, 2.0, 0.0],
    [0.0, 0.0, 0.0, 2.0],
];
// ANCHOR_END: key_weight

/// Turns a letter into what it hands over: itself.
// ANCHOR: value_weight
pub const VALUE_WEIGHT: [[f64; 4]; 4] = [
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, 0.0, 1.0],
];
// ANCHOR_END: value_weight

/// Mixes two heads, each half of the width: every number takes half of one from either head.
// ANCHOR: output_weight
pub const OUTPUT_WEIGHT: [[f64; 4]; 4] = [
    [0.5, 0.0, 0.0, 0.5], // a vowel and a breath
    [0.0, 0.5, 0.0, 0.5], // a consonant and a breath
    [0.5, 0.0, 0.5, 0.0], // a vowel and something soft
    [0.0, 0.5, 0.5, 0.0], // a consonant and something soft
];
// ANCHOR_END: output_weight

/// The queries, keys and values of *tough*.
// ANCHOR: tough
#[derive(Debug)]
pub struct Tough {
    /// What each letter looks for, `[T = 5, D = 4]`.
    pub query: Tensor,
    /// What each letter offers to be found by, `[S = 5, D = 4]`.
    pub key: Tensor,
    /// What each letter hands over, `[S = 5, D = 4]`.
    pub value: Tensor,
}
// ANCHOR_END: tough

impl Tough {
    /// Projects the letters into queries, keys and values.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensors.
    pub fn new() -> Result<Self> {
        let letters = matrix(&EMBEDDINGS)?; // [T, E]
        let project = |weight| -> Result<Tensor> {
            Ok(letters.f_linear(&matrix(weight)?, None::<&Tensor>)?)
        };
        Ok(Self {
            query: project(&QUERY_WEIGHT)?,
            key: project(&KEY_WEIGHT)?,
            value: project(&VALUE_WEIGHT)?,
        })
    }

    /// The letters as a batch of one, `[B = 1, T = 5, E = 4]`.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensor.
    pub fn letters() -> Result<Tensor> {
        Ok(matrix(&EMBEDDINGS)?.f_unsqueeze(0)?)
    }

    /// The weights of this module as a layer, the width of four cut into `heads` heads; without biases.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Config`] unless `heads` divides 4.
    // ANCHOR: multi_head
    pub fn multi_head(heads: i64) -> Result<MultiHead> {
        let weight = matrix(&[QUERY_WEIGHT, KEY_WEIGHT, VALUE_WEIGHT].concat())?; // [3E, E]
        let input = Linear { weight, bias: None };
        let output = Linear { weight: matrix(&OUTPUT_WEIGHT)?, bias: None };
        MultiHead::new(input, output, heads)
    }
    // ANCHOR_END: multi_head
}

/// A matrix of 64-bit floats.
fn matrix<const COLUMNS: usize>(rows: &[[f64; COLUMNS]]) -> Result<Tensor> {
    let flat = Tensor::f_from_slice(&rows.concat())?.f_to_kind(Kind::Double)?;
    Ok(flat.f_view([rows.len() as i64, COLUMNS as i64])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::attention::scaled_dot_product_attention;
    use self_attention::dropout::Dropout;

    #[test]
    fn comes_out_as_it_does_on_paper() {
        let Tough { query, key, value } = Tough::new().unwrap();
        assert_eq!(query.get(3), Tensor::from_slice(&[0.0, 0.0, 0.0, 3.0]));
        let attended =
            scaled_dot_product_attention(&query, &key, &value, None, &Dropout::off())
                .unwrap();
        let found = 3f64.exp() / (3f64.exp() + 4.0);
        assert!((attended.weights.double_value(&[3, 4]) - found).abs() < 1e-12);
    }

    #[test]
    fn a_single_head_gives_the_weights_of_chapter_4_and_two_heads_those_on_paper() {
        let Tough { query, key, value } = Tough::new().unwrap();
        let off = Dropout::off();
        let alone = scaled_dot_product_attention(&query, &key, &value, None, &off);
        let letters = Tough::letters().unwrap();
        let weights = |heads| {
            Tough::multi_head(heads)
                .unwrap()
                .forward(&letters, None, &off)
                .unwrap()
                .weights
        };
        assert_eq!(weights(1).view([5, 5]), alone.unwrap().weights);
        let found = (3.0 * 2f64.sqrt()).exp(); // 3·2/√2 for h, and 0 for each other letter
        let g = weights(2).double_value(&[0, 1, 3, 4]);
        assert!((g - found / (found + 4.0)).abs() < 1e-12);
    }
}
