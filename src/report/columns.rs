//! The columns of a result file: one list that every format writes and reads by.
//!
//! A format decides how a [`Cell`] is spelt and nothing else, so names, order and nullability
//! cannot differ between CSV, JSONL and Parquet.

use std::borrow::Cow;
use std::collections::HashSet;

use super::ReportError;
use crate::results::table::{Row, Table};

/// One value of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell<'a> {
    /// A missing value: empty in CSV, null elsewhere.
    Missing,
    /// A count, an index or an id.
    Int(u32),
    /// Text.
    Text(Cow<'a, str>),
    /// A number.
    Float(f64),
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// [`Cell::Int`].
    Int,
    /// [`Cell::Text`].
    Text,
    /// [`Cell::Float`].
    Float,
}

impl Kind {
    /// What a field of this kind should look like, for error messages.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Int => "a whole number from 0 to 4294967295",
            Self::Text => "text",
            Self::Float => "a number",
        }
    }
}

/// A column that every result has.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) get: for<'a> fn(&'a Row) -> Cell<'a>,
    /// Stores a cell of the right kind; any other is a mistake of the caller and is ignored.
    pub(crate) set: fn(&mut Row, Cell<'_>),
}

macro_rules! column {
    ($field:ident: int) => {
        Column {
            name: stringify!($field),
            kind: Kind::Int,
            nullable: false,
            get: |row| Cell::Int(row.$field),
            set: |row, cell| {
                if let Cell::Int(value) = cell {
                    row.$field = value;
                }
            },
        }
    };
    ($field:ident: optional int) => {
        Column {
            name: stringify!($field),
            kind: Kind::Int,
            nullable: true,
            get: |row| row.$field.map_or(Cell::Missing, Cell::Int),
            set: |row, cell| {
                if let Cell::Int(value) = cell {
                    row.$field = Some(value);
                }
            },
        }
    };
    ($field:ident: text) => {
        Column {
            name: stringify!($field),
            kind: Kind::Text,
            nullable: false,
            get: |row| Cell::Text(Cow::Borrowed(&row.$field)),
            set: |row, cell| {
                if let Cell::Text(value) = cell {
                    row.$field = value.into_owned();
                }
            },
        }
    };
    ($field:ident: optional text) => {
        Column {
            name: stringify!($field),
            kind: Kind::Text,
            nullable: true,
            get: |row| {
                row.$field
                    .as_deref()
                    .map_or(Cell::Missing, |value| Cell::Text(Cow::Borrowed(value)))
            },
            set: |row, cell| {
                if let Cell::Text(value) = cell {
                    row.$field = Some(value.into_owned());
                }
            },
        }
    };
    ($field:ident: float) => {
        Column {
            name: stringify!($field),
            kind: Kind::Float,
            nullable: false,
            get: |row| Cell::Float(row.$field),
            set: |row, cell| {
                if let Cell::Float(value) = cell {
                    row.$field = value;
                }
            },
        }
    };
    ($field:ident: optional float) => {
        Column {
            name: stringify!($field),
            kind: Kind::Float,
            nullable: true,
            get: |row| row.$field.map_or(Cell::Missing, Cell::Float),
            set: |row, cell| {
                if let Cell::Float(value) = cell {
                    row.$field = Some(value);
                }
            },
        }
    };
}

/// The fixed columns, in file order.
pub(crate) static FIXED: [Column; 21] = [
    column!(pair: int),
    column!(run: int),
    column!(name: optional text),
    column!(component: optional text),
    column!(layer: optional int),
    column!(head: optional int),
    column!(position: optional int),
    column!(token: optional text),
    column!(op: optional text),
    column!(source_layer: optional int),
    column!(source_head: optional int),
    column!(source_position: optional int),
    column!(sample: optional int),
    column!(target: text),
    column!(target_id: int),
    column!(prob: float),
    column!(logprob: float),
    column!(logit: float),
    column!(base_prob: float),
    column!(source_prob: optional float),
    column!(patches: text),
];

/// All column names of a table, in file order.
pub(crate) fn names(metrics: &[String]) -> impl Iterator<Item = &str> {
    let fixed = FIXED.iter().map(|column| column.name);
    fixed.chain(metrics.iter().map(String::as_str))
}

/// All cells of a row, in file order.
pub(crate) fn cells(row: &Row) -> impl Iterator<Item = Cell<'_>> {
    let fixed = FIXED.iter().map(move |column| (column.get)(row));
    fixed.chain(row.metrics.iter().map(|&value| Cell::Float(value)))
}

/// Splits a file's header into the fixed columns, which must stand first and in order, and the
/// metrics after them.
pub(crate) fn metrics_of_header(header: &[String]) -> Result<Vec<String>, String> {
    for (index, column) in FIXED.iter().enumerate() {
        match header.get(index) {
            Some(found) if found == column.name => {}
            _ if !header.iter().any(|name| name == column.name) => {
                return Err(format!(
                    "the column {} is missing; a result has {}",
                    column.name,
                    names(&[]).collect::<Vec<_>>().join(", ")
                ));
            }
            Some(found) => {
                return Err(format!(
                    "column {} should be {}, but is {found:?}",
                    index + 1,
                    column.name
                ));
            }
            None => return Err(format!("the column {} is missing", column.name)),
        }
    }
    let metrics = header[FIXED.len()..].to_vec();
    check_metrics(&metrics)?;
    Ok(metrics)
}

/// Refuses metric names that would make a file ambiguous.
fn check_metrics(metrics: &[String]) -> Result<(), String> {
    let mut seen: HashSet<&str> = names(&[]).collect();
    for name in metrics {
        if name.is_empty() {
            return Err("a metric column has no name".to_owned());
        }
        if !seen.insert(name) {
            return Err(format!("there are two columns {name}"));
        }
    }
    Ok(())
}

/// Refuses a table whose rows and metric names do not fit together.
pub(crate) fn check(table: &Table) -> Result<(), ReportError> {
    check_metrics(&table.metrics).map_err(ReportError::Inconsistent)?;
    match table
        .rows
        .iter()
        .position(|row| row.metrics.len() != table.metrics.len())
    {
        Some(index) => Err(ReportError::Inconsistent(format!(
            "row {index} has {} metric values for {} metrics",
            table.rows[index].metrics.len(),
            table.metrics.len()
        ))),
        None => Ok(()),
    }
}

/// Spells a number as the shortest text that reads back to the same bits: `0.1`, `1e-7`, `-inf`,
/// `NaN`. (A NaN's payload is not kept.)
pub(crate) fn float_text(value: f64) -> String {
    // `{:?}` rather than `{}`: the latter writes 1e-300 with three hundred zeros.
    format!("{value:?}")
}

/// Reads what [`float_text`] wrote, and any usual spelling of a number.
pub(crate) fn float_of_text(text: &str) -> Option<f64> {
    text.parse().ok()
}
