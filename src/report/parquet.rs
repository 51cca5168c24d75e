//! Result tables as Parquet: typed columns, snappy, provenance in the file's own metadata.
//!
//! Column by column through the `parquet` crate's low-level interface: a table of two dozen flat
//! columns does not need arrow, which would be most of the build.

use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::columns::{self, Cell, FIXED, Kind};
use super::{Provenance, ReportError, Row, Table};
use crate::files::fence::fenced;

/// Rows in a row group: some tens of megabytes in memory, which is what readers expect.
const ROW_GROUP: usize = 1 << 17;

/// Key of the provenance in the file's metadata.
const METADATA_KEY: &str = "headlight";

/// Writes the table. It has been checked.
pub(super) fn write(table: &Table, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let fixed = FIXED.iter().map(|c| (c.name, c.kind, c.nullable));
    let metrics = table
        .metrics
        .iter()
        .map(|name| (&**name, Kind::Float, false));
    let mut file = writer(fixed.chain(metrics), &table.provenance, out)?;
    for rows in table.rows.chunks(ROW_GROUP) {
        let mut group = file.next_row_group().map_err(io_error)?;
        for column in &FIXED {
            let cells = rows.iter().map(column.get);
            write_column(&mut group, column.kind, column.nullable, cells).map_err(io_error)?;
        }
        for metric in 0..table.metrics.len() {
            let cells = rows.iter().map(|row| Cell::Float(row.metrics[metric]));
            write_column(&mut group, Kind::Float, false, cells).map_err(io_error)?;
        }
        group.close().map_err(io_error)?;
    }
    file.close().map_err(io_error)?;
    Ok(())
}

/// Writes rows of cells in these columns (name, kind, whether nullable), as one row group.
pub(super) fn write_cells<'a>(
    columns: impl Iterator<Item = (&'a str, Kind, bool)> + Clone,
    rows: &[Vec<Cell<'_>>],
    provenance: &Provenance,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    let mut file = writer(columns.clone(), provenance, out)?;
    let mut group = file.next_row_group().map_err(io_error)?;
    for (i, (_, kind, nullable)) in columns.enumerate() {
        let cells = rows.iter().map(|row| row[i].clone());
        write_column(&mut group, kind, nullable, cells).map_err(io_error)?;
    }
    group.close().map_err(io_error)?;
    file.close().map_err(io_error)?;
    Ok(())
}

/// A file of these columns (name, kind, whether nullable), with the provenance in its metadata.
fn writer<'a, W: Write + Send>(
    columns: impl Iterator<Item = (&'a str, Kind, bool)>,
    provenance: &Provenance,
    out: W,
) -> io::Result<SerializedFileWriter<W>> {
    let provenance = serde_json::to_string(provenance)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            METADATA_KEY.to_owned(),
            provenance,
        )]))
        .build();
    let schema = schema(columns).map_err(io_error)?;
    SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(io_error)
}

/// The system's own error, where there is one inside: a full disk should read as a full disk.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(inner) => *inner,
            Err(inner) => io::Error::other(inner),
        },
        other => io::Error::other(other),
    }
}

/// The file's schema.
fn schema<'a>(
    columns: impl Iterator<Item = (&'a str, Kind, bool)>,
) -> parquet::errors::Result<TypePtr> {
    let field = |(name, kind, nullable): (&str, Kind, bool)| {
        let (physical, logical) = match kind {
            Kind::Int => (Physical::INT32, Some(LogicalType::integer(32, false))),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Float => (Physical::DOUBLE, None),
        };
        let repetition = if nullable {
            Repetition::OPTIONAL
        } else {
            Repetition::REQUIRED
        };
        Type::primitive_type_builder(name, physical)
            .with_logical_type(logical)
            .with_repetition(repetition)
            .build()
            .map(Arc::new)
    };
    Type::group_type_builder("result")
        .with_fields(columns.map(field).collect::<Result<_, _>>()?)
        .build()
        .map(Arc::new)
}

