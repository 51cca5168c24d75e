//! Result tables as CSV: a header, then one line a row; missing values are empty fields.
//!
//! Numbers are the shortest text that reads back to the same bits, infinities `inf` and `-inf`, as
//! pandas, R and polars read them. CSV cannot tell an empty text from a missing one: an optional
//! column's empty text reads back as missing.

use std::io::{self, Read, Write};
use std::path::Path;

use super::columns::{self, Cell, FIXED, Kind};
use super::{Provenance, ReportError, Row, Table};
use crate::text::counted;

/// Writes the table, header first. The table has been checked.
pub(super) fn write(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    write_records(table, &mut csv).map_err(io_error)?;
    csv.flush()
}

fn write_records<W: Write>(table: &Table, csv: &mut csv::Writer<W>) -> csv::Result<()> {
    csv.write_record(columns::names(&table.metrics))?;
    for row in &table.rows {
        write_record(columns::cells(row), csv)?;
    }
    Ok(())
}

/// Writes one line.
pub(super) fn write_record<'a, W: Write>(
    cells: impl Iterator<Item = Cell<'a>>,
    csv: &mut csv::Writer<W>,
) -> csv::Result<()> {
    for cell in cells {
        match cell {
            Cell::Missing => csv.write_field("")?,
            Cell::Int(value) => csv.write_field(value.to_string())?,
            Cell::Text(value) => csv.write_field(value.as_bytes())?,
            Cell::Float(value) => csv.write_field(columns::float_text(value))?,
        }
    }
    csv.write_record(None::<&[u8]>)
}

/// The system's own error: the crate's conversion would hide that a disk is full or a pipe closed.
pub(super) fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// Reads what [`write`] wrote; `path` is for messages.
pub(super) fn read(path: &Path, input: impl Read) -> Result<Table, ReportError> {
    let mut csv = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(input);
    let mut record = csv::ByteRecord::new();
    if !advance(path, &mut csv, &mut record)? {
        return Err(ReportError::malformed(
            path,
            "the file is empty; a result begins with a line of column names",
        ));
    }
    let header = record
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect::<Vec<_>>();
    let metrics = columns::metrics_of_header(&header)
        .map_err(|problem| ReportError::malformed(path, problem))?;

    let mut rows = Vec::new();
    while advance(path, &mut csv, &mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        let field = |column: &str, problem: String| ReportError::Field {
            path: path.to_owned(),
            place: format!("line {line}"),
            column: column.to_owned(),
            problem,
        };
        let mut row = Row::default();
        let mut fields = record.iter();
        for column in &FIXED {
            // The reader has checked that every record is as long as the header.
            let bytes = fields.next().unwrap_or_default();
            let cell = cell(bytes, column.kind, column.nullable)
                .map_err(|problem| field(column.name, problem))?;
            (column.set)(&mut row, cell);
        }
        for (name, bytes) in metrics.iter().zip(fields) {
            match cell(bytes, Kind::Float, false).map_err(|problem| field(name, problem))? {
                Cell::Float(value) => row.metrics.push(value),
                _ => return Err(field(name, "expected a number".to_owned())),
            }
        }
        rows.push(row);
    }
    Ok(Table {
        metrics,
        rows,
        provenance: Provenance::default(),
    })
}

/// Reads the next record; false at the end.
fn advance<R: Read>(
    path: &Path,
    csv: &mut csv::Reader<R>,
    record: &mut csv::ByteRecord,
) -> Result<bool, ReportError> {
    csv.read_byte_record(record).map_err(|error| {
        if let csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } = error.kind()
        {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            return ReportError::malformed(
                path,
                format!(
                    "line {line} has {}, but the header names {expected_len}",
                    counted(usize::try_from(*len).unwrap_or(usize::MAX), "field")
                ),
            );
        }
        match error.into_kind() {
            csv::ErrorKind::Io(source) => ReportError::Read {
                path: path.to_owned(),
                source,
            },
            other => ReportError::malformed(path, format!("not readable as CSV: {other:?}")),
        }
    })
}

/// Reads one field.
fn cell(bytes: &[u8], kind: Kind, nullable: bool) -> Result<Cell<'_>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("{:?} is not UTF-8", String::from_utf8_lossy(bytes)))?;
    if text.is_empty() && nullable {
        return Ok(Cell::Missing);
    }
    let wrong = || match text {
        "" => format!("expected {}, found nothing", kind.expected()),
        _ => format!("expected {}, found {text:?}", kind.expected()),
    };
    match kind {
        Kind::Text => Ok(Cell::Text(text.into())),
        Kind::Int => text.parse().map(Cell::Int).map_err(|_| wrong()),
        Kind::Float => columns::float_of_text(text)
            .map(Cell::Float)
            .ok_or_else(wrong),
    }
}
