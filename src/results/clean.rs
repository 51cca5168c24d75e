//! What metrics are in the clean prompts of each pair: beside a table that says what they are in runs, what a
//! change is a change of.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::execute::PairReadouts;
use crate::files::error::FileError;
use crate::prompt::pair::Pair;
use crate::results::metric::{Metric, Quantity, RunReadouts};
use crate::results::rows::{Gather, RunResult};
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

/// Quantities in a pair's clean prompts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CleanMetrics(Vec<(Quantity, CleanLevels)>);

/// JSON has no NaN and no infinity: what is not finite is null there.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect())
}

impl Serialize for CleanMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = self
            .0
            .iter()
            .map(|(quantity, levels)| (quantity.to_string(), levels));
        // in one order, whether it was computed or read
        serializer.collect_map(named.collect::<BTreeMap<_, _>>())
    }
}

impl<'de> Deserialize<'de> for CleanMetrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let named = BTreeMap::<String, CleanLevels>::deserialize(deserializer)?;
        // of a later version's metrics nothing is known here
        let known = named.into_iter().filter_map(|(name, levels)| {
            let metric = name
                .parse::<Metric>()
                .ok()
                .filter(|metric| !metric.recovery)?;
            Some((metric.quantity, levels))
        });
        Ok(Self(known.collect()))
    }
}

impl FromIterator<(Quantity, CleanLevels)> for CleanMetrics {
    fn from_iter<I: IntoIterator<Item = (Quantity, CleanLevels)>>(quantities: I) -> Self {
        Self(quantities.into_iter().collect())
    }
}

impl CleanMetrics {
    /// The quantities of these metrics, each once, in the clean prompts of a pair.
    pub fn of(metrics: &[Metric], pair: &Pair, clean: &PairReadouts) -> Self {
        let mut all = Self::default();
        for quantity in metrics.iter().map(|metric| metric.quantity) {
            if all.get(quantity).is_none() {
                all.0
                    .push((quantity, CleanLevels::of(quantity, pair, clean)));
            }
        }
        all
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub fn get(&self, quantity: Quantity) -> Option<&CleanLevels> {
        let mut known = self.0.iter().filter(|(known, _)| *known == quantity);
        known.next().map(|(_, levels)| levels)
    }

    /// Base and source of the target of this index, of which one number is every target's; NaN for no source.
    pub fn target(&self, quantity: Quantity, index: usize) -> Option<(f64, f64)> {
        let levels = self.get(quantity)?;
        let of = |list: &[f64]| list.get(index).or(list.last()).copied();
        let base = of(&levels.base)?;
        Some((base, of(&levels.source).unwrap_or(f64::NAN)))
    }
}

impl CleanLevels {
    fn of(quantity: Quantity, pair: &Pair, clean: &PairReadouts) -> Self {
        let metric = Metric::plain(quantity);
        let of = |run| {
            let read = RunReadouts {
                pair,
                base: run,
                source: None,
                run,
            };
            (0..metric.values(pair))
                .map(|i| metric.of(&read, i))
                .collect()
        };
        Self {
            base: clean.base.last().map_or(Vec::new(), of),
            source: clean.source.as_ref().map_or(Vec::new(), of),
        }
    }
}

/// What is known of each pair's clean prompts, as runs pass, for a provenance.
#[derive(Default)]
pub struct Cleans(Vec<CleanMetrics>);

impl Cleans {
    /// Adds it to what a provenance says of its pairs, of which the first has this index.
    pub fn fill(&self, made: &mut Provenance, first: usize) {
        let known = self.0.get(first..).unwrap_or_default();
        for (pair, clean) in made.pairs.iter_mut().zip(known) {
            pair.clean.clone_from(clean);
        }
    }
}

impl Gather for Cleans {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        if self.0.len() <= result.pair {
            self.0.resize(result.pair, CleanMetrics::default());
            self.0.push(result.clean.clone());
        }
        Ok(())
    }
}
