//! Where each row of a result goes in a heat map, and the means of what falls into one cell, as rows come.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ReportError;
use super::heatmap::{Facet, Group};
use super::labels::{component_layered, component_rank, site_label, token_label};
use crate::results::clean::CleanMetrics;
use crate::results::moments::Moments;
use crate::results::recovery::{LevelColumn, LevelMeans, Levels};
use crate::results::table::{Row, Text};

/// What falls into one cell.
#[derive(Clone, Copy, Default)]
struct CellValues {
    values: Moments,
    /// Of a recovery, what the means are made of.
    levels: LevelMeans,
}

impl CellValues {
    /// The mean; of several recoveries, that of the means if what they are made of is known.
    fn shown(&self) -> f64 {
        match self.levels.means().recovery() {
            of_means if self.values.values() > 1 && !of_means.is_nan() => of_means,
            _ => self.values.shown(),
        }
    }
}

/// Which number of a row is shown.
#[derive(Clone, Copy)]
enum Shown {
    Field(fn(&Row) -> f64),
    Metric(usize),
}

impl Shown {
    fn named(metrics: &[String], name: &str) -> Result<Self, ReportError> {
        Ok(match name {
            "prob" => Self::Field(|row| row.prob),
            "logprob" => Self::Field(|row| row.logprob),
            "logit" => Self::Field(|row| row.logit),
            _ => match metrics.iter().position(|metric| metric == name) {
                Some(index) => Self::Metric(index),
                None => {
                    let fixed = ["prob", "logprob", "logit"].into_iter().map(str::to_owned);
                    let known = fixed.chain(metrics.iter().cloned());
                    return Err(ReportError::NoSuchValue {
                        name: name.to_owned(),
                        known: known.collect::<Vec<_>>().join(", "),
                    });
                }
            },
        })
    }

    fn of(self, row: &Row) -> f64 {
        match self {
            Self::Field(get) => get(row),
            Self::Metric(index) => row.metrics.get(index).copied().unwrap_or(f64::NAN),
        }
    }
}

/// What a facet shows: a component (all of them where they share one), an operator and a target, by their
/// indices.
type Of = (Option<usize>, usize, usize);

/// Where along the columns a cell stands: at a position that goes by its number, or by the name, of this index,
/// that was asked for and is another number in each prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stand {
    Number(u32),
    Name(usize),
}

/// Layer, position and head of a cell; no head where heads do not stand side by side.
type At = (Option<u32>, Option<Stand>, Option<u32>);

/// What a run is filed under beside its name: no two of a pair may have the same.
type Filed = (Text, Option<Text>, Option<Stand>, [Option<u32>; 6]);

/// The rows so far, as means. A pair's rows come together, and so do a run's.
pub(super) struct CellMeans {
    shown: Shown,
    /// Whether a value is one of the whole run, which needs one facet and not one a target: all are, of
    /// a metric.
    pub whole_run: bool,
    first_value: u64,
    /// The run whose rows come, how many of its rows have come, and its pair's first run.
    here: Option<(u32, u32)>,
    index: usize,
    first_run: u32,
    pub rows: usize,
    pub pairs: usize,
    /// Runs that patch several sites.
    pub several: usize,
    /// The targets of each index; nothing where pairs have their own.
    targets: Vec<Option<(u32, Text)>>,
    pub components: Vec<Text>,
    pub ops: Vec<Option<Text>>,
    pub heads: BTreeSet<u32>,
    /// Names of positions, in the order in which they came.
    places: Vec<Text>,
    /// The position and token of each place, as far as all pairs agree on them.
    stands: HashMap<Stand, (Option<u32>, Option<Text>)>,
    cells: HashMap<(Of, At), CellValues>,
    /// The same without heads, while there are not several.
    headless: HashMap<(Of, At), CellValues>,
    /// The clean base and source of a facet.
    clean: HashMap<Of, (Moments, Moments)>,
    /// What is shown, if headlight knows it.
    levels: Option<LevelColumn>,
    /// Whether it is a recovery of which some pair's clean prompts are not known.
    pub unweighted: bool,
    filed: HashMap<Filed, Text>,
    /// Two runs of one pair, by their names, that have a single cell.
    pub crowded: Option<(Text, Text)>,
}

/// Place of a thing in a list of few, to whose end it is added if it is new.
fn place<T: PartialEq + Clone>(list: &mut Vec<T>, thing: &T) -> usize {
    list.iter().position(|x| x == thing).unwrap_or_else(|| {
        list.push(thing.clone());
        list.len() - 1
    })
}

