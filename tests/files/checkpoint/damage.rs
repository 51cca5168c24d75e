//! What is refused, and what is said about it.

use headlight::model::{Checkpoint, ModelError};
use serde_json::{Value, json};

use super::tiny::*;
use super::{folder, refusal, write};

fn opens_as(weights: &[u8]) -> (ModelError, String) {
    let dir = folder();
    write(dir.path(), &config(), weights);
    refusal(dir.path())
}

#[test]
fn names_that_are_no_model() {
    let hub = || -> Result<_, ModelError> { panic!("the hub must not be asked") };
    for name in [
        "./nowhere",
        "nowhere",
        "/nowhere/at/all",
        "a/b/c",
        "",
        "../no-model-stands-here",
        "a b/c",
        "~/no-model-stands-here",
    ] {
        let error = Checkpoint::resolve_with(name, hub).unwrap_err();
        assert!(
            matches!(error, ModelError::NoSuchModel { .. }),
            "{name}: {error}"
        );
        assert!(
            error
                .to_string()
                .contains("neither a folder here nor a hub id"),
            "{error}"
        );
    }
    let dir = folder();
    let file = dir.path().join("model.safetensors");
    let (error, _) = refusal(dir.path());
    assert!(matches!(error, ModelError::NoConfig { .. }), "{error}");
    std::fs::write(&file, b"x").unwrap();
    let error = Checkpoint::resolve_with(file.to_str().unwrap(), hub).unwrap_err();
    assert!(matches!(error, ModelError::NotAFolder { .. }), "{error}");
}

#[test]
fn folders_without_weights_that_can_be_read() {
    let dir = folder();
    std::fs::write(dir.path().join("config.json"), config().to_string()).unwrap();
    assert!(matches!(
        refusal(dir.path()).0,
        ModelError::NoWeights { .. }
    ));
    std::fs::write(dir.path().join("pytorch_model.bin"), b"PK").unwrap();
    let (error, message) = refusal(dir.path());
    assert!(matches!(error, ModelError::PickledOnly { .. }), "{message}");
    assert!(
        message.contains("pytorch_model.bin") && message.contains("save_pretrained"),
        "{message}"
    );
}

#[test]
fn other_architectures_and_broken_configurations() {
    let dir = folder();
    write(dir.path(), &json!({"model_type": "llama"}), b"");
    assert!(matches!(refusal(dir.path()).0, ModelError::NotGpt2 { .. }));
    std::fs::write(dir.path().join("config.json"), b"{\"n_layer\": 2,").unwrap();
    let (error, message) = refusal(dir.path());
    assert!(
        matches!(error, ModelError::ConfigJson { .. }) && message.contains("line 1"),
        "{message}"
    );
}

#[test]
fn damaged_safetensors_files() {
    let whole = safetensors(&tensors("F32"), "");
    let (header, data) = parts(&tensors("F32"), "");

    assert!(matches!(
        opens_as(&[]).0,
        ModelError::HeaderTruncated { have: 0, .. }
    ));
    assert!(matches!(
        opens_as(&whole[..5]).0,
        ModelError::HeaderTruncated { have: 5, .. }
    ));
    assert!(matches!(
        opens_as(&whole[..200]).0,
        ModelError::HeaderTruncated { have: 200, .. }
    ));
    let (error, message) = opens_as(&whole[..whole.len() - 10]);
    let ModelError::DataLength {
        expected, found, ..
    } = error
    else {
        panic!("{message}")
    };
    assert_eq!((expected - found, expected), (10, data.len() as u64));
    let (error, message) = opens_as(&[whole.as_slice(), b"more"].concat());
    assert!(matches!(error, ModelError::DataLength { .. }), "{message}");

    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&(1u64 << 62).to_le_bytes());
    assert!(matches!(
        opens_as(&huge).0,
        ModelError::HeaderTooLong { .. }
    ));
    assert!(matches!(
        opens_as(&file("{\"a\": ", b"", 0)).0,
        ModelError::HeaderJson { .. }
    ));
    assert!(matches!(
        opens_as(&file("[]", b"", 0)).0,
        ModelError::HeaderJson { .. }
    ));

    let lie = |change: &dyn Fn(&mut Value)| {
        let mut lying = header.clone();
        change(&mut lying);
        opens_as(&file(&lying.to_string(), &data, 0))
    };
    let (error, message) =
        lie(&|h| h["wte.weight"]["data_offsets"] = json!([0, VOCAB * WIDTH * 4]));
    assert!(matches!(error, ModelError::TensorPlace { .. }), "{message}");
    assert!(message.contains("inside `"), "{message}");
    let (error, message) =
        lie(&|h| h["wte.weight"]["data_offsets"] = json!([1u64 << 40, (1u64 << 40) + 660]));
    assert!(matches!(error, ModelError::TensorPlace { .. }), "{message}");
    let (error, message) = lie(&|h| h["wte.weight"]["shape"] = json!([VOCAB, WIDTH + 1]));
    assert!(matches!(error, ModelError::TensorPlace { .. }), "{message}");
    assert!(
        message.contains("takes 660 bytes, where shape [11, 16] of F32 takes 704"),
        "{message}"
    );
}

