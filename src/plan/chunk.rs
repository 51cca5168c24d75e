//! Packs the light cones of many runs into one ragged batch.
//!
//! Operation by operation, every run's rows get their places in the chunk's buffers, and every operand
//! is looked up where it stands: the run's own row if it has one there, else the cache's. No two runs
//! ever meet in a number.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::model::Config;
use crate::plan::cache::{CacheLayout, PromptRows};
use crate::plan::cone::{Cone, ConePart};
use crate::plan::edit::{Edit, Means, Space, Value};
use crate::plan::patched_cache::{PatchedCache, RunId};
use crate::plan::rows::{RowStarts, Template, buffer_of, place};
use crate::plan::tables::{Chunk, Keep, OpTable, PartTables, Reads, Ref};
use crate::plan::writes::{AnyWrite, BasisOperand, BasisWrite, Call, Operand, Phases, Write};
use crate::site::wiring::{self, Embedding, Operation, OperationKind};
use crate::site::{Stage, StageMap};

/// A run that is packed.
pub struct Packed<'a> {
    /// Its light cone.
    pub cone: &'a Cone,
    /// Its edits.
    pub edits: &'a [Edit],
    /// Token ids of the prompt that it patches.
    pub ids: &'a [u32],
    /// Row of that prompt's position 0 in the cache; for a clean run, its own rows there.
    pub offset: usize,
    /// Rows of its pair's prompts' first positions in the cache.
    pub prompts: &'a PromptRows,
    /// Its pair, whose runs it may read.
    pub pair: usize,
    /// Under which name its rows are put on the patched, if others read them.
    pub kept_as: Option<RunId>,
}

/// Builds a chunk's tables.
pub struct Builder<'a> {
    config: &'a Config,
    layout: &'a CacheLayout,
    means: &'a Means,
    /// What is kept of patched runs.
    patched: &'a PatchedCache,
    /// Whether the runs are clean runs whose rows are kept.
    clean: bool,
    constants: Vec<f64>,
    /// Where a constant stands among them, by its address and length: the slices live as long as the
    /// edits, so that names one within a chunk.
    offsets: HashMap<(usize, usize), usize>,
}

impl<'a> Builder<'a> {
    /// A builder of patched runs over a cache.
    pub fn new(
        config: &'a Config,
        layout: &'a CacheLayout,
        means: &'a Means,
        patched: &'a PatchedCache,
    ) -> Self {
        Self {
            config,
            layout,
            means,
            patched,
            clean: false,
            constants: Vec::new(),
            offsets: HashMap::new(),
        }
    }

    /// The same of clean runs, which fill the cache.
    pub fn clean(mut self) -> Self {
        self.clean = true;
        self
    }

