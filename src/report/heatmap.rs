//! A result table as grids of cells: what a heat map shows, before anything decides how to draw it.
//!
//! With one head (or none) swept, a facet is a target: rows are `v0, ov0, v1, ov1 …` upward,
//! columns the base positions. With many heads, or many components, a facet is a target and a
//! component: rows are layers upward, columns the positions with the heads side by side in each.
//! Several pairs, noise samples or sources of one cell are averaged, and the notes say so.

use std::collections::{BTreeSet, HashMap};

use super::ReportError;
use super::colour::Scale;
use super::grid::CellMeans;
use super::labels::{component_short, one_line};
use super::places::{CellPlaces, FacetPlan};
use crate::files::error::FileError;
use crate::results::clean::CleanMetrics;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Provenance, Row, Table};
use crate::text::counted;

/// Up to this many components share a facet when no heads stand side by side.
pub(super) const COMPONENTS_IN_A_FACET: usize = 3;

/// A heat map of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// What was patched, one line an entry.
    pub title: Vec<TitleLine>,
    /// What a reader has to know besides, one sentence an entry.
    pub notes: Vec<String>,
    /// What a cell holds: `probability`, or a column's name.
    pub value: String,
    /// Colours, shared by all facets so that they compare.
    pub scale: Scale,
    /// The grids, those of one component beside each other.
    pub facets: Vec<Facet>,
    /// How many facets belong side by side: the number of targets.
    pub per_row: usize,
}

/// A line of the title.
#[derive(Debug, Clone, PartialEq)]
pub struct TitleLine {
    /// `base`, `source`, or nothing.
    pub label: &'static str,
    /// The prompt, or the other facts.
    pub text: String,
}

/// One grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Facet {
    /// The target, and the component where a facet has only one.
    pub title: String,
    /// What the base prompt gives without any patch: a cell of this value had no effect.
    pub base: Option<f64>,
    /// What the source prompt gives.
    pub source: Option<f64>,
    /// Row labels, the lowest first.
    pub rows: Vec<String>,
    /// Columns, left to right.
    pub groups: Vec<Group>,
    /// Cells row by row, the lowest row first; `None` where nothing was run, or nothing came out
    /// that is a number.
    pub cells: Vec<Option<f64>>,
}

/// The columns of one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The name that the position goes by, else its token, or its number where there is no token; empty where
    /// positions were patched together.
    pub label: String,
    /// The position in the base prompts, where it is the same in all.
    pub position: Option<u32>,
    /// Heads, or a single empty label where heads are not set side by side.
    pub columns: Vec<String>,
}

impl Facet {
    /// Number of columns over all groups.
    #[must_use]
    pub fn width(&self) -> usize {
        self.groups.iter().map(|group| group.columns.len()).sum()
    }

    /// The cell of a row (0 lowest) and column.
    #[must_use]
    pub fn cell(&self, row: usize, column: usize) -> Option<f64> {
        self.cells
            .get(row * self.width() + column)
            .copied()
            .flatten()
    }
}

impl HeatMap {
    /// Builds the heat map of `value`: `prob`, `logprob`, `logit` or the name of a metric.
    ///
    /// # Errors
    ///
    /// [`ReportError::NoSuchValue`]; [`ReportError::NothingToPlot`] of a table without rows that have
    /// a place in a grid; [`ReportError::Crowded`] of one in which two runs of a pair have the same.
    pub fn new(table: &Table, value: &str) -> Result<Self, ReportError> {
        Self::build(table, value, COMPONENTS_IN_A_FACET)
    }

    /// The same with a grid for each component, however few there are.
    ///
    /// # Errors
    ///
    /// As [`HeatMap::new`].
    pub fn by_component(table: &Table, value: &str) -> Result<Self, ReportError> {
        Self::build(table, value, 1)
    }

    /// Marks positions whose labels are starred.
    pub fn star(&mut self, positions: &[usize]) {
        let groups = self.facets.iter_mut().flat_map(|facet| &mut facet.groups);
        for group in groups {
            let position = group.position.map(|position| position as usize);
            if position.is_some_and(|position| positions.contains(&position)) {
                group.label.push('*');
            }
        }
    }

    fn build(table: &Table, value: &str, most_together: usize) -> Result<Self, ReportError> {
        let mut drawing = Drawing {
            most_together,
            ..Drawing::new(&table.metrics, value)?
        };
        each_row(table, &mut |row, clean| drawing.grid.add(row, clean));
        drawing.finish(&table.provenance)
    }
}

/// Hands on a table's rows in order, with what its pairs' clean prompts are.
pub(super) fn each_row(table: &Table, each: &mut dyn FnMut(&Row, &CleanMetrics)) {
    // a file that another tool has sorted anew keeps its runs together no longer
    let mut rows: Vec<&Row> = table.rows.iter().collect();
    rows.sort_by_key(|row| (row.pair, row.run));
    let pairs = table.provenance.pairs.iter().zip(0..);
    let pairs: HashMap<u32, &CleanMetrics> = pairs
        .map(|(pair, index)| (pair.row.unwrap_or(index), &pair.clean))
        .collect();
    let nothing = CleanMetrics::default();
    for row in rows {
        each(row, pairs.get(&row.pair).copied().unwrap_or(&nothing));
    }
}

/// A heat map in the making: means of the rows so far.
pub struct Drawing {
    value: String,
    most_together: usize,
    grid: CellMeans,
}

