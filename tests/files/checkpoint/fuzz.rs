//! Damaged files of a model end in an error or in what they say, never in a panic and never in
//! something else.
//!
//! What a damaged file says is read by others: sizes by a plain look at the JSON, tensors by the
//! safetensors crate, ids by the tokenizers crate from a `tokenizer.json` and by GPT-2's own
//! algorithm, spelt out here, from its two files. The damage is the same at every run;
//! `PROPTEST_RNG_SEED` and `PROPTEST_CASES` give other and more.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use half::{bf16, f16};
use headlight::model::{Checkpoint, Config, SeveralTokens, Tensor, Tokenizer};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngSeed, TestRunner};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Value, json};

use super::{LAYERS, Stored, WIDTH, config, file, folder, parts, safetensors, tensors};

/// Runs a test on as many damages as time allows in everyday use, always the same.
fn fuzz<S: Strategy>(damages: &S, test: impl Fn(S::Value)) {
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 4000;
    }
    if let RngSeed::Random = config.rng_seed {
        config.rng_seed = RngSeed::Fixed(12);
    }
    let once = |damage| {
        test(damage);
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(damages, once) {
        panic!("{error}");
    }
}

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
fn mutate(value: &mut Value, steps: &[usize], with: &dyn Fn(&Value) -> Value, how: u8) {
    let Some((&step, rest)) = steps.split_first() else {
        *value = with(value);
        return;
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(step % map.len()).unwrap().clone();
            match (rest.is_empty(), how % 8) {
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
            match (rest.is_empty(), how % 8) {
                (true, 0) => drop(list.remove(at)),
                (true, 1) => list.push(with(&list[at])),
                _ => mutate(&mut list[at], rest, with, how),
            }
        }
        _ => *value = with(value),
    }
}

/// The walk, an odd value, how, and which of the values that the file has elsewhere.
type Mutation = (Vec<usize>, Value, u8, Index);

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let steps = prop::collection::vec(0usize..256, 0..5);
    prop::collection::vec((steps, odd(), any::<u8>(), any::<Index>()), 1..4)
}

/// An odd value in a place of a file, or one that might stand there: a neighbour of its number, or what
/// stands in another place.
fn apply(mut value: Value, mutations: &[Mutation]) -> Value {
    for (steps, odd, how, other) in mutations {
        let all = every(&value);
        let with = |old: &Value| match (how / 8 % 4, old.as_u64()) {
            (0, _) => odd.clone(),
            (1, Some(number)) => json!(number.saturating_add(1)),
            (2, Some(number)) => json!(number.saturating_sub(1)),
            _ => {
                let like =
                    |there: &&Value| std::mem::discriminant(*there) == std::mem::discriminant(old);
                let like: Vec<&Value> = all.iter().filter(like).collect();
                match like.is_empty() {
                    true => odd.clone(),
                    false => like[other.index(like.len())].clone(),
                }
            }
        };
        mutate(&mut value, steps, &with, *how);
    }
    value
}

/// Every value inside a value.
fn every(value: &Value) -> Vec<Value> {
    let inner: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    let below = inner.iter().flat_map(|inner| every(inner));
    inner
        .iter()
        .map(|inner| (*inner).clone())
        .chain(below)
        .collect()
}

/// What a bad disk, a broken transfer and a careless editor do to bytes.
type Edit = (u8, Index, Index, &'static [u8]);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"\r",
        b"\n",
        b"\n\n",
        b" ",
        b"\t",
        b"0",
        b"-",
        b"9",
        b"1e999",
        b"NaN",
        b"null",
        b"\xff",
        b"\0",
        b"a b",
        b"\xef\xbb\xbf",
        b"\xc2\xa0",
        b"F64",
        b".5",
    ];
    let edit = (
        any::<u8>(),
        any::<Index>(),
        any::<Index>(),
        prop::sample::select(pieces),
    );
    prop::collection::vec(edit, 1..4)
}

/// Edits the first `within` bytes.
fn edit(mut bytes: Vec<u8>, within: usize, edits: &[Edit]) -> Vec<u8> {
    for (how, at, other, piece) in edits {
        let length = bytes.len().min(within);
        if length == 0 {
            break;
        }
        let at = at.index(length);
        let other = other.index(length);
        let range = at..(at + 1 + other % 40).min(bytes.len());
        match how % 8 {
            0 => bytes[at] ^= 1 << (other % 8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(range)),
            3 => {
                let again = bytes[range].to_vec();
                drop(bytes.splice(at..at, again));
            }
            4 => bytes.swap(at, other),
            5 => bytes[at] = piece[0],
            _ => drop(bytes.splice(at..at, piece.iter().copied())),
        }
    }
    bytes
}

