//! A result table as grids of cells: what a heat map shows, before anything decides how to draw it.
//!
//! With one head (or none) swept, a facet is a target: rows are `v0, ov0, v1, ov1 …` upward,
//! columns the base positions. With many heads, or many components, a facet is a target and a
//! component: rows are layers upward, columns the positions with the heads side by side in each.
//! Several pairs, noise samples or sources of one cell are averaged, and the notes say so.

use std::collections::{BTreeSet, HashMap};

use super::colour::Scale;
use super::grid::{Grid, Targets, Tokens, Value, place};
use super::labels::{component_rank, component_short, one_line};
use super::{ReportError, Table};
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
    /// The position's token, or its number where there is no token; empty where positions were
    /// patched together.
    pub label: String,
    /// The position in the base prompt.
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

    /// Two runs of one pair, by their names, that patch what the grid has a single cell for, such as
    /// spans of several tokens, or one sender's paths to several receivers.
    fn crowded(table: &Table) -> Option<(&str, &str)> {
        let mut known: HashMap<_, &str> = HashMap::new();
        table.rows.iter().find_map(|row| {
            let name = row.name.as_deref()?;
            let cell = (
                (row.pair, row.component.as_deref()?, row.layer, row.head),
                (row.position, row.op.as_deref(), row.sample),
                (row.source_layer, row.source_head, row.source_position),
            );
            let other = *known.entry(cell).or_insert(name);
            (other != name).then_some((other, name))
        })
    }

    fn build(table: &Table, value: &str, most_together: usize) -> Result<Self, ReportError> {
        let read = Value::named(table, value)?;
        if table.rows.is_empty() {
            return Err(ReportError::NothingToPlot(
                "the table has no rows".to_owned(),
            ));
        }
        if let Some((one, other)) = Self::crowded(table) {
            return Err(ReportError::Crowded {
                one: one.to_owned(),
                other: other.to_owned(),
            });
        }
        let targets = Targets::of(table, &read, value);
        let (placed, several_sites) = place(table, &targets);
        if placed.is_empty() {
            return Err(ReportError::NothingToPlot(
                "every run patches several components or layers at once, which has no place in a \
                 grid; a sweep patches one a run"
                    .to_owned(),
            ));
        }

        let heads = placed
            .iter()
            .filter_map(|cell| cell.row.head)
            .collect::<BTreeSet<_>>();
        let side_by_side = heads.len() > 1;
        let mut components = placed
            .iter()
            .map(|cell| cell.component)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>();
        components.sort_by_key(|name| (component_rank(name), *name));
        let together = !side_by_side && components.len() <= most_together;
        let ops = placed
            .iter()
            .map(|cell| cell.row.op.as_deref())
            .collect::<BTreeSet<_>>();

        let tokens = Tokens::of(&placed);
        let mut facets = Vec::new();
        let mut most = 0;
        let shares = if together {
            vec![components.clone()]
        } else {
            components.iter().map(|&name| vec![name]).collect()
        };
        for share in &shares {
            for &op in &ops {
                for (target, label) in targets.labels.iter().enumerate() {
                    let cells = placed.iter().filter(|cell| {
                        cell.target == target
                            && cell.row.op.as_deref() == op
                            && share.contains(&cell.component)
                    });
                    let cells = cells.collect::<Vec<_>>();
                    if cells.is_empty() {
                        continue;
                    }
                    let grid = Grid::of(&placed, share, side_by_side);
                    let mut title = label.clone();
                    if let (false, [name]) = (together, share.as_slice()) {
                        title = join(&title, &format!("{} ({name})", component_short(name)));
                    }
                    if ops.len() > 1 {
                        title = join(&title, op.unwrap_or("several operators"));
                    }
                    let (facet, deepest) = grid.fill(title, &cells, &read, value, &tokens);
                    most = most.max(deepest);
                    facets.push(facet);
                }
            }
        }

        let shown = facets
            .iter()
            .flat_map(|facet| facet.cells.iter().flatten().copied());
        let base = facets.iter().filter_map(|facet| facet.base);
        let scale = Scale::of(shown.chain(base), value == "prob");
        let single_head = heads.first().filter(|_| !side_by_side).copied();
        Ok(Self {
            title: title(table, &ops, single_head),
            notes: notes(table, &components, together, several_sites, most),
            value: match value {
                "prob" => "probability",
                "logprob" => "log-probability",
                other => other,
            }
            .to_owned(),
            scale,
            per_row: targets.labels.len(),
            facets,
        })
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
fn title(table: &Table, ops: &BTreeSet<Option<&str>>, head: Option<u32>) -> Vec<TitleLine> {
    let made = &table.provenance;
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

/// What the picture alone would not say.
fn notes(
    table: &Table,
    components: &[&str],
    together: bool,
    several_sites: usize,
    most: usize,
) -> Vec<String> {
    let mut notes = Vec::new();
    if together {
        let short = components.iter().map(|name| match component_short(name) {
            short if short == *name => (*name).to_owned(),
            short => format!("{short} = {name}"),
        });
        notes.push(short.collect::<Vec<_>>().join(", "));
    }
    let pairs = table
        .rows
        .iter()
        .map(|row| row.pair)
        .collect::<BTreeSet<_>>()
        .len();
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
