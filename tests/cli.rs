//! The command line as a contract: what scripts may rely on, and how bad input is refused.

#![cfg(all(
    feature = "cuda",
    feature = "hub",
    feature = "parquet",
    feature = "png"
))]

#[path = "cli/bad_rows.rs"]
mod bad_rows;
#[path = "cli/bases.rs"]
mod bases;
#[path = "cli/cache.rs"]
mod cache;
#[path = "cli/data.rs"]
mod data;
#[path = "cli/documented.rs"]
mod documented;
#[path = "cli/edges.rs"]
mod edges;
#[path = "cli/errors.rs"]
mod errors;
#[path = "cli/exit.rs"]
mod exit;
#[path = "common/gpt2.rs"]
mod gpt2;
#[path = "cli/known.rs"]
mod known;
#[path = "cli/lab.rs"]
mod lab;
#[path = "cli/metrics.rs"]
mod metrics;
#[path = "cli/models.rs"]
mod models;
#[path = "cli/ops.rs"]
mod ops;
#[path = "cli/path.rs"]
mod path;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/sweep.rs"]
mod sweep;
#[path = "cli/topk.rs"]
mod topk;
#[path = "cli/trace.rs"]
mod trace;
#[path = "cli/trace_arrays.rs"]
mod trace_arrays;
#[path = "cli/traps.rs"]
mod traps;
#[path = "cli/wording.rs"]
mod wording;
#[path = "cli/years.rs"]
mod years;
