//! Activations as a safetensors file of f32 tensors.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::error::ReportError;
use super::whole_file::WholeFile;

/// A named activation: its name, its shape, and its values row by row.
pub type Named<'a> = (String, &'a [usize], &'a [f64]);

/// Writes activations, rounded to f32, with a few words about them.
///
/// # Errors
///
/// [`ReportError`] where the file cannot be written; nothing of it is left then.
pub fn write_activations(
    path: &Path,
    activations: &[Named<'_>],
    about: HashMap<String, String>,
) -> Result<(), ReportError> {
    let unwritable = |error: safetensors::SafeTensorError| {
        ReportError::write_to(path)(std::io::Error::other(error))
    };
    let bytes = |values: &[f64]| -> Vec<u8> {
        let each = values.iter().map(|x| (*x as f32).to_le_bytes());
        each.flatten().collect()
    };
    let bytes: Vec<Vec<u8>> = activations.iter().map(|(_, _, v)| bytes(v)).collect();
    let mut views = Vec::with_capacity(activations.len());
    for ((name, shape, _), bytes) in activations.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(unwritable)?;
        views.push((name, view));
    }
    let file = safetensors::serialize(views, Some(about)).map_err(unwritable)?;
    WholeFile::write(path, &file)
}

/// Checks that [`write_activations`] could write to `path`, for the start of a long computation.
///
/// # Errors
///
/// [`ReportError`] for another ending, and where no file can be made.
pub fn check_activations(path: &Path) -> Result<(), ReportError> {
    if path.extension().is_none_or(|e| e != "safetensors") {
        return Err(ReportError::UnknownFormat {
            path: path.into(),
            what: "activations",
            endings: ".safetensors",
        });
    }
    WholeFile::create(path).map(drop)
}
