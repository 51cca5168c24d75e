//! Result tables as Parquet: typed columns, snappy, provenance in the file's own metadata.
//!
//! Column by column through the `parquet` crate's low-level interface: a table of two dozen flat
//! columns does not need arrow, which would be most of the build. A file of ours has a checksum over all of its
//! bytes ([`super::seal`]), and is not read where these are others.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::ReportError;
use super::seal::{self, Sealed};
use super::table::EachRows;
use crate::files::error::FileError;
use crate::files::fence::fenced;
use crate::results::columns::{self, Cell, Column, Kind};
use crate::results::table::{Provenance, Row, Table};

/// Rows in a row group: a few tens of megabytes where readers hold it, some ten here, as columns.
const ROW_GROUP: usize = 1 << 16;

/// Key of the provenance in the file's metadata.
const METADATA_KEY: &str = "headlight";

/// Row groups in the making: rows wait, column by column, until there are enough for one.
pub(super) struct RowGroups<W: Write + Send> {
    columns: Vec<Column>,
    waiting: Vec<Waiting>,
    rows: usize,
    /// What is written to, until the first row group says how its columns are best encoded.
    out: Option<W>,
    file: Option<SerializedFileWriter<Sealed<W>>>,
}

impl<W: Write + Send> RowGroups<W> {
    pub(super) fn new(columns: &[Column], out: W) -> Self {
        Self {
            waiting: columns.iter().map(Waiting::of).collect(),
            columns: columns.to_vec(),
            rows: 0,
            out: Some(out),
            file: None,
        }
    }

    /// Adds a row.
    pub(super) fn row<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) -> io::Result<()> {
        let columns = self.waiting.iter_mut();
        columns
            .zip(cells)
            .for_each(|(column, cell)| column.push(cell));
        self.rows += 1;
        match self.rows {
            ROW_GROUP => self.flush(),
            _ => Ok(()),
        }
    }

    /// What was written to, with every row in it and the provenance in its metadata.
    pub(super) fn finish(mut self, provenance: &Provenance) -> io::Result<W> {
        let provenance = serde_json::to_string(provenance)?;
        if self.rows > 0 {
            self.flush()?;
        }
        let mut file = self.opened()?;
        file.flush()?;
        file.inner_mut().hold();
        file.append_key_value_metadata(KeyValue::new(METADATA_KEY.to_owned(), provenance));
        file.append_key_value_metadata(KeyValue::new(seal::KEY.to_owned(), seal::BLANK.to_owned()));
        file.into_inner().map_err(io_error)?.finish()
    }

    /// Writes what waits as a row group.
    fn flush(&mut self) -> io::Result<()> {
        let mut file = self.opened()?;
        let mut group = file.next_row_group().map_err(io_error)?;
        for column in &mut self.waiting {
            column.write(&mut group).map_err(io_error)?;
        }
        group.close().map_err(io_error)?;
        self.file = Some(file);
        self.rows = 0;
        Ok(())
    }

    fn opened(&mut self) -> io::Result<SerializedFileWriter<Sealed<W>>> {
        if let Some(file) = self.file.take() {
            return Ok(file);
        }
        let mut properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
        for (column, waiting) in self.columns.iter().zip(&self.waiting) {
            // numbers that hardly repeat are smaller by their bytes than by a list of them
            if waiting.hardly_repeats() {
                let path = ColumnPath::from(&*column.name);
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
            }
        }
        let schema = schema(&self.columns).map_err(io_error)?;
        let out = self.out.take();
        let out = out.ok_or_else(|| io::Error::other("the file failed before"))?;
        let out = Sealed::new(out);
        SerializedFileWriter::new(out, schema, Arc::new(properties.build())).map_err(io_error)
    }
}

/// Values of a column that wait for their row group.
struct Waiting {
    values: Values,
    /// 1 for each value that is there, 0 for each that is missing, where one may be.
    present: Option<Vec<i16>>,
}

