//! What stands beside a vocabulary: `tokenizer_config.json`, `special_tokens_map.json` and
//! `added_tokens.json`, read as transformers' `AutoTokenizer` reads them.
//!
//! save_pretrained has written the same facts in different places over the years. The configuration's
//! `added_tokens_decoder`, where it is there, stands for the two other files; else they add to the
//! configuration and the map wins. What cannot be honoured is refused by its name: a setting that was
//! passed over would give other ids without a word.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::vocabulary::{object, token_id};
use crate::model::error::quote;

/// The special tokens that a GPT-2 has if nobody says otherwise.
const END_OF_TEXT: &str = "<|endoftext|>";
/// A tokenizer's special tokens, in the order in which they are added.
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// How many of them a class for GPT-2 presumes.
const PRESUMED: usize = 3;
const MORE: &str = "additional_special_tokens";
/// The most tokens that files beside the vocabulary may add.
const MOST_ADDED: usize = 1 << 20;

/// Which class of transformers reads the tokenizer; they differ in what they presume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `GPT2Tokenizer` or its fast form, which also stands where nothing is said.
    Gpt2,
    /// `PreTrainedTokenizerFast`: all is in `tokenizer.json`.
    Plain,
    /// `TokenizersBackend`, the same in transformers 5.
    Backend,
}

/// A special token: with switches of its own, or only by its text.
#[derive(Clone, Debug)]
pub(super) enum Special {
    Text(String),
    Token(AddedToken),
}

impl Special {
    fn text(&self) -> &str {
        match self {
            Special::Text(text) => text,
            Special::Token(token) => &token.content,
        }
    }
}

/// The special tokens of one name: one, or a list.
struct Named {
    name: &'static str,
    tokens: Vec<Special>,
    /// Whether a file says so; what a class presumes has no switches anywhere.
    said: bool,
}

/// The files beside a vocabulary, as far as they are there.
#[derive(Default)]
pub(super) struct Beside<'a> {
    /// `tokenizer_config.json`.
    pub(super) config: Option<&'a [u8]>,
    /// `special_tokens_map.json`.
    pub(super) map: Option<&'a [u8]>,
    /// `added_tokens.json`.
    pub(super) added: Option<&'a [u8]>,
    /// The model's own `config.json`.
    pub(super) model: Option<&'a [u8]>,
}

/// What they say.
pub(super) struct Settings {
    pub(super) class: Class,
    /// Whether a space goes before a text, if it is said.
    pub(super) prefix_space: Option<bool>,
    /// Whether every text should begin with the BOS token.
    pub(super) begins: bool,
    /// Whether special tokens in a text are taken apart like any other text.
    pub(super) splits_special: bool,
    /// Whether `tokenizer.json` is expressly not the file to read.
    pub(super) no_json: bool,
    /// Tokens with ids, which stand in one of two files.
    numbered: BTreeMap<u32, AddedToken>,
    /// Whether they come from the older of the two, which knows less than a `tokenizer.json`.
    legacy: bool,
    special: Vec<Named>,
    /// Tokens and ids that any file gives; transformers counts ids itself.
    pub(super) declared: Vec<(String, u32)>,
}

