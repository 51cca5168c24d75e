//! The places at which a patch changes a metric most.

use crate::files::error::FileError;
use crate::results::averages::Averages;
use crate::results::metric::{Metric, Quantity};
use crate::results::recovery::Levels;
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
#[derive(Debug, Clone, PartialEq)]
pub struct Strongest {
    most: usize,
    metric: Metric,
    places: Vec<Strong>,
}

impl Strongest {
    /// At most so many, by this metric.
    pub fn new(most: usize, metric: Metric) -> Self {
        Self {
            most,
            metric,
            places: Vec::new(),
        }
    }

    /// By the first metric that was asked for, else by probability.
    pub fn of(most: usize, metrics: &[Metric]) -> Self {
        let first = metrics.first().copied();
        Self::new(most, first.unwrap_or(Metric::plain(Quantity::Prob)))
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
        let value = self.metric.at(levels);
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
        let Some(i) = averages.metrics().iter().position(|m| *m == self.metric) else {
            return;
        };
        for average in averages.rows() {
            if average.index > 0 && !self.metric.is_of_target() {
                continue;
            }
            self.add(average.levels[i].means(), |base, value| Strong {
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
        let of_target = self.metric.is_of_target();
        let rows = result
            .rows
            .iter()
            .take(if of_target { usize::MAX } else { 1 });
        for (i, row) in rows.enumerate() {
            let levels = self.metric.levels(&result.read, i);
            self.add(levels, |base, value| Strong {
                row: row.clone(),
                target: true,
                base,
                value,
                pairs: None,
            });
        }
        Ok(())
    }
}