/// Writes one column of one row group.
fn write_column<'a, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    kind: Kind,
    nullable: bool,
    cells: impl Iterator<Item = Cell<'a>>,
) -> parquet::errors::Result<()> {
    let Some(mut writer) = group.next_column()? else {
        return Err(ParquetError::General("fewer columns than planned".into()));
    };
    let (mut ints, mut texts, mut floats) = (Vec::new(), Vec::new(), Vec::new());
    let mut present = Vec::new();
    for cell in cells {
        present.push(i16::from(cell != Cell::Missing));
        match cell {
            Cell::Missing => {}
            // Parquet keeps unsigned numbers in the bits of signed ones.
            Cell::Int(value) => ints.push(value.cast_signed()),
            Cell::Text(value) => texts.push(ByteArray::from(value.as_bytes().to_vec())),
            Cell::Float(value) => floats.push(value),
        }
    }
    let present = nullable.then_some(present.as_slice());
    match kind {
        Kind::Int => writer
            .typed::<Int32Type>()
            .write_batch(&ints, present, None)?,
        Kind::Text => writer
            .typed::<ByteArrayType>()
            .write_batch(&texts, present, None)?,
        Kind::Float => writer
            .typed::<DoubleType>()
            .write_batch(&floats, present, None)?,
    };
    writer.close()
}

/// Reads what [`write`] wrote; `path` is for messages.
///
/// Integers may also be 64 bits wide and any column may be nullable, as other tools write them when
/// they save a result again; what a value then is, is checked row by row.
pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<Table, ReportError> {
    // On damaged files the crate returns errors nearly always, but not always: flipping bits in good
    // files also ends in panics such as "Decoder for dict should have been set" and "column start
    // and length should not be negative" (version 60.1). Catching them is the only way to refuse
    // such a file in a sentence; nothing outlives the fence.
    let outcome = fenced(AssertUnwindSafe(|| read_trusting(path, bytes)));
    outcome.unwrap_or_else(|_| {
        Err(ReportError::malformed(
            path,
            "the Parquet file is damaged; write it again",
        ))
    })
}

fn read_trusting(path: &Path, bytes: Vec<u8>) -> Result<Table, ReportError> {
    let damaged = |error: ParquetError| {
        ReportError::malformed(path, format!("not readable as Parquet: {error}"))
    };
    let file = SerializedFileReader::new(Bytes::from(bytes)).map_err(damaged)?;
    let metadata = file.metadata().file_metadata();
    let header = metadata
        .schema_descr()
        .columns()
        .iter()
        .map(|column| column.path().string())
        .collect::<Vec<_>>();
    let metrics = columns::metrics_of_header(&header)
        .map_err(|problem| ReportError::malformed(path, problem))?;
    let provenance = match metadata
        .key_value_metadata()
        .into_iter()
        .flatten()
        .find(|pair| pair.key == METADATA_KEY)
        .and_then(|pair| pair.value.as_deref())
    {
        None => Provenance::default(),
        Some(json) => serde_json::from_str(json).map_err(|error| {
            ReportError::malformed(
                path,
                format!("the metadata {METADATA_KEY} is not the provenance of a result: {error}"),
            )
        })?,
    };

    let mut rows = Vec::new();
    for index in 0..file.num_row_groups() {
        let group = file.get_row_group(index).map_err(damaged)?;
        let first = rows.len();
        for (number, name) in header.iter().enumerate() {
            let (kind, nullable) = match FIXED.get(number) {
                Some(column) => (column.kind, column.nullable),
                None => (Kind::Float, false),
            };
            let mut next = first;
            let field = |row: usize, problem: String| ReportError::Field {
                path: path.to_owned(),
                place: format!("row {row}"),
                column: name.clone(),
                problem,
            };
            read_column(group.as_ref(), number, kind, |cell| {
                let cell = match cell {
                    Ok(Cell::Missing) if !nullable => Err("null".to_owned()),
                    other => other,
                };
                let cell = cell.map_err(|found| {
                    let problem = format!("expected {}, found {found}", kind.expected());
                    field(next, problem)
                })?;
                // The first column says how many rows there are.
                if number == 0 {
                    rows.push(Row::default());
                }
                let row = rows
                    .get_mut(next)
                    .ok_or_else(|| field(next, "longer than the columns before it".to_owned()))?;
                match (FIXED.get(number), cell) {
                    (Some(column), cell) => (column.set)(row, cell),
                    (None, Cell::Float(value)) => row.metrics.push(value),
                    (None, _) => {}
                }
                next += 1;
                Ok(())
            })
            .map_err(|error| match error {
                Stop::Parquet(error) => damaged(error),
                Stop::Type(problem) => field(first, problem),
                Stop::Field(error) => error,
            })?;
            if next != rows.len() {
                return Err(field(next, "shorter than the columns before it".to_owned()));
            }
        }
    }
    Ok(Table {
        metrics,
        rows,
        provenance,
    })
}

