//! Result files and heat maps, from the outside.

#![cfg(all(feature = "parquet", feature = "png"))]

#[path = "report/tables.rs"]
mod tables;

#[path = "report/files.rs"]
mod files;
#[path = "report/plots.rs"]
mod plots;
#[path = "report/text.rs"]
mod text;
