//! Chapter 8: from a model that knows nothing to one that pronounces.
//!
//! [`loss`] says how wrong a prediction is, [`optimizer`] how the parameters shall change, [`trainer`] repeats the two
//! until the data has been seen often enough, [`log`] writes down how it went, and [`checkpoint`] keeps what was
//! learned safe from being killed. [`run`] gathers all settings of a run in one file.

pub mod checkpoint;
pub mod log;
pub mod loss;
pub mod optimizer;
pub mod run;
pub mod stress;
pub mod trainer;
