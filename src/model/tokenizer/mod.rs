//! Text to token ids and back, for byte-level BPE as GPT-2 has it.
//!
//! The `tokenizers` crate encodes; what it is given has been checked in [`vocabulary`], and what
//! stands in the files beside a vocabulary is in [`settings`]. The ids are those of transformers'
//! `AutoTokenizer` without the special tokens that it adds, or the folder is refused. Decoding is done
//! here, token by token and in bytes, since a token need not be whole UTF-8.

mod byte_level;
mod settings;
mod vocabulary;

use std::collections::HashMap;
use std::path::Path;

use settings::{Beside, Settings};
use tokenizers::models::bpe::{BPE, Vocab};
use vocabulary::Parts;

use super::error::{ModelError, quote};
use super::file;

/// What an answer of several tokens counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SeveralTokens {
    /// It is an error, which says what else there is.
    #[default]
    Refused,
    /// Its first token.
    First,
    /// The whole: the probability of all its tokens, each after the prompt and the tokens before it.
    Joint,
}

/// A byte-level BPE tokenizer. No special tokens are added to what it encodes, and no leading space
/// unless its files ask for one.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Each token's bytes.
    pieces: HashMap<u32, Box<[u8]>>,
    /// Which bytes have a token of their own: text with any other cannot be encoded.
    alphabet: [bool; 256],
    fidelity: Fidelity,
    /// What its files would put before and after a text.
    around: [Vec<u32>; 2],
    /// The most tokens that its files keep of a text.
    cut: Option<usize>,
    /// The bytes of the longest token.
    longest: usize,
    /// What the model takes: ids below the first, and so many tokens.
    bounds: Option<[usize; 2]>,
    /// For messages.
    file: String,
}

/// How the bytes of the tokens compare with those of the text, where all of it has tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fidelity {
    /// They are the same.
    Exact,
    /// They are the same but for white space.
    Spaces,
    /// They may be others: the text is normalized, or a token stands for what has none.
    Free,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} tokens)", self.file, self.pieces.len())
    }
}

impl Tokenizer {
    /// The tokenizer in a checkpoint's folder: `tokenizer.json`, else `vocab.json` and `merges.txt`,
    /// else none; with what `tokenizer_config.json`, `special_tokens_map.json` and
    /// `added_tokens.json` say of it.
    ///
    /// # Errors
    ///
    /// [`ModelError::HalfTokenizer`] where one of the pair is missing, [`ModelError::Tokenizer`] for
    /// broken files and for what cannot be honoured, [`ModelError::Read`] and its like.
    pub fn open(dir: &Path) -> Result<Option<Self>, ModelError> {
        let path = |name: &str| dir.join(name);
        let read = |name: &str| match path(name).exists() {
            true => file::read(&path(name), file::LONGEST_TOKENIZER).map(Some),
            false => Ok(None),
        };
        let there = |name: &str| path(name).exists();
        let half = |present: &str, absent: &str| ModelError::HalfTokenizer {
            present: path(present).display().to_string(),
            absent: absent.to_owned(),
        };
        let pair = match [there("vocab.json"), there("merges.txt")] {
            [false, false] => None,
            [true, true] => Some(()),
            _ if there("tokenizer.json") => None,
            [true, false] => return Err(half("vocab.json", "merges.txt")),
            [false, true] => return Err(half("merges.txt", "vocab.json")),
        };
        if pair.is_none() && !there("tokenizer.json") {
            return Ok(None);
        }
        let [config, map, added, model] = [
            settings::CONFIG,
            settings::MAP,
            settings::ADDED,
            "config.json",
        ]
        .map(read);
        let (config, map, added, model) = (config?, map?, added?, model?);
        let settings = Settings::read(&Beside {
            config: config.as_deref(),
            map: map.as_deref(),
            added: added.as_deref(),
            model: model.as_deref(),
        });
        let named = |name: &str| path(name).display().to_string();
        let settings = settings.map_err(|(name, detail)| broken(&named(name))(detail))?;
        let json = read("tokenizer.json")?.map(|json| {
            let file = named("tokenizer.json");
            let parts = Parts::from_json(&json).map_err(broken(&file))?;
            Ok((file, parts))
        });
        let json = json.transpose()?;
        let (file, parts) = match (json, pair) {
            (Some(json), None) => json,
            (Some(json), _) if !settings.no_json => json,
            // What tokenizer.json adds is added all the same.
            (json, _) => {
                let text = file::read(&path("vocab.json"), file::LONGEST_TOKENIZER)?;
                let lines = file::read(&path("merges.txt"), file::LONGEST_TOKENIZER)?;
                let files = [named("vocab.json"), named("merges.txt")];
                let mut parts = original(&text, &files[0], &lines, &files[1])?;
                parts.added = json.map_or_else(Vec::new, |(_, json)| json.added);
                (named("vocab.json"), parts)
            }
        };
        let built = Self::build(parts, &settings, &file);
        built.map_err(broken(&file)).map(Some)
    }