/// A tensor of the tiny model by its name.
fn tensor<'a>(model: &'a Checkpoint, name: &str) -> Tensor<'a> {
    let Some((layer, rest)) = name.strip_prefix("h.").and_then(|n| n.split_once('.')) else {
        return match name {
            "wte.weight" => model.token_embedding(),
            "wpe.weight" => model.position_embedding(),
            "ln_f.weight" => model.ln_f().weight,
            _ => model.ln_f().bias,
        };
    };
    let layer = model.layer(layer.parse().unwrap());
    match rest {
        "ln_1.weight" => layer.ln_1.weight,
        "ln_1.bias" => layer.ln_1.bias,
        "attn.c_attn.weight" => layer.c_attn.weight,
        "attn.c_attn.bias" => layer.c_attn.bias,
        "attn.c_proj.weight" => layer.c_proj.weight,
        "attn.c_proj.bias" => layer.c_proj.bias,
        "ln_2.weight" => layer.ln_2.weight,
        "ln_2.bias" => layer.ln_2.bias,
        "mlp.c_fc.weight" => layer.c_fc.weight,
        "mlp.c_fc.bias" => layer.c_fc.bias,
        "mlp.c_proj.weight" => layer.mlp_proj.weight,
        _ => layer.mlp_proj.bias,
    }
}

/// The sizes and switches are those in the file.
fn config_is(config: &Config, json: &[u8]) {
    let says: Value = serde_json::from_slice(json).unwrap();
    let size = |keys: &[&str], default: usize| {
        let found: Vec<usize> = keys
            .iter()
            .filter_map(|key| says.get(key))
            .map(|value| value.as_u64().unwrap() as usize)
            .collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{says}");
        found.first().copied().unwrap_or(default)
    };
    let switch = |key: &str, default| says.get(key).map_or(default, |on| on.as_bool().unwrap());
    assert_eq!(config.layers, size(&["n_layer", "num_hidden_layers"], 12));
    assert_eq!(config.heads, size(&["n_head", "num_attention_heads"], 12));
    assert_eq!(config.width, size(&["n_embd", "hidden_size"], 768));
    assert_eq!(config.vocab, size(&["vocab_size"], 50257));
    assert_eq!(
        config.context,
        size(&["n_positions", "max_position_embeddings"], 1024)
    );
    assert_eq!(config.head_width() * config.heads, config.width);
    let inner = match says.get("n_inner") {
        Some(inner) if !inner.is_null() => inner.as_u64().unwrap() as usize,
        _ => 4 * config.width,
    };
    assert_eq!(config.inner, inner);
    let name = says
        .get("activation_function")
        .map_or("gelu_new", |name| name.as_str().unwrap());
    assert_eq!(
        config.activation.name(),
        if name == "swish" { "silu" } else { name }
    );
    let epsilon = says
        .get("layer_norm_epsilon")
        .map_or(1e-5, |e| e.as_f64().unwrap());
    assert_eq!(config.layer_norm_epsilon, epsilon);
    assert_eq!(
        config.scale_attn_weights,
        switch("scale_attn_weights", true)
    );
    assert_eq!(
        config.scale_attn_by_inverse_layer_idx,
        switch("scale_attn_by_inverse_layer_idx", false)
    );
    assert_eq!(config.tied, switch("tie_word_embeddings", true));
    let kind = says.get("model_type").filter(|kind| !kind.is_null());
    assert!(kind.is_none_or(|kind| kind == "gpt2"), "{says}");
}

