//! From a run's patches to single edits: one operator on one stretch of columns of one row.
//!
//! A patch says "heads 0 and 3 at positions 2 and 4"; what is overwritten is four stretches of a
//! buffer. Edits carry everything that the light cone and the overwrite kernels need and nothing
//! about names, so that the rest of the planner has a single shape to deal with.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::basis::Basis;
use crate::function::Function;
use crate::model::Config;
use crate::patch::{MeanOver, Op, Origin, Patch};
use crate::plan::noise::{OfPrompt, noise};
use crate::site::{Stage, columns, kept, layer_of, stretches};

/// Which place of which clean run a value is read from. Resolved to a buffer when rows are known.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// The operator reads nothing.
    None,
    /// The activation of a clean run, or of another run of the pair.
    Read(Read),
    /// A constant: the edit's length of values starting at the offset; in a basis, one for each
    /// coordinate.
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
        /// Where means are position by position: how many tokens the patched prompt has, and which of them this is.
        at: Option<(usize, usize)>,
    },
}

/// Mean activations: by the text that names the prompts, then by stage and layer.
pub type Means = HashMap<String, HashMap<(Stage, usize), MeanRows>>;

/// Means of one activation: a row over all positions, or for prompts of each length a row a position.
#[derive(Debug, Clone, PartialEq)]
pub enum MeanRows {
    /// Over all positions of all prompts.
    Whole(Vec<f64>),
    /// By the prompts' length, `[length, width]`.
    ByPosition(HashMap<usize, Vec<f64>>),
}

impl MeanRows {
    /// The row that stands for a place; of means over all positions the one that there is.
    fn row(&self, at: Option<(usize, usize)>) -> &[f64] {
        match (self, at) {
            (Self::Whole(row), _) => row,
            (Self::ByPosition(all), Some((length, position))) => {
                let rows = &all[&length];
                let width = rows.len() / length;
                &rows[position * width..][..width]
            }
            (Self::ByPosition(_), None) => &[],
        }
    }
}

/// Where an activation is read, from one number of its row on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Whose run.
    pub origin: Origin,
    /// Kept under this stage (see [`kept`]) ...
    pub stage: Stage,
    /// ... and layer.
    pub layer: usize,
    /// Row.
    pub position: usize,
    /// Head, for scores and pattern, whose rows are head by key; 0 elsewhere.
    pub head: usize,
    /// First column (first key for scores and pattern).
    pub column: usize,
}

/// What an edit does to the value standing there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EditOp {
    /// s
    Set,
    /// This number.
    Fill(f64),
    /// b + s
    Add,
    /// b − s
    Subtract,
    /// x · b
    Scale(f64),
    /// b + α(s − b)
    Interpolate(f64),
}

/// On what an edit's operator acts.
#[derive(Debug, Clone, PartialEq)]
pub enum Space {
    /// The stretch's own numbers.
    Row,
    /// Coordinates of a basis as wide as the stretch: these, ascending, or all.
    Basis(Arc<Basis>, Option<Arc<[usize]>>),
    /// Columns of the stretch, in this order, or all, which go through a function. It stands in the
    /// operator's place, and the edit's own is not looked at.
    Function(Function, Option<Arc<[usize]>>),
}

impl EditOp {
    /// Whether the result does not depend on the value that stood there.
    pub fn replaces(self) -> bool {
        matches!(self, EditOp::Set | EditOp::Fill(_))
    }
}

/// One operator on one stretch of columns of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
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
    pub op: EditOp,
    /// With what.
    pub value: Value,
    /// On what.
    pub space: Space,
}

impl Edit {
    /// Whether what stands there afterwards does not depend on what stood there, in any column.
    pub fn replaces(&self) -> bool {
        self.op.replaces() && self.space == Space::Row
    }

    /// The numbers that it writes, if they stand in no cache: as many as it has columns, or coordinates.
    pub fn numbers<'e>(&'e self, means: &'e Means) -> Option<&'e [f64]> {
        match &self.value {
            Value::None | Value::Read(_) => None,
            Value::Constant(values, offset) => {
                let length = match &self.space {
                    Space::Basis(basis, _) => basis.coordinates(),
                    _ => self.length,
                };
                Some(&values[*offset..][..length])
            }
            Value::Mean {
                over,
                stage,
                layer,
                column,
                at,
            } => {
                let mean = means[&over.key()][&(*stage, *layer)].row(*at);
                Some(&mean[*column..][..self.length])
            }
        }
    }

