//! Averages over pairs in a file of their own, `F.summary.EXT` beside `F.EXT`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::columns::{Cell, Kind};
#[cfg(feature = "parquet")]
use super::{Format, Provenance, ReportError, WholeFile, csv, jsonl, parquet};
use crate::results::summary::{Average, Summary};

/// Columns before the metrics.
const FIXED: [(&str, Kind, bool); 15] = [
    ("name", Kind::Text, true),
    ("component", Kind::Text, true),
    ("layer", Kind::Int, true),
    ("head", Kind::Int, true),
    ("position", Kind::Int, true),
    ("token", Kind::Text, true),
    ("op", Kind::Text, true),
    ("source_layer", Kind::Int, true),
    ("source_head", Kind::Int, true),
    ("source_position", Kind::Int, true),
    ("sample", Kind::Int, true),
    ("target", Kind::Text, true),
    ("target_id", Kind::Int, true),
    ("target_index", Kind::Int, false),
    ("pairs", Kind::Int, false),
];

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
/// [`ReportError`], as [`super::check_writable`].
pub fn check_summary(path: &Path) -> Result<(), ReportError> {
    Format::of(path)?;
    WholeFile::create(&summary_path(path)).map(drop)
}

/// Writes averages beside the result file `path`, in its format: what the averaged rows agree on, how
/// many pairs, and of each metric mean (`m`), standard deviation (`m_sd`), standard error of the mean
/// (`m_se`) and finite values (`m_n`).
///
/// # Errors
///
/// [`ReportError`] of the file.
pub fn write_summary(
    summary: &Summary,
    provenance: &Provenance,
    path: &Path,
) -> Result<(), ReportError> {
    let format = Format::of(path)?;
    let beside = summary_path(path);
    let mut file = WholeFile::create(&beside)?;
    let metrics = summary.metrics.iter().flat_map(|name| {
        [
            (name.clone(), Kind::Float),
            (format!("{name}_sd"), Kind::Float),
            (format!("{name}_se"), Kind::Float),
            (format!("{name}_n"), Kind::Int),
        ]
    });
    let columns: Vec<(String, Kind, bool)> = FIXED
        .iter()
        .map(|(name, kind, nullable)| ((*name).to_owned(), *kind, *nullable))
        .chain(metrics.map(|(name, kind)| (name, kind, false)))
        .collect();
    write(format, &columns, &summary.rows, provenance, &mut file)
        .map_err(ReportError::write_to(&beside))?;
    file.finish()
}

// only Parquet has room for the provenance
#[cfg_attr(not(feature = "parquet"), expect(unused_variables))]
fn write(
    format: Format,
    columns: &[(String, Kind, bool)],
    rows: &[Average],
    provenance: &Provenance,
    out: &mut WholeFile,
) -> io::Result<()> {
    let names = columns.iter().map(|(name, _, _)| name.as_str());
    match format {
        Format::Csv => {
            let mut csv = ::csv::Writer::from_writer(out);
            csv.write_record(names).map_err(csv::io_error)?;
            for row in rows {
                csv::write_record(cells(row), &mut csv).map_err(csv::io_error)?;
            }
            csv.flush()
        }
        Format::Jsonl => jsonl::write_objects(names, rows.iter().map(cells), out),
        #[cfg(feature = "parquet")]
        Format::Parquet => {
            let types = columns
                .iter()
                .map(|(name, kind, null)| (&**name, *kind, *null));
            let all: Vec<Vec<Cell<'_>>> = rows.iter().map(|row| cells(row).collect()).collect();
            parquet::write_cells(types, &all, provenance, out)
        }
    }
}

/// All cells of a row, in file order.
fn cells(average: &Average) -> impl Iterator<Item = Cell<'_>> {
    fn text(value: Option<&str>) -> Cell<'_> {
        value.map_or(Cell::Missing, |text| Cell::Text(Cow::Borrowed(text)))
    }
    fn int(value: Option<u32>) -> Cell<'static> {
        value.map_or(Cell::Missing, Cell::Int)
    }
    let row = &average.row;
    let target = average.target.as_ref();
    let fixed: [Cell<'_>; FIXED.len()] = [
        text(row.name.as_deref()),
        text(row.component.as_deref()),
        int(row.layer),
        int(row.head),
        int(row.position),
        text(row.token.as_deref()),
        text(row.op.as_deref()),
        int(row.source_layer),
        int(row.source_head),
        int(row.source_position),
        int(row.sample),
        text(target.map(|(target, _)| target.as_str())),
        int(target.map(|(_, id)| *id)),
        Cell::Int(average.index),
        Cell::Int(average.pairs),
    ];
    let values = average.values.iter().flat_map(|m| {
        [
            Cell::Float(m.mean()),
            Cell::Float(m.deviation()),
            Cell::Float(m.error()),
            Cell::Int(m.count()),
        ]
    });
    fixed.into_iter().chain(values)
}
