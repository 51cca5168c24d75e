//! Checkpoints in every layout that is read, and in every state that is refused.

mod damage;
mod fuzz;
pub mod tiny;
mod tokenizer;

use std::path::Path;

use crate::gpt2::write;
use headlight::model::{Checkpoint, Data, ModelError, Tensor};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tiny::*;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn same(tensor: Tensor<'_>, name: &str, shape: &[usize]) {
    assert_eq!(tensor.to_vec::<f32>(), values(name, shape), "{name}");
    let flat = if shape.len() == 2 {
        [shape[0], shape[1]]
    } else {
        [1, shape[0]]
    };
    assert_eq!(tensor.shape, flat, "{name}");
}

/// Every tensor of the tiny model has the values that its name stands for.
fn all_there(model: &Checkpoint) {
    let d = WIDTH;
    same(model.token_embedding(), "wte.weight", &[VOCAB, d]);
    same(model.position_embedding(), "wpe.weight", &[CONTEXT, d]);
    same(model.ln_f().weight, "ln_f.weight", &[d]);
    same(model.ln_f().bias, "ln_f.bias", &[d]);
    for l in 0..LAYERS {
        let layer = model.layer(l);
        let name = |rest: &str| format!("h.{l}.{rest}");
        same(layer.ln_1.weight, &name("ln_1.weight"), &[d]);
        same(layer.ln_1.bias, &name("ln_1.bias"), &[d]);
        same(
            layer.c_attn.weight,
            &name("attn.c_attn.weight"),
            &[d, 3 * d],
        );
        same(layer.c_attn.bias, &name("attn.c_attn.bias"), &[3 * d]);
        same(layer.c_proj.weight, &name("attn.c_proj.weight"), &[d, d]);
        same(layer.c_proj.bias, &name("attn.c_proj.bias"), &[d]);
        same(layer.ln_2.weight, &name("ln_2.weight"), &[d]);
        same(layer.ln_2.bias, &name("ln_2.bias"), &[d]);
        same(layer.c_fc.weight, &name("mlp.c_fc.weight"), &[d, INNER]);
        same(layer.c_fc.bias, &name("mlp.c_fc.bias"), &[INNER]);
        same(
            layer.mlp_proj.weight,
            &name("mlp.c_proj.weight"),
            &[INNER, d],
        );
        same(layer.mlp_proj.bias, &name("mlp.c_proj.bias"), &[d]);
    }
}

/// What opening a folder says, which is one line.
fn refusal(dir: &Path) -> (ModelError, String) {
    let error = Checkpoint::open(dir).expect_err("this is broken");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!(!message.contains(".."), "{message}");
    (error, message)
}

#[test]
fn every_type_with_and_without_the_prefix() {
    for dtype in ["F32", "F16", "BF16"] {
        for prefix in ["", "transformer."] {
            let dir = folder();
            let weights = safetensors(&tensors(dtype), prefix);
            write(dir.path(), &config(), &weights);
            let model = Checkpoint::open(dir.path()).unwrap();
            all_there(&model);
            assert_eq!(model.token_embedding().dtype(), dtype);
            let count: usize = tensors(dtype)
                .values()
                .map(|t| t.shape.iter().product::<usize>())
                .sum();
            assert_eq!(model.parameters(), count);
            assert_eq!(
                model.bytes(),
                (count * if dtype == "F32" { 4 } else { 2 }) as u64
            );
            let sum = Sha256::digest(&weights);
            assert_eq!(
                model.hash(),
                sum.iter().map(|b| format!("{b:02x}")).collect::<String>()
            );
            same(model.unembedding(), "wte.weight", &[VOCAB, WIDTH]);
            assert!(model.tokenizer.is_none() && model.text().is_err());
        }
    }
}

#[test]
fn an_untied_head_is_used_only_where_the_configuration_unties_it() {
    let mut with_head = tensors("F32");
    let shape = [VOCAB, WIDTH];
    with_head.insert(
        "lm_head.weight".into(),
        stored("F32", &shape, &values("lm_head", &shape)),
    );
    // The head never has the prefix, whatever the rest has.
    let (mut header, data) = parts(&with_head, "transformer.");
    let head = header
        .as_object_mut()
        .unwrap()
        .remove("transformer.lm_head.weight")
        .unwrap();
    header["lm_head.weight"] = head;
    let weights = file(&header.to_string(), &data, 0);

    let dir = folder();
    write(dir.path(), &config(), &weights);
    let tied = Checkpoint::open(dir.path()).unwrap();
    same(tied.unembedding(), "wte.weight", &shape);

    let mut untied = config();
    untied["tie_word_embeddings"] = json!(false);
    write(dir.path(), &untied, &weights);
    let model = Checkpoint::open(dir.path()).unwrap();
    all_there(&model);
    same(model.unembedding(), "lm_head", &shape);
    assert_eq!(model.parameters(), tied.parameters() + VOCAB * WIDTH);

    write(dir.path(), &untied, &safetensors(&tensors("F32"), ""));
    let (error, message) = refusal(dir.path());
    assert!(
        matches!(error, ModelError::MissingTensor { .. }) && message.contains("lm_head.weight")
    );
}

