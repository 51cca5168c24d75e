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
mod continuation;
pub mod costs;
pub mod gradient;
mod group;
mod layout;
mod levels;
mod no_op;
mod outcome;
mod passes;
mod sink;
mod stems;

use std::collections::HashSet;

use rayon::prelude::*;

use self::clean::{MeanCache, kept_cone, mean_caches, stem_edits};
use self::continuation::Continued;
use self::group::PairGroup;
use self::layout::{Known, layout};
use self::levels::steps;
use self::no_op::same_by_tokens;
pub use self::outcome::{ExecuteError, Limits, Outcome, PairOutcome, PairReadouts, Plan};
use self::passes::Passes;
use self::sink::Delivery;
pub use self::sink::Sink;
use crate::backend::{Backend, Store};
use crate::check::{CheckError, check_pair, check_run};
use crate::model::Config;
use crate::patch::{Op, Patch, Prompt, Run};
use crate::plan::cone::{self, ConeInput, Shapes, Wanted};
use crate::plan::cost::Cost;
use crate::plan::edit::{Edit, edits};
use crate::plan::positions::Positions;
use crate::prompt::pair::PairRuns;

/// Checks every pair and patch.
///
/// # Errors
///
/// [`ExecuteError::Check`] for the first that does not fit.
pub fn check(pairs: &[PairRuns], config: &Config) -> Result<(), ExecuteError> {
    // of a pair, its runs' checks see how long its prompts are: pairs that share their runs are often alike
    let shape = |PairRuns { pair, runs }: &PairRuns| {
        let further = pair.prompts.iter().map(|(_, ids)| ids.len());
        let source = pair.source.as_ref().map(Vec::len);
        let further: Vec<usize> = further.collect();
        (
            runs.as_ptr().addr(),
            runs.len(),
            pair.base.len(),
            source,
            further,
        )
    };
    let mut seen = HashSet::new();
    let first: Vec<bool> = pairs.iter().map(|pair| seen.insert(shape(pair))).collect();
    pairs
        .par_iter()
        .zip(first)
        .enumerate()
        .try_for_each(|(p, (PairRuns { pair, runs }, first))| {
            check_pair(pair, config).map_err(|error| ExecuteError::Check {
                pair: p,
                run: None,
                error,
            })?;
            let runs = if first { &runs[..] } else { &[] };
            runs.par_iter().enumerate().try_for_each(|(r, run)| {
                check_run(run, runs, pair, config).map_err(|error| ExecuteError::Check {
                    pair: p,
                    run: Some(run.name.clone().unwrap_or_else(|| r.to_string())),
                    error,
                })
            })
        })
}

/// The upper bound that can be stated before anything runs: a patch counts as dead only where base
/// and source have the same tokens so far. Clean runs of equal prompts are counted once a group. Nothing is
/// asked beyond the pairs' answers: what a loss takes is in [`costs`].
pub fn plan<B: Backend>(backend: &B, pairs: &[PairRuns]) -> Plan {
    match Continued::of(pairs, false) {
        Some(continued) => bound(backend, &continued.pairs),
        None => bound(backend, pairs),
    }
}

fn bound<B: Backend>(backend: &B, pairs: &[PairRuns]) -> Plan {
    let config = backend.config();
    let mut plan = Plan::default();
    let (layout, places) = layout(pairs, config, &mut Known::new());
    let read = |stage, layer| layout.slots.contains_key(&(stage, layer));
    for prompt in &layout.prompts {
        let edits = stem_edits(prompt, pairs, &places, config);
        let cone = kept_cone(prompt, &edits, &read, config);
        plan.clean += Cost::of(&cone, &edits, config).flops;
    }
    for MeanCache { layout, .. } in mean_caches(pairs, config) {
        let read = |stage, layer| layout.slots.contains_key(&(stage, layer));
        for prompt in &layout.prompts {
            let cone = cone::of_clean(config, prompt.ids.len(), &prompt.readouts, &read);
            plan.clean += Cost::of(&cone, &[], config).flops;
        }
    }
    for (p, (PairRuns { pair, runs }, place)) in pairs.iter().zip(&places).enumerate() {
        let drawn = |edits: &[Edit], prompt: Prompt, readouts: &Positions, wanted: &Wanted| {
            cone::of_run(&ConeInput {
                config,
                edits,
                readouts,
                same: &|i| same_by_tokens(&edits[i], pair, prompt),
                wanted,
            })
        };
        let cost = |(r, run): (usize, &Run)| {
            let rest = place.stems.rest(r, &run.patches);
            let edits = edits(rest, pair.prompt_ids(run.prompt), config);
            let wanted = Wanted::new();
            let cone = match place.stems.of(r) {
                None => drawn(&edits, run.prompt, &place.readouts, &wanted),
                // what a stem leaves is nobody's clean value
                Some(_) => cone::of_run(&ConeInput {
                    config,
                    edits: &edits,
                    readouts: &place.readouts,
                    same: &|_| false,
                    wanted: &wanted,
                }),
            };
            (
                Cost::of(&cone, &edits, config).flops,
                usize::from(cone.is_unseen()),
            )
        };
        let read: Vec<(usize, usize)> = (0..runs.len())
            .filter(|r| !runs[*r].step || runs[*r].patches.iter().any(|p| p.op == Op::Collect))
            .map(|r| (p, r))
            .collect();
        for step in steps(pairs, &read, config) {
            let prompt = runs[step.id.run].prompt;
            let none = Positions::none();
            let cone = drawn(&step.edits, prompt, &none, &step.wanted);
            plan.runs += Cost::of(&cone, &step.edits, config).flops;
        }
        let runs = runs.par_iter().enumerate().filter(|(_, run)| !run.step);
        for (f, copied) in runs.map(cost).collect::<Vec<_>>() {
            plan.runs += f;
            plan.add(copied > 0, pair);
        }
    }
    plan
}

