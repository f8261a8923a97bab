//! The position-wise feed-forward network: two linear layers with a non-linearity between them.
//!
//! `ffn(x) = activation(x·W₁ᵀ + b₁)·W₂ᵀ + b₂`, the same at every position. Vaswani et al., "Attention Is All You Need"
//! (2017), section 3.3.
//!
//! | tensor     | shape       |                                             |
//! |------------|-------------|---------------------------------------------|
//! | x, result  | `[B, T, E]` | a vector for each position                  |
//! | W₁, b₁     | `[F, E]`, `[F]` | what each hidden unit looks for         |
//! | hidden     | `[B, T, F]` | how much of it each position has            |
//! | W₂, b₂     | `[E, F]`, `[E]` | what each hidden unit writes            |
//!
//! The leading dimensions may be left out or be others: only the last one matters here.

use serde::{Deserialize, Serialize};
use tch::{nn, Tensor};

use self_attention::error::Result;
use self_attention::linear::{check_size, Linear};

/// The non-linearity between the two layers.
// ANCHOR: activation
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `max(0, x)`
    Relu,
    /// `x·Φ(x)`, Φ the normal distribution function
    /// (Hendrycks & Gimpel, 2016)
    Gelu,
    /// `x·σ(x)`, σ the logistic function
    /// (Hendrycks & Gimpel, 2016; also called Swish)
    Silu,
    /// `x`: none at all, to see what the others are worth
    Identity,
}
// ANCHOR_END: activation

impl Activation {
    /// The function, applied to each number of `x`.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Torch`] if libtorch cannot make the tensor.
    // ANCHOR: apply
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.f_relu()?,
            Self::Gelu => x.f_gelu("none")?, // exact, not by tanh
            Self::Silu => x.f_silu()?,
            Self::Identity => x.shallow_clone(),
        })
    }
    // ANCHOR_END: apply
}

/// What a [`FeedForward`] is made from.
// ANCHOR: feed_forward_config
#[derive(Clone, Copy, Debug)]
pub struct FeedForwardConfig {
    width: i64,  // E
    hidden: i64, // F
    activation: Activation,
}
// ANCHOR_END: feed_forward_config

impl FeedForwardConfig {
    /// Four times as wide inside as outside, as Vaswani et al. (2017) made it, with GELU, as BERT and GPT-2 have it.
    pub fn new(width: i64) -> Self {
        Self { width, hidden: width.saturating_mul(4), activation: Activation::Gelu }
    }

    /// Sets the width inside, `F`.
    pub fn with_hidden(self, hidden: i64) -> Self {
        Self { hidden, ..self }
    }

    /// Sets the non-linearity.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Makes the network, its parameters under `path`, with PyTorch's start and the names that
    /// `nn.TransformerEncoderLayer` gives them.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Config`] unless both widths are sizes a layer can have.
    // ANCHOR: init
    pub fn init(&self, path: &nn::Path) -> Result<FeedForward> {
        let Self { width, hidden, activation } = *self;
        check_size("width", width)?;
        check_size("hidden", hidden)?;
        Ok(FeedForward {
            expand: Linear::new(&(path / "linear1"), width, hidden)?,
            activation,
            contract: Linear::new(&(path / "linear2"), hidden, width)?,
        })
    }
    // ANCHOR_END: init
}

/// The position-wise feed-forward network.
// ANCHOR: feed_forward
#[derive(Debug)]
pub struct FeedForward {
    /// `E → F`
    pub expand: Linear,
    /// Between the two.
    pub activation: Activation,
    /// `F → E`
    pub contract: Linear,
}
// ANCHOR_END: feed_forward

impl FeedForward {
    /// Applies the network to every position, each on its own.
    ///
    /// # Shapes
    /// `x` and result: `[…, E]`.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Shape`] if `x` is not `E` wide.
    ///
    /// # Example: a letter gets the same, alone or in a word
    /// ```
    /// use self_attention::prelude::*;
    /// # fn main() -> Result<()> {
    /// let network = Tough::feed_forward()?;
    /// let tough = Tough::letters()?; // [T = 5, E = 4]
    /// let g = tough.narrow(0, 3, 1); // [1, E]
    /// assert_eq!(network.forward(&g)?, network.forward(&tough)?.narrow(0, 3, 1));
    /// # Ok(())
    /// # }
    /// ```
    // ANCHOR: forward
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.expand.forward(x)?; // [B, T, F]
        let hidden = self.activation.apply(&hidden)?; // [B, T, F]
        self.contract.forward(&hidden) // [B, T, E]
    }
    // ANCHOR_END: forward
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn each_position_is_on_its_own() {
        let store = nn::VarStore::new(Device::Cpu);
        let network = FeedForwardConfig::new(8).init(&store.root()).unwrap();
        let x =
            Tensor::randn([1, 5, 8], (Kind::Double, Device::Cpu)).to_kind(Kind::Float);
        let before = network.forward(&x).unwrap();
        let _ = x.narrow(1, 2, 1).fill_(9.0);
        let changed = (network.forward(&x).unwrap() - before).abs().amax([0, 2], false);
        for position in 0..5 {
            let change = changed.double_value(&[position]);
            assert_eq!(
                change > 1e-6,
                position == 2,
                "position {position} changed by {change}"
            );
        }
    }

    #[test]
    fn activations_have_their_values() {
        let x = Tensor::from_slice(&[-1.0, 0.0, 2.0]);
        for (activation, expected) in [
            (Activation::Relu, [0.0, 0.0, 2.0]),
            (Activation::Gelu, [-0.158_655_253_931_457, 0.0, 1.954_499_736_103_642]),
            (Activation::Silu, [-0.268_941_421_369_995, 0.0, 1.761_594_155_955_765]),
            (Activation::Identity, [-1.0, 0.0, 2.0]),
        ] {
            let difference =
                activation.apply(&x).unwrap() - Tensor::from_slice(&expected);
            assert!(difference.abs().max().double_value(&[]) < 1e-12, "{activation:?}");
        }
    }

    #[test]
    fn widths_below_one_are_refused() {
        let store = nn::VarStore::new(Device::Cpu);
        assert!(FeedForwardConfig::new(0).init(&store.root()).is_err());
        assert!(FeedForwardConfig::new(8).with_hidden(-1).init(&store.root()).is_err());
    }
}
