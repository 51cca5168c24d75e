//! Tokenizer files, read with suspicion.
//!
//! Both layouts (`tokenizer.json`; `vocab.json` with `merges.txt`) come down to [`Parts`]. The
//! `tokenizers` crate could read them itself, but a merge whose product is not in the vocabulary, for
//! one, makes it panic: it sees only what was checked here.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::settings::Class;
use crate::model::error::quote;

/// Beyond every vocabulary there is; the same bound as for the sizes of a configuration.
const LARGEST_ID: u64 = (1 << 24) - 1;
/// The most tokens that a post-processor puts on one side of a text.
const MOST_AROUND: usize = 16;

/// What both file layouts come down to. Errors inside this type are ends of sentences that begin
/// with the file.
pub(super) struct Parts {
    pub(super) vocab: HashMap<String, u32>,
    pub(super) merges: Vec<(String, String)>,
    /// Whether it is GPT-2's original pair of files.
    pub(super) pair: bool,
    /// Added tokens that `tokenizer.json` lists.
    pub(super) added: Vec<(AddedToken, u32)>,
    pub(super) ignore_merges: bool,
    /// What stands for text without a token, and whether one stands for a stretch of it.
    pub(super) unknown: Option<(String, bool)>,
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    /// Whether a stage inside a sequence puts a space before a text, whatever stands beside the file.
    pub(super) sequence_adds_space: bool,
    /// Tokens to put before and after a text, where somebody asks for that.
    pub(super) around: [Vec<u32>; 2],
    /// The most tokens that are kept of a text.
    pub(super) cut: Option<usize>,
}