    /// Packs runs into one chunk.
    pub fn build(mut self, runs: &[Packed<'_>]) -> Chunk {
        let last = self.config.layers + 1;
        let first = runs.iter().map(|run| run.cone.first).min();
        let first = first.unwrap_or(last);
        runs.iter().for_each(|run| self.collect_constants(run));
        let parts = (first..=last).into_par_iter();
        let parts = parts.map(|part| PartBuilder::new(&self, part, runs).build(part, runs));
        let parts = parts.collect();
        let mut readout_of = Vec::new();
        for (i, run) in runs.iter().enumerate() {
            let rows = run.cone.readouts().into_iter().flat_map(|rows| rows.iter());
            readout_of.extend(rows.map(|p| (i as u32, p as u32)));
        }
        Chunk {
            first,
            parts,
            readouts: readout_of.len(),
            readout_of,
            constants: self.constants,
        }
    }

    fn collect_constants(&mut self, run: &Packed<'_>) {
        for (edit, live) in run.edits.iter().zip(&run.cone.live) {
            let applied = *live && run.cone.has_row(edit.stage, edit.layer, edit.position);
            let Some(values) = edit.numbers(self.means).filter(|_| applied) else {
                continue;
            };
            let place = (values.as_ptr().addr(), values.len());
            self.offsets.entry(place).or_insert_with(|| {
                let offset = self.constants.len();
                self.constants.extend(values);
                offset
            });
        }
    }

    /// Where what an edit reads stands.
    fn operand(&self, edit: &Edit, run: &Packed<'_>) -> Operand {
        if let Value::Read(read) = &edit.value {
            let (slot, row, column) = self.patched.read(self.layout, read, run.prompts, run.pair);
            return Operand::Kept { slot, row, column };
        }
        let values = edit.numbers(self.means);
        let offset = values.and_then(|v| self.offsets.get(&(v.as_ptr().addr(), v.len())));
        offset.map_or(Operand::None, |offset| Operand::Constant(*offset))
    }

    /// What an edit does to the row of a buffer.
    fn write(&self, edit: &Edit, run: &Packed<'_>, row: usize) -> AnyWrite {
        let operand = self.operand(edit, run);
        let (column, length) = (edit.column, edit.length);
        match &edit.space {
            Space::Row => AnyWrite::Overwrite(Write {
                row,
                head: edit.head,
                column,
                length,
                op: edit.op,
                operand,
            }),
            Space::Basis(basis, picks) => {
                let with = match (&edit.value, operand) {
                    (Value::None, _) => BasisOperand::None,
                    (Value::Constant(..), Operand::Constant(at)) => BasisOperand::Coordinates(at),
                    (_, operand) => BasisOperand::Row(operand),
                };
                let write = BasisWrite {
                    row,
                    column,
                    op: edit.op,
                    with,
                    picks: picks.clone(),
                };
                AnyWrite::Basis(basis.clone(), write)
            }
            Space::Function(function, picks) => AnyWrite::Call(Call {
                row,
                column,
                length,
                picks: picks.clone(),
                function: function.clone(),
                operand,
            }),
        }
    }
}

/// Builds the tables of one part of a pass.
struct PartBuilder<'b> {
    chunk: &'b Builder<'b>,
    ops: &'static [Operation],
    starts: RowStarts,
    tables: PartTables,
    writes: StageMap<Phases>,
    /// For each operation, writes to copies that heads read.
    copy_writes: Vec<Phases>,
    /// The last copy: of which edit, and its row.
    last_copy: Option<((usize, Stage, usize, usize), usize)>,
    /// The stages that are kept, and the operations whose rows they are.
    kept: Vec<(usize, Stage, usize)>,
}