impl CellMeans {
    /// No rows yet, of tables with these metrics, of which `value` is shown.
    pub fn new(metrics: &[String], value: &str) -> Result<Self, ReportError> {
        let shown = Shown::named(metrics, value)?;
        Ok(Self {
            shown,
            whole_run: matches!(shown, Shown::Metric(_)),
            first_value: 0,
            here: None,
            index: 0,
            first_run: 0,
            rows: 0,
            pairs: 0,
            several: 0,
            targets: Vec::new(),
            components: Vec::new(),
            ops: Vec::new(),
            heads: BTreeSet::new(),
            places: Vec::new(),
            stands: HashMap::new(),
            cells: HashMap::new(),
            headless: HashMap::new(),
            clean: HashMap::new(),
            levels: value
                .parse()
                .ok()
                .and_then(|metric| LevelColumn::of(metric, metrics)),
            unweighted: false,
            filed: HashMap::new(),
            crowded: None,
        })
    }

    /// Whether a recovery is shown.
    pub fn is_recovery(&self) -> bool {
        self.levels.is_some_and(|column| column.metric.recovery)
    }

    /// Adds a row, whose pair's clean prompts have these levels of what is shown.
    pub fn add(&mut self, row: &Row, clean: &CleanMetrics) {
        self.rows += 1;
        let value = self.shown.of(row);
        let run = Some((row.pair, row.run));
        self.index += 1;
        if self.here != run {
            self.index = 0;
            self.first_value = value.to_bits();
            if self.here.is_none_or(|(pair, _)| pair != row.pair) {
                self.pairs += 1;
                self.first_run = row.run;
                self.filed.clear();
            }
            self.here = run;
            self.file(row);
        }
        self.whole_run &= value.to_bits() == self.first_value;
        if row.run == self.first_run {
            self.target(row);
        }
        match &row.component {
            Some(component) if row.layer.is_some() || !component_layered(component) => {
                let levels = self
                    .levels
                    .map(|column| column.levels(row, self.index, clean));
                let levels = levels.filter(|levels| !levels.base.is_nan());
                self.place(row, component, (value, levels));
            }
            _ => self.several += usize::from(self.index == 0),
        }
    }

    /// Notes a run that patches what the grid has a single cell for and another does too, such as spans of
    /// several tokens, or one sender's paths to several receivers.
    fn file(&mut self, row: &Row) {
        let (Some(name), Some(component)) = (&row.name, &row.component) else {
            return;
        };
        let stand = self.stand(row);
        let numbers = [
            row.layer,
            row.head,
            row.sample,
            row.source_layer,
            row.source_head,
            row.source_position,
        ];
        let filed = (component.clone(), row.op.clone(), stand, numbers);
        let other = self.filed.entry(filed).or_insert_with(|| name.clone());
        if self.crowded.is_none() && other != name {
            self.crowded = Some((other.clone(), name.clone()));
        }
    }

    /// Where a row stands along the columns.
    fn stand(&mut self, row: &Row) -> Option<Stand> {
        match &row.position_name {
            Some(name) if !name.is_empty() => Some(Stand::Name(place(&mut self.places, name))),
            _ => row.position.map(Stand::Number),
        }
    }

    fn target(&mut self, row: &Row) {
        let own = (row.target_id, &row.target);
        match self.targets.get_mut(self.index) {
            None => self.targets.push(Some((row.target_id, row.target.clone()))),
            Some(known) => {
                if known.as_ref().is_some_and(|(id, text)| (*id, text) != own) {
                    *known = None;
                }
            }
        }
    }

    fn place(&mut self, row: &Row, component: &Text, (value, levels): (f64, Option<Levels>)) {
        let component = place(&mut self.components, component);
        let op = place(&mut self.ops, &row.op);
        let stand = self.stand(row);
        if let Some(stand) = stand {
            let agreed = self.stands.entry(stand);
            let (position, token) = agreed.or_insert_with(|| (row.position, row.token.clone()));
            *position = position.filter(|_| *position == row.position);
            *token = token
                .take()
                .filter(|token| Some(token) == row.token.as_ref());
        }
        self.heads.extend(row.head);
        let of = (Some(component), op, self.index);
        let at = (row.layer, stand, row.head);
        let recovery = self.is_recovery();
        self.unweighted |= recovery && levels.is_none();
        let add = |cell: &mut CellValues| {
            cell.values.add(value);
            levels
                .into_iter()
                .filter(|_| recovery)
                .for_each(|x| cell.levels.add(x));
        };
        add(self.cells.entry((of, at)).or_default());
        if self.heads.len() <= 1 {
            let at = (row.layer, stand, None);
            add(self.headless.entry((of, at)).or_default());
        } else {
            self.headless.clear();
        }
        // where a recovery begins and ends is known, whether or not this pair's base and source differ
        let base = levels.map(|levels| if recovery { 0.0 } else { levels.base });
        let source = levels.filter(|levels| !levels.source.is_nan());
        let source = source.map(|levels| if recovery { 1.0 } else { levels.source });
        for of in [of, (None, op, self.index)] {
            let clean = self.clean.entry(of).or_default();
            base.into_iter().for_each(|x| clean.0.add(x));
            source.into_iter().for_each(|x| clean.1.add(x));
        }
    }

