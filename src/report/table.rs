//! Tables in files, row by row as they come, and how they were made.
//!
//! Parquet has room for a result's provenance in its own metadata; CSV and JSONL have none, so it stands
//! beside them as `F.meta.json`, which also lists the columns. A result that was moved without it is still a
//! result.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

#[cfg(feature = "parquet")]
use super::parquet;
use super::{ReportError, csv, ending, jsonl};
use crate::files::error::FileError;
use crate::files::whole::{WholeFile, is_plain};
use crate::results::averages::Averages;
use crate::results::columns::{self, Cell, Column};
use crate::results::rows::{Gather, RunResult};
use crate::results::table::{Provenance, Row, Table};

/// A format of result tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet (feature `parquet`).
    #[cfg(feature = "parquet")]
    Parquet,
}

impl TableFormat {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    ///
    /// [`ReportError::UnknownFormat`] for an ending of none; [`ReportError::LeftOut`] for Parquet in a build
    /// without it.
    pub fn of(path: &Path) -> Result<Self, ReportError> {
        match ending(path).as_str() {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            #[cfg(feature = "parquet")]
            "parquet" => Ok(Self::Parquet),
            #[cfg(not(feature = "parquet"))]
            "parquet" => Err(ReportError::LeftOut {
                path: path.to_owned(),
                format: "Parquet",
                instead: ".csv or .jsonl",
            }),
            _ => Err(ReportError::UnknownFormat {
                path: path.to_owned(),
                what: "results",
                endings: ".csv, .jsonl or .parquet",
            }),
        }
    }

    /// Writes a whole table to `out`. Of the three, only Parquet includes the provenance.
    ///
    /// # Errors
    ///
    /// Those of `out`; of the kind [`io::ErrorKind::Other`] for a table whose rows and metric names do
    /// not fit together.
    pub fn write(self, table: &Table, out: &mut (dyn Write + Send)) -> io::Result<()> {
        check(table).map_err(io::Error::other)?;
        let mut rows = Rows::new(self, &columns::columns(&columns::names(table)), out)?;
        for row in &table.rows {
            rows.row(columns::cells(row))?;
        }
        rows.finish(&table.provenance)?;
        Ok(())
    }

    /// Where the provenance of a result file at `path` stands, if it is not in the file itself.
    fn sidecar(self, path: &Path) -> Option<PathBuf> {
        match self {
            // nothing stands beside a pipe or a device
            Self::Csv | Self::Jsonl => is_plain(path).then(|| meta_path(path)),
            #[cfg(feature = "parquet")]
            Self::Parquet => None,
        }
    }
}

/// Rows in the making, in one of the formats.
enum Rows<W: Write + Send> {
    Csv(Box<csv::Lines<W>>),
    Jsonl(jsonl::Objects<W>),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::RowGroups<W>>),
}

impl<W: Write + Send> Rows<W> {
    fn new(format: TableFormat, columns: &[Column], out: W) -> io::Result<Self> {
        Ok(match format {
            TableFormat::Csv => Self::Csv(Box::new(csv::Lines::new(columns, out)?)),
            TableFormat::Jsonl => Self::Jsonl(jsonl::Objects::new(columns, out)?),
            #[cfg(feature = "parquet")]
            TableFormat::Parquet => Self::Parquet(parquet::RowGroups::new(columns, out).into()),
        })
    }

    fn row<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) -> io::Result<()> {
        match self {
            Self::Csv(lines) => lines.row(cells),
            Self::Jsonl(objects) => objects.row(cells),
            #[cfg(feature = "parquet")]
            Self::Parquet(groups) => groups.row(cells),
        }
    }

    // only Parquet has room for the provenance
    #[cfg_attr(not(feature = "parquet"), expect(unused_variables))]
    fn finish(self, provenance: &Provenance) -> io::Result<W> {
        match self {
            Self::Csv(lines) => lines.finish(),
            Self::Jsonl(objects) => objects.finish(),
            #[cfg(feature = "parquet")]
            Self::Parquet(groups) => groups.finish(provenance),
        }
    }
}

/// A table's file, written as rows come; it appears whole, with its provenance, or not at all.
pub struct TableWriter {
    path: PathBuf,
    rows: Rows<WholeFile>,
    sidecar: Option<(WholeFile, Vec<Column>)>,
}

