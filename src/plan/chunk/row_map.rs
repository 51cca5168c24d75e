//! Where the rows of each stage stand: in the chunk's own buffer, or in the cache.

use super::Packed;
use crate::plan::cone::Rows;
use crate::plan::positions::Positions;
use crate::plan::tables::{Ref, RowTable, Sum};

/// Which row of one stage's buffer each (run, position) has.
pub struct RowMap {
    stride: usize,
    rows: Vec<u32>,
}

impl RowMap {
    const NONE: u32 = u32::MAX;

    pub fn get(&self, run: usize, position: usize) -> Option<usize> {
        // a patch may stand after everything that is read: no run has a row there
        if position >= self.stride {
            return None;
        }
        let row = self.rows[run * self.stride + position];
        (row != Self::NONE).then_some(row as usize)
    }

    pub fn set(&mut self, run: usize, position: usize, row: usize) {
        self.rows[run * self.stride + position] = row as u32;
    }
}

/// The runs of a chunk.
#[derive(Clone, Copy)]
pub struct Runs<'r> {
    pub all: &'r [Packed<'r>],
    /// As many positions as the longest run has.
    stride: usize,
}

impl<'r> Runs<'r> {
    pub fn new(all: &'r [Packed<'r>]) -> Self {
        let stride = all.iter().map(|r| r.ids.len()).max().unwrap_or(0);
        Self { all, stride }
    }

    /// A map of no rows.
    pub fn no_rows(self) -> RowMap {
        RowMap {
            stride: self.stride,
            rows: vec![RowMap::NONE; self.all.len() * self.stride],
        }
    }

    /// Visits the rows of one run after the other: index of the run, position.
    pub fn each(self, rows: impl Fn(usize) -> Positions, mut visit: impl FnMut(usize, usize)) {
        for i in 0..self.all.len() {
            rows(i).iter().for_each(|p| visit(i, p));
        }
    }

    /// Gives every row of a stage its place: the computed rows of all runs, then the gathered ones.
    pub fn assign<'c>(self, rows: impl Fn(usize) -> &'c Rows) -> (RowTable, RowMap) {
        let mut map = self.no_rows();
        let mut table = RowTable::default();
        self.each(
            |i| rows(i).computed.clone(),
            |i, p| {
                map.set(i, p, table.computed);
                table.computed += 1;
            },
        );
        self.each(
            |i| rows(i).gathered(),
            |i, p| {
                map.set(i, p, table.len());
                table.gathered.push((self.all[i].offset + p) as u32);
            },
        );
        (table, map)
    }

    /// A run's own row of a stage, or the cache's.
    pub fn reference(self, map: &RowMap, run: usize, position: usize) -> Ref {
        match map.get(run, position) {
            Some(row) => Ref::own(row),
            None => Ref::cached(self.all[run].offset + position),
        }
    }

    /// Where computed rows read the stage before them.
    pub fn rows_of(self, map: &RowMap, rows: impl Fn(usize) -> Positions) -> Vec<u32> {
        let mut list = Vec::new();
        self.each(rows, |i, p| {
            let row = map.get(i, p);
            debug_assert!(row.is_some(), "a computed row reads a row that is nowhere");
            list.push(row.map_or(0, |r| r as u32));
        });
        list
    }

    /// A sum of the residual stream and a branch that has so many computed rows.
    pub fn sum<'c>(
        self,
        rows: impl Fn(usize) -> &'c Rows,
        residual: &RowMap,
        branch: &RowMap,
        branch_computed: usize,
    ) -> (Sum, RowMap) {
        let (table, map) = self.assign(&rows);
        let mut sum = Sum {
            rows: table,
            ..Sum::default()
        };
        self.each(
            |i| rows(i).computed.clone(),
            |i, p| {
                sum.residual.push(self.reference(residual, i, p));
                sum.branch.push(self.reference(branch, i, p));
            },
        );
        sum.aligned = branch_computed == sum.rows.computed
            && sum
                .branch
                .iter()
                .enumerate()
                .all(|(i, b)| *b == Ref::own(i));
        (sum, map)
    }
}
