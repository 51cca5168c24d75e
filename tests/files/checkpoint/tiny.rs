//! Tiny checkpoints, written byte by byte, so that tests can also write them wrong.

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde_json::{Value, json};

use crate::gpt2::shapes;

/// One tensor as a file stores it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Sizes that share no factor by accident: a head is 5 wide.
pub const LAYERS: usize = 2;
pub const HEADS: usize = 3;
pub const WIDTH: usize = 15;
pub const INNER: usize = 7;
pub const VOCAB: usize = 11;
pub const CONTEXT: usize = 6;

pub fn config() -> Value {
    json!({
        "model_type": "gpt2", "n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH, "n_inner": INNER,
        "vocab_size": VOCAB, "n_positions": CONTEXT, "bos_token_id": null,
    })
}

/// The values of a tensor: multiples of 1/16 that differ from name to name and that every type holds.
pub fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(7u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let one =
        |i: u32| ((seed.wrapping_add(i.wrapping_mul(2_654_435_761)) >> 24) as f32 - 128.0) / 16.0;
    (0..shape.iter().product::<usize>() as u32)
        .map(one)
        .collect()
}

pub fn stored(dtype: &'static str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|&x| match dtype {
        "F64" => f64::from(x).to_le_bytes().to_vec(),
        "F32" => x.to_le_bytes().to_vec(),
        "F16" => f16::from_f32(x).to_le_bytes().to_vec(),
        _ => bf16::from_f32(x).to_le_bytes().to_vec(),
    });
    Stored {
        dtype,
        shape: shape.to_vec(),
        bytes: bytes.collect(),
    }
}

/// Every tensor of the tiny model under its bare name.
pub fn tensors(dtype: &'static str) -> BTreeMap<String, Stored> {
    let one = |(name, shape): (String, Vec<usize>)| {
        let tensor = stored(dtype, &shape, &values(&name, &shape));
        (name, tensor)
    };
    let shapes = shapes(LAYERS, WIDTH, INNER, [VOCAB, CONTEXT]);
    shapes.into_iter().map(one).collect()
}

/// The header's JSON and the data behind it.
pub fn parts(tensors: &BTreeMap<String, Stored>, prefix: &str) -> (Value, Vec<u8>) {
    let mut header = json!({"__metadata__": {"format": "pt"}});
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend_from_slice(&tensor.bytes);
        header[format!("{prefix}{name}")] = json!({
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()],
        });
    }
    (header, data)
}

/// A file of a header and data; the header is padded so that the data begins at a multiple of eight,
/// and `shift` bytes after that.
pub fn file(header: &str, data: &[u8], shift: usize) -> Vec<u8> {
    let padding = (8 - header.len() % 8) % 8 + shift;
    let header = format!("{header}{}", " ".repeat(padding));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A whole `model.safetensors`.
pub fn safetensors(tensors: &BTreeMap<String, Stored>, prefix: &str) -> Vec<u8> {
    let (header, data) = parts(tensors, prefix);
    file(&header.to_string(), &data, 0)
}
