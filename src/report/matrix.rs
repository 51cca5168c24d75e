//! Edges as a matrix: a row a sender, the first lowest, and a column a receiver, layer by layer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ReportError;
use super::colour::{Scale, Sides};
use super::edge_names::{NodeAt, NodeLevel, NodePart, ends};
use super::heatmap::{Facet, Group, HeatMap, recovery_note, title, value_name};
use super::measure::{CellValues, CleanValues, Measure};
use super::places::CellPlaces;
use super::style::DrawnValue;
use crate::files::error::FileError;
use crate::results::clean::CleanMetrics;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Provenance, Row};

/// A matrix of edges in the making: means of the rows so far.
pub struct EdgeMatrix {
    value: String,
    change: bool,
    measure: Measure,
    /// For the targets, and how many pairs there are.
    places: CellPlaces,
    senders: BTreeMap<NodeAt, String>,
    receivers: BTreeSet<NodeAt>,
    cells: HashMap<(NodeAt, NodeAt, usize), CellValues>,
    /// The clean base and source of a target.
    clean: HashMap<usize, CleanValues>,
    /// An edge of one position.
    positioned: Option<String>,
    others: usize,
}

impl EdgeMatrix {
    /// Nothing yet, of tables with these metrics.
    ///
    /// # Errors
    ///
    /// [`ReportError::NoSuchValue`].
    pub fn new(metrics: &[String], value: &DrawnValue) -> Result<Self, ReportError> {
        let (value, change) = (value.column(metrics).to_owned(), value.change);
        Ok(Self {
            measure: Measure::new(metrics, (&value, change))?,
            value,
            change,
            places: CellPlaces::default(),
            senders: BTreeMap::new(),
            receivers: BTreeSet::new(),
            cells: HashMap::new(),
            clean: HashMap::new(),
            positioned: None,
            others: 0,
        })
    }

    /// Adds a row, whose pair's clean prompts have these metrics.
    pub(super) fn add(&mut self, row: &Row, clean: &CleanMetrics) {
        self.places.add(row);
        let target = self.places.index;
        self.measure.see(row, target);
        let ends = row.name.as_deref().and_then(ends);
        let nodes =
            ends.and_then(|(from, to, at)| Some((from, NodeAt::of(from)?, NodeAt::of(to)?, at)));
        let Some((name, sender, receiver, position)) = nodes else {
            self.others += 1;
            return;
        };
        if position.is_some() && self.positioned.is_none() {
            self.positioned = row.name.as_deref().map(str::to_owned);
        }
        self.senders
            .entry(sender)
            .or_insert_with(|| name.to_owned());
        self.receivers.insert(receiver);
        let measured = self.measure.of(row, target, clean);
        measured.add_to(self.cells.entry((sender, receiver, target)).or_default());
        measured.add_clean_to(self.clean.entry(target).or_default());
    }

    /// The heat map of all rows that came, of results made in this way.
    ///
    /// # Errors
    ///
    /// [`ReportError::NothingToPlot`] of no edges, of edges position by position, or of a change whose base nobody knows.
    pub fn finish(self, made: &Provenance) -> Result<HeatMap, ReportError> {
        let nothing = |why: String| Err(ReportError::NothingToPlot(why));
        if self.cells.is_empty() {
            return nothing("the table has no edges".to_owned());
        }
        if let Some(edge) = &self.positioned {
            return nothing(format!(
                "{edge} is an edge of one position, for which a matrix has no place: name a page, .html"
            ));
        }
        if self.change && self.measure.baseless {
            return nothing(format!(
                "the table does not say what {} was in the base prompts, of which a change would be",
                self.value
            ));
        }
        let targets = match self.measure.whole_run {
            true => vec![self.value.clone()],
            false => self.places.targets(),
        };
        let facets: Vec<Facet> = targets
            .iter()
            .enumerate()
            .map(|(target, label)| self.facet(target, label))
            .collect();
        let shown = facets
            .iter()
            .flat_map(|facet| facet.cells.iter().flatten().copied());
        let base = facets.iter().filter_map(|facet| facet.base);
        let sides = match self.change {
            true => Sides::Two,
            false => Sides::of(&self.value),
        };
        let most = self
            .cells
            .values()
            .map(|cell| cell.values.values())
            .max()
            .unwrap_or(0);
        let mut notes = vec![
            "senders upwards, receivers to the right: q, k, v of each head, and the MLP (m)"
                .to_owned(),
        ];
        if most > 1 {
            notes.push(format!(
                "each cell is the mean over the pairs that have it, up to {most}"
            ));
            if self.measure.is_recovery() {
                notes.push(recovery_note(self.measure.unweighted));
            }
        }
        if self.others > 0 {
            notes.push(format!("not drawn: {} rows of no edge", self.others));
        }
        Ok(HeatMap {
            title: title(made, &CellPlaces::default()),
            notes,
            value: value_name(&self.value, self.change),
            whole: false,
            empty: "no edge, or not run",
            scale: Scale::of(shown.chain(base), sides),
            width: None,
            per_row: facets.len(),
            facets,
        })
    }

    fn facet(&self, target: usize, label: &str) -> Facet {
        let [base, source] = self.clean.get(&target).copied().unwrap_or_default().shown();
        let levels: BTreeSet<NodeLevel> = self.receivers.iter().map(|node| node.level).collect();
        let of = |level| {
            self.receivers
                .iter()
                .filter(move |node| node.level == level)
        };
        let column = |node: &NodeAt| match (node.level, node.part) {
            (NodeLevel::Logits, _) => String::new(),
            (_, NodePart::Query) => format!("q{}", node.head),
            (_, NodePart::Key) => format!("k{}", node.head),
            (_, NodePart::Value) => format!("v{}", node.head),
            (_, NodePart::Head) => node.head.to_string(),
            (_, NodePart::Mlp) => "m".to_owned(),
        };
        let group = |level: &NodeLevel| Group {
            label: match level {
                NodeLevel::Layer(layer) => format!("L{layer}"),
                NodeLevel::Logits => "logits".to_owned(),
                NodeLevel::Input => String::new(),
            },
            position: None,
            columns: of(*level).map(column).collect(),
        };
        let cell = |sender: &NodeAt, receiver: &NodeAt| {
            let cell = self.cells.get(&(*sender, *receiver, target))?;
            Some(cell.shown()).filter(|x| !x.is_nan())
        };
        Facet {
            title: label.to_owned(),
            base,
            source,
            rows: self.senders.values().cloned().collect(),
            groups: levels.iter().map(group).collect(),
            cells: self
                .senders
                .keys()
                .flat_map(|sender| {
                    self.receivers
                        .iter()
                        .map(move |receiver| cell(sender, receiver))
                })
                .collect(),
        }
    }
}

impl Gather for EdgeMatrix {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let rows = result.rows.iter();
        rows.for_each(|row| self.add(row, result.clean));
        Ok(())
    }
}
