//! The worked example: one pass of attention over the five letters of *tough*, with numbers small enough for paper.
//!
//! Chapters 1, 4, 5 and 6 compute with these numbers, and there is no other place they come from.

use tch::{Kind, Tensor};

use self_attention::error::Result;
use self_attention::feed_forward::{Activation, FeedForward};
use self_attention::linear::Linear;

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

/// What each hidden unit of the feed-forward network of *tough* stands for: a sort of letter.
// ANCHOR: units
pub const UNITS: [&str; 5] =
    ["hard cons.", "hard vowel", "soft vowel", "soft cons.", "soft breath"];
// ANCHOR_END: units

/// What each unit looks for, a row each: `[F = 5, E = 4]`, used as `x·W₁ᵀ`.
// ANCHOR: expand_weight
pub const EXPAND_WEIGHT: [[f64; 4]; 5] = [
    [0.0, 1.0, -1.0, 0.0], // a consonant, and not soft
    [1.0, 0.0, -1.0, 0.0], // a vowel, and not soft
    [1.0, 0.0, 1.0, 0.0],  // a vowel, and soft
    [0.0, 1.0, 1.0, 0.0],  // a consonant, and soft
    [0.0, 0.0, 1.0, 1.0],  // a breath, and soft
];
// ANCHOR_END: expand_weight

/// What each unit asks for before it fires, `[F = 5]`: with −1, one of two features is not enough.
// ANCHOR: expand_bias
pub const EXPAND_BIAS: [f64; 5] = [0.0, 0.0, -1.0, -1.0, -1.0];
// ANCHOR_END: expand_bias

/// What each unit writes when it fires, a column each: `[E = 4, F = 5]`, used as `h·W₂ᵀ`.
// ANCHOR: contract_weight
pub const CONTRACT_WEIGHT: [[f64; 5]; 4] = [
    [0.0, 1.0, -1.0, 0.0, 0.0], // vowel: more in o, less in u
    [1.0, 0.0, 0.0, 0.0, 0.0],  // consonant: more in t
    [0.0, 0.0, 0.0, 0.0, 0.0],  // soft: as it is
    [0.0, 0.0, 0.0, 1.0, -1.0], // breath: more in g, less in h
];
// ANCHOR_END: contract_weight

/// What is added to that, `[E = 4]`: nothing.
// ANCHOR: contract_bias
pub const CONTRACT_BIAS: [f64; 4] = [0.0; 4];
// ANCHOR_END: contract_bias

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
        let letters = Self::letters()?; // [T, E]
        let project = |weight| -> Result<Tensor> {
            Ok(letters.f_linear(&matrix(weight)?, None::<&Tensor>)?)
        };
        Ok(Self {
            query: project(&QUERY_WEIGHT)?,
            key: project(&KEY_WEIGHT)?,
            value: project(&VALUE_WEIGHT)?,
        })
    }

    /// The letters themselves, `[T = 5, E = 4]`.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensor.
    pub fn letters() -> Result<Tensor> {
        matrix(&EMBEDDINGS)
    }

    /// A feed-forward network for letters, its weights chosen by hand: `E = 4`, `F = 5`, ReLU.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensors.
    pub fn feed_forward() -> Result<FeedForward> {
        let vector = Tensor::f_from_slice::<f64>;
        Ok(FeedForward {
            expand: Linear {
                weight: matrix(&EXPAND_WEIGHT)?,   // [F, E]
                bias: Some(vector(&EXPAND_BIAS)?), // [F]
            },
            activation: Activation::Relu,
            contract: Linear {
                weight: matrix(&CONTRACT_WEIGHT)?,   // [E, F]
                bias: Some(vector(&CONTRACT_BIAS)?), // [E]
            },
        })
    }
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
    fn each_unit_fires_for_the_letter_of_its_sort() {
        let network = Tough::feed_forward().unwrap();
        let letters = Tough::letters().unwrap();
        let hidden = network.expand.forward(&letters).unwrap().relu(); // [T, F]
        assert_eq!(hidden, Tensor::eye(5, (Kind::Double, letters.device())));
        let given = network.forward(&letters).unwrap(); // [T, E]
        let expected = [
            [0.0, 1.0, 0.0, 0.0],  // t: more of a consonant
            [1.0, 0.0, 0.0, 0.0],  // o: more of a vowel
            [-1.0, 0.0, 0.0, 0.0], // u: no vowel any more
            [0.0, 0.0, 0.0, 1.0],  // g: breathed
            [0.0, 0.0, 0.0, -1.0], // h: no breath any more
        ];
        assert_eq!(given, Tensor::from_slice2(&expected));
    }
}
