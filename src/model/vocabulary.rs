//! Tokenizer files, read with suspicion.
//!
//! Both layouts (`tokenizer.json`; `vocab.json` with `merges.txt`) come down to [`Parts`]. The
//! `tokenizers` crate could read them itself, but a merge whose product is not in the vocabulary, for
//! one, makes it panic: it sees only what was checked here.

use std::collections::HashMap;

use serde_json::{Map, Value};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::error::quote;

/// Beyond every vocabulary there is; the same bound as for the sizes of a configuration.
const LARGEST_ID: u64 = (1 << 24) - 1;

/// What both file layouts come down to. Errors inside this type are ends of sentences that begin
/// with the file.
pub(super) struct Parts {
    pub(super) vocab: HashMap<String, u32>,
    pub(super) merges: Vec<(String, String)>,
    pub(super) added: Vec<(AddedToken, u32)>,
    pub(super) ignore_merges: bool,
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    pub(super) adds_space: bool,
}

impl Parts {
    /// GPT-2's original pair of files. `<|endoftext|>`, where the vocabulary has it, is encoded as
    /// that one token.
    pub(super) fn original(vocab: HashMap<String, u32>, merges: Vec<(String, String)>) -> Self {
        let end = "<|endoftext|>";
        let added = vocab.get(end).map(|&id| (AddedToken::from(end, true), id));
        Parts {
            added: added.into_iter().collect(),
            vocab,
            merges,
            ignore_merges: false,
            normalizer: None,
            pre_tokenizer: ByteLevel::new(false, true, true).into(),
            adds_space: false,
        }
    }

    /// A `vocab.json`.
    pub(super) fn vocab(text: &[u8]) -> Result<HashMap<String, u32>, String> {
        ids(&object(text)?)
    }

    /// A `merges.txt`.
    pub(super) fn merges(text: &[u8]) -> Result<Vec<(String, String)>, String> {
        merge_lines(text)
    }

    /// A `tokenizer.json`.
    pub(super) fn from_json(json: &[u8]) -> Result<Self, String> {
        let mut root = object(json)?;
        let mut model = match root.remove("model") {
            Some(Value::Object(model)) => model,
            _ => return Err("it has no object `model`".to_owned()),
        };
        match model.get("type").and_then(Value::as_str) {
            // Files from before the type was written are BPE where they have merges.
            Some("BPE") | None => {}
            Some(other) => return Err(format!("its model is {}, expected BPE", quote(other))),
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model
                .get(key)
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty())
            {
                return Err(format!(
                    "it sets `{key}`, which byte-level BPE does not have"
                ));
            }
        }
        let vocab = match model.get("vocab") {
            Some(Value::Object(vocab)) => ids(vocab)?,
            _ => return Err("its model has no object `vocab` from tokens to ids".to_owned()),
        };
        let merges = match model.remove("merges") {
            Some(Value::Array(merges)) => merges,
            _ => return Err("its model has no list `merges`".to_owned()),
        };
        let merges = merges
            .iter()
            .enumerate()
            .map(|(i, merge)| {
                pair(merge).ok_or_else(|| {
                    format!(
                        "merge {i} is {}, expected two tokens",
                        quote(&merge.to_string())
                    )
                })
            })
            .collect::<Result<_, _>>()?;

        let normalizer = match root.remove("normalizer") {
            None | Some(Value::Null) => None,
            Some(value) => Some(allowed("normalizer", value, &NORMALIZERS)?),
        };
        let pre_tokenizer = root.remove("pre_tokenizer").unwrap_or_default();
        let byte_levels = stages(&pre_tokenizer)
            .into_iter()
            .filter(|stage| stage.get("type").and_then(Value::as_str) == Some("ByteLevel"));
        let spaces: Vec<bool> = byte_levels
            .map(|stage| {
                stage
                    .get("add_prefix_space")
                    .and_then(Value::as_bool)
                    .unwrap_or(true)
            })
            .collect();
        if spaces.is_empty() {
            return Err("its pre_tokenizer is not ByteLevel".to_owned());
        }
        let pre_tokenizer = allowed("pre_tokenizer", pre_tokenizer, &PRE_TOKENIZERS)?;

