//! The page of edges: the residual graph by layers, an edge a number of each column.

use std::collections::HashMap;

use super::Page;
use super::about::{About, GraphAbout, Made, PageKind, first_shown, title};
use super::columns::{ColumnMeans, ColumnNumbers};
use crate::circuit::Circuit;
use crate::files::error::FileError;
use crate::report::ReportError;
use crate::report::edge_names::ends;
use crate::report::heatmap::recovery_note;
use crate::report::places::CellPlaces;
use crate::results::clean::CleanMetrics;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Provenance, Row, Text};

/// Every position at once, among positions.
const ALL: u32 = u32::MAX;

/// The page of a circuit: every edge with its score, those of the circuit at first alone.
///
/// # Errors
///
/// [`ReportError::NothingToPlot`] of no edges.
pub fn circuit_page(circuit: &Circuit) -> Result<Page, ReportError> {
    let mut page = EdgePage::new(&["score".to_owned()]);
    let unscored = circuit.scores.iter().all(|score| *score == 0.0);
    let kept: Vec<u8> = circuit.kept.iter().map(|kept| u8::from(*kept)).collect();
    let edges = circuit
        .edges
        .iter()
        .zip(&circuit.scores)
        .zip(&kept)
        .zip(0..);
    for (((edge, score), kept), run) in edges {
        let row = Row {
            run,
            name: Some(edge.to_string().into()),
            prob: f64::NAN,
            logprob: f64::NAN,
            logit: f64::NAN,
            base_prob: f64::NAN,
            // where nothing is known of scores, all that is kept is drawn alike
            metrics: vec![if unscored { f64::from(*kept) } else { *score }],
            ..Row::default()
        };
        page.add(&row, &CleanMetrics::default());
    }
    let mut page = page.finish(&Provenance::default())?;
    let count = kept.iter().filter(|kept| **kept == 1).count();
    let title = format!("a circuit of {count} of {} edges", kept.len());
    page.about.title = vec![("", title)];
    if let Some(graph) = &mut page.about.graph {
        graph.kept = kept;
    }
    Ok(page)
}

/// A page of edges in the making.
pub struct EdgePage {
    known: HashMap<Text, Option<usize>>,
    nodes: Vec<String>,
    receivers: Vec<(String, usize)>,
    edges: Vec<u32>,
    /// For the targets, and for how many runs have no place in the graph.
    places: CellPlaces,
    others: usize,
    columns: ColumnMeans,
}

impl EdgePage {
    /// Nothing yet, of tables with these metrics.
    pub fn new(metrics: &[String]) -> Self {
        Self {
            known: HashMap::new(),
            nodes: Vec::new(),
            receivers: Vec::new(),
            edges: Vec::new(),
            places: CellPlaces::default(),
            others: 0,
            columns: ColumnMeans::new(metrics),
        }
    }

    /// Adds a row, whose pair's clean prompts have these metrics.
    pub(super) fn add(&mut self, row: &Row, clean: &CleanMetrics) {
        self.places.add(row);
        let Some(name) = &row.name else {
            self.others += 1;
            return;
        };
        let edge = match self.known.get(name) {
            Some(edge) => *edge,
            None => {
                let edge = ends(name).map(|ends| self.edge(ends));
                self.known.insert(name.clone(), edge);
                edge
            }
        };
        match edge {
            Some(edge) => self.columns.add(edge, self.places.index, row, clean),
            None => self.others += 1,
        }
    }

    fn edge(&mut self, (sender, receiver, position): (&str, &str, Option<u32>)) -> usize {
        let sender = self.node(sender);
        let mut receivers = self.receivers.iter();
        let known = receivers.position(|(name, _)| name == receiver);
        let receiver = known.unwrap_or_else(|| {
            // a head's query, key and value are drawn in one place
            let node = receiver.split('<').next().unwrap_or(receiver);
            let node = self.node(node);
            self.receivers.push((receiver.to_owned(), node));
            self.receivers.len() - 1
        });
        self.edges
            .extend([sender as u32, receiver as u32, position.unwrap_or(ALL)]);
        self.edges.len() / 3 - 1
    }

    fn node(&mut self, name: &str) -> usize {
        let known = self.nodes.iter().position(|node| node == name);
        known.unwrap_or_else(|| {
            self.nodes.push(name.to_owned());
            self.nodes.len() - 1
        })
    }

    /// The page of all rows that came, of results made in this way.
    ///
    /// # Errors
    ///
    /// [`ReportError::NothingToPlot`] of no edges.
    pub fn finish(self, made: &Provenance) -> Result<Page, ReportError> {
        let count = self.edges.len() / 3;
        if count == 0 {
            return Err(ReportError::NothingToPlot(
                "the table has no edges".to_owned(),
            ));
        }
        let order: Vec<Option<usize>> = (0..count).map(Some).collect();
        let (most, unweighted) = (self.columns.most, self.columns.unweighted);
        let ColumnNumbers {
            values,
            views,
            stride,
            mut numbers,
            mut notes,
        } = self.columns.finish(&order, made);
        if most > 1 && values.iter().any(|value| value.recovery) {
            notes.push(recovery_note(unweighted));
        }
        if self.others > 0 {
            notes.push(format!("not drawn: {} rows of no edge", self.others));
        }
        let positions = self.edges.chunks(3).any(|edge| edge[2] != ALL);
        numbers.edges = self.edges;
        let about = About {
            kind: PageKind::Edges,
            title: title(made, &CellPlaces::default()),
            notes,
            made: Made::of(made),
            shown: first_shown(&values),
            values,
            targets: self.places.targets(),
            views,
            runs: Vec::new(),
            facets: Vec::new(),
            graph: Some(GraphAbout {
                nodes: self.nodes,
                receivers: self.receivers,
                kept: Vec::new(),
                positions,
            }),
            cells: count,
            stride,
        };
        Ok(Page { about, numbers })
    }
}

impl Gather for EdgePage {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let rows = result.rows.iter();
        rows.for_each(|row| self.add(row, result.clean));
        Ok(())
    }
}