/// Runs everything, and hands results to the sink in order as they are finished. Exactly what was
/// planned once the clean runs were there comes back, and was executed.
///
/// # Errors
///
/// [`ExecuteError`]: what [`check`] finds, a budget too small for one run, or an interruption, by the sink or
/// by [`Limits::stop`].
pub fn execute<B: Backend>(
    backend: &B,
    pairs: &[PairRuns],
    limits: &Limits<'_>,
    sink: &mut dyn Sink,
) -> Result<Plan, ExecuteError> {
    check(pairs, backend.config())?;
    check_types(backend, pairs)?;
    match Continued::of(pairs, limits.loss) {
        Some(continued) => {
            let mut sink = continued.sink(pairs, sink);
            run(backend, &continued.pairs, limits, &mut sink)
        }
        None => run(backend, pairs, limits, sink),
    }
}

/// Runs pairs as they stand.
fn run<B: Backend>(
    backend: &B,
    pairs: &[PairRuns],
    limits: &Limits<'_>,
    sink: &mut dyn Sink,
) -> Result<Plan, ExecuteError> {
    let shapes = Shapes::default();
    let mut passes = Passes::new(backend, limits, &shapes);
    let mut delivery = Delivery::new(sink);
    let mut known = Known::new();
    let mut first = 0;
    while first < pairs.len() {
        let mut count = group(backend, &pairs[first..], limits.memory, &mut known)?;
        let group = loop {
            let before = passes.plan;
            match PairGroup::new(&pairs[first..first + count], first, &mut passes, &mut known) {
                Err(error) if error.is_out_of_memory() && count > 1 => count /= 2,
                group => break group?,
            }
            passes.plan = before;
            passes.shrink();
        };
        group.run(&mut passes, &mut delivery)?;
        first += count;
    }
    Ok(passes.plan)
}

impl Outcome {
    /// Runs everything and keeps what was read: about a kilobyte a run.
    ///
    /// # Errors
    ///
    /// As [`execute`].
    pub fn of<B: Backend>(
        backend: &B,
        pairs: &[PairRuns],
        limits: &Limits<'_>,
    ) -> Result<Self, ExecuteError> {
        let mut outcome = Self::default();
        outcome.plan = execute(backend, pairs, limits, &mut outcome)?;
        // steps behind the last run that is read out
        for (read, PairRuns { runs, .. }) in outcome.pairs.iter_mut().zip(pairs) {
            read.runs.resize(runs.len(), Vec::new());
        }
        Ok(outcome)
    }
}

/// Refuses to skip what the precision stores in another type than what its module reads.
fn check_types<B: Backend>(backend: &B, pairs: &[PairRuns]) -> Result<(), ExecuteError> {
    let mut last = std::ptr::null();
    for (p, PairRuns { runs, .. }) in pairs.iter().enumerate() {
        // pairs often share their runs
        if std::mem::replace(&mut last, runs.as_ptr()) == runs.as_ptr() {
            continue;
        }
        for (r, run) in runs.iter().enumerate() {
            let stores = |patch: &Patch| {
                [patch.read_component(), patch.component].map(|c| Store::of(c.stage()))
            };
            let differs = |patch: &&Patch| {
                let [read, written] = stores(patch);
                let other = patch.op == Op::Skip || patch.source_component.is_some();
                other && !backend.same_type(read, written)
            };
            if let Some(patch) = run.patches.iter().find(differs) {
                return Err(ExecuteError::Check {
                    pair: p,
                    run: Some(run.name.clone().unwrap_or_else(|| r.to_string())),
                    error: CheckError::Shape {
                        site: patch.component.name(),
                        problem: format!(
                            "cannot become {} in 16-bit precision, which stores the two in \
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
    budget: u64,
    known: &mut Known,
) -> Result<usize, ExecuteError> {
    let mut bytes = |count: usize| {
        let (layout, _) = layout(&pairs[..count], backend.config(), known);
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
