//! The places at which a patch changes a metric most.

use crate::files::error::FileError;
use crate::results::averages::Averages;
use crate::results::metric::{Metric, Quantity};
use crate::results::recovery::{LevelColumn, Levels};
use crate::results::rows::{Gather, RunResult};
use crate::results::table::Row;

/// A place, and what a patch there changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Strong {
    /// What is patched, and the target, which means nothing where the metric is of the whole run.
    pub row: Row,
    /// Whether all pairs have that target.
    pub target: bool,
    /// The metric of the clean base prompt, or its mean.
    pub base: f64,
    /// The metric of the run, or its mean.
    pub value: f64,
    /// Over how many pairs these are means.
    pub pairs: Option<u32>,
}

/// The places whose metric is furthest from the clean base prompt's, strongest first; equal ones in the order
/// in which they came. Only so many are kept.
#[derive(Debug, Clone)]
pub struct Strongest {
    most: usize,
    metric: Metric,
    by: By,
    places: Vec<Strong>,
}

/// What rows go by.
#[derive(Debug, Clone, Copy)]
enum By {
    /// How far a metric moved; nothing where rows do not have it.
    Levels(Option<LevelColumn>),
    /// A row's first metric by itself.
    Score,
}

impl Strongest {
    /// At most so many, by the first of the metrics that rows have, else by probability.
    pub fn of(most: usize, metrics: &[Metric]) -> Self {
        let others = metrics.iter().filter(|metric| !metric.is_column());
        let names: Vec<String> = others.map(Metric::to_string).collect();
        let first = metrics.first().copied();
        let metric = first.unwrap_or(Metric::plain(Quantity::Prob));
        Self {
            most,
            metric,
            by: By::Levels(LevelColumn::of(metric, &names)),
            places: Vec::new(),
        }
    }

    /// At most so many of those whose first metric is largest, whatever its sign.
    pub fn by_score(most: usize) -> Self {
        Self {
            by: By::Score,
            ..Self::of(most, &[])
        }
    }

    /// What they go by.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Adds a place with its metric's levels, if that moved, and more than others did.
    pub fn add(&mut self, levels: Levels, place: impl FnOnce(f64, f64) -> Strong) {
        let base = self.metric.at(Levels {
            run: levels.base,
            ..levels
        });
        self.insert(base, self.metric.at(levels), place);
    }

    fn insert(&mut self, base: f64, value: f64, place: impl FnOnce(f64, f64) -> Strong) {
        // a recovery begins at 0, whether or not this pair's base and source differ
        let base = if self.metric.recovery { 0.0 } else { base };
        let change = (value - base).abs();
        if change > 0.0 && change.is_finite() {
            let before = |other: &Strong| other.change().abs().total_cmp(&change).is_ge();
            let at = self.places.partition_point(before);
            if at < self.most {
                self.places.truncate(self.most - 1);
                self.places.insert(at, place(base, value));
            }
        }
    }

    /// Adds the means over pairs.
    pub fn add_means(&mut self, averages: &Averages) {
        let name = self.metric.to_string();
        let mut columns = averages.averaged().iter();
        let Some(i) = columns.position(|column| column.name == name) else {
            return;
        };
        for average in averages.rows() {
            if average.index > 0 && !self.metric.is_of_target() {
                continue;
            }
            self.add(average.levels(i), |base, value| Strong {
                row: Row {
                    target: average
                        .target
                        .as_ref()
                        .map_or("".into(), |(text, _)| text.clone()),
                    ..average.row.clone()
                },
                target: average.target.is_some(),
                base,
                value,
                pairs: Some(average.pairs),
            });
        }
    }

    /// Those so far.
    pub fn places(&self) -> &[Strong] {
        &self.places
    }
}

impl Strong {
    /// How far the metric moved.
    pub fn change(&self) -> f64 {
        self.value - self.base
    }
}

impl Gather for Strongest {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        for (i, row) in result.rows.iter().enumerate() {
            let place = |base, value| Strong {
                row: row.clone(),
                target: true,
                base,
                value,
                pairs: None,
            };
            match self.by {
                By::Score => {
                    let score = row.metrics.first().copied();
                    self.insert(0.0, score.unwrap_or(0.0), place);
                }
                By::Levels(Some(column)) if i == 0 || self.metric.is_of_target() => {
                    self.add(column.levels(row, i, result.clean), place);
                }
                By::Levels(_) => {}
            }
        }
        Ok(())
    }
}
