//! `headlight cache`: names, shapes and values of exported activations.

use crate::lab::{BASE, Lab, fixture};
use safetensors::{Dtype, SafeTensors};

const NO_LAYER: &str = "token_embedding,position_embedding,ln_f_scale,ln_f_normalized,final_output";
const LAYER: &str = "block_input,ln_1_scale,ln_1_normalized,attention_input,attention_query_input,query_output,\
    head_query_output,key_output,head_key_output,value_output,head_value_output,attention_scores,attention_weight,\
    attention_value_output,head_attention_value_output,attention_output,block_mid,mlp_residual_input,ln_2_scale,\
    ln_2_normalized,mlp_input,mlp_pre,mlp_activation,mlp_output,block_output";

fn values(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

#[test]
fn every_kind_of_site_has_its_name_and_shape() {
    let lab = Lab::new();
    lab.ok(&[
        "cache",
        BASE,
        "--component",
        &format!("{NO_LAYER},{LAYER}"),
        "--layers",
        "0,3",
        "--out",
        "a.safetensors",
    ]);
    let bytes = std::fs::read(lab.path("a.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 5 + 2 * 25);
    for (name, shape) in [
        ("token_embedding", vec![5, 128]),
        ("ln_f_scale", vec![5, 1]),
        ("final_output", vec![5, 128]),
        ("block_input.0", vec![5, 128]),
        ("ln_1_scale.3", vec![5, 1]),
        ("attention_query_input.0", vec![4, 5, 128]),
        ("query_output.3", vec![5, 128]),
        ("head_query_output.3", vec![4, 5, 32]),
        ("attention_scores.0", vec![4, 5, 5]),
        ("attention_weight.0", vec![4, 5, 5]),
        ("head_attention_value_output.3", vec![4, 5, 32]),
        ("mlp_activation.0", vec![5, 512]),
        ("block_output.3", vec![5, 128]),
    ] {
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            (tensor.shape(), tensor.dtype()),
            (&shape[..], Dtype::F32),
            "{name}"
        );
    }
    // head-major is position-major with the axes swapped
    let (flat, heads) = (
        file.tensor("query_output.3").unwrap(),
        file.tensor("head_query_output.3").unwrap(),
    );
    let (flat, heads) = (values(flat.data()), values(heads.data()));
    assert_eq!(flat[2 * 128 + 32..][..32], heads[(5 + 2) * 32..][..32]);
    // a pattern is a distribution over the keys up to the query
    let pattern = values(file.tensor("attention_weight.0").unwrap().data());
    for (row, weights) in pattern.chunks(5).enumerate() {
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(weights[row % 5 + 1..].iter().all(|w| *w == 0.0));
    }
    let scores = values(file.tensor("attention_scores.0").unwrap().data());
    assert_eq!(scores[1], f32::NEG_INFINITY);
}

#[test]
fn both_precisions_and_both_names_agree() {
    let lab = Lab::new();
    let tied = fixture("tied");
    let cache = |out: &str, component: &str, more: &[&str]| {
        let args = [
            "--model",
            &tied,
            "cache",
            "--ids",
            "5,6,7,8",
            "--component",
            component,
            "--out",
            out,
        ];
        lab.ok(&[&args, more].concat());
        std::fs::read(lab.path(out)).unwrap()
    };
    let single = cache("a.safetensors", LAYER, &[]);
    let double = cache("b.safetensors", LAYER, &["--precision", "f64"]);
    let (single, double) = (
        SafeTensors::deserialize(&single).unwrap(),
        SafeTensors::deserialize(&double).unwrap(),
    );
    for (name, tensor) in single.tensors() {
        let other = values(double.tensor(&name).unwrap().data());
        for (a, b) in values(tensor.data()).into_iter().zip(other) {
            assert!(
                a == b || (a - b).abs() < 1e-4 * b.abs().max(1.0),
                "{name}: {a} and {b}"
            );
        }
    }
    let hooks = cache(
        "c.safetensors",
        "hook_z,blocks.1.attn.hook_q,hook_embed",
        &[],
    );
    let hooks = SafeTensors::deserialize(&hooks).unwrap();
    let mut names = hooks.names();
    names.sort();
    let z = [
        "head_attention_value_output.0",
        "head_attention_value_output.1",
        "head_attention_value_output.2",
    ];
    assert_eq!(
        names,
        [&z[..], &["head_query_output.1", "token_embedding"]].concat()
    );
    assert_eq!(
        hooks.tensor(z[1]).unwrap().data(),
        single.tensor(z[1]).unwrap().data()
    );
}

#[test]
fn bad_input_is_refused() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["cache"], args].concat(), needles);
    };
    let out = ["--out", "a.safetensors"];
    refused(&[&["x"], &out[..]].concat(), &["--component"]);
    refused(&["x", "--component", "block_output"], &["--out"]);
    refused(
        &["x", "--component", "block_output", "--out", "a.bin"],
        &["a.bin", ".safetensors"],
    );
    refused(
        &[
            "x",
            "--component",
            "block_output",
            "--out",
            "no/a.safetensors",
        ],
        &["no/a.safetensors", "there is no folder"],
    );
    refused(
        &[&["x", "--component", "block_outpt"], &out[..]].concat(),
        &["block_outpt", "`block_output`"],
    );
    refused(
        &[
            &["x", "--component", "block_output", "--layers", "9"],
            &out[..],
        ]
        .concat(),
        &["layer 9", "0 to 4"],
    );
    refused(
        &[&["x", "--component", "hook_z.7"], &out[..]].concat(),
        &["layer 7", "0 to 4"],
    );
    refused(
        &[
            &["x", "--component", "final_output", "--layers", "1"],
            &out[..],
        ]
        .concat(),
        &["--layers 1"],
    );
    refused(
        &[
            &["x", "--component", "block_output,hook_resid_post"],
            &out[..],
        ]
        .concat(),
        &["block_output of layer 0 is named twice"],
    );
    refused(
        &[&["", "--component", "block_output"], &out[..]].concat(),
        &["prompt is empty"],
    );
    let said = lab.run(
        &[
            &[
                "cache",
                "x",
                "--component",
                "block_output",
                "--memory",
                "1K",
            ],
            &out[..],
        ]
        .concat(),
    );
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("bytes, but the memory budget is 1024")
            && !lab.path("a.safetensors").exists(),
        "{said:?}"
    );
}