    /// Whether the edit changes no bit where the value that it reads equals the one that stands.
    pub fn is_undone_by_equality(&self) -> bool {
        match &self.space {
            Space::Row => self.op.replaces(),
            Space::Basis(basis, _) => {
                let read = matches!(self.value, Value::Read(_));
                basis.is_by_difference() && self.op == EditOp::Set && read
            }
            Space::Function(..) => false,
        }
    }
}

/// A run's edits in the order in which they act: by layer, stage, row and head, then as listed.
///
/// `ids`, the tokens of the prompt that is patched, seed noise. Patches must have passed
/// [`crate::execute::check`]. Edits that change nothing by their own definition (α = 0, a factor of 1, a
/// level of 0) are left out.
pub fn edits(patches: &[Patch], ids: &[u32], config: &Config) -> Vec<Edit> {
    let mut edits = Vec::new();
    let prompt = OnceCell::new();
    let prompt = || *prompt.get_or_init(|| OfPrompt::of(ids));
    for patch in patches {
        for stage in patch.component.written() {
            push(patch, stage, (&prompt, ids.len()), config, &mut edits);
        }
    }
    edits.sort_by_key(|c| (c.layer, c.stage, c.position, c.head));
    edits
}

/// Whether a patch has any edits, as far as it can be said without listing them.
pub fn acts(patch: &Patch) -> bool {
    // a basis that decodes whole leaves the row's reconstruction, even if no coordinate changes
    let rewrites = patch.basis.as_ref().is_some_and(|b| !b.is_by_difference());
    let some = match patch.op {
        Op::Collect => false,
        Op::Interpolate(0.0) | Op::Scale(1.0) | Op::Noise { level: 0.0, .. } => rewrites,
        _ => true,
    };
    let seen = |keys: &Vec<usize>| {
        let first = keys.iter().min();
        first.is_some_and(|first| patch.positions.iter().any(|query| first <= query))
    };
    let has_keys = patch.component.has_keys();
    some && (!has_keys || patch.keys.as_ref().is_none_or(seen))
}

