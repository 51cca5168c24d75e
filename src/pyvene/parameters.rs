//! State dicts → the numbers of a basis, and constants.

use std::path::Path;

use super::PyveneError;
use super::configuration::Representation;
use super::kind::InterventionKind;
use super::orthogonal::{DenseMatrix, orthogonal};
use super::state::{StateDict, StoredTensor};

/// What a representation's state dict says.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    /// There is none, and none is needed.
    None,
    /// Tensors of a basis by their names in it, and how many coordinates it has.
    Basis {
        /// `rotation`, `mask`, `mean` …
        tensors: Vec<(&'static str, StoredTensor)>,
        /// k, or n where only a mask is there.
        coordinates: usize,
    },
    /// One row, or one for each position.
    Rows(Vec<Vec<f64>>),
}

/// Reads what a representation needs of its state dict. `width` is that of its rows.
///
/// # Errors
///
/// [`PyveneError`] for a file that is missing, malformed, or of another width.
pub fn read(made: &Representation, folder: &Path, width: usize) -> Result<Parameters, PyveneError> {
    let path = folder.join(&made.file);
    if !made.kind.has_basis() && made.kind != InterventionKind::Noise && !made.constant {
        return Ok(Parameters::None);
    }
    if matches!(
        made.kind,
        InterventionKind::Noise | InterventionKind::PcaRotatedSpace
    ) && !path.exists()
    {
        return Err(PyveneError::State {
            problem: format!(
                "there is no such file, and pyvene's save writes none for {}: write it where pyvene has the \
                 intervention, by torch.save(model.interventions[key].state_dict(), …)",
                made.kind.name()
            ),
            path,
        });
    }
    let mut state = StateDict::open(&path)?;
    let mut dict = Reading {
        state: &mut state,
        width,
        units: made.units,
    };
    dict.check_width(made)?;
    match made.kind {
        InterventionKind::Noise => dict.noise(),
        _ if made.constant => dict.constant(),
        _ => dict.basis(made.kind),
    }
}

struct Reading<'a> {
    state: &'a mut StateDict,
    width: usize,
    units: usize,
}

