//! Packs the light cones of many runs into one ragged batch.
//!
//! Stage by stage, every run's rows get their places in the chunk's buffers, and every operand is
//! looked up where it stands: the run's own row if it has one there, else the trace's. No two runs
//! ever meet in a number.

use std::collections::{BTreeMap, HashMap};

use crate::model::Config;
use crate::patch::{Origin, Prompt};
use crate::plan::cell::{Cell, Through, Value};
use crate::plan::cone::{Cone, LayerCone, Rows};
use crate::plan::phase::{Call, Move, Phases, Step, With};
use crate::plan::positions::Positions;
use crate::plan::shelf::{RunId, Shelf};
use crate::plan::tables::{
    Chunk, HeadInput, Keep, LayerTables, Operand, Projection, Ref, RowTable, Sum, Write,
};
use crate::plan::trace::TraceLayout;
use crate::site::Stage;

/// Mean activations, by the text that names the prompts, stage and layer: one row each.
pub type Means = HashMap<(String, Stage, usize), Vec<f64>>;

/// A run that is packed.
pub struct Packed<'a> {
    /// Its light cone.
    pub cone: &'a Cone,
    /// Its cells.
    pub cells: &'a [Cell],
    /// Token ids of the prompt that it patches.
    pub ids: &'a [u32],
    /// Row of that prompt's position 0 in the trace; for a clean run, its own rows there.
    pub offset: usize,
    /// Rows of its pair's prompts' first positions in the trace.
    pub prompts: &'a PromptRows,
    /// Its pair, whose runs it may read.
    pub pair: usize,
    /// Under which name its rows are put on the shelf, if others read them.
    pub kept_as: Option<RunId>,
}

/// The row of position 0 of each of a pair's prompts in the trace.
pub type PromptRows = BTreeMap<Prompt, usize>;

const NONE: u32 = u32::MAX;

/// Where each (run, position) stands in one stage's buffer.
struct Slots {
    stride: usize,
    of: Vec<u32>,
}

impl Slots {
    fn new(runs: usize, stride: usize) -> Self {
        Self {
            stride,
            of: vec![NONE; runs * stride],
        }
    }

    fn get(&self, run: usize, position: usize) -> Option<usize> {
        // a patch may stand after everything that is read: no run has a row there
        if position >= self.stride {
            return None;
        }
        let slot = self.of[run * self.stride + position];
        (slot != NONE).then_some(slot as usize)
    }

    fn set(&mut self, run: usize, position: usize, row: usize) {
        self.of[run * self.stride + position] = row as u32;
    }
}

/// Builds a chunk's tables.
pub struct Builder<'a> {
    config: &'a Config,
    layout: &'a TraceLayout,
    means: &'a Means,
    /// What is kept of patched runs.
    shelf: &'a Shelf,
    /// Whether the runs are clean runs whose rows are kept.
    clean: bool,
    chunk: Chunk,
    constant_offsets: HashMap<(*const f64, usize), usize>,
}

impl<'a> Builder<'a> {
    /// A builder of patched runs over a trace.
    pub fn new(
        config: &'a Config,
        layout: &'a TraceLayout,
        means: &'a Means,
        shelf: &'a Shelf,
    ) -> Self {
        Self {
            config,
            layout,
            means,
            shelf,
            clean: false,
            chunk: Chunk::default(),
            constant_offsets: HashMap::new(),
        }
    }

    /// The same of clean runs, which fill the trace.
    pub fn clean(mut self) -> Self {
        self.clean = true;
        self
    }

