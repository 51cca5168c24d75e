//! Averages over pairs: one row for each place that is patched, over all pairs that have it.
//!
//! Where all pairs have the same runs, as in an experiment, a place is a run. Else runs of different
//! pairs belong together if they patch the same component, layer, head and position (by its name,
//! where it has one, else by its number) in the same way. Targets are taken in order: the first of
//! each pair, the second of each.

use std::collections::HashMap;
use std::sync::Arc;

use crate::execute::{Outcome, PairOutcome};
use crate::prompt::pair::{Pair, PairRuns};
use crate::results::metric::{Metric, Quantity, Reading};
use crate::results::table::{Row, Table};

/// Averages of a result.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// Names of the metrics: prob, logprob and logit, then those asked for.
    pub metrics: Vec<String>,
    /// In the order in which the places first stand in the result.
    pub rows: Vec<Average>,
}

/// One place and target.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Average {
    /// What the rows agree on; `None` where they do not. Numbers of the row mean nothing here.
    pub row: Row,
    /// Index of the target within its pair.
    pub index: u32,
    /// The target and its id, where all pairs have the same.
    pub target: Option<(String, u32)>,
    /// Over how many pairs.
    pub pairs: u32,
    /// Of each metric.
    pub values: Vec<Moments>,
}

/// Mean and spread of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    count: u32,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Adds a value; one that is not finite, as a recovery of nothing, is passed over.
    pub fn add(&mut self, x: f64) {
        if !x.is_finite() {
            return;
        }
        self.count += 1;
        let off = x - self.mean;
        self.mean += off / f64::from(self.count);
        self.squares += off * (x - self.mean);
    }

    /// Values that were finite.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The mean, NaN of nothing.
    pub fn mean(&self) -> f64 {
        if self.count > 0 { self.mean } else { f64::NAN }
    }

    /// Sample standard deviation, √(Σ(x − mean)² / (n − 1)), NaN of fewer than two.
    pub fn deviation(&self) -> f64 {
        if self.count > 1 {
            (self.squares / f64::from(self.count - 1)).sqrt()
        } else {
            f64::NAN
        }
    }

    /// Standard error of the mean: sample deviation / √n, NaN of fewer than two.
    pub fn error(&self) -> f64 {
        self.deviation() / f64::from(self.count).sqrt()
    }
}

/// What rows of different pairs must have in common to be averaged: a run or a place, and the target.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Run(u32, u32),
    Place(Place, u32),
}

/// Name, component, numbers, operator, and all patches where these do not say enough.
type Place = (
    Option<String>,
    Option<String>,
    [Option<u32>; 7],
    Option<String>,
    String,
);

/// Averages that grow by one pair's runs at a time.
#[derive(Default)]
pub struct Averages {
    metrics: Vec<Metric>,
    /// Whether all pairs have the same runs, so that a run is a place.
    shared: bool,
    rows: Vec<Average>,
    known: HashMap<Key, usize>,
}

impl Averages {
    /// Averages of prob, logprob, logit and these metrics, of runs that belong together by what they
    /// patch.
    pub fn new(metrics: &[Metric]) -> Self {
        let fixed = [Quantity::Prob, Quantity::Logprob, Quantity::Logit].map(Metric::plain);
        let others = metrics.iter().filter(|m| !m.is_column());
        Self {
            metrics: fixed.iter().chain(others).copied().collect(),
            ..Self::default()
        }
    }

    /// Adds what was read of a pair; `rows` are those of its runs in a table, which are taken.
    pub fn add<'a>(
        &mut self,
        rows: &mut impl Iterator<Item = &'a Row>,
        pair: &Pair,
        read: &PairOutcome,
    ) {
        let Some(base) = read.base.last() else {
            return;
        };
        for run in read.runs.iter().filter_map(|readouts| readouts.last()) {
            let reading = Reading {
                pair,
                base,
                source: read.source.as_ref(),
                run,
            };
            for index in 0..pair.targets.len() {
                let Some(row) = rows.next() else { break };
                let key = match self.shared {
                    true => Key::Run(row.run, index as u32),
                    false => Key::Place(place(row), index as u32),
                };
                let at = *self.known.entry(key).or_insert_with(|| {
                    self.rows.push(Average {
                        row: row.clone(),
                        index: index as u32,
                        target: Some((row.target.clone(), row.target_id)),
                        values: vec![Moments::default(); self.metrics.len()],
                        ..Average::default()
                    });
                    self.rows.len() - 1
                });
                let average = &mut self.rows[at];
                average.pairs += 1;
                average.agree(row);
                for (value, metric) in average.values.iter_mut().zip(&self.metrics) {
                    value.add(metric.of(&reading, index));
                }
            }
        }
    }

    /// The averages so far.
    pub fn finish(self) -> Summary {
        Summary {
            metrics: self.metrics.iter().map(Metric::to_string).collect(),
            rows: self.rows,
        }
    }
}

/// Averages a result over its pairs. `table` is that of the same pairs and outcome.
pub fn summary(
    table: &Table,
    pairs: &[PairRuns],
    outcome: &Outcome,
    metrics: &[Metric],
) -> Summary {
    let mut averages = Averages::new(metrics);
    averages.shared = pairs
        .windows(2)
        .all(|w| Arc::ptr_eq(&w[0].runs, &w[1].runs));
    let mut rows = table.rows.iter();
    for (PairRuns { pair, .. }, read) in pairs.iter().zip(&outcome.pairs) {
        averages.add(&mut rows, pair, read);
    }
    averages.finish()
}

/// Where a row patches, as far as it is the same in all prompts.
fn place(row: &Row) -> Place {
    // a named position is another number in each prompt
    let at = |position: Option<u32>| position.filter(|_| row.name.is_none());
    // what has no name and no single place is told apart by its text
    let placed = row.position.is_some() && !row.patches.contains("\"keys\"");
    let patches = match row.component.is_some() && (placed || row.name.is_some()) {
        true => String::new(),
        false => row.patches.clone(),
    };
    let numbers = [
        row.layer,
        row.head,
        at(row.position),
        row.source_layer,
        row.source_head,
        at(row.source_position),
        row.sample,
    ];
    let (name, component) = (row.name.clone(), row.component.clone());
    (name, component, numbers, row.op.clone(), patches)
}

impl Average {
    fn agree(&mut self, row: &Row) {
        fn keep<T: PartialEq>(mine: &mut Option<T>, theirs: &Option<T>) {
            if mine != theirs {
                *mine = None;
            }
        }
        keep(&mut self.row.position, &row.position);
        keep(&mut self.row.source_position, &row.source_position);
        keep(&mut self.row.token, &row.token);
        let target = Some((row.target.clone(), row.target_id));
        keep(&mut self.target, &target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn moments_are_those_of_the_definition(values in proptest::collection::vec(-1e3..1e3f64, 2..40)) {
            let mut moments = Moments::default();
            moments.add(f64::NAN);
            values.iter().for_each(|x| moments.add(*x));
            moments.add(f64::INFINITY);
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
            prop_assert!((moments.mean() - mean).abs() < 1e-9);
            prop_assert!((moments.deviation() - variance.sqrt()).abs() < 1e-9);
            prop_assert!((moments.error() - (variance / n).sqrt()).abs() < 1e-9);
            prop_assert_eq!(moments.count() as usize, values.len());
        }
    }

    #[test]
    fn nothing_has_no_mean_and_one_value_no_error() {
        let mut moments = Moments::default();
        assert!(moments.mean().is_nan());
        moments.add(3.0);
        assert_eq!(moments.mean(), 3.0);
        assert!(moments.error().is_nan());
    }
}