enum Values {
    Ints(Vec<i32>),
    /// Indices of texts, each of which is kept once.
    Texts(Vec<u32>, HashMap<Box<str>, u32>, Vec<ByteArray>),
    Floats(Vec<f64>),
}

impl Waiting {
    fn of(column: &Column) -> Self {
        Self {
            values: match column.kind {
                Kind::Int => Values::Ints(Vec::new()),
                Kind::Text => Values::Texts(Vec::new(), HashMap::new(), Vec::new()),
                Kind::Float => Values::Floats(Vec::new()),
            },
            present: column.nullable.then(Vec::new),
        }
    }

    /// Adds a cell of the column's kind; any other is a mistake of the caller and counts as missing.
    fn push(&mut self, cell: Cell<'_>) {
        if let Some(present) = &mut self.present {
            present.push(i16::from(cell != Cell::Missing));
        }
        match (&mut self.values, cell) {
            // Parquet keeps unsigned numbers in the bits of signed ones.
            (Values::Ints(all), Cell::Int(value)) => all.push(value.cast_signed()),
            (Values::Floats(all), Cell::Float(value)) => all.push(value),
            (Values::Texts(all, known, texts), Cell::Text(value)) => {
                let index = known.get(value).copied().unwrap_or_else(|| {
                    texts.push(ByteArray::from(value.as_bytes().to_vec()));
                    let index = texts.len() as u32 - 1;
                    known.insert(value.into(), index);
                    index
                });
                all.push(index);
            }
            _ => {}
        }
    }

    /// Whether a dictionary of the numbers would be nearly as long as they are.
    fn hardly_repeats(&self) -> bool {
        match &self.values {
            Values::Floats(all) => {
                let distinct: HashSet<u64> = all.iter().map(|x| x.to_bits()).collect();
                2 * distinct.len() > all.len()
            }
            _ => false,
        }
    }

