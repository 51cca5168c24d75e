//! The files of a GPT-2 checkpoint.

#![allow(dead_code)] // each test file uses its part

use std::path::Path;

use serde_json::Value;

/// Name and shape of every tensor of a model whose rows have `width` numbers, and `inner` in an MLP;
/// tokens and positions that it embeds come last.
pub fn shapes(
    layers: usize,
    width: usize,
    inner: usize,
    [vocab, context]: [usize; 2],
) -> Vec<(String, Vec<usize>)> {
    let (d, i) = (width, inner);
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("wte.weight".into(), vec![vocab, d]),
        ("wpe.weight".into(), vec![context, d]),
        ("ln_f.weight".into(), vec![d]),
        ("ln_f.bias".into(), vec![d]),
    ];
    for layer in 0..layers {
        for (name, shape) in [
            ("ln_1.weight", vec![d]),
            ("ln_1.bias", vec![d]),
            ("attn.c_attn.weight", vec![d, 3 * d]),
            ("attn.c_attn.bias", vec![3 * d]),
            ("attn.c_proj.weight", vec![d, d]),
            ("attn.c_proj.bias", vec![d]),
            ("ln_2.weight", vec![d]),
            ("ln_2.bias", vec![d]),
            ("mlp.c_fc.weight", vec![d, i]),
            ("mlp.c_fc.bias", vec![i]),
            ("mlp.c_proj.weight", vec![i, d]),
            ("mlp.c_proj.bias", vec![d]),
        ] {
            shapes.push((format!("h.{layer}.{name}"), shape));
        }
    }
    shapes
}

/// Writes a checkpoint's folder.
pub fn write(folder: &Path, config: &Value, weights: &[u8]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("model.safetensors"), weights).unwrap();
}
