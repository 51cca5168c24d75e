//! A result table as grids of cells: what a heat map shows, before anything decides how to draw it.
//!
//! With one head (or none) swept, a facet is a target: rows are `v0, ov0, v1, ov1 …` upward,
//! columns the base positions. With many heads, or many components, a facet is a target and a
//! component: rows are layers upward, columns the positions with the heads side by side in each.
//! Several pairs, noise samples or sources of one cell are averaged, and the notes say so.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::ReportError;
use super::colour::{ColourMap, Scale, Sides};
use super::edge_names::are_whole_edges;
use super::grid::CellMeans;
use super::labels::{component_short, one_line};
use super::matrix::EdgeMatrix;
use super::numbers::{CellSpelling, plain};
use super::places::{CellPlaces, FacetPlan};
use super::style::{DrawnValue, FigureStyle};
use crate::files::error::FileError;
use crate::results::clean::CleanMetrics;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Provenance, Row, Table};
use crate::text::counted;

/// Up to this many components share a facet when no heads stand side by side, of models of few layers.
pub(super) const COMPONENTS_IN_A_FACET: usize = 3;

/// A heat map of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// What was patched, one line an entry.
    pub title: Vec<TitleLine>,
    /// What a reader has to know besides, one sentence an entry.
    pub notes: Vec<String>,
    /// What a cell holds: `probability`, or a column's name, or its change.
    pub value: String,
    /// Whether values are whole numbers.
    pub whole: bool,
    /// What a cell is where nothing stands in it.
    pub empty: &'static str,
    /// Colours, shared by all facets so that they compare.
    pub scale: Scale,
    /// How wide a picture of it is, in pixels of CSS, where that is said.
    pub width: Option<f32>,
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

    /// Whether all that it shows are whole numbers.
    fn is_whole(&self) -> bool {
        let clean = self.base.iter().chain(&self.source);
        let mut all = self.cells.iter().flatten().chain(clean);
        all.all(|value| value.fract() == 0.0)
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
    /// The heat map of a result, of edges their matrix, with a column in its cells: `prob`, `logprob`, `logit` or the name of a metric; or of its change.
    ///
    /// # Errors
    ///
    /// [`ReportError::NoSuchValue`]; [`ReportError::NothingToPlot`] of a table without rows that have
    /// a place in a grid; [`ReportError::Crowded`] of one in which two runs of a pair have the same.
    pub fn new(table: &Table, value: &DrawnValue) -> Result<Self, ReportError> {
        if are_whole_edges(table) {
            let mut matrix = EdgeMatrix::new(&table.metrics, value)?;
            each_row(table, &mut |row, clean| matrix.add(row, clean));
            return matrix.finish(&table.provenance);
        }
        Self::build(table, value, COMPONENTS_IN_A_FACET)
    }

    /// The same with a grid for each component, however few there are.
    ///
    /// # Errors
    ///
    /// As [`HeatMap::new`].
    pub fn by_component(table: &Table, value: &DrawnValue) -> Result<Self, ReportError> {
        Self::build(table, value, 1)
    }

    /// How many facets stand beside each other where there is room: those of one component, or, where each
    /// has only one, all of them.
    pub(super) fn beside(&self) -> usize {
        let all = self.facets.len().max(1);
        match self.per_row {
            0 | 1 => all,
            targets => targets.min(all),
        }
    }

    /// How its cells spell their values.
    pub(super) fn spelling(&self) -> CellSpelling {
        let Scale { low, high, .. } = self.scale;
        match self.whole {
            true => CellSpelling::whole(low, high),
            false => CellSpelling::of(low, high),
        }
    }

    /// A value in running text.
    pub(super) fn say(&self, value: f64) -> String {
        match self.whole {
            true => format!("{value:.0}"),
            false => plain(value),
        }
    }

    /// Lets colours that go from low to high begin at this value, as ROME's causal traces begin at what noise
    /// alone leaves.
    pub fn begin_at(&mut self, low: f64) {
        if self.scale.map != ColourMap::RedBlue && low < self.scale.high {
            self.scale.low = low;
            self.notes
                .push(format!("colours begin at {}", self.say(low)));
        }
    }

    /// Drawn as somebody wants it.
    #[must_use]
    pub fn styled(mut self, style: &FigureStyle) -> Self {
        if let Some(title) = &style.title {
            let text = one_line(title);
            self.title = vec![TitleLine { label: "", text }];
        }
        if let Some(range) = style.range {
            (self.scale.low, self.scale.high) = (range.low, range.high);
        }
        self.scale.map = style.map.unwrap_or(self.scale.map);
        self.width = style.width.or(self.width);
        self
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

    fn build(table: &Table, value: &DrawnValue, most_together: usize) -> Result<Self, ReportError> {
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
    change: bool,
    most_together: usize,
    grid: CellMeans,
}

impl Drawing {
    /// Nothing yet, of tables with these metrics.
    ///
    /// # Errors
    ///
    /// [`ReportError::NoSuchValue`].
    pub fn new(metrics: &[String], value: &DrawnValue) -> Result<Self, ReportError> {
        let (value, change) = (value.column(metrics).to_owned(), value.change);
        Ok(Self {
            most_together: COMPONENTS_IN_A_FACET,
            grid: CellMeans::new(metrics, (&value, change))?,
            value,
            change,
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
            change,
            most_together,
            grid,
        } = self;
        let places = &grid.places;
        places.check()?;
        if change && grid.measure.baseless {
            return Err(ReportError::NothingToPlot(format!(
                "the table does not say what {value} was in the base prompts, of which a change would be"
            )));
        }
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
        let sides = match change {
            true => Sides::Two,
            false => Sides::of(&value),
        };
        let scale = Scale::of(shown.chain(base), sides);
        let whole = value == "rank" && facets.iter().all(Facet::is_whole);
        let mut notes = notes(places, &plan, most);
        if grid.measure.is_recovery() && most > 1 {
            notes.push(recovery_note(grid.measure.unweighted));
        }
        Ok(HeatMap {
            title: title(made, places),
            notes,
            value: value_name(&value, change),
            whole,
            empty: "not run",
            scale,
            width: None,
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

/// What a cell holds, in words.
pub(super) fn value_name(column: &str, change: bool) -> String {
    let name = match column {
        "prob" => "probability",
        "logprob" => "log-probability",
        name => name,
    };
    match change {
        true => format!("change of {name} from the base"),
        false => name.to_owned(),
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
        facts.push(one_line(model_name(&made.model)));
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

/// A model's name: of a folder its last part, since where it lies is nobody's business.
fn model_name(model: &str) -> &str {
    let is_hub_id = model.split('/').count() == 2 && !model.starts_with(['.', '/', '~']);
    match Path::new(model).file_name().and_then(|name| name.to_str()) {
        Some(name) if !is_hub_id => name,
        _ => model,
    }
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
    match &places.siteless[..] {
        [] => {}
        [one] => notes.push(format!("not drawn, since it stands at no site: {one}")),
        [first, .., last] => notes.push(format!(
            "not drawn, since they stand at no site: {} parts, {first} to {last}",
            places.siteless.len()
        )),
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
