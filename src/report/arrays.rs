//! Named arrays, as `.npz` for NumPy or as safetensors.
//!
//! What a result's arrays are called and what stands along their axes is said where they are made
//! ([`preset_arrays`] for presets). `headlight` is the provenance as JSON. safetensors hold numbers
//! only: texts and indices are entries of the metadata there, as JSON.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::npz::write_npz;
use super::{Provenance, ReportError, WholeFile, ending};
use crate::results::array::{Array, Arrays};
use crate::results::dense::Dense;

/// A format of arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArraysFormat {
    /// NumPy's archive.
    Npz,
    /// safetensors.
    Safetensors,
}

/// What stands along the axes of a preset.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Coordinates {
    /// Canonical names of the components.
    pub components: Vec<String>,
    /// Layers.
    pub layers: Vec<usize>,
    /// Heads; empty where there are none.
    pub heads: Vec<usize>,
    /// Positions, by their names or numbers; empty where all are patched together.
    pub positions: Vec<String>,
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
    WholeFile::create(path).map(drop)
}

/// The arrays of a preset. Of each metric `m` there are four: `m`, the mean over pairs, whose axes are
/// exactly TransformerLens's; `m_pairs`, the same with the pair as its first axis; and `m_base` and
/// `m_source`, the clean prompts' values, one a pair. Cells that a prompt does not have are NaN. The
/// axes' names are `axes`, and what stands along them `component`, `layer`, `head` and `position` (of
/// `destination` and `source` too).
pub fn preset_arrays(dense: Vec<Dense>, coordinates: Coordinates) -> Arrays {
    let axes = dense.first().map_or(Vec::new(), |d| {
        d.axes.iter().map(|axis| axis.name().to_owned()).collect()
    });
    let mut arrays = Arrays::new();
    for d in dense {
        let pairs = d.base.len();
        let all = [&[pairs], &d.shape[..]].concat();
        arrays.push((d.name.clone(), Array::Floats(d.shape, d.mean)));
        arrays.push((format!("{}_pairs", d.name), Array::Floats(all, d.pairs)));
        arrays.push((
            format!("{}_base", d.name),
            Array::Floats(vec![pairs], d.base),
        ));
        let source = Array::Floats(vec![pairs], d.source);
        arrays.push((format!("{}_source", d.name), source));
    }
    arrays.push(("axes".into(), Array::Texts(axes)));
    arrays.push(("component".into(), Array::Texts(coordinates.components)));
    arrays.push(("layer".into(), Array::indices(coordinates.layers)));
    arrays.push(("head".into(), Array::indices(coordinates.heads)));
    arrays.push(("position".into(), Array::Texts(coordinates.positions)));
    arrays
}

/// Writes arrays, with the provenance as one more.
///
/// # Errors
///
/// [`ReportError`] of the file.
pub fn write_arrays(
    arrays: &[(String, Array)],
    provenance: &Provenance,
    path: &Path,
) -> Result<(), ReportError> {
    let json = serde_json::to_string(provenance)
        .map_err(|error| ReportError::write_to(path)(error.into()))?;
    let bytes = match ArraysFormat::of(path)? {
        ArraysFormat::Npz => {
            let about = ("headlight".to_owned(), Array::Texts(vec![json]));
            let all = arrays.iter().chain(std::iter::once(&about));
            write_npz(all).map_err(ReportError::write_to(path))?
        }
        ArraysFormat::Safetensors => {
            let numbers = arrays.iter().filter_map(|(name, array)| match array {
                Array::Floats(shape, values) => {
                    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                    Some((name, shape.clone(), bytes))
                }
                _ => None,
            });
            let numbers: Vec<_> = numbers.collect();
            let texts = arrays.iter();
            let mut about: HashMap<String, String> = texts
                .filter_map(|(name, array)| Some((name.clone(), array.json()?)))
                .collect();
            about.insert("headlight".to_owned(), json);
            let unwritable = |error: safetensors::SafeTensorError| {
                ReportError::write_to(path)(std::io::Error::other(error))
            };
            let mut views = Vec::new();
            for (name, shape, bytes) in &numbers {
                let view = TensorView::new(Dtype::F64, shape.clone(), bytes).map_err(unwritable)?;
                views.push((name.as_str(), view));
            }
            safetensors::serialize(views, Some(about)).map_err(unwritable)?
        }
    };
    WholeFile::write(path, &bytes)
}
