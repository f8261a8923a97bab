//! Chapter 9: what the model learned, in pronunciations and in scores.
//!
//! [`decoding`] lets the model write, [`pronouncer`] is the trained model as it is shipped, and [`metrics`] says how far
//! its pronunciations are from the dictionary's.

pub mod decoding;
pub mod metrics;
pub mod pronouncer;
