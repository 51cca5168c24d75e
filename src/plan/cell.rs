//! From a run's patches to single cells: one operator on one stretch of columns of one row.
//!
//! A patch says "heads 0 and 3 at positions 2 and 4"; what is overwritten is four stretches of a
//! buffer. Cells carry everything that the light cone and the overwrite kernels need and nothing
//! about names, so that the rest of the planner has a single shape to deal with.

use std::sync::Arc;

use crate::model::Config;
use crate::patch::{MeanOver, Op, Origin, Patch};
use crate::site::{Component, Stage, Width};

/// Which place of which clean run a value is read from. Resolved to a buffer when rows are known.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// The operator reads nothing.
    None,
    /// A clean run's activation.
    Clean {
        /// Whose run.
        origin: Origin,
        /// Kept under this stage (see [`kept`]) ...
        stage: Stage,
        /// ... and layer.
        layer: usize,
        /// Row.
        position: usize,
        /// Head, for scores and pattern, whose rows are head by key; 0 elsewhere.
        head: usize,
        /// First column (first key for scores and pattern).
        column: usize,
    },
    /// A constant: the cell's length of values starting at the offset.
    Constant(Arc<[f64]>, usize),
    /// The mean of an activation over prompts.
    Mean {
        /// The prompts.
        over: MeanOver,
        /// Kept under this stage ...
        stage: Stage,
        /// ... and layer.
        layer: usize,
        /// First column.
        column: usize,
    },
}

/// What a cell does to the value standing there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CellOp {
    /// s
    Set,
    /// 0
    Zero,
    /// b + s
    Add,
    /// b − s
    Subtract,
    /// x · b
    Scale(f64),
    /// b + α(s − b)
    Interpolate(f64),
}

impl CellOp {
    /// Whether the result does not depend on the value that stood there.
    pub fn replaces(self) -> bool {
        matches!(self, CellOp::Set | CellOp::Zero)
    }
}

/// One operator on one stretch of columns of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Layer; 0 for the embeddings, the number of layers for the final layer norm.
    pub layer: usize,
    /// Where in the layer.
    pub stage: Stage,
    /// Row: the position in the base prompt.
    pub position: usize,
    /// Head, for head inputs, scores and pattern; 0 elsewhere.
    pub head: usize,
    /// First column (first key for scores and pattern).
    pub column: usize,
    /// How many columns.
    pub length: usize,
    /// What is done.
    pub op: CellOp,
    /// With what.
    pub value: Value,
}

/// The stage and layer under which a trace keeps a stage's clean value: head inputs and the MLP's
/// residual input are the residual stream itself, and a layer's output is the next one's input.
pub fn kept(stage: Stage, layer: usize) -> (Stage, usize) {
    match stage {
        Stage::QueryInput | Stage::KeyInput | Stage::ValueInput => (Stage::BlockInput, layer),
        Stage::MlpResidualInput => (Stage::BlockMid, layer),
        Stage::BlockOutput => (Stage::BlockInput, layer + 1),
        other => (other, layer),
    }
}

/// The layer that a component is filed under in computation order.
pub fn layer_of(component: Component, layer: Option<usize>, config: &Config) -> usize {
    match component.stage() {
        Stage::LnFScale | Stage::LnFNormalized | Stage::FinalOutput => config.layers,
        _ => layer.unwrap_or(0),
    }
}

/// Columns of one row of a component (of one head where it has heads); keys are not counted.
pub fn columns(component: Component, config: &Config) -> usize {
    match component.width() {
        Width::One => 1,
        Width::Residual => config.width,
        Width::Head => config.head_width(),
        Width::Inner => config.inner,
        Width::Keys => 0,
    }
}

/// A run's cells in the order in which they act: by layer, stage and row, then as listed.
///
/// `pair` seeds noise. Patches must have passed [`crate::sweep::execute::check`]. Cells that change
/// nothing by their own definition (α = 0, a factor of 1, a level of 0) are left out.
pub fn cells(patches: &[Patch], pair: u32, config: &Config) -> Vec<Cell> {
    let mut cells = Vec::new();
    for patch in patches {
        push(patch, pair, config, &mut cells);
    }
    cells.sort_by_key(|c| (c.layer, c.stage, c.position));
    cells
}

