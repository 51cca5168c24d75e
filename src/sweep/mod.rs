//! From a question to runs, and from readouts to a table.

pub mod activations;
pub mod check;
mod clean;
mod dead;
pub mod execute;
pub mod experiment;
pub mod grid;
mod group;
mod layout;
pub mod pair;
pub mod results;
pub mod table;
pub mod vector;
