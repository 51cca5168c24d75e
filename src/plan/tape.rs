//! What a backward pass needs of a forward pass, and which rows it goes through.
//!
//! A run whose gradients are wanted is computed from the embedding on, as far as its readout sees it, and
//! what the adjoints read of it is kept: its *tape*. Every run has rows of its own there, also where
//! prompts are equal, and the gradients of a stage stand in the same rows. Backwards the light cone ends
//! at the earliest activation that is asked for: what lies before it is not computed, and nothing is kept
//! for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Config;
use crate::plan::cache::{CacheLayout, CleanPrompt, PromptRows};
use crate::plan::chunk::{Builder, Packed};
use crate::plan::cone::{self, Cone};
use crate::plan::cost::Flops;
use crate::plan::edit::{Edit, EditOp, Means, Space};
use crate::plan::patched_cache::PatchedCache;
use crate::plan::positions::Positions;
use crate::plan::tables::Chunk;
use crate::site::wiring::{self, OperationKind, READ_OUT};
use crate::site::{Stage, kept};

/// Operations of attention's adjoint for each column of each (query, key): the scores again, then those of
/// pattern, values, queries and keys, a multiply-add each.
pub const ATTENTION_ADJOINT: u64 = 10;

/// Stages of layers whose gradients are asked for, as [`crate::plan::edit::Edit`] counts layers.
pub type AskedGradients = BTreeSet<(usize, Stage)>;

/// A run whose gradients are wanted, of a metric of its last row's logits.
#[derive(Debug, Clone, PartialEq)]
pub struct TapedRun {
    /// Token ids, up to the one whose row is read out.
    pub ids: Vec<u32>,
    /// What is patched; constants alone.
    pub edits: Vec<Edit>,
}

/// Rows of one run whose z was computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttendedRun {
    /// Row of the run's position 0.
    pub first: u32,
    /// Positions of its queries, ascending.
    pub positions: Vec<u32>,
}

/// What an edit leaves of the gradient of the value that stood there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passed {
    /// Row.
    pub row: u32,
    /// First column.
    pub column: usize,
    /// How many columns.
    pub length: usize,
    /// What the gradient is multiplied by: 0 where the value was overwritten.
    pub factor: f64,
}

/// One operation backwards.
#[derive(Debug, Clone, Default)]
pub struct ReversedRows {
    /// Rows that were computed, ascending.
    pub rows: Vec<u32>,
    /// The same of attention, run by run; empty for others.
    pub attended: Vec<AttendedRun>,
}

/// The tape of some runs, and the way back through them.
#[derive(Debug)]
pub struct TapePlan {
    /// Where each run stands, and what is kept.
    pub layout: CacheLayout,
    /// What is computed of each run.
    pub cones: Vec<Cone>,
    /// The first part of a pass that is gone through backwards, and in it the first operation.
    pub first: (usize, usize),
    /// By part from the embedding on, then by operation.
    pub reversed: Vec<Vec<ReversedRows>>,
    /// What edits leave of gradients, by layer and stage.
    pub passed: BTreeMap<(usize, Stage), Vec<Passed>>,
}

/// Whether gradients go through what is patched there: not where heads, a layer norm or attention read a
/// patched value of which no row stands.
pub fn passes_gradients(edit: &Edit) -> bool {
    let copied = matches!(
        edit.stage,
        Stage::QueryInput | Stage::KeyInput | Stage::ValueInput
    );
    edit.space == Space::Row && !wiring::is_inner(edit.stage) && !copied
}

impl TapePlan {
    /// Plans the tape of some runs.
    pub fn new(config: &Config, runs: &[&TapedRun], asked: &AskedGradients) -> Self {
        let first = asked
            .iter()
            .map(|(layer, stage)| wiring::find(*stage, *layer))
            .min();
        let first = first.unwrap_or((config.layers + 1, 0));
        let mut layout = CacheLayout::default();
        for part in first.0..=config.layers + 1 {
            let layer = wiring::layer(part);
            for op in wiring::ops(part, config.layers) {
                let needs = matches!(
                    op.kind,
                    OperationKind::Norm(_) | OperationKind::Attend | OperationKind::Activate
                );
                for input in op.reads.iter().filter(|_| needs) {
                    let (stage, layer) = kept(input.stage, layer);
                    layout.keep(stage, layer);
                }
            }
        }
        layout.keep(READ_OUT, config.layers);
        let mut cones = Vec::with_capacity(runs.len());
        for run in runs {
            let last: Positions = run.ids.len().checked_sub(1).into_iter().collect();
            layout.prompts.push(CleanPrompt {
                ids: run.ids.clone(),
                offset: layout.rows(),
                readouts: last.clone(),
                stem: None,
            });
            cones.push(cone::of_taped(config, &run.edits, run.ids.len(), &last));
        }
        let mut plan = Self {
            layout,
            first,
            reversed: Vec::new(),
            passed: BTreeMap::new(),
            cones,
        };
        plan.reversed = (0..=config.layers + 1)
            .map(|part| plan.reverse(part, config))
            .collect();
        for (run, prompt) in runs.iter().zip(&plan.layout.prompts) {
            for edit in run.edits.iter().filter(|e| e.position < run.ids.len()) {
                let factor = match edit.op {
                    EditOp::Set | EditOp::Fill(_) => 0.0,
                    EditOp::Add | EditOp::Subtract => continue,
                    EditOp::Scale(x) => x,
                    EditOp::Interpolate(alpha) => 1.0 - alpha,
                };
                let at = plan.passed.entry((edit.layer, edit.stage)).or_default();
                at.push(Passed {
                    row: (prompt.offset + edit.position) as u32,
                    column: edit.column,
                    length: edit.length,
                    factor,
                });
            }
        }
        plan
    }

