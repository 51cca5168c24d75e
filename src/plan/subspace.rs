//! On what part of a row, and in which coordinates, a patch acts.

use std::sync::Arc;

use crate::patch::{Op, Patch};
use crate::plan::edit::Space;
use crate::site::stretches;

/// Space what a patch's edits act, and the stretches of a row (of one head) of `width` numbers that
/// get an edit each.
pub(super) fn through(patch: &Patch, width: usize) -> (Space, Vec<(usize, usize)>) {
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
