//! The model's weights on the device, uploaded once.
//!
//! Linear weights lie transposed, `[N, K]` with K contiguous and padded with zeros to a multiple of
//! 64, N padded to a multiple of 128, in the precision's type: what every variant's tiles read. The
//! unembedding lies that way already. Embeddings, biases and layer norms are f32. All cores write them where
//! they are copied from, a few large pieces one after the other.

use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;

use super::arguments::{K_MULTIPLE, Pointer};
use super::device::Device;
use super::matrix::Element;
use super::memory::{Allocation, MOST_PIECE, Transfers};
use crate::backend::{DeviceError, Embedding, Norm, Weight};
use crate::model::{Checkpoint, Config, Tensor};

const PAD_K: usize = K_MULTIPLE as usize;
const PAD_N: usize = 128;

/// One linear weight.
pub struct Transposed {
    memory: Allocation,
    /// K.
    pub inputs: usize,
    /// K with its padding: numbers from one output to the next.
    pub stride: usize,
    element: Element,
}

impl Transposed {
    /// Its row of an output.
    pub fn row(&self, output: usize) -> Pointer {
        let row = self.stride * self.element.bytes();
        self.memory.start().offset(output * row)
    }
}

struct Layer {
    /// Weight and bias, one after the other.
    norms: [[Allocation; 2]; 2],
    c_attn: (Transposed, Allocation),
    c_proj: (Transposed, Allocation),
    c_fc: (Transposed, Allocation),
    mlp_proj: (Transposed, Allocation),
}

/// Every weight of one model.
pub struct DeviceWeights {
    width: usize,
    layers: Vec<Layer>,
    ln_f: [Allocation; 2],
    embeddings: [Allocation; 2],
    unembedding: Transposed,
}

/// Bytes that a model's weights take on a device.
pub fn bytes(config: &Config, element: Element) -> u64 {
    let (d, i) = (config.width as u64, config.inner as u64);
    let pad = |n: u64, to: usize| n.next_multiple_of(to as u64);
    let linear = |k: u64, n: u64| pad(k, PAD_K) * pad(n, PAD_N) * element.bytes() as u64;
    let layer = linear(d, 3 * d) + linear(d, d) + linear(d, i) + linear(i, d);
    let vectors = 4 * (4 * d + 3 * d + d + i + d);
    let embeddings = 4 * d * (config.vocab + config.context) as u64;
    config.layers as u64 * (layer + vectors) + embeddings + linear(d, config.vocab as u64)
}

impl DeviceWeights {
    /// Uploads everything; `progress` is told how many bytes are there.
    pub fn upload(
        device: &Arc<Device>,
        model: &Checkpoint,
        element: Element,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, DeviceError> {
        let mut up = Upload {
            device,
            transfers: &Transfers::new(device),
            element,
            progress,
            bytes: 0,
            piece: MOST_PIECE.min(bytes(&model.config, element) as usize),
        };
        let mut layers = Vec::with_capacity(model.config.layers);
        for l in 0..model.config.layers {
            let layer = model.layer(l);
            let norm = |up: &mut Upload<'_>, norm: crate::model::LayerNorm<'_>| {
                Ok::<_, DeviceError>([up.vector(norm.weight)?, up.vector(norm.bias)?])
            };
            let linear = |up: &mut Upload<'_>, linear: crate::model::Conv1D<'_>| {
                Ok::<_, DeviceError>((up.linear(linear.weight, false)?, up.vector(linear.bias)?))
            };
            layers.push(Layer {
                norms: [norm(&mut up, layer.ln_1)?, norm(&mut up, layer.ln_2)?],
                c_attn: linear(&mut up, layer.c_attn)?,
                c_proj: linear(&mut up, layer.c_proj)?,
                c_fc: linear(&mut up, layer.c_fc)?,
                mlp_proj: linear(&mut up, layer.mlp_proj)?,
            });
        }
        Ok(Self {
            width: model.config.width,
            layers,
            ln_f: [
                up.vector(model.ln_f().weight)?,
                up.vector(model.ln_f().bias)?,
            ],
            embeddings: [
                up.vector(model.token_embedding())?,
                up.vector(model.position_embedding())?,
            ],
            unembedding: up.linear(model.unembedding(), true)?,
        })
    }

    /// A linear weight, the output at which it starts there, and the bias there.
    pub fn linear(&self, weight: Weight) -> (&Transposed, usize, Pointer) {
        let third = |layer: usize, i: usize| {
            let (weight, bias) = &self.layers[layer].c_attn;
            (weight, i * self.width, bias.start())
        };
        let (weight, bias) = match weight {
            Weight::Query(layer) => return third(layer, 0),
            Weight::Key(layer) => return third(layer, 1),
            Weight::Value(layer) => return third(layer, 2),
            Weight::AttentionOutput(layer) => &self.layers[layer].c_proj,
            Weight::MlpPre(layer) => &self.layers[layer].c_fc,
            Weight::MlpOutput(layer) => &self.layers[layer].mlp_proj,
        };
        (weight, 0, bias.start())
    }

    /// A layer norm's weight and bias.
    pub fn norm(&self, norm: Norm) -> [Pointer; 2] {
        let norm = match norm {
            Norm::Ln1(layer) => &self.layers[layer].norms[0],
            Norm::Ln2(layer) => &self.layers[layer].norms[1],
            Norm::LnF => &self.ln_f,
        };
        norm.each_ref().map(Allocation::start)
    }

    /// An embedding's rows.
    pub fn embedding(&self, embedding: Embedding) -> Pointer {
        match embedding {
            Embedding::Token => self.embeddings[0].start(),
            Embedding::Position => self.embeddings[1].start(),
        }
    }

    /// The unembedding, one output a token.
    pub fn unembedding(&self) -> &Transposed {
        &self.unembedding
    }
}

struct Upload<'a> {
    device: &'a Arc<Device>,
    transfers: &'a Transfers,
    element: Element,
    progress: &'a mut dyn FnMut(u64),
    bytes: u64,
    /// Bytes that are copied at once, at least: none more than the model has.
    piece: usize,
}

