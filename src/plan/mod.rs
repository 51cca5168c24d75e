//! What each run can change, and in which order rows are packed.
//!
//! Planning sees no activations. It turns patches into [`cell`]s, cells into a light [`cone`], and
//! many cones into the [`tables`] of a [`chunk`]; [`trace`] says which clean activations they will
//! read, [`shelf`] which of other runs. Costs follow from the same cones, so what is planned is what is executed.

pub mod basis_work;
pub mod cell;
pub mod chunk;
pub mod cone;
pub mod cost;
pub mod noise;
pub mod phase;
pub mod positions;
pub mod recipe;
pub mod shelf;
pub mod subspace;
pub mod tables;
pub mod trace;
