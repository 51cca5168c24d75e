//! headlight: activation patching on GPT-2, every layer, head and position in one ragged batch.
//!
//! Data goes one way:
//!
//! ```text
//! prompts ─ tokenizer ─▶ pairs ─┐
//! sites × ranges × operators ───┴▶ runs ─ plan (light cone, chunks) ─▶ forward(backend) ─▶ readouts ─▶ table ─▶ files
//! checkpoint ─ mmap ─▶ weights ───────────────────────────────────────▲
//! ```
//!
//! [`model`] opens a checkpoint, [`ask`] turns a question into runs, [`plan`] works out what each
//! run can change, [`forward`] describes GPT-2 once over a [`backend`], and [`report`] writes what
//! was read.

#![warn(missing_docs)]

pub mod ask;
pub mod backend;
pub mod basis;
pub mod bench;
pub mod check;
pub mod cli;
pub mod data;
pub mod engine;
pub mod error;
pub mod execute;
pub mod files;
pub mod forward;
pub mod function;
pub mod graph;
pub mod model;
pub mod patch;
pub mod plan;
pub mod prompt;
pub mod pyvene;
pub mod report;
pub mod results;
pub mod site;
mod text;
pub mod tracing;
pub mod verify;

pub use error::Error;

// the README's library example is compiled and run with the documentation tests
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(doctest)]
#[doc = include_str!("../docs/operators.md")]
struct OperatorsExamples;