/// The numbers are those in the file, as the safetensors crate finds them. Returns whether it does: it
/// refuses types that it does not know, and odd `__metadata__`.
fn weights_are(model: &Checkpoint, bytes: &[u8]) -> bool {
    let theirs = match SafeTensors::deserialize(bytes) {
        Ok(theirs) => theirs,
        Err(SafeTensorError::InvalidHeaderDeserialization(_)) => return false,
        Err(error) => panic!("opened, though {error}"),
    };
    for name in tensors("F32").keys() {
        let ours = tensor(model, name);
        let stored = theirs
            .tensor(&format!("transformer.{name}"))
            .or_else(|_| theirs.tensor(name))
            .unwrap();
        let shape = match *stored.shape() {
            [columns] => [1, columns],
            [rows, columns] => [rows, columns],
            _ => panic!("{name}"),
        };
        assert_eq!(ours.shape, shape, "{name}");
        let data = stored.data();
        let numbers: Vec<f64> = match stored.dtype() {
            Dtype::F64 => each(data, |b| f64::from(f64::from_le_bytes(b) as f32)),
            Dtype::F32 => each(data, |b| f32::from_le_bytes(b).into()),
            Dtype::F16 => each(data, |b| f16::from_le_bytes(b).into()),
            Dtype::BF16 => each(data, |b| bf16::from_le_bytes(b).into()),
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!(ours.to_vec::<f64>(), numbers, "{name}");
    }
    true
}

fn each<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.as_chunks()
        .0
        .iter()
        .map(|bytes| number(*bytes))
        .collect()
}

/// Opens a model and compares it with its files. Returns whether it opened and could be compared.
fn open(config: &[u8], weights: Vec<u8>, tokenizer: Option<&[u8]>) -> bool {
    let held = Cow::Owned(weights.clone());
    match Checkpoint::from_bytes("fuzz", config, held, tokenizer) {
        Ok(model) => {
            config_is(&model.config, config);
            assert!(model.parameters() > 0 && model.hash().len() == 64);
            assert!(model.config.layers == LAYERS);
            weights_are(&model, &weights)
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n') && message.len() < 1000, "{message}");
            false
        }
    }
}

fn tiny() -> Vec<u8> {
    config().to_string().into_bytes()
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

/// The same without the stages that few have.
fn plain_tokenizer() -> Value {
    let mut json = small_tokenizer();
    json["normalizer"] = Value::Null;
    json["pre_tokenizer"] =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    json["post_processor"] =
        json!({"type": "BertProcessing", "cls": ["<x>", 6], "sep": ["<x>", 6]});
    json["truncation"] =
        json!({"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    json["padding"] = json!({"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 6, "pad_type_id": 0, "pad_token": "<x>"});
    json
}

const TEXTS: [&str; 6] = ["ab 1<x> ab", "ab", " ab  ab", "a<x>b", "abab ba1", ""];

/// Reads a `tokenizer.json` here and with the tokenizers crate, which must agree in the ids of every
/// text that is read here. Returns how many texts were.
fn tokenizer_is(json: &[u8], more: &str) -> usize {
    let ours = match Tokenizer::from_json(json, "fuzz") {
        Ok(ours) => ours,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            return 0;
        }
    };
    // A space before a text is the configuration's to say, and there is none here.
    let mut says: Value = serde_json::from_slice(json).unwrap();
    if says["pre_tokenizer"]["type"] == "ByteLevel" {
        says["pre_tokenizer"]["add_prefix_space"] = json!(false);
    }
    // The crate wants a version, and all merges written in one way.
    says["version"] = json!("1.0");
    for merge in says["model"]["merges"].as_array_mut().unwrap() {
        if let Some(line) = merge.as_str() {
            *merge = json!(line.split(' ').collect::<Vec<_>>());
        }
    }
    let says = says.to_string();
    let read = || tokenizers::Tokenizer::from_bytes(says.as_bytes()).ok();
    let Some(theirs) = catch_unwind(AssertUnwindSafe(read)).ok().flatten() else {
        return 0;
    };
    let mut compared = 0;
    for text in TEXTS.into_iter().chain([more]) {
        let _ = ours
            .answer(text, SeveralTokens::Joint)
            .map_err(|e| e.to_string());
        if text.contains("<|endoftext|>") {
            continue;
        }
        if let Ok(ids) = ours.encode(text) {
            let encoded = theirs.encode(text, false).unwrap();
            assert_eq!(ids, encoded.get_ids(), "{text:?} of {says}");
            let _ = ours.decode(&ids);
            for id in ids {
                let _ = ours.display(id);
            }
            compared += 1;
        }
    }
    compared
}

