//! From a question to runs, and from readouts to a table.

pub mod activations;
pub mod check;
mod clean;
pub mod collect;
mod dead;
pub mod dense;
pub mod execute;
pub mod experiment;
pub mod grid;
mod group;
mod layout;
pub mod metric;
pub mod pair;
pub mod preset;
pub mod results;
mod steps;
pub mod subspace;
pub mod summary;
pub mod table;
pub mod vector;
