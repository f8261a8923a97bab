//! Multi-head self-attention: several attentions side by side, each in its own slice of the width.
//!
//! `multi_head(x) = concat(head_1, …, head_H)·Wₒᵀ + bₒ`, `head_h = attention(x·W_qᵀ, x·W_kᵀ, x·W_vᵀ)` with the slices
//! of head `h`. Vaswani et al. (2017), section 3.2.2. The three input projections lie one below the other in one
//! matrix `[3E, E]`, as in PyTorch's `nn.MultiheadAttention`: one product makes all of them.

use tch::{nn, Tensor};

use self_attention::attention::{scaled_dot_product_attention, Attended};
use self_attention::dropout::Dropout;
use self_attention::error::{Error, Result};
use self_attention::linear::{check_size, Linear};
use self_attention::mask::Mask;

/// What a [`MultiHead`] is made from.
// ANCHOR: multi_head_config
#[derive(Clone, Copy, Debug)]
pub struct MultiHeadConfig {
    width: i64, // E
    heads: i64, // H; each is D = E / H wide
}
// ANCHOR_END: multi_head_config

impl MultiHeadConfig {
    /// `heads` heads that share a model of `width` numbers a position.
    pub fn new(width: i64, heads: i64) -> Self {
        Self { width, heads }
    }

    /// Makes the layer, its parameters under `path`, with PyTorch's names and PyTorch's start.
    ///
    /// # Errors
    /// [`Error::Config`] unless `heads` divides `width` and both are at least 1.
    pub fn init(&self, path: &nn::Path) -> Result<MultiHead> {
        let Self { width, heads } = *self;
        check_size("width", width)?;
        check_size("heads", heads)?;
        if width % heads != 0 {
            let reason =
                format!("the width {width} cannot be cut into {heads} equal heads");
            return Err(Error::config("heads", heads, reason));
        }
        // Xavier: the variance of what goes in is, on average, that of what comes out (Glorot & Bengio, 2010).
        let bound = (6.0 / (width + 3 * width) as f64).sqrt();
        let xavier = nn::Init::Uniform { lo: -bound, up: bound };
        let input = Linear {
            weight: path.f_var("in_proj_weight", &[3 * width, width], xavier)?,
            bias: Some(path.f_zeros("in_proj_bias", &[3 * width])?),
        };
        let output = &(path / "out_proj");
        let bound = 1.0 / (width as f64).sqrt();
        let output = Linear {
            weight: output.f_var(
                "weight",
                &[width, width],
                nn::Init::Uniform { lo: -bound, up: bound },
            )?,
            bias: Some(output.f_zeros("bias", &[width])?),
        };
        Ok(MultiHead { input, output, heads })
    }
}

/// Multi-head self-attention.
// ANCHOR: multi_head
#[derive(Debug)]
pub struct MultiHead {
    /// Query, key and value projections, one below the other: weight `[3E, E]`.
    pub input: Linear,
    /// The projection that mixes the heads again: weight `[E, E]`.
    pub output: Linear,
    heads: i64,
}
// ANCHOR_END: multi_head

impl MultiHead {
    /// Lets every position of `x` look at the positions its mask allows.
    ///
    /// # Shapes
    /// `x`: `[B, T, E]`, `mask`: broadcasts to `[B, H, T, T]`; context: `[B, T, E]`, weights: `[B, H, T, T]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` or the mask does not have that shape.
    // ANCHOR: forward
    pub fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Mask>,
        dropout: &Dropout,
    ) -> Result<Attended> {
        let projected = self.input.forward(x)?; // [B, T, 3E]
        let [query, key, value] = self.split_heads(&projected)?; // each [B, H, T, D]
        let attended = scaled_dot_product_attention(&query, &key, &value, mask, dropout)?;
        let context = self.output.forward(&concatenate_heads(&attended.context)?)?; // [B, T, E]
        Ok(Attended { context, weights: attended.weights })
    }
    // ANCHOR_END: forward

    /// Cuts the projections into query, key and value and each of these into its heads.
    ///
    /// # Shapes
    /// `projected`: `[B, T, 3E]`; query, key, value: `[B, H, T, D]` each.
    ///
    /// # Errors
    /// [`Error::Shape`] if `projected` does not have three dimensions.
    // ANCHOR: split_heads
    pub fn split_heads(&self, projected: &Tensor) -> Result<[Tensor; 3]> {
        let [batch, positions, triple] = projected.size()[..] else {
            let expected = "[B, T, 3E]".into();
            return Err(Error::Shape {
                what: "multi-head: input",
                expected,
                found: projected.size(),
            });
        };
        let width = triple / (3 * self.heads); // D
        let heads = projected
            .f_view([batch, positions, 3, self.heads, width])? // [B, T, 3, H, D]
            .f_permute([2, 0, 3, 1, 4])?; // [3, B, H, T, D]
        Ok([heads.f_select(0, 0)?, heads.f_select(0, 1)?, heads.f_select(0, 2)?])
    }
    // ANCHOR_END: split_heads
}

/// Lays the heads of each position side by side again.
///
/// # Shapes
/// `heads`: `[B, H, T, D]`; result: `[B, T, E = H·D]`.
///
/// # Errors
/// [`Error::Torch`] if `heads` does not have four dimensions.
// ANCHOR: concatenate_heads
pub fn concatenate_heads(heads: &Tensor) -> Result<Tensor> {
    let side_by_side = heads.f_transpose(1, 2)?; // [B, T, H, D]
    Ok(side_by_side.f_flatten(2, 3)?) // [B, T, H·D]
}
// ANCHOR_END: concatenate_heads

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn layer(width: i64, heads: i64) -> (nn::VarStore, MultiHead) {
        tch::manual_seed(1);
        let store = nn::VarStore::new(Device::Cpu);
        let layer = MultiHeadConfig::new(width, heads).init(&store.root()).unwrap();
        (store, layer)
    }

    #[test]
    fn all_heads_at_once_equal_a_loop_over_heads() {
        let (_store, layer) = layer(8, 2);
        let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu));
        let mask = Mask::causal(5, Device::Cpu).unwrap();
        let attended = layer.forward(&x, Some(&mask), &Dropout::off()).unwrap();
        let projected = layer.input.forward(&x).unwrap();
        let contexts: Vec<Tensor> = (0..2)
            .map(|head| {
                let part = |third: i64| projected.narrow(-1, third * 8 + head * 4, 4); // [B, T, D]
                let off = Dropout::off();
                scaled_dot_product_attention(
                    &part(0),
                    &part(1),
                    &part(2),
                    Some(&mask),
                    &off,
                )
                .unwrap()
                .context
            })
            .collect();
        let looped = layer.output.forward(&Tensor::cat(&contexts, -1)).unwrap();
        assert!((attended.context - looped).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn has_four_matrices_and_four_biases_of_parameters() {
        let (store, _layer) = layer(8, 2);
        let parameters: usize = store.variables().values().map(Tensor::numel).sum();
        assert_eq!(parameters, 4 * 8 * 8 + 4 * 8);
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused() {
        let store = nn::VarStore::new(Device::Cpu);
        for (width, heads) in [(8, 3), (8, 0), (0, 1), (8, -2)] {
            assert!(
                MultiHeadConfig::new(width, heads).init(&store.root()).is_err(),
                "{width} / {heads}"
            );
        }
        let error = MultiHeadConfig::new(8, 3).init(&store.root()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "heads = 3: the width 8 cannot be cut into 3 equal heads"
        );
    }
}
