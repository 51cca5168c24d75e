//! Files, whoever reads or writes them: tensors by name, strict fields, and a fence round a reader that panics.

#[cfg(feature = "parquet")]
pub mod fence;
pub mod fields;
pub mod tensors;