/// Whether merges join only what merges before them have made, as in every vocabulary that was
/// trained. Where they do not, GPT-2's own algorithm and the fast one of transformers differ.
fn in_order(merges: &str) -> bool {
    let mut made: HashSet<String> = HashSet::new();
    merges.lines().skip(1).all(|line| {
        let ready = |part: &str| part.chars().count() == 1 || made.contains(part);
        let whole = line.split_whitespace().all(ready);
        made.insert(line.split_whitespace().collect());
        whole
    })
}

/// The ids of words by GPT-2's own algorithm, in `encoder.py`; `None` where one has no id.
fn by_the_book(vocab: &HashMap<String, u32>, merges: &str, words: &[&str]) -> Option<Vec<u32>> {
    let lines: Vec<&str> = merges.split('\n').collect();
    let ranks: HashMap<(&str, &str), usize> = lines[1..lines.len() - 1]
        .iter()
        .enumerate()
        .filter_map(|(rank, line)| {
            let mut pair = line.split_whitespace();
            Some(((pair.next()?, pair.next()?), rank))
        })
        .collect();
    let mut ids = Vec::new();
    for word in words {
        let mut parts: Vec<String> = word.chars().map(String::from).collect();
        loop {
            let best = parts
                .windows(2)
                .filter_map(|pair| {
                    let rank = ranks.get(&(pair[0].as_str(), pair[1].as_str()))?;
                    Some((rank, [pair[0].clone(), pair[1].clone()]))
                })
                .min();
            let Some((_, [first, second])) = best else {
                break;
            };
            let mut joined: Vec<String> = Vec::new();
            let mut at = 0;
            while at < parts.len() {
                if parts[at] == first && parts.get(at + 1) == Some(&second) {
                    joined.push(format!("{first}{second}"));
                    at += 2;
                } else {
                    joined.push(parts[at].clone());
                    at += 1;
                }
            }
            parts = joined;
        }
        for part in parts {
            ids.push(*vocab.get(&part)?);
        }
    }
    Some(ids)
}

const VOCAB: &str =
    r#"{"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "ba": 5, "aba": 6, "Ġa": 7, "bab": 8}"#;
const MERGES: &str = "#version: 0.2\nĠ a\na b\nb a\nĠ ab\nab a\nb ab\n";
/// Texts and their words in GPT-2's byte alphabet.
const WORDS: [(&str, &[&str]); 5] = [
    ("ab ab aab", &["ab", "Ġab", "Ġaab"]),
    ("ababab", &["ababab"]),
    (" baba abab", &["Ġbaba", "Ġabab"]),
    ("bbabaab a", &["bbabaab", "Ġa"]),
    ("aabb", &["aabb"]),
];

/// Reads the pair here and by the book. Returns whether they were compared.
fn pair_is(vocab: &[u8], merges: &[u8]) -> bool {
    let ours = match Tokenizer::from_vocab_and_merges(vocab, "v", merges, "m") {
        Ok(ours) => ours,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            return false;
        }
    };
    let ids: HashMap<String, u32> = serde_json::from_slice(vocab).unwrap();
    let lines = str::from_utf8(merges).unwrap();
    if !in_order(lines) {
        return false;
    }
    for (text, words) in WORDS {
        let book = by_the_book(&ids, lines, words);
        assert_eq!(
            ours.encode(text).ok(),
            book,
            "{text:?} of {ids:?} and {lines:?}"
        );
    }
    true
}

#[test]
fn arbitrary_bytes_are_no_model() {
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    fuzz(&(bytes, 0u64..400), |(bytes, length)| {
        open(&tiny(), bytes.clone(), None);
        let mut headed = length.to_le_bytes().to_vec();
        headed.extend_from_slice(&bytes);
        open(&tiny(), headed, Some(&bytes));
        let _ = Config::from_json(&bytes, "fuzz");
        tokenizer_is(&bytes, "");
        pair_is(&bytes, &bytes);
        pair_is(VOCAB.as_bytes(), &bytes);
    });
}

#[test]
fn damaged_headers() {
    // Masks, and what else nobody reads, may be damaged without harm.
    let mut all = tensors("F16");
    for at in 0..60 {
        let mask = Stored {
            dtype: "U8",
            shape: vec![1, 3],
            bytes: vec![1; 3],
        };
        all.insert(format!("h.{at}.attn.bias"), mask);
    }
    let (compared, all) = (Cell::new(0), parts(&all, "transformer."));
    let damages = (mutations(), 0usize..8, 0usize..8);
    fuzz(&damages, |(mutations, cut, shift)| {
        let header = apply(all.0.clone(), &mutations).to_string();
        let data = &all.1[..all.1.len() - cut.saturating_sub(4)];
        compared.update(|n| n + usize::from(open(&tiny(), file(&header, data, shift), None)));
    });
    assert!(compared.get() > 5, "{compared:?}");
}

