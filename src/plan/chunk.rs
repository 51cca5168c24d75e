//! Tables for one chunk of runs: which row of which buffer feeds which.
//!
//! The light cones of many runs are packed into one ragged batch. Each stage has one buffer of
//! rows for the whole chunk, the computed rows of all runs first and the gathered ones after them,
//! and each operation gets a table of where its rows read: the run's own row, or the trace's. The
//! forward pass then has no decisions left to take, and no two runs ever meet in a number.

use std::collections::HashMap;

use crate::model::Config;
use crate::plan::cell::{Cell, CellOp, Value};
use crate::plan::cone::{Cone, LayerCone, Rows};
use crate::plan::positions::Positions;
use crate::plan::trace::TraceLayout;
use crate::site::Stage;

/// A row of the chunk's own buffer of a stage, or of the trace's matrix of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ref(u32);

impl Ref {
    const TRACE: u32 = 1 << 31;

    /// A row of the chunk's own buffer.
    pub fn own(row: usize) -> Self {
        debug_assert!((row as u32) < Self::TRACE);
        Self(row as u32)
    }

    /// A row of the trace.
    pub fn trace(row: usize) -> Self {
        debug_assert!((row as u32) < Self::TRACE);
        Self(row as u32 | Self::TRACE)
    }

    /// `Ok(own row)` or `Err(trace row)`.
    pub fn row(self) -> Result<usize, usize> {
        let row = (self.0 & !Self::TRACE) as usize;
        if self.0 & Self::TRACE == 0 {
            Ok(row)
        } else {
            Err(row)
        }
    }
}

/// Where an overwrite's operand stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// The operator has none.
    None,
    /// `slot` of the trace, from (row, column).
    Kept {
        /// Index of the matrix.
        slot: usize,
        /// Row.
        row: usize,
        /// First column.
        column: usize,
    },
    /// The chunk's constants from this offset.
    Constant(usize),
}

/// One overwrite of a stretch of a buffer's row. Writes to one row act in listed order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Write {
    /// Row of the buffer.
    pub row: usize,
    /// Head, for scores and pattern.
    pub head: usize,
    /// First column (first key for scores and pattern).
    pub column: usize,
    /// How many columns.
    pub length: usize,
    /// What is done.
    pub op: CellOp,
    /// With what.
    pub operand: Operand,
}

/// Rows of one stage's buffer: `computed` of them, then the gathered trace rows.
#[derive(Debug, Clone, Default)]
pub struct RowTable {
    /// How many rows are computed; they come first.
    pub computed: usize,
    /// Trace rows whose clean values follow.
    pub gathered: Vec<u32>,
}

impl RowTable {
    /// All rows.
    pub fn len(&self) -> usize {
        self.computed + self.gathered.len()
    }

    /// Whether the stage has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows to keep of a stage: from row of the buffer, to row of the trace.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Index of the trace's matrix.
    pub slot: usize,
    /// Rows of the buffer.
    pub from: Vec<u32>,
    /// Rows of the trace.
    pub to: Vec<u32>,
}

/// One of c_attn's three projections over its share of ln_1's rows.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// Rows of ln_1 that are projected.
    pub input: Vec<u32>,
    /// Rows of the result.
    pub rows: RowTable,
}

/// Rows at which one head's query, key or value reads a residual of its own.
#[derive(Debug, Clone, Default)]
pub struct HeadInput {
    /// The residual that is copied before it is patched.
    pub input: Vec<Ref>,
    /// Overwrites of the copies.
    pub writes: Vec<Write>,
    /// Rows of the query, key or value buffer that get the head's columns.
    pub output: Vec<u32>,
}

/// A sum of two operands, row by row: the skip path and a branch.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// The residual stream.
    pub residual: Vec<Ref>,
    /// What is added to it.
    pub branch: Vec<Ref>,
    /// Rows of the result.
    pub rows: RowTable,
    /// Whether row i of the result is row i of the branch, and all of those are computed.
    pub aligned: bool,
}

/// Queries and the keys and values that they see.
#[derive(Debug, Clone, Default)]
pub struct AttentionRows {
    /// Query of each computed row of z.
    pub query: Vec<Ref>,
    /// Where each row's keys start in `key` and `value`.
    pub first: Vec<u32>,
    /// How many keys each row sees: its position + 1.
    pub count: Vec<u32>,
    /// Key rows, position by position, a stretch for each run.
    pub key: Vec<Ref>,
    /// Value rows, likewise.
    pub value: Vec<Ref>,
}

/// Everything that one layer does for a chunk.
#[derive(Debug, Clone, Default)]
pub struct LayerTables {
    /// Rows of ln_1, read from the residual stream.
    pub ln_1: Vec<Ref>,
    /// Queries.
    pub query: Projection,
    /// Keys.
    pub key: Projection,
    /// Values.
    pub value: Projection,
    /// By projection and head.
    pub head_inputs: Vec<(Stage, usize, HeadInput)>,
    /// Scores, softmax, weighted sums.
    pub attention: AttentionRows,
    /// z.
    pub z: RowTable,
    /// Rows of z that c_proj reads.
    pub c_proj: Vec<u32>,
    /// The attention's output.
    pub attention_output: RowTable,
    /// Residual stream after attention.
    pub mid: Sum,
    /// Rows of ln_2, read from `mid`.
    pub ln_2: Vec<Ref>,
    /// Before the activation.
    pub mlp_pre: RowTable,
    /// Rows of `mlp_pre` that are activated.
    pub activate: Vec<u32>,
    /// After the activation.
    pub mlp_activation: RowTable,
    /// Rows of `mlp_activation` that the MLP's c_proj reads.
    pub mlp_proj: Vec<u32>,
    /// The MLP's output.
    pub mlp_output: RowTable,
    /// Residual stream after the MLP.
    pub out: Sum,
    /// Overwrites by stage; [`Stage::BlockInput`] is the *next* layer's, which is this one's `out`.
    pub writes: HashMap<Stage, Vec<Write>>,
    /// Rows to keep by stage; [`Stage::BlockInput`] likewise.
    pub keeps: HashMap<Stage, Keep>,
}

