//! Result tables as JSON lines: one object a row, keys in column order, missing values `null`.
//!
//! JSON has no infinities: they, and NaN, are the strings `"inf"`, `"-inf"` and `"NaN"`, which
//! pandas turns into numbers by itself.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};
use std::path::Path;

use serde_json::Value;

use crate::files::fields::Fields;

use super::columns::{self, Cell, FIXED, Kind};
use super::{Provenance, ReportError, Row, Table};

/// Writes the table. It has been checked.
pub(super) fn write(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    let names = columns::names(&table.metrics);
    write_objects(names, table.rows.iter().map(columns::cells), out)
}

/// Writes one object a row.
pub(super) fn write_objects<'a, R: Iterator<Item = Cell<'a>>>(
    names: impl Iterator<Item = &'a str>,
    rows: impl Iterator<Item = R>,
    out: &mut dyn Write,
) -> io::Result<()> {
    // The keys are the same in every line: quote them once.
    let keys = names
        .map(|name| Ok(format!("{}:", serde_json::to_string(name)?)))
        .collect::<Result<Vec<_>, serde_json::Error>>()?;
    let mut line = Vec::new();
    for row in rows {
        line.clear();
        for (key, cell) in keys.iter().zip(row) {
            line.push(if line.is_empty() { b'{' } else { b',' });
            line.extend_from_slice(key.as_bytes());
            match cell {
                Cell::Missing => line.extend_from_slice(b"null"),
                Cell::Int(value) => write!(line, "{value}")?,
                Cell::Text(value) => serde_json::to_writer(&mut line, &*value)?,
                Cell::Float(value) if value.is_finite() => {
                    line.extend_from_slice(columns::float_text(value).as_bytes());
                }
                Cell::Float(value) => write!(line, "\"{}\"", columns::float_text(value))?,
            }
        }
        line.extend_from_slice(b"}\n");
        out.write_all(&line)?;
    }
    out.flush()
}

/// Reads what [`write`] wrote; `path` is for messages. A file without rows does not say which
/// metrics it has, so `columns`, the names that the provenance beside it gives, may.
pub(super) fn read(
    path: &Path,
    input: impl BufRead,
    columns: Option<&[String]>,
) -> Result<Table, ReportError> {
    let mut metrics: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    for (index, line) in input.split(b'\n').enumerate() {
        let line = line.map_err(|source| ReportError::Read {
            path: path.to_owned(),
            source,
        })?;
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

        let field = |column: &str, problem: String| ReportError::Field {
            path: path.to_owned(),
            place: place.clone(),
            column: column.to_owned(),
            problem,
        };
        let mut row = Row::default();
        let mut values = values.into_iter();
        for (column, value) in FIXED.iter().zip(values.by_ref()) {
            let cell = cell(value, column.kind, column.nullable)
                .map_err(|problem| field(column.name, problem))?;
            (column.set)(&mut row, cell);
        }
        for (name, value) in found.iter().zip(values) {
            match cell(value, Kind::Float, false).map_err(|problem| field(name, problem))? {
                Cell::Float(value) => row.metrics.push(value),
                _ => return Err(field(name, "expected a number".to_owned())),
            }
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
        provenance: Provenance::default(),
    })
}

/// Reads one field.
fn cell(value: Value, kind: Kind, nullable: bool) -> Result<Cell<'static>, String> {
    let cell = match (&value, kind) {
        (Value::Null, _) if nullable => Some(Cell::Missing),
        (Value::String(text), Kind::Text) => Some(Cell::Text(Cow::Owned(text.clone()))),
        (Value::Number(number), Kind::Int) => number
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .map(Cell::Int),
        (Value::Number(number), Kind::Float) => number.as_f64().map(Cell::Float),
        (Value::String(text), Kind::Float) => columns::float_of_text(text)
            .filter(|number| !number.is_finite())
            .map(Cell::Float),
        _ => None,
    };
    cell.ok_or_else(|| {
        let null = if nullable { " or null" } else { "" };
        format!("expected {}{null}, found {value}", kind.expected())
    })
}
