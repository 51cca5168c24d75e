//! What can be wrong with a model, each as one sentence.
//!
//! Checkpoints and tokenizers are foreign bytes, so every variant names the file, the place in it,
//! what was found there and what would have been right. Text taken from those files is escaped and
//! shortened by [`quote`] before it reaches a message: a message stays one line.

use std::path::PathBuf;

/// Anything that can go wrong between a model's name and its weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The name is no folder and not shaped like a hub id, so nothing was asked of the network.
    #[error(
        "no model `{name}`: it is neither a folder here nor a hub id; give `demo`, a folder that holds config.json and model.safetensors, or an id such as `openai-community/gpt2`"
    )]
    NoSuchModel {
        /// The name as given.
        name: String,
    },
    /// The path is there, but it is a file.
    #[error(
        "`{path}` is a file, not a model: give the folder that holds config.json and model.safetensors"
    )]
    NotAFolder {
        /// The path as given.
        path: PathBuf,
    },
    /// A file that must be there could not be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A pipe, a device or a folder where a file is expected.
    #[error("`{path}` is no plain file, as a model's files are")]
    NotPlain {
        /// What is there.
        path: PathBuf,
    },
    /// A file longer than such files are.
    #[error("`{path}` has more than {most} bytes, the most that are read of such a file")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        most: u64,
    },
    /// A folder where a file is expected.
    #[error("`{path}` is a folder: expected a safetensors file of that name")]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without a configuration.
    #[error(
        "`{dir}` has no config.json: give a Hugging Face GPT-2 folder, with config.json and model.safetensors in it"
    )]
    NoConfig {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder without any weights.
    #[error(
        "`{dir}` holds no weights: expected model.safetensors, or model.safetensors.index.json and its shards"
    )]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder (or repository) with pickled weights only.
    #[error(
        "`{place}` holds its weights only as {file}, which is not read because unpickling runs code: convert it with `GPT2LMHeadModel.from_pretrained(…).save_pretrained(…)` of transformers, which writes model.safetensors"
    )]
    PickledOnly {
        /// The folder or hub id.
        place: String,
        /// The pickled file.
        file: String,
    },

    /// `config.json` is not JSON, or not an object.
    #[error("`{origin}` is not a JSON object: {detail}")]
    ConfigJson {
        /// The file.
        origin: String,
        /// What the parser said.
        detail: String,
    },
    /// The configuration is that of another architecture.
    #[error(
        "`{origin}` describes a {found} model: only GPT-2 (`\"model_type\": \"gpt2\"`) can be opened"
    )]
    NotGpt2 {
        /// The file.
        origin: String,
        /// The model type or architecture it names.
        found: String,
    },
    /// One key of the configuration has a value that cannot be used.
    #[error("`{origin}`: {key} is {found}, expected {expected}")]
    Config {
        /// The file.
        origin: String,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would be right.
        expected: String,
    },

    /// What Git LFS leaves in a file's place until the file is fetched.
    #[error(
        "`{file}` is a pointer of Git LFS, not the tensors: run `git lfs pull` in its repository"
    )]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// A safetensors file too short for the header it announces.
    #[error(
        "`{file}` is cut off: its header needs {need} bytes, but the file has {have}; fetch or write the file again"
    )]
    HeaderTruncated {
        /// The file.
        file: String,
        /// Bytes that the length field and the header take together.
        need: u64,
        /// Bytes in the file.
        have: u64,
    },
    /// A header length beyond the format's own limit.
    #[error(
        "`{file}` is not a safetensors file: it announces a header of {length} bytes, and at most {limit} are allowed"
    )]
    HeaderTooLong {
        /// The file.
        file: String,
        /// The announced length.
        length: u64,
        /// The format's limit.
        limit: u64,
    },
    /// A header that is not the JSON the format asks for.
    #[error("`{file}` has a broken safetensors header: {detail}")]
    HeaderJson {
        /// The file.
        file: String,
        /// What is wrong, and where.
        detail: String,
    },
    /// A header that lies about one tensor's place or size.
    #[error("`{file}`: tensor `{tensor}` {detail}")]
    TensorPlace {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong with its entry, and what would be right.
        detail: String,
    },
    /// The data after the header is shorter or longer than the header says.
    #[error(
        "`{file}` holds {found} bytes of tensor data where its header describes {expected}: it was cut off or changed, fetch or write it again"
    )]
    DataLength {
        /// The file.
        file: String,
        /// Bytes the header describes.
        expected: u64,
        /// Bytes that follow the header.
        found: u64,
    },
    /// A tensor that GPT-2 needs is not there under its name.
    #[error(
        "`{file}` has no tensor `{tensor}`, by itself or after `transformer.`, `model.`, `module.` or `_orig_mod.`{hint}"
    )]
    MissingTensor {
        /// The file, or the index.
        file: String,
        /// The tensor's name without the prefix.
        tensor: String,
        /// The nearest name there is, as the end of the sentence, or nothing.
        hint: String,
    },
    /// A GPT-2's tensors under several prefixes, perhaps those of several models.
    #[error(
        "`{file}` holds `{second}` beside `{first}`, as if of two models: give all tensors one prefix, and leave out those that are not meant"
    )]
    Prefixes {
        /// The file of the second.
        file: String,
        /// A tensor under one prefix.
        first: String,
        /// A tensor under another.
        second: String,
    },
    /// A tensor whose shape is not the one that the configuration asks for.
    #[error("`{file}`: tensor `{tensor}` has shape {found}, and config.json asks for {expected}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape that follows from the configuration.
        expected: String,
        /// The shape in the file.
        found: String,
    },
    /// A tensor of a type that is not read.
    #[error(
        "`{file}`: tensor `{tensor}` is stored as {found}, and only F64, F32, F16 and BF16 can be read"
    )]
    Dtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type in the file.
        found: String,
    },
    /// A weight that is not a number, or none of single precision.
    #[error(
        "`{file}`: tensor `{tensor}` holds {value:?} at row {row}, column {column}, where weights must be finite in single precision: the checkpoint is damaged"
    )]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Row of the first such weight; 0 for a vector.
        row: usize,
        /// Column of the first such weight.
        column: usize,
        /// `NaN`, an infinity, or what is beyond single precision.
        value: f64,
    },
    /// The file holds layers that the configuration does not have.
    #[error("`{file}` holds weights of layer {found} (`{tensor}`), but config.json has n_layer {layers}, which ends at layer {}: set n_layer to what the file holds", layers - 1)]
    ExtraLayer {
        /// The file.
        file: String,
        /// The tensor that gave it away.
        tensor: String,
        /// Its layer, from 0.
        found: usize,
        /// The layers that the configuration has.
        layers: usize,
    },
    /// The index of a sharded checkpoint is broken.
    #[error("`{file}` is not an index of shards: {detail}")]
    Index {
        /// The index.
        file: String,
        /// What is wrong with it, and what would be right.
        detail: String,
    },
    /// The index names a shard that is not beside it.
    #[error(
        "`{index}` names the shard `{shard}`, which is not there: fetch it into the same folder"
    )]
    MissingShard {
        /// The index.
        index: String,
        /// The file it names.
        shard: String,
    },

    /// A tokenizer file that is broken or of another kind.
    #[error("`{file}` is no byte-level BPE tokenizer that can be used: {detail}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong with it, and what would be right.
        detail: String,
    },
    /// One of `vocab.json` and `merges.txt` without the other.
    #[error("`{present}` lies there without {absent}: a tokenizer needs both, or a tokenizer.json")]
    HalfTokenizer {
        /// The file that is there.
        present: String,
        /// The name of the one that is not.
        absent: String,
    },
    /// A text with a token that the model has no embedding for.
    #[error("`{file}`: token `{token}` has id {id}, but the model's vocabulary ends at {}: such a text cannot be run on it", vocab - 1)]
    TokenizerBeyondVocab {
        /// The tokenizer's file.
        file: String,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// The model's vocabulary size.
        vocab: usize,
    },
    /// A text that is beyond the model's context by its length alone.
    #[error(
        "the text `{text}` has {bytes} bytes, and at most {most} are read: no more can be the {context} tokens that the model takes"
    )]
    TextTooLong {
        /// Its beginning.
        text: String,
        /// Its length.
        bytes: usize,
        /// The bound, in bytes.
        most: usize,
        /// The longest prompt, in tokens.
        context: usize,
    },
    /// A text that the tokenizer would cut off.
    #[error(
        "the text `{text}` has {tokens} tokens, and `{file}` keeps {most} of a text (`truncation`): shorten it, or set that to null"
    )]
    TextCut {
        /// Its beginning.
        text: String,
        /// Its tokens.
        tokens: usize,
        /// The tokenizer's file.
        file: String,
        /// Tokens that are kept.
        most: usize,
    },
    /// Text was given to a model that came without a tokenizer.
    #[error(
        "model `{model}` has no tokenizer: give token ids, or put tokenizer.json (or vocab.json and merges.txt) beside its weights"
    )]
    NoTokenizer {
        /// The model's name.
        model: String,
    },
    /// Text that the vocabulary has no tokens for.
    #[error("`{text}` cannot be written in this model's tokens: {detail}")]
    Encode {
        /// The text.
        text: String,
        /// The part without a token.
        detail: String,
    },
    /// A target that is not one token.
    #[error(
        "target `{target}` is {}: {}give one token, or say that its first counts (`--first-token`) or all together (`--joint`)",
        list_tokens(tokens),
        list_meant(target, meant)
    )]
    NotOneToken {
        /// The target as given.
        target: String,
        /// Its tokens: id and text.
        tokens: Vec<(u32, String)>,
        /// The same with other spaces round it, where that is one token: id and text.
        meant: Option<(u32, String)>,
    },
    /// A token id beyond the vocabulary.
    #[error("token id {id} is beyond this model's vocabulary, which ends at {}", vocab - 1)]
    TokenId {
        /// The id.
        id: u32,
        /// The model's vocabulary size.
        vocab: usize,
    },

    /// The hub could not be reached, and the cache does not hold the model.
    #[error(
        "`{id}` is not in the cache at `{cache}`, and {endpoint} cannot be reached ({detail}): connect once to fetch it, or give a folder"
    )]
    Offline {
        /// The hub id.
        id: String,
        /// The cache folder.
        cache: PathBuf,
        /// The hub's address.
        endpoint: String,
        /// Why it could not be reached.
        detail: String,
    },
    /// The cache does not hold the model, and this program was built without the feature `hub`.
    #[error(
        "`{id}` is not in the cache at `{cache}`, and this build fetches nothing: build without --no-default-features, or give a folder"
    )]
    CannotFetch {
        /// The hub id.
        id: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// The hub answered that there is no such repository, or that it may not be seen.
    #[error(
        "there is no folder `{id}`, and {endpoint} has no model of that name that may be read (HTTP {status}): check the spelling, or set HF_TOKEN if it is private"
    )]
    NotOnHub {
        /// The hub id.
        id: String,
        /// The hub's address.
        endpoint: String,
        /// 401, 403 or 404.
        status: u16,
    },
    /// The repository lacks a file that is needed.
    #[error("`{id}` on {endpoint} has no {file}, so it is no GPT-2 checkpoint in safetensors form")]
    HubFile {
        /// The hub id.
        id: String,
        /// The hub's address.
        endpoint: String,
        /// The file.
        file: String,
    },
    /// A download that began and did not end well.
    #[error(
        "fetching {file} of `{id}` from {endpoint} failed ({detail}): nothing incomplete is used, run it again to go on"
    )]
    Download {
        /// The hub id.
        id: String,
        /// The hub's address.
        endpoint: String,
        /// The file.
        file: String,
        /// What happened.
        detail: String,
    },
    /// The hub's answer about a file cannot be what it seems, so nothing was made of it.
    #[error("{endpoint}, asked for {file} of `{id}`, {detail}: nothing that it says of it is used")]
    HubAnswer {
        /// The hub id.
        id: String,
        /// The hub's address.
        endpoint: String,
        /// The file.
        file: String,
        /// What the answer says, and what would be right.
        detail: String,
    },
    /// The cache takes no file.
    #[error("cannot write to the cache at `{cache}`: {source}")]
    Cache {
        /// The cache folder.
        cache: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The environment leaves no place for the cache.
    #[error(
        "there is no place for downloaded models: set HF_HOME to a folder, since there is no home folder"
    )]
    NoCache,
}

/// Foreign text, fit for a message: escaped, so that it stays on one line, and at most 80 characters.
pub(crate) fn quote(text: &str) -> String {
    // What `escape_debug` does to backslashes and quotes is meant for literals, and only confuses here.
    let shown = |c: char| match c {
        '\\' | '"' | '\'' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    let mut out: String = text.chars().take(80).map(shown).collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}

/// The target that was meant, as a clause of its own.
fn list_meant(target: &str, meant: &Option<(u32, String)>) -> String {
    let Some((id, text)) = meant else {
        return String::new();
    };
    let spaced = !target.starts_with(' ') && text.starts_with(' ');
    let how = if spaced {
        ", with a space before it,"
    } else {
        ""
    };
    format!("`{}`{how} is one ({id}); ", quote(text))
}

fn list_tokens(tokens: &[(u32, String)]) -> String {
    if tokens.is_empty() {
        return "empty".to_owned();
    }
    let shown: Vec<String> = tokens
        .iter()
        .take(12)
        .map(|(id, text)| format!("`{}` ({id})", quote(text)))
        .collect();
    let more = if tokens.len() > 12 { ", …" } else { "" };
    format!("{} tokens, {}{more}", tokens.len(), shown.join(", "))
}
