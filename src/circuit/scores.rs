//! Mean scores of edges over pairs and targets, from rows as they pass or from a table.

use std::collections::HashMap;

use super::Circuit;
use crate::files::error::FileError;
use crate::graph::edge::{Edge, edges};
use crate::model::Config;
use crate::results::moments::Mean;
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Row, Table, Text};
use crate::text::counted;

/// A table that no circuit can be made of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoresError {
    /// Without the scores.
    #[error("{table} has no column {column}: give what attribute edges --out wrote")]
    NoColumn {
        /// The table's file.
        table: String,
        /// The column.
        column: String,
    },
    /// Of other things than edges.
    #[error(
        "{table} has {} that are no whole edges of this model: give what attribute edges --out wrote, with the same --model",
        counted(*names, "name")
    )]
    NotEdges {
        /// The table's file.
        table: String,
        /// How many names are no edges.
        names: usize,
    },
}

impl Circuit {
    /// No circuit yet, with the means of a table's column as scores; `name` is what the table is called.
    ///
    /// # Errors
    ///
    /// [`ScoresError`] of a table that has not the column, or rows that are no edges of the model.
    pub fn of_table(
        table: &Table,
        name: &str,
        column: &str,
        config: &Config,
    ) -> Result<Self, ScoresError> {
        let at = table.metrics.iter().position(|name| name == column);
        let Some(at) = at else {
            return Err(ScoresError::NoColumn {
                table: name.to_owned(),
                column: column.to_owned(),
            });
        };
        let mut means = MeanScores::of_column(at);
        table.rows.iter().for_each(|row| means.add(row));
        let known = means.of_edges(config);
        if known.is_empty() || known.len() < means.len() {
            return Err(ScoresError::NotEdges {
                table: name.to_owned(),
                names: means.len() - known.len(),
            });
        }
        Ok(Self::new(config, &known))
    }
}

/// Means of a row's metric by the run's name.
#[derive(Debug, Default)]
pub struct MeanScores {
    column: usize,
    of: HashMap<Text, Mean>,
}

impl MeanScores {
    /// Of the metric of this index; the first unless said.
    pub fn of_column(column: usize) -> Self {
        Self {
            column,
            ..Self::default()
        }
    }

    /// Adds a row; one without a name or without a number is passed over.
    pub fn add(&mut self, row: &Row) {
        let score = row.metrics.get(self.column).filter(|x| x.is_finite());
        if let (Some(name), Some(score)) = (&row.name, score) {
            self.of.entry(name.clone()).or_default().add(*score);
        }
    }

    /// The means of a model's edges, those that are known.
    pub fn of_edges(&self, config: &Config) -> HashMap<Edge, f64> {
        let all = edges(config).into_iter();
        let known = all.filter_map(|edge| {
            let mean = self.of.get(edge.to_string().as_str())?;
            Some((edge, mean.get()))
        });
        known.collect()
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

impl Gather for MeanScores {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        result.rows.iter().for_each(|row| self.add(row));
        Ok(())
    }
}