#[test]
fn a_tied_embedding_may_be_stored_under_the_heads_name() {
    let mut renamed = tensors("F32");
    let embedding = renamed.remove("wte.weight").unwrap();
    renamed.insert("lm_head.weight".into(), embedding);
    let dir = folder();
    write(dir.path(), &config(), &safetensors(&renamed, ""));
    all_there(&Checkpoint::open(dir.path()).unwrap());
}

#[test]
fn masks_of_old_checkpoints_and_misaligned_data_are_no_obstacle() {
    let mut old = tensors("F32");
    let mask = Stored {
        dtype: "U8",
        shape: vec![1, 1, 3, 1],
        bytes: vec![1; 3],
    };
    old.insert("h.0.attn.bias".into(), mask);
    let nan = Stored {
        dtype: "F32",
        shape: vec![],
        bytes: f32::NAN.to_le_bytes().to_vec(),
    };
    old.insert("h.0.attn.masked_bias".into(), nan);
    let (header, data) = parts(&old, "");
    for shift in 0..4 {
        let dir = folder();
        write(
            dir.path(),
            &config(),
            &file(&header.to_string(), &data, shift),
        );
        let model = Checkpoint::open(dir.path()).unwrap();
        all_there(&model);
        assert!(matches!(model.position_embedding().data, Data::F32(_)));
    }
}

fn write_shards(dir: &Path, prefix: &str) -> Value {
    let all = tensors("F32");
    let mut map = json!({});
    for (number, part) in all.iter().collect::<Vec<_>>().chunks(11).enumerate() {
        let shard = format!("model-{number:05}.safetensors");
        let tensors = part
            .iter()
            .map(|(n, t)| ((*n).clone(), (*t).clone()))
            .collect();
        std::fs::write(dir.join(&shard), safetensors(&tensors, prefix)).unwrap();
        for (name, _) in part {
            map[format!("{prefix}{name}")] = json!(shard);
        }
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(dir.join("config.json"), config().to_string()).unwrap();
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    index
}

#[test]
fn shards_are_one_checkpoint() {
    let dir = folder();
    write_shards(dir.path(), "transformer.");
    let model = Checkpoint::open(dir.path()).unwrap();
    all_there(&model);
    let mut sum = Sha256::new();
    for number in 0..3 {
        sum.update(
            std::fs::read(dir.path().join(format!("model-{number:05}.safetensors"))).unwrap(),
        );
    }
    assert_eq!(
        model.hash(),
        sum.finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    );
}

#[test]
fn a_broken_index_is_refused() {
    let dir = folder();
    let index = write_shards(dir.path(), "");
    let path = dir.path().join("model.safetensors.index.json");
    let with = |value: Value| {
        std::fs::write(&path, value.to_string()).unwrap();
        refusal(dir.path())
    };
    let mut missing = index.clone();
    missing["weight_map"]["wte.weight"] = json!("model-00009.safetensors");
    let (error, message) = with(missing);
    assert!(
        matches!(error, ModelError::MissingShard { .. }),
        "{message}"
    );
    assert!(
        message.contains("names the shard `model-00009.safetensors`"),
        "{message}"
    );

    let mut moved = index.clone();
    let shard = moved["weight_map"]["h.0.ln_1.bias"].clone();
    moved["weight_map"]["wte.weight"] = shard;
    let (error, message) = with(moved);
    assert!(matches!(error, ModelError::Index { .. }), "{message}");
    assert!(
        message.contains("places tensor `wte.weight` in `model-00000.safetensors`"),
        "{message}"
    );

    let mut outside = index.clone();
    outside["weight_map"]["wte.weight"] = json!("/etc/passwd");
    assert!(
        with(outside)
            .1
            .contains("the name of a safetensors file beside it is expected")
    );
    assert!(
        with(json!({"weight_map": [1]}))
            .1
            .contains("no object `weight_map`")
    );
    assert!(with(json!([])).1.contains("not a JSON object"));
    assert!(matches!(
        with(json!({"weight_map": {}})).0,
        ModelError::MissingTensor { .. }
    ));
}

#[test]
fn ids_beyond_the_vocabulary_are_named() {
    let dir = folder();
    write(dir.path(), &config(), &safetensors(&tensors("F32"), ""));
    let model = Checkpoint::open(dir.path()).unwrap();
    assert!(model.check_ids(&[0, 10]).is_ok());
    let message = model.check_ids(&[3, 11, 12]).unwrap_err().to_string();
    assert_eq!(
        message,
        "token id 11 is beyond this model's vocabulary, which ends at 10"
    );
}

#[test]
fn the_demo_opens_and_reads_text() {
    let demo = Checkpoint::resolve("demo").unwrap();
    assert_eq!(demo.name, "demo");
    let ids = demo
        .text()
        .unwrap()
        .encode("The capital of Spain is")
        .unwrap();
    demo.check_ids(&ids).unwrap();
    assert!(!ids.is_empty());
}