    fn reverse(&self, part: usize, config: &Config) -> Vec<ReversedRows> {
        let ops = wiring::ops(part, config.layers).iter().enumerate();
        let of = |(i, op): (usize, &wiring::Operation)| {
            let mut reversed = ReversedRows::default();
            for (cone, prompt) in self.cones.iter().zip(&self.layout.prompts) {
                let Some(rows) = cone.part(part).map(|part| &part.ops[i].computed) else {
                    continue;
                };
                let offset = prompt.offset;
                reversed
                    .rows
                    .extend(rows.iter().map(|p| (offset + p) as u32));
                if let OperationKind::Attend = op.kind {
                    reversed.attended.push(AttendedRun {
                        first: offset as u32,
                        positions: rows.iter().map(|p| p as u32).collect(),
                    });
                }
            }
            reversed
        };
        ops.map(of).collect()
    }

    /// The forward pass's tables.
    pub fn chunk(&self, config: &Config, runs: &[&TapedRun]) -> Chunk {
        let (means, patched, nowhere) =
            (Means::new(), PatchedCache::default(), PromptRows::default());
        let each = self.cones.iter().zip(runs).zip(&self.layout.prompts);
        let packed: Vec<Packed<'_>> = each
            .map(|((cone, run), prompt)| Packed {
                cone,
                edits: &run.edits,
                ids: &prompt.ids,
                offset: prompt.offset,
                prompts: &nowhere,
                pair: 0,
                kept_as: None,
            })
            .collect();
        Builder::new(config, &self.layout, &means, &patched)
            .clean()
            .build(&packed)
    }

    /// Operations of the way back, but for the readout's: multiply-adds of linear layers and attention, two
    /// each, as [`crate::plan::cost`] counts them.
    pub fn backward_flops(&self, config: &Config, asked: &AskedGradients) -> Flops {
        let mut flops = Flops::default();
        let width = |stage: Stage| stage.width().numbers(config, 0);
        for part in self.first.0..self.reversed.len() {
            let layer = wiring::layer(part);
            let ops = wiring::ops(part, config.layers).iter().enumerate();
            for ((i, op), reversed) in ops.zip(&self.reversed[part]) {
                let within = op.passes.iter().copied();
                let mut within = within.chain(op.copy.map(|copy| copy.stage));
                let asked_within = within.any(|stage| asked.contains(&(layer, stage)));
                if (part, i) < self.first || ((part, i) == self.first && !asked_within) {
                    continue;
                }
                match op.kind {
                    OperationKind::Linear(_) => {
                        let copied = op.head_copy();
                        let copied = copied.is_some_and(|c| asked.contains(&(layer, c.stage)));
                        let once = 2 * width(op.reads[0].stage) * width(op.gives);
                        let times = 1 + usize::from(copied);
                        flops.linear += (times * once * reversed.rows.len()) as u64;
                    }
                    OperationKind::Attend => {
                        let positions = reversed.attended.iter().flat_map(|run| &run.positions);
                        let keys: u64 = positions.map(|p| u64::from(*p) + 1).sum();
                        flops.attention += ATTENTION_ADJOINT * width(op.gives) as u64 * keys;
                    }
                    _ => {}
                }
            }
        }
        flops
    }

    /// Numbers that stand in memory at once for these runs, beside the forward pass's buffers: the tape, and
    /// the gradients of one part.
    pub fn values(&self, config: &Config, asked: &AskedGradients) -> usize {
        let keys = config.heads * self.layout.key_stride();
        let stages = (0..3).flat_map(|part| wiring::ops(part, 1));
        let stages = stages.flat_map(|op| op.inner().chain([op.gives]));
        let widths: usize = stages
            .map(|stage| stage.width().numbers(config, keys))
            .sum();
        // a GPU computes the pattern again beside what is handed over of it
        let again = match asked.iter().any(|(_, stage)| stage.has_keys()) {
            true => keys,
            false => 0,
        };
        // four rows more, of copies that heads read and what is handed over
        let copies = 4 * config.width;
        self.layout.values(config) + self.layout.rows() * (widths + again + copies)
    }

    /// Row of the last position of a run, whose logits are read out.
    pub fn last_row(&self, run: usize) -> usize {
        let prompt = &self.layout.prompts[run];
        prompt.offset + prompt.ids.len() - 1
    }

    /// The run's rows.
    pub fn rows(&self, run: usize) -> std::ops::Range<usize> {
        let prompt = &self.layout.prompts[run];
        prompt.offset..prompt.offset + prompt.ids.len()
    }
}
