//! The worked example: one pass of attention over the five letters of *tough*, with numbers small enough for paper.
//!
//! Chapters 1, 4, 5 and 6 compute with these numbers, and there is no other place they come from.

use tch::{Kind, Tensor};

use self_attention::error::Result;
use self_attention::feed_forward::{Activation, FeedForward};
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
    /// The letters themselves, `[T = 5, E = 4]`.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensor.
    pub fn letters() -> Result<Tensor> {
        matrix(&EMBEDDINGS)
    }

    /// The queries, keys and values of the five letters in their order.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensors.
    pub fn new() -> Result<Self> {
        Self::project(&Self::letters()?)
    }

    /// Projects letters, whichever and in whatever order, into queries, keys and values.
    ///
    /// # Shapes
    /// `letters`: `[T, E = 4]`; query, key, value: `[T, D = 4]` each.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if the letters are not four 64-bit floats wide.
    // ANCHOR: project
    pub fn project(letters: &Tensor) -> Result<Self> {
        let times = |weight| -> Result<Tensor> {
            Ok(letters.f_matmul(&matrix(weight)?.f_tr()?)?) // [T, E]·[E, D] = [T, D]
        };
        Ok(Self {
            query: times(&QUERY_WEIGHT)?,
            key: times(&KEY_WEIGHT)?,
            value: times(&VALUE_WEIGHT)?,
        })
    }
    // ANCHOR_END: project

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

/// A matrix of 64-bit floats, `[rows, COLUMNS]`, such as [`QUERY_WEIGHT`] as a tensor.
///
/// # Errors
/// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensor.
pub fn matrix<const COLUMNS: usize>(rows: &[[f64; COLUMNS]]) -> Result<Tensor> {
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
        let letters = Tough::letters().unwrap().unsqueeze(0); // [B = 1, T, E]
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
