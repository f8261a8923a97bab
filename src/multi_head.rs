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
    // ANCHOR: init
    pub fn init(&self, path: &nn::Path) -> Result<MultiHead> {
        let Self { width, heads } = *self;
        check_heads(width, heads)?;
        let uniform = |bound: f64| nn::Init::Uniform { lo: -bound, up: bound };
        // PyTorch's start. Xavier: Glorot and Bengio, 2010.
        let xavier = uniform((6.0 / (width + 3 * width) as f64).sqrt());
        let input = Linear {
            weight: path.f_var("in_proj_weight", &[3 * width, width], xavier)?,
            bias: Some(path.f_zeros("in_proj_bias", &[3 * width])?),
        };
        let path = &(path / "out_proj");
        let start = uniform(1.0 / (width as f64).sqrt());
        let output = Linear {
            weight: path.f_var("weight", &[width, width], start)?,
            bias: Some(path.f_zeros("bias", &[width])?),
        };
        MultiHead::new(input, output, heads)
    }
    // ANCHOR_END: init
}

/// Refuses a width that cannot be cut into that many equal heads.
// ANCHOR: check_heads
fn check_heads(width: i64, heads: i64) -> Result<()> {
    check_size("width", width)?;
    check_size("heads", heads)?;
    if width % heads != 0 {
        let reason = format!("the width {width} cannot be cut into {heads} equal heads");
        return Err(Error::config("heads", heads, reason));
    }
    Ok(())
}
// ANCHOR_END: check_heads

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
    /// Makes the layer from weights that are there already.
    ///
    /// # Shapes
    /// The weight of `input`: `[3E, E]`, query, key and value one below the other; that of `output`: `[E, E]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a weight has another shape; [`Error::Config`] if `heads` does not divide `E`.
    pub fn new(input: Linear, output: Linear, heads: i64) -> Result<Self> {
        let width = output.weight.size().first().copied().unwrap_or(0); // E
        check_heads(width, heads)?;
        check_shapes(&output, "multi-head: output projection", [width, width])?;
        check_shapes(&input, "multi-head: input projection", [3 * width, width])?;
        Ok(Self { input, output, heads })
    }

    /// Lets every position of `x` look at the positions its mask allows.
    ///
    /// # Shapes
    /// `x`: `[B, T, E]`, `mask`: broadcasts to `[B, H, T, T]`; context: `[B, T, E]`, weights: `[B, H, T, T]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` or the mask does not have that shape.
    ///
    /// # Example: three words of five letters
    /// ```
    /// use self_attention::prelude::*;
    /// # fn main() -> Result<()> {
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let layer = MultiHeadConfig::new(8, 2).init(&store.root())?;
    /// let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu)); // [B, T, E]
    /// let attended = layer.forward(&x, None, &Dropout::off())?;
    /// assert_eq!(attended.context.size(), [3, 5, 8]); // [B, T, E]
    /// assert_eq!(attended.weights.size(), [3, 2, 5, 5]); // [B, H, T, T]
    /// # Ok(())
    /// # }
    /// ```
    // ANCHOR: forward
    pub fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Mask>,
        dropout: &Dropout,
    ) -> Result<Attended> {
        let projected = self.input.forward(x)?; // [B, T, 3E]
        let [query, key, value] = self.split_heads(&projected)?; // [B, H, T, D]
        let attended = scaled_dot_product_attention(&query, &key, &value, mask, dropout)?;
        let joined = concatenate_heads(&attended.context)?; // [B, T, E]
        let context = self.output.forward(&joined)?; // [B, T, E]
        Ok(Attended { context, weights: attended.weights })
    }
    // ANCHOR_END: forward

    /// Cuts the projections into query, key and value and each of these into its heads.
    ///
    /// # Shapes
    /// `projected`: `[B, T, 3E]`; query, key, value: `[B, H, T, D]` each.
    ///
    /// # Errors
    /// [`Error::Shape`] if `projected` does not have three dimensions; [`Error::Torch`] if its last one cannot be cut
    /// into three times the number of heads.
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

