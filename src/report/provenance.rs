//! How a result was made, beside it: `F.meta.json` for the text formats.
//!
//! Parquet has room for this in its own metadata; CSV and JSONL have none, so it stands in a file
//! of its own, which also lists the columns. A result that was moved without it is still a result.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Provenance, ReportError, Table, columns};

/// What `F.meta.json` holds.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Meta {
    #[serde(flatten)]
    pub(super) provenance: Provenance,
    /// Column names in file order; a JSONL file without rows has them nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<Vec<String>>,
}

/// Where the provenance of the result file `path` stands: `results.csv.meta.json`.
#[must_use]
pub fn meta_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".meta.json");
    name.into()
}

/// The sidecar's text.
pub(super) fn to_json(table: &Table) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = serde_json::to_vec_pretty(&Meta {
        provenance: table.provenance.clone(),
        columns: Some(columns::names(&table.metrics).map(str::to_owned).collect()),
    })?;
    json.push(b'\n');
    Ok(json)
}

/// Reads the sidecar of `path`, if it has one.
pub(super) fn read_beside(path: &Path) -> Result<Option<Meta>, ReportError> {
    let meta = meta_path(path);
    let bytes = match fs::read(&meta) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ReportError::Read { path: meta, source }),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        ReportError::malformed(
            &meta,
            format!("not the provenance of a result: {error}; remove it to go without"),
        )
    })
}