impl TableWriter {
    /// Starts a table with these columns behind the fixed ones, as [`columns::columns`] takes them, at `path`, in the
    /// format of its ending.
    ///
    /// # Errors
    ///
    /// As [`TableFormat::of`] and [`WholeFile::create`], of the file or of the one beside it;
    /// [`ReportError::Inconsistent`] for metrics that would make the file ambiguous.
    pub fn create(path: &Path, names: &[String]) -> Result<Self, ReportError> {
        columns::check_metrics(columns::metrics(names)).map_err(ReportError::Inconsistent)?;
        let columns = columns::columns(names);
        let mut writer = Self::of(path, &columns)?;
        if let Some(meta) = TableFormat::of(path)?.sidecar(path) {
            writer.sidecar = Some((WholeFile::create(&meta)?, columns));
        }
        Ok(writer)
    }

    /// A table of these columns; nothing stands beside it.
    fn of(path: &Path, columns: &[Column]) -> Result<Self, ReportError> {
        let (format, file) = (TableFormat::of(path)?, WholeFile::create(path)?);
        let rows = Rows::new(format, columns, file).map_err(FileError::write_to(path))?;
        Ok(Self {
            path: path.to_owned(),
            rows,
            sidecar: None,
        })
    }

    /// Adds a row by its cells, one a column.
    fn cells<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) -> Result<(), FileError> {
        let written = self.rows.row(cells);
        written.map_err(|error| FileError::write_to(&self.path)(error))
    }

    /// Adds rows.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`] where the disk does not take them.
    pub fn rows(&mut self, rows: &[Row]) -> Result<(), FileError> {
        rows.iter()
            .try_for_each(|row| self.cells(columns::cells(row)))
    }

    /// Puts every row on disk, and gives the file its name.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`] where the disk does not take it.
    pub fn finish(self, provenance: &Provenance) -> Result<(), FileError> {
        let path = self.path.clone();
        self.finish_as(&path, provenance)
    }

    /// The same under another name in the same folder.
    ///
    /// # Errors
    ///
    /// As [`TableWriter::finish`].
    pub fn finish_as(self, path: &Path, provenance: &Provenance) -> Result<(), FileError> {
        let file = self.rows.finish(provenance);
        let mut file = file.map_err(FileError::write_to(&self.path))?;
        if path != self.path {
            file = file.named(path);
        }
        let Some((mut sidecar, columns)) = self.sidecar else {
            return file.finish();
        };
        let names = columns.into_iter().map(|column| column.name.into_owned());
        let meta = Meta {
            provenance: provenance.clone(),
            columns: Some(names.collect()),
        };
        let write = |mut json: Vec<u8>| {
            json.push(b'\n');
            sidecar.write_all(&json)
        };
        let json = serde_json::to_vec_pretty(&meta).map_err(io::Error::from);
        json.and_then(write)
            .map_err(FileError::write_to(sidecar.path()))?;
        WholeFile::finish_all(vec![file, sidecar])
    }
}

impl Gather for TableWriter {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        self.rows(result.rows)
    }
}

/// Rows as CSV on a stream such as standard output, without the provenance.
pub struct CsvStream<W: Write>(csv::Lines<W>);

impl<W: Write> CsvStream<W> {
    /// Begins with the columns' names.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`] where `out` does not take them.
    pub fn new(metrics: &[String], out: W) -> Result<Self, FileError> {
        let lines = csv::Lines::new(&columns::columns(metrics), out);
        lines.map(Self).map_err(to_stream)
    }

    /// Hands on what still waits.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`].
    pub fn finish(self) -> Result<(), FileError> {
        self.0.finish().map(drop).map_err(to_stream)
    }
}

impl<W: Write> Gather for CsvStream<W> {
    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let mut rows = result.rows.iter();
        rows.try_for_each(|row| self.0.row(columns::cells(row)))
            .map_err(to_stream)
    }
}

fn to_stream(source: io::Error) -> FileError {
    FileError::Write {
        to: "standard output".to_owned(),
        source,
    }
}

/// Writes a table to `path` in the format of its ending, its provenance with it: inside a Parquet
/// file, in [`meta_path`] beside the others.
///
/// # Errors
///
/// As [`TableWriter::create`] and [`TableWriter::finish`]; [`ReportError::Inconsistent`] for a table whose rows
/// and metric names do not fit together.
pub fn write(table: &Table, path: &Path) -> Result<(), ReportError> {
    TableFormat::of(path)?;
    check(table)?;
    let mut writer = TableWriter::create(path, &columns::names(table))?;
    for row in &table.rows {
        writer.cells(columns::cells(row))?;
    }
    Ok(writer.finish(&table.provenance)?)
}

