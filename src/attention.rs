//! Scaled dot-product attention: `softmax(Q·Kᵀ / √D)·V`.
//!
//! Every query is compared with every key by a dot product; softmax turns a query's scores into weights that sum to
//! one; the result is the average of the values under these weights. Vaswani et al., "Attention Is All You Need"
//! (2017), section 3.2.1.
//!
//! | tensor            | shape          |                                         |
//! |-------------------|----------------|-----------------------------------------|
//! | query             | `[B, H, T, D]` | what each position looks for            |
//! | key               | `[B, H, S, D]` | what each position offers to be found by |
//! | value             | `[B, H, S, D]` | what each position hands over           |
//! | scores, weights   | `[B, H, T, S]` | one row a query, one column a key       |
//! | context           | `[B, H, T, D]` | what each query came away with          |
//!
//! The leading dimensions may be left out or be others: only the last two matter here.

use tch::Tensor;

use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::mask::Mask;

/// What attention gives back: the context, and the weights it was averaged with.
// ANCHOR: attended
#[derive(Debug)]
pub struct Attended {
    /// The averaged values, `[B, H, T, D]`; from a layer of several heads what it makes of them, `[B, T, E]`.
    pub context: Tensor,
    /// The weights of the average, before dropout, `[B, H, T, S]`.
    pub weights: Tensor,
}
// ANCHOR_END: attended

/// Scaled dot-product attention, with its weights.
///
/// `context = dropout(softmax(query · keyᵀ / √D + mask)) · value`, where the mask stands for 0 where a key is open and
/// −∞ where it is closed. The weights handed back are those before dropout, so their rows sum to one.
///
/// # Shapes
/// `query`: `[…, T, D]`, `key`: `[…, S, D]`, `value`: `[…, S, D]`, `mask`: broadcasts to `[…, T, S]`;
/// context: `[…, T, D]`, weights: `[…, T, S]`.
///
/// # Errors
/// [`Error::Shape`] if the widths of query and key differ, if there are not as many values as keys, or if the mask does
/// not broadcast to the scores; [`Error::Torch`] if the leading dimensions or the kinds of the tensors differ.
///
/// # Example: one query that finds the first of two keys
/// ```
/// use self_attention::prelude::*;
/// # fn main() -> Result<()> {
/// let query = Tensor::from_slice2(&[[8.0, 0.0]]); // [T = 1, D = 2]
/// let key = Tensor::from_slice2(&[[1.0, 0.0], [0.0, 1.0]]); // [S = 2, D = 2]
/// let value = Tensor::from_slice2(&[[10.0, 20.0], [30.0, 40.0]]); // [S = 2, D = 2]
/// let attended = scaled_dot_product_attention(&query, &key, &value, None, &Dropout::off())?;
/// assert!(attended.weights.double_value(&[0, 0]) > 0.99);
/// # Ok(())
/// # }
/// ```
// ANCHOR: scaled_dot_product_attention
pub fn scaled_dot_product_attention(
    query: &Tensor,      // [B, H, T, D]
    key: &Tensor,        // [B, H, S, D]
    value: &Tensor,      // [B, H, S, D]
    mask: Option<&Mask>, // broadcasts to [B, H, T, S]
    dropout: &Dropout,
) -> Result<Attended> {
    let scores = attention_scores(query, key)?; // [B, H, T, S]
    let weights = attention_weights(&scores, mask)?; // [B, H, T, S]
    let context = weighted_average(&dropout.apply(&weights)?, value)?; // [B, H, T, D]
    Ok(Attended { context, weights })
}
// ANCHOR_END: scaled_dot_product_attention

/// How well each query fits each key: `query · keyᵀ / √D`.
///
/// A dot product of two vectors of `D` independent numbers of variance 1 has variance `D`; dividing by `√D` brings it
/// back to 1, whatever the width, and keeps softmax out of the region where it has no gradient.
///
/// # Shapes
/// `query`: `[…, T, D]`, `key`: `[…, S, D]`; scores: `[…, T, S]`.
///
/// # Errors
/// [`Error::Shape`] if the last dimensions differ.
// ANCHOR: attention_scores
pub fn attention_scores(query: &Tensor, key: &Tensor) -> Result<Tensor> {
    let width = common_width(query, key)?; // D
    let query = query.f_div_scalar((width as f64).sqrt())?;
    Ok(query.f_matmul(&key.f_transpose(-2, -1)?)?) // [B, H, T, S]
}
// ANCHOR_END: attention_scores

