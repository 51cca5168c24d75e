//! Bases out of safetensors files, named `F.safetensors#name`, and out of autoencoders' folders (`basis/folder.rs`).
//!
//! The tensors of a basis `name` are `name.rotation`, `name.mask` and so on; `F.safetensors` alone has
//! them at the top level. Which tensors there are says which form it is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;

use super::{Basis, BasisError, Numbers, folder};
use crate::files::tensors::{VectorError, tensor_values};

/// Why a named basis cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadBasisError {
    /// The file, or a tensor of it.
    #[error(transparent)]
    Tensor(#[from] VectorError),
    /// The file has no basis of that name.
    #[error(
        "{} has no basis{}: it needs {forms}, and has {}",
        path.display(),
        if name.is_empty() { String::new() } else { format!(" `{name}`") },
        if known.is_empty() { "none of them".to_owned() } else { known.join(", ") },
        forms = FORMS
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// What follows the `#`; empty for the top level.
        name: String,
        /// Tensors that it has, at most ten names.
        known: Vec<String>,
    },
    /// Tensors of several forms, or of an architecture that is none of them.
    #[error("tensor `{name}` of {} {problem}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A folder that is no autoencoder's, or one's that no basis is.
    #[error("the autoencoder in {} {problem}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Its numbers do not fit each other.
    #[error(transparent)]
    Basis(#[from] BasisError),
}

const FORMS: &str = "rotation (with or without mask), mask, components with mean and std, or W_enc \
                     with b_enc, W_dec, b_dec and perhaps threshold";

const NAMES: [&str; 10] = [
    "rotation",
    "mask",
    "components",
    "mean",
    "std",
    "W_enc",
    "b_enc",
    "W_dec",
    "b_dec",
    "threshold",
];

/// Of SAELens's other architectures: what they say cannot be left out.
const REFUSED: [&str; 5] = ["b_gate", "b_mag", "r_mag", "scaling_factor", "W_skip"];

/// Bases that were read, so that patches which name the same one share it.
#[derive(Debug, Default)]
pub struct BasisFiles {
    known: HashMap<(PathBuf, String, Option<bool>), Arc<Basis>>,
}

impl BasisFiles {
    /// Reads `F.safetensors#name`, or a folder with an autoencoder, or finds it; a relative F is looked up in `folder`. A basis whose rows would
    /// become their reconstructions keeps what it does not hold of them ([`Basis::with_error_term`]) unless
    /// `error_term` is false.
    ///
    /// # Errors
    ///
    /// [`ReadBasisError`]; foreign bytes never panic. An error term is refused where there is none.
    pub fn read(
        &mut self,
        text: &str,
        folder: &Path,
        error_term: Option<bool>,
    ) -> Result<Arc<Basis>, ReadBasisError> {
        let (file, name) = text.rsplit_once('#').unwrap_or((text, ""));
        let key = (folder.join(file), name.to_owned(), error_term);
        if let Some(basis) = self.known.get(&key) {
            return Ok(basis.clone());
        }
        let basis = match key.0.is_dir() && name.is_empty() {
            true => folder::read(&key.0, text)?,
            false => {
                let read = std::fs::read(&key.0);
                let bytes = read.map_err(|error| VectorError::Read {
                    path: key.0.clone(),
                    error,
                })?;
                parse(&bytes, name, text, &key.0)?
            }
        };
        if error_term.is_some() && basis.is_linear() {
            return Err(ReadBasisError::Basis(BasisError {
                label: text.to_owned(),
                problem: "moves rows by difference, so that nothing of them is left out: leave the error term out"
                    .into(),
            }));
        }
        let basis = Arc::new(match error_term {
            Some(false) => basis,
            _ => basis.with_error_term(),
        });
        self.known.insert(key, basis.clone());
        Ok(basis)
    }
}

/// A file's tensors under one name.
struct Tensors<'a> {
    file: SafeTensors<'a>,
    prefix: String,
    path: &'a Path,
}

