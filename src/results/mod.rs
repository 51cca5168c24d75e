//! What was read, as it passes: rows, means, arrays. The one model that every file, table and picture is made of.

pub mod array;
pub mod averages;
pub mod blocks;
pub mod candidate;
pub mod clean;
pub mod columns;
pub mod kept;
pub mod metric;
pub mod moments;
pub mod recovery;
pub mod rows;
pub mod strongest;
pub mod table;
