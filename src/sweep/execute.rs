//! From pairs and runs to readouts: clean runs first, then every patched run, chunk by chunk.
//!
//! 1. Every distinct prompt of a group of pairs is run clean once, keeping what somebody will read.
//! 2. Each run's light cone is drawn, now knowing which patches write what stands there already.
//! 3. Cones are packed into chunks, as large as the memory budget allows and the backend wants, and
//!    run.
//!
//! Groups and chunks bound memory and nothing else: no result depends on where they are cut.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use crate::backend::{Backend, Readout, ReadoutSpec};
use crate::forward::{Buffers, Interrupted, Traces, forward};
use crate::model::Config;
use crate::patch::{Origin, Run};
use crate::plan::cell::{Cell, CellOp, Value, cells, kept};
use crate::plan::chunk::{Builder, Means, Packed};
use crate::plan::cone::{self, Cone, Question};
use crate::plan::cost::{Flops, flops, layer_values};
use crate::plan::positions::Positions;
use crate::plan::trace::TraceLayout;
use crate::site::Stage;
use crate::sweep::check::{CheckError, check_pair, check_patch};
use crate::sweep::clean::{MeanTrace, clean, mean_traces, means};
use crate::sweep::pair::{Pair, PairRuns};

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
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Limits and wishes of an execution.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// Bytes for traces and buffers together, beside the weights.
    pub memory: u64,
    /// How many of the most probable tokens are read of each *clean* prompt.
    pub top: usize,
    /// How many of the most probable tokens are read of each run.
    pub top_of_runs: usize,
    /// Set to stop between two layers.
    pub stop: &'a AtomicBool,
}

/// What a plan says before or after the traces are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Operations of the clean runs.
    pub clean: Flops,
    /// Operations of the patched runs.
    pub runs: Flops,
    /// Runs in all.
    pub count: usize,
    /// Runs whose readout is the base's, because all their patches are dead or unseen.
    pub copied: usize,
}

impl Plan {
    /// Operations of everything.
    pub fn flops(&self) -> u64 {
        self.clean.total() + self.runs.total()
    }
}

/// What was read of one pair.
#[derive(Debug, Clone, Default)]
pub struct PairOutcome {
    /// Of the clean base prompt, one for each readout position.
    pub base: Vec<Readout>,
    /// Of the clean source prompt at its last position.
    pub source: Option<Readout>,
    /// Of each run, one for each readout position.
    pub runs: Vec<Vec<Readout>>,
}

/// What was read of all pairs.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// In the order given.
    pub pairs: Vec<PairOutcome>,
    /// Exactly what was planned once the traces were known.
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
            for (r, run) in runs.iter().enumerate() {
                for patch in &run.patches {
                    check_patch(patch, pair, config).map_err(|error| ExecuteError::Check {
                        pair: p,
                        run: Some(run.name.clone().unwrap_or_else(|| r.to_string())),
                        error,
                    })?;
                }
            }
            Ok(())
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
        plan.clean += flops(
            &cone::of_clean(config, prompt.ids.len(), &prompt.readouts, &read),
            config,
        );
    }
    for MeanTrace { layout, .. } in mean_traces(pairs, config) {
        let read = |stage, layer| layout.slots.contains_key(&(stage, layer));
        for prompt in &layout.prompts {
            plan.clean += flops(
                &cone::of_clean(config, prompt.ids.len(), &prompt.readouts, &read),
                config,
            );
        }
    }
    for (p, (PairRuns { pair, runs }, _)) in pairs.iter().zip(&places).enumerate() {
        let readouts: Positions = pair.readout_positions().into_iter().collect();
        let common = common_prefix(pair);
        let cost = |run: &Run| {
            let cells = cells(&run.patches, p as u32, config);
            let question = Question {
                config,
                cells: &cells,
                readouts: &readouts,
                same: &|c| same_by_tokens(c, common),
            };
            let cone = cone::of_run(&question);
            (flops(&cone, config), usize::from(cone.readouts.is_empty()))
        };
        for (f, copied) in runs.par_iter().map(cost).collect::<Vec<_>>() {
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
    let mut outcome = Outcome::default();
    let mut buffers = Buffers::new(backend);
    let mut first = 0;
    while first < pairs.len() {
        let count = group(backend, &pairs[first..], first, limits.memory / 2)?;
        let group = Group::new(
            backend,
            &pairs[first..first + count],
            first,
            &mut buffers,
            limits,
            &mut outcome,
        )?;
        group.run(&mut buffers, limits, &mut outcome)?;
        first += count;
    }
    Ok(outcome)
}

/// How many pairs' traces fit into the budget.
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
    if bytes(1) > budget {
        return Err(ExecuteError::Memory {
            needed: 2 * bytes(1),
            budget: 2 * budget,
        });
    }
    // the largest power of two that fits, or all
    let mut count = 1;
    while count < pairs.len() && bytes((2 * count).min(pairs.len())) <= budget {
        count = (2 * count).min(pairs.len());
    }
    Ok(count)
}