impl Tensors<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.tensor(&format!("{}{name}", self.prefix)).is_ok()
    }

    /// A tensor of as many dimensions, with its shape.
    fn get(&self, name: &str, dimensions: usize) -> Result<(Vec<usize>, Vec<f64>), ReadBasisError> {
        let name = format!("{}{name}", self.prefix);
        let (shape, values) = tensor_values(&self.file, &name, self.path)?;
        if shape.len() != dimensions {
            let problem = format!("has shape {shape:?}: it must have {dimensions} dimensions");
            return Err(self.form(&name, problem));
        }
        Ok((shape, values))
    }

    fn matrix(&self, name: &str) -> Result<Numbers, ReadBasisError> {
        let (shape, values) = self.get(name, 2)?;
        Ok(Numbers::new([shape[0], shape[1]], values))
    }

    fn vector(&self, name: &str) -> Result<Vec<f64>, ReadBasisError> {
        Ok(self.get(name, 1)?.1)
    }

    fn optional(&self, name: &str) -> Result<Option<Vec<f64>>, ReadBasisError> {
        self.has(name).then(|| self.vector(name)).transpose()
    }

    fn form(&self, name: &str, problem: String) -> ReadBasisError {
        ReadBasisError::Form {
            path: self.path.into(),
            name: name.to_owned(),
            problem,
        }
    }

    /// Refuses tensors of this name that the form does not have.
    fn only(&self, form: &str, names: &[&str]) -> Result<(), ReadBasisError> {
        let foreign = NAMES.iter().filter(|name| !names.contains(name));
        match foreign.chain(&REFUSED).find(|name| self.has(name)) {
            Some(name) => Err(self.form(
                &format!("{}{name}", self.prefix),
                format!(
                    "is no part of {form}, which has {}: leave it out, or give the basis a name of its \
                     own",
                    names.join(", ")
                ),
            )),
            None => Ok(()),
        }
    }
}