impl Upload<'_> {
    /// A tensor as it is, in f32.
    fn vector(&mut self, tensor: Tensor<'_>) -> Result<Allocation, DeviceError> {
        let [outputs, inputs] = tensor.shape;
        let rows = Rows {
            outputs,
            inputs,
            padded: outputs,
            stride: inputs,
            by_output: true,
        };
        self.rows(tensor, &rows, Element::F32)
    }

    /// A weight `[K, N]`, or `[N, K]` if it is `transposed` already.
    fn linear(&mut self, tensor: Tensor<'_>, transposed: bool) -> Result<Transposed, DeviceError> {
        let [inputs, outputs] = if transposed {
            [tensor.columns(), tensor.rows()]
        } else {
            tensor.shape
        };
        let rows = Rows {
            outputs,
            inputs,
            padded: outputs.next_multiple_of(PAD_N),
            stride: inputs.next_multiple_of(PAD_K),
            by_output: transposed,
        };
        Ok(Transposed {
            memory: self.rows(tensor, &rows, self.element)?,
            inputs,
            stride: rows.stride,
            element: self.element,
        })
    }

    fn rows(
        &mut self,
        tensor: Tensor<'_>,
        rows: &Rows,
        element: Element,
    ) -> Result<Allocation, DeviceError> {
        let converted;
        let values = match tensor.as_f32() {
            Some(values) => values,
            None => {
                converted = tensor.to_vec();
                &converted[..]
            }
        };
        let row = rows.stride * element.bytes();
        let memory = self.device.allocate(rows.padded * row)?;
        let mut make = |some: Range<usize>, out: &mut [u8]| match element {
            Element::F32 => rows.write(values, some.start, out, f32::to_ne_bytes),
            Element::Bf16 => {
                rows.write(values, some.start, out, |x| bf16::from_f32(x).to_ne_bytes())
            }
            Element::F16 => rows.write(values, some.start, out, |x| f16::from_f32(x).to_ne_bytes()),
        };
        let to = memory.pointer;
        self.transfers
            .write_rows(to, row, rows.padded, self.piece, &mut make)?;
        self.bytes += (rows.padded * row) as u64;
        (self.progress)(self.bytes);
        Ok(memory)
    }
}

/// Rows of the device's memory: one an output, zeros behind its inputs and behind the last.
struct Rows {
    outputs: usize,
    inputs: usize,
    /// How many rows.
    padded: usize,
    /// Numbers of a row.
    stride: usize,
    /// Whether the model's tensor has a row an output, or else one an input.
    by_output: bool,
}

/// Rows that one core writes at a time: as many numbers as a line of its cache holds, of an input.
const BAND: usize = 16;

impl Rows {
    /// Writes whole rows, from `first` on, on all cores.
    fn write<const BYTES: usize>(
        &self,
        values: &[f32],
        first: usize,
        out: &mut [u8],
        encode: impl Fn(f32) -> [u8; BYTES] + Sync,
    ) {
        let row = self.stride * BYTES;
        let bands = out.par_chunks_mut(BAND * row).enumerate();
        bands.for_each(|(i, band)| {
            let first = (first + i * BAND).min(self.outputs);
            let count = (band.len() / row).min(self.outputs - first);
            let (some, padding) = band.split_at_mut(count * row);
            padding.fill(0);
            for out in some.chunks_exact_mut(row) {
                out[self.inputs * BYTES..].fill(0);
            }
            let mut put = |n: usize, k: usize, x: f32| {
                let at = n * row + k * BYTES;
                some[at..at + BYTES].copy_from_slice(&encode(x));
            };
            if self.by_output {
                for n in 0..count {
                    let from = &values[(first + n) * self.inputs..][..self.inputs];
                    from.iter().enumerate().for_each(|(k, x)| put(n, k, *x));
                }
            } else {
                for k in 0..self.inputs {
                    let from = &values[k * self.outputs + first..][..count];
                    from.iter().enumerate().for_each(|(n, x)| put(n, k, *x));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number by number, as the rows are described.
    #[test]
    fn rows_are_the_tensor_turned_round_and_padded() {
        for (outputs, inputs, by_output) in [(37, 5, false), (37, 5, true), (1, 3, false)] {
            let rows = Rows {
                outputs,
                inputs,
                padded: 48,
                stride: 8,
                by_output,
            };
            let values: Vec<f32> = (1..=outputs * inputs).map(|x| x as f32).collect();
            let at = |n: usize, k: usize| match (n < outputs && k < inputs, by_output) {
                (false, _) => 0.0,
                (true, true) => values[n * inputs + k],
                (true, false) => values[k * outputs + n],
            };
            for first in [0, 20] {
                let mut out = vec![0xaa; (48 - first) * 8 * 4];
                rows.write(&values, first, &mut out, f32::to_ne_bytes);
                let want = (first * 8..48 * 8).map(|i| at(i / 8, i % 8));
                let want: Vec<u8> = want.flat_map(f32::to_ne_bytes).collect();
                assert_eq!(out, want, "{outputs} {by_output} {first}");
            }
        }
    }
}
