//! From pairs and runs to readouts: clean runs first, then every patched run, chunk by chunk.
//!
//! 1. Every distinct prompt of a group of pairs is run clean once, keeping what somebody will read.
//! 2. Each run's light cone is drawn, now knowing which patches write what stands there already.
//! 3. Cones are packed into chunks, as large as the memory budget allows and the backend wants, and
//!    run.
//!
//! Groups and chunks bound memory and nothing else: no result depends on where they are cut.

pub mod activations;
mod clean;
pub mod collect;
mod group;
mod layout;
mod levels;
mod no_op;

use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use crate::backend::{Backend, DeviceError, Readout, Store};
use crate::check::{CheckError, check_pair, check_run};
use crate::execute::clean::{MeanCache, mean_caches};
use crate::execute::collect::Collection;
use crate::execute::group::Group;
use crate::execute::layout::{layout, readouts};
use crate::execute::levels::steps;
use crate::execute::no_op::same_by_tokens;
use crate::forward::{Buffers, ForwardError};
use crate::model::Config;
use crate::patch::{Op, Patch, Prompt, Run};
use crate::plan::cone::{self, ConeInput, Wanted};
use crate::plan::cost::{Cost, Flops};
use crate::plan::edit::{Edit, edits};
use crate::plan::positions::Positions;
use crate::prompt::pair::PairRuns;

/// What can go wrong between a question and its readouts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// A prompt or a patch does not fit the model.
    #[error("pair {pair}{}: {error}", run.as_ref().map_or(String::new(), |r| format!(", run {r}")))]
    Check {
        /// Index of the pair.
        pair: usize,
        /// Name or index of the run, where it is a run's patch.
        run: Option<String>,
        /// What does not fit.
        error: CheckError,
    },
    /// Not even one run fits.
    #[error("one run needs {needed} bytes, but the memory budget is {budget}: give --memory more")]
    Memory {
        /// Bytes that the largest run or clean prompt needs.
        needed: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<ForwardError> for ExecuteError {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::Interrupted => Self::Interrupted,
            ForwardError::Device(error) => Self::Device(error),
        }
    }
}

impl ExecuteError {
    /// Whether less at a time might do.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Device(DeviceError::OutOfMemory { .. }))
    }
}

/// Limits and wishes of an execution.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// Bytes for caches and buffers together, beside the weights.
    pub memory: u64,
    /// How many of the most probable tokens are read of each *clean* prompt.
    pub top: usize,
    /// How many of the most probable tokens are read of each run.
    pub top_of_runs: usize,
    /// Whether the targets' ranks are read, of clean prompts and of runs.
    pub ranks: bool,
    /// Whether each run's distribution is compared with its base's.
    pub kl: bool,
    /// Set to stop between two layers.
    pub stop: &'a AtomicBool,
}

impl<'a> Limits<'a> {
    /// This many bytes, and nothing read but the answers' logits.
    pub fn new(memory: u64, stop: &'a AtomicBool) -> Self {
        Self {
            memory,
            top: 0,
            top_of_runs: 0,
            ranks: false,
            kl: false,
            stop,
        }
    }
}

/// What a plan says before or after the clean runs are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Operations of the clean runs.
    pub clean: Flops,
    /// Operations of the patched runs.
    pub runs: Flops,
    /// Operations of reading the base's distributions again, chunk by chunk, to compare runs with
    /// them: it depends on how many chunks there are, and is not in the bound.
    pub compared: u64,
    /// Operations of runs that others read and that were run again, since what was kept of them had
    /// to make room: it depends on the memory, and is not in the bound.
    pub again: u64,
    /// Runs that are read out.
    pub count: usize,
    /// Runs whose readout is the base's, because all their patches are dead or unseen.
    pub copied: usize,
}

impl std::ops::AddAssign for Plan {
    fn add_assign(&mut self, other: Self) {
        self.clean += other.clean;
        self.runs += other.runs;
        self.compared += other.compared;
        self.again += other.again;
        self.count += other.count;
        self.copied += other.copied;
    }
}

impl Plan {
    /// Operations of everything.
    pub fn flops(&self) -> u64 {
        self.clean.total() + self.runs.total() + self.compared + self.again
    }
}

/// What was read of one pair.
#[derive(Debug, Clone, Default)]
pub struct PairOutcome {
    /// Of the clean base prompt, one for each readout position.
    pub base: Vec<Readout>,
    /// Of the clean source prompt at its last position.
    pub source: Option<Readout>,
    /// Of each run, one for each readout position; nothing of a step.
    pub runs: Vec<Vec<Readout>>,
    /// What `collect` patches read, by run and patch.
    pub collected: Vec<Collection>,
}

/// What was read of all pairs.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// In the order given.
    pub pairs: Vec<PairOutcome>,
    /// Exactly what was planned once the clean runs were there.
    pub plan: Plan,
}

/// Checks every pair and patch.
///
/// # Errors
///
/// [`ExecuteError::Check`] for the first that does not fit.
pub fn check(pairs: &[PairRuns], config: &Config) -> Result<(), ExecuteError> {
    pairs
        .par_iter()
        .enumerate()
        .try_for_each(|(p, PairRuns { pair, runs })| {
            check_pair(pair, config).map_err(|error| ExecuteError::Check {
                pair: p,
                run: None,
                error,
            })?;
            runs.iter().enumerate().try_for_each(|(r, run)| {
                check_run(run, runs, pair, config).map_err(|error| ExecuteError::Check {
                    pair: p,
                    run: Some(run.name.clone().unwrap_or_else(|| r.to_string())),
                    error,
                })
            })
        })
}

