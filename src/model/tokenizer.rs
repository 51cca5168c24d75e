//! Text to token ids and back, for byte-level BPE as GPT-2 has it.
//!
//! The `tokenizers` crate encodes. It is given only what was checked here first: a merge whose
//! product is not in the vocabulary, for one, makes it panic, so its own file readers see no foreign
//! bytes. Both file layouts (`tokenizer.json`; `vocab.json` with `merges.txt`) become a [`Parts`],
//! and a [`Parts`] a [`Tokenizer`].

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::byte_level;
use super::error::{ModelError, quote};

/// Beyond every vocabulary there is; the same bound as for the sizes of a configuration.
const LARGEST_ID: u64 = (1 << 24) - 1;

/// A byte-level BPE tokenizer. No special tokens are added to what it encodes, and no leading space
/// unless its `tokenizer.json` asks for one.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Each token's bytes.
    pieces: HashMap<u32, Box<[u8]>>,
    /// Which bytes have a token of their own: text with any other cannot be encoded.
    alphabet: [bool; 256],
    /// Whether the bytes of the tokens must be those of the text.
    lossless: bool,
    /// The highest id and the file, for messages.
    last: u32,
    file: String,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} tokens)", self.file, self.pieces.len())
    }
}

impl Tokenizer {
    /// The tokenizer in a checkpoint's folder: `tokenizer.json`, else `vocab.json` and `merges.txt`,
    /// else none.
    ///
    /// # Errors
    ///
    /// [`ModelError::HalfTokenizer`] where one of the pair is missing, [`ModelError::Tokenizer`] for
    /// broken files, [`ModelError::Read`].
    pub fn open(dir: &Path) -> Result<Option<Self>, ModelError> {
        let [json, vocab, merges] =
            ["tokenizer.json", "vocab.json", "merges.txt"].map(|name| dir.join(name));
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| ModelError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let half = |present: &Path, absent: &str| ModelError::HalfTokenizer {
            present: present.display().to_string(),
            absent: absent.to_owned(),
        };
        if json.exists() {
            return Self::from_json(&read(&json)?, &json.display().to_string()).map(Some);
        }
        match (vocab.exists(), merges.exists()) {
            (false, false) => Ok(None),
            (true, false) => Err(half(&vocab, "merges.txt")),
            (false, true) => Err(half(&merges, "vocab.json")),
            (true, true) => Self::from_vocab_and_merges(
                &read(&vocab)?,
                &vocab.display().to_string(),
                &read(&merges)?,
                &merges.display().to_string(),
            )
            .map(Some),
        }
    }

    /// Reads a `tokenizer.json`; `file` names it in messages.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tokenizer`].
    pub fn from_json(json: &[u8], file: &str) -> Result<Self, ModelError> {
        let broken = |detail| ModelError::Tokenizer {
            file: file.to_owned(),
            detail,
        };
        Parts::from_json(json)
            .and_then(|parts| parts.build(file))
            .map_err(broken)
    }

    /// Reads GPT-2's original pair of files; `vocab_file` and `merges_file` name them in messages.
    /// `<|endoftext|>`, where the vocabulary has it, is encoded as that one token.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tokenizer`].
    pub fn from_vocab_and_merges(
        vocab: &[u8],
        vocab_file: &str,
        merges: &[u8],
        merges_file: &str,
    ) -> Result<Self, ModelError> {
        let broken = |file: &str| {
            let file = file.to_owned();
            move |detail| ModelError::Tokenizer { file, detail }
        };
        let vocab = object(vocab)
            .and_then(|v| ids(&v))
            .map_err(broken(vocab_file))?;
        let merges = merge_lines(merges).map_err(broken(merges_file))?;
        let end = "<|endoftext|>";
        let added = vocab
            .get(end)
            .map(|&id| (AddedToken::from(end, true).normalized(false), id));
        let parts = Parts {
            vocab,
            merges,
            added: added.into_iter().collect(),
            ignore_merges: false,
            normalizer: None,
            pre_tokenizer: ByteLevel::new(false, true, true).into(),
            adds_space: false,
        };
        parts.check_merges().map_err(broken(merges_file))?;
        parts.build(vocab_file).map_err(broken(vocab_file))
    }

