//! A sparse autoencoder's folder as training libraries write it: what its `cfg.json` says, and its tensors.
//!
//! | library | files | a row x is encoded as |
//! |---|---|---|
//! | [SAELens](https://github.com/decoderesearch/SAELens) (`saes/standard_sae.py`, `saes/jumprelu_sae.py`) | `cfg.json`, `sae_weights.safetensors` | ReLU(p), or p·1[p > θ]·1[p > 0]; p = (x − a·b_dec)·W_enc + b_enc, a = `apply_b_dec_to_input` |
//! | [sparsify](https://github.com/EleutherAI/sparsify) (`sparsify/sparse_coder.py`) and its like on Hugging Face | `cfg.json`, `sae.safetensors` or `model.safetensors` | the same with `encoder.weight` = W_encᵀ, and W_dec or `decoder.weight` = W_decᵀ |
//!
//! What the configuration asks for and these formulas do not have is refused by its name: a top-k, a gate, a
//! normalisation of rows. Pickles are never read.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Map, Value};

use super::read::ReadBasisError;
use super::{Basis, Numbers};
use crate::files::tensors::{VectorError, tensor_values};

/// What a folder's configuration is called, and its tensors, by the library that writes them.
const CONFIGURATION: &str = "cfg.json";
const WEIGHTS: [&str; 3] = [
    "sae_weights.safetensors",
    "sae.safetensors",
    "model.safetensors",
];

/// Endings of what is a pickle, or may be one.
const PICKLES: [&str; 5] = ["pt", "pth", "bin", "pkl", "pickle"];

/// Tensors that the formulas have no place for.
const REFUSED: [&str; 6] = [
    "b_gate",
    "b_mag",
    "r_mag",
    "scaling_factor",
    "W_skip",
    "W_temporal",
];

struct Folder<'a> {
    path: &'a Path,
    configuration: Map<String, Value>,
}

