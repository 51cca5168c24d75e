//! Files, whoever reads or writes them: tensors by name, strict fields, a fence round a reader that panics, and
//! files that appear whole or not at all.

pub mod error;
#[cfg(feature = "parquet")]
pub mod fence;
pub mod fields;
pub mod parts;
pub mod spool;
pub mod tensors;
pub mod whole;
