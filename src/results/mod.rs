//! What was read, as rows, means and arrays: the one model that every file, table and picture is made of.

pub mod array;
pub mod dense;
pub mod metric;
pub mod rows;
pub mod summary;
pub mod table;
