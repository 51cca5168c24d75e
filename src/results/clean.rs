//! What metrics are in the clean prompts of each pair: beside a table that says what they are in runs, what a
//! change is a change of.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::files::error::FileError;
use crate::results::metric::{Metric, Quantity, RunReadouts};
use crate::results::recovery::Levels;
use crate::results::rows::{Gather, PairResult, RunResult};
use crate::results::table::Provenance;

/// A quantity in a pair's clean prompts: of each target where it differs between targets, else one number.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CleanLevels {
    /// In the base.
    #[serde(deserialize_with = "numbers")]
    pub base: Vec<f64>,
    /// In the source; empty where there is none.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "numbers"
    )]
    pub source: Vec<f64>,
}

/// Quantities in a pair's clean prompts, by their names.
pub type CleanMetrics = BTreeMap<String, CleanLevels>;

/// JSON has no NaN and no infinity: what is not finite is null there.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect())
}

impl CleanLevels {
    /// A quantity in the clean prompts of a pair.
    pub fn of(quantity: Quantity, result: &PairResult<'_>) -> Self {
        let metric = Metric::plain(quantity);
        let clean = result.clean;
        let of = |run| {
            let targets = 0..metric.values(result.pair);
            let read = RunReadouts {
                pair: result.pair,
                base: run,
                source: None,
                run,
            };
            targets.map(|i| metric.of(&read, i)).collect()
        };
        Self {
            base: clean.base.last().map_or(Vec::new(), of),
            source: clean.source.as_ref().map_or(Vec::new(), of),
        }
    }

    /// Those of the target of this index, of which one number is every target's; the run's is the base's.
    pub fn target(&self, index: usize) -> Option<Levels> {
        let of = |list: &[f64]| list.get(index).or(list.last()).copied();
        let base = of(&self.base)?;
        Some(Levels {
            run: base,
            base,
            source: of(&self.source).unwrap_or(f64::NAN),
        })
    }
}

/// The quantities of some metrics in each pair's clean prompts, as pairs pass.
#[derive(Default)]
pub struct Cleans {
    quantities: Vec<Quantity>,
    pairs: Vec<CleanMetrics>,
}

impl Cleans {
    /// Those of these metrics.
    pub fn new(metrics: &[Metric]) -> Self {
        Self {
            quantities: metrics.iter().map(|metric| metric.quantity).collect(),
            pairs: Vec::new(),
        }
    }

    /// Adds them to what a provenance says of its pairs.
    pub fn fill(self, made: &mut Provenance) {
        for (pair, clean) in made.pairs.iter_mut().zip(self.pairs) {
            pair.clean = clean;
        }
    }
}

impl Gather for Cleans {
    fn pair(&mut self, result: &PairResult<'_>) -> Result<(), FileError> {
        let quantities = self.quantities.iter();
        let clean = quantities.map(|q| (q.to_string(), CleanLevels::of(*q, result)));
        let clean = clean.collect();
        self.pairs
            .resize(self.pairs.len().max(result.index), CleanMetrics::new());
        self.pairs.push(clean);
        Ok(())
    }

    fn run(&mut self, _: &RunResult<'_>) -> Result<(), FileError> {
        Ok(())
    }
}
