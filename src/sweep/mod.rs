//! From a question to runs, and from readouts to a table.

pub mod table;