    /// Packs runs into one chunk.
    pub fn build(mut self, runs: &[Packed<'_>]) -> Chunk {
        let config = self.config;
        let stride = runs.iter().map(|r| r.ids.len()).max().unwrap_or(0);
        let start = runs
            .iter()
            .map(|r| r.cone.start)
            .min()
            .unwrap_or(config.layers);
        self.chunk.start = start;

        // what enters the first layer of the chunk
        let none = Rows::default();
        let runs_input: Vec<&Rows> = runs
            .iter()
            .map(|r| {
                if r.cone.start == start {
                    &r.cone.input
                } else {
                    &none
                }
            })
            .collect();
        let (table, mut stream) = assign(runs, stride, |i| runs_input[i]);
        each(
            runs,
            |i| runs_input[i].computed.clone(),
            |i, p| {
                self.chunk.tokens.push(runs[i].ids[p]);
                self.chunk.positions.push(p as u32);
            },
        );
        self.chunk.input = table;
        let mut tables = LayerTables::default();
        for stage in [
            Stage::TokenEmbedding,
            Stage::PositionEmbedding,
            Stage::BlockInput,
        ] {
            let rows = if stage == Stage::BlockInput {
                self.chunk.input.len()
            } else {
                self.chunk.input.computed
            };
            self.touch(&mut tables, runs, stage, start, (&stream, rows));
        }
        self.chunk.input_tables = tables;

        for layer in start..config.layers {
            let mut tables = LayerTables::default();
            stream = self.layer(layer, runs, stride, &stream, &mut tables);
            self.chunk.layers.push(tables);
        }

        let mut tables = LayerTables::default();
        let mut slots = Slots::new(runs.len(), stride);
        each(
            runs,
            |i| runs[i].cone.readouts.clone(),
            |i, p| {
                slots.set(i, p, self.chunk.readout.len());
                self.chunk.readout.push(reference(&stream, runs, i, p));
                self.chunk.readout_of.push((i as u32, p as u32));
            },
        );
        for stage in [Stage::LnFScale, Stage::LnFNormalized, Stage::FinalOutput] {
            self.touch(
                &mut tables,
                runs,
                stage,
                config.layers,
                (&slots, self.chunk.readout.len()),
            );
        }
        self.chunk.final_tables = tables;
        self.chunk
    }

    fn layer(
        &mut self,
        layer: usize,
        runs: &[Packed<'_>],
        stride: usize,
        stream: &Slots,
        tables: &mut LayerTables,
    ) -> Slots {
        let empty = LayerCone::default();
        let cones: Vec<&LayerCone> = runs
            .iter()
            .map(|r| {
                layer
                    .checked_sub(r.cone.start)
                    .and_then(|i| r.cone.layers.get(i))
                    .unwrap_or(&empty)
            })
            .collect();

        let mut ln_1 = Slots::new(runs.len(), stride);
        each(
            runs,
            |i| cones[i].ln_1.clone(),
            |i, p| {
                ln_1.set(i, p, tables.ln_1.len());
                tables.ln_1.push(reference(stream, runs, i, p));
            },
        );
        for stage in [Stage::Ln1Scale, Stage::Ln1Normalized, Stage::AttentionInput] {
            self.touch(tables, runs, stage, layer, (&ln_1, tables.ln_1.len()));
        }

        let project = |rows: fn(&LayerCone) -> &Rows| {
            let (table, slots) = assign(runs, stride, |i| rows(cones[i]));
            let mut input = Vec::with_capacity(table.computed);
            each(
                runs,
                |i| rows(cones[i]).computed.clone(),
                |i, p| input.extend(ln_1.get(i, p).map(|r| r as u32)),
            );
            (Projection { input, rows: table }, slots)
        };
        let (projection, query) = project(|c| &c.query);
        tables.query = projection;
        let (projection, key) = project(|c| &c.key);
        tables.key = projection;
        let (projection, value) = project(|c| &c.value);
        tables.value = projection;
        for (own, stage, projected, rows) in [
            (
                Stage::QueryInput,
                Stage::Query,
                &query,
                tables.query.rows.len(),
            ),
            (Stage::KeyInput, Stage::Key, &key, tables.key.rows.len()),
            (
                Stage::ValueInput,
                Stage::Value,
                &value,
                tables.value.rows.len(),
            ),
        ] {
            self.head_inputs(tables, runs, own, layer, stream, projected);
            self.touch(tables, runs, stage, layer, (projected, rows));
        }

        let (table, z) = assign(runs, stride, |i| &cones[i].z);
        tables.z = table;
        let attention = &mut tables.attention;
        let mut firsts = vec![NONE; runs.len()];
        for (i, cone) in cones.iter().enumerate() {
            let Some(last) = cone.z.computed.last() else {
                continue;
            };
            firsts[i] = attention.key.len() as u32;
            for p in 0..=last {
                attention.key.push(reference(&key, runs, i, p));
                attention.value.push(reference(&value, runs, i, p));
            }
        }
        each(
            runs,
            |i| cones[i].z.computed.clone(),
            |i, p| {
                attention.query.push(reference(&query, runs, i, p));
                attention.first.push(firsts[i]);
                attention.count.push(p as u32 + 1);
            },
        );
        let (computed, all) = (tables.z.computed, tables.z.len());
        for (stage, rows) in [
            (Stage::Scores, computed),
            (Stage::Weight, computed),
            (Stage::Z, all),
        ] {
            self.touch(tables, runs, stage, layer, (&z, rows));
        }

        let (table, attention_output) = assign(runs, stride, |i| &cones[i].attention_output);
        tables.attention_output = table;
        tables.c_proj = rows_of(runs, &z, |i| cones[i].attention_output.computed.clone());
        self.touch(
            tables,
            runs,
            Stage::AttentionOutput,
            layer,
            (&attention_output, tables.attention_output.len()),
        );
        let mid;
        (tables.mid, mid) = sum(
            runs,
            stride,
            |i| &cones[i].mid,
            stream,
            &attention_output,
            tables.attention_output.computed,
        );
        self.touch(
            tables,
            runs,
            Stage::BlockMid,
            layer,
            (&mid, tables.mid.rows.len()),
        );

        let (table, pre) = assign(runs, stride, |i| &cones[i].mlp_pre);
        tables.mlp_pre = table;
        each(
            runs,
            |i| cones[i].mlp_pre.computed.clone(),
            |i, p| tables.ln_2.push(reference(&mid, runs, i, p)),
        );
        for stage in [
            Stage::MlpResidualInput,
            Stage::Ln2Scale,
            Stage::Ln2Normalized,
            Stage::MlpInput,
            Stage::MlpPre,
        ] {
            let rows = if stage == Stage::MlpPre {
                tables.mlp_pre.len()
            } else {
                tables.mlp_pre.computed
            };
            self.touch(tables, runs, stage, layer, (&pre, rows));
        }
        let (table, activation) = assign(runs, stride, |i| &cones[i].mlp_activation);
        tables.mlp_activation = table;
        tables.activate = rows_of(runs, &pre, |i| cones[i].mlp_activation.computed.clone());
        self.touch(
            tables,
            runs,
            Stage::MlpActivation,
            layer,
            (&activation, tables.mlp_activation.len()),
        );
        let (table, mlp_output) = assign(runs, stride, |i| &cones[i].mlp_output);
        tables.mlp_output = table;
        tables.mlp_proj = rows_of(runs, &activation, |i| cones[i].mlp_output.computed.clone());
        self.touch(
            tables,
            runs,
            Stage::MlpOutput,
            layer,
            (&mlp_output, tables.mlp_output.len()),
        );

        // a run that starts at the next layer brings its patched input rows along
        let outs: Vec<&Rows> = runs
            .iter()
            .zip(&cones)
            .map(|(r, c)| {
                if r.cone.start == layer + 1 {
                    &r.cone.input
                } else {
                    &c.out
                }
            })
            .collect();
        let out;
        (tables.out, out) = sum(
            runs,
            stride,
            |i| outs[i],
            &mid,
            &mlp_output,
            tables.mlp_output.computed,
        );
        for (stage, layer) in [(Stage::BlockOutput, layer), (Stage::BlockInput, layer + 1)] {
            self.touch(tables, runs, stage, layer, (&out, tables.out.rows.len()));
        }
        out
    }

    fn head_inputs(
        &mut self,
        tables: &mut LayerTables,
        runs: &[Packed<'_>],
        stage: Stage,
        layer: usize,
        stream: &Slots,
        projected: &Slots,
    ) {
        let mut of: HashMap<(usize, usize, usize), (usize, usize)> = HashMap::new();
        let mut phases: HashMap<usize, Phases> = HashMap::new();
        for (i, run) in runs.iter().enumerate() {
            for cell in at(run, layer, stage) {
                let Some(output) = projected.get(i, cell.position) else {
                    continue;
                };
                let group = tables
                    .head_inputs
                    .iter()
                    .position(|(s, h, _)| (*s, *h) == (stage, cell.head));
                let group = group.unwrap_or_else(|| {
                    tables
                        .head_inputs
                        .push((stage, cell.head, HeadInput::default()));
                    tables.head_inputs.len() - 1
                });
                let known = of.get(&(i, cell.position, cell.head)).copied();
                let (_, row) = known.unwrap_or_else(|| {
                    let input = &mut tables.head_inputs[group].2;
                    input.input.push(reference(stream, runs, i, cell.position));
                    input.output.push(output as u32);
                    let place = (group, input.input.len() - 1);
                    of.insert((i, cell.position, cell.head), place);
                    place
                });
                let step = self.step(cell, run, row);
                phases.entry(group).or_default().push(step);
            }
        }
        for (group, phases) in phases {
            tables.head_inputs[group].2.writes = phases.finish();
        }
    }

    /// Overwrites and keeps of one stage, whose rows stand at `slots`: the first `rows` of them.
    /// What stands in no buffer is there for computed rows alone; behind them are the gathered
    /// rows of the stage that gives the slots, which are overwritten whole and need none of it.
    fn touch(
        &mut self,
        tables: &mut LayerTables,
        runs: &[Packed<'_>],
        stage: Stage,
        layer: usize,
        (slots, rows): (&Slots, usize),
    ) {
        let mut writes = Phases::default();
        for (i, run) in runs.iter().enumerate() {
            for cell in at(run, layer, stage) {
                if let Some(row) = slots.get(i, cell.position).filter(|row| *row < rows) {
                    writes.push(self.step(cell, run, row));
                }
            }
        }
        let writes = writes.finish();
        if !writes.is_empty() {
            tables.writes.insert(stage, writes);
        }
        let slot = match self.clean {
            true => self.layout.slots.get(&(stage, layer)).copied(),
            false => self.shelf.slot(stage, layer),
        };
        let Some(slot) = slot else {
            return;
        };
        let mut keep = Keep {
            slot,
            ..Keep::default()
        };
        for (i, run) in runs.iter().enumerate() {
            let mut put = |position: usize, to: usize| {
                if let Some(row) = slots.get(i, position).filter(|row| *row < rows) {
                    keep.from.push(row as u32);
                    keep.to.push(to as u32);
                }
            };
            match run.kept_as {
                None if self.clean => {
                    (0..run.ids.len()).for_each(|p| put(p, run.offset + p));
                }
                None => {}
                Some(id) => {
                    let rows = self.shelf.rows(id, stage, layer);
                    rows.for_each(|(position, row)| put(position, row));
                }
            }
        }
        if keep.from.is_empty() {
            return;
        }
        if matches!(stage, Stage::Scores | Stage::Weight) {
            // one entry for each computed row of z, wherever it goes
            let mut to = vec![Keep::NOWHERE; rows];
            let known = keep.from.iter().zip(&keep.to);
            known.for_each(|(from, at)| to[*from as usize] = *at);
            (keep.from, keep.to) = ((0..rows as u32).collect(), to);
        }
        tables.keeps.insert(stage, keep);
    }

    /// What a cell does to the row of a buffer.
    fn step(&mut self, cell: &Cell, run: &Packed<'_>, row: usize) -> Step {
        let constants = match &cell.through {
            Through::Basis(basis, _) => basis.coordinates(),
            _ => cell.length,
        };
        let operand = self.operand(cell, run, constants);
        let (column, length) = (cell.column, cell.length);
        match &cell.through {
            Through::Row => Step::Overwrite(Write {
                row,
                head: cell.head,
                column,
                length,
                op: cell.op,
                operand,
            }),
            Through::Basis(basis, picks) => {
                let with = match (&cell.value, operand) {
                    (Value::None, _) => With::Nothing,
                    (Value::Constant(..), Operand::Constant(offset)) => With::Coordinates(offset),
                    (_, operand) => With::Row(operand),
                };
                let moved = Move {
                    row,
                    column,
                    op: cell.op,
                    with,
                    picks: picks.clone(),
                };
                Step::Move(basis.clone(), moved)
            }
            Through::Function(function, picks) => Step::Call(Call {
                row,
                column,
                length,
                picks: picks.clone(),
                function: function.clone(),
                operand,
            }),
        }
    }

    /// Where what a cell reads stands; a constant has so many numbers.
    fn operand(&mut self, cell: &Cell, run: &Packed<'_>, constants: usize) -> Operand {
        match &cell.value {
            Value::None => Operand::None,
            Value::Read {
                origin,
                stage,
                layer,
                position,
                head,
                column,
            } => {
                let (slot, row) = match origin {
                    Origin::Clean(prompt) => (
                        self.layout.slots[&(*stage, *layer)],
                        run.prompts[prompt] + position,
                    ),
                    Origin::Run(read) => {
                        let id = RunId::whole(run.pair, *read);
                        self.shelf.find(self.layout, id, *stage, *layer, *position)
                    }
                };
                Operand::Kept {
                    slot,
                    row,
                    column: head * self.layout.key_stride() + column,
                }
            }
            Value::Constant(values, offset) => {
                Operand::Constant(self.constant(&values[*offset..][..constants]))
            }
            Value::Mean {
                over,
                stage,
                layer,
                column,
            } => {
                let means = self.means;
                let mean = &means[&(over.label.clone(), *stage, *layer)];
                Operand::Constant(self.constant(&mean[*column..][..cell.length]))
            }
        }
    }

    fn constant(&mut self, values: &[f64]) -> usize {
        // the slices live as long as the cells, so an address names a constant within a chunk
        let key = (values.as_ptr(), values.len());
        *self.constant_offsets.entry(key).or_insert_with(|| {
            let offset = self.chunk.constants.len();
            self.chunk.constants.extend_from_slice(values);
            offset
        })
    }
}

/// A run's live cells at a stage.
fn at<'a>(run: &'a Packed<'_>, layer: usize, stage: Stage) -> impl Iterator<Item = &'a Cell> {
    let first = run
        .cells
        .partition_point(|c| (c.layer, c.stage) < (layer, stage));
    run.cells[first..]
        .iter()
        .zip(&run.cone.live[first..])
        .take_while(move |(c, _)| (c.layer, c.stage) == (layer, stage))
        .filter(|(_, live)| **live)
        .map(|(c, _)| c)
}

fn each(
    runs: &[Packed<'_>],
    rows: impl Fn(usize) -> Positions,
    mut visit: impl FnMut(usize, usize),
) {
    for i in 0..runs.len() {
        rows(i).iter().for_each(|p| visit(i, p));
    }
}

/// Gives every row of a stage its place: the computed rows of all runs, then the gathered ones.
fn assign<'r>(
    runs: &[Packed<'_>],
    stride: usize,
    rows: impl Fn(usize) -> &'r Rows,
) -> (RowTable, Slots) {
    let mut slots = Slots::new(runs.len(), stride);
    let mut table = RowTable::default();
    each(
        runs,
        |i| rows(i).computed.clone(),
        |i, p| {
            slots.set(i, p, table.computed);
            table.computed += 1;
        },
    );
    each(
        runs,
        |i| rows(i).gathered(),
        |i, p| {
            slots.set(i, p, table.len());
            table.gathered.push((runs[i].offset + p) as u32);
        },
    );
    (table, slots)
}

fn reference(slots: &Slots, runs: &[Packed<'_>], run: usize, position: usize) -> Ref {
    match slots.get(run, position) {
        Some(row) => Ref::own(row),
        None => Ref::trace(runs[run].offset + position),
    }
}

fn rows_of(runs: &[Packed<'_>], slots: &Slots, rows: impl Fn(usize) -> Positions) -> Vec<u32> {
    let mut list = Vec::new();
    each(runs, rows, |i, p| {
        let row = slots.get(i, p);
        debug_assert!(row.is_some(), "a computed row reads a row that is nowhere");
        list.push(row.map_or(0, |r| r as u32));
    });
    list
}

fn sum<'r>(
    runs: &[Packed<'_>],
    stride: usize,
    rows: impl Fn(usize) -> &'r Rows,
    residual: &Slots,
    branch: &Slots,
    branch_computed: usize,
) -> (Sum, Slots) {
    let (table, slots) = assign(runs, stride, &rows);
    let mut sum = Sum {
        rows: table,
        ..Sum::default()
    };
    each(
        runs,
        |i| rows(i).computed.clone(),
        |i, p| {
            sum.residual.push(reference(residual, runs, i, p));
            sum.branch.push(reference(branch, runs, i, p));
        },
    );
    sum.aligned = branch_computed == sum.rows.computed
        && sum
            .branch
            .iter()
            .enumerate()
            .all(|(i, b)| *b == Ref::own(i));
    (sum, slots)
}