/// Checks that [`TableWriter`] could write to `path`, as far as that can be known: for the start of a
/// long computation.
///
/// # Errors
///
/// As [`TableWriter::create`].
pub fn check_writable(path: &Path) -> Result<(), ReportError> {
    let format = TableFormat::of(path)?;
    WholeFile::create(path)?;
    if let Some(meta) = format.sidecar(path) {
        WholeFile::create(&meta)?;
    }
    Ok(())
}

/// Writes a table's rows as CSV to a stream such as standard output, without the provenance.
///
/// # Errors
///
/// [`ReportError::Inconsistent`] for a table whose rows and metric names do not fit together;
/// [`FileError::Write`] where `out` does not take it.
pub fn write_csv(table: &Table, out: impl Write) -> Result<(), ReportError> {
    check(table)?;
    let mut stream = CsvStream::new(&columns::names(table), out)?;
    for row in &table.rows {
        stream.0.row(columns::cells(row)).map_err(to_stream)?;
    }
    Ok(stream.finish()?)
}

/// Reads a result file that [`write()`] made. It is strict: what does not fit is an error that names
/// the file, the place and the column, never a guess. A folder's part that keeps averages has no rows that it could give.
///
/// # Errors
///
/// As [`TableFormat::of`]; [`FileError::Read`] for a file, or its provenance beside it, that cannot be read;
/// [`ReportError::Malformed`] and [`ReportError::Field`] for what stands in it.
pub fn read(path: &Path) -> Result<Table, ReportError> {
    let format = TableFormat::of(path)?;
    let bytes = fs::read(path).map_err(FileError::read_of(path))?;
    let (mut table, meta) = match format {
        TableFormat::Csv => (csv::read(path, bytes.as_slice())?, Meta::beside(path)?),
        TableFormat::Jsonl => {
            let meta = Meta::beside(path)?;
            let named = meta.as_ref().and_then(|meta| meta.columns.as_deref());
            (jsonl::read(path, bytes.as_slice(), named)?, meta)
        }
        #[cfg(feature = "parquet")]
        TableFormat::Parquet => (parquet::read(path, bytes)?, None),
    };
    if let Some(meta) = meta {
        table.provenance = meta.provenance;
    }
    match table.provenance.part.as_ref() {
        Some(part) if part.means => Err(ReportError::malformed(
            path,
            "it holds averages of a part of a run, and no rows: merge the folder that it is of",
        )),
        _ => Ok(table),
    }
}

/// Takes some rows of a table, in order.
pub type EachRows<'a> = dyn FnMut(Vec<Row>) -> Result<(), ReportError> + 'a;

/// Reads a result file as [`read`] does, and hands its rows on some at a time: of Parquet a row group. What
/// comes back has no rows.
///
/// # Errors
///
/// As [`read`], and those of `each`.
pub fn read_rows(path: &Path, each: &mut EachRows<'_>) -> Result<Table, ReportError> {
    match TableFormat::of(path)? {
        #[cfg(feature = "parquet")]
        TableFormat::Parquet => {
            let bytes = fs::read(path).map_err(FileError::read_of(path))?;
            parquet::read_by_group(path, bytes, each)
        }
        TableFormat::Csv | TableFormat::Jsonl => {
            let mut table = read(path)?;
            each(std::mem::take(&mut table.rows))?;
            Ok(table)
        }
    }
}

/// Refuses a result file whose bytes are not those that were written, as far as the file says which: Parquet of ours
/// does.
///
/// # Errors
///
/// As [`read`].
pub fn check_bytes(path: &Path) -> Result<(), ReportError> {
    match TableFormat::of(path)? {
        #[cfg(feature = "parquet")]
        TableFormat::Parquet => {
            let bytes = fs::read(path).map_err(FileError::read_of(path))?;
            parquet::check(path, &bytes)
        }
        TableFormat::Csv | TableFormat::Jsonl => Ok(()),
    }
}

/// What a result file says of itself: a table without rows, and how many it has. Of Parquet only the footer is read.
///
/// # Errors
///
/// As [`read`].
pub fn read_about(path: &Path) -> Result<(Table, u64), ReportError> {
    match TableFormat::of(path)? {
        #[cfg(feature = "parquet")]
        TableFormat::Parquet => parquet::footer(path),
        TableFormat::Csv | TableFormat::Jsonl => {
            let mut table = read(path)?;
            let rows = std::mem::take(&mut table.rows).len() as u64;
            Ok((table, rows))
        }
    }
}