        let added = match root.remove("added_tokens") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.into_iter().map(added).collect::<Result<_, _>>()?,
            Some(_) => return Err("its `added_tokens` is not a list".to_owned()),
        };
        let ignore_merges = model
            .get("ignore_merges")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let adds_space = spaces.contains(&true);
        let parts = Parts {
            vocab,
            merges,
            added,
            ignore_merges,
            normalizer,
            pre_tokenizer,
            adds_space,
        };
        parts.check_merges()?;
        Ok(parts)
    }

    /// Every merge joins two tokens to a third.
    pub(super) fn check_merges(&self) -> Result<(), String> {
        let mut joined = String::new();
        for (i, (a, b)) in self.merges.iter().enumerate() {
            joined.clear();
            joined.push_str(a);
            joined.push_str(b);
            if let Some(missing) = [a, b, &joined]
                .into_iter()
                .find(|t| !self.vocab.contains_key(*t))
            {
                let (a, b, missing) = (quote(a), quote(b), quote(missing));
                return Err(format!(
                    "merge {i} (`{a} {b}`) needs the token `{missing}`, which is not in the vocabulary"
                ));
            }
        }
        Ok(())
    }
}

/// What may stand before byte-level BPE: the stages that GPT-2s are published with, none of which
/// runs code of the file's own.
const NORMALIZERS: [&str; 6] = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Sequence"];
const PRE_TOKENIZERS: [&str; 5] = ["ByteLevel", "Digits", "Punctuation", "Split", "Sequence"];

/// A stage of `tokenizer.json` as the encoder's own type, where all of it is in `known`.
fn allowed<T: serde::de::DeserializeOwned>(
    key: &str,
    value: Value,
    known: &[&str],
) -> Result<T, String> {
    let unknown = stages(&value)
        .into_iter()
        .map(|stage| {
            stage
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or("nameless")
        })
        .find(|kind| !known.contains(kind));
    if let Some(kind) = unknown {
        return Err(format!(
            "its {key} has a stage {}, expected {}",
            quote(kind),
            known.join(", ")
        ));
    }
    serde_json::from_value(value)
        .map_err(|e| format!("its {key} cannot be used: {}", quote(&e.to_string())))
}

/// A stage and, of a sequence, the stages inside it.
fn stages(value: &Value) -> Vec<&Value> {
    let mut all = vec![value];
    let mut next = 0;
    while let Some(stage) = all.get(next).copied() {
        for key in ["normalizers", "pretokenizers"] {
            all.extend(
                stage
                    .get(key)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten(),
            );
        }
        next += 1;
    }
    all
}

fn object(text: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(text)
        .map_err(|e| format!("it is not a JSON object: {}", quote(&e.to_string())))
}

fn token_id(value: Option<&Value>) -> Option<u32> {
    value
        .and_then(Value::as_u64)
        .filter(|id| *id <= LARGEST_ID)
        .map(|id| id as u32)
}

fn ids(vocab: &Map<String, Value>) -> Result<HashMap<String, u32>, String> {
    vocab
        .iter()
        .map(|(token, id)| match token_id(Some(id)) {
            Some(id) => Ok((token.clone(), id)),
            None => Err(format!(
                "token `{}` has id {}, expected a whole number up to {LARGEST_ID}",
                quote(token),
                quote(&id.to_string())
            )),
        })
        .collect()
}

fn added(mut value: Value) -> Result<(AddedToken, u32), String> {
    let id = token_id(value.get("id"));
    // Files of early versions leave out the switches that are off.
    if let Some(token) = value.as_object_mut() {
        for switch in ["single_word", "lstrip", "rstrip", "normalized", "special"] {
            token.entry(switch).or_insert(Value::Bool(false));
        }
    }
    let shown = quote(&value.to_string());
    match (serde_json::from_value::<AddedToken>(value), id) {
        (Ok(token), Some(id)) if !token.content.is_empty() => Ok((token, id)),
        _ => Err(format!(
            "an added token is {shown}, expected an object with id and content"
        )),
    }
}

/// A merge as `tokenizer.json` writes it: `"a b"` or `["a", "b"]`.
fn pair(merge: &Value) -> Option<(String, String)> {
    match merge {
        Value::String(line) => split_merge(line),
        Value::Array(both) => match both.as_slice() {
            [Value::String(a), Value::String(b)] => Some((a.clone(), b.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn split_merge(line: &str) -> Option<(String, String)> {
    let (a, b) = line.split_once(' ')?;
    (!a.is_empty() && !b.is_empty() && !b.contains(' ')).then(|| (a.to_owned(), b.to_owned()))
}

fn merge_lines(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = str::from_utf8(text)
        .map_err(|e| format!("it is not UTF-8 from byte {}", e.valid_up_to()))?;
    let lines = text.trim_end_matches(['\n', '\r']).lines().enumerate();
    lines
        .filter(|(_, line)| !line.starts_with("#version"))
        .map(|(i, line)| {
            split_merge(line).ok_or_else(|| {
                format!(
                    "line {} is `{}`, expected two tokens and a space between them",
                    i + 1,
                    quote(line)
                )
            })
        })
        .collect()
}