impl<'b> PartBuilder<'b> {
    fn new(chunk: &'b Builder<'b>, part: usize, runs: &[Packed<'_>]) -> Self {
        let ops = wiring::ops(part, chunk.config.layers);
        let parts = runs.iter().filter_map(|run| run.cone.part(part));
        let templates = parts.map(|cone| cone.template(ops));
        let mut tables = PartTables {
            ops: ops.iter().map(OpTable::new).collect(),
            ..PartTables::default()
        };
        let mut kept = Vec::new();
        for (i, op) in ops.iter().enumerate() {
            for (stage, layer) in op.stages(wiring::layer(part)) {
                let slot = match chunk.clean {
                    true => chunk.layout.slots.get(&(stage, layer)).copied(),
                    false => chunk.patched.slot(stage, layer),
                };
                if let Some(slot) = slot {
                    kept.push((i, stage, layer));
                    tables.keeps[stage] = Some(Keep {
                        slot,
                        ..Keep::default()
                    });
                }
            }
        }
        Self {
            chunk,
            ops,
            starts: RowStarts::new(ops, templates),
            tables,
            writes: StageMap::default(),
            copy_writes: ops.iter().map(|_| Phases::default()).collect(),
            last_copy: None,
            kept,
        }
    }

    fn build(mut self, part: usize, runs: &[Packed<'_>]) -> PartTables {
        for (i, run) in runs.iter().enumerate() {
            let Some(cone) = run.cone.part(part) else {
                continue;
            };
            self.starts.enter(run.offset);
            let template = cone.template(self.ops);
            self.rows(template, run);
            let edits = run.edits[cone.edits.clone()].iter();
            for (edit, live) in edits.zip(&run.cone.live[cone.edits.clone()]) {
                if *live {
                    self.edit(edit, run, i, cone);
                }
            }
            self.keep(run, cone);
            self.starts.leave(template);
        }
        self.finish()
    }

    /// Places a run's rows, behind those of the runs before it.
    fn rows(&mut self, template: &Template, run: &Packed<'_>) {
        let starts = &self.starts;
        let mut lists = template.lists();
        let mut next = || lists.next().unwrap_or(&[]);
        let each = self.tables.ops.iter_mut().zip(self.ops);
        for ((table, op), computed) in each.zip(template.computed()) {
            table.rows.computed += computed;
            match &mut table.reads {
                Reads::Rows(refs) => {
                    for refs in refs {
                        starts.extend(refs, next(), Ref::of_bits);
                    }
                    next();
                }
                Reads::Table(index) => {
                    let of = |p: u32| match op.kind {
                        OperationKind::Embed(Embedding::Token) => run.ids[p as usize],
                        _ => p,
                    };
                    starts.extend(index, next(), of);
                }
                Reads::Attention(rows) => {
                    let first = rows.key.len() as u32;
                    for refs in [&mut rows.query, &mut rows.key, &mut rows.value] {
                        starts.extend(refs, next(), Ref::of_bits);
                    }
                    starts.extend(&mut rows.count, next(), |p| p + 1);
                    rows.first.resize(rows.count.len(), first);
                }
            }
            let OpTable { rows, .. } = table;
            starts.extend(&mut rows.gathered, next(), |row| row);
        }
    }

    /// The row of a run in the buffer of what an operation gives; where a stage is `inner`, if it is
    /// computed.
    fn row(&self, cone: &ConePart, op: usize, position: usize, inner: bool) -> Option<usize> {
        let rows = &cone.ops[op];
        let row = place(rows, op + 1, position).map(|place| self.starts.row(place) as usize);
        row.filter(|_| !inner || rows.computed.contains(position))
    }

    fn edit(&mut self, edit: &Edit, run: &Packed<'_>, index: usize, cone: &ConePart) {
        let (_, op) = wiring::find(edit.stage, edit.layer);
        let inner = wiring::is_inner(edit.stage);
        let Some(row) = self.row(cone, op, edit.position, inner) else {
            return;
        };
        match self.ops[op].head_copy() {
            Some(copy) if copy.stage == edit.stage => {
                let copies = &mut self.tables.ops[op].copies;
                let of = (index, edit.stage, edit.position, edit.head);
                let known = self.last_copy.filter(|(last, _)| *last == of);
                let (_, row) = *self.last_copy.insert(known.unwrap_or_else(|| {
                    let buffer = buffer_of(self.ops, copy.of);
                    let rows = match buffer {
                        0 => &cone.stream,
                        _ => &cone.ops[buffer - 1],
                    };
                    let standing = place(rows, buffer, edit.position);
                    let standing = standing.unwrap_or((RowStarts::CACHE_REF, edit.position));
                    let copied = Ref::of_bits(self.starts.row(standing));
                    (of, copies.add(copied, edit.head, row))
                }));
                self.copy_writes[op].push(self.chunk.write(edit, run, row));
            }
            _ => self.writes[edit.stage].push(self.chunk.write(edit, run, row)),
        }
    }

    /// Rows that are kept of a run: of a clean one all, of another what others read of it.
    fn keep(&mut self, run: &Packed<'_>, cone: &ConePart) {
        for &(op, stage, layer) in &self.kept {
            let inner = wiring::is_inner(stage);
            let mut rows = Vec::new();
            let mut put = |position: usize, to: usize| {
                let from = self.row(cone, op, position, inner);
                rows.extend(from.map(|from| (from as u32, to as u32)));
            };
            match run.kept_as {
                Some(id) => self
                    .chunk
                    .patched
                    .rows(id, stage, layer)
                    .for_each(|(p, to)| put(p, to)),
                None if self.chunk.clean => {
                    cone.ops[op].all.iter().for_each(|p| put(p, run.offset + p))
                }
                None => {}
            }
            if let Some(keep) = &mut self.tables.keeps[stage] {
                keep.from.extend(rows.iter().map(|(from, _)| from));
                keep.to.extend(rows.iter().map(|(_, to)| to));
            }
        }
    }

    fn finish(mut self) -> PartTables {
        let tables = &mut self.tables;
        for (op, writes) in self.copy_writes.into_iter().enumerate() {
            tables.ops[op].copies.writes = writes.finish();
        }
        for (op, stage, _) in self.kept {
            let rows = tables.ops[op].rows.computed;
            let keep = &mut tables.keeps[stage];
            match keep {
                Some(kept) if kept.from.is_empty() => *keep = None,
                Some(kept) if stage.has_keys() => kept.spread(rows),
                _ => {}
            }
        }
        for op in self.ops {
            for (stage, _) in op.stages(0) {
                tables.writes[stage] = std::mem::take(&mut self.writes[stage]).finish();
            }
        }
        for op in 0..self.ops.len() {
            tables.ops[op].fused = tables.fuses(self.ops, op);
        }
        self.tables
    }
}
