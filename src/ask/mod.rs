//! From a question to runs: ranges of sites, presets, and experiment files.
//!
//! Every way of asking ends in the same [`Run`](crate::patch::Run)s, so nothing behind this folder knows
//! which way was taken.

pub mod experiment;
pub mod grid;
pub mod operator;
pub mod preset;
pub mod subspace;
pub mod window;
