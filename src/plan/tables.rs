//! What the forward pass is told about one chunk of runs: which row of which buffer feeds which.
//!
//! Each stage has one buffer of rows for the whole chunk, the computed rows of all runs first and the
//! gathered ones after them, and each operation gets a table of where its rows read: the run's own
//! row, or the cache's. The forward pass then has no decisions left to take. [`crate::plan::chunk`]
//! fills these in.

use std::collections::HashMap;

use crate::plan::edit::EditOp;
use crate::plan::phase::Phase;
use crate::site::Stage;

/// A row of the chunk's own buffer of a stage, or of the cache's matrix of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Ref(u32);

impl Ref {
    const CACHED: u32 = 1 << 31;

    /// A row of the chunk's own buffer.
    pub fn own(row: usize) -> Self {
        debug_assert!((row as u32) < Self::CACHED);
        Self(row as u32)
    }

    /// A row of the cache.
    pub fn cached(row: usize) -> Self {
        debug_assert!((row as u32) < Self::CACHED);
        Self(row as u32 | Self::CACHED)
    }

    /// `Ok(own row)` or `Err(cache row)`.
    ///
    /// # Errors
    ///
    /// A row of the cache is the `Err`, which is no failure.
    pub fn row(self) -> Result<usize, usize> {
        let row = (self.0 & !Self::CACHED) as usize;
        if self.0 & Self::CACHED == 0 {
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
    /// `slot` of the cache, from (row, column).
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
    pub op: EditOp,
    /// With what.
    pub operand: Operand,
}

/// Rows of one stage's buffer: `computed` of them, then the gathered cache rows.
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

/// Rows to keep of a stage: from row of the buffer, to row of the cache.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Index of the cache's matrix.
    pub slot: usize,
    /// Rows of the buffer.
    pub from: Vec<u32>,
    /// Rows of the cache; [`Self::NOWHERE`] for rows of scores and pattern that nobody reads.
    pub to: Vec<u32>,
}

impl Keep {
    /// No row.
    pub const NOWHERE: u32 = u32::MAX;
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
    /// Writes to the copies, in phases.
    pub writes: Vec<Phase>,
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
    /// Writes by stage, in phases; [`Stage::BlockInput`] is the *next* layer's, which is this one's
    /// `out`.
    pub writes: HashMap<Stage, Vec<Phase>>,
    /// Rows to keep by stage; [`Stage::BlockInput`] likewise.
    pub keeps: HashMap<Stage, Keep>,
}

impl LayerTables {
    /// Writes to a stage, in phases.
    pub fn writes(&self, stage: Stage) -> &[Phase] {
        self.writes.get(&stage).map_or(&[], Vec::as_slice)
    }

    /// Overwrites of scores or pattern, where there are no other writes.
    pub fn overwrites(&self, stage: Stage) -> &[Write] {
        debug_assert!(matches!(stage, Stage::Scores | Stage::Pattern));
        match self.writes(stage) {
            [Phase::Overwrite(writes)] => writes,
            _ => &[],
        }
    }

    /// Whether a stage's value must stand in a buffer of its own: somebody overwrites or keeps it.
    pub fn touches(&self, stage: Stage) -> bool {
        self.writes.contains_key(&stage) || self.keeps.contains_key(&stage)
    }

    /// Whether the attention's output goes straight into the residual stream.
    pub fn attention_output_is_fused(&self) -> bool {
        self.mid.aligned && !self.touches(Stage::AttentionOutput)
    }

    /// Whether the MLP's output goes straight into the residual stream.
    pub fn mlp_output_is_fused(&self) -> bool {
        self.out.aligned && !self.touches(Stage::MlpOutput)
    }

    /// Whether every computed row, and no other, is activated as it is computed.
    pub fn activation_is_fused(&self) -> bool {
        let straight = self.activate.len() == self.mlp_pre.computed
            && self
                .activate
                .iter()
                .copied()
                .eq(0..self.activate.len() as u32);
        straight && self.mlp_pre.gathered.is_empty() && !self.touches(Stage::MlpPre)
    }

    /// Rows of the attention's output that stand in a buffer of their own.
    pub fn attention_output_rows(&self) -> usize {
        let own = !self.attention_output_is_fused();
        if own { self.attention_output.len() } else { 0 }
    }

    /// Rows of the MLP's output that stand in a buffer of their own.
    pub fn mlp_output_rows(&self) -> usize {
        let own = !self.mlp_output_is_fused();
        if own { self.mlp_output.len() } else { 0 }
    }

    /// Rows before the activation that stand in a buffer of their own.
    pub fn mlp_pre_rows(&self) -> usize {
        let own = !self.activation_is_fused();
        if own { self.mlp_pre.len() } else { 0 }
    }

    /// Rows of layer norms that are computed in three parts.
    pub fn split_norm_rows(&self) -> usize {
        let rows = |stages: [Stage; 2], rows: usize| {
            let split = stages.iter().any(|stage| self.touches(*stage));
            if split { rows } else { 0 }
        };
        let first = rows([Stage::Ln1Scale, Stage::Ln1Normalized], self.ln_1.len());
        first.max(rows(
            [Stage::Ln2Scale, Stage::Ln2Normalized],
            self.ln_2.len(),
        ))
    }

    /// Rows of residuals that one head or the MLP alone reads.
    pub fn own_input_rows(&self) -> usize {
        let heads = self
            .head_inputs
            .iter()
            .map(|(_, _, input)| input.input.len());
        let mlp = !self.writes(Stage::MlpResidualInput).is_empty();
        heads
            .max()
            .unwrap_or(0)
            .max(if mlp { self.ln_2.len() } else { 0 })
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
    /// Trace rows of the last layer's output that readouts are compared with; they follow them.
    pub compared: Vec<Ref>,
    /// Which run (index in the chunk) and position each readout row belongs to.
    pub readout_of: Vec<(u32, u32)>,
    /// Constants that overwrites read.
    pub constants: Vec<f64>,
}
