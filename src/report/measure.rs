//! Which number of a row a picture shows, and what several of one cell come to.

use super::ReportError;
use crate::results::clean::CleanMetrics;
use crate::results::moments::Moments;
use crate::results::recovery::{LevelColumn, LevelMeans, Levels};
use crate::results::table::Row;

/// What falls into one cell.
#[derive(Clone, Copy, Default)]
pub(super) struct CellValues {
    pub values: Moments,
    /// Of a recovery, what the means are made of.
    pub levels: LevelMeans,
}

impl CellValues {
    /// The mean; of several recoveries, that of the means if what they are made of is known.
    pub fn shown(&self) -> f64 {
        match self.levels.means().recovery() {
            of_means if self.values.values() > 1 && !of_means.is_nan() => of_means,
            _ => self.values.shown(),
        }
    }
}

/// What of a facet the clean prompts have.
#[derive(Clone, Copy, Default)]
pub(super) struct CleanValues {
    base: Moments,
    source: Moments,
}

impl CleanValues {
    /// The means of base and source, as far as they are known.
    pub fn shown(&self) -> [Option<f64>; 2] {
        let shown = |moments: &Moments| Some(moments.shown()).filter(|x| !x.is_nan());
        [shown(&self.base), shown(&self.source)]
    }
}

/// Which number of a row is shown.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    Field(fn(&Row) -> f64),
    Metric(usize),
}

impl Shown {
    /// The columns that every result has a number in.
    pub const FIELDS: [(&'static str, Self); 3] = [
        ("prob", Self::Field(|row| row.prob)),
        ("logprob", Self::Field(|row| row.logprob)),
        ("logit", Self::Field(|row| row.logit)),
    ];

    fn named(metrics: &[String], name: &str) -> Result<Self, ReportError> {
        let mut fields = Self::FIELDS.into_iter();
        if let Some((_, field)) = fields.find(|(field, _)| *field == name) {
            return Ok(field);
        }
        match metrics.iter().position(|metric| metric == name) {
            Some(index) => Ok(Self::Metric(index)),
            None => {
                let fixed = Self::FIELDS.map(|(name, _)| name.to_owned()).into_iter();
                let known = fixed.chain(metrics.iter().cloned());
                Err(ReportError::NoSuchValue {
                    name: name.to_owned(),
                    known: known.collect::<Vec<_>>().join(", "),
                })
            }
        }
    }

    pub fn of(self, row: &Row) -> f64 {
        match self {
            Self::Field(get) => get(row),
            Self::Metric(index) => row.metrics.get(index).copied().unwrap_or(f64::NAN),
        }
    }
}

/// A number of the rows that come.
pub(super) struct Measure {
    shown: Shown,
    /// Whether less what it is in the base prompt.
    change: bool,
    /// Whether some base prompt's is not known.
    pub baseless: bool,
    /// Whether a value is one of the whole run, which needs one facet and not one a target: all are, of
    /// a metric.
    pub whole_run: bool,
    first_value: u64,
    /// What is shown, if headlight knows it.
    levels: Option<LevelColumn>,
    /// Whether it is a recovery of which some pair's clean prompts are not known.
    pub unweighted: bool,
}

/// A row's number, and what it is in the clean prompts.
pub(super) struct MeasuredRow {
    value: f64,
    levels: Option<Levels>,
    recovery: bool,
    change: bool,
}

impl Measure {
    /// Of tables with these metrics `value`, or its `change` from the base.
    pub fn new(metrics: &[String], (value, change): (&str, bool)) -> Result<Self, ReportError> {
        let shown = Shown::named(metrics, value)?;
        Ok(Self {
            shown,
            change,
            baseless: false,
            whole_run: matches!(shown, Shown::Metric(_)),
            first_value: 0,
            levels: value
                .parse()
                .ok()
                .and_then(|metric| LevelColumn::of(metric, metrics)),
            unweighted: false,
        })
    }

    /// Whether a recovery is shown.
    pub fn is_recovery(&self) -> bool {
        self.levels.is_some_and(|column| column.metric.recovery)
    }

    /// Sees whether a row, which is of its run's target of this index, has the number that the run's others have.
    pub fn see(&mut self, row: &Row, index: usize) {
        let value = self.shown.of(row).to_bits();
        if index == 0 {
            self.first_value = value;
        }
        self.whole_run &= value == self.first_value;
    }

    /// The number of such a row, whose pair's clean prompts have these levels of what is shown.
    pub fn of(&mut self, row: &Row, index: usize, clean: &CleanMetrics) -> MeasuredRow {
        let mut value = self.shown.of(row);
        let levels = self.levels.map(|column| column.levels(row, index, clean));
        let levels = levels.filter(|levels| !levels.base.is_nan());
        let recovery = self.is_recovery();
        if self.change && !recovery {
            match levels {
                Some(levels) => value -= levels.base,
                None => self.baseless = true,
            }
        }
        self.unweighted |= recovery && levels.is_none();
        MeasuredRow {
            value,
            levels,
            recovery,
            change: self.change,
        }
    }
}

impl MeasuredRow {
    pub fn number(&self) -> f64 {
        self.value
    }

    pub fn add_to(&self, cell: &mut CellValues) {
        cell.values.add(self.value);
        if let (Some(levels), true) = (self.levels, self.recovery) {
            cell.levels.add(levels);
        }
    }

    pub fn add_clean_to(&self, clean: &mut CleanValues) {
        // where a recovery begins and ends is known, whether or not this pair's base and source differ
        let from = if self.change { 1.0 } else { 0.0 };
        let base = self.levels.map(|levels| match self.recovery {
            true => 0.0,
            false => levels.base - from * levels.base,
        });
        let source = self.levels.filter(|levels| !levels.source.is_nan());
        let source = source.map(|levels| match self.recovery {
            true => 1.0,
            false => levels.source - from * levels.base,
        });
        base.into_iter().for_each(|x| clean.base.add(x));
        source.into_iter().for_each(|x| clean.source.add(x));
    }
}
