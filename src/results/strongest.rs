//! The rows that move a target most.

use crate::files::error::FileError;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::Row;

/// The rows whose probability is furthest from the clean base prompt's, strongest first; equal ones in the
/// order in which they came. Only so many are kept.
#[derive(Debug, Clone)]
pub struct Strongest {
    most: usize,
    rows: Vec<Row>,
    by: fn(&Row) -> f64,
}

/// How far a row's target was moved.
fn moved(row: &Row) -> f64 {
    (row.prob - row.base_prob).abs()
}

/// A row's first metric, whatever its sign.
fn scored(row: &Row) -> f64 {
    row.metrics.first().map_or(0.0, |score| score.abs())
}

impl Strongest {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            rows: Vec::new(),
            by: moved,
        }
    }

    /// At most so many of those whose first metric is largest, whatever its sign.
    pub fn by_score(most: usize) -> Self {
        Self {
            by: scored,
            ..Self::new(most)
        }
    }

    /// Adds a row, if it moved its target and more than others do.
    pub fn add(&mut self, row: &Row) {
        let change = (self.by)(row);
        if change > 0.0 {
            let before = |other: &Row| (self.by)(other).total_cmp(&change).is_ge();
            let at = self.rows.partition_point(before);
            if at < self.most {
                self.rows.truncate(self.most - 1);
                self.rows.insert(at, row.clone());
            }
        }
    }

    /// Those so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Gather for Strongest {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        result.rows.iter().for_each(|row| self.add(row));
        Ok(())
    }
}