/// Softmax over the keys that are open: each row sums to one.
///
/// `weights[t, s] = exp(scores[t, s]) / Σ_s' exp(scores[t, s'])`, the sum over open keys only. A closed key gets
/// exactly 0, and so does every key of a query for which all are closed. What a closed key holds has no effect on the
/// weights, even if it is infinite or NaN. But `0 · NaN` is NaN: so its value must be finite, and for a gradient so must the
/// key.
///
/// # Shapes
/// `scores`: `[…, T, S]`, `mask`: broadcasts to it; weights: `[…, T, S]`.
///
/// # Errors
/// [`Error::Shape`] if the mask does not broadcast to the scores.
// ANCHOR: attention_weights
pub fn attention_weights(scores: &Tensor, mask: Option<&Mask>) -> Result<Tensor> {
    let Some(mask) = mask else {
        return Ok(scores.f_softmax(-1, scores.kind())?);
    };
    check_broadcast(mask, scores)?;
    let closed = mask.closed()?;
    let scores = scores.f_masked_fill(&closed, f64::NEG_INFINITY)?;
    // A row without an open key comes out as 0/0 = NaN; the last line sets it to 0.
    let weights = scores.f_softmax(-1, scores.kind())?; // [B, H, T, S]
    Ok(weights.f_masked_fill(&closed, 0.0)?)
}
// ANCHOR_END: attention_weights

/// The average of the values under the weights: `weights · value`.
///
/// # Shapes
/// `weights`: `[…, T, S]`, `value`: `[…, S, D]`; context: `[…, T, D]`.
///
/// # Errors
/// [`Error::Shape`] if there are not as many values as weights in a row.
// ANCHOR: weighted_average
pub fn weighted_average(weights: &Tensor, value: &Tensor) -> Result<Tensor> {
    check_values(weights, value)?;
    Ok(weights.f_matmul(value)?) // [B, H, T, D]
}
// ANCHOR_END: weighted_average

/// The same context from libtorch's fused kernel, which never writes the weights down and so cannot hand them out.
///
/// The kernel walks over the keys in tiles and keeps a running maximum and a running sum (Dao et al.,
/// "FlashAttention", 2022), so its memory grows with `T`, not with `T·S`. That kernel takes `[B, H, T, D]`; for tensors
/// with fewer dimensions libtorch falls back on the explicit form. A mask is added to the scores as 0 or −∞, so a closed key
/// must be finite here.
///
/// # Shapes
/// As in [`scaled_dot_product_attention`]; the result is its context, `[…, T, D]`.
///
/// # Errors
/// [`Error::Torch`], with libtorch's words, if the shapes do not fit.
// ANCHOR: fused_attention
pub fn fused_attention(
    query: &Tensor,      // [B, H, T, D]
    key: &Tensor,        // [B, H, S, D]
    value: &Tensor,      // [B, H, S, D]
    mask: Option<&Mask>, // broadcasts to [B, H, T, S]
) -> Result<Tensor> {
    let mask = mask.map(Mask::allowed);
    // libtorch applies a dropout in evaluation too; so it is given none.
    let (dropout, causal, scale, grouped) = (0.0, false, None, false);
    Ok(Tensor::f_scaled_dot_product_attention(
        query, key, value, mask, dropout, causal, scale, grouped,
    )?) // [B, H, T, D]
}
// ANCHOR_END: fused_attention

/// The width that query and key share, `D`.
fn common_width(query: &Tensor, key: &Tensor) -> Result<i64> {
    let [_, width] = last_two(query, "attention: query")?;
    let [_, key_width] = last_two(key, "attention: key")?;
    if key_width != width {
        let expected = format!("[…, S, D = {width}], as wide as the query");
        return Err(Error::Shape { what: "attention: key", expected, found: key.size() });
    }
    Ok(width)
}

/// Refuses values of which there are not as many as weights in a row.
fn check_values(weights: &Tensor, value: &Tensor) -> Result<()> {
    let [_, keys] = last_two(weights, "attention: weights")?;
    let [values, _] = last_two(value, "attention: value")?;
    if values != keys {
        let expected = format!("[…, S = {keys}, D], one value for every key");
        return Err(Error::Shape {
            what: "attention: value",
            expected,
            found: value.size(),
        });
    }
    Ok(())
}

/// The last two sizes of a tensor that must have at least two.
fn last_two(tensor: &Tensor, what: &'static str) -> Result<[i64; 2]> {
    match tensor.size()[..] {
        [.., rows, columns] => Ok([rows, columns]),
        _ => Err(Error::Shape {
            what,
            expected: "at least two dimensions".into(),
            found: tensor.size(),
        }),
    }
}