fn push(
    patch: &Patch,
    stage: Stage,
    (prompt, length_of_prompt): (&dyn Fn() -> OfPrompt, usize),
    config: &Config,
    edits: &mut Vec<Edit>,
) {
    let component = patch.component;
    let layer = layer_of(component, patch.layer, config);
    let source_layer = layer_of(component, patch.source_layer.or(patch.layer), config);
    let heads: &[usize] = if component.has_heads() {
        &patch.heads
    } else {
        &[0]
    };
    let head_columns = matches!(stage, Stage::Query | Stage::Key | Stage::Value | Stage::Z)
        && component.has_heads();
    let (kept_stage, kept_layer) = kept(patch.read_component().stage(), source_layer);
    if !acts(patch) {
        return;
    }
    let op = match patch.op {
        Op::Collect => return,
        Op::Interchange | Op::Skip | Op::Set(_) | Op::Mean(_) | Op::Interpolate(1.0) => EditOp::Set,
        Op::Zero => EditOp::Fill(0.0),
        Op::Knockout => EditOp::Fill(f64::NEG_INFINITY),
        // coordinates are moved towards constants of their own
        Op::Fill(_) if patch.basis.is_some() => EditOp::Set,
        Op::Fill(x) => EditOp::Fill(x),
        Op::Add(_) | Op::Noise { .. } | Op::Function(_) => EditOp::Add,
        Op::Subtract(_) => EditOp::Subtract,
        Op::Scale(x) => EditOp::Scale(x),
        Op::Interpolate(alpha) => EditOp::Interpolate(alpha),
    };
    // what a head adds is written as the z that it is made of
    let width = match component.is_made_of_z() {
        true => config.head_width(),
        false => columns(component, config),
    };
    let (space, runs) = space(patch, width);
    for (i, &position) in patch.positions.iter().enumerate() {
        let from_position = patch.source_positions.as_ref().map_or(position, |s| s[i]);
        for (j, &head) in heads.iter().enumerate() {
            let from_head = patch.source_heads.as_ref().map_or(head, |s| s[j]);
            let at = |h: usize| if head_columns { h * width } else { 0 };
            // keys count from the row's start, columns from the head's
            let (start, stretches) = if component.has_keys() {
                (0, key_stretches(patch.keys.as_deref(), position))
            } else {
                (at(head), runs.clone())
            };
            for (first, length) in stretches {
                let column = start + first;
                let value = match &patch.op {
                    Op::Fill(x) if let Space::Basis(basis, _) = &space => {
                        Value::Constant(vec![*x; basis.coordinates()].into(), 0)
                    }
                    Op::Zero | Op::Fill(_) | Op::Knockout | Op::Scale(_) | Op::Collect => {
                        Value::None
                    }
                    Op::Function(function) if !function.reads_source() => Value::None,
                    Op::Function(_)
                    | Op::Interchange
                    | Op::Skip
                    | Op::Interpolate(_)
                    | Op::Add(None)
                    | Op::Subtract(None) => Value::Read(Read {
                        origin: patch.origin,
                        stage: kept_stage,
                        layer: kept_layer,
                        position: from_position,
                        head: if component.has_keys() { from_head } else { 0 },
                        column: if component.has_keys() {
                            column
                        } else {
                            at(from_head) + first
                        },
                    }),
                    // a constant's row is one head's, or has those of every head side by side
                    Op::Set(v) | Op::Add(Some(v)) | Op::Subtract(Some(v)) => {
                        let row = v.values.len() / v.rows;
                        let whole = patch.basis.is_none()
                            && head_columns
                            && row == config.width
                            && width != config.width;
                        let own = if v.rows > 1 { i * row } else { 0 };
                        let skip = if whole { at(head) } else { 0 };
                        Value::Constant(v.values.clone(), own + skip + first)
                    }
                    Op::Mean(over) => Value::Mean {
                        over: over.clone(),
                        stage: kept_stage,
                        layer: kept_layer,
                        column: at(from_head) + first,
                        at: over.by_position.then_some((length_of_prompt, position)),
                    },
                    Op::Noise {
                        level,
                        seed,
                        sample,
                    } => {
                        let key = (
                            *seed,
                            prompt(),
                            component,
                            patch.layer,
                            head,
                            position,
                            *sample,
                        );
                        // column i of the vector takes draw i, whichever columns or keys are touched
                        let draws = match &space {
                            Space::Basis(basis, _) => basis.coordinates(),
                            _ => first + length,
                        };
                        Value::Constant(noise(key, *level, draws).into(), first)
                    }
                };
                edits.push(Edit {
                    layer,
                    stage,
                    position,
                    // a head of q, k, v or z is columns of the row that all heads share
                    head: if component.has_heads() && !head_columns {
                        head
                    } else {
                        0
                    },
                    column,
                    length,
                    op,
                    value,
                    space: space.clone(),
                });
            }
        }
    }
}

/// On what a patch's edits act, and the stretches of a row (of one head) of `width` numbers that get an
/// edit each.
fn space(patch: &Patch, width: usize) -> (Space, Vec<(usize, usize)>) {
    let whole = vec![(0, width)];
    match (&patch.basis, &patch.op) {
        (Some(basis), _) => {
            let picks = patch.columns.as_ref().map(|columns| {
                let mut picks = columns.clone();
                picks.sort_unstable();
                picks
            });
            let some = picks.filter(|picks| picks.len() < basis.coordinates());
            (Space::Basis(basis.clone(), some.map(Arc::from)), whole)
        }
        (None, Op::Function(function)) => {
            let picks = patch.columns.as_deref().map(Arc::from);
            (Space::Function(function.clone(), picks), whole)
        }
        (None, _) => match &patch.columns {
            Some(columns) => (Space::Row, stretches(columns.iter().copied())),
            None => (Space::Row, whole),
        },
    }
}

/// Keys as stretches of neighbours, within the mask: `(first key, how many)`.
fn key_stretches(keys: Option<&[usize]>, query: usize) -> Vec<(usize, usize)> {
    let Some(keys) = keys else {
        return vec![(0, query + 1)];
    };
    stretches(keys.iter().copied().filter(|k| *k <= query))
}