/// Where a pair's prompts stand in a trace.
#[derive(Debug, Clone, Copy)]
struct Place {
    base: usize,
    source: Option<usize>,
}

/// The clean runs that pairs need: which prompts, how far, and which stages are kept.
fn layout(pairs: &[PairRuns], first: usize, config: &Config) -> (TraceLayout, Vec<Place>) {
    let mut layout = TraceLayout::default();
    let mut places = Vec::with_capacity(pairs.len());
    let mut sites: BTreeSet<(usize, Stage)> = BTreeSet::new();
    for (p, PairRuns { pair, runs }) in pairs.iter().enumerate() {
        let readouts: Positions = pair.readout_positions().into_iter().collect();
        let mut base_length = readouts.last().map_or(0, |r| r + 1);
        for run in runs.iter() {
            let run_cells = cells(&run.patches, (first + p) as u32, config);
            let first = run_cells.first().map(|c| (c.layer, c.stage));
            let start = first.map(|(layer, _)| layer);
            for cell in &run_cells {
                sites.insert((cell.layer, cell.stage));
                if let Value::Clean {
                    origin,
                    stage,
                    layer,
                    position,
                    ..
                } = &cell.value
                {
                    layout.keep(*stage, *layer);
                    if *origin == Origin::Base {
                        base_length = base_length.max(position + 1);
                    }
                }
                // a freeze can leave a branch clean under a dirty residual stream
                if first < Some((cell.layer, cell.stage))
                    && cell.stage <= Stage::Z
                    && cell.layer < config.layers
                {
                    layout.keep(Stage::AttentionOutput, cell.layer);
                }
            }
            if let Some(start) = start {
                for layer in start..config.layers {
                    [Stage::BlockInput, Stage::Query, Stage::Key, Stage::Value]
                        .iter()
                        .for_each(|stage| layout.keep(*stage, layer));
                }
                layout.keep(Stage::BlockInput, config.layers);
            }
        }
        let base = layout.prompt(&pair.base[..base_length], &readouts);
        let source = pair
            .source
            .as_ref()
            .map(|ids| layout.prompt(ids, &std::iter::once(ids.len() - 1).collect()));
        places.push(Place { base, source });
    }
    for (layer, stage) in sites {
        let (stage_kept, layer_kept) = kept(stage, layer);
        layout.keep(stage_kept, layer_kept);
        if (Stage::AttentionOutput..=Stage::MlpOutput).contains(&stage) {
            [Stage::AttentionOutput, Stage::BlockMid, Stage::MlpOutput]
                .iter()
                .for_each(|stage| layout.keep(*stage, layer));
        }
    }
    (layout, places)
}

/// Tokens that base and source share from the start.
fn common_prefix(pair: &Pair) -> usize {
    let source = pair.source.as_deref().unwrap_or(&[]);
    pair.base
        .iter()
        .zip(source)
        .take_while(|(a, b)| a == b)
        .count()
}

/// Whether a cell writes the base's own value, as far as tokens tell.
fn same_by_tokens(cell: &Cell, common: usize) -> bool {
    let Value::Clean {
        origin,
        stage,
        layer,
        position,
        head,
        column,
    } = &cell.value
    else {
        return false;
    };
    let keys = matches!(cell.stage, Stage::Scores | Stage::Weight);
    let same_place = (*stage, *layer) == kept(cell.stage, cell.layer)
        && *position == cell.position
        && (*head, *column) == (if keys { cell.head } else { 0 }, cell.column);
    let same_tokens = match origin {
        Origin::Base => true,
        Origin::Source => *position < common,
    };
    cell.op == CellOp::Set && same_place && same_tokens
}