    /// What the facets of a target are called, by its index; `value` where there is one for all.
    pub fn targets(&self, value: &str) -> Vec<String> {
        if self.whole_run {
            return vec![value.to_owned()];
        }
        let label = |(index, target): (usize, &Option<(u32, Text)>)| match target {
            Some((_, name)) => token_label(name),
            // Pairs with targets of their own: the first of each belong together.
            None => format!("target {} of each pair", index + 1),
        };
        self.targets.iter().enumerate().map(label).collect()
    }

    /// Whether heads stand side by side.
    pub fn side_by_side(&self) -> bool {
        self.heads.len() > 1
    }

    /// The facet of an operator and a target, by their indices, and of these components, which share its rows
    /// and columns with their other facets, whether or not each has them all; and how many values its
    /// fullest cell averages.
    pub fn facet(
        &self,
        (share, op, target): (&[usize], usize, usize),
        title: &str,
    ) -> Option<(Facet, u32)> {
        let whole = share.len() == self.components.len();
        let of = (Some(share[0]).filter(|_| !whole), op, target);
        let clean = self.clean.get(&of)?;
        let side_by_side = self.side_by_side();
        let known = match side_by_side {
            true => &self.cells,
            false => &self.headless,
        };
        let (mut rows, mut columns) = (BTreeMap::new(), BTreeSet::new());
        let shared = known.keys().filter_map(|((component, ..), at)| {
            let component = component.filter(|component| share.contains(component))?;
            Some((component, at))
        });
        let (mut positions, mut heads) = (BTreeSet::new(), BTreeSet::new());
        for (component, (layer, position, head)) in shared {
            let name = &self.components[component];
            let rank = component_rank(name);
            // Global sites lie below the first layer or above the last.
            let height = match layer {
                Some(layer) => i64::from(*layer),
                None if rank < component_rank("block_input") => -1,
                None => i64::from(u32::MAX) + 1,
            };
            rows.insert((height, rank, name), (*layer, component));
            positions.insert(*position);
            heads.insert(*head);
        }
        for position in &positions {
            columns.extend(heads.iter().map(|head| (*position, *head)));
        }
        let moments = rows.values().flat_map(|(layer, component)| {
            columns.iter().map(|(position, head)| {
                let of = (Some(*component), op, target);
                known.get(&(of, (*layer, *position, *head)))
            })
        });
        let cells: Vec<CellValues> = moments.map(|m| m.copied().unwrap_or_default()).collect();
        let mut groups: Vec<Group> = Vec::new();
        for position in positions {
            let label = |head: &Option<u32>| match head {
                // A component without heads has nothing to set side by side after all.
                _ if heads.len() == 1 => String::new(),
                Some(head) => head.to_string(),
                None => "–".to_owned(),
            };
            groups.push(Group {
                label: position.map_or_else(String::new, |position| self.label(position)),
                position: position.and_then(|position| self.stands.get(&position)?.0),
                columns: heads.iter().map(label).collect(),
            });
        }
        let label = |(layer, component): &(Option<u32>, usize)| match layer {
            Some(layer) if share.len() == 1 && side_by_side => format!("L{layer}"),
            layer => site_label(&self.components[*component], *layer),
        };
        let shown = |moments: &Moments| Some(moments.shown()).filter(|x| !x.is_nan());
        let known = |x: &f64| !x.is_nan();
        let facet = Facet {
            title: title.to_owned(),
            base: shown(&clean.0),
            source: shown(&clean.1),
            rows: rows.values().map(label).collect(),
            groups,
            cells: cells
                .iter()
                .map(|cell| Some(cell.shown()).filter(known))
                .collect(),
        };
        let most = cells
            .iter()
            .map(|cell| cell.values.values())
            .max()
            .unwrap_or(0);
        Some((facet, most))
    }

    /// The name that was asked for, else the token, else the number.
    fn label(&self, stand: Stand) -> String {
        let token = || self.stands.get(&stand)?.1.as_ref();
        match (stand, token()) {
            (Stand::Name(name), _) => token_label(&self.places[name]),
            (Stand::Number(_), Some(token)) => token_label(token),
            (Stand::Number(number), None) => number.to_string(),
        }
    }
}
