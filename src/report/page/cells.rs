//! The page of a sweep: the grids that a heat map has, with every column and every pair in them.

use std::collections::{HashMap, HashSet};

use super::Page;
use super::about::{About, FacetAbout, GroupAbout, Made, PageKind, RowAbout, first_shown, title};
use super::again::CellRuns;
use super::columns::{ColumnMeans, ColumnNumbers};
use crate::files::error::FileError;
use crate::report::ReportError;
use crate::report::heatmap::{COMPONENTS_IN_A_FACET, notes, recovery_note};
use crate::report::labels::site_label;
use crate::report::places::{CellAt, CellPlaces, FacetPlan};
use crate::results::clean::CleanMetrics;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Provenance, Row};

/// What a place is of, whatever the target: component and operator.
type SiteOf = (usize, usize);

/// A page of cells in the making.
pub struct CellPage {
    most_together: usize,
    places: CellPlaces,
    known: HashMap<(SiteOf, CellAt), usize>,
    columns: ColumnMeans,
    runs: CellRuns,
    /// Components and operators of which there are cells.
    sites: HashSet<SiteOf>,
}

impl CellPage {
    /// Nothing yet, of tables with these metrics.
    pub fn new(metrics: &[String]) -> Self {
        Self {
            most_together: COMPONENTS_IN_A_FACET,
            places: CellPlaces::default(),
            known: HashMap::new(),
            columns: ColumnMeans::new(metrics),
            runs: CellRuns::default(),
            sites: HashSet::new(),
        }
    }

    /// With a grid for each component, however few there are.
    pub(super) fn by_component(self) -> Self {
        Self {
            most_together: 1,
            ..self
        }
    }

    /// Adds a row, whose pair's clean prompts have these metrics.
    pub(super) fn add(&mut self, row: &Row, clean: &CleanMetrics) {
        let Some(((component, op, target), at)) = self.places.add(row) else {
            return;
        };
        let of = (component, op);
        let next = self.known.len();
        let cell = *self.known.entry((of, at)).or_insert(next);
        if cell == next {
            self.sites.insert(of);
        }
        // every target of a run has its patches
        if target == 0 {
            self.runs.add(cell, row);
        }
        self.columns.add(cell, target, row, clean);
    }

    /// The page of all rows that came, of results made in this way.
    ///
    /// # Errors
    ///
    /// As [`Page::new`].
    pub fn finish(self, made: &Provenance) -> Result<Page, ReportError> {
        let Self {
            most_together,
            places,
            mut known,
            columns,
            mut runs,
            sites,
        } = self;
        places.check()?;
        if !places.side_by_side() {
            // one head, or none: nothing stands side by side
            let cells = known.into_iter();
            known = cells
                .map(|((of, (layer, stand, _)), cell)| ((of, (layer, stand, None)), cell))
                .collect();
        }
        let plan = places.plan(most_together);
        let mut order = Vec::new();
        let mut facets = Vec::new();
        for share in &plan.shares {
            for &op in &plan.ops {
                if share.iter().any(|c| sites.contains(&(*c, op))) {
                    facets.push(facet((&places, &plan), (share, op), &known, &mut order));
                }
            }
        }
        let most = columns.most as usize;
        let unweighted = columns.unweighted;
        let mut notes = notes(&places, &plan, most);
        let ColumnNumbers {
            values,
            mut views,
            stride,
            numbers,
            notes: more,
        } = columns.finish(&order, made);
        let first = views.iter().find_map(|view| view.pair);
        for facet in &mut facets {
            let count = facet.rows.len() * facet.groups.len() * facet.heads.len();
            let own = runs.of(&order[facet.offset..][..count], first.unwrap_or(0));
            facet.runs = match own.iter().all(|run| *run == own[0]) {
                true => own[..1].to_vec(),
                false => own,
            };
        }
        for view in &mut views {
            if let (Some(asked), Some(pair)) = (&mut view.asked, view.pair) {
                asked.stands = runs.stands(pair);
            }
        }
        if most > 1 && values.iter().any(|value| value.recovery) {
            notes.push(recovery_note(unweighted));
        }
        notes.extend(more);
        let about = About {
            kind: PageKind::Cells,
            title: title(made, &places),
            notes,
            made: Made::of(made),
            shown: first_shown(&values),
            values,
            targets: places.targets(),
            views,
            runs: runs.templates(),
            facets,
            graph: None,
            cells: order.len(),
            stride,
        };
        Ok(Page { about, numbers })
    }
}

/// A grid, whose cells go to the end of the order.
fn facet(
    (places, plan): (&CellPlaces, &FacetPlan),
    (share, op): (&[usize], usize),
    known: &HashMap<(SiteOf, CellAt), usize>,
    order: &mut Vec<Option<usize>>,
) -> FacetAbout {
    let axes = known.keys().map(|((component, _), at)| (*component, at));
    let axes = places.axes(share, axes);
    let offset = order.len();
    for (layer, component) in &axes.rows {
        for stand in &axes.stands {
            order.extend(axes.heads.iter().map(|head| {
                let at = (*layer, *stand, *head);
                known.get(&((*component, op), at)).copied()
            }));
        }
    }
    let labels = places.row_labels(share, &axes);
    let row = |((layer, component), label): (&(Option<u32>, usize), String)| RowAbout {
        label,
        site: site_label(&places.components[*component], *layer),
        component: places.components[*component].to_string(),
        layer: *layer,
    };
    let groups = places.groups(&axes);
    let heads = groups.first().map(|group| group.columns.clone());
    let groups = groups
        .into_iter()
        .zip(&axes.stands)
        .map(|(group, stand)| GroupAbout {
            label: group.label,
            position: group.position,
            name: stand.and_then(|s| Some(places.name(s)?.to_owned())),
        });
    let single = places.heads.first().filter(|_| !places.side_by_side());
    FacetAbout {
        title: places.title(plan, share, op).join(" · "),
        view: None,
        offset,
        rows: axes.rows.iter().zip(labels).map(row).collect(),
        groups: groups.collect(),
        heads: heads.unwrap_or_default(),
        op: places.ops[op].as_ref().map(ToString::to_string),
        runs: Vec::new(),
        head: single.copied(),
    }
}

impl Gather for CellPage {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let rows = result.rows.iter();
        rows.for_each(|row| self.add(row, result.clean));
        Ok(())
    }
}
