//! The command line as a contract: what scripts may rely on, and how bad input is refused.

#![cfg(all(
    feature = "cuda",
    feature = "hub",
    feature = "parquet",
    feature = "png"
))]

mod answers;
mod attribute;
mod attribution_graph;
mod bad_rows;
mod bases;
mod bench;
mod cache;
mod components;
mod counted;
mod data;
mod documented;
mod edges;
#[path = "../emulator/mod.rs"]
mod emulator;
mod errors;
mod exit;
mod folders;
#[path = "../common/gpt2.rs"]
mod gpt2;
mod interrupts;
mod knockout;
mod known;
#[path = "../common/lab.rs"]
mod lab;
mod layouts;
mod means;
mod meant;
mod metrics;
mod models;
mod ops;
mod overrides;
mod pages;
mod path;
mod pictures;
mod places;
mod position_names;
mod prompts_of_data;
mod published;
mod readouts;
mod recovery;
mod rows;
mod run;
mod split;
mod sweep;
mod top_tokens;
mod topk;
mod trace;
mod trace_arrays;
mod traps;
mod wording;
mod years;
