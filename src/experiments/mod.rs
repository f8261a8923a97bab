//! Chapter 11: turn one knob, hold the others still, and ask whether it made a difference.
//!
//! A [`trial`] is a configuration and a seed. [`studies`] says which trials answer which question, [`results`] keeps
//! what came of them, a line of JSON for each, and [`analysis`] says what of it is more than luck.

pub mod analysis;
pub mod results;
pub mod studies;
pub mod trial;
