//! The model's weights on the device, uploaded once.
//!
//! Linear weights lie transposed, `[N, K]` with K contiguous and padded with zeros to a multiple of
//! 32, N padded to a multiple of 128, in the precision's type: what every variant's tiles read. The
//! unembedding lies that way already. Embeddings, biases and layer norms are f32.

use std::sync::Arc;

use super::arguments::{K_MULTIPLE, Pointer};
use super::device::Device;
use super::matrix::Element;
use super::memory::{Allocation, Transfers};
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
}

impl Upload<'_> {
    fn copy(&mut self, bytes: &[u8]) -> Result<Allocation, DeviceError> {
        let memory = self.device.allocate(bytes.len())?;
        self.transfers.write(memory.pointer, bytes)?;
        self.bytes += bytes.len() as u64;
        (self.progress)(self.bytes);
        Ok(memory)
    }

    fn vector(&mut self, tensor: Tensor<'_>) -> Result<Allocation, DeviceError> {
        let values: Vec<f32> = tensor.to_vec();
        self.copy(bytemuck::cast_slice(&values))
    }

    /// A weight `[K, N]`, or `[N, K]` if it is `transposed` already.
    fn linear(&mut self, tensor: Tensor<'_>, transposed: bool) -> Result<Transposed, DeviceError> {
        let [inputs, outputs] = if transposed {
            [tensor.columns(), tensor.rows()]
        } else {
            tensor.shape
        };
        let stride = inputs.next_multiple_of(PAD_K);
        let values: Vec<f32> = tensor.to_vec();
        let (row, column) = if transposed {
            (inputs, 1)
        } else {
            (1, outputs)
        };
        let padded = outputs.next_multiple_of(PAD_N);
        let value = |at: usize| {
            let (n, k) = (at / stride, at % stride);
            if n < outputs && k < inputs {
                f64::from(values[n * row + k * column])
            } else {
                0.0
            }
        };
        let memory = self.copy(&self.element.encode((0..padded * stride).map(value)))?;
        Ok(Transposed {
            memory,
            inputs,
            stride,
            element: self.element,
        })
    }
}
