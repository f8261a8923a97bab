//! Chapter 9: what the model learned, in pronunciations and in scores.
//!
//! [`decoding`] lets the model write, [`pronouncer`] is the trained model as it is shipped, and [`metrics`] says how far
//! its pronunciations are from the dictionary's. Beside it stand what others say of the same words, in [`comparison`],
//! and what can be had without attention: [`alignment`] finds out which letters write which phonemes, and [`baseline`]
//! reads each letter by its neighbours.

pub mod alignment;
pub mod baseline;
pub mod comparison;
pub mod decoding;
pub mod metrics;
pub mod pronouncer;
