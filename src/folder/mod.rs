//! A run's folder: results as parts that appear whole, so that a run that ends early has done what it did.
//!
//! Which runs belong to which part, and to which shard of how many, is cut once and stands in the manifest with all
//! that decides on the results; so whoever starts again, on whatever machine, computes what is missing and nothing
//! else, and parts of another run are never taken for this one's.
//!
//! ```text
//! DIR/manifest.json                    what is run, and how it is cut
//! DIR/part-00000.parquet               rows of a part (of shards: part-00003-of-00023-00000.parquet), or, where rows would
//!                                      be too many, averages of its blocks of pairs
//! DIR/open-00001.parquet               rows of a part that was stopped, until it is whole
//! DIR/summary.parquet                  averages over pairs, once all parts are there
//! DIR/.lock                            held while a process writes (of shards: .lock-00003)
//! ```

pub mod cut;
pub mod error;
pub mod lock;
pub mod manifest;
pub mod merge;
pub mod parts;
pub mod status;