/// Refuses a mask that does not broadcast to the scores, before libtorch does with less to say.
fn check_broadcast(mask: &Mask, scores: &Tensor) -> Result<()> {
    let (mask, scores) = (mask.allowed().size(), scores.size());
    let fits = mask.len() <= scores.len()
        && mask.iter().rev().zip(scores.iter().rev()).all(|(&m, &s)| m == s || m == 1);
    if fits {
        return Ok(());
    }
    Err(Error::Shape {
        what: "attention: mask",
        expected: format!("a shape that broadcasts to the scores, {scores:?}"),
        found: mask,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Double, Device::Cpu))
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn rows_sum_to_one_and_shapes_are_as_said() {
        let (query, key, value) =
            (random(&[2, 3, 4, 8]), random(&[2, 3, 5, 8]), random(&[2, 3, 5, 6]));
        let attended =
            scaled_dot_product_attention(&query, &key, &value, None, &Dropout::off())
                .unwrap();
        assert_eq!(attended.context.size(), [2, 3, 4, 6]);
        assert_eq!(attended.weights.size(), [2, 3, 4, 5]);
        let sums = attended.weights.sum_dim_intlist(-1, false, Kind::Double);
        assert!(difference(&sums, &sums.ones_like()) < 1e-12);
    }

    #[test]
    fn a_query_with_every_key_closed_gets_zeros_and_a_finite_gradient() {
        let query = random(&[2, 4]).set_requires_grad(true);
        let (key, value) = (random(&[3, 4]), random(&[3, 4]));
        let none = Mask::new(Tensor::zeros([2, 3], (Kind::Bool, Device::Cpu))).unwrap();
        let attended = scaled_dot_product_attention(
            &query,
            &key,
            &value,
            Some(&none),
            &Dropout::off(),
        )
        .unwrap();
        assert_eq!(attended.weights, Tensor::zeros([2, 3], (Kind::Double, Device::Cpu)));
        assert_eq!(attended.context, Tensor::zeros([2, 4], (Kind::Double, Device::Cpu)));
        attended.context.sum(Kind::Double).backward();
        assert_eq!(query.grad(), Tensor::zeros([2, 4], (Kind::Double, Device::Cpu)));
    }

    #[test]
    fn fused_and_explicit_agree() {
        let (query, key, value) =
            (random(&[2, 3, 7, 8]), random(&[2, 3, 7, 8]), random(&[2, 3, 7, 8]));
        let causal = Mask::causal(7, Device::Cpu).unwrap();
        for mask in [None, Some(&causal)] {
            let explicit =
                scaled_dot_product_attention(&query, &key, &value, mask, &Dropout::off())
                    .unwrap();
            let fused = fused_attention(&query, &key, &value, mask).unwrap();
            assert!(difference(&explicit.context, &fused) < 1e-12);
        }
    }

    #[test]
    fn weights_are_handed_out_before_dropout() {
        let x = random(&[1, 1, 6, 4]);
        let dropout = Dropout::new(0.5, 1).unwrap();
        let attended = scaled_dot_product_attention(&x, &x, &x, None, &dropout).unwrap();
        let sums = attended.weights.sum_dim_intlist(-1, false, Kind::Double);
        assert!(difference(&sums, &sums.ones_like()) < 1e-12);
        assert!(difference(&attended.context, &attended.weights.matmul(&x)) > 1e-3);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let x = random(&[3, 4]);
        let off = Dropout::off();
        let narrow = scaled_dot_product_attention(&x, &random(&[3, 5]), &x, None, &off)
            .unwrap_err();
        assert!(
            narrow.to_string().starts_with("attention: key: expected […, S, D = 4]"),
            "{narrow}"
        );
        let few = scaled_dot_product_attention(&x, &x, &random(&[2, 4]), None, &off)
            .unwrap_err();
        assert!(
            few.to_string().starts_with("attention: value: expected […, S = 3, D]"),
            "{few}"
        );
        let mask = Mask::causal(2, Device::Cpu).unwrap();
        let wrong =
            scaled_dot_product_attention(&x, &x, &x, Some(&mask), &off).unwrap_err();
        assert!(wrong.to_string().starts_with("attention: mask: expected"), "{wrong}");
        let flat = attention_scores(&random(&[4]), &x).unwrap_err();
        assert!(flat.to_string().contains("at least two dimensions"), "{flat}");
    }
}