    /// The token ids of `text`, none for empty text.
    ///
    /// # Errors
    ///
    /// [`ModelError::Encode`] where a part of the text has no token, which happens only with
    /// vocabularies that lack some bytes.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let fail = |detail: String| ModelError::Encode {
            text: quote(text),
            detail,
        };
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| fail(quote(&e.to_string())))?;
        let ids = encoding.get_ids().to_vec();
        if self.lossless {
            // Bytes without a token are left out in silence by the encoder.
            let bytes = ids
                .iter()
                .filter_map(|id| self.pieces.get(id))
                .flat_map(|p| p.iter());
            if !bytes.eq(text.as_bytes()) {
                let lacking = |c: &char| {
                    let mut buffer = [0; 4];
                    let bytes = c.encode_utf8(&mut buffer).bytes();
                    bytes.into_iter().any(|byte| !self.alphabet[byte as usize])
                };
                return Err(fail(match text.chars().find(lacking) {
                    Some(c) => format!("its vocabulary has no token for `{}`", c.escape_debug()),
                    None => "its tokens do not give the text back".to_owned(),
                }));
            }
        }
        Ok(ids)
    }

    /// The bytes that a token stands for, which need not be whole UTF-8; `None` beyond the vocabulary.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(&id).map(|piece| &**piece)
    }

    /// A token as text, each byte that is no UTF-8 as `\xNN`; `[id]` for an id without a token (a
    /// model's vocabulary may be padded beyond its tokenizer's).
    pub fn decode_raw(&self, id: u32) -> String {
        self.bytes(id)
            .map_or_else(|| format!("[{id}]"), byte_level::show)
    }

    /// A token as tables and axes show it: like [`Tokenizer::decode_raw`], with a space as `_` and a
    /// newline as `\n`, as pyvene's `format_token` does.
    pub fn display(&self, id: u32) -> String {
        self.decode_raw(id).replace(' ', "_").replace('\n', "\\n")
    }

    /// Text as a single token: its only one or, with `first_token`, its first.
    ///
    /// # Errors
    ///
    /// [`ModelError::NotOneToken`], which lists the tokens that the text has; [`ModelError::Encode`].
    pub fn target(&self, text: &str, first_token: bool) -> Result<u32, ModelError> {
        let ids = self.encode(text)?;
        match *ids {
            [id] => Ok(id),
            [id, ..] if first_token => Ok(id),
            _ => Err(ModelError::NotOneToken {
                target: quote(text),
                tokens: ids.iter().map(|&id| (id, self.decode_raw(id))).collect(),
            }),
        }
    }

    /// Tokens, the added ones among them.
    pub fn tokens(&self) -> usize {
        self.pieces.len()
    }

    /// Refuses a tokenizer that makes ids from `vocab` up.
    pub(super) fn fits(&self, vocab: usize) -> Result<(), ModelError> {
        if (self.last as usize) < vocab {
            return Ok(());
        }
        Err(ModelError::TokenizerBeyondVocab {
            file: self.file.clone(),
            token: quote(&self.decode_raw(self.last)),
            id: self.last,
            vocab,
        })
    }
}

/// What both file layouts come down to. Errors inside this type are ends of sentences that begin
/// with the file.
struct Parts {
    vocab: HashMap<String, u32>,
    merges: Vec<(String, String)>,
    added: Vec<(AddedToken, u32)>,
    ignore_merges: bool,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: PreTokenizerWrapper,
    adds_space: bool,
}

impl Parts {
    fn from_json(json: &[u8]) -> Result<Self, String> {
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
        Ok(Parts {
            vocab,
            merges,
            added,
            ignore_merges,
            normalizer,
            pre_tokenizer,
            adds_space,
        })
    }

    /// Every merge joins two tokens to a third.
    fn check_merges(&self) -> Result<(), String> {
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

    fn build(mut self, file: &str) -> Result<Tokenizer, String> {
        self.check_merges()?;
        let mut pieces: HashMap<u32, Box<[u8]>> = HashMap::with_capacity(self.vocab.len());
        let mut alphabet = [false; 256];
        for (token, &id) in &self.vocab {
            let bytes = byte_level::to_bytes(token).unwrap_or_else(|| token.as_bytes().into());
            if let [byte] = *bytes {
                alphabet[byte as usize] = true;
            }
            if let Some(other) = pieces.insert(id, bytes) {
                let (token, other) = (quote(token), quote(&byte_level::show(&other)));
                return Err(format!(
                    "id {id} is given both to `{token}` and to `{other}`"
                ));
            }
        }
        // An added token that the model lacks becomes a part of its vocabulary, so that it keeps the
        // id that the file gives it; the encoder would count on from the vocabulary's size.
        for (token, id) in &self.added {
            let content = &token.content;
            let there = *self.vocab.entry(content.clone()).or_insert(*id);
            if there != *id {
                let content = quote(content);
                return Err(format!(
                    "added token `{content}` has id {id}, but the vocabulary gives it {there}"
                ));
            }
            pieces.insert(*id, content.as_bytes().into());
        }
        if pieces.len() != self.vocab.len() {
            return Err("an added token takes the id of another token".to_owned());
        }
        let last = *pieces.keys().max().ok_or("its vocabulary is empty")?;

        let lossless = self.normalizer.is_none()
            && !self.adds_space
            && !self
                .added
                .iter()
                .any(|(token, _)| token.lstrip || token.rstrip);
        let fail = |e: tokenizers::Error| quote(&e.to_string());
        let bpe = BPE::builder()
            .vocab_and_merges(self.vocab.into_iter().collect::<Vocab>(), self.merges)
            .ignore_merges(self.ignore_merges)
            .build()
            .map_err(fail)?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        inner.with_normalizer(self.normalizer).map_err(fail)?;
        inner.with_pre_tokenizer(Some(self.pre_tokenizer));
        inner
            .add_tokens(self.added.into_iter().map(|(token, _)| token))
            .map_err(fail)?;
        Ok(Tokenizer {
            inner,
            pieces,
            alphabet,
            lossless,
            last,
            file: file.to_owned(),
        })
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
