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
use super::labels::{component_rank, component_short, one_line};
use crate::files::error::FileError;
use crate::results::clean::CleanMetrics;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Provenance, Row, Table};
use crate::text::counted;

/// Up to this many components share a facet when no heads stand side by side.
const COMPONENTS_IN_A_FACET: usize = 3;

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

    fn build(table: &Table, value: &str, most_together: usize) -> Result<Self, ReportError> {
        let mut drawing = Drawing {
            most_together,
            ..Drawing::new(&table.metrics, value)?
        };
        // a file that another tool has sorted anew keeps its runs together no longer
        let mut rows: Vec<&Row> = table.rows.iter().collect();
        rows.sort_by_key(|row| (row.pair, row.run));
        let pairs = table.provenance.pairs.iter().zip(0..);
        let pairs: HashMap<u32, &CleanMetrics> = pairs
            .map(|(pair, index)| (pair.row.unwrap_or(index), &pair.clean))
            .collect();
        let nothing = CleanMetrics::default();
        for row in rows {
            let clean = pairs.get(&row.pair).copied().unwrap_or(&nothing);
            drawing.grid.add(row, clean);
        }
        drawing.finish(&table.provenance)
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
        let Self { value, grid, .. } = self;
        if grid.rows == 0 {
            return Err(ReportError::NothingToPlot(
                "the table has no rows".to_owned(),
            ));
        }
        if let Some((one, other)) = &grid.crowded {
            return Err(ReportError::Crowded {
                one: one.to_string(),
                other: other.to_string(),
            });
        }
        if grid.components.is_empty() {
            return Err(ReportError::NothingToPlot(
                "every run patches several components or layers at once, which has no place in a \
                 grid; a sweep patches one a run"
                    .to_owned(),
            ));
        }
        let side_by_side = grid.side_by_side();
        let mut components: Vec<usize> = (0..grid.components.len()).collect();
        let name = |component: usize| &*grid.components[component];
        components.sort_by_key(|c| (component_rank(name(*c)), name(*c)));
        let together = !side_by_side && components.len() <= self.most_together;
        let mut ops: Vec<usize> = (0..grid.ops.len()).collect();
        ops.sort_by_key(|op| &grid.ops[*op]);
        let targets = grid.targets(&value);

        let (mut facets, mut most) = (Vec::new(), 0);
        let size = if together { components.len() } else { 1 };
        for share in components.chunks(size) {
            for &op in &ops {
                for (target, label) in targets.iter().enumerate() {
                    let mut title = label.clone();
                    if let (false, [component]) = (together, share) {
                        let name = name(*component);
                        title = join(&title, &format!("{} ({name})", component_short(name)));
                    }
                    if ops.len() > 1 {
                        let op = grid.ops[op].as_deref();
                        title = join(&title, op.unwrap_or("several operators"));
                    }
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
        let single_head = grid.heads.first().filter(|_| !side_by_side).copied();
        let names: Vec<&str> = components.iter().map(|c| name(*c)).collect();
        let together: &[&str] = if together { &names } else { &[] };
        let ops = grid.ops.iter().map(|op| op.as_deref()).collect();
        let mut notes = notes(together, (grid.pairs, grid.several, most));
        let recovery = grid.is_recovery();
        if recovery && most > 1 {
            notes.push(match grid.unweighted {
                false => "a recovery over pairs is that of their mean values".to_owned(),
                true => "a recovery over pairs is the mean of each pair's own: the table does not say what the clean \
                         prompts' values were"
                    .to_owned(),
            });
        }
        Ok(HeatMap {
            title: title(made, &ops, single_head),
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

/// What was done, in one or two lines.
fn title(made: &Provenance, ops: &BTreeSet<Option<&str>>, head: Option<u32>) -> Vec<TitleLine> {
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
fn notes(together: &[&str], (pairs, several_sites, most): (usize, usize, usize)) -> Vec<String> {
    let mut notes = Vec::new();
    if !together.is_empty() {
        let short = together.iter().map(|name| match component_short(name) {
            short if short == *name => (*name).to_owned(),
            short => format!("{short} = {name}"),
        });
        notes.push(short.collect::<Vec<_>>().join(", "));
    }
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
