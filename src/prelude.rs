//! What a program of the book needs, in one line: `use self_attention::prelude::*;`.

pub use tch::{nn, Device, Kind, Tensor};

pub use crate::attention::{
    attention_scores, attention_weights, fused_attention, scaled_dot_product_attention,
    weighted_average, Attended,
};
pub use crate::block::{Block, BlockConfig, NormPlacement};
pub use crate::cache::{Cache, KeysValues};
pub use crate::data::batch::{Batch, Example, IGNORED};
pub use crate::data::cmudict::{Dictionary, Phoneme};
pub use crate::data::loader::{Loader, LoaderConfig};
pub use crate::data::split::Split;
pub use crate::data::vocabulary::Vocabulary;
pub use crate::dropout::Dropout;
pub use crate::error::{Error, Result};
pub use crate::feed_forward::{Activation, FeedForward, FeedForwardConfig};
pub use crate::linear::{LayerNorm, Linear};
pub use crate::mask::Mask;
pub use crate::model::{
    prefix_decoder_mask, sinusoids, Positions, Prediction, Transformer, TransformerConfig,
};
pub use crate::multi_head::{concatenate_heads, MultiHead, MultiHeadConfig};
pub use crate::worked_example::Tough;