/// As many tensors as a file may have, with names that fill a header of eighty megabytes, beside a model's.
#[test]
fn a_model_with_a_header_of_eighty_megabytes_opens_in_a_second() {
    let (header, mut data) = parts(&tensors("F32"), "");
    let mut text = header.to_string();
    text.pop();
    for at in 0..(1 << 17) - tensors("F32").len() {
        let begin = data.len();
        data.push(0);
        text.push_str(&format!(
            r#","{at:0600}":{{"dtype":"U8","shape":[1],"data_offsets":[{begin},{}]}}"#,
            begin + 1
        ));
    }
    text.push('}');
    assert!(text.len() > 80_000_000);
    let bytes = file(&text, &data, 0);
    // The fastest of three: others may use the machine.
    let mut took = f64::INFINITY;
    for _ in 0..3 {
        let (json, bytes) = (config().to_string(), bytes.clone());
        let start = std::time::Instant::now();
        let model = Checkpoint::from_bytes("long", json.as_bytes(), bytes.into(), None).unwrap();
        took = took.min(start.elapsed().as_secs_f64());
        super::all_there(&model);
    }
    assert!(took < 1.0, "{took} s");
}

#[test]
fn missing_misnamed_and_misshapen_tensors() {
    let mut all = tensors("F32");
    let weight = all.remove("h.1.mlp.c_fc.weight").unwrap();
    let (error, message) = opens_as(&safetensors(&all, ""));
    assert!(
        matches!(error, ModelError::MissingTensor { .. }),
        "{message}"
    );
    assert!(
        message.contains("no tensor `h.1.mlp.c_fc.weight`"),
        "{message}"
    );

    all.insert("h.1.mlp.cfc.weight".into(), weight);
    let (_, message) = opens_as(&safetensors(&all, "transformer."));
    assert!(
        message.contains("the nearest name there is `h.1.mlp.cfc.weight`"),
        "{message}"
    );

    let mut turned = tensors("F32");
    turned
        .get_mut("h.0.attn.c_attn.weight")
        .unwrap()
        .shape
        .reverse();
    let (error, message) = opens_as(&safetensors(&turned, "transformer."));
    assert!(matches!(error, ModelError::Shape { .. }), "{message}");
    assert!(
        message.contains("`transformer.h.0.attn.c_attn.weight` has shape [45, 15], and config.json asks for [15, 45]"),
        "{message}"
    );

    let mut flat = tensors("F32");
    flat.get_mut("h.0.ln_1.bias").unwrap().shape = vec![1, WIDTH];
    assert!(matches!(
        opens_as(&safetensors(&flat, "")).0,
        ModelError::Shape { .. }
    ));

    let dir = folder();
    let mut fewer = config();
    fewer["n_layer"] = json!(1);
    write(dir.path(), &fewer, &safetensors(&tensors("F32"), ""));
    let (error, message) = refusal(dir.path());
    assert!(
        matches!(
            error,
            ModelError::ExtraLayer {
                found: 1,
                layers: 1,
                ..
            }
        ),
        "{message}"
    );
}

#[test]
fn types_that_are_not_read() {
    for (dtype, width) in [("I64", 8), ("I8", 1), ("F8_E4M3", 1), ("F128", 16)] {
        let mut all = tensors("F32");
        let tensor = all.get_mut("h.1.ln_2.bias").unwrap();
        *tensor = Stored {
            dtype,
            shape: vec![WIDTH],
            bytes: vec![0; WIDTH * width],
        };
        let (error, message) = opens_as(&safetensors(&all, ""));
        assert!(matches!(error, ModelError::Dtype { .. }), "{message}");
        assert!(
            message.contains(&format!("`h.1.ln_2.bias` is stored as {dtype}")),
            "{message}"
        );
    }
}

#[test]
fn weights_that_are_not_finite() {
    for (dtype, value, shown) in [
        ("F32", f32::NAN, "NaN"),
        ("F16", f32::INFINITY, "inf"),
        ("BF16", f32::NEG_INFINITY, "-inf"),
    ] {
        let mut all = tensors(dtype);
        let shape = [WIDTH, 3 * WIDTH];
        let mut bad = values("h.1.attn.c_attn.weight", &shape);
        bad[2 * 3 * WIDTH + 4] = value;
        bad[600] = value;
        all.insert("h.1.attn.c_attn.weight".into(), stored(dtype, &shape, &bad));
        let (error, message) = opens_as(&safetensors(&all, ""));
        assert!(
            matches!(
                error,
                ModelError::NotFinite {
                    row: 2,
                    column: 4,
                    ..
                }
            ),
            "{message}"
        );
        let part = format!("`h.1.attn.c_attn.weight` holds {shown} at row 2, column 4");
        assert!(message.contains(&part), "{message}");
    }
}
