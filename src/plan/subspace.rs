//! On what part of a row, and in which coordinates, a patch acts.

use std::sync::Arc;

use crate::patch::{Op, Patch};
use crate::plan::cell::Through;

/// Sorted numbers as stretches of neighbours: `(first, how many)`.
pub fn stretches(numbers: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut sorted: Vec<usize> = numbers.collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for number in sorted {
        match stretches.last_mut() {
            Some((first, length)) if *first + *length == number => *length += 1,
            _ => stretches.push((number, 1)),
        }
    }
    stretches
}

/// Those of `0..end` that no stretch has; `stretches` are sorted and apart.
pub fn rest(stretches: &[(usize, usize)], end: usize) -> Vec<(usize, usize)> {
    let mut rest = Vec::new();
    let mut at = 0;
    for (first, length) in stretches.iter().copied().chain([(end, 0)]) {
        if first > at {
            rest.push((at, first - at));
        }
        at = first + length;
    }
    rest
}

/// Through what a patch's cells act, and the stretches of a row (of one head) of `width` numbers that
/// get a cell each.
pub(super) fn through(patch: &Patch, width: usize) -> (Through, Vec<(usize, usize)>) {
    let whole = vec![(0, width)];
    match (&patch.basis, &patch.op) {
        (Some(basis), _) => {
            let picks = patch.columns.as_ref().map(|columns| {
                let mut picks = columns.clone();
                picks.sort_unstable();
                picks
            });
            let some = picks.filter(|picks| picks.len() < basis.coordinates());
            (Through::Basis(basis.clone(), some.map(Arc::from)), whole)
        }
        (None, Op::Function(function)) => {
            let picks = patch.columns.as_deref().map(Arc::from);
            (Through::Function(function.clone(), picks), whole)
        }
        (None, _) => match &patch.columns {
            Some(columns) => (Through::Row, stretches(columns.iter().copied())),
            None => (Through::Row, whole),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_and_the_rest_make_the_whole() {
        let some = stretches([4, 2, 1, 7, 2].into_iter());
        assert_eq!(some, [(1, 2), (4, 1), (7, 1)]);
        assert_eq!(rest(&some, 9), [(0, 1), (3, 1), (5, 2), (8, 1)]);
        assert_eq!(rest(&some, 8), [(0, 1), (3, 1), (5, 2)]);
        assert_eq!(rest(&[], 3), [(0, 3)]);
        assert_eq!(rest(&[(0, 3)], 3), []);
    }
}
