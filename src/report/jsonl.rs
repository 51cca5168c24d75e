//! Result tables as JSON lines: one object a row, keys in column order, missing values `null`.
//!
//! JSON has no infinities: they, and NaN, are the strings `"inf"`, `"-inf"` and `"NaN"`, which
//! pandas turns into numbers by itself.

use std::io::{self, BufRead, Write};
use std::path::Path;

use serde_json::Value;

use super::ReportError;
use crate::files::error::FileError;
use crate::files::fields::Fields;
use crate::results::columns::{self, Cell, Column, Kind};
use crate::results::table::{Row, Table};

/// Objects in the making.
pub(super) struct Objects<W> {
    out: W,
    /// The keys are the same in every line, and quoted once.
    keys: Vec<String>,
    line: String,
}

impl<W: Write> Objects<W> {
    pub(super) fn new(columns: &[Column], out: W) -> io::Result<Self> {
        let key = |column: &Column| Ok(format!("{}:", serde_json::to_string(&column.name)?));
        Ok(Self {
            out,
            keys: columns.iter().map(key).collect::<io::Result<_>>()?,
            line: String::new(),
        })
    }

    /// Writes one object.
    pub(super) fn row<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) -> io::Result<()> {
        use std::fmt::Write as _;
        let line = &mut self.line;
        line.clear();
        for (key, cell) in self.keys.iter().zip(cells) {
            line.push(if line.is_empty() { '{' } else { ',' });
            line.push_str(key);
            match cell {
                Cell::Missing => line.push_str("null"),
                Cell::Int(value) => {
                    let _ = write!(line, "{value}");
                }
                Cell::Text(value) => line.push_str(&serde_json::to_string(value)?),
                Cell::Float(value) if value.is_finite() => columns::write_float(line, value),
                Cell::Float(value) => {
                    line.push('"');
                    columns::write_float(line, value);
                    line.push('"');
                }
            }
        }
        line.push_str("}\n");
        self.out.write_all(line.as_bytes())
    }

    /// What was written to, with every object in it.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a table; `path` is for messages. A file without rows does not say which metrics it has, so
/// `columns`, the names that the provenance beside it gives, may.
pub(super) fn read(
    path: &Path,
    input: impl BufRead,
    columns: Option<&[String]>,
) -> Result<Table, ReportError> {
    let mut metrics: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    for (index, line) in input.split(b'\n').enumerate() {
        let line = line.map_err(FileError::read_of(path))?;
        let place = format!("line {}", index + 1);
        let Fields(fields) = serde_json::from_slice(&line).map_err(|error| {
            let problem = match error.classify() {
                serde_json::error::Category::Eof if line.is_empty() => "is empty".to_owned(),
                _ => format!("is not a JSON object of a result row: {error}"),
            };
            ReportError::malformed(path, format!("{place} {problem}"))
        })?;
        let (header, values): (Vec<String>, Vec<Value>) = fields.into_iter().unzip();
        let found = columns::metrics_of_header(&header)
            .map_err(|problem| ReportError::malformed(path, format!("{place}: {problem}")))?;
        let expected = metrics.get_or_insert_with(|| found.clone());
        if *expected != found {
            return Err(ReportError::malformed(
                path,
                format!(
                    "{place} has the metrics {found:?}, but the lines before it have {expected:?}"
                ),
            ));
        }
        let mut row = Row::default();
        for (number, value) in values.iter().enumerate() {
            let cell = cell(value, columns::kind(number, &header[number])).map_err(|problem| {
                ReportError::Field {
                    path: path.to_owned(),
                    place: place.clone(),
                    column: header[number].clone(),
                    problem,
                }
            })?;
            columns::set(&mut row, (number, &header[number]), cell);
        }
        rows.push(row);
    }
    let metrics = match (metrics, columns) {
        (Some(metrics), _) => metrics,
        (None, Some(columns)) => columns::metrics_of_header(columns)
            .map_err(|problem| ReportError::malformed(path, problem))?,
        (None, None) => Vec::new(),
    };
    Ok(Table {
        metrics,
        rows,
        ..Table::default()
    })
}

/// Reads one field.
fn cell(value: &Value, (kind, nullable): (Kind, bool)) -> Result<Cell<'_>, String> {
    let cell = match (value, kind) {
        (Value::Null, _) if nullable => Some(Cell::Missing),
        (Value::String(text), Kind::Text) => Some(Cell::Text(text)),
        (Value::Number(number), Kind::Int) => number
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .map(Cell::Int),
        (Value::Number(number), Kind::Float) => number.as_f64().map(Cell::Float),
        (Value::String(text), Kind::Float) => text
            .parse()
            .ok()
            .filter(|number: &f64| !number.is_finite())
            .map(Cell::Float),
        _ => None,
    };
    cell.ok_or_else(|| {
        let null = if nullable { " or null" } else { "" };
        format!("expected {}{null}, found {value}", kind.expected())
    })
}
