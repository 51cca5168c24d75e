//! From runs to chunks: edits, light cones, tables. Nothing here waits for a device but for the answers
//! to one question, so it can be done while the device is at something else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::backend::{Backend, ReadoutSpec};
use crate::execute::layout::PromptPlaces;
use crate::execute::no_op::{Asked, Kept, Questions};
use crate::execute::passes::Passes;
use crate::execute::{ExecuteError, Limits, Plan};
use crate::model::Config;
use crate::plan::chunk::{Builder, Packed};
use crate::plan::cone::{ConeInput, Outline, Shape, Shapes, Wanted};
use crate::plan::cost::Flops;
use crate::plan::edit::{Edit, edits};
use crate::plan::patched_cache::RunId;
use crate::plan::positions::Positions;
use crate::plan::tables::{Chunk, Ref};
use crate::prompt::pair::PairRuns;

/// Runs whose edits are listed together: their cones are drawn in parallel, and do not pile up. The first
/// batch and the first chunk are small, so that a device has something to do early.
const FIRST_BATCH: usize = 256;
/// See [`FIRST_BATCH`].
const BATCH: usize = 4096;
/// Bytes of the first chunk; each after it may have [`GROWTH`] times as many.
const FIRST_CHUNK: u64 = 128 << 20;
const GROWTH: u64 = 4;

/// A run whose light cone is to be drawn.
pub struct Asking {
    pub pair: usize,
    pub run: usize,
    pub edits: Vec<Edit>,
    /// What others read of it, if it is run for their sake.
    pub kept_as: Option<(RunId, Wanted)>,
}

/// A run whose light cone is drawn.
pub struct Drawn {
    pub pair: usize,
    pub run: usize,
    pub shape: Arc<Shape>,
    pub edits: Vec<Edit>,
    pub flops: Flops,
    /// What its rows take in a chunk.
    pub bytes: u64,
    pub kept_as: Option<RunId>,
}

/// A chunk that is ready to run.
pub struct Planned {
    pub drawn: Vec<Drawn>,
    pub chunk: Chunk,
    pub spec: ReadoutSpec,
}

/// Where chunks go and answers come from: the device itself, or a thread that has it.
pub trait Runner {
    /// Asks, without waiting.
    fn ask(&mut self, questions: Questions) -> Result<(), ExecuteError>;
    /// The answers to the earliest questions that have none yet.
    fn answers(&mut self) -> Result<Vec<bool>, ExecuteError>;
    /// Runs a chunk, now or in turn.
    fn run(&mut self, planned: Planned) -> Result<(), ExecuteError>;
}

/// Plans runs of one group.
#[derive(Clone, Copy)]
pub struct Planner<'g> {
    pub config: &'g Config,
    pub limits: &'g Limits<'g>,
    pub value_bytes: usize,
    pub pairs: &'g [PairRuns],
    /// Index of the first pair.
    pub first: usize,
    pub places: &'g [PromptPlaces],
    pub kept: Kept<'g>,
    /// Cones that are drawn by now.
    pub shapes: &'g Shapes,
    /// Bytes that a chunk may take; less once the device had no room for so many.
    pub fits: &'g AtomicU64,
}

impl<'g> Planner<'g> {
    /// A planner of a group's runs over what is kept by now.
    pub fn new<B: Backend>(
        passes: &Passes<'g, B>,
        pairs: &'g [PairRuns],
        first: usize,
        places: &'g [PromptPlaces],
        kept: Kept<'g>,
        fits: &'g AtomicU64,
    ) -> Self {
        let (backend, limits) = (passes.backend, passes.limits);
        Self {
            config: backend.config(),
            value_bytes: backend.value_bytes(),
            limits,
            pairs,
            first,
            places,
            kept,
            shapes: passes.shapes,
            fits,
        }
    }

    /// Plans runs that read none but clean ones, and hands them to a device chunk by chunk.
    pub fn stream(
        &self,
        mut runs: impl Iterator<Item = (usize, usize)>,
        device: &mut impl Runner,
    ) -> Result<Plan, ExecuteError> {
        let mut plan = Plan::default();
        let mut waiting = Waiting::default();
        let mut asked: VecDeque<Vec<Asking>> = VecDeque::new();
        let mut most = FIRST_BATCH;
        let mut ask = |device: &mut _| {
            let batch: Vec<(usize, usize)> = runs.by_ref().take(most).collect();
            most = BATCH;
            if batch.is_empty() {
                return Ok(None);
            }
            let runs: Vec<Asking> = batch.par_iter().map(|(p, r)| self.asking(*p, *r)).collect();
            Runner::ask(device, self.questions(&runs)).map(|()| Some(runs))
        };
        asked.extend(ask(device)?);
        while let Some(runs) = asked.pop_front() {
            // the next batch's questions are answered while this one's chunks are built
            asked.extend(ask(device)?);
            for drawn in self.draw(runs, &device.answers()?) {
                let pair = &self.pairs[drawn.pair].pair;
                plan.add(drawn.shape.cone.is_unseen(), pair);
                plan.runs += drawn.flops;
                self.wait(drawn, &mut waiting, device)?;
            }
        }
        self.flush(&mut waiting, device)?;
        Ok(plan)
    }

    /// Adds a run to the next chunk, after handing on what waits where both do not go together.
    pub fn wait(
        &self,
        drawn: Drawn,
        waiting: &mut Waiting,
        device: &mut impl Runner,
    ) -> Result<(), ExecuteError> {
        let budget = self.limits.memory / 2;
        if drawn.bytes > budget {
            return Err(ExecuteError::Memory {
                needed: 2 * drawn.bytes,
                budget: self.limits.memory,
            });
        }
        let fits = self.fits.load(Ordering::Relaxed).min(waiting.most);
        if waiting.bytes + drawn.bytes > fits && !waiting.runs.is_empty() {
            self.flush(waiting, device)?;
        }
        waiting.bytes += drawn.bytes;
        waiting.runs.push(drawn);
        Ok(())
    }

