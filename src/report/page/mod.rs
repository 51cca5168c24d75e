//! A result as a page: one HTML file that opens in any browser, without a network, and shows what a picture shows
//! and what a picture cannot: every number, every pair, every metric.
//!
//! Rust decides what there is to see (places, axes, names, means) and embeds it ([`document`]): a description as JSON,
//! and the numbers as little-endian f32. What is done with it is in the `.js` files beside this one, each one concept,
//! which share one scope and are put together as they are: there is no framework and no build step.

mod about;
mod again;
mod attention;
mod cells;
mod columns;
mod document;
mod edges;

use std::path::Path;

pub use self::attention::{AttentionPrompt, attention_page, check_attention};
pub use self::cells::CellPage;
pub use self::edges::{EdgePage, circuit_page};

use self::about::About;
use self::document::Embedded;
use super::ReportError;
use super::edge_names::are_edges;
use super::heatmap::each_row;
use crate::files::whole::WholeFile;
use crate::results::table::Table;

/// A page, ready to be written.
pub struct Page {
    about: About,
    numbers: Embedded,
}

impl Page {
    /// The page of a result: a grid of cells, or, of edges, their graph.
    ///
    /// # Errors
    ///
    /// [`ReportError::NothingToPlot`] and [`ReportError::Crowded`], as [`HeatMap::new`](super::HeatMap::new).
    pub fn new(table: &Table) -> Result<Self, ReportError> {
        if are_edges(table) {
            let mut page = EdgePage::new(&table.metrics);
            each_row(table, &mut |row, clean| page.add(row, clean));
            return page.finish(&table.provenance);
        }
        Self::of_cells(table, CellPage::new(&table.metrics))
    }

    /// The page of a table with a grid for each component, however few there are.
    ///
    /// # Errors
    ///
    /// As [`Page::new`].
    pub fn by_component(table: &Table) -> Result<Self, ReportError> {
        Self::of_cells(table, CellPage::new(&table.metrics).by_component())
    }

    fn of_cells(table: &Table, mut page: CellPage) -> Result<Self, ReportError> {
        each_row(table, &mut |row, clean| page.add(row, clean));
        page.finish(&table.provenance)
    }

    /// Lets the page open with this column.
    ///
    /// # Errors
    ///
    /// [`ReportError::NoSuchValue`] for one that the page does not have.
    pub fn showing(mut self, value: &str) -> Result<Self, ReportError> {
        let mut values = self.about.values.iter();
        match values.position(|known| known.name == value) {
            Some(at) => self.about.shown = at,
            None => {
                let known = self.about.values.iter().map(|value| value.name.as_str());
                return Err(ReportError::NoSuchValue {
                    name: value.to_owned(),
                    known: known.collect::<Vec<_>>().join(", "),
                });
            }
        }
        Ok(self)
    }

    /// Adds what a reader has to know besides, one sentence.
    pub fn note(&mut self, note: String) {
        self.about.notes.push(note);
    }

    /// Marks positions whose labels are starred.
    pub fn star(&mut self, positions: &[usize]) {
        self.about.star(positions);
    }

    /// The page as the text of a file.
    #[must_use]
    pub fn html(&self) -> String {
        document::html(&self.about, &self.numbers)
    }

    /// Writes the page, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`FileError`](crate::files::error::FileError) where the disk does not take it.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        Ok(WholeFile::write(path, self.html().as_bytes())?)
    }
}