impl Reading<'_> {
    fn wrong<T>(&self, problem: impl Into<String>) -> Result<T, PyveneError> {
        Err(self.state.wrong(problem))
    }

    fn check_width(&mut self, made: &Representation) -> Result<(), PyveneError> {
        if self.state.has("embed_dim") {
            let [found] = self.numbers("embed_dim")?[..] else {
                return self.wrong("its embed_dim is no single number");
            };
            let expected = self.width.saturating_mul(self.units);
            if found != expected as f64 {
                return self.wrong(format!(
                    "it is of {found} numbers, and {} of this model has {expected}: name the model that it \
                     was made for with --model",
                    made.place.component
                ));
            }
        }
        Ok(())
    }

    fn numbers(&mut self, name: &str) -> Result<Vec<f64>, PyveneError> {
        Ok(self.state.tensor(name)?.values)
    }

    fn shaped(&mut self, name: &str, shape: &[usize]) -> Result<StoredTensor, PyveneError> {
        let tensor = self.state.tensor(name)?;
        if tensor.shape != shape {
            let found = tensor.shape;
            return self.wrong(format!(
                "tensor `{name}` has shape {found:?}: it must be {shape:?}"
            ));
        }
        Ok(tensor)
    }

    fn matrix(&mut self, name: &str) -> Result<DenseMatrix, PyveneError> {
        let tensor = self.state.tensor(name)?;
        match tensor.shape[..] {
            [rows, columns] => Ok(DenseMatrix {
                rows,
                columns,
                values: tensor.values,
            }),
            ref found => self.wrong(format!(
                "tensor `{name}` has shape {found:?}: it must be a matrix"
            )),
        }
    }

    fn temperature(&mut self) -> Result<f64, PyveneError> {
        match self.numbers("temperature")?[..] {
            [t] if t > 0.0 => Ok(t),
            _ => self.wrong("its temperature is no single number above 0"),
        }
    }

    fn constant(&mut self) -> Result<Parameters, PyveneError> {
        let tensor = self.state.tensor("source_representation")?;
        let last = tensor.shape.last().copied().unwrap_or(1);
        let rows = tensor.values.len() / last.max(1);
        // [d], [1, d], [positions, d] or [1, positions, d]
        let outer: usize = tensor.shape.iter().rev().skip(2).product();
        if last != self.width || outer != 1 {
            return self.wrong(format!(
                "its source_representation has shape {:?}: its rows must have {} numbers, one row for all \
                 positions or one for each",
                tensor.shape, self.width
            ));
        }
        let rows: Vec<Vec<f64>> = tensor
            .values
            .chunks_exact(tensor.values.len() / rows)
            .map(<[f64]>::to_vec)
            .collect();
        Ok(Parameters::Rows(rows))
    }

    fn noise(&mut self) -> Result<Parameters, PyveneError> {
        let level = match self.numbers("noise_level")?[..] {
            [level] => level,
            _ => return self.wrong("its noise_level is no single number"),
        };
        let noise = self.shaped("noise", &[1, 4, self.width])?;
        let rows = noise.values.chunks_exact(self.width);
        let rows = rows.map(|row| row.iter().map(|x| x * level).collect());
        Ok(Parameters::Rows(rows.collect()))
    }

    fn rotation(&mut self) -> Result<DenseMatrix, PyveneError> {
        let original = "rotate_layer.parametrizations.weight.original";
        let base = "rotate_layer.parametrizations.weight.0.base";
        let rotation = match self.state.has(original) {
            // parametrizations that were removed leave W itself
            false => self.matrix("rotate_layer.weight")?,
            true => {
                let x = self.matrix(original)?;
                let b = self
                    .state
                    .has(base)
                    .then(|| self.matrix(base))
                    .transpose()?;
                match orthogonal(&x, b.as_ref()) {
                    Ok(rotation) => rotation,
                    Err(problem) => return self.wrong(format!("tensor `{original}` {problem}")),
                }
            }
        };
        if rotation.rows != self.width || rotation.columns > rotation.rows {
            let (rows, columns) = (rotation.rows, rotation.columns);
            return self.wrong(format!(
                "its rotation is [{rows}, {columns}]: it must have {} rows and at most as many columns",
                self.width
            ));
        }
        Ok(rotation)
    }

    fn basis(&mut self, kind: InterventionKind) -> Result<Parameters, PyveneError> {
        let n = self.width;
        let vector = |values: Vec<f64>| StoredTensor {
            shape: vec![values.len()],
            values,
        };
        let matrix = |m: DenseMatrix| StoredTensor {
            shape: vec![m.rows, m.columns],
            values: m.values,
        };
        let soft = |masks: Vec<f64>, t: f64| vector(masks.iter().map(|m| sigmoid(m / t)).collect());
        let (tensors, coordinates) = match kind {
            InterventionKind::SigmoidMask => {
                let t = self.temperature()?;
                let mask = self.shaped("mask", &[n])?;
                (vec![("mask", soft(mask.values, t))], n)
            }
            InterventionKind::PcaRotatedSpace => {
                let components = self.matrix("pca_components")?;
                if components.columns != n {
                    let found = components.columns;
                    return self.wrong(format!(
                        "its pca_components have {found} columns: they must have {n}"
                    ));
                }
                let k = components.rows;
                let mean = self.shaped("pca_mean", &[n])?;
                let std = self.shaped("pca_std", &[n])?;
                if std.values.contains(&0.0) {
                    return self.wrong("its pca_std has a 0, by which pyvene divides");
                }
                let tensors = vec![
                    ("mean", mean),
                    ("std", std),
                    ("components", matrix(components)),
                ];
                (tensors, k)
            }
            InterventionKind::Autoencoder => {
                let encoder = self.matrix("autoencoder.encoder.0.weight")?;
                let k = encoder.rows;
                if encoder.columns != n {
                    let found = encoder.columns;
                    return self.wrong(format!("its encoder has {found} inputs: it must have {n}"));
                }
                let decoder = self.matrix("autoencoder.decoder.0.weight")?;
                if (decoder.rows, decoder.columns) != (n, k) {
                    let (rows, columns) = (decoder.rows, decoder.columns);
                    return self.wrong(format!(
                        "its decoder is [{rows}, {columns}]: it must be [{n}, {k}]"
                    ));
                }
                let tensors = vec![
                    ("W_enc", matrix(encoder.transposed())),
                    ("b_enc", self.shaped("autoencoder.encoder.0.bias", &[k])?),
                    ("W_dec", matrix(decoder.transposed())),
                    ("b_dec", self.shaped("autoencoder.decoder.0.bias", &[n])?),
                ];
                (tensors, k)
            }
            InterventionKind::JumpReluAutoencoder => {
                let encoder = self.matrix("W_enc")?;
                let k = encoder.columns;
                let mut threshold = self.shaped("threshold", &[k])?;
                // pyvene's mask · ReLU(p) is p above a threshold of at least 0
                threshold.values.iter_mut().for_each(|t| *t = t.max(0.0));
                if encoder.rows != n {
                    let found = encoder.rows;
                    return self.wrong(format!("its W_enc has {found} rows: it must have {n}"));
                }
                let tensors = vec![
                    ("W_enc", matrix(encoder)),
                    ("b_enc", self.shaped("b_enc", &[k])?),
                    ("W_dec", self.shaped("W_dec", &[k, n])?),
                    ("b_dec", self.shaped("b_dec", &[n])?),
                    ("threshold", threshold),
                ];
                (tensors, k)
            }
            _ => {
                let rotation = self.rotation()?;
                let k = rotation.columns;
                let mut tensors = vec![("rotation", matrix(rotation))];
                match kind {
                    InterventionKind::BoundlessRotatedSpace => {
                        tensors.push(("mask", vector(self.boundary(k)?)))
                    }
                    InterventionKind::SigmoidMaskRotatedSpace => {
                        let t = self.temperature()?;
                        let masks = self.shaped("masks", &[k])?;
                        tensors.push(("mask", soft(masks.values, t)));
                    }
                    _ => {}
                }
                (tensors, k)
            }
        };
        Ok(Parameters::Basis {
            tensors,
            coordinates,
        })
    }

    /// m_i = σ(i/T) · σ((β·n − i)/T), β within [0.001, 1] (`sigmoid_boundary` of pyvene's
    /// `models/basic_utils.py`).
    fn boundary(&mut self, k: usize) -> Result<Vec<f64>, PyveneError> {
        let t = self.temperature()?;
        let Some(boundary) = self.numbers("intervention_boundaries")?.first().copied() else {
            return self.wrong("its intervention_boundaries are empty");
        };
        let edge = boundary.clamp(1e-3, 1.0) * self.width as f64;
        let population = self.shaped("intervention_population", &[k])?.values;
        Ok(population
            .iter()
            .map(|i| sigmoid(i / t) * sigmoid((edge - i) / t))
            .collect())
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
