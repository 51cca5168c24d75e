//! A model's weights where they are mapped, and its vectors, widened once.

use super::linear::{Rounding, WeightMatrix};
use super::real::Real;
use crate::backend::{Norm, Weight};
use crate::model::Checkpoint;

/// Vectors of one layer, widened once.
struct LayerVectors<T> {
    ln_1: [Vec<T>; 2],
    ln_2: [Vec<T>; 2],
    c_attn: Vec<T>,
    c_proj: Vec<T>,
    c_fc: Vec<T>,
    mlp_proj: Vec<T>,
}

/// All that a backend reads of a checkpoint.
pub struct CpuWeights<T> {
    pub model: Checkpoint,
    layers: Vec<LayerVectors<T>>,
    ln_f: [Vec<T>; 2],
    round: Rounding,
}

impl<T: Real> CpuWeights<T> {
    /// Copies vectors only; matrices are rounded where they are used.
    pub fn new(model: &Checkpoint, round: Rounding) -> Self {
        let layers = (0..model.config.layers).map(|l| {
            let layer = model.layer(l);
            LayerVectors {
                ln_1: [layer.ln_1.weight.to_vec(), layer.ln_1.bias.to_vec()],
                ln_2: [layer.ln_2.weight.to_vec(), layer.ln_2.bias.to_vec()],
                c_attn: layer.c_attn.bias.to_vec(),
                c_proj: layer.c_proj.bias.to_vec(),
                c_fc: layer.c_fc.bias.to_vec(),
                mlp_proj: layer.mlp_proj.bias.to_vec(),
            }
        });
        Self {
            model: model.clone(),
            layers: layers.collect(),
            ln_f: [model.ln_f().weight.to_vec(), model.ln_f().bias.to_vec()],
            round,
        }
    }

    /// Weight and bias of a layer norm.
    pub fn norm(&self, norm: Norm) -> (&[T], &[T]) {
        let [weight, bias] = match norm {
            Norm::Ln1(layer) => &self.layers[layer].ln_1,
            Norm::Ln2(layer) => &self.layers[layer].ln_2,
            Norm::LnF => &self.ln_f,
        };
        (weight, bias)
    }

    /// A weight, the column at which it starts in the stored matrix, and its bias.
    pub fn linear(&self, weight: Weight) -> (WeightMatrix<'_>, usize, &[T]) {
        let d = self.model.config.width;
        let third = |layer: usize, i: usize| {
            (
                self.model.layer(layer).c_attn.weight,
                i * d,
                &self.layers[layer].c_attn[i * d..][..d],
            )
        };
        let (tensor, first, bias) = match weight {
            Weight::Query(layer) => third(layer, 0),
            Weight::Key(layer) => third(layer, 1),
            Weight::Value(layer) => third(layer, 2),
            Weight::AttentionOutput(layer) => (
                self.model.layer(layer).c_proj.weight,
                0,
                &*self.layers[layer].c_proj,
            ),
            Weight::MlpPre(layer) => (
                self.model.layer(layer).c_fc.weight,
                0,
                &*self.layers[layer].c_fc,
            ),
            Weight::MlpOutput(layer) => (
                self.model.layer(layer).mlp_proj.weight,
                0,
                &*self.layers[layer].mlp_proj,
            ),
        };
        let [inputs, stride] = tensor.shape;
        (
            WeightMatrix {
                data: tensor.data,
                stride,
                inputs,
                round: self.round,
            },
            first,
            bias,
        )
    }

    /// The unembedding, `[vocab, K]`: its stored rows are outputs.
    pub fn unembedding(&self) -> WeightMatrix<'_> {
        let tensor = self.model.unembedding();
        let [_, width] = tensor.shape;
        WeightMatrix {
            data: tensor.data,
            stride: width,
            inputs: width,
            round: self.round,
        }
    }
}
