//! The transformer block: attention, then the feed-forward network, each inside a residual connection with a norm.
//!
//! Post-norm, as published (Vaswani et al., 2017): `x ← norm(x + sublayer(x))`. Pre-norm (Xiong et al., 2020):
//! `x ← x + sublayer(norm(x))`, which keeps the path from the last block to the first free of norms, so that deep
//! stacks train without a long warm-up. Parameter names are those of PyTorch's `nn.TransformerEncoderLayer`.

use serde::{Deserialize, Serialize};
use tch::{nn, Tensor};

use self_attention::attention::Attended;
use self_attention::dropout::Dropout;
use self_attention::error::Result;
use self_attention::feed_forward::{Activation, FeedForward, FeedForwardConfig};
use self_attention::linear::LayerNorm;
use self_attention::mask::Mask;
use self_attention::multi_head::{MultiHead, MultiHeadConfig};

/// Where the norm of a sub-layer stands.
// ANCHOR: norm_placement
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NormPlacement {
    /// Before the sub-layer, inside the residual branch.
    Pre,
    /// After the sum.
    Post,
}
// ANCHOR_END: norm_placement

/// What a [`Block`] is made from.
// ANCHOR: block_config
#[derive(Clone, Copy, Debug)]
pub struct BlockConfig {
    width: i64,
    attention: MultiHeadConfig,
    feed_forward: FeedForwardConfig,
    norm: NormPlacement,
}
// ANCHOR_END: block_config

impl BlockConfig {
    /// A pre-norm block of `width` with `heads` heads and the default feed-forward network.
    pub fn new(width: i64, heads: i64) -> Self {
        Self {
            width,
            attention: MultiHeadConfig::new(width, heads),
            feed_forward: FeedForwardConfig::new(width),
            norm: NormPlacement::Pre,
        }
    }

    /// Sets the width inside the feed-forward network, `F`.
    pub fn with_hidden(self, hidden: i64) -> Self {
        Self { feed_forward: self.feed_forward.with_hidden(hidden), ..self }
    }

    /// Sets the non-linearity of the feed-forward network.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { feed_forward: self.feed_forward.with_activation(activation), ..self }
    }

    /// Sets where the norms stand.
    pub fn with_norm(self, norm: NormPlacement) -> Self {
        Self { norm, ..self }
    }

    /// Makes the block, its parameters under `path`.
    ///
    /// # Errors
    /// As [`MultiHeadConfig::init`] and [`FeedForwardConfig::init`].
    // ANCHOR: init
    pub fn init(&self, path: &nn::Path) -> Result<Block> {
        Ok(Block {
            attention: self.attention.init(&(path / "self_attn"))?,
            attention_norm: LayerNorm::new(&(path / "norm1"), self.width)?,
            feed_forward: self.feed_forward.init(path)?,
            feed_forward_norm: LayerNorm::new(&(path / "norm2"), self.width)?,
            norm: self.norm,
        })
    }
    // ANCHOR_END: init
}

/// One block of the stack.
// ANCHOR: block
#[derive(Debug)]
pub struct Block {
    /// The first sub-layer: positions exchange what they know.
    pub attention: MultiHead,
    /// Its norm.
    pub attention_norm: LayerNorm,
    /// The second sub-layer: each position digests what it got.
    pub feed_forward: FeedForward,
    /// Its norm.
    pub feed_forward_norm: LayerNorm,
    /// Where the norms stand.
    pub norm: NormPlacement,
}
// ANCHOR_END: block

