//! Files: what foreign ones may hold and how they are refused, and what ours hold.

mod checkpoint;
mod checksums;
mod data;
#[cfg(feature = "cuda")]
#[path = "../emulator/mod.rs"]
mod emulator;
#[path = "../common/gpt2.rs"]
mod gpt2;
mod hub;
#[cfg(feature = "cuda")]
#[allow(dead_code)] // of the command line's tests, which use all of it
#[path = "../common/lab.rs"]
mod lab;
mod pyvene;
mod recorded;
mod report;
