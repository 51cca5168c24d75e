//! From pairs and their runs to readouts: clean runs, light cones, chunks.
//!
//! [`execute`](execute::execute) is the whole of it; what stands beside it are its steps, each of which knows a little
//! of the plan and none of the question.

pub mod activations;
mod clean;
pub mod collect;
pub mod execute;
mod group;
mod layout;
mod levels;
mod no_op;
