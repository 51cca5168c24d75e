//! Result tables as CSV: a header, then one line a row; missing values are empty fields.
//!
//! Numbers are the shortest text that reads back to the same bits, infinities `inf` and `-inf`, as
//! pandas, R and polars read them. CSV cannot tell an empty text from a missing one: an optional
//! column's empty text reads back as missing.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::Path;

use super::ReportError;
use crate::files::error::FileError;
use crate::results::columns::{self, Cell, Column, Kind};
use crate::results::table::{Row, Table};
use crate::text::counted;

/// Lines in the making.
pub(super) struct Lines<W: Write> {
    csv: csv::Writer<W>,
    number: String,
}

impl<W: Write> Lines<W> {
    /// Begins with the header.
    pub(super) fn new(columns: &[Column], out: W) -> io::Result<Self> {
        let mut csv = csv::Writer::from_writer(out);
        let names = columns.iter().map(|column| &*column.name);
        csv.write_record(names).map_err(io_error)?;
        Ok(Self {
            csv,
            number: String::new(),
        })
    }

    /// Writes one line.
    pub(super) fn row<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) -> io::Result<()> {
        for cell in cells {
            self.number.clear();
            let field = match cell {
                Cell::Missing => "",
                Cell::Text(value) => value,
                Cell::Int(value) => {
                    let _ = write!(self.number, "{value}");
                    &self.number
                }
                Cell::Float(value) => {
                    columns::write_float(&mut self.number, value);
                    &self.number
                }
            };
            self.csv.write_field(field).map_err(io_error)?;
        }
        self.csv.write_record(None::<&[u8]>).map_err(io_error)
    }

    /// What was written to, with every line in it.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.csv.flush()?;
        self.csv
            .into_inner()
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

/// The system's own error: the crate's conversion would hide that a disk is full or a pipe closed.
pub(super) fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// Reads a table; `path` is for messages.
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
        let mut row = Row::default();
        // The reader has checked that every record is as long as the header.
        for (number, bytes) in record.iter().enumerate() {
            let cell = cell(bytes, columns::kind(number, &header[number])).map_err(|problem| {
                ReportError::Field {
                    path: path.to_owned(),
                    place: format!("line {line}"),
                    column: header[number].clone(),
                    problem,
                }
            })?;
            columns::set(&mut row, (number, &header[number]), cell);
        }
        rows.push(row);
    }
    Ok(Table {
        metrics,
        rows,
        ..Table::default()
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
            csv::ErrorKind::Io(source) => FileError::read_of(path)(source).into(),
            other => ReportError::malformed(path, format!("not readable as CSV: {other:?}")),
        }
    })
}

/// Reads one field.
fn cell(bytes: &[u8], (kind, nullable): (Kind, bool)) -> Result<Cell<'_>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("{:?} is not UTF-8", String::from_utf8_lossy(bytes)))?;
    if text.is_empty() && nullable {
        return Ok(Cell::Missing);
    }
    let read = match kind {
        Kind::Text => Some(Cell::Text(text)),
        Kind::Int => text.parse().ok().map(Cell::Int),
        Kind::Float => text.parse().ok().map(Cell::Float),
    };
    read.ok_or_else(|| match text {
        "" => format!("expected {}, found nothing", kind.expected()),
        _ => format!("expected {}, found {text:?}", kind.expected()),
    })
}