/// Pairs whose traces are held together.
struct Group<'a, B: Backend> {
    backend: &'a B,
    pairs: &'a [PairRuns],
    first: usize,
    places: Vec<Place>,
    traces: Traces<B::Matrix>,
    means: Means,
}

impl<'a, B: Backend> Group<'a, B> {
    /// Runs the group's prompts clean.
    fn new(
        backend: &'a B,
        pairs: &'a [PairRuns],
        first: usize,
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<Self, ExecuteError> {
        let config = backend.config();
        let means = means(backend, pairs, buffers, limits, &mut outcome.plan.clean)?;
        let (layout, places) = layout(pairs, first, config);
        // a prompt's tokens are wanted by every pair that has it as base or source
        let mut ids: Vec<Vec<u32>> = vec![Vec::new(); layout.prompts.len()];
        for (pair, place) in pairs.iter().zip(&places) {
            for prompt in [Some(place.base), place.source].into_iter().flatten() {
                let missing = pair
                    .pair
                    .targets
                    .iter()
                    .filter(|t| !ids[prompt].contains(t));
                let missing: Vec<u32> = missing.copied().collect();
                ids[prompt].extend(missing);
            }
        }
        let mut traces = Traces::new(backend, layout);
        let readouts = clean(
            backend,
            &mut traces,
            buffers,
            &ids,
            limits,
            &mut outcome.plan.clean,
        )?;

        for (pair, place) in pairs.iter().zip(&places) {
            let wanted = |prompt: usize, position: usize| -> Readout {
                let readout = &readouts[&(prompt, position)];
                let logit = |t: &u32| {
                    ids[prompt]
                        .iter()
                        .position(|i| i == t)
                        .map(|i| readout.logits[i])
                };
                Readout {
                    logits: pair.pair.targets.iter().filter_map(logit).collect(),
                    ..readout.clone()
                }
            };
            let source_last = pair.pair.source.as_ref().map_or(0, |s| s.len() - 1);
            outcome.pairs.push(PairOutcome {
                base: pair
                    .pair
                    .readout_positions()
                    .iter()
                    .map(|p| wanted(place.base, *p))
                    .collect(),
                source: place.source.map(|s| wanted(s, source_last)),
                runs: Vec::with_capacity(pair.runs.len()),
            });
        }
        Ok(Self {
            backend,
            pairs,
            first,
            places,
            traces,
            means,
        })
    }

    /// Whether a cell writes, bit for bit, what the base's trace holds.
    fn same(&self, cell: &Cell, place: Place) -> bool {
        if cell.op == CellOp::Zero || cell.op == CellOp::Set {
            let layout = &self.traces.layout;
            let (stage, layer) = kept(cell.stage, cell.layer);
            let keys = matches!(cell.stage, Stage::Scores | Stage::Weight);
            let column = if keys {
                cell.head * layout.key_stride()
            } else {
                0
            } + cell.column;
            let rows = layout.prompts[place.base].ids.len();
            let (Some(matrix), true) = (self.traces.get(stage, layer), cell.position < rows) else {
                return false;
            };
            let there = (
                matrix,
                layout.prompts[place.base].offset + cell.position,
                column,
            );
            let constant = |values: &[f64]| {
                let matrix = self.backend.upload(1, values.len(), values);
                self.backend.same((&matrix, 0, 0), there, cell.length)
            };
            return match &cell.value {
                Value::None => constant(&vec![0.0; cell.length]),
                Value::Constant(values, offset) => constant(&values[*offset..][..cell.length]),
                Value::Mean {
                    over,
                    stage,
                    layer,
                    column,
                } => constant(
                    &self.means[&(over.label.clone(), *stage, *layer)][*column..][..cell.length],
                ),
                Value::Clean {
                    origin,
                    stage,
                    layer,
                    position,
                    head,
                    column,
                } => {
                    let prompt = match origin {
                        Origin::Base => Some(place.base),
                        Origin::Source => place.source,
                    };
                    let from = prompt.zip(self.traces.get(*stage, *layer));
                    from.is_some_and(|(prompt, matrix)| {
                        let row = layout.prompts[prompt].offset + position;
                        let column = head * layout.key_stride() + column;
                        self.backend.same((matrix, row, column), there, cell.length)
                    })
                }
            };
        }
        false
    }

    fn run(
        mut self,
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), ExecuteError> {
        let all: Vec<(usize, usize)> = self
            .pairs
            .iter()
            .enumerate()
            .flat_map(|(p, pair)| (0..pair.runs.len()).map(move |r| (p, r)))
            .collect();
        // cones are drawn in parallel, a batch at a time so that they do not pile up
        const BATCH: usize = 4096;
        let budget = limits.memory / 2;
        let chunk = budget.min(self.backend.chunk_bytes());
        let mut waiting: Vec<Drawn> = Vec::new();
        let mut bytes = 0;
        for batch in all.chunks(BATCH) {
            let drawn: Vec<Drawn> = batch.par_iter().map(|at| self.draw(*at)).collect();
            for drawn in drawn {
                outcome.plan.count += 1;
                outcome.plan.copied += usize::from(drawn.cone.readouts.is_empty());
                outcome.plan.runs += drawn.flops;
                if drawn.bytes > budget {
                    return Err(ExecuteError::Memory {
                        needed: 2 * drawn.bytes,
                        budget: limits.memory,
                    });
                }
                if bytes + drawn.bytes > chunk && !waiting.is_empty() {
                    self.chunk(&std::mem::take(&mut waiting), buffers, limits, outcome)?;
                    bytes = 0;
                }
                bytes += drawn.bytes;
                waiting.push(drawn);
            }
        }
        self.chunk(&waiting, buffers, limits, outcome)
    }

    fn draw(&self, (p, r): (usize, usize)) -> Drawn {
        let config = self.backend.config();
        let PairRuns { pair, runs } = &self.pairs[p];
        let cells = cells(&runs[r].patches, (self.first + p) as u32, config);
        let readouts: Positions = pair.readout_positions().into_iter().collect();
        let same = |cell: &Cell| self.same(cell, self.places[p]);
        let cone = cone::of_run(&Question {
            config,
            cells: &cells,
            readouts: &readouts,
            same: &same,
        });
        let widest = cone
            .layers
            .iter()
            .map(|l| layer_values(l, config))
            .max()
            .unwrap_or(0);
        let slack = 512 + 64 * cells.len() + 8 * cone.layers.len() * 200;
        Drawn {
            pair: p,
            flops: flops(&cone, config),
            bytes: (widest * self.backend.value_bytes() + slack) as u64,
            cone,
            cells,
        }
    }

    fn chunk(
        &mut self,
        drawn: &[Drawn],
        buffers: &mut Buffers<B::Matrix>,
        limits: &Limits<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), ExecuteError> {
        let config = self.backend.config();
        let prompts = &self.traces.layout.prompts;
        let packed: Vec<Packed<'_>> = drawn
            .iter()
            .map(|d| Packed {
                cone: &d.cone,
                cells: &d.cells,
                ids: &prompts[self.places[d.pair].base].ids,
                offset: prompts[self.places[d.pair].base].offset,
                source_offset: self.places[d.pair].source.map_or(0, |s| prompts[s].offset),
            })
            .collect();
        let chunk = Builder::new(config, &self.traces.layout, &self.means, false).build(&packed);
        let mut spec = ReadoutSpec {
            first: vec![0],
            top: limits.top_of_runs,
            ..ReadoutSpec::default()
        };
        for (run, _) in &chunk.readout_of {
            spec.ids
                .extend(&self.pairs[drawn[*run as usize].pair].pair.targets);
            spec.first.push(spec.ids.len());
        }
        let readouts = forward(
            self.backend,
            &chunk,
            buffers,
            &mut self.traces,
            &spec,
            limits.stop,
        )?;

        // what no patch reached is the base's
        let firsts: Vec<usize> = drawn
            .iter()
            .map(|d| {
                let pair = &mut outcome.pairs[self.first + d.pair];
                pair.runs.push(pair.base.clone());
                pair.runs.len() - 1
            })
            .collect();
        for ((run, position), readout) in chunk.readout_of.iter().zip(readouts) {
            let d = &drawn[*run as usize];
            let positions = self.pairs[d.pair].pair.readout_positions();
            if let Some(i) = positions.iter().position(|p| *p == *position as usize) {
                outcome.pairs[self.first + d.pair].runs[firsts[*run as usize]][i] = readout;
            }
        }
        Ok(())
    }
}

/// A run whose light cone is drawn.
struct Drawn {
    pair: usize,
    cone: Cone,
    cells: Vec<Cell>,
    flops: Flops,
    bytes: u64,
}