/// Why a column could not be read.
enum Stop {
    Parquet(ParquetError),
    Type(String),
    Field(ReportError),
}

impl From<ParquetError> for Stop {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

/// Hands every cell of a column to `each`, an unfit value as what was found.
fn read_column(
    group: &dyn RowGroupReader,
    number: usize,
    kind: Kind,
    mut each: impl FnMut(Result<Cell<'_>, String>) -> Result<(), ReportError>,
) -> Result<(), Stop> {
    let unfit = |value: String| Err(value);
    match (kind, group.get_column_reader(number)?) {
        (Kind::Int, ColumnReader::Int32ColumnReader(mut reader)) => {
            // A signed column of another tool and our unsigned one are told apart by the schema.
            let column = group.metadata().column(number);
            let unsigned = matches!(
                column.column_descr().logical_type_ref(),
                Some(LogicalType::Integer(int)) if !int.is_signed
            );
            batches(&mut reader, |value: Option<&i32>| {
                each(match value {
                    None => Ok(Cell::Missing),
                    Some(&value) if unsigned || value >= 0 => Ok(Cell::Int(value.cast_unsigned())),
                    Some(value) => unfit(value.to_string()),
                })
            })
        }
        (Kind::Int, ColumnReader::Int64ColumnReader(mut reader)) => {
            batches(&mut reader, |value: Option<&i64>| {
                each(match value {
                    None => Ok(Cell::Missing),
                    Some(&value) => match u32::try_from(value) {
                        Ok(value) => Ok(Cell::Int(value)),
                        Err(_) => unfit(value.to_string()),
                    },
                })
            })
        }
        (Kind::Text, ColumnReader::ByteArrayColumnReader(mut reader)) => {
            batches(&mut reader, |value: Option<&ByteArray>| {
                each(match value {
                    None => Ok(Cell::Missing),
                    Some(value) => match std::str::from_utf8(value.data()) {
                        Ok(text) => Ok(Cell::Text(text.into())),
                        Err(_) => unfit("bytes that are not UTF-8".to_owned()),
                    },
                })
            })
        }
        (Kind::Float, ColumnReader::DoubleColumnReader(mut reader)) => {
            batches(&mut reader, |value: Option<&f64>| {
                each(Ok(value.map_or(Cell::Missing, |&value| Cell::Float(value))))
            })
        }
        _ => Err(Stop::Type(format!(
            "the column's type should hold {}",
            match kind {
                Kind::Int => "whole numbers (INT32 or INT64)",
                Kind::Text => "text (BYTE_ARRAY)",
                Kind::Float => "numbers (DOUBLE)",
            }
        ))),
    }
}

/// Reads a column batch by batch, so that a damaged row count cannot ask for all memory at once.
fn batches<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    mut each: impl FnMut(Option<&T::T>) -> Result<(), ReportError>,
) -> Result<(), Stop> {
    const BATCH: usize = 4096;
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    loop {
        values.clear();
        levels.clear();
        let (records, present, _) =
            reader.read_records(BATCH, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Ok(());
        }
        // A required column has no levels: all its values are there.
        if levels.is_empty() {
            levels.resize(present, 1);
        }
        let mut values = values.iter();
        for &level in &levels {
            let value = match level {
                0 => None,
                _ => Some(values.next().ok_or_else(|| {
                    ParquetError::General("fewer values than the page announces".into())
                })?),
            };
            each(value).map_err(Stop::Field)?;
        }
    }
}
