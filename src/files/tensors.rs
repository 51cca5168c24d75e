//! Constant vectors out of safetensors files, named `F.safetensors#tensor`.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

/// Why a named tensor cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// No `#`.
    #[error("`{text}` names no tensor: write F.safetensors#tensor")]
    Name {
        /// As given.
        text: String,
    },
    /// Cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not a safetensors file.
    #[error("{} is not a safetensors file: {error}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        error: safetensors::SafeTensorError,
    },
    /// The file has no such tensor.
    #[error("{} has no tensor `{name}`: it has {}", path.display(), known.join(", "))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What it has, at most ten names.
        known: Vec<String>,
    },
    /// A coefficient that is too much.
    #[error("`{text}` is not finite: give a smaller coefficient")]
    Coefficient {
        /// As given.
        text: String,
    },
    /// Not a floating-point tensor, or one with numbers that are not finite.
    #[error("tensor `{name}` of {} {problem}", path.display())]
    Values {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// The values of `F.safetensors#tensor`, flattened; a relative F is looked up in `folder`.
///
/// # Errors
///
/// [`VectorError`]; foreign bytes never panic.
pub fn read_tensor(text: &str, folder: &Path) -> Result<Vec<f64>, VectorError> {
    let Some((file, name)) = text.rsplit_once('#') else {
        return Err(VectorError::Name {
            text: text.to_owned(),
        });
    };
    let path = folder.join(file);
    let bytes = std::fs::read(&path).map_err(|error| VectorError::Read {
        path: path.clone(),
        error,
    })?;
    parse(&bytes, name, &path)
}

/// The values of a tensor in a safetensors file's bytes.
fn parse(bytes: &[u8], name: &str, path: &Path) -> Result<Vec<f64>, VectorError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| VectorError::Format {
        path: path.into(),
        error,
    })?;
    Ok(tensor_values(&file, name, path)?.1)
}

/// Shape and values of a tensor, whichever floating-point type it has; `path` is for errors.
///
/// # Errors
///
/// [`VectorError`] if there is none of that name, and for numbers that are not finite.
pub(crate) fn tensor_values(
    file: &SafeTensors<'_>,
    name: &str,
    path: &Path,
) -> Result<(Vec<usize>, Vec<f64>), VectorError> {
    let Ok(tensor) = file.tensor(name) else {
        let mut known: Vec<String> = file.names().iter().map(|n| (*n).to_owned()).collect();
        known.sort();
        known.truncate(10);
        return Err(VectorError::Missing {
            path: path.into(),
            name: name.into(),
            known,
        });
    };
    let wrong = |problem: &str| VectorError::Values {
        path: path.into(),
        name: name.into(),
        problem: problem.into(),
    };
    let data = tensor.data();
    fn each<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|c| read(*c)).collect()
    }
    let values = match tensor.dtype() {
        Dtype::F64 => each(data, f64::from_le_bytes),
        Dtype::F32 => each(data, |b| f32::from_le_bytes(b).into()),
        Dtype::F16 => each(data, |b| f16::from_le_bytes(b).into()),
        Dtype::BF16 => each(data, |b| bf16::from_le_bytes(b).into()),
        other => {
            return Err(wrong(&format!(
                "is {other:?}: it must be F64, F32, F16 or BF16"
            )));
        }
    };
    match values.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(wrong(&format!(
            "has {} at index {at}: its values must be finite",
            values[at]
        ))),
        None => Ok((tensor.shape().to_vec(), values)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in 0u64..300) {
            let _ = parse(&bytes, "x", Path::new("f"));
            let mut framed = n.to_le_bytes().to_vec();
            framed.extend(br#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#);
            framed.extend(&bytes);
            let _ = parse(&framed, "x", Path::new("f"));
        }
    }
}
