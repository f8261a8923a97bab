//! The crate against real PyTorch: the same inputs, the same results.
//!
//! The results come from files that PyTorch itself made. To make one again, after its script has changed:
//! `python tests/fixtures/ch04_attention.py`, with torch 2.13.0 and safetensors installed.

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod block;
mod data;
mod decoding;
mod evaluation;
mod experiments;
mod feed_forward;
mod fixture;
mod multi_head;
mod training;
mod visualization;
mod worked_example;