/// Refuses a linear layer whose weight or bias has another shape.
fn check_shapes(layer: &Linear, what: &'static str, weight: [i64; 2]) -> Result<()> {
    let bias = layer.bias.as_ref().map(Tensor::size);
    for (expected, found) in [
        (weight.to_vec(), Some(layer.weight.size())),
        (vec![weight[0]], bias), // a single number would be broadcast without complaint
    ] {
        match found {
            Some(found) if found != expected => {
                let expected = format!("{expected:?}");
                return Err(Error::Shape { what, expected, found });
            }
            _ => {}
        }
    }
    Ok(())
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

    /// The contexts of all heads side by side, before the output projection.
    fn side_by_side(layer: &MultiHead, x: &Tensor) -> Tensor {
        let [query, key, value] =
            layer.split_heads(&layer.input.forward(x).unwrap()).unwrap();
        let attended =
            scaled_dot_product_attention(&query, &key, &value, None, &Dropout::off());
        concatenate_heads(&attended.unwrap().context).unwrap()
    }

    #[test]
    fn only_the_output_projection_lets_a_head_reach_beyond_its_slice() {
        let (_store, layer) = layer(8, 2);
        let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu));
        let before = side_by_side(&layer, &x);
        let result = layer.output.forward(&before).unwrap();
        let of_head_1 = layer.input.weight.detach().view([3, 2, 4, 8]).select(1, 1);
        let _ = of_head_1.shallow_clone().fill_(0.3);
        let after = side_by_side(&layer, &x);
        assert_eq!(after.narrow(-1, 0, 4), before.narrow(-1, 0, 4)); // to the last bit
        let moved = |a: &Tensor, b: &Tensor| (a - b).abs().amax([0, 1], false).min();
        assert!(moved(&after, &before).double_value(&[]) == 0.0);
        let after = layer.output.forward(&after).unwrap();
        assert!(moved(&after, &result).double_value(&[]) > 1e-3); // every number of it
    }

    #[test]
    fn the_result_is_the_sum_of_what_each_head_writes() {
        let (_store, layer) = layer(8, 2);
        let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu));
        let contexts = side_by_side(&layer, &x).chunk(2, -1); // [B, T, D] each
        let weights = layer.output.weight.chunk(2, 1); // [E, D] each
        let sum =
            contexts[0].matmul(&weights[0].tr()) + contexts[1].matmul(&weights[1].tr());
        let whole = layer.forward(&x, None, &Dropout::off()).unwrap().context;
        assert!((sum - whole).abs().max().double_value(&[]) < 1e-6); // the biases start at 0
    }

    #[test]
    fn weights_of_the_wrong_shape_are_refused() {
        let zeros = |shape: &[i64]| Linear {
            weight: Tensor::zeros(shape, (Kind::Float, Device::Cpu)),
            bias: None,
        };
        assert!(MultiHead::new(zeros(&[24, 8]), zeros(&[8, 8]), 2).is_ok());
        let bias = Some(Tensor::zeros([1], (Kind::Float, Device::Cpu)));
        let narrow =
            MultiHead::new(zeros(&[24, 8]), Linear { bias, ..zeros(&[8, 8]) }, 2);
        let message = "multi-head: output projection: expected [8], found [1]";
        assert_eq!(narrow.unwrap_err().to_string(), message);
        for (input, output, message) in [
            (&[8, 24][..], &[8, 8][..], "multi-head: input projection: expected [24, 8]"),
            (&[24, 8], &[8, 4], "multi-head: output projection: expected [8, 8]"),
            (&[24, 8], &[], "width = 0"),
        ] {
            let error = MultiHead::new(zeros(input), zeros(output), 2).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
        }
    }

    #[test]
    fn has_four_matrices_and_four_biases_of_parameters() {
        let (store, _layer) = layer(8, 2);
        let parameters: usize = store.variables().values().map(Tensor::numel).sum();
        assert_eq!(parameters, 4 * 8 * 8 + 4 * 8);
    }

    #[test]
    fn inside_a_larger_model_the_names_are_those_of_pytorch_too() {
        let store = nn::VarStore::new(Device::Cpu);
        let path = store.root() / "layers" / 0 / "self_attn";
        MultiHeadConfig::new(8, 2).init(&path).unwrap();
        let mut names: Vec<String> = store.variables().into_keys().collect();
        names.sort();
        let ends = ["in_proj_bias", "in_proj_weight", "out_proj.bias", "out_proj.weight"];
        assert_eq!(names, ends.map(|end| format!("layers.0.self_attn.{end}")));
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
