//! Dense arrays of a preset, as `.npz` for NumPy or as safetensors, with named axes.
//!
//! Of each metric `m` there are four arrays of doubles: `m`, the mean over pairs, whose axes are
//! exactly TransformerLens's; `m_pairs`, the same with the pair as its first axis; and `m_base` and
//! `m_source`, the clean prompts' values, one a pair. Cells that a prompt does not have are NaN.
//!
//! The axes' names are the array `axes`, and what stands along them the arrays `component`, `layer`,
//! `head` and `position` (of `destination` and `source` too); `headlight` is the provenance as JSON.
//! In safetensors, which hold no text, these are entries of the metadata, as JSON.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::npz::{Array, write_npz};
use super::{Provenance, ReportError, WholeFile, ending};
use crate::sweep::dense::Dense;

/// A format of arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArraysFormat {
    /// NumPy's archive.
    Npz,
    /// safetensors.
    Safetensors,
}

/// What stands along the axes.
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

/// Writes the arrays of a preset.
///
/// # Errors
///
/// [`ReportError`] of the file.
pub fn write_arrays(
    dense: &[Dense],
    coordinates: &Coordinates,
    provenance: &Provenance,
    path: &Path,
) -> Result<(), ReportError> {
    let axes: Vec<String> = dense
        .first()
        .map(|d| d.axes.iter().map(|axis| axis.name().to_owned()).collect())
        .unwrap_or_default();
    let json = serde_json::to_string(provenance)
        .map_err(|error| ReportError::write_to(path)(error.into()))?;
    let mut numbers: Vec<(String, Vec<usize>, &[f64])> = Vec::new();
    for d in dense {
        let pairs = d.base.len();
        let all = std::iter::once(pairs)
            .chain(d.shape.iter().copied())
            .collect();
        numbers.push((d.name.clone(), d.shape.clone(), &d.mean));
        numbers.push((format!("{}_pairs", d.name), all, &d.pairs));
        numbers.push((format!("{}_base", d.name), vec![pairs], &d.base));
        numbers.push((format!("{}_source", d.name), vec![pairs], &d.source));
    }
    let bytes = match ArraysFormat::of(path)? {
        ArraysFormat::Npz => {
            let mut arrays: Vec<(String, Array<'_>)> = numbers
                .into_iter()
                .map(|(name, shape, values)| (name, Array::Floats(shape, values)))
                .collect();
            let json = [json];
            arrays.push(("axes".into(), Array::Texts(&axes)));
            arrays.push(("component".into(), Array::Texts(&coordinates.components)));
            arrays.push(("layer".into(), Array::Indices(&coordinates.layers)));
            arrays.push(("head".into(), Array::Indices(&coordinates.heads)));
            arrays.push(("position".into(), Array::Texts(&coordinates.positions)));
            arrays.push(("headlight".into(), Array::Texts(&json)));
            write_npz(&arrays).map_err(ReportError::write_to(path))?
        }
        ArraysFormat::Safetensors => {
            let bytes: Vec<Vec<u8>> = numbers
                .iter()
                .map(|(_, _, values)| values.iter().flat_map(|x| x.to_le_bytes()).collect())
                .collect();
            let text = |list: &[String]| serde_json::json!(list).to_string();
            let index = |list: &[usize]| serde_json::json!(list).to_string();
            let about = HashMap::from([
                ("axes".to_owned(), text(&axes)),
                ("component".to_owned(), text(&coordinates.components)),
                ("layer".to_owned(), index(&coordinates.layers)),
                ("head".to_owned(), index(&coordinates.heads)),
                ("position".to_owned(), text(&coordinates.positions)),
                ("headlight".to_owned(), json),
            ]);
            let unwritable = |error: safetensors::SafeTensorError| {
                ReportError::write_to(path)(std::io::Error::other(error))
            };
            let mut views = Vec::new();
            for ((name, shape, _), bytes) in numbers.iter().zip(&bytes) {
                let view = TensorView::new(Dtype::F64, shape.clone(), bytes).map_err(unwritable)?;
                views.push((name.clone(), view));
            }
            safetensors::serialize(views, Some(about)).map_err(unwritable)?
        }
    };
    WholeFile::write(path, &bytes)
}