impl Folder<'_> {
    fn wrong(&self, problem: String) -> ReadBasisError {
        ReadBasisError::Folder {
            path: self.path.into(),
            problem,
        }
    }

    /// A setting as text, unless it is not there or null.
    fn text(&self, name: &str) -> Option<String> {
        match self.configuration.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Refuses a setting that is none of these.
    fn only(&self, name: &str, known: &[&str], why: &str) -> Result<(), ReadBasisError> {
        match self.text(name) {
            Some(found) if !known.contains(&&*found) => Err(self.wrong(format!(
                "says {name} = {found}, which {why}: {name} may be {}",
                known.join(" or ")
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a setting is true; `unless` it is said.
    fn flag(&self, name: &str, unless: bool) -> Result<bool, ReadBasisError> {
        match self.configuration.get(name) {
            None | Some(Value::Null) => Ok(unless),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(format!("says {name} = {other}: it is true or false"))),
        }
    }

    /// Refuses what the formulas do not have.
    fn check(&self) -> Result<(), ReadBasisError> {
        let known = ["standard", "jumprelu"];
        let architecture = "is another autoencoder than ReLU and JumpReLU";
        self.only("architecture", &known, architecture)?;
        if self.configuration.contains_key("k") && !self.configuration.contains_key("architecture")
        {
            let k = &self.configuration["k"];
            return Err(self.wrong(format!(
                "says k = {k}: of a row only its {k} largest coordinates would count (top-k), which no basis here does"
            )));
        }
        for name in ["activation", "activation_fn", "activation_fn_str"] {
            self.only(
                name,
                &["relu", "jumprelu"],
                "is another activation than ReLU and JumpReLU",
            )?;
        }
        let scaled = "scales rows before they are encoded, by numbers that stand nowhere";
        self.only("normalize_activations", &["none"], scaled)?;
        let reshaped = "takes rows apart";
        self.only("reshape_activations", &["none", "hook_z"], reshaped)?;
        for name in [
            "finetuning_scaling_factor",
            "transcode",
            "skip_connection",
            "multi_topk",
        ] {
            if self.flag(name, false)? {
                return Err(self.wrong(format!("says {name} = true, which no basis here does")));
            }
        }
        Ok(())
    }
}

/// A matrix by one of two names, of which the second is transposed.
fn matrix(
    file: &SafeTensors<'_>,
    [plain, transposed]: [&str; 2],
    path: &Path,
) -> Result<Numbers, ReadBasisError> {
    let across = file.tensor(plain).is_err() && file.tensor(transposed).is_ok();
    let name = if across { transposed } else { plain };
    let (shape, values) = tensor_values(file, name, path)?;
    let [rows, columns] = shape[..] else {
        return Err(ReadBasisError::Form {
            path: path.into(),
            name: name.to_owned(),
            problem: format!("has shape {shape:?}: it must have 2 dimensions"),
        });
    };
    let numbers = Numbers::new([rows, columns], values);
    Ok(match across {
        true => Numbers::new([columns, rows], numbers.transposed()),
        false => numbers,
    })
}

/// A row of numbers by the first of its names that is there.
fn vector(file: &SafeTensors<'_>, names: &[&str], path: &Path) -> Result<Vec<f64>, ReadBasisError> {
    let there = names.iter().find(|name| file.tensor(name).is_ok());
    Ok(tensor_values(file, there.unwrap_or(&names[0]), path)?.1)
}

/// The basis in a folder, decoded whole.
///
/// # Errors
///
/// [`ReadBasisError::Folder`] for what is missing or cannot be done; those of the tensors.
pub(super) fn read(path: &Path, label: &str) -> Result<Basis, ReadBasisError> {
    let wrong = |problem: String| ReadBasisError::Folder {
        path: path.into(),
        problem,
    };
    let unread = |path: &Path| {
        let path = path.to_owned();
        |error| VectorError::Read { path, error }
    };
    let there = |name: &&&str| path.join(name).is_file();
    let Some(weights) = WEIGHTS.iter().find(there) else {
        return Err(wrong(match pickled(path) {
            Some(name) => format!(
                "has its numbers in {name}, a pickle, which is never read: save them as safetensors, as {}",
                WEIGHTS[0]
            ),
            None => format!("has no {}", WEIGHTS.join(", ")),
        }));
    };
    let file = path.join(CONFIGURATION);
    let text = std::fs::read(&file).map_err(unread(&file))?;
    let configuration = serde_json::from_slice(&text).map_err(|error| {
        wrong(format!(
            "has a {CONFIGURATION} that is no JSON object: {error}"
        ))
    })?;
    let folder = Folder {
        path,
        configuration,
    };
    folder.check()?;
    let weights = path.join(weights);
    let bytes = std::fs::read(&weights).map_err(unread(&weights))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| VectorError::Format {
        path: weights.clone(),
        error,
    })?;
    if let Some(name) = REFUSED.iter().find(|name| file.tensor(name).is_ok()) {
        return Err(ReadBasisError::Form {
            path: weights,
            name: (*name).to_owned(),
            problem: "is no part of a ReLU or JumpReLU autoencoder, which has W_enc, b_enc, W_dec, b_dec and perhaps threshold"
                .into(),
        });
    }
    let at = &*weights;
    let encoder = matrix(&file, ["W_enc", "encoder.weight"], at)?;
    let decoder = matrix(&file, ["W_dec", "decoder.weight"], at)?;
    let b_enc = vector(&file, &["b_enc", "encoder.bias"], at)?;
    let b_dec = vector(&file, &["b_dec", "decoder.bias", "bias"], at)?;
    let threshold = file.tensor("threshold").is_ok();
    let threshold = threshold
        .then(|| vector(&file, &["threshold"], at))
        .transpose()?;
    let jumps = folder.text("architecture").as_deref() == Some("jumprelu");
    if jumps != threshold.is_some() {
        let problem = match jumps {
            true => "says architecture = jumprelu, but has no tensor `threshold`",
            false => "has a tensor `threshold`, but does not say architecture = jumprelu",
        };
        return Err(folder.wrong(problem.into()));
    }
    for (name, found) in [("d_in", encoder.shape[0]), ("d_sae", encoder.shape[1])] {
        let said = folder.configuration.get(name).and_then(Value::as_u64);
        if said.is_some_and(|said| said != found as u64) {
            return Err(folder.wrong(format!(
                "says {name} = {}, but its encoder is [{}, {}]",
                said.unwrap_or_default(),
                encoder.shape[0],
                encoder.shape[1]
            )));
        }
    }
    let subtracts = folder.flag("apply_b_dec_to_input", true)?;
    let basis = Basis::autoencoder(
        label,
        &encoder,
        &b_enc,
        &decoder,
        &b_dec,
        threshold.as_deref(),
    )?;
    Ok(Basis {
        shift: subtracts.then_some(b_dec),
        ..basis
    })
}

/// A file of the folder that is a pickle by its name.
fn pickled(path: &Path) -> Option<String> {
    let names = std::fs::read_dir(path).ok()?.flatten();
    let mut names: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            let ending = Path::new(name).extension().and_then(|e| e.to_str());
            ending.is_some_and(|ending| PICKLES.contains(&ending))
        })
        .collect();
    names.sort();
    names.into_iter().next()
}