    /// Hands on what waits.
    pub fn flush(
        &self,
        waiting: &mut Waiting,
        device: &mut impl Runner,
    ) -> Result<(), ExecuteError> {
        let runs = std::mem::take(&mut waiting.runs);
        waiting.bytes = 0;
        if runs.is_empty() {
            return Ok(());
        }
        waiting.most = waiting.most.saturating_mul(GROWTH);
        device.run(self.pack(runs))
    }

    /// A run for its own sake.
    fn asking(&self, pair: usize, run: usize) -> Asking {
        let of = &self.pairs[pair];
        Asking {
            pair,
            run,
            edits: edits(
                self.places[pair].stems.rest(run, &of.runs[run].patches),
                of.patched(run),
                self.config,
            ),
            kept_as: None,
        }
    }

    /// What has to be known of runs before their cones can be drawn.
    pub fn questions(&self, runs: &[Asking]) -> Questions {
        let asked: Vec<Asked<'_>> = runs
            .iter()
            .map(|run| {
                let place = &self.places[run.pair];
                let prompt = self.pairs[run.pair].runs[run.run].prompt;
                Asked {
                    pair: run.pair,
                    place,
                    stands: match run.kept_as {
                        Some(_) => place.prompts[&prompt],
                        None => place.stands(run.run, prompt),
                    },
                    edits: &run.edits,
                }
            })
            .collect();
        Questions::new(self.kept, &asked)
    }

    /// Draws the light cones of some runs; `no_op` has an answer for each of their edits.
    pub fn draw(&self, runs: Vec<Asking>, no_op: &[bool]) -> Vec<Drawn> {
        let mut rest = no_op;
        let each = runs.into_iter().map(|run| {
            let (own, others) = rest.split_at(run.edits.len());
            rest = others;
            (run, own)
        });
        let each: Vec<(Asking, &[bool])> = each.collect();
        let outlines: Vec<Outline> = each
            .par_iter()
            .map(|(run, no_op)| self.outline(run, no_op))
            .collect();
        let shapes = self.shapes.of(&outlines, self.config);
        let drawn = each.into_iter().zip(shapes);
        drawn
            .map(|((run, _), shape)| self.drawn(run, shape))
            .collect()
    }

    fn outline(&self, run: &Asking, no_op: &[bool]) -> Outline {
        let nothing = (Wanted::new(), Positions::none());
        let (wanted, readouts) = match &run.kept_as {
            Some((_, wanted)) => (wanted, &nothing.1),
            None => (&nothing.0, &self.places[run.pair].readouts),
        };
        Outline::of(&ConeInput {
            config: self.config,
            edits: &run.edits,
            readouts,
            same: &|i| no_op[i],
            wanted,
        })
    }

    fn drawn(&self, run: Asking, shape: Arc<Shape>) -> Drawn {
        let cost = shape.cost.with_bases(&shape.cone, &run.edits);
        let slack = 512 + 64 * run.edits.len() + 8 * shape.cone.parts.len() * 200;
        Drawn {
            pair: run.pair,
            run: run.run,
            flops: cost.flops,
            bytes: (cost.values * self.value_bytes + slack) as u64,
            shape,
            edits: run.edits,
            kept_as: run.kept_as.map(|(id, _)| id),
        }
    }

    /// The tables of some runs together.
    pub fn pack(&self, drawn: Vec<Drawn>) -> Planned {
        let prompts = &self.kept.layout.prompts;
        let packed: Vec<Packed<'_>> = drawn
            .iter()
            .map(|d| {
                let place = &self.places[d.pair];
                let prompt = self.pairs[d.pair].runs[d.run].prompt;
                let prompt = match d.kept_as {
                    Some(_) => place.prompts[&prompt],
                    None => place.stands(d.run, prompt),
                };
                Packed {
                    cone: &d.shape.cone,
                    edits: &d.edits,
                    ids: &prompts[prompt].ids,
                    offset: prompts[prompt].offset,
                    prompts: &place.rows,
                    pair: d.pair,
                    kept_as: d.kept_as,
                }
            })
            .collect();
        let Kept {
            layout,
            means,
            patched,
        } = self.kept;
        let mut chunk = Builder::new(self.config, layout, means, patched).build(&packed);
        let mut spec = ReadoutSpec {
            first: vec![0],
            top: self.limits.top_of_runs,
            ranks: self.limits.ranks,
            ..ReadoutSpec::default()
        };
        for (run, _) in &chunk.readout_of {
            spec.ids
                .extend(self.pairs[drawn[*run as usize].pair].pair.answers());
            spec.first.push(spec.ids.len());
        }
        if self.limits.kl {
            let (mut known, mut rows) = (HashMap::new(), Vec::new());
            for (run, position) in &chunk.readout_of {
                let base = &prompts[self.places[drawn[*run as usize].pair].base()];
                let row = base.offset + *position as usize;
                let next = chunk.readouts + known.len();
                spec.base.push(*known.entry(row).or_insert_with(|| {
                    rows.push(Ref::cached(row));
                    next as u32
                }));
            }
            rows.into_iter().for_each(|row| chunk.compare(row));
        }
        Planned { drawn, chunk, spec }
    }
}

/// Runs that wait for a chunk to be full.
pub struct Waiting {
    runs: Vec<Drawn>,
    bytes: u64,
    /// Bytes that the next chunk may have, whatever would fit.
    most: u64,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            bytes: 0,
            most: FIRST_CHUNK,
        }
    }
}
