//! Chapter 9: what the model learned, in pronunciations and in scores.
//!
//! [`decoding`] lets the model write, [`pronouncer`] is the trained model as it is shipped, and [`metrics`] says how far
//! its pronunciations are from the dictionary's. [`teacher_forced`] scores it with the right phonemes given,
//! [`calibration`] says whether its probabilities mean what they say, and [`record`] keeps what it said.
//!
//! What it has to beat: [`baseline`] is a model without attention, on letters aligned to phonemes by [`alignment`], and
//! [`comparison`] scores what other programs said.

pub mod alignment;
pub mod baseline;
pub mod calibration;
pub mod comparison;
pub mod decoding;
pub mod metrics;
pub mod pronouncer;
pub mod record;
pub mod teacher_forced;
