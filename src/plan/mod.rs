//! What each run can change, and in which order rows are packed.
//!
//! Planning sees no activations. It turns patches into [`edit`]s, edits into a light [`cone`], and
//! many cones into the [`tables`] of a [`chunk`]; [`cache`] says which clean activations they will
//! read, [`patched_cache`] which of other runs. Costs follow from the same cones, so what is planned is
//! what is executed. How stages hang together is said in [`crate::site::wiring`] and nowhere here.

pub mod cache;
pub mod chunk;
pub mod cone;
pub mod cost;
pub mod edit;
pub mod noise;
pub mod patched_cache;
pub mod positions;
pub mod rows;
pub mod tables;
pub mod tape;
pub mod writes;