impl Block {
    /// Passes `x` through the block.
    ///
    /// # Shapes
    /// `x`: `[B, T, E]`, `mask`: broadcasts to `[B, H, T, T]`; context: `[B, T, E]`, weights: `[B, H, T, T]`, those of
    /// the attention before dropout.
    ///
    /// # Errors
    /// [`self_attention::error::Error::Shape`] if `x` or the mask does not have that shape.
    // ANCHOR: forward
    pub fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Mask>,
        dropout: &Dropout,
    ) -> Result<Attended> {
        self.around(x, dropout, |x| self.attention.forward(x, mask, dropout))
    }
    // ANCHOR_END: forward

    /// As [`Block::forward`], but with the result at some positions only.
    ///
    /// Attention needs a key and a value from every position. What follows looks at one position at a time, so it is
    /// computed where somebody asks for the result and nowhere else.
    ///
    /// # Shapes
    /// `x`: `[B, T, E]`, `mask`: broadcasts to `[B, H, T, T]`, `asked`: `[N]`, each a row of `x` laid out as
    /// `[B·T, E]`; context: `[N, E]`, weights: `[B, H, T, T]`.
    ///
    /// # Errors
    /// As [`Block::forward`], and [`Error::Torch`](self_attention::error::Error::Torch) for a row beyond `B·T`.
    // ANCHOR: forward_at
    pub fn forward_at(
        &self,
        x: &Tensor,
        mask: Option<&Mask>,
        asked: &Tensor,
        dropout: &Dropout,
    ) -> Result<Attended> {
        let rows = |x: &Tensor| x.f_flatten(0, 1)?.f_index_select(0, asked); // [N, E]
        let attended = match self.norm {
            NormPlacement::Pre => {
                let normed = self.attention_norm.forward(x)?; // [B, T, E]
                self.attention.forward(&normed, mask, dropout)?
            }
            NormPlacement::Post => self.attention.forward(x, mask, dropout)?,
        };
        let context = rows(&attended.context)?;
        self.around(&rows(x)?, dropout, |_| Ok(Attended { context, ..attended }))
    }
    // ANCHOR_END: forward_at

    /// The block around its attention, whatever that attends to: residual connections, norms, feed-forward network.
    ///
    /// # Shapes
    /// As [`Block::forward`]; `attend` gets and gives `[B, T, E]`.
    ///
    /// # Errors
    /// As [`Block::forward`], and those of `attend`.
    // ANCHOR: around
    pub fn around(
        &self,
        x: &Tensor,
        dropout: &Dropout,
        attend: impl FnOnce(&Tensor) -> Result<Attended>,
    ) -> Result<Attended> {
        match self.norm {
            NormPlacement::Pre => {
                let normed = self.attention_norm.forward(x)?; // [B, T, E]
                let Attended { context, weights } = attend(&normed)?;
                let x = x.f_add(&dropout.apply(&context)?)?; // [B, T, E]
                let normed = self.feed_forward_norm.forward(&x)?; // [B, T, E]
                let digested = self.feed_forward.forward(&normed)?; // [B, T, E]
                let x = x.f_add(&dropout.apply(&digested)?)?; // [B, T, E]
                Ok(Attended { context: x, weights })
            }
            NormPlacement::Post => {
                let Attended { context, weights } = attend(x)?;
                let sum = x.f_add(&dropout.apply(&context)?)?; // [B, T, E]
                let x = self.attention_norm.forward(&sum)?; // [B, T, E]
                let digested = self.feed_forward.forward(&x)?; // [B, T, E]
                let sum = x.f_add(&dropout.apply(&digested)?)?; // [B, T, E]
                Ok(Attended { context: self.feed_forward_norm.forward(&sum)?, weights })
            }
        }
    }
    // ANCHOR_END: around
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn block(norm: NormPlacement) -> Block {
        let store = nn::VarStore::new(Device::Cpu);
        BlockConfig::new(8, 2).with_norm(norm).init(&store.root()).unwrap()
    }

    fn pass(block: &Block, x: &Tensor, dropout: &Dropout) -> Tensor {
        let mask = Mask::causal(x.size()[1], Device::Cpu).unwrap();
        block.forward(x, Some(&mask), dropout).unwrap().context
    }

    #[test]
    fn the_future_cannot_leak_in_training_or_evaluation() {
        for norm in [NormPlacement::Pre, NormPlacement::Post] {
            let block = block(norm);
            for rate in [0.0, 0.3] {
                let x = Tensor::randn([2, 6, 8], (Kind::Float, Device::Cpu));
                let before = pass(&block, &x, &Dropout::new(rate, 5).unwrap());
                let _ = x.narrow(1, 4, 2).fill_(3.0);
                let after = pass(&block, &x, &Dropout::new(rate, 5).unwrap());
                assert_eq!(
                    before.narrow(1, 0, 4),
                    after.narrow(1, 0, 4),
                    "{norm:?}, dropout {rate}"
                );
                assert_ne!(before, after);
            }
        }
    }

    #[test]
    fn post_norm_ends_normalized_and_pre_norm_does_not() {
        let x = Tensor::randn([1, 6, 8], (Kind::Float, Device::Cpu)) * 5;
        let spread = |norm| {
            let context = pass(&block(norm), &x, &Dropout::off());
            context.square().mean(Kind::Float).double_value(&[])
        };
        assert!((spread(NormPlacement::Post) - 1.0).abs() < 1e-3);
        assert!(spread(NormPlacement::Pre) > 2.0);
    }
}
