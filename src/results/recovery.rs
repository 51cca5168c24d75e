//! A quantity of many runs beside their clean prompts', and the recovery that its means are.
//!
//! Over pairs there are two: the mean of each pair's own recovery, which a pair whose base and source hardly
//! differ decides, and the recovery of the means, (mean x − mean base) / (mean source − mean base), which
//! TransformerLens, ARENA and EAP-IG print.

use crate::results::clean::CleanMetrics;
use crate::results::metric::{Metric, Quantity};
use crate::results::moments::whole;
use crate::results::table::Row;

/// A quantity of a run and of its pair's clean prompts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// Of the run.
    pub run: f64,
    /// Of the clean base.
    pub base: f64,
    /// Of the clean source; NaN where there is none.
    pub source: f64,
}

impl Levels {
    /// (run − base) / (source − base): 0 as in the base, 1 as in the source; NaN or infinite where these do not
    /// differ.
    pub fn recovery(self) -> f64 {
        // no negative zero
        (self.run - self.base) / (self.source - self.base) + 0.0
    }
}

/// Sums of levels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LevelMeans {
    count: u32,
    run: f64,
    base: f64,
    source: f64,
}

/// What sums of levels are as numbers: of how many runs, and Σ of what is read of them, of their bases and sources.
pub const LEVELS: [&str; 4] = ["levels", "run_sum", "base_sum", "source_sum"];

impl LevelMeans {
    /// Adds those of a run, unless its own or the base's is not finite.
    pub fn add(&mut self, levels: Levels) {
        if levels.run.is_finite() && levels.base.is_finite() {
            self.count += 1;
            self.run += levels.run;
            self.base += levels.base;
            self.source += levels.source;
        }
    }

    /// The sums of these and then those.
    #[must_use]
    pub fn merge(self, later: Self) -> Self {
        Self {
            count: self.count.saturating_add(later.count),
            run: self.run + later.run,
            base: self.base + later.base,
            source: self.source + later.source,
        }
    }

    /// All of it as numbers, from which [`LevelMeans::of_numbers`] has the same bits again: in the order of [`LEVELS`].
    pub fn numbers(self) -> [f64; LEVELS.len()] {
        [f64::from(self.count), self.run, self.base, self.source]
    }

    /// Sums that were written as numbers; nothing where the count is none.
    pub fn of_numbers([count, run, base, source]: [f64; LEVELS.len()]) -> Option<Self> {
        Some(Self {
            count: whole(count)?,
            run,
            base,
            source,
        })
    }

    /// The means; NaN of nothing.
    pub fn means(self) -> Levels {
        let mean = |sum: f64| sum / f64::from(self.count);
        Levels {
            run: mean(self.run),
            base: mean(self.base),
            source: mean(self.source),
        }
    }
}

/// Where a row has a metric's quantity, and where that begins and ends.
#[derive(Debug, Clone, Copy)]
pub struct LevelColumn {
    /// The metric.
    pub metric: Metric,
    at: At,
}

/// Which number of a row.
#[derive(Debug, Clone, Copy)]
enum At {
    /// The quantity, a column that every result has.
    Field(fn(&Row) -> f64),
    /// The quantity, among the row's metrics.
    Metric(usize),
    /// Its recovery, among them; the quantity is not there.
    Recovery(usize),
}

impl LevelColumn {
    /// A metric of rows whose metrics have these names; `None` where it is not among them.
    pub fn of(metric: Metric, names: &[String]) -> Option<Self> {
        let among = |metric: Metric| {
            let name = metric.to_string();
            names.iter().position(|known| *known == name)
        };
        let at = match metric.quantity {
            Quantity::Prob => At::Field(|row| row.prob),
            Quantity::Logprob => At::Field(|row| row.logprob),
            Quantity::Logit => At::Field(|row| row.logit),
            quantity => match among(Metric::plain(quantity)) {
                Some(at) => At::Metric(at),
                None => At::Recovery(among(metric)?),
            },
        };
        Some(Self { metric, at })
    }

    /// The levels in the row of the target of this index. What is not known is NaN.
    pub fn levels(&self, row: &Row, target: usize, clean: &CleanMetrics) -> Levels {
        let of_row = |prob: f64| match self.metric.quantity {
            Quantity::Prob => prob,
            Quantity::Logprob => prob.ln(),
            _ => f64::NAN,
        };
        let (base, source) = clean.target(self.metric.quantity, target).unwrap_or((
            of_row(row.base_prob),
            row.source_prob.map_or(f64::NAN, of_row),
        ));
        let number = |i: usize| row.metrics.get(i).copied().unwrap_or(f64::NAN);
        let run = match self.at {
            At::Field(get) => get(row),
            At::Metric(i) => number(i),
            At::Recovery(i) => match number(i) {
                // where base and source do not differ, it is known if nothing moved
                share if share.is_nan() && base == source => base,
                share => base + share * (source - base),
            },
        };
        Levels { run, base, source }
    }
}
