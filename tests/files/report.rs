//! Result files and heat maps, from the outside.

#![cfg(all(feature = "parquet", feature = "png"))]

pub mod tables;

mod files;
mod pages;
mod plots;
mod text;