/// The upper bound that can be stated before anything runs: a patch counts as dead only where base
/// and source have the same tokens so far. Clean runs of equal prompts are counted once a group.
pub fn plan<B: Backend>(backend: &B, pairs: &[PairRuns]) -> Plan {
    let config = backend.config();
    let mut plan = Plan::default();
    let (layout, places) = layout(pairs, 0, config);
    let read = |stage, layer| layout.slots.contains_key(&(stage, layer));
    for prompt in &layout.prompts {
        let cone = cone::of_clean(config, prompt.ids.len(), &prompt.readouts, &read);
        plan.clean += Cost::of(&cone, &[], config).flops;
    }
    for MeanCache { layout, .. } in mean_caches(pairs, config) {
        let read = |stage, layer| layout.slots.contains_key(&(stage, layer));
        for prompt in &layout.prompts {
            let cone = cone::of_clean(config, prompt.ids.len(), &prompt.readouts, &read);
            plan.clean += Cost::of(&cone, &[], config).flops;
        }
    }
    for (p, (PairRuns { pair, runs }, _)) in pairs.iter().zip(&places).enumerate() {
        let read_out: Positions = readouts(pair, runs).into_iter().collect();
        let drawn = |edits: &[Edit], prompt: Prompt, readouts: &Positions, wanted: &Wanted| {
            cone::of_run(&ConeInput {
                config,
                edits,
                readouts,
                same: &|i| same_by_tokens(&edits[i], pair, prompt),
                wanted,
            })
        };
        let cost = |run: &Run| {
            let edits = edits(&run.patches, p as u32, config);
            let cone = drawn(&edits, run.prompt, &read_out, &Wanted::new());
            (
                Cost::of(&cone, &edits, config).flops,
                usize::from(cone.is_unseen()),
            )
        };
        let read: Vec<(usize, usize)> = (0..runs.len())
            .filter(|r| !runs[*r].step || runs[*r].patches.iter().any(|p| p.op == Op::Collect))
            .map(|r| (p, r))
            .collect();
        for step in steps(pairs, 0, &read, config) {
            let prompt = runs[step.id.run].prompt;
            let none = Positions::none();
            let cone = drawn(&step.edits, prompt, &none, &step.wanted);
            plan.runs += Cost::of(&cone, &step.edits, config).flops;
        }
        let runs = runs.par_iter().filter(|run| !run.step);
        for (f, copied) in runs.map(cost).collect::<Vec<_>>() {
            plan.runs += f;
            plan.copied += copied;
            plan.count += 1;
        }
    }
    plan
}

/// Runs everything.
///
/// # Errors
///
/// [`ExecuteError`]: what [`check`] finds, a budget too small for one run, or an interruption.
pub fn execute<B: Backend>(
    backend: &B,
    pairs: &[PairRuns],
    limits: &Limits<'_>,
) -> Result<Outcome, ExecuteError> {
    check(pairs, backend.config())?;
    check_types(backend, pairs)?;
    let mut outcome = Outcome::default();
    let mut buffers = Buffers::new(backend);
    let mut first = 0;
    while first < pairs.len() {
        let mut count = group(backend, &pairs[first..], first, limits.memory)?;
        let group = loop {
            let pairs = &pairs[first..first + count];
            let before = outcome.plan;
            match Group::new(backend, pairs, first, &mut buffers, limits, &mut outcome) {
                Err(error) if error.is_out_of_memory() && count > 1 => count /= 2,
                group => break group?,
            }
            outcome.pairs.truncate(first);
            outcome.plan = before;
            buffers = Buffers::new(backend);
        };
        group.run(&mut buffers, limits, &mut outcome)?;
        first += count;
    }
    Ok(outcome)
}

/// Refuses to skip what the precision stores in another type than what its module reads.
fn check_types<B: Backend>(backend: &B, pairs: &[PairRuns]) -> Result<(), ExecuteError> {
    for (p, PairRuns { runs, .. }) in pairs.iter().enumerate() {
        for (r, run) in runs.iter().enumerate() {
            let stores = |patch: &Patch| {
                [patch.read_component(), patch.component].map(|c| Store::of(c.stage()))
            };
            let differs = |patch: &&Patch| {
                let [read, written] = stores(patch);
                patch.op == Op::Skip && !backend.same_type(read, written)
            };
            if let Some(patch) = run.patches.iter().find(differs) {
                return Err(ExecuteError::Check {
                    pair: p,
                    run: Some(run.name.clone().unwrap_or_else(|| r.to_string())),
                    error: CheckError::Shape {
                        site: patch.component.name(),
                        problem: format!(
                            "cannot be skipped to {} in 16-bit precision, which stores the two in \
                             different types: use f32 or tf32",
                            patch.read_component()
                        ),
                    },
                });
            }
        }
    }
    Ok(())
}

/// How many pairs' caches fit into half of the budget.
fn group<B: Backend>(
    backend: &B,
    pairs: &[PairRuns],
    first: usize,
    budget: u64,
) -> Result<usize, ExecuteError> {
    let bytes = |count: usize| {
        let (layout, _) = layout(&pairs[..count], first, backend.config());
        (layout.values(backend.config()) * backend.value_bytes()) as u64
    };
    let half = budget / 2;
    if bytes(1) > half {
        return Err(ExecuteError::Memory {
            needed: 2 * bytes(1),
            budget,
        });
    }
    // the largest power of two that fits, or all
    let mut count = 1;
    while count < pairs.len() && bytes((2 * count).min(pairs.len())) <= half {
        count = (2 * count).min(pairs.len());
    }
    Ok(count)
}
