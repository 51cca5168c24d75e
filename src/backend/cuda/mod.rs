//! The CUDA backend: hand-written kernels, launched through cudarc, which nothing outside this
//! folder names.
//!
//! Operations are not run as they are called. Each writes its tables into one block of memory and
//! its launch into a list (queue.rs); whoever wants a result has the block copied and the list
//! launched, in order, on one stream. So a forward pass is a single copy followed by kernels, with no
//! allocation or transfer between them.
//!
//! Matrices keep the residual stream in f32 and what linear layers and attention read in the type
//! that the precision names; queries, keys, values and z lie head by head (matrix.rs).

mod adjoint;
mod arguments;
mod attention;
mod backend;
mod basis;
mod call;
mod device;
pub mod events;
mod images;
pub mod kernels;
pub mod limits;
mod linear;
mod matrix;
mod memory;
mod queue;
mod readout;
mod rows;
mod weights;

pub use self::backend::Cuda;
pub use self::device::{Device, Unavailable};
pub use self::images::{COMPILED_BY, Compiler};
pub use self::linear::{ProductShape, Tile, Variant, tile, variant};