impl Drawing {
    /// Nothing yet, of tables with these metrics. `value` is `prob`, `logprob`, `logit` or one of them.
    ///
    /// # Errors
    ///
    /// [`ReportError::NoSuchValue`].
    pub fn new(metrics: &[String], value: &str) -> Result<Self, ReportError> {
        Ok(Self {
            value: value.to_owned(),
            most_together: COMPONENTS_IN_A_FACET,
            grid: CellMeans::new(metrics, value)?,
        })
    }

    /// The heat map of all rows that came, of results made in this way.
    ///
    /// # Errors
    ///
    /// As [`HeatMap::new`].
    pub fn finish(self, made: &Provenance) -> Result<HeatMap, ReportError> {
        let Self {
            value,
            most_together,
            grid,
        } = self;
        let places = &grid.places;
        places.check()?;
        let plan = places.plan(most_together);
        let targets = grid.targets(&value);

        let (mut facets, mut most) = (Vec::new(), 0);
        for share in &plan.shares {
            for &op in &plan.ops {
                for (target, label) in targets.iter().enumerate() {
                    let parts = places.title(&plan, share, op);
                    let title = parts
                        .iter()
                        .fold(label.clone(), |all, part| join(&all, part));
                    if let Some((facet, deepest)) = grid.facet((share, op, target), &title) {
                        most = most.max(deepest as usize);
                        facets.push(facet);
                    }
                }
            }
        }

        let shown = facets
            .iter()
            .flat_map(|facet| facet.cells.iter().flatten().copied());
        let base = facets.iter().filter_map(|facet| facet.base);
        let scale = Scale::of(shown.chain(base), value == "prob");
        let mut notes = notes(places, &plan, most);
        if grid.is_recovery() && most > 1 {
            notes.push(recovery_note(grid.unweighted));
        }
        Ok(HeatMap {
            title: title(made, places),
            notes,
            value: match &*value {
                "prob" => "probability".to_owned(),
                "logprob" => "log-probability".to_owned(),
                _ => value,
            },
            scale,
            per_row: targets.len(),
            facets,
        })
    }
}

impl Gather for Drawing {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let rows = result.rows.iter();
        rows.for_each(|row| self.grid.add(row, result.clean));
        Ok(())
    }
}

fn join(left: &str, right: &str) -> String {
    if left.is_empty() {
        right.to_owned()
    } else {
        format!("{left} · {right}")
    }
}

/// What a recovery over pairs is, where each pair's clean prompts are known or not.
pub(super) fn recovery_note(unweighted: bool) -> String {
    match unweighted {
        false => "a recovery over pairs is that of their mean values",
        true => {
            "a recovery over pairs is the mean of each pair's own: the table does not say what the clean \
             prompts' values were"
        }
    }
    .to_owned()
}

/// What was done, in one or two lines.
pub(super) fn title(made: &Provenance, places: &CellPlaces) -> Vec<TitleLine> {
    let ops: BTreeSet<_> = places.ops.iter().map(|op| op.as_deref()).collect();
    let single = !places.side_by_side();
    let head = places.heads.first().filter(|_| single).copied();
    let prompt = |text: &Option<String>, tokens: &[String], ids: &[u32]| match text {
        Some(text) => format!("“{}”", one_line(text)),
        None if tokens.is_empty() => {
            let ids = ids.iter().map(u32::to_string).collect::<Vec<_>>();
            format!("[{}]", ids.join(" "))
        }
        None => format!("“{}”", one_line(&tokens.concat())),
    };
    let mut lines = Vec::new();
    let mut line = |label, text| lines.push(TitleLine { label, text });
    if let [pair, ..] = made.pairs.as_slice() {
        let base = prompt(&pair.base_text, &pair.base_tokens, &pair.base_ids);
        line("base", base);
        if let Some(ids) = &pair.source_ids {
            let source = prompt(&pair.source_text, &pair.source_tokens, ids);
            line("source", source);
        }
    }
    let mut facts = Vec::new();
    if made.pairs.len() > 1 {
        facts.push(format!(
            "and {}",
            counted(made.pairs.len() - 1, "more pair")
        ));
    }
    if !made.model.is_empty() {
        facts.push(one_line(&made.model));
    }
    if let (1, Some(Some(op))) = (ops.len(), ops.first()) {
        facts.push(one_line(op));
    }
    if let Some(head) = head {
        facts.push(format!("head {head}"));
    }
    if !facts.is_empty() {
        line("", facts.join(" · "));
    }
    lines
}

/// What the picture alone would not say: which components share a facet, of how many pairs they are, how many
/// runs are missing, and how many values the fullest cell averages.
pub(super) fn notes(places: &CellPlaces, plan: &FacetPlan, most: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if plan.together {
        let together = plan.shares.iter().flatten();
        let short = together.map(|component| match &*places.components[*component] {
            name if component_short(name) == name => name.to_owned(),
            name => format!("{} = {name}", component_short(name)),
        });
        notes.push(short.collect::<Vec<_>>().join(", "));
    }
    let (pairs, several_sites) = (places.pairs, places.several);
    if pairs > 1 && most <= pairs {
        notes.push(format!(
            "each cell is the mean over the pairs that have it, up to {most}"
        ));
    } else if most > 1 {
        notes.push(format!(
            "each cell is the mean of up to {most} runs (pairs, noise samples or sources)"
        ));
    }
    match several_sites {
        0 => {}
        1 => notes.push("not drawn: 1 run that patches several sites at once".to_owned()),
        _ => notes.push(format!(
            "not drawn: {several_sites} runs that patch several sites at once"
        )),
    }
    notes
}