impl LayerTables {
    /// Overwrites of a stage.
    pub fn writes(&self, stage: Stage) -> &[Write] {
        self.writes.get(&stage).map_or(&[], Vec::as_slice)
    }

    /// Whether a stage's value must stand in a buffer of its own: somebody overwrites or keeps it.
    pub fn touches(&self, stage: Stage) -> bool {
        self.writes.contains_key(&stage) || self.keeps.contains_key(&stage)
    }
}

/// Tables for one chunk.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// First layer.
    pub start: usize,
    /// Token ids of the computed rows of the input.
    pub tokens: Vec<u32>,
    /// Positions of the same.
    pub positions: Vec<u32>,
    /// Rows that enter layer `start`.
    pub input: RowTable,
    /// The input's overwrites and keeps: the embeddings and [`Stage::BlockInput`].
    pub input_tables: LayerTables,
    /// Layers from `start` on.
    pub layers: Vec<LayerTables>,
    /// Rows that are read out: last layer's output.
    pub readout: Vec<Ref>,
    /// The final layer norm's overwrites and keeps.
    pub final_tables: LayerTables,
    /// Which run (index in the chunk) and position each readout row belongs to.
    pub readout_of: Vec<(u32, u32)>,
    /// Constants that overwrites read.
    pub constants: Vec<f64>,
}

/// Mean activations, by the text that names the prompts, stage and layer: one row each.
pub type Means = HashMap<(String, Stage, usize), Vec<f64>>;

/// A run that is packed.
pub struct Packed<'a> {
    /// Its light cone.
    pub cone: &'a Cone,
    /// Its cells.
    pub cells: &'a [Cell],
    /// Token ids of its base prompt.
    pub ids: &'a [u32],
    /// Row of its base's position 0 in the trace; for a clean run, its own rows there.
    pub offset: usize,
    /// Row of its source's position 0 in the trace.
    pub source_offset: usize,
}

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
    /// Whether the runs are clean runs whose rows are kept.
    clean: bool,
    chunk: Chunk,
    constant_offsets: HashMap<(*const f64, usize), usize>,
}

impl<'a> Builder<'a> {
    /// A builder over a trace.
    pub fn new(config: &'a Config, layout: &'a TraceLayout, means: &'a Means, clean: bool) -> Self {
        Self {
            config,
            layout,
            means,
            clean,
            chunk: Chunk::default(),
            constant_offsets: HashMap::new(),
        }
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
                let write = self.write(cell, run, row);
                tables.head_inputs[group].2.writes.push(write);
            }
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
        let mut writes = Vec::new();
        for (i, run) in runs.iter().enumerate() {
            for cell in at(run, layer, stage) {
                if let Some(row) = slots.get(i, cell.position).filter(|row| *row < rows) {
                    writes.push(self.write(cell, run, row));
                }
            }
        }
        if !writes.is_empty() {
            tables.writes.insert(stage, writes);
        }
        if !self.clean {
            return;
        }
        if let Some(&slot) = self.layout.slots.get(&(stage, layer)) {
            let mut keep = Keep {
                slot,
                ..Keep::default()
            };
            for (i, run) in runs.iter().enumerate() {
                for p in 0..run.ids.len() {
                    if let Some(row) = slots.get(i, p) {
                        keep.from.push(row as u32);
                        keep.to.push((run.offset + p) as u32);
                    }
                }
            }
            tables.keeps.insert(stage, keep);
        }
    }

    fn write(&mut self, cell: &Cell, run: &Packed<'_>, row: usize) -> Write {
        let operand = match &cell.value {
            Value::None => Operand::None,
            Value::Clean {
                origin,
                stage,
                layer,
                position,
                head,
                column,
            } => {
                let offset = match origin {
                    crate::patch::Origin::Base => run.offset,
                    crate::patch::Origin::Source => run.source_offset,
                };
                Operand::Kept {
                    slot: self.layout.slots[&(*stage, *layer)],
                    row: offset + position,
                    column: head * self.layout.key_stride() + column,
                }
            }
            Value::Constant(values, offset) => {
                Operand::Constant(self.constant(&values[*offset..*offset + cell.length]))
            }
            Value::Mean {
                over,
                stage,
                layer,
                column,
            } => {
                let means = self.means;
                let mean = &means[&(over.label.clone(), *stage, *layer)];
                Operand::Constant(self.constant(&mean[*column..column + cell.length]))
            }
        };
        Write {
            row,
            head: cell.head,
            column: cell.column,
            length: cell.length,
            op: cell.op,
            operand,
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
