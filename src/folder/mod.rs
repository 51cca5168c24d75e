//! A run's folder: results as parts that appear whole, so that a run that ends early has done what it did.
//!
//! Which runs belong to which part, and to which shard of how many, is cut once and stands in the manifest with all
//! that decides on the results; so whoever starts again, on whatever machine, computes what is missing and nothing
//! else, and parts of another run are never taken for this one's.

pub mod cut;
