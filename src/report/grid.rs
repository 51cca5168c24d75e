//! The means of what falls into one cell of a heat map, as rows come.

use std::collections::HashMap;

use super::ReportError;
use super::heatmap::Facet;
use super::measure::{CellValues, CleanValues, Measure};
use super::places::{CellAt, CellPlaces, FacetOf};
use crate::results::clean::CleanMetrics;
use crate::results::table::Row;

/// What a facet shows: a component (all of them where they share one), an operator and a target, by their
/// indices.
type Of = (Option<usize>, usize, usize);

/// The rows so far, as means. A pair's rows come together, and so do a run's.
pub(super) struct CellMeans {
    pub measure: Measure,
    pub places: CellPlaces,
    cells: HashMap<(FacetOf, CellAt), CellValues>,
    /// The same without heads, while there are not several.
    headless: HashMap<(FacetOf, CellAt), CellValues>,
    /// The clean base and source of a facet.
    clean: HashMap<Of, CleanValues>,
}

impl CellMeans {
    /// No rows yet, of tables with these metrics, of which `value` is shown, or its `change` from the base.
    pub fn new(metrics: &[String], of: (&str, bool)) -> Result<Self, ReportError> {
        Ok(Self {
            measure: Measure::new(metrics, of)?,
            places: CellPlaces::default(),
            cells: HashMap::new(),
            headless: HashMap::new(),
            clean: HashMap::new(),
        })
    }

    /// Adds a row, whose pair's clean prompts have these levels of what is shown.
    pub fn add(&mut self, row: &Row, clean: &CleanMetrics) {
        let placed = self.places.add(row);
        self.measure.see(row, self.places.index);
        let Some((of, at)) = placed else { return };
        let measured = self.measure.of(row, self.places.index, clean);
        measured.add_to(self.cells.entry((of, at)).or_default());
        if self.places.side_by_side() {
            self.headless.clear();
        } else {
            let (layer, stand, _) = at;
            measured.add_to(self.headless.entry((of, (layer, stand, None))).or_default());
        }
        let (component, op, target) = of;
        for of in [(Some(component), op, target), (None, op, target)] {
            measured.add_clean_to(self.clean.entry(of).or_default());
        }
    }

    /// What the facets of a target are called, by its index; `value` where there is one for all.
    pub fn targets(&self, value: &str) -> Vec<String> {
        match self.measure.whole_run {
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
        let [base, source] = clean.shown();
        let known = |x: &f64| !x.is_nan();
        let facet = Facet {
            title: title.to_owned(),
            base,
            source,
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
