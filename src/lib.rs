//! headlight: activation patching on GPT-2, every layer, head and position in one ragged batch.
//!
//! An [`Engine`] is a model on a device. A question is asked of it with pairs of prompts: runs of
//! [patches](Engine::runs), a [sweep](Engine::sweep) or a preset, an [experiment file](Engine::experiment), every
//! [edge](Engine::edges), [paths](Engine::paths), a causal [tracing](Engine::tracing). The [`Question`]'s rows are
//! collected ([`Question::table`]), or pass, as they are finished and in order, to whatever gathers them
//! ([`Question::answer`], [`Gather`]). The command line says the same in the same words.
//!
//! ```
//! use headlight::{Engine, Sweep};
//!
//! let engine = Engine::open("demo").build()?;
//! let pair = engine
//!     .pair("The capital of Spain is", "The capital of Italy is")?
//!     .target(" Rome")?;
//!
//! // one patch, checked where it is built
//! let country = pair.patch("head_value_output.0")?.head(0).at("Spain")?;
//! for row in engine.runs(pair.clone().run([country])).table()?.rows {
//!     assert!(row.base_prob < 1e-3 && row.prob > 0.9);
//! }
//!
//! // every head at every position
//! let sweep = Sweep::of(&["head_value_output"])?;
//! let table = engine.sweep(&sweep, pair)?.table()?;
//! let moved = table.rows.iter().filter(|row| row.prob > 0.9);
//! assert_eq!(moved.count(), 1);
//! # Ok::<(), headlight::Error>(())
//! ```
//!
//! Data goes one way:
//!
//! ```text
//! prompts ─ tokenizer ─▶ pairs ─┐
//! sites × ranges × operators ───┴▶ runs ─ plan (light cone, chunks) ─▶ forward(backend) ─▶ readouts ─▶ table ─▶ files
//! checkpoint ─ mmap ─▶ weights ───────────────────────────────────────▲
//! ```
//!
//! What stands behind these names is public for the project's own tests, benches and binaries, and changes
//! without notice.

#![warn(missing_docs)]

#[doc(hidden)]
pub mod ask;
#[doc(hidden)]
pub mod attribution;
#[doc(hidden)]
pub mod backend;
#[doc(hidden)]
pub mod backward;
#[doc(hidden)]
pub mod basis;
#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod circuit;
// its comments are the help that clap prints, not Markdown
#[allow(rustdoc::invalid_html_tags)]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod execute;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod folder;
#[doc(hidden)]
pub mod forward;
#[doc(hidden)]
pub mod function;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod lens;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod patch;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod prompt;
#[doc(hidden)]
pub mod published;
#[doc(hidden)]
pub mod pyvene;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod results;
#[doc(hidden)]
pub mod site;
mod text;
#[doc(hidden)]
pub mod tracing;
#[doc(hidden)]
pub mod verify;

pub use ask::experiment::Experiment;
pub use ask::grid::IndexRange;
pub use ask::preset::Preset;
pub use backend::Precision;
pub use basis::Basis;
pub use engine::{
    Answer, DeviceWish, Engine, EngineBuilder, PairBuilder, Pairs, PatchBuilder, Question, Sweep,
    Where,
};
pub use error::Error;
pub use execute::activations::Activation;
pub use graph::edge::Edge;
pub use graph::extent::Extent;
pub use graph::path::Paths;
pub use model::Checkpoint;
pub use patch::{Op, Origin, Patch, Run};
pub use prompt::pair::{Pair, PairRuns};
pub use prompt::position::Position;
pub use results::metric::Metric;
pub use results::rows::Gather;
pub use results::table::{Row, Table};
pub use site::{Component, Site};
pub use tracing::runs::Tracing;

// the README's library example is compiled and run with the documentation tests
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(doctest)]
#[doc = include_str!("../docs/operators.md")]
struct OperatorsExamples;
