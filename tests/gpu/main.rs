//! The GPU: kernels and launches against the CPU, the program with drivers of every kind, kernels as
//! sources and machine code, and whether these tests would notice a mistake.

#![cfg(feature = "cuda")]

#[path = "../common/mod.rs"]
mod common;
mod device;
#[path = "../emulator/mod.rs"]
mod emulator;
mod host;
mod kernels;
#[allow(dead_code)] // of the command line's tests, which use all of it
#[path = "../common/lab.rs"]
mod lab;
mod mutations;
mod parity;
#[path = "../silent/mod.rs"]
mod silent;