#[test]
fn damaged_bytes_of_weights() {
    for dtype in ["F64", "F32", "F16", "BF16"] {
        let whole = safetensors(&tensors(dtype), "");
        let header = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize + 8;
        let compared = Cell::new(0);
        fuzz(&(edits(), any::<bool>()), |(edits, everywhere)| {
            let within = if everywhere { whole.len() } else { header + 32 };
            let opened = open(&tiny(), edit(whole.clone(), within, &edits), None);
            compared.update(|n| n + usize::from(opened));
        });
        assert!(compared.get() > 20, "{compared:?}");
    }
}

/// A tensor that stands in the header twice, and one more in another's place.
#[test]
fn headers_with_an_entry_too_many() {
    let (header, data) = parts(&tensors("F32"), "");
    let names: Vec<String> = header.as_object().unwrap().keys().cloned().collect();
    let damages = (any::<Index>(), any::<Index>(), any::<bool>());
    fuzz(&damages, |(one, other, more)| {
        let [one, other] = [one, other].map(|at| &names[1 + at.index(names.len() - 1)]);
        let name = if more { "more" } else { one.as_str() };
        let mut text = header.to_string();
        text.pop();
        text.push_str(&format!(",{}:{}}}", json!(name), header[other]));
        assert!(!open(&tiny(), file(&text, &data, 0), None));
    });
}

#[test]
fn damaged_configurations() {
    let compared = Cell::new(0);
    fuzz(
        &(mutations(), edits(), any::<bool>()),
        |(mutations, edits, bytes)| {
            let mut json = config();
            for (key, value) in [
                ("activation_function", json!("gelu")),
                ("layer_norm_epsilon", json!(1e-6)),
                ("scale_attn_weights", json!(false)),
                ("scale_attn_by_inverse_layer_idx", json!(true)),
                ("tie_word_embeddings", json!(true)),
                ("hidden_size", json!(WIDTH)),
                ("num_hidden_layers", json!(LAYERS)),
            ] {
                json[key] = value;
            }
            let text = match bytes {
                true => edit(json.to_string().into_bytes(), usize::MAX, &edits),
                false => apply(json, &mutations).to_string().into_bytes(),
            };
            let opened = open(&text, safetensors(&tensors("BF16"), ""), None);
            compared.update(|n| n + usize::from(opened));
        },
    );
    assert!(compared.get() > 50, "{compared:?}");
}

#[test]
fn damaged_tokenizers() {
    for whole in [small_tokenizer(), plain_tokenizer()] {
        let compared = Cell::new(0);
        let damages = (mutations(), edits(), any::<bool>(), ".{0,20}");
        fuzz(&damages, |(mutations, edits, bytes, more)| {
            let json = match bytes {
                true => edit(whole.to_string().into_bytes(), usize::MAX, &edits),
                false => apply(whole.clone(), &mutations).to_string().into_bytes(),
            };
            compared.update(|n| n + tokenizer_is(&json, &more));
        });
        assert!(compared.get() > 500, "{compared:?}");
    }
}

#[test]
fn damaged_vocabularies_and_merges() {
    assert!(pair_is(VOCAB.as_bytes(), MERGES.as_bytes()));
    let compared = Cell::new(0);
    let merges = "([abĠ]{0,3} ?[abĠ\r]{0,3}\n){0,5}";
    let damages = (mutations(), edits(), 0u8..5, merges);
    fuzz(&damages, |(mutations, edits, how, other)| {
        let [vocab, merges] = [VOCAB, MERGES].map(|text| text.as_bytes().to_vec());
        let vocabulary = || serde_json::from_str::<Value>(VOCAB).unwrap();
        let opened = match how {
            0 => pair_is(&edit(vocab, usize::MAX, &edits), &merges),
            1 => pair_is(&vocab, &edit(merges, usize::MAX, &edits)),
            2 => pair_is(
                apply(vocabulary(), &mutations).to_string().as_bytes(),
                &merges,
            ),
            // Merges in another order.
            3 => {
                let mut lines: Vec<&str> = MERGES.lines().collect();
                for (_, one, other, _) in &edits {
                    lines.swap(1 + one.index(6), 1 + other.index(6));
                }
                pair_is(&vocab, format!("{}\n", lines.join("\n")).as_bytes())
            }
            _ => pair_is(&vocab, format!("#version: 0.2\n{other}").as_bytes()),
        };
        compared.update(|n| n + usize::from(opened));
    });
    assert!(compared.get() > 200, "{compared:?}");
}

