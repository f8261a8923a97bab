//! Self-Attention in Rust: the code of the book.
//!
//! Each module belongs to a chapter, and data flows one way through them:
//!
//! `data → model (embedding → blocks (multi_head (attention) → feed_forward) → logits) → training`, and for reading
//! out `model → evaluation` and `model → visualization`. `experiments` turn the knobs of all of it.
//!
//! Shape letters, the same everywhere: `B` batch, `T` query positions, `S` key positions, `H` heads, `D` width of a
//! head, `E` width of the model, `F` width of the feed-forward layer, `V` vocabulary.

#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Lets the modules say `use self_attention::…`, so that one text compiles both here and on a page of the book.
extern crate self as self_attention;

pub mod attention;
pub mod block;
pub mod cache;
pub mod chapters;
pub mod data;
pub mod dropout;
pub mod environment;
pub mod error;
pub mod evaluation;
pub mod experiments;
pub mod feed_forward;
pub mod files;
pub mod linear;
pub mod mask;
pub mod model;
pub mod multi_head;
pub mod prelude;
pub mod training;
pub mod visualization;
pub mod worked_example;
