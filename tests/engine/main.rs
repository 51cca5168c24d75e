//! What is computed: against other programs (oracles), against the same thing said otherwise (laws), and
//! what a plan draws and costs. On the CPU, and where an oracle is at hand on a GPU too, this machine's or
//! the emulated one.

#[cfg(feature = "cuda")]
mod ablations;
mod adjoints;
mod answers;
mod attribution;
mod bases;
mod chains;
mod circuits;
#[path = "../common/mod.rs"]
mod common;
mod edges;
#[cfg(feature = "cuda")]
#[path = "../emulator/mod.rs"]
mod emulator;
mod gradients;
mod heads;
mod instructions;
mod invariants;
#[cfg(feature = "cuda")]
mod knockout;
mod lens;
mod library;
mod oracle;
mod paths;
mod plan;
mod precision;
mod presets;
mod stems;
mod streams;
mod stretches;
mod tracing;
mod wiring;
