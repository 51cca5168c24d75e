//! A result table as grids of cells: what a heat map shows, before anything decides how to draw it.
//!
//! With one head (or none) swept, a facet is a target: rows are `v0, ov0, v1, ov1 …` upward,
//! columns the base positions. With many heads, or many components, a facet is a target and a
//! component: rows are layers upward, columns the positions with the heads side by side in each.
//! Several pairs, noise samples or sources of one cell are averaged, and the notes say so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::colour::Scale;
use super::labels::{
    component_layered, component_rank, component_short, one_line, site_label, token_label,
};
use super::{ReportError, Row, Table};

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
    /// Cells row by row, the lowest row first; `None` where nothing was run.
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

/// Which number of a row is shown.
enum Value {
    Field(fn(&Row) -> f64),
    Metric(usize),
}

impl Value {
    fn named(table: &Table, name: &str) -> Result<Self, ReportError> {
        Ok(match name {
            "prob" => Self::Field(|row| row.prob),
            "logprob" => Self::Field(|row| row.logprob),
            "logit" => Self::Field(|row| row.logit),
            _ => match table.metrics.iter().position(|metric| metric == name) {
                Some(index) => Self::Metric(index),
                None => {
                    let fixed = ["prob", "logprob", "logit"].into_iter().map(str::to_owned);
                    let known = fixed.chain(table.metrics.iter().cloned());
                    return Err(ReportError::NoSuchValue {
                        name: name.to_owned(),
                        known: known.collect::<Vec<_>>().join(", "),
                    });
                }
            },
        })
    }

    fn of(&self, row: &Row) -> f64 {
        match self {
            Self::Field(get) => get(row),
            Self::Metric(index) => row.metrics.get(*index).copied().unwrap_or(f64::NAN),
        }
    }
}

/// A running mean, exact where all values are the same, as those of the clean prompt are.
#[derive(Default, Clone, Copy)]
struct Mean {
    mean: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1;
        if self.count == 1 {
            self.mean = value;
        } else if self.mean.is_finite() {
            self.mean += (value - self.mean) / self.count as f64;
        }
        // A mean that is not finite stays what it is.
    }

    fn get(self) -> Option<f64> {
        (self.count > 0 && !self.mean.is_nan()).then_some(self.mean)
    }
}

/// A row that has a place in the grid.
struct Placed<'a> {
    row: &'a Row,
    component: &'a str,
    target: usize,
}

type Column = (Option<u32>, Option<u32>);

