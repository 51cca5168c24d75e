//! Named arrays, as `.npz` for NumPy or as safetensors.
//!
//! What a result's arrays are called and what stands along their axes is said where they are made.
//! `headlight` is the provenance as JSON. safetensors hold numbers only: texts and indices are entries of the
//! metadata there, as JSON.

use std::path::Path;

use super::npz::write_npz;
use super::{ReportError, ending, safetensors};
use crate::files::error::FileError;
use crate::files::whole::WholeFile;
use crate::results::array::{Array, Arrays};
use crate::results::table::Provenance;

/// A format of arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArraysFormat {
    /// NumPy's archive.
    Npz,
    /// safetensors.
    Safetensors,
}

impl ArraysFormat {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    ///
    /// [`ReportError::UnknownFormat`].
    pub fn of(path: &Path) -> Result<Self, ReportError> {
        match ending(path).as_str() {
            "npz" => Ok(Self::Npz),
            "safetensors" => Ok(Self::Safetensors),
            _ => Err(ReportError::UnknownFormat {
                path: path.to_owned(),
                what: "arrays",
                endings: ".npz or .safetensors",
            }),
        }
    }
}

/// Checks that [`write_arrays`] could write to `path`, as far as that can be known.
///
/// # Errors
///
/// [`ReportError`] of the name or the folder.
pub fn check_arrays(path: &Path) -> Result<(), ReportError> {
    ArraysFormat::of(path)?;
    WholeFile::create(path)?;
    Ok(())
}

/// Writes arrays, with the provenance as one more.
///
/// # Errors
///
/// [`ReportError`] of the file.
pub fn write_arrays(
    mut arrays: Arrays,
    provenance: &Provenance,
    path: &Path,
) -> Result<(), ReportError> {
    let (format, mut file) = (ArraysFormat::of(path)?, WholeFile::create(path)?);
    let mut write = || {
        let (name, json) = ("headlight".to_owned(), serde_json::to_string(provenance)?);
        match format {
            ArraysFormat::Npz => {
                arrays.push((name, Array::Texts(vec![json])));
                write_npz(&mut arrays, &mut file)
            }
            ArraysFormat::Safetensors => {
                let arrays = std::mem::take(&mut arrays);
                safetensors::write_arrays(arrays, [(name, json)].into(), &mut file)
            }
        }
    };
    write().map_err(FileError::write_to(path))?;
    Ok(file.finish()?)
}
