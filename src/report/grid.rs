//! The means of what falls into one cell of a heat map, as rows come.

use std::collections::HashMap;

use super::ReportError;
use super::heatmap::Facet;
use super::places::{CellAt, CellPlaces, FacetOf};
use crate::results::clean::CleanMetrics;
use crate::results::moments::Moments;
use crate::results::recovery::{LevelColumn, LevelMeans};
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

/// What a facet shows: a component (all of them where they share one), an operator and a target, by their
/// indices.
type Of = (Option<usize>, usize, usize);

/// The rows so far, as means. A pair's rows come together, and so do a run's.
pub(super) struct CellMeans {
    shown: Shown,
    /// Whether less what it is in the base prompt.
    change: bool,
    /// Whether some base prompt's is not known.
    pub baseless: bool,
    /// Whether a value is one of the whole run, which needs one facet and not one a target: all are, of
    /// a metric.
    pub whole_run: bool,
    first_value: u64,
    pub places: CellPlaces,
    cells: HashMap<(FacetOf, CellAt), CellValues>,
    /// The same without heads, while there are not several.
    headless: HashMap<(FacetOf, CellAt), CellValues>,
    /// The clean base and source of a facet.
    clean: HashMap<Of, (Moments, Moments)>,
    /// What is shown, if headlight knows it.
    levels: Option<LevelColumn>,
    /// Whether it is a recovery of which some pair's clean prompts are not known.
    pub unweighted: bool,
}

impl CellMeans {
    /// No rows yet, of tables with these metrics, of which `value` is shown, or its `change` from the base.
    pub fn new(metrics: &[String], (value, change): (&str, bool)) -> Result<Self, ReportError> {
        let shown = Shown::named(metrics, value)?;
        Ok(Self {
            shown,
            change,
            baseless: false,
            whole_run: matches!(shown, Shown::Metric(_)),
            first_value: 0,
            places: CellPlaces::default(),
            cells: HashMap::new(),
            headless: HashMap::new(),
            clean: HashMap::new(),
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

    /// Adds a row, whose pair's clean prompts have these levels of what is shown.
    pub fn add(&mut self, row: &Row, clean: &CleanMetrics) {
        let mut value = self.shown.of(row);
        let placed = self.places.add(row);
        if self.places.index == 0 {
            self.first_value = value.to_bits();
        }
        self.whole_run &= value.to_bits() == self.first_value;
        let Some((of, at)) = placed else { return };
        let levels = self
            .levels
            .map(|column| column.levels(row, self.places.index, clean));
        let levels = levels.filter(|levels| !levels.base.is_nan());
        let recovery = self.is_recovery();
        if self.change && !recovery {
            match levels {
                Some(levels) => value -= levels.base,
                None => self.baseless = true,
            }
        }
        self.unweighted |= recovery && levels.is_none();
        let add = |cell: &mut CellValues| {
            cell.values.add(value);
            levels
                .into_iter()
                .filter(|_| recovery)
                .for_each(|x| cell.levels.add(x));
        };
        add(self.cells.entry((of, at)).or_default());
        if self.places.side_by_side() {
            self.headless.clear();
        } else {
            let (layer, stand, _) = at;
            add(self.headless.entry((of, (layer, stand, None))).or_default());
        }
        // where a recovery begins and ends is known, whether or not this pair's base and source differ
        let from = if self.change { 1.0 } else { 0.0 };
        let base = levels.map(|levels| match recovery {
            true => 0.0,
            false => levels.base - from * levels.base,
        });
        let source = levels.filter(|levels| !levels.source.is_nan());
        let source = source.map(|levels| match recovery {
            true => 1.0,
            false => levels.source - from * levels.base,
        });
        let (component, op, target) = of;
        for of in [(Some(component), op, target), (None, op, target)] {
            let clean = self.clean.entry(of).or_default();
            base.into_iter().for_each(|x| clean.0.add(x));
            source.into_iter().for_each(|x| clean.1.add(x));
        }
    }

    /// What the facets of a target are called, by its index; `value` where there is one for all.
    pub fn targets(&self, value: &str) -> Vec<String> {
        match self.whole_run {
            true => vec![value.to_owned()],
            false => self.places.targets(),
        }
    }

    /// The facet of an operator and a target, by their indices, and of these components, which share its rows
    /// and columns with their other facets, whether or not each has them all; and how many values its
    /// fullest cell averages.
    pub fn facet(
        &self,
        (share, op, target): (&[usize], usize, usize),
        title: &str,
    ) -> Option<(Facet, u32)> {
        let whole = share.len() == self.places.components.len();
        let of = (Some(share[0]).filter(|_| !whole), op, target);
        let clean = self.clean.get(&of)?;
        let known = match self.places.side_by_side() {
            true => &self.cells,
            false => &self.headless,
        };
        let axes = known.keys().map(|((component, ..), at)| (*component, at));
        let axes = self.places.axes(share, axes);
        let mut cells: Vec<CellValues> = Vec::new();
        for (layer, component) in &axes.rows {
            for stand in &axes.stands {
                cells.extend(axes.heads.iter().map(|head| {
                    let at = (*layer, *stand, *head);
                    let cell = known.get(&((*component, op, target), at));
                    cell.copied().unwrap_or_default()
                }));
            }
        }
        let shown = |moments: &Moments| Some(moments.shown()).filter(|x| !x.is_nan());
        let known = |x: &f64| !x.is_nan();
        let facet = Facet {
            title: title.to_owned(),
            base: shown(&clean.0),
            source: shown(&clean.1),
            rows: self.places.row_labels(share, &axes),
            groups: self.places.groups(&axes),
            cells: cells
                .iter()
                .map(|cell| Some(cell.shown()).filter(known))
                .collect(),
        };
        let most = cells.iter().map(|cell| cell.values.values()).max();
        Some((facet, most.unwrap_or(0)))
    }
}