/// The basis of a safetensors file's bytes.
fn parse(bytes: &[u8], name: &str, label: &str, path: &Path) -> Result<Basis, ReadBasisError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| VectorError::Format {
        path: path.into(),
        error,
    })?;
    let prefix = match name {
        "" => String::new(),
        name => format!("{name}."),
    };
    let tensors = Tensors { file, prefix, path };
    if tensors.has("rotation") {
        tensors.only("a rotation", &["rotation", "mask"])?;
        let mask = tensors.optional("mask")?;
        let rotation = tensors.matrix("rotation")?;
        return Ok(Basis::rotation(label, &rotation, mask.as_deref())?);
    }
    if tensors.has("components") {
        tensors.only("principal components", &["components", "mean", "std"])?;
        let (mean, std) = (tensors.vector("mean")?, tensors.vector("std")?);
        let components = tensors.matrix("components")?;
        return Ok(Basis::principal_components(
            label,
            &components,
            &mean,
            &std,
        )?);
    }
    if tensors.has("W_enc") {
        let names = ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"];
        tensors.only("an autoencoder", &names)?;
        let threshold = tensors.optional("threshold")?;
        return Ok(Basis::autoencoder(
            label,
            &tensors.matrix("W_enc")?,
            &tensors.vector("b_enc")?,
            &tensors.matrix("W_dec")?,
            &tensors.vector("b_dec")?,
            threshold.as_deref(),
        )?);
    }
    if tensors.has("mask") {
        tensors.only("a mask", &["mask"])?;
        return Ok(Basis::mask(label, &tensors.vector("mask")?)?);
    }
    let mut known: Vec<String> = tensors
        .file
        .names()
        .iter()
        .map(|n| (*n).to_owned())
        .collect();
    known.sort();
    known.truncate(10);
    Err(ReadBasisError::Missing {
        path: path.into(),
        name: name.to_owned(),
        known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use proptest::prelude::*;
    use safetensors::Dtype;
    use safetensors::tensor::{TensorView, serialize};

    fn file(tensors: &[(&str, &[usize])]) -> Vec<u8> {
        let data: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, shape)| {
                let values = 0..shape.iter().product::<usize>();
                values
                    .flat_map(|i| bf16::from_f64(i as f64 / 8.0).to_le_bytes())
                    .collect()
            })
            .collect();
        let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
            (
                *name,
                TensorView::new(Dtype::BF16, shape.to_vec(), data).unwrap(),
            )
        });
        serialize(views, None).unwrap()
    }

    fn read(tensors: &[(&str, &[usize])], name: &str) -> Result<Basis, ReadBasisError> {
        parse(&file(tensors), name, "F#x", Path::new("F"))
    }

    #[test]
    fn the_tensors_say_which_form_it_is() {
        let rotation = read(&[("x.rotation", &[3, 2]), ("x.mask", &[2])], "x").unwrap();
        assert_eq!((rotation.width(), rotation.coordinates()), (3, 2));
        // the mask, 0 and 1/8, is in the decoder
        let decoder = rotation.decoder.as_ref().unwrap();
        assert_eq!(
            decoder[..],
            [0.0, 0.0, 0.0, 1.0 / 64.0, 3.0 / 64.0, 5.0 / 64.0]
        );
        assert!(rotation.is_by_difference());
        let mask = read(&[("mask", &[4]), ("x.rotation", &[3, 2])], "").unwrap();
        assert_eq!((mask.width(), mask.multiply_adds()), (4, 0));
        let sae: [(&str, &[usize]); 5] = [
            ("W_enc", &[2, 5]),
            ("b_enc", &[5]),
            ("W_dec", &[5, 2]),
            ("b_dec", &[2]),
            ("threshold", &[5]),
        ];
        let jump = read(&sae, "").unwrap();
        assert!(jump.shift.is_none() && jump.threshold.is_some() && !jump.is_by_difference());
        let relu = read(&sae[..4], "").unwrap();
        assert_eq!(relu.shift.as_ref(), relu.offset.as_ref());
        assert!(relu.rectified && relu.threshold.is_none() && relu.multiply_adds() == 10);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_a_sentence() {
        let said =
            |tensors: &[(&str, &[usize])], name| read(tensors, name).unwrap_err().to_string();
        assert_eq!(
            said(&[("y.rotation", &[2, 2])], "x"),
            "F has no basis `x`: it needs rotation (with or without mask), mask, components with mean and \
             std, or W_enc with b_enc, W_dec, b_dec and perhaps threshold, and has y.rotation"
        );
        assert_eq!(
            said(&[("rotation", &[4])], ""),
            "tensor `rotation` of F has shape [4]: it must have 2 dimensions"
        );
        let two = said(&[("rotation", &[2, 2]), ("W_enc", &[2, 2])], "");
        assert!(
            two.starts_with("tensor `W_enc` of F is no part of a rotation"),
            "{two}"
        );
        let gated = said(&[("W_enc", &[2, 2]), ("b_gate", &[2])], "");
        assert!(gated.contains("`b_gate`"), "{gated}");
        let less = said(&[("components", &[2, 2]), ("std", &[2])], "");
        assert_eq!(less, "F has no tensor `mean`: it has components, std");
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            shape in (0usize..5, 0usize..5),
            name in prop_oneof![Just("rotation"), Just("mask"), Just("components"), Just("W_enc")],
        ) {
            let _ = parse(&bytes, "x", "F#x", Path::new("F"));
            let end = 4 * shape.0 * shape.1;
            let header = format!(
                r#"{{"{name}":{{"dtype":"F32","shape":[{},{}],"data_offsets":[0,{end}]}}}}"#,
                shape.0, shape.1
            );
            let mut framed = (header.len() as u64).to_le_bytes().to_vec();
            framed.extend(header.as_bytes());
            framed.extend(bytes.iter().cycle().take(end));
            let _ = parse(&framed, "", "F", Path::new("F"));
        }

        #[test]
        fn any_shapes_are_a_basis_or_an_error(
            names in proptest::sample::subsequence(&NAMES[..], 0..=NAMES.len()),
            shapes in proptest::collection::vec(proptest::collection::vec(0usize..4, 0..3), 10),
        ) {
            let tensors: Vec<(&str, &[usize])> =
                names.iter().zip(&shapes).map(|(name, shape)| (*name, &shape[..])).collect();
            if let Ok(basis) = read(&tensors, "") {
                prop_assert!(basis.width() > 0 && basis.coordinates() > 0);
            }
        }
    }
}
