//! Workloads whose speed is worth knowing, shared by `headlight bench` and `benches/`.
//!
//! Timings are of whole operations through the [`Backend`] contract, as the forward pass calls them.

pub mod operations;

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::ask::grid::Grid;
use crate::backend::{Backend, DeviceError};
use crate::execute;
use crate::execute::{ExecuteError, Limits, Outcome, Plan};
use crate::patch::Run;
use crate::prompt::pair::{Pair, PairRuns};

/// How often something is timed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repeats {
    /// So many times at least.
    pub least: usize,
    /// And until they fill so many seconds.
    pub seconds: f64,
    /// But no more often than this.
    pub most: usize,
}

/// The median of the seconds that `time` gives, after a warm-up.
///
/// # Errors
///
/// The first error of `time`.
pub fn median<E>(repeats: Repeats, mut time: impl FnMut() -> Result<f64, E>) -> Result<f64, E> {
    time()?;
    let (mut times, mut total) = (Vec::new(), 0.0);
    while times.len() < repeats.least.max(1)
        || (total < repeats.seconds && times.len() < repeats.most)
    {
        let seconds = time()?;
        total += seconds;
        times.push(seconds);
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Seconds on this machine's clock that something takes.
///
/// # Errors
///
/// Its own.
pub fn wall_clock(run: &mut operations::Prepared<'_>) -> Result<f64, DeviceError> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The sweep over z and v of every head, layer and position of two prompts that share no token,
/// so that no patch is dead; at most `most` runs, evenly spread.
pub fn sweep<B: Backend>(backend: &B, length: usize, most: usize) -> PairRuns {
    let config = backend.config();
    let id = |i: usize, shift: usize| ((i * 2 + shift) * 7919 % config.vocab) as u32;
    let ids = |shift| (0..length).map(|i| id(i, shift)).collect::<Vec<_>>();
    let grid = Grid::all(Grid::default_sites());
    // every range is `all`, which always exists
    let runs: Vec<Run> = grid.runs(config, length).unwrap_or_default();
    let count = runs.len().min(most);
    let total = runs.len();
    let spread: Vec<Run> = (0..count)
        .map(|i| runs[i * total / count].clone())
        .collect();
    let pair = Pair {
        base: ids(0),
        source: Some(ids(1)),
        targets: vec![0, 1],
        wrong: Vec::new(),
        readouts: Vec::new(),
        row: None,
        ..Pair::default()
    };
    PairRuns {
        pair,
        runs: spread.into(),
    }
}

/// Runs a sweep once: its plan before the clean runs, what was read, operations executed, seconds.
///
/// # Errors
///
/// [`ExecuteError`] for a budget too small or an interruption.
pub fn time_sweep<B: Backend>(
    backend: &B,
    runs: &PairRuns,
    memory: u64,
    stop: &AtomicBool,
) -> Result<(Plan, Outcome, u64, f64), ExecuteError> {
    let plan = execute::plan(backend, std::slice::from_ref(runs));
    let before = backend.executed_flops();
    let start = Instant::now();
    let limits = Limits {
        top: 1,
        ..Limits::new(memory).until(stop)
    };
    let outcome = Outcome::of(backend, std::slice::from_ref(runs), &limits)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((plan, outcome, backend.executed_flops() - before, seconds))
}
