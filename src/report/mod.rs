//! Result tables in files, and heat maps of them.
//!
//! [`write()`] and [`read`] know three formats, told apart by the file's ending; every format holds
//! the same columns under the same names. A [`HeatMap`] is made from a table once and then
//! drawn on a terminal, as SVG or as PNG. Files appear whole or not at all ([`WholeFile`]).

mod activations;
mod arrays;
pub mod colour;
mod colour_bar;
mod columns;
mod csv;
mod error;
mod figure;
mod grid;
pub mod heatmap;
mod jsonl;
mod labels;
mod npz;
mod numbers;
mod page;
#[cfg(feature = "parquet")]
mod parquet;
mod plot;
#[cfg(feature = "png")]
mod png;
mod provenance;
mod scene;
mod strongest;
mod summary;
mod svg;
mod terminal;
mod topk;
pub mod whole_file;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use self::activations::{check_activations, write_activations};
pub use self::arrays::{ArraysFormat, Coordinates, check_arrays, preset_arrays, write_arrays};
pub use self::error::ReportError;
pub use self::heatmap::HeatMap;
pub(crate) use self::labels::one_line;
pub use self::labels::token_label;
pub(crate) use self::numbers::plain;
pub use self::plot::{PlotFormat, check_plot, plot};
pub use self::provenance::meta_path;
pub use self::strongest::{Patched, strongest, write_strongest};
pub use self::summary::{check_summary, summary_path, write_summary};
pub use self::terminal::render;
pub use self::topk::{Candidate, TopkFormat, write_topk};
pub use self::whole_file::WholeFile;
use crate::results::table::{Provenance, Row, Table};

/// A format of result tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet (feature `parquet`).
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    ///
    /// [`ReportError::UnknownFormat`] for an ending of none; `NoParquet` for Parquet in a build without
    /// it.
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

    /// Writes the table's rows to `out`. Of the three, only Parquet includes the provenance.
    ///
    /// # Errors
    ///
    /// Those of `out`; of the kind [`io::ErrorKind::Other`] for a table whose rows and metric names do
    /// not fit together.
    pub fn write(self, table: &Table, out: &mut (dyn Write + Send)) -> io::Result<()> {
        columns::check(table).map_err(io::Error::other)?;
        match self {
            Self::Csv => csv::write(table, out),
            Self::Jsonl => jsonl::write(table, out),
            #[cfg(feature = "parquet")]
            Self::Parquet => parquet::write(table, out),
        }
    }

    /// Where the provenance of a result file at `path` stands, if it is not in the file itself.
    fn sidecar(self, path: &Path) -> Option<PathBuf> {
        match self {
            Self::Csv | Self::Jsonl => Some(meta_path(path)),
            #[cfg(feature = "parquet")]
            Self::Parquet => None,
        }
    }
}

/// The ending of a file name in lower case, without the dot.
fn ending(path: &Path) -> String {
    path.extension()
        .map(|ending| ending.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

/// Writes a table to `path` in the format of its ending, its provenance with it: inside a Parquet
/// file, in [`meta_path`] beside the others.
///
/// # Errors
///
/// As [`check_writable`]; [`ReportError::Inconsistent`] for a table whose rows and metric names do not
/// fit together; [`ReportError::Write`] where the disk does not take it.
pub fn write(table: &Table, path: &Path) -> Result<(), ReportError> {
    let format = Format::of(path)?;
    columns::check(table)?;
    let mut file = WholeFile::create(path)?;
    format
        .write(table, &mut file)
        .map_err(ReportError::write_to(path))?;
    let Some(meta) = format.sidecar(path) else {
        return file.finish();
    };
    let mut sidecar = WholeFile::create(&meta)?;
    provenance::to_json(table)
        .map_err(io::Error::from)
        .and_then(|json| sidecar.write_all(&json))
        .map_err(ReportError::write_to(&meta))?;
    // Both are on disk before either has its name.
    let (file, sidecar) = (file.sync()?, sidecar.sync()?);
    file.rename()?;
    sidecar.rename()
}

/// Checks that [`write()`] could write to `path`, as far as that can be known: for the start of a
/// long computation.
///
/// # Errors
///
/// As [`Format::of`] and [`WholeFile::create`], of the file or of the one beside it.
pub fn check_writable(path: &Path) -> Result<(), ReportError> {
    let format = Format::of(path)?;
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
/// [`ReportError::Write`] where `out` does not take it.
pub fn write_csv(table: &Table, mut out: impl Write) -> Result<(), ReportError> {
    columns::check(table)?;
    csv::write(table, &mut out).map_err(|source| ReportError::Write {
        to: "standard output".to_owned(),
        source,
    })
}

/// Reads a result file that [`write()`] made. It is strict: what does not fit is an error that names
/// the file, the place and the column, never a guess.
///
/// # Errors
///
/// As [`Format::of`]; [`ReportError::Read`] for a file, or its provenance beside it, that cannot be read;
/// [`ReportError::Malformed`] and [`ReportError::Field`] for what stands in it.
pub fn read(path: &Path) -> Result<Table, ReportError> {
    let format = Format::of(path)?;
    let bytes = fs::read(path).map_err(|source| ReportError::Read {
        path: path.to_owned(),
        source,
    })?;
    let beside = || provenance::read_beside(path);
    let (mut table, meta) = match format {
        Format::Csv => (csv::read(path, bytes.as_slice())?, beside()?),
        Format::Jsonl => {
            let meta = beside()?;
            let named = meta.as_ref().and_then(|meta| meta.columns.as_deref());
            (jsonl::read(path, bytes.as_slice(), named)?, meta)
        }
        #[cfg(feature = "parquet")]
        Format::Parquet => (parquet::read(path, bytes)?, None),
    };
    if let Some(meta) = meta {
        table.provenance = meta.provenance;
    }
    Ok(table)
}