    /// Writes the column of a row group, and forgets it.
    fn write<W: Write + Send>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> parquet::errors::Result<()> {
        let Some(mut writer) = group.next_column()? else {
            return Err(ParquetError::General("fewer columns than planned".into()));
        };
        let present = self.present.as_deref();
        match &mut self.values {
            Values::Ints(all) => {
                let writer = writer.typed::<Int32Type>();
                writer.write_batch(all, present, None)?;
                all.clear();
            }
            Values::Floats(all) => {
                let writer = writer.typed::<DoubleType>();
                writer.write_batch(all, present, None)?;
                all.clear();
            }
            Values::Texts(all, known, texts) => {
                let each = all.iter().map(|index| texts[*index as usize].clone());
                let each: Vec<ByteArray> = each.collect();
                let writer = writer.typed::<ByteArrayType>();
                writer.write_batch(&each, present, None)?;
                all.clear();
                known.clear();
                texts.clear();
            }
        }
        if let Some(present) = &mut self.present {
            present.clear();
        }
        writer.close()
    }
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
fn schema(columns: &[Column]) -> parquet::errors::Result<TypePtr> {
    let field = |column: &Column| {
        let (physical, logical) = match column.kind {
            Kind::Int => (Physical::INT32, Some(LogicalType::integer(32, false))),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Float => (Physical::DOUBLE, None),
        };
        let repetition = if column.nullable {
            Repetition::OPTIONAL
        } else {
            Repetition::REQUIRED
        };
        Type::primitive_type_builder(&column.name, physical)
            .with_logical_type(logical)
            .with_repetition(repetition)
            .build()
            .map(Arc::new)
    };
    Type::group_type_builder("result")
        .with_fields(columns.iter().map(field).collect::<Result<_, _>>()?)
        .build()
        .map(Arc::new)
}

/// Reads a table; `path` is for messages.
///
/// Integers may also be 64 bits wide and any column may be nullable, as other tools write them when
/// they save a result again; what a value then is, is checked row by row.
pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<Table, ReportError> {
    // On damaged files the crate returns errors nearly always, but not always: flipping bits in good
    // files also ends in panics such as "Decoder for dict should have been set" and "column start
    // and length should not be negative" (version 60.1). Catching them is the only way to refuse
    // such a file in a sentence; nothing outlives the fence.
    let mut rows = Vec::new();
    let about = read_by_group(path, bytes, &mut |group| {
        rows.extend(group);
        Ok(())
    })?;
    Ok(Table { rows, ..about })
}

/// Reads a table row group by row group; what comes back has no rows.
pub(super) fn read_by_group(
    path: &Path,
    bytes: Vec<u8>,
    each: &mut EachRows<'_>,
) -> Result<Table, ReportError> {
    let outcome = fenced(AssertUnwindSafe(|| read_trusting(path, bytes, each)));
    outcome.unwrap_or_else(|_| Err(panicked(path)))
}

/// What a file's footer says: a table without rows, and how many it has.
pub(super) fn footer(path: &Path) -> Result<(Table, u64), ReportError> {
    let file = File::open(path).map_err(FileError::read_of(path))?;
    let outcome = fenced(AssertUnwindSafe(|| {
        let file = SerializedFileReader::new(file).map_err(|error| damaged(path, error))?;
        let rows = file.metadata().file_metadata().num_rows();
        Ok((header(path, &file)?.1, u64::try_from(rows).unwrap_or(0)))
    }));
    outcome.unwrap_or_else(|_| Err(panicked(path)))
}

/// Refuses a file of ours whose bytes are not those that were written.
pub(super) fn check(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    match seal::holds(bytes) {
        Some(false) => Err(ReportError::malformed(
            path,
            "its bytes are not those that were written (the checksum in it is another): write it again, or fetch it again",
        )),
        Some(true) | None => Ok(()),
    }
}

fn panicked(path: &Path) -> ReportError {
    ReportError::malformed(path, "the Parquet file is damaged; write it again")
}

fn damaged(path: &Path, error: ParquetError) -> ReportError {
    ReportError::malformed(path, format!("not readable as Parquet: {error}"))
}

/// The columns' names, and a table of them without rows.
fn header<R: ChunkReader + 'static>(
    path: &Path,
    file: &SerializedFileReader<R>,
) -> Result<(Vec<String>, Table), ReportError> {
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
    let table = Table {
        metrics,
        rows: Vec::new(),
        provenance,
    };
    Ok((header, table))
}

fn read_trusting(
    path: &Path,
    bytes: Vec<u8>,
    each: &mut EachRows<'_>,
) -> Result<Table, ReportError> {
    check(path, &bytes)?;
    let damaged = |error| damaged(path, error);
    let file = SerializedFileReader::new(Bytes::from(bytes)).map_err(damaged)?;
    let (header, table) = header(path, &file)?;
    // rows of the groups before
    let mut before = 0;
    for index in 0..file.num_row_groups() {
        let group = file.get_row_group(index).map_err(damaged)?;
        let mut rows: Vec<Row> = Vec::new();
        for (number, name) in header.iter().enumerate() {
            let (kind, nullable) = columns::kind(number, name);
            let mut next = 0;
            let field = |row: usize, problem: String| ReportError::Field {
                path: path.to_owned(),
                place: format!("row {}", before + row),
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
                columns::set(row, (number, name), cell);
                next += 1;
                Ok(())
            })
            .map_err(|error| match error {
                Stop::Parquet(error) => damaged(error),
                Stop::Type(problem) => field(0, problem),
                Stop::Field(error) => error,
            })?;
            if next != rows.len() {
                return Err(field(next, "shorter than the columns before it".to_owned()));
            }
        }
        before += rows.len();
        each(rows)?;
    }
    Ok(table)
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
                        Ok(text) => Ok(Cell::Text(text)),
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
