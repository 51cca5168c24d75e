//! Which cells write, bit for bit, what the base's trace holds: a patch of such cells is dead where
//! no other patch reaches it.
//!
//! Asked of the backend for a whole batch of runs at once: on a device every question is a wait.

use std::collections::HashMap;

use crate::backend::{Backend, DeviceError, Same, Store, Stretch};
use crate::forward::Traces;
use crate::patch::Origin;
use crate::plan::cell::{Cell, CellOp, Value, kept};
use crate::plan::chunk::Means;
use crate::site::Stage;
use crate::sweep::layout::Place;

/// A stretch of a row: of a kept activation, or of the constants of a store.
#[derive(Clone, Copy)]
enum At {
    Kept {
        stage: Stage,
        layer: usize,
        row: usize,
        column: usize,
    },
    Constant {
        store: Store,
        column: usize,
    },
}

/// Values that cells write and no trace holds, by the type in which they are compared; each once,
/// however many cells write it.
#[derive(Default)]
struct Constants {
    residual: Vec<f64>,
    branch: Vec<f64>,
    /// Where a stretch of memory went: whether it is the residual's, its address and its length.
    known: HashMap<(bool, usize, usize), usize>,
}

impl Constants {
    /// The place of some values, which stay where they are as long as this lives.
    fn push(&mut self, stage: Stage, values: &[f64]) -> At {
        let residual = matches!(Store::of(stage), Store::Residual | Store::Keys);
        let (store, all) = if residual {
            (Store::Residual, &mut self.residual)
        } else {
            (Store::Branch, &mut self.branch)
        };
        let place = (residual, values.as_ptr().addr(), values.len());
        let column = *self.known.entry(place).or_insert_with(|| {
            let column = all.len();
            all.extend_from_slice(values);
            column
        });
        At::Constant { store, column }
    }
}

/// For each cell of each run (with its pair's place), whether it writes what stands there.
///
/// # Errors
///
/// [`DeviceError`] of the comparison, or of what was queued before it.
pub(super) fn dead<B: Backend>(
    backend: &B,
    traces: &Traces<B::Matrix>,
    means: &Means,
    runs: &[(Place, &[Cell])],
) -> Result<Vec<Vec<bool>>, DeviceError> {
    let mut constants = Constants::default();
    let longest = runs.iter().flat_map(|(_, cells)| *cells).map(|c| c.length);
    let zeros = vec![0.0; longest.max().unwrap_or(0)];
    let questions: Vec<Option<(At, At, usize)>> = runs
        .iter()
        .flat_map(|(place, cells)| cells.iter().map(move |cell| (*place, cell)))
        .map(|(place, cell)| {
            let there = there(cell, place, traces)?;
            let written = written(cell, place, traces, (means, &zeros), &mut constants)?;
            Some((written, there, cell.length))
        })
        .collect();
    let upload = |store, values: &[f64]| {
        backend.upload(usize::from(!values.is_empty()), values.len(), store, values)
    };
    let residual = upload(Store::Residual, &constants.residual);
    let branch = upload(Store::Branch, &constants.branch);
    let stretch = |at: At| match at {
        At::Kept {
            stage,
            layer,
            row,
            column,
        } => traces.get(stage, layer).map(|matrix| Stretch {
            matrix,
            row,
            column,
        }),
        At::Constant { store, column } => Some(Stretch {
            matrix: if store == Store::Residual {
                &residual
            } else {
                &branch
            },
            row: 0,
            column,
        }),
    };
    let asked = questions.iter().map(|question| {
        let (written, there, length) = (*question)?;
        Some(Same {
            a: stretch(written)?,
            b: stretch(there)?,
            length,
        })
    });
    let asked: Vec<Option<Same<'_, _>>> = asked.collect();
    let known: Vec<bool> = asked.iter().map(Option::is_some).collect();
    let asked: Vec<Same<'_, _>> = asked.into_iter().flatten().collect();
    let mut answers = backend.same(&asked)?.into_iter();
    let mut same = known
        .into_iter()
        .map(|known| known && answers.next().unwrap_or(false));
    Ok(runs
        .iter()
        .map(|(_, cells)| same.by_ref().take(cells.len()).collect())
        .collect())
}

/// Where the base's own value of a cell stands, if it is kept and equality with it undoes the cell.
fn there<M>(cell: &Cell, place: Place, traces: &Traces<M>) -> Option<At> {
    let layout = &traces.layout;
    let (stage, layer) = kept(cell.stage, cell.layer);
    let base = &layout.prompts[place.base];
    let keys = matches!(cell.stage, Stage::Scores | Stage::Weight);
    let head = if keys {
        cell.head * layout.key_stride()
    } else {
        0
    };
    let known = layout.slots.contains_key(&(stage, layer)) && cell.position < base.ids.len();
    (cell.is_undone_by_equality() && known).then_some(At::Kept {
        stage,
        layer,
        row: base.offset + cell.position,
        column: head + cell.column,
    })
}

/// What such a cell writes, or moves towards.
fn written<M>(
    cell: &Cell,
    place: Place,
    traces: &Traces<M>,
    (means, zeros): (&Means, &[f64]),
    constants: &mut Constants,
) -> Option<At> {
    let layout = &traces.layout;
    match &cell.value {
        Value::None => {
            debug_assert_eq!(cell.op, CellOp::Zero);
            Some(constants.push(cell.stage, &zeros[..cell.length]))
        }
        Value::Constant(values, offset) => {
            Some(constants.push(cell.stage, &values[*offset..][..cell.length]))
        }
        Value::Mean {
            over,
            stage,
            layer,
            column,
        } => {
            let mean = &means[&(over.label.clone(), *stage, *layer)];
            Some(constants.push(cell.stage, &mean[*column..][..cell.length]))
        }
        Value::Clean {
            origin,
            stage,
            layer,
            position,
            head,
            column,
        } => {
            let prompt = match origin {
                Origin::Base => place.base,
                Origin::Source => place.source?,
            };
            Some(At::Kept {
                stage: *stage,
                layer: *layer,
                row: layout.prompts[prompt].offset + position,
                column: head * layout.key_stride() + column,
            })
        }
    }
}
