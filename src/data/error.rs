//! What can be wrong with a data set, each in one sentence: where, what, and what would be right.

use std::path::{Path, PathBuf};

/// A data set that is wrong as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Cannot be read.
    #[error("{}: cannot read the data set: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An ending that names no format.
    #[error(
        "{}: data sets are told apart by the file name, which must end in .jsonl, .csv, .parquet or .json",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// Parquet, and this program was built without the feature `parquet`.
    #[error(
        "{}: this build has no Parquet: use .jsonl, .csv or .json, or build without --no-default-features",
        path.display()
    )]
    NoParquet {
        /// The file.
        path: PathBuf,
    },
    /// Not of the format that its ending names.
    #[error("{}: {}", path.display(), visible(problem))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        problem: String,
    },
    /// No row at all.
    #[error("{}: the data set has no rows: give at least one prompt pair", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A row that is wrong, and nobody asked to skip such rows.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Every row was skipped.
    #[error("{}: {}, so nothing is left to run; the first: {first}", path.display(), all_bad(*count))]
    AllBad {
        /// The file.
        path: PathBuf,
        /// Rows in the file.
        count: usize,
        /// What is wrong with the first.
        first: Box<RowError>,
    },
    /// Answers for rows that have none, where all have some.
    #[error(
        "{flag} is for rows without {what}, and every row of {} has its own: leave the flag out, or take them out of the file",
        path.display()
    )]
    OwnAnswers {
        /// The file.
        path: PathBuf,
        /// The flag, and its other forms.
        flag: &'static str,
        /// What it gives.
        what: &'static str,
    },
    /// No row that the model answers rightly, where only such rows were asked for.
    #[error(
        "{}: the model {}, so --known leaves nothing to run; the first: {first}",
        path.display(),
        none_known(*count)
    )]
    NoneKnown {
        /// The file.
        path: PathBuf,
        /// Rows that could be read.
        count: usize,
        /// What the model says to the first.
        first: Box<RowError>,
    },
}

/// A row that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, {place}{}: {problem}", path.display(), field.as_ref().map_or(String::new(), |f| format!(", field {f}")))]
pub struct RowError {
    /// The file.
    pub path: PathBuf,
    /// `line 7` (text, from 1) or `row 6` (Parquet, from 0).
    pub place: String,
    /// The field, where one field is to blame.
    pub field: Option<String>,
    /// What was found, and what was expected.
    pub problem: String,
}

impl RowError {
    /// An error of the row at `place`.
    pub fn new(path: &Path, place: &str, field: Option<&str>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            place: place.into(),
            field: field.map(visible),
            problem: visible(&problem.into()),
        }
    }
}

fn all_bad(count: usize) -> String {
    match count {
        1 => "its only row is bad".to_owned(),
        _ => format!("all {count} rows are bad"),
    }
}

fn none_known(count: usize) -> String {
    match count {
        1 => "does not answer its only row with a target of the row's".to_owned(),
        _ => format!("answers none of the {count} rows with a target of theirs"),
    }
}

/// Text of a file in a sentence: on one line, and with nothing in it that drives a terminal.
fn visible(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_debug()),
            false => line.push(c),
        }
    }
    line
}