/// Refuses a table whose rows and metric names do not fit together.
fn check(table: &Table) -> Result<(), ReportError> {
    columns::check_metrics(&table.metrics).map_err(ReportError::Inconsistent)?;
    let metrics = table.metrics.len();
    let ids = table.rows.iter().filter(|row| row.id.is_some()).count();
    if ids != 0 && ids != table.rows.len() {
        let problem = format!(
            "{ids} of {} rows have an id: give all of them one, or none",
            table.rows.len()
        );
        return Err(ReportError::Inconsistent(problem));
    }
    let mut rows = table.rows.iter().enumerate();
    match rows.find(|(_, row)| row.metrics.len() != metrics) {
        Some((index, row)) => Err(ReportError::Inconsistent(format!(
            "row {index} has {} metric values for {metrics} metrics",
            row.metrics.len(),
        ))),
        None => Ok(()),
    }
}

/// What `F.meta.json` holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct Meta {
    #[serde(flatten)]
    provenance: Provenance,
    /// Column names in file order; a JSONL file without rows has them nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
}

impl Meta {
    /// Reads what stands beside `path`, if something does.
    fn beside(path: &Path) -> Result<Option<Self>, ReportError> {
        let meta = meta_path(path);
        let bytes = match fs::read(&meta) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FileError::Read { path: meta, source }.into()),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            ReportError::malformed(
                &meta,
                format!("not the provenance of a result: {error}; remove it to go without"),
            )
        })
    }
}

/// Where the provenance of the result file `path` stands: `results.csv.meta.json`.
#[must_use]
pub fn meta_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".meta.json");
    name.into()
}

/// Where the averages of the result file `path` stand: `results.summary.csv`.
#[must_use]
pub fn summary_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(".summary");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Checks that [`write_summary`] could write beside `path`.
///
/// # Errors
///
/// [`ReportError`], as [`check_writable`].
pub fn check_summary(path: &Path) -> Result<(), ReportError> {
    TableFormat::of(path)?;
    if is_plain(path) {
        WholeFile::create(&summary_path(path))?;
    }
    Ok(())
}

/// Writes averages beside the result file `path`, in its format.
///
/// # Errors
///
/// [`ReportError`] of the file.
pub fn write_summary(
    averages: &Averages,
    provenance: &Provenance,
    path: &Path,
) -> Result<(), ReportError> {
    write_averages(averages, provenance, &summary_path(path))
}

/// Writes averages to `path` as all that there is of a result, in the format of its ending, and their provenance
/// inside or beside it as of a table.
///
/// # Errors
///
/// [`ReportError`] of the file, or of the one beside it.
pub fn write_means(
    averages: &Averages,
    provenance: &Provenance,
    path: &Path,
) -> Result<(), ReportError> {
    let columns = averages.columns();
    let mut writer = TableWriter::of(path, &columns)?;
    if let Some(meta) = TableFormat::of(path)?.sidecar(path) {
        writer.sidecar = Some((WholeFile::create(&meta)?, columns));
    }
    for average in averages.rows() {
        writer.cells(average.cells(averages.averaged()))?;
    }
    Ok(writer.finish(provenance)?)
}

/// Writes averages as CSV to a stream such as standard output, without the provenance.
///
/// # Errors
///
/// [`FileError::Write`] where `out` does not take them.
pub fn write_means_csv(averages: &Averages, out: impl Write) -> Result<(), FileError> {
    let mut lines = csv::Lines::new(&averages.columns(), out).map_err(to_stream)?;
    for average in averages.rows() {
        lines
            .row(average.cells(averages.averaged()))
            .map_err(to_stream)?;
    }
    lines.finish().map(drop).map_err(to_stream)
}

/// Writes averages to `path`, in the format of its ending.
///
/// # Errors
///
/// [`ReportError`] of the file.
pub fn write_averages(
    averages: &Averages,
    provenance: &Provenance,
    path: &Path,
) -> Result<(), ReportError> {
    let mut writer = TableWriter::of(path, &averages.columns())?;
    for average in averages.rows() {
        writer.cells(average.cells(averages.averaged()))?;
    }
    Ok(writer.finish(provenance)?)
}