fn push(patch: &Patch, pair: u32, config: &Config, cells: &mut Vec<Cell>) {
    let component = patch.component;
    let stage = component.stage();
    let layer = layer_of(component, patch.layer, config);
    let source_layer = layer_of(component, patch.source_layer.or(patch.layer), config);
    let heads: &[usize] = if component.has_heads() {
        &patch.heads
    } else {
        &[0]
    };
    let head_columns = matches!(stage, Stage::Query | Stage::Key | Stage::Value | Stage::Z)
        && component.has_heads();
    let (kept_stage, kept_layer) = kept(stage, source_layer);
    let op = match patch.op {
        Op::Interpolate(0.0) | Op::Scale(1.0) => return,
        Op::Noise { level: 0.0, .. } => return,
        Op::Interchange | Op::Set(_) | Op::Mean(_) | Op::Interpolate(1.0) => CellOp::Set,
        Op::Zero => CellOp::Zero,
        Op::Add(_) | Op::Noise { .. } => CellOp::Add,
        Op::Subtract(_) => CellOp::Subtract,
        Op::Scale(x) => CellOp::Scale(x),
        Op::Interpolate(alpha) => CellOp::Interpolate(alpha),
    };
    for (i, &position) in patch.positions.iter().enumerate() {
        let from_position = patch.source_positions.as_ref().map_or(position, |s| s[i]);
        for (j, &head) in heads.iter().enumerate() {
            let from_head = patch.source_heads.as_ref().map_or(head, |s| s[j]);
            let width = columns(component, config);
            let at = |h: usize| if head_columns { h * width } else { 0 };
            let stretches = if component.has_keys() {
                key_stretches(patch.keys.as_deref(), position)
            } else {
                vec![(at(head), width)]
            };
            for (column, length) in stretches {
                let value = match &patch.op {
                    Op::Zero | Op::Scale(_) => Value::None,
                    Op::Interchange | Op::Interpolate(_) | Op::Add(None) | Op::Subtract(None) => {
                        Value::Clean {
                            origin: patch.origin,
                            stage: kept_stage,
                            layer: kept_layer,
                            position: from_position,
                            head: if component.has_keys() { from_head } else { 0 },
                            column: if component.has_keys() {
                                column
                            } else {
                                at(from_head)
                            },
                        }
                    }
                    // a constant's row is one head's, or has those of every head side by side
                    Op::Set(v) | Op::Add(Some(v)) | Op::Subtract(Some(v)) => {
                        let row = v.values.len() / v.rows;
                        let whole = head_columns && row == config.width && width != config.width;
                        let first = if v.rows > 1 { i * row } else { 0 };
                        let offset = first + if whole { at(head) } else { 0 };
                        Value::Constant(v.values.clone(), offset)
                    }
                    Op::Mean(over) => Value::Mean {
                        over: over.clone(),
                        stage: kept_stage,
                        layer: kept_layer,
                        column: at(from_head),
                    },
                    Op::Noise {
                        level,
                        seed,
                        sample,
                    } => {
                        let key = (*seed, pair, component, patch.layer, head, position, *sample);
                        // column i of the vector takes draw i, whichever keys are touched
                        let skip = if component.has_keys() { column } else { 0 };
                        Value::Constant(
                            super::noise::noise(key, *level, skip + length).into(),
                            skip,
                        )
                    }
                };
                cells.push(Cell {
                    layer,
                    stage,
                    position,
                    head: if component.has_heads() { head } else { 0 },
                    column,
                    length,
                    op,
                    value,
                });
            }
        }
    }
}

/// Keys as stretches of neighbours, within the mask: `(first key, how many)`.
fn key_stretches(keys: Option<&[usize]>, query: usize) -> Vec<(usize, usize)> {
    let Some(keys) = keys else {
        return vec![(0, query + 1)];
    };
    let mut sorted: Vec<usize> = keys.iter().copied().filter(|k| *k <= query).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for key in sorted {
        match stretches.last_mut() {
            Some((first, length)) if *first + *length == key => *length += 1,
            _ => stretches.push((key, 1)),
        }
    }
    stretches
}
