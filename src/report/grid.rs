//! Where each row of a table goes in a heat map, and the means of what falls into one cell.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::heatmap::{Facet, Group};
use super::labels::{component_layered, component_rank, site_label, token_label};
use super::{ReportError, Row, Table};

/// Which number of a row is shown.
pub(super) enum Value {
    Field(fn(&Row) -> f64),
    Metric(usize),
}

impl Value {
    pub(super) fn named(table: &Table, name: &str) -> Result<Self, ReportError> {
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

    pub(super) fn of(&self, row: &Row) -> f64 {
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
pub(super) struct Placed<'a> {
    pub(super) row: &'a Row,
    pub(super) component: &'a str,
    pub(super) target: usize,
}

type Column = (Option<u32>, Option<u32>);

/// What a facet is made for.
pub(super) struct Targets {
    pub(super) labels: Vec<String>,
    /// Metrics of a whole run need one facet, not one a target.
    whole_run: bool,
}

impl Targets {
    pub(super) fn of(table: &Table, read: &Value, value: &str) -> Self {
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
pub(super) fn place<'a>(table: &'a Table, targets: &Targets) -> (Vec<Placed<'a>>, usize) {
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
pub(super) struct Tokens<'a>(HashMap<u32, Option<&'a str>>);

impl<'a> Tokens<'a> {
    pub(super) fn of(placed: &[Placed<'a>]) -> Self {
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

    pub(super) fn label(&self, position: u32) -> String {
        match self.0.get(&position) {
            Some(Some(token)) => token_label(token),
            _ => position.to_string(),
        }
    }
}

/// The rows and columns that the facets of one component share, whether or not each has them all.
pub(super) struct Grid {
    rows: Vec<(Option<u32>, String)>,
    columns: Vec<Column>,
    single: bool,
    side_by_side: bool,
}

impl Grid {
    pub(super) fn of(placed: &[Placed<'_>], share: &[&str], side_by_side: bool) -> Self {
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
    pub(super) fn fill(
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