    /// Reads a `tokenizer.json` with nothing beside it; `file` names it in messages.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tokenizer`].
    pub fn from_json(json: &[u8], file: &str) -> Result<Self, ModelError> {
        Parts::from_json(json)
            .and_then(|parts| Self::build(parts, &Settings::default(), file))
            .map_err(broken(file))
    }

    /// Reads GPT-2's original pair of files with nothing beside it; `vocab_file` and `merges_file`
    /// name them in messages. `<|endoftext|>` is encoded as one token.
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
        let parts = original(vocab, vocab_file, merges, merges_file)?;
        Self::build(parts, &Settings::default(), vocab_file).map_err(broken(vocab_file))
    }

    /// The token ids of `text`, none for empty text.
    ///
    /// # Errors
    ///
    /// [`ModelError::Encode`] where a part of the text has no token, which happens only with
    /// vocabularies that lack some bytes. [`ModelError::TextTooLong`] for a text that is too long
    /// whatever its tokens are, [`ModelError::TextCut`] for one of more tokens than the tokenizer's
    /// own `truncation` keeps, [`ModelError::TokenizerBeyondVocab`] for one with a token that the
    /// model has no embedding for.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let fail = |detail: String| ModelError::Encode {
            text: quote(text),
            detail,
        };
        if let Some([_, context]) = self.bounds {
            let most = self.most_bytes(context);
            if text.len() > most {
                let bytes = text.len();
                return Err(ModelError::TextTooLong {
                    text: quote(text),
                    bytes,
                    most,
                    context,
                });
            }
        }
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| fail(quote(&e.to_string())))?;
        let ids = encoding.get_ids().to_vec();
        // Bytes without a token are left out in silence by the encoder.
        if !self.is_whole(text, &ids) {
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
        if let Some(most) = self.cut.filter(|most| ids.len() > *most) {
            return Err(ModelError::TextCut {
                text: quote(text),
                tokens: ids.len(),
                file: self.file.clone(),
                most,
            });
        }
        let beyond = |[vocab, _]: [usize; 2]| {
            let id = *ids.iter().find(|id| **id as usize >= vocab)?;
            Some(ModelError::TokenizerBeyondVocab {
                file: self.file.clone(),
                token: quote(&self.decode_raw(id)),
                id,
                vocab,
            })
        };
        match self.bounds.and_then(beyond) {
            Some(error) => Err(error),
            None => Ok(ids),
        }
    }

    /// The tokens that its files would put before and after a text: nothing is put there unless
    /// somebody asks.
    pub fn around(&self) -> [&[u32]; 2] {
        self.around.each_ref().map(Vec::as_slice)
    }

    /// The most bytes that are read of a text: more cannot be `context` tokens. Where white space
    /// goes or letters become fewer, a few bytes more for each.
    fn most_bytes(&self, context: usize) -> usize {
        let slack = if self.fidelity == Fidelity::Exact {
            1
        } else {
            4
        };
        context.saturating_mul(self.longest).saturating_mul(slack)
    }

    /// Whether all of the text is in the tokens.
    fn is_whole(&self, text: &str, ids: &[u32]) -> bool {
        let bytes = ids
            .iter()
            .filter_map(|id| self.pieces.get(id))
            .flat_map(|piece| piece.iter().copied());
        match self.fidelity {
            Fidelity::Exact => bytes.eq(text.bytes()),
            Fidelity::Spaces => {
                let tokens: Vec<u8> = bytes.collect();
                let solid = |text: &str| {
                    let solid = text.chars().filter(|c| !c.is_whitespace());
                    solid.collect::<String>()
                };
                str::from_utf8(&tokens).is_ok_and(|tokens| solid(tokens) == solid(text))
            }
            Fidelity::Free => true,
        }
    }

    /// The bytes that a token stands for, which need not be whole UTF-8; `None` beyond the vocabulary.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(&id).map(|piece| &**piece)
    }

    /// A token as text, each byte that is no UTF-8 as `\xNN`; `[id]` for an id without a token (a
    /// model's vocabulary may be padded beyond its tokenizer's).
    pub fn decode_raw(&self, id: u32) -> String {
        self.decode(&[id])
    }

    /// Tokens together as text, like [`Tokenizer::decode_raw`]: a character that several tokens share
    /// is whole only among them.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for id in ids {
            match self.bytes(*id) {
                Some(piece) => bytes.extend_from_slice(piece),
                None => bytes.extend_from_slice(format!("[{id}]").as_bytes()),
            }
        }
        byte_level::show(&bytes)
    }

    /// A token as tables and axes show it: like [`Tokenizer::decode_raw`], with a space as `_` and a
    /// newline as `\n`, as pyvene's `format_token` does.
    pub fn display(&self, id: u32) -> String {
        self.decode_raw(id).replace(' ', "_").replace('\n', "\\n")
    }

    /// An answer's tokens: its only one; of several, what is said of those.
    ///
    /// # Errors
    ///
    /// [`ModelError::NotOneToken`], which lists the tokens that the text has; those of
    /// [`Tokenizer::encode`].
    pub fn answer(&self, text: &str, several: SeveralTokens) -> Result<Vec<u32>, ModelError> {
        let ids = self.encode(text)?;
        match (&ids[..], several) {
            ([_], _) | ([_, ..], SeveralTokens::Joint) => Ok(ids),
            ([first, ..], SeveralTokens::First) => Ok(vec![*first]),
            _ => Err(ModelError::NotOneToken {
                target: quote(text),
                meant: self.meant(text),
                tokens: ids.iter().map(|&id| (id, self.decode_raw(id))).collect(),
            }),
        }
    }

    /// Text that is a single token.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::answer`].
    pub fn target(&self, text: &str) -> Result<u32, ModelError> {
        Ok(self.answer(text, SeveralTokens::Refused)?[0])
    }

    /// Text with other spaces round it, where that is a single token: its id, and the text.
    pub fn meant(&self, text: &str) -> Option<(u32, String)> {
        let bare = text.trim();
        let others = [format!(" {bare}"), bare.to_owned()];
        let mut others = others
            .into_iter()
            .filter(|other| !bare.is_empty() && other != text);
        others.find_map(|other| match self.encode(&other).as_deref() {
            Ok(&[id]) => Some((id, other)),
            _ => None,
        })
    }

    /// Tokens, the added ones among them.
    pub fn tokens(&self) -> usize {
        self.pieces.len()
    }

    /// From here on texts are of a model with so many embeddings and positions.
    pub(super) fn bind(&mut self, vocab: usize, context: usize) {
        self.bounds = Some([vocab, context]);
    }

    /// Hands checked parts to the encoder; an error is the end of a sentence about `file`.
    fn build(mut parts: Parts, settings: &Settings, file: &str) -> Result<Self, String> {
        let mut pieces: HashMap<u32, Box<[u8]>> = HashMap::with_capacity(parts.vocab.len());
        let mut alphabet = [false; 256];
        for (token, &id) in &parts.vocab {
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
        if pieces.is_empty() {
            return Err("its vocabulary is empty".to_owned());
        }
        let adds_space = parts.set_prefix_space(settings.prefix_space, settings.class)?;
        let own: Vec<_> = match parts.pair {
            true => Vec::new(),
            false => parts.added.iter().map(|(token, _)| token.clone()).collect(),
        };
        let adding = settings.to_add(&own, &parts.added, parts.pair);
        let all = || own.iter().chain(&adding);
        let fidelity = if parts.normalizer.is_some() || parts.unknown.is_some() {
            Fidelity::Free
        } else if adds_space || all().any(|token| token.lstrip || token.rstrip) {
            Fidelity::Spaces
        } else {
            Fidelity::Exact
        };
        let texts: Vec<String> = all().map(|token| token.content.clone()).collect();
        let in_vocab: std::collections::HashSet<String> = texts
            .iter()
            .filter(|text| parts.vocab.contains_key(*text))
            .cloned()
            .collect();
        let fail = |e: tokenizers::Error| quote(&e.to_string());
        let mut bpe = BPE::builder()
            .vocab_and_merges(parts.vocab.into_iter().collect::<Vocab>(), parts.merges)
            .ignore_merges(parts.ignore_merges);
        if let Some((token, fused)) = parts.unknown {
            bpe = bpe.unk_token(token).fuse_unk(fused);
        }
        let mut inner = tokenizers::Tokenizer::new(bpe.build().map_err(fail)?);
        inner.with_normalizer(parts.normalizer).map_err(fail)?;
        inner.with_pre_tokenizer(Some(parts.pre_tokenizer));
        for tokens in [own, adding] {
            inner.add_tokens(tokens).map_err(fail)?;
        }
        inner.set_encode_special_tokens(settings.splits_special);

        // The encoder counts the added tokens' ids itself, as transformers does.
        for text in texts {
            let Some(id) = inner.token_to_id(&text) else {
                return Err(format!("its added token `{}` has no id", quote(&text)));
            };
            let bytes = text.as_bytes().into();
            if let Some(other) = pieces.insert(id, bytes)
                && !in_vocab.contains(&text)
                && *other != *text.as_bytes()
            {
                let (text, other) = (quote(&text), quote(&byte_level::show(&other)));
                return Err(format!(
                    "its added token `{text}` takes the id {id} of another token, `{other}`"
                ));
            }
        }
        let declared = parts.added.iter().map(|(token, id)| (&token.content, *id));
        let beside = settings.declared.iter().map(|(text, id)| (text, *id));
        for (text, id) in declared.chain(beside) {
            let found = inner.token_to_id(text);
            if found != Some(id) {
                let found = found.map_or("none".to_owned(), |id| id.to_string());
                let text = quote(text);
                return Err(format!(
                    "added token `{text}` is given the id {id}, but by its place among the tokens it has {found}"
                ));
            }
        }
        let mut around = parts.around;
        if settings.begins && around[0].is_empty() {
            around[0].extend(settings.bos().and_then(|bos| inner.token_to_id(bos)));
        }
        Ok(Tokenizer {
            inner,
            longest: pieces.values().map(|piece| piece.len()).max().unwrap_or(1),
            pieces,
            alphabet,
            fidelity,
            around,
            cut: parts.cut,
            bounds: None,
            file: file.to_owned(),
        })
    }
}

/// GPT-2's pair of files.
fn original(
    vocab: &[u8],
    vocab_file: &str,
    merges: &[u8],
    merges_file: &str,
) -> Result<Parts, ModelError> {
    let vocab = Parts::vocab(vocab).map_err(broken(vocab_file))?;
    let merges = Parts::merges(merges).map_err(broken(merges_file))?;
    let parts = Parts::original(vocab, merges);
    parts.check_merges().map_err(broken(merges_file))?;
    Ok(parts)
}

/// What is wrong with a file, from the end of a sentence that begins with it.
fn broken(file: &str) -> impl Fn(String) -> ModelError {
    let file = file.to_owned();
    move |detail| ModelError::Tokenizer {
        file: file.clone(),
        detail,
    }
}
