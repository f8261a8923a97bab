//! The worked example: one pass of attention over the five letters of *tough*, with numbers small enough for paper.
//!
//! Chapters 1, 4 and 5 compute with these numbers, and there is no other place they come from.

use tch::{Kind, Tensor};

use self_attention::error::Result;

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
    /// The five letters in their order.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensors.
    pub fn new() -> Result<Self> {
        Self::project(&letters()?)
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
}

/// The vectors of the five letters, `[T = 5, E = 4]`: [`EMBEDDINGS`] as a tensor.
///
/// # Errors
/// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensor.
pub fn letters() -> Result<Tensor> {
    matrix(&EMBEDDINGS)
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
}
