//! Who may look at whom.
//!
//! A [`Mask`] is a tensor of booleans that broadcasts to the scores, `[B, H, T, S]`. It has one polarity everywhere
//! in this crate: **true = may attend**, as in libtorch's `scaled_dot_product_attention`. Mind that
//! `nn.MultiheadAttention` in Python means the opposite, true = must not.

use tch::{Device, Kind, Tensor};

use self_attention::error::{Error, Result};

/// Which keys each query may attend to: true = may attend.
///
/// # Shapes
/// Anything that broadcasts to `[B, H, T, S]`: batch, heads, queries, keys.
// ANCHOR: mask
#[derive(Debug)]
pub struct Mask(Tensor);
// ANCHOR_END: mask

impl Mask {
    /// Takes a boolean tensor as a mask.
    ///
    /// # Errors
    /// [`Error::Config`] if the tensor is not boolean. A float mask that is added to the scores, as PyTorch also
    /// accepts, would be read with a meaning of its own; so it is refused and not guessed at.
    pub fn new(allowed: Tensor) -> Result<Self> {
        match allowed.kind() {
            Kind::Bool => Ok(Self(allowed)),
            kind => Err(Error::config(
                "mask",
                format!("{kind:?}"),
                "a mask is boolean, true = may attend",
            )),
        }
    }

    /// Padding: each sequence attends to its own `lengths[b]` first positions and to nothing after them.
    ///
    /// # Shapes
    /// `lengths`: `[B]`; the mask: `[B, 1, 1, S]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `lengths` is not `[B]`.
    // ANCHOR: padding
    pub fn padding(lengths: &Tensor, keys: i64) -> Result<Self> {
        let key = Tensor::f_arange(keys, (Kind::Int64, lengths.device()))?; // [S]
        let live = key.f_less_tensor(&per_sequence(lengths)?)?; // [B, 1, 1, S]
        Ok(Self(live))
    }
    // ANCHOR_END: padding

    /// Causal: position `t` attends to the positions up to and including `t`, so nothing flows back from the future.
    ///
    /// # Shapes
    /// The mask: `[T, T]`.
    ///
    /// # Errors
    /// [`Error::Torch`] if `positions` is negative.
    // ANCHOR: causal
    pub fn causal(positions: i64, device: Device) -> Result<Self> {
        let ones = Tensor::f_ones([positions, positions], (Kind::Bool, device))?;
        Ok(Self(ones.f_tril(0)?)) // [T, T]
    }
    // ANCHOR_END: causal

    /// Prefix: the first `prefixes[b]` positions are seen by all, both ways; the rest is causal.
    ///
    /// This is the mask of a *prefix language model* (Raffel et al., 2020, section 3.2.1): here the letters of a word
    /// are the prefix, and its phonemes are what is written one after the other.
    ///
    /// # Shapes
    /// `prefixes`: `[B]`; the mask: `[B, 1, T, T]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `prefixes` is not `[B]`.
    // ANCHOR: prefix
    pub fn prefix(prefixes: &Tensor, positions: i64) -> Result<Self> {
        let in_prefix = Self::padding(prefixes, positions)?; // [B, 1, 1, T]
        let causal = Self::causal(positions, prefixes.device())?; // [T, T]
        Ok(Self(in_prefix.0.f_logical_or(&causal.0)?)) // [B, 1, T, T]
    }
    // ANCHOR_END: prefix

    /// Both masks at once: a key is open where it is open in each.
    ///
    /// # Errors
    /// [`Error::Torch`] if the two shapes do not broadcast together.
    // ANCHOR: and
    pub fn and(&self, other: &Self) -> Result<Self> {
        Ok(Self(self.0.f_logical_and(&other.0)?))
    }
    // ANCHOR_END: and

    /// The boolean tensor, true = may attend.
    pub fn allowed(&self) -> &Tensor {
        &self.0
    }

    /// The opposite tensor, true = closed, as `masked_fill` wants it.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch cannot make the tensor.
    pub fn closed(&self) -> Result<Tensor> {
        Ok(self.0.f_logical_not()?)
    }
}

/// A number per sequence, `[B]`, shaped to broadcast over heads, queries and keys: `[B, 1, 1, 1]`.
fn per_sequence(numbers: &Tensor) -> Result<Tensor> {
    match numbers.size()[..] {
        [_] => Ok(numbers.f_reshape([-1, 1, 1, 1])?),
        _ => Err(Error::Shape {
            what: "mask: lengths",
            expected: "[B]".into(),
            found: numbers.size(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(mask: &Mask) -> Vec<String> {
        let size = mask.allowed().size();
        let [queries, keys] = [size[size.len() - 2], size[size.len() - 1]];
        let flat = Vec::<bool>::try_from(mask.allowed().reshape([-1])).unwrap();
        assert_eq!(flat.len() as i64 % (queries * keys), 0);
        flat.chunks(keys as usize)
            .map(|row| row.iter().map(|&open| if open { 'x' } else { '.' }).collect())
            .collect()
    }

    #[test]
    fn padding_closes_what_lies_beyond_each_length() {
        let mask = Mask::padding(&Tensor::from_slice(&[3i64, 1]), 4).unwrap();
        assert_eq!(mask.allowed().size(), [2, 1, 1, 4]);
        assert_eq!(rows(&mask), ["xxx.", "x..."]);
    }

    #[test]
    fn causal_closes_the_future() {
        assert_eq!(rows(&Mask::causal(3, Device::Cpu).unwrap()), ["x..", "xx.", "xxx"]);
    }

    #[test]
    fn prefix_is_open_both_ways_and_causal_after_it() {
        let mask = Mask::prefix(&Tensor::from_slice(&[2i64]), 4).unwrap();
        assert_eq!(rows(&mask), ["xx..", "xx..", "xxx.", "xxxx"]);
    }

    #[test]
    fn and_keeps_what_is_open_in_both() {
        let padding = Mask::padding(&Tensor::from_slice(&[2i64]), 3).unwrap();
        let both = Mask::causal(3, Device::Cpu).unwrap().and(&padding).unwrap();
        assert_eq!(rows(&both), ["x..", "xx.", "xx."]);
    }

    #[test]
    fn a_float_mask_is_refused() {
        let error =
            Mask::new(Tensor::zeros([2, 2], (Kind::Float, Device::Cpu))).unwrap_err();
        assert!(error.to_string().contains("true = may attend"), "{error}");
    }
}