impl HeatMap {
    /// Builds the heat map of `value`: `prob`, `logprob`, `logit` or the name of a metric.
    pub fn new(table: &Table, value: &str) -> Result<Self, ReportError> {
        let read = Value::named(table, value)?;
        if table.rows.is_empty() {
            return Err(ReportError::NothingToPlot(
                "the table has no rows".to_owned(),
            ));
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
        let together = !side_by_side && components.len() <= COMPONENTS_IN_A_FACET;
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

/// What a facet is made for.
struct Targets {
    labels: Vec<String>,
    /// Metrics of a whole run need one facet, not one a target.
    whole_run: bool,
}

impl Targets {
    fn of(table: &Table, read: &Value, value: &str) -> Self {
        let mut lists: BTreeMap<u32, Vec<(u32, &str)>> = BTreeMap::new();
        let mut first_run = HashMap::new();
        let mut firsts: HashMap<(u32, u32), u64> = HashMap::new();
        let mut whole_run = matches!(read, Value::Metric(_));
        for row in &table.rows {
            if *first_run.entry(row.pair).or_insert(row.run) == row.run {
                lists
                    .entry(row.pair)
                    .or_default()
                    .push((row.target_id, &row.target));
            }
            if whole_run {
                let bits = read.of(row).to_bits();
                whole_run = *firsts.entry((row.pair, row.run)).or_insert(bits) == bits;
            }
        }
        if whole_run {
            return Self {
                labels: vec![value.to_owned()],
                whole_run,
            };
        }
        let most = lists.values().map(Vec::len).max().unwrap_or(0);
        let labels = (0..most)
            .map(|index| {
                let names = lists
                    .values()
                    .filter_map(|list| list.get(index))
                    .collect::<BTreeSet<_>>();
                match names.first() {
                    Some((_, name)) if names.len() == 1 => token_label(name),
                    // Pairs with targets of their own: the first of each belong together.
                    _ => format!("target {} of each pair", index + 1),
                }
            })
            .collect();
        Self { labels, whole_run }
    }
}

/// Gives every row that patches one site its place; also returns how many runs patch several.
fn place<'a>(table: &'a Table, targets: &Targets) -> (Vec<Placed<'a>>, usize) {
    let mut placed = Vec::new();
    let mut several = BTreeSet::new();
    let mut seen: HashMap<(u32, u32), usize> = HashMap::new();
    for row in &table.rows {
        let target = seen.entry((row.pair, row.run)).or_default();
        let index = *target;
        *target += 1;
        match row.component.as_deref() {
            Some(component) if row.layer.is_some() || !component_layered(component) => {
                if !targets.whole_run || index == 0 {
                    placed.push(Placed {
                        row,
                        component,
                        target: index,
                    });
                }
            }
            _ => {
                several.insert((row.pair, row.run));
            }
        }
    }
    (placed, several.len())
}

/// The token of each position, where all pairs agree on it.
struct Tokens<'a>(HashMap<u32, Option<&'a str>>);

impl<'a> Tokens<'a> {
    fn of(placed: &[Placed<'a>]) -> Self {
        let mut tokens = HashMap::new();
        for cell in placed {
            if let Some(position) = cell.row.position {
                let token = cell.row.token.as_deref();
                let agreed = tokens.entry(position).or_insert(token);
                if *agreed != token {
                    *agreed = None;
                }
            }
        }
        Self(tokens)
    }

    fn label(&self, position: u32) -> String {
        match self.0.get(&position) {
            Some(Some(token)) => token_label(token),
            _ => position.to_string(),
        }
    }
}

/// The rows and columns that the facets of one component share, whether or not each has them all.
struct Grid {
    rows: Vec<(Option<u32>, String)>,
    columns: Vec<Column>,
    single: bool,
    side_by_side: bool,
}

impl Grid {
    fn of(placed: &[Placed<'_>], share: &[&str], side_by_side: bool) -> Self {
        let mut rows = BTreeMap::new();
        let mut positions = BTreeSet::new();
        let mut heads = BTreeSet::new();
        for cell in placed.iter().filter(|cell| share.contains(&cell.component)) {
            let rank = component_rank(cell.component);
            // Global sites lie below the first layer or above the last.
            let height = match cell.row.layer {
                Some(layer) => i64::from(layer),
                None if rank < component_rank("block_input") => -1,
                None => i64::from(u32::MAX) + 1,
            };
            rows.insert(
                (height, rank, cell.component),
                (cell.row.layer, cell.component.to_owned()),
            );
            positions.insert(cell.row.position);
            heads.insert(cell.row.head.filter(|_| side_by_side));
        }
        let columns = positions
            .iter()
            .flat_map(|&position| heads.iter().map(move |&head| (position, head)))
            .collect();
        Self {
            rows: rows.into_values().collect(),
            columns,
            single: share.len() == 1,
            side_by_side,
        }
    }

    /// Fills one facet; also returns how many values the fullest cell averages.
    fn fill(
        &self,
        title: String,
        cells: &[&Placed<'_>],
        read: &Value,
        value: &str,
        tokens: &Tokens<'_>,
    ) -> (Facet, usize) {
        let row_of = self
            .rows
            .iter()
            .enumerate()
            .map(|(i, key)| (key.clone(), i));
        let row_of = row_of.collect::<HashMap<_, _>>();
        let column_of = self.columns.iter().enumerate().map(|(i, &key)| (key, i));
        let column_of = column_of.collect::<HashMap<_, _>>();
        let mut means = vec![Mean::default(); self.rows.len() * self.columns.len()];
        let (mut base, mut source) = (Mean::default(), Mean::default());
        for cell in cells {
            let row = row_of.get(&(cell.row.layer, cell.component.to_owned()));
            let head = cell.row.head.filter(|_| self.side_by_side);
            let column = column_of.get(&(cell.row.position, head));
            if let (Some(row), Some(column)) = (row, column) {
                means[row * self.columns.len() + column].add(read.of(cell.row));
            }
            // Only probabilities of the clean prompts are known.
            let clean = |prob: f64| match value {
                "prob" => Some(prob),
                "logprob" => Some(prob.ln()),
                _ => None,
            };
            if let Some(value) = clean(cell.row.base_prob) {
                base.add(value);
            }
            if let Some(value) = cell.row.source_prob.and_then(clean) {
                source.add(value);
            }
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut last = None;
        for &(position, head) in &self.columns {
            if last != Some(position) {
                groups.push(Group {
                    label: position.map_or_else(String::new, |position| tokens.label(position)),
                    position,
                    columns: Vec::new(),
                });
                last = Some(position);
            }
            if let Some(group) = groups.last_mut() {
                group.columns.push(match head {
                    Some(head) => head.to_string(),
                    None if self.side_by_side => "–".to_owned(),
                    None => String::new(),
                });
            }
        }
        // A component without heads has nothing to set side by side after all.
        for group in &mut groups {
            if let [only] = group.columns.as_mut_slice() {
                only.clear();
            }
        }
        let label = |(layer, component): &(Option<u32>, String)| match layer {
            Some(layer) if self.single && self.side_by_side => format!("L{layer}"),
            layer => site_label(component, *layer),
        };
        let facet = Facet {
            title,
            base: base.get(),
            source: source.get(),
            rows: self.rows.iter().map(label).collect(),
            groups,
            cells: means.iter().map(|mean| mean.get()).collect(),
        };
        let most = means.iter().map(|mean| mean.count).max().unwrap_or(0);
        (facet, most)
    }
}

/// What was done, in one or two lines.
fn title(table: &Table, ops: &BTreeSet<Option<&str>>, head: Option<u32>) -> Vec<TitleLine> {
    let made = &table.provenance;
    let prompt = |tokens: &[String], ids: &[u32]| {
        if tokens.is_empty() {
            let ids = ids.iter().map(u32::to_string).collect::<Vec<_>>();
            format!("[{}]", ids.join(" "))
        } else {
            format!("“{}”", one_line(&tokens.concat()))
        }
    };
    let mut lines = Vec::new();
    let mut line = |label, text| lines.push(TitleLine { label, text });
    if let [pair, ..] = made.pairs.as_slice() {
        line("base", prompt(&pair.base_tokens, &pair.base_ids));
        if let Some(ids) = &pair.source_ids {
            line("source", prompt(&pair.source_tokens, ids));
        }
    }
    let mut facts = Vec::new();
    if made.pairs.len() > 1 {
        facts.push(format!("and {} more pairs", made.pairs.len() - 1));
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
    if several_sites > 0 {
        notes.push(format!(
            "not drawn: {several_sites} runs that patch several sites at once"
        ));
    }
    notes
}
