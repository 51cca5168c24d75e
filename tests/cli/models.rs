//! Checkpoints and tensors written for one test.

use std::collections::BTreeMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::gpt2::shapes;
pub use crate::gpt2::write;

/// Shape and values of every tensor by name.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// What a checkpoint is made of.
#[derive(Clone, Copy)]
pub struct Size {
    pub layers: usize,
    pub heads: usize,
    pub width: usize,
    pub vocab: usize,
    pub context: usize,
}

pub const SMALL: Size = Size {
    layers: 2,
    heads: 2,
    width: 8,
    vocab: 11,
    context: 6,
};

pub fn config(size: Size) -> Value {
    json!({
        "model_type": "gpt2", "n_layer": size.layers, "n_head": size.heads, "n_embd": size.width,
        "vocab_size": size.vocab, "n_positions": size.context,
    })
}

/// Weights of a checkpoint, all times `scale`; a scale of 0 makes every token equally probable.
pub fn weights(size: Size, scale: f32) -> Tensors {
    let mut state = 1u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        scale * ((state >> 16) as f32 / 32768.0 - 1.0)
    };
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|_| draw()).collect();
        (name, (shape, values))
    };
    let embedded = [size.vocab, size.context];
    shapes(size.layers, size.width, 4 * size.width, embedded)
        .into_iter()
        .map(tensor)
        .collect()
}

/// The bytes of a safetensors file.
pub fn file(tensors: &Tensors) -> Vec<u8> {
    let bytes = |values: &[f32]| {
        values
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let all: Vec<_> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, shape, bytes(values)))
        .collect();
    let views = all.iter().map(|(name, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
        )
    });
    safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap()
}
