//! From a question to runs, and from readouts to a table.

pub mod check;
pub mod execute;
pub mod experiment;
pub mod pair;
pub mod table;
pub mod vector;