/// Which file is wrong and how; the second is the end of a sentence that begins with the first.
pub(super) type Wrong = (&'static str, String);

pub(super) const CONFIG: &str = "tokenizer_config.json";
pub(super) const MAP: &str = "special_tokens_map.json";
pub(super) const ADDED: &str = "added_tokens.json";

/// Nothing beside the vocabulary.
impl Default for Settings {
    fn default() -> Self {
        Settings {
            class: Class::Gpt2,
            prefix_space: None,
            begins: false,
            splits_special: false,
            no_json: false,
            numbered: BTreeMap::new(),
            legacy: true,
            special: presumed(Class::Gpt2, &mut BTreeMap::new()),
            declared: Vec::new(),
        }
    }
}

impl Settings {
    pub(super) fn read(beside: &Beside<'_>) -> Result<Self, Wrong> {
        let open = |name: &'static str, file: Option<&[u8]>| {
            file.map_or_else(
                || Ok(Map::new()),
                |bytes| object(bytes).map_err(|e| (name, e)),
            )
        };
        let config = open(CONFIG, beside.config)?;
        let map = open(MAP, beside.map)?;
        let added = open(ADDED, beside.added)?;
        let in_config = |detail| (CONFIG, detail);

        let class = match config.get("tokenizer_class") {
            None | Some(Value::Null) => {
                // The model's configuration was checked by whoever reads its sizes.
                let model = beside.model.map(object).and_then(Result::ok);
                let named = model
                    .as_ref()
                    .and_then(|model| model.get("tokenizer_class"));
                class(named).map_err(|e| ("config.json", e))?
            }
            named => class(named).map_err(in_config)?,
        };
        if config
            .get("auto_map")
            .is_some_and(|map| map.is_array() || map.get("AutoTokenizer").is_some())
        {
            let detail = "it names code of the model's own (`auto_map`), which is not run";
            return Err(in_config(detail.to_owned()));
        }
        let switch = |key: &str| match config.get(key) {
            None => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(*on)),
            Some(other) => Err(in_config(format!(
                "{key} is {}, expected true or false",
                quote(&other.to_string())
            ))),
        };

        let mut named: BTreeMap<&str, Option<Special>> = BTreeMap::new();
        let mut more = Vec::new();
        for name in NAMES {
            match config.get(name) {
                None => {}
                Some(value) => {
                    named.insert(name, special(name, value, false).map_err(in_config)?);
                }
            }
        }
        for (i, value) in list(&config, MORE).map_err(in_config)?.iter().enumerate() {
            let name = format!("{MORE} {i}");
            more.extend(special(&name, value, false).map_err(in_config)?);
        }

        let mut numbered = BTreeMap::new();
        let mut declared = Vec::new();
        let decoder = config.get("added_tokens_decoder");
        if let Some(decoder) = decoder {
            let wrong = || {
                let found = quote(&decoder.to_string());
                in_config(format!(
                    "added_tokens_decoder is {found}, expected an object from ids to tokens"
                ))
            };
            for (id, value) in decoder.as_object().ok_or_else(wrong)? {
                let number = id
                    .parse()
                    .ok()
                    .and_then(|id: u64| token_id(Some(&id.into())));
                let token = added_token(value, None);
                let (Some(number), Some(token)) = (number, token) else {
                    return Err(in_config(format!(
                        "added_tokens_decoder has `{}` as token `{}`, expected a token's object and its id",
                        quote(&value.to_string()),
                        quote(id)
                    )));
                };
                numbered.insert(number, token);
            }
            declared.extend(
                numbered
                    .iter()
                    .map(|(id, token)| (token.content.clone(), *id)),
            );
        } else {
            for (name, value) in &map {
                let in_map = |detail| (MAP, detail);
                if name == MORE {
                    let listed = list(&map, MORE).map_err(in_map)?;
                    for (i, value) in listed.iter().enumerate() {
                        more.extend(special(&format!("{MORE} {i}"), value, true).map_err(in_map)?);
                    }
                } else if let Some(name) = NAMES.iter().find(|known| *known == name) {
                    named.insert(name, special(name, value, true).map_err(in_map)?);
                }
            }
        }
        // Where the configuration has the tokens with their ids, the list is their copy.
        for (content, id) in &added {
            let Some(number) = token_id(Some(id)).filter(|_| !content.is_empty()) else {
                let (content, id) = (quote(content), quote(&id.to_string()));
                let detail = format!("token `{content}` has id {id}, expected a whole number");
                return Err((ADDED, detail));
            };
            declared.push((content.clone(), number));
            if decoder.is_none() {
                let is_special = named
                    .values()
                    .flatten()
                    .chain(&more)
                    .any(|special| special.text() == content);
                let token = AddedToken::from(content.clone(), is_special);
                numbered.insert(number, token);
            }
        }

        let mut all = presumed(class, &mut named);
        let mut own = Vec::new();
        let extra = match config.get("extra_special_tokens") {
            Some(Value::Object(extra)) => extra.iter().map(|(_, value)| value).collect(),
            _ => Vec::from_iter(list(&config, "extra_special_tokens").map_err(in_config)?),
        };
        for value in extra {
            let token = special("extra_special_tokens", value, false).map_err(in_config)?;
            own.extend(token);
        }
        for tokens in [more, own] {
            all.push(Named {
                name: MORE,
                tokens,
                said: true,
            });
        }
        let special: usize = all.iter().map(|named| named.tokens.len()).sum();
        if special + numbered.len() > MOST_ADDED {
            let detail = format!("it and the files beside it add more than {MOST_ADDED} tokens");
            return Err(in_config(detail));
        }
        Ok(Settings {
            class,
            prefix_space: switch("add_prefix_space")?,
            begins: switch("add_bos_token")?.unwrap_or(false),
            splits_special: switch("split_special_tokens")?.unwrap_or(false),
            no_json: config.get("tokenizer_file").is_some_and(Value::is_null),
            numbered,
            legacy: decoder.is_none(),
            special: all,
            declared,
        })
    }

    /// The text of the token that begins a text, if there is one.
    pub(super) fn bos(&self) -> Option<&str> {
        let bos = self.special.iter().find(|named| named.name == NAMES[0])?;
        bos.tokens.first().map(Special::text)
    }

    /// The tokens to add to an encoder that has those of `own`, in the order in which transformers adds
    /// them; some are there already and may get other switches. `listed` are those of a
    /// `tokenizer.json`, which need not be the file that is read. `pair` is whether that is the pair of
    /// files.
    pub(super) fn to_add(
        &self,
        own: &[AddedToken],
        listed: &[(AddedToken, u32)],
        pair: bool,
    ) -> Vec<AddedToken> {
        let by_text = |token: &'_ AddedToken| (token.content.clone(), token.clone());
        let mut numbered = self.numbered.clone();
        let mut switches: HashMap<String, AddedToken> = numbered.values().map(by_text).collect();
        if self.legacy {
            numbered.extend(listed.iter().map(|(token, id)| (*id, token.clone())));
            switches = listed.iter().map(|(token, _)| by_text(token)).collect();
        }
        let mut adding: Vec<AddedToken> = numbered.into_values().collect();
        let own = own.iter().map(|token| (token.content.clone(), None));
        let mut known: HashMap<String, Option<AddedToken>> = own.collect();
        known.extend(
            adding
                .iter()
                .map(by_text)
                .map(|(text, token)| (text, Some(token))),
        );

        // A text is added where no token has it yet. A token, which has switches, replaces one that
        // is there with others. The class for the pair of files makes tokens of four texts itself.
        let made: &[&str] = match (pair, self.class) {
            (true, Class::Gpt2) => &["bos_token", "eos_token", "unk_token", "pad_token"],
            _ => &[],
        };
        let mut seen = HashSet::new();
        for named in &self.special {
            let fresh = named.tokens.iter().filter(|t| !seen.contains(t.text()));
            let fresh: Vec<_> = fresh.collect();
            seen.extend(fresh.iter().map(|token| token.text()));
            for token in fresh {
                let text = token.text();
                let elsewhere = || {
                    let switches = switches.get(text);
                    switches
                        .filter(|_| named.said && named.name != MORE)
                        .cloned()
                };
                let making = || {
                    let made = made.contains(&named.name);
                    made.then(|| AddedToken::from(text, false))
                };
                let switched = match token {
                    Special::Token(token) => Some(token.clone()),
                    Special::Text(_) => elsewhere().or_else(making),
                };
                match switched {
                    Some(token) if known.get(text) == Some(&Some(token.clone())) => {}
                    Some(token) => adding.push(token),
                    None if known.contains_key(text) => {}
                    None => adding.push(AddedToken::from(text, true)),
                }
            }
        }
        for token in &mut adding {
            token.special |= seen.contains(token.content.as_str());
        }
        adding
    }
}

