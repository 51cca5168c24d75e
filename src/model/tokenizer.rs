//! Text to token ids and back, for byte-level BPE as GPT-2 has it.
//!
//! The `tokenizers` crate encodes; what it is given has been checked in [`super::vocabulary`].
//! Decoding is done here, token by token and in bytes, since a token need not be whole UTF-8.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};

use super::byte_level;
use super::error::{ModelError, quote};
use super::file;
use super::vocabulary::Parts;

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
        let read = |path: &Path| file::read(path, file::LONGEST_TOKENIZER);
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
            .and_then(|parts| Self::build(parts, file))
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
        let vocab = Parts::vocab(vocab).map_err(broken(vocab_file))?;
        let merges = Parts::merges(merges).map_err(broken(merges_file))?;
        let parts = Parts::original(vocab, merges);
        parts.check_merges().map_err(broken(merges_file))?;
        Self::build(parts, vocab_file).map_err(broken(vocab_file))
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

    /// Hands checked parts to the encoder; an error is the end of a sentence about `file`.
    fn build(mut parts: Parts, file: &str) -> Result<Self, String> {
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
        // An added token that the model lacks becomes a part of its vocabulary, so that it keeps the
        // id that the file gives it; the encoder would count on from the vocabulary's size.
        for (token, id) in &parts.added {
            let content = &token.content;
            let there = *parts.vocab.entry(content.clone()).or_insert(*id);
            if there != *id {
                let content = quote(content);
                return Err(format!(
                    "added token `{content}` has id {id}, but the vocabulary gives it {there}"
                ));
            }
            pieces.insert(*id, content.as_bytes().into());
        }
        if pieces.len() != parts.vocab.len() {
            return Err("an added token takes the id of another token".to_owned());
        }
        let last = *pieces.keys().max().ok_or("its vocabulary is empty")?;

        let lossless = parts.normalizer.is_none()
            && !parts.adds_space
            && !parts
                .added
                .iter()
                .any(|(token, _)| token.lstrip || token.rstrip);
        let fail = |e: tokenizers::Error| quote(&e.to_string());
        let bpe = BPE::builder()
            .vocab_and_merges(parts.vocab.into_iter().collect::<Vocab>(), parts.merges)
            .ignore_merges(parts.ignore_merges)
            .build()
            .map_err(fail)?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        inner.with_normalizer(parts.normalizer).map_err(fail)?;
        inner.with_pre_tokenizer(Some(parts.pre_tokenizer));
        inner
            .add_tokens(parts.added.into_iter().map(|(token, _)| token))
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