impl Parts {
    /// GPT-2's original pair of files.
    pub(super) fn original(vocab: HashMap<String, u32>, merges: Vec<(String, String)>) -> Self {
        Parts {
            pair: true,
            added: Vec::new(),
            vocab,
            merges,
            ignore_merges: false,
            unknown: None,
            normalizer: None,
            pre_tokenizer: ByteLevel::new(false, true, true).into(),
            sequence_adds_space: false,
            around: [Vec::new(), Vec::new()],
            cut: None,
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
        if !matches!(model.get("dropout"), None | Some(Value::Null))
            && number(&model, "dropout") != Some(0.0)
        {
            let found = quote(&model["dropout"].to_string());
            return Err(format!(
                "its dropout is {found}, which leaves out merges at random: set it to null"
            ));
        }
        let switch = |key: &str| match model.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(other) => Err(format!(
                "{key} is {}, expected true or false",
                quote(&other.to_string())
            )),
        };
        if switch("byte_fallback")? {
            return Err("it sets byte_fallback, which byte-level BPE does not have".to_owned());
        }
        let vocab = match model.get("vocab") {
            Some(Value::Object(vocab)) => ids(vocab)?,
            _ => return Err("its model has no object `vocab` from tokens to ids".to_owned()),
        };
        let unknown = match model.get("unk_token") {
            None | Some(Value::Null) => None,
            Some(Value::String(token)) if vocab.contains_key(token) => {
                Some((token.clone(), switch("fuse_unk")?))
            }
            Some(other) => {
                let found = quote(&other.to_string());
                return Err(format!(
                    "its unk_token is {found}, expected a token of its vocabulary"
                ));
            }
        };
        let ignore_merges = switch("ignore_merges")?;
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
        let byte_levels: Vec<_> = stages(&pre_tokenizer)
            .into_iter()
            .filter(|stage| kind(stage) == Some("ByteLevel"))
            .collect();
        if byte_levels.is_empty() {
            return Err("its pre_tokenizer is not ByteLevel".to_owned());
        }
        let adds_space =
            |stage: &&&Value| stage.get("add_prefix_space") != Some(&Value::Bool(false));
        let sequence_adds_space =
            kind(&pre_tokenizer) == Some("Sequence") && byte_levels.iter().any(|s| adds_space(&s));
        let pre_tokenizer = allowed("pre_tokenizer", pre_tokenizer, &PRE_TOKENIZERS)?;

        let added = match root.remove("added_tokens") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.into_iter().map(added).collect::<Result<_, _>>()?,
            Some(_) => return Err("its `added_tokens` is not a list".to_owned()),
        };
        let parts = Parts {
            pair: false,
            vocab,
            merges,
            added,
            ignore_merges,
            unknown,
            normalizer,
            pre_tokenizer,
            sequence_adds_space,
            around: around(root.get("post_processor"))?,
            cut: cut(root.get("truncation"))?,
        };
        no_padding(root.get("padding"))?;
        parts.check_merges()?;
        Ok(parts)
    }

    /// Applies what stands beside about a space before a text, as transformers does: a single
    /// ByteLevel stage obeys, one inside a sequence does not. Returns whether a space is added.
    pub(super) fn set_prefix_space(
        &mut self,
        said: Option<bool>,
        class: Class,
    ) -> Result<bool, String> {
        let PreTokenizerWrapper::ByteLevel(stage) = &mut self.pre_tokenizer else {
            return Ok(self.sequence_adds_space);
        };
        stage.add_prefix_space = match (said, class, stage.add_prefix_space) {
            (Some(said), _, _) => said,
            (None, Class::Gpt2, _) => false,
            (None, Class::Backend, own) => own,
            (None, Class::Plain, false) => false,
            (None, Class::Plain, true) => {
                return Err(
                    "its pre_tokenizer sets add_prefix_space, which transformers 4 does not heed and 5 does: say it in tokenizer_config.json"
                        .to_owned(),
                );
            }
        };
        Ok(stage.add_prefix_space)
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
        .map(|stage| kind(stage).unwrap_or("nameless"))
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

/// The type of a stage or a processor.
fn kind(stage: &Value) -> Option<&str> {
    stage.get("type").and_then(Value::as_str)
}

fn number(map: &Map<String, Value>, key: &str) -> Option<f64> {
    map.get(key).and_then(Value::as_f64)
}

/// The ids that a post-processor puts before and after a single text.
fn around(processor: Option<&Value>) -> Result<[Vec<u32>; 2], String> {
    let mut both = [Vec::new(), Vec::new()];
    let Some(processor) = processor.filter(|value| !value.is_null()) else {
        return Ok(both);
    };
    let wrong = || {
        let found = quote(&processor.to_string());
        format!("its post_processor is {found}, which cannot be used")
    };
    match kind(processor) {
        Some("ByteLevel") => {}
        Some("BertProcessing" | "RobertaProcessing") => {
            for (side, key) in both.iter_mut().zip(["cls", "sep"]) {
                let id = token_id(processor.get(key).and_then(|token| token.get(1)));
                side.push(id.ok_or_else(wrong)?);
            }
        }
        Some("TemplateProcessing") => {
            let single = processor.get("single").and_then(Value::as_array);
            let mut side = 0;
            for piece in single.ok_or_else(wrong)? {
                if piece.get("Sequence").is_some() {
                    side = 1;
                    continue;
                }
                let token = piece.get("SpecialToken").and_then(|token| token.get("id"));
                let ids = token.and_then(Value::as_str).and_then(|token| {
                    processor
                        .get("special_tokens")?
                        .get(token)?
                        .get("ids")?
                        .as_array()
                });
                for id in ids.ok_or_else(wrong)? {
                    both[side].push(token_id(Some(id)).ok_or_else(wrong)?);
                }
            }
        }
        Some("Sequence") => {
            let all = processor.get("processors").and_then(Value::as_array);
            for inner in all.ok_or_else(wrong)? {
                if kind(inner) == Some("Sequence") {
                    return Err(wrong());
                }
                let [before, after] = around(Some(inner))?;
                // The later one goes round the earlier.
                both[0].splice(0..0, before);
                both[1].extend(after);
            }
        }
        _ => return Err(wrong()),
    }
    if let Some(side) = both.iter().find(|side| side.len() > MOST_AROUND) {
        return Err(format!(
            "its post_processor puts {} tokens on one side of a text, expected at most {MOST_AROUND}",
            side.len()
        ));
    }
    Ok(both)
}

/// The most tokens that `truncation` keeps.
fn cut(truncation: Option<&Value>) -> Result<Option<usize>, String> {
    let Some(truncation) = truncation.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let most = truncation.get("max_length").and_then(Value::as_u64);
    match most.and_then(|most| usize::try_from(most).ok()) {
        Some(most) => Ok(Some(most)),
        None => Err(format!(
            "its truncation is {}, expected an object with max_length",
            quote(&truncation.to_string())
        )),
    }
}

/// Padding to the longest of a batch does nothing to a text by itself; any other does.
fn no_padding(padding: Option<&Value>) -> Result<(), String> {
    let Some(padding) = padding.filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let longest = padding.get("strategy").and_then(Value::as_str) == Some("BatchLongest");
    let multiple = padding.get("pad_to_multiple_of").and_then(Value::as_u64);
    if longest && multiple.is_none_or(|multiple| multiple <= 1) {
        return Ok(());
    }
    Err("it pads texts to a length (`padding`), and positions are never padded here: set it to null".to_owned())
}

pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(text)
        .map_err(|e| format!("it is not a JSON object: {}", quote(&e.to_string())))
}

pub(super) fn token_id(value: Option<&Value>) -> Option<u32> {
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
    // transformers leaves out the first line, whatever it is, and what comes after the last line's
    // end; later versions and other readers do not.
    if !text.starts_with("#version") {
        return Err("its first line is not `#version: 0.2`, as it is in a file of merges: put that before it".to_owned());
    }
    if !text.ends_with('\n') {
        return Err(
            "its last line has no end, so that transformers leaves it out: end it, or remove it"
                .to_owned(),
        );
    }
    // transformers splits lines at any white space, and of one that stands twice its fast tokenizer
    // counts the first place, its slow one the last.
    let mut seen = HashSet::new();
    let lines = text.trim_end_matches(['\n', '\r']).lines().enumerate();
    lines
        .skip(1)
        .map(|(i, line)| {
            let odd = line.contains(|c: char| c.is_whitespace() && c != ' ');
            let merge = split_merge(line).filter(|_| !odd).ok_or_else(|| {
                format!(
                    "line {} is `{}`, expected two tokens and a space between them",
                    i + 1,
                    quote(line)
                )
            })?;
            match seen.insert(line) {
                true => Ok(merge),
                false => Err(format!(
                    "line {} is `{}`, which stands there before: remove one",
                    i + 1,
                    quote(line)
                )),
            }
        })
        .collect()
}
