//! The linear layer and the layer norm, as PyTorch makes them.
//!
//! tch has both, but its linear layer starts from a bound about 2.45 times PyTorch's, and both end the program on an
//! input of the wrong width. These start where PyTorch starts, carry PyTorch's names, and return an error.

use tch::{nn, Tensor};

use self_attention::error::{Error, Result};

/// `y = x·Wᵀ + b`, as `nn.Linear`.
///
/// # Shapes
/// weight: `[out, in]`, bias: `[out]`; `x`: `[…, in]`, result: `[…, out]`.
// ANCHOR: linear
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}
// ANCHOR_END: linear

impl Linear {
    /// A layer that starts as PyTorch's does: weight and bias uniform in ±1/√in.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch cannot make the tensors.
    // ANCHOR: linear_new
    pub fn new(path: &nn::Path, inputs: i64, outputs: i64) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let uniform = nn::Init::Uniform { lo: -bound, up: bound };
        let weight = path.f_var("weight", &[outputs, inputs], uniform)?;
        let bias = Some(path.f_var("bias", &[outputs], uniform)?);
        Ok(Self { weight, bias })
    }
    // ANCHOR_END: linear_new

    /// `x·Wᵀ + b`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not as wide as the layer's input.
    // ANCHOR: linear_forward
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check_width(x, self.weight.size()[1], "linear layer: input")?;
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?) // [B, T, out]
    }
    // ANCHOR_END: linear_forward
}

/// Layer norm (Ba et al., 2016): every position brought to mean 0 and variance 1, then scaled and shifted.
///
/// `y = (x − mean) / √(variance + ε) · weight + bias`, mean and variance over the last dimension.
///
/// # Shapes
/// weight, bias: `[E]`; `x` and result: `[…, E]`.
// ANCHOR: layer_norm
#[derive(Debug)]
pub struct LayerNorm {
    /// `[E]`
    pub weight: Tensor,
    /// `[E]`
    pub bias: Tensor,
}
// ANCHOR_END: layer_norm

impl LayerNorm {
    /// PyTorch's default for the small number that keeps the root away from zero.
    const EPSILON: f64 = 1e-5;

    /// A layer norm that starts with weight 1 and bias 0.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch cannot make the tensors.
    pub fn new(path: &nn::Path, width: i64) -> Result<Self> {
        Ok(Self {
            weight: path.f_ones("weight", &[width])?,
            bias: path.f_zeros("bias", &[width])?,
        })
    }

    /// Normalizes the last dimension.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not as wide as the layer.
    // ANCHOR: layer_norm_forward
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.size()[0];
        check_width(x, width, "layer norm: input")?;
        Ok(x.f_layer_norm(
            [width],
            Some(&self.weight),
            Some(&self.bias),
            Self::EPSILON,
            false,
        )?)
    }
    // ANCHOR_END: layer_norm_forward
}

/// Refuses a tensor whose last dimension is not `width`.
fn check_width(x: &Tensor, width: i64, what: &'static str) -> Result<()> {
    match x.size()[..] {
        [.., last] if last == width => Ok(()),
        _ => {
            Err(Error::Shape {
                what, expected: format!("[…, {width}]"), found: x.size()
            })
        }
    }
}

/// Refuses a size that no layer can have.
pub(crate) fn check_size(setting: &'static str, value: i64) -> Result<()> {
    const LARGEST: i64 = 1 << 20;
    if !(1..=LARGEST).contains(&value) {
        let reason = format!("must be between 1 and {LARGEST}");
        return Err(Error::config(setting, value, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn starts_within_pytorchs_bound_and_fills_it() {
        let store = nn::VarStore::new(Device::Cpu);
        let layer = Linear::new(&store.root(), 64, 256).unwrap();
        let largest = layer.weight.abs().max().double_value(&[]);
        assert!(largest <= 0.125 && largest > 0.12, "{largest}");
    }

    #[test]
    fn layer_norm_brings_every_position_to_mean_0_and_variance_1() {
        let store = nn::VarStore::new(Device::Cpu);
        let norm = LayerNorm::new(&store.root(), 32).unwrap();
        let y = norm
            .forward(&(Tensor::randn([5, 32], (Kind::Float, Device::Cpu)) * 7 + 3))
            .unwrap();
        let (mean, variance) = (
            y.mean_dim(-1, false, Kind::Float),
            y.square().mean_dim(-1, false, Kind::Float),
        );
        assert!(mean.abs().max().double_value(&[]) < 1e-5);
        assert!((variance - 1).abs().max().double_value(&[]) < 1e-3);
    }

    #[test]
    fn an_input_of_the_wrong_width_is_refused() {
        let store = nn::VarStore::new(Device::Cpu);
        let x = Tensor::zeros([2, 5], (Kind::Float, Device::Cpu));
        let linear = Linear::new(&store.root(), 4, 4).unwrap().forward(&x).unwrap_err();
        assert_eq!(
            linear.to_string(),
            "linear layer: input: expected […, 4], found [2, 5]"
        );
        assert!(LayerNorm::new(&store.root(), 4).unwrap().forward(&x).is_err());
    }
}