/// What stands beside a vocabulary changes no text in which none of its tokens occur, but by a space
/// before it.
#[test]
fn damaged_files_beside_a_vocabulary() {
    let dir = folder();
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("vocab.json", VOCAB.as_bytes());
    put("merges.txt", MERGES.as_bytes());
    let token = |content: &str| {
        json!({"__type": "AddedToken", "content": content, "lstrip": false, "normalized": true,
            "rstrip": false, "single_word": false, "special": true})
    };
    let files = [
        (
            "tokenizer_config.json",
            json!({"add_bos_token": false, "add_prefix_space": false, "bos_token": token("<s>"),
                "additional_special_tokens": ["<x>"], "tokenizer_class": "GPT2Tokenizer"}),
        ),
        (
            "special_tokens_map.json",
            json!({"bos_token": token("<s>"), "eos_token": "<s>", "unk_token": "<u>"}),
        ),
        ("added_tokens.json", json!({"<s>": 9, "<u>": 10})),
    ];
    for (name, json) in &files {
        put(name, json.to_string().as_bytes());
    }
    let open = || Tokenizer::open(dir.path()).map(Option::unwrap);
    let whole = open().unwrap();
    let compared = Cell::new(0);
    let damages = (0usize..3, mutations(), edits(), any::<bool>());
    fuzz(&damages, |(which, mutations, edits, bytes)| {
        let (name, json) = &files[which];
        let damaged = match bytes {
            true => edit(json.to_string().into_bytes(), usize::MAX, &edits),
            false => apply(json.clone(), &mutations).to_string().into_bytes(),
        };
        put(name, &damaged);
        let opened = open();
        put(name, json.to_string().as_bytes());
        let ours = match opened {
            Ok(ours) => ours,
            Err(error) => return assert!(!error.to_string().contains('\n'), "{error}"),
        };
        let says: Value = serde_json::from_slice(&damaged).unwrap();
        let spaced = which == 0 && says["add_prefix_space"] == true;
        for (text, _) in WORDS {
            if occurs(&says, text) {
                continue;
            }
            let expected = match spaced && !text.starts_with(' ') {
                true => whole.encode(&format!(" {text}")),
                false => whole.encode(text),
            };
            assert_eq!(
                ours.encode(text).unwrap(),
                expected.unwrap(),
                "{text:?} of {says}"
            );
            compared.update(|n| n + 1);
        }
    });
    assert!(compared.get() > 500, "{compared:?}");
}

/// Whether any text in the JSON, as a key or a value, occurs in `text`.
fn occurs(json: &Value, text: &str) -> bool {
    let in_text = |part: &str| !part.is_empty() && text.contains(part);
    match json {
        Value::String(part) => in_text(part),
        Value::Array(list) => list.iter().any(|value| occurs(value, text)),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| in_text(key) || occurs(value, text)),
        _ => false,
    }
}

#[test]
fn damaged_indices() {
    let dir = folder();
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let weights = safetensors(&tensors("F32"), "");
    put("config.json", &tiny());
    put("model-1.safetensors", &weights);
    let mut map = json!({});
    for name in tensors("F32").keys() {
        map[name] = json!("model-1.safetensors");
    }
    let index = json!({"weight_map": map});
    let compared = Cell::new(0);
    fuzz(
        &(mutations(), edits(), any::<bool>()),
        |(mutations, edits, bytes)| {
            let damaged = match bytes {
                true => edit(index.to_string().into_bytes(), usize::MAX, &edits),
                false => apply(index.clone(), &mutations).to_string().into_bytes(),
            };
            put("model.safetensors.index.json", &damaged);
            match Checkpoint::open(dir.path()) {
                Ok(model) => compared.update(|n| n + usize::from(weights_are(&model, &weights))),
                Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            }
        },
    );
    assert!(compared.get() > 10, "{compared:?}");
}
