//! Foreign bytes end in an error or in a model, never in a panic.

use std::borrow::Cow;

use headlight::model::{Checkpoint, Config, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{config, file, folder, parts, safetensors, tensors};

/// Values that lie in wait in JSON: zeros, signs, overflows, other types.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(1)),
        Just(json!(7)),
        Just(json!(0.5)),
        Just(json!(1e300)),
        Just(json!(u32::MAX)),
        Just(json!(1u64 << 62)),
        Just(json!(u64::MAX)),
        Just(json!("")),
        Just(json!("a")),
        Just(json!("F16")),
        Just(json!("BPE")),
        Just(json!("é \u{1F642}")),
        Just(json!([])),
        Just(json!({})),
        Just(json!([0, 4])),
        Just(json!([u64::MAX, u64::MAX])),
        Just(json!([4, 0])),
        Just(json!(["a", "b"])),
        Just(json!({"type": "ByteLevel"})),
        Just(
            json!({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true}]})
        ),
        Just(json!({"type": "Lowercase"})),
        any::<u64>().prop_map(|n| json!(n)),
        ".{0,6}".prop_map(|s| json!(s)),
    ]
}

/// Replaces, removes or renames what the walk `steps` leads to.
fn mutate(value: &mut Value, steps: &[usize], with: &Value, how: u8) {
    let Some((&step, rest)) = steps.split_first() else {
        *value = with.clone();
        return;
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(step % map.len()).unwrap().clone();
            match (rest.is_empty(), how % 4) {
                (true, 0) => drop(map.remove(&key)),
                (true, 1) => {
                    let old = map.remove(&key).unwrap();
                    map.insert(format!("{key}x"), old);
                }
                _ => mutate(map.get_mut(&key).unwrap(), rest, with, how),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = step % list.len();
            match (rest.is_empty(), how % 4) {
                (true, 0) => drop(list.remove(at)),
                (true, 1) => list.push(with.clone()),
                _ => mutate(&mut list[at], rest, with, how),
            }
        }
        _ => *value = with.clone(),
    }
}

type Mutation = (Vec<usize>, Value, u8);

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    prop::collection::vec(
        (prop::collection::vec(0usize..64, 0..5), odd(), any::<u8>()),
        1..4,
    )
}

fn apply(mut value: Value, mutations: &[Mutation]) -> Value {
    for (steps, with, how) in mutations {
        mutate(&mut value, steps, with, *how);
    }
    value
}

fn open(config: &Value, weights: Vec<u8>, tokenizer: Option<&[u8]>) {
    let json = config.to_string();
    if let Ok(model) =
        Checkpoint::from_bytes("fuzz", json.as_bytes(), Cow::Owned(weights), tokenizer)
    {
        // What opens must also be usable to its last element.
        let sum: f64 = model.unembedding().to_vec::<f64>().iter().sum();
        let last = model
            .layer(model.config.layers - 1)
            .mlp_proj
            .weight
            .to_vec::<f64>();
        assert!(sum.is_finite() && last.iter().all(|x| x.is_finite()));
        assert!(model.parameters() > 0 && model.hash().len() == 64);
    }
}

fn small_tokenizer() -> Value {
    json!({
        "added_tokens": [{"id": 6, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": true,
            "normalized": true, "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "model": {"type": "BPE", "dropout": null, "continuing_subword_prefix": null, "ignore_merges": true,
            "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "1": 5}, "merges": ["a b", ["Ġ", "ab"]]},
    })
}

fn use_tokenizer(tokenizer: &Tokenizer, text: &str) {
    if let Ok(ids) = tokenizer.encode(text) {
        for id in ids {
            let _ = (tokenizer.decode_raw(id), tokenizer.display(id));
        }
    }
    let _ = tokenizer.target(text, true).map_err(|e| e.to_string());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_no_model(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0u64..400) {
        open(&config(), bytes.clone(), None);
        let mut headed = length.to_le_bytes().to_vec();
        headed.extend_from_slice(&bytes);
        open(&config(), headed, Some(&bytes));
        let _ = Config::from_json(&bytes, "fuzz");
        let _ = Tokenizer::from_json(&bytes, "fuzz");
        let _ = Tokenizer::from_vocab_and_merges(&bytes, "v", &bytes, "m");
        let _ = Tokenizer::from_vocab_and_merges(b"{\"a\": 0, \"b\": 1, \"ab\": 2}", "v", &bytes, "m");
    }

    #[test]
    fn mutated_headers(mutations in mutations(), cut in 0usize..4, shift in 0usize..8) {
        let (header, data) = parts(&tensors("F16"), "transformer.");
        let header = apply(header, &mutations).to_string();
        open(&config(), file(&header, &data[..data.len() - cut], shift), None);
    }

    #[test]
    fn flipped_bytes(at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut weights = safetensors(&tensors("F32"), "");
        for (index, byte) in at {
            let at = index.index(weights.len().min(4000));
            weights[at] = byte;
        }
        open(&config(), weights, None);
    }

    #[test]
    fn mutated_configurations(mutations in mutations()) {
        open(&apply(config(), &mutations), safetensors(&tensors("BF16"), ""), None);
    }

    #[test]
    fn mutated_tokenizers(mutations in mutations(), text in ".{0,20}") {
        let json = apply(small_tokenizer(), &mutations).to_string();
        if let Ok(tokenizer) = Tokenizer::from_json(json.as_bytes(), "fuzz") {
            use_tokenizer(&tokenizer, "ab 1<x> ab");
            use_tokenizer(&tokenizer, &text);
        }
    }

    #[test]
    fn mutated_vocabularies_and_merges(mutations in mutations(), merges in "([abĠ]{0,3} ?[abĠ\r]{0,3}\n){0,5}") {
        let vocab = apply(small_tokenizer()["model"]["vocab"].clone(), &mutations).to_string();
        if let Ok(t) = Tokenizer::from_vocab_and_merges(vocab.as_bytes(), "v", merges.as_bytes(), "m") {
            use_tokenizer(&t, "ab ab aab");
        }
    }

    #[test]
    fn mutated_indices(mutations in mutations(), raw in prop::collection::vec(any::<u8>(), 0..60), json in any::<bool>()) {
        let dir = folder();
        let mut map = json!({});
        for name in tensors("F32").keys() {
            map[name] = json!("model-1.safetensors");
        }
        let index = apply(json!({"weight_map": map}), &mutations).to_string();
        let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        put("config.json", config().to_string().as_bytes());
        put("model-1.safetensors", &safetensors(&tensors("F32"), ""));
        put("model.safetensors.index.json", if json { index.as_bytes() } else { &raw });
        let _ = Checkpoint::open(dir.path()).map_err(|e| e.to_string());
    }
}