/// The special tokens that files name, and what the class presumes where nothing is said: null says
/// that there is no such token.
fn presumed(class: Class, named: &mut BTreeMap<&str, Option<Special>>) -> Vec<Named> {
    let mut all = Vec::new();
    for (i, name) in NAMES.iter().enumerate() {
        let said = named.remove(name);
        let presumed = || Special::Text(END_OF_TEXT.to_owned());
        let token = match &said {
            Some(token) => token.clone(),
            None => (class == Class::Gpt2 && i < PRESUMED).then(presumed),
        };
        all.extend(token.map(|token| Named {
            name,
            tokens: vec![token],
            said: said.is_some(),
        }));
    }
    all
}

fn class(named: Option<&Value>) -> Result<Class, String> {
    match named {
        None | Some(Value::Null) => Ok(Class::Gpt2),
        Some(Value::String(name)) => match name.as_str() {
            "GPT2Tokenizer" | "GPT2TokenizerFast" => Ok(Class::Gpt2),
            "PreTrainedTokenizer" | "PreTrainedTokenizerFast" => Ok(Class::Plain),
            "TokenizersBackend" => Ok(Class::Backend),
            _ => Err(other_class(name)),
        },
        Some(other) => Err(other_class(&other.to_string())),
    }
}

fn other_class(name: &str) -> String {
    format!(
        "its tokenizer_class is {}, expected GPT2Tokenizer or PreTrainedTokenizerFast",
        quote(name)
    )
}

fn list<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(format!(
            "{key} is {}, expected a list of tokens",
            quote(&other.to_string())
        )),
    }
}

/// A special token as files write it: its text, or an object, which in a configuration says so
/// itself and in a map need not. `None` for null and for empty text.
fn special(name: &str, value: &Value, in_map: bool) -> Result<Option<Special>, String> {
    match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => return Ok(Some(Special::Text(text.clone()))),
        Value::Object(object) => {
            let typed = object.get("__type").and_then(Value::as_str) == Some("AddedToken");
            if (typed || in_map)
                && let Some(token) = added_token(value, in_map.then_some(true))
            {
                return Ok(Some(Special::Token(token)));
            }
        }
        _ => {}
    }
    Err(format!(
        "{name} is {}, expected a token's text or an AddedToken",
        quote(&value.to_string())
    ))
}

/// A token's object, with transformers' defaults for switches that are left out.
fn added_token(value: &Value, special: Option<bool>) -> Option<AddedToken> {
    let object = value.as_object()?;
    let content = object
        .get("content")?
        .as_str()
        .filter(|text| !text.is_empty())?;
    let switch = |key: &str, default: bool| match object.get(key) {
        None => Some(default),
        Some(value) => value.as_bool(),
    };
    let special = match special {
        Some(special) => special,
        None => switch("special", false)?,
    };
    let token = AddedToken::from(content, special)
        .single_word(switch("single_word", false)?)
        .lstrip(switch("lstrip", false)?)
        .rstrip(switch("rstrip", false)?)
        .normalized(switch("normalized", !special)?);
    Some(token)
}
