//! One opened model: its configuration, its weights, its tokenizer, its name.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::config::Config;
use super::demo;
use super::error::ModelError;
use super::file;
use super::hash::hex;
use super::hub::Hub;
use super::shards::{ForeignTensor, Shards};
use super::tensor::{Data, Tensor};
use super::tokenizer::Tokenizer;
use super::weights::{Layer, LayerNorm, Weights};

/// A GPT-2 whose files have been checked completely. Clones share its weights and its tokenizer.
///
/// The weights of a folder are mapped, not read: while a checkpoint is open, its files must not be
/// rewritten in place (replacing them is harmless).
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Sizes and switches.
    pub config: Config,
    /// The tokenizer that came with it, if one did. Token ids can be used without.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The name it was opened by: `demo`, a path, or a hub id.
    pub name: String,
    weights: Arc<Weights>,
    hash: Arc<OnceLock<String>>,
}

impl Checkpoint {
    /// Opens a name: `demo`, a folder, or a hub id (`openai-community/gpt2`; OpenAI's four sizes and
    /// `distilgpt2` also without their owner), with the hub's settings from the environment.
    ///
    /// # Errors
    ///
    /// Any [`ModelError`].
    pub fn resolve(name: &str) -> Result<Self, ModelError> {
        Self::resolve_with(name, Hub::from_env)
    }

    /// Like [`Checkpoint::resolve`], with settings that are asked for only when `name` needs the hub.
    ///
    /// # Errors
    ///
    /// Any [`ModelError`].
    pub fn resolve_with(
        name: &str,
        hub: impl FnOnce() -> Result<Hub, ModelError>,
    ) -> Result<Self, ModelError> {
        if name == "demo" {
            return Self::demo();
        }
        let path = Path::new(name);
        if path.exists() {
            return Self::open(path);
        }
        let Some(id) = Hub::id(name) else {
            return Err(ModelError::NoSuchModel {
                name: name.to_owned(),
            });
        };
        let hub = hub()?;
        // Caches from before models had owners keep OpenAI's under the short name.
        let folder = match hub.cached(id).or_else(|| hub.cached(name)) {
            Some(folder) => folder,
            None => hub.fetch(id)?,
        };
        Ok(Checkpoint {
            name: name.to_owned(),
            ..Self::open(&folder)?
        })
    }

    /// Opens a folder in Hugging Face's layout: `config.json`; `model.safetensors`, or
    /// `model.safetensors.index.json` and its shards; perhaps a tokenizer.
    ///
    /// # Errors
    ///
    /// Any [`ModelError`] except those of the hub.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let name = dir.display().to_string();
        if dir.is_file() {
            return Err(ModelError::NotAFolder {
                path: dir.to_owned(),
            });
        }
        if !dir.exists() {
            return Err(ModelError::NoSuchModel { name });
        }
        let path = dir.join("config.json");
        if !path.exists() {
            return Err(ModelError::NoConfig {
                dir: dir.to_owned(),
            });
        }
        let json = file::read(&path, file::LONGEST_CONFIG)?;
        let config = Config::from_json(&json, &path.display().to_string())?;
        let (weights, tokenizer) = rayon::join(
            || Weights::new(Shards::open(dir)?, &config),
            || Tokenizer::open(dir),
        );
        Ok(Self::assemble(name, config, weights?, tokenizer?))
    }

    /// The checkpoint inside the program.
    ///
    /// # Errors
    ///
    /// None that a test would not have found.
    pub fn demo() -> Result<Self, ModelError> {
        demo::open()
    }

    /// Opens the contents of `config.json`, `model.safetensors` and `tokenizer.json`, which are
    /// called `name` in messages.
    ///
    /// # Errors
    ///
    /// Any [`ModelError`] except those of files and the hub.
    pub fn from_bytes(
        name: &str,
        config: &[u8],
        weights: Cow<'static, [u8]>,
        tokenizer: Option<&[u8]>,
    ) -> Result<Self, ModelError> {
        let config = Config::from_json(config, &format!("{name}/config.json"))?;
        let shards = Shards::from_bytes(&format!("{name}/model.safetensors"), weights)?;
        let weights = Weights::new(shards, &config)?;
        let file = format!("{name}/tokenizer.json");
        let tokenizer = tokenizer
            .map(|json| Tokenizer::from_json(json, &file))
            .transpose()?;
        Ok(Self::assemble(name.to_owned(), config, weights, tokenizer))
    }

    /// Opens tensors in memory, which are called `name` in messages, beside the contents of `config.json` and a
    /// tokenizer. No weight is copied that lies at a multiple of its size and is of F32, F16 or BF16.
    ///
    /// # Errors
    ///
    /// Any [`ModelError`] except those of files and the hub.
    pub fn from_tensors(
        name: &str,
        config: &[u8],
        tensors: Vec<ForeignTensor>,
        tokenizer: Option<Tokenizer>,
    ) -> Result<Self, ModelError> {
        let config = Config::from_json(config, &format!("{name}/config.json"))?;
        let weights = Weights::new(Shards::of_tensors(name, tensors)?, &config)?;
        Ok(Self::assemble(name.to_owned(), config, weights, tokenizer))
    }

    fn assemble(
        name: String,
        config: Config,
        weights: Weights,
        mut tokenizer: Option<Tokenizer>,
    ) -> Self {
        if let Some(tokenizer) = &mut tokenizer {
            tokenizer.bind(config.vocab, config.context);
        }
        Checkpoint {
            config,
            tokenizer: tokenizer.map(Arc::new),
            name,
            weights: weights.into(),
            hash: Arc::default(),
        }
    }

    /// The token embedding, `[vocab, width]`.
    pub fn token_embedding(&self) -> Tensor<'_> {
        self.weights.token_embedding()
    }

    /// The position embedding, `[context, width]`.
    pub fn position_embedding(&self) -> Tensor<'_> {
        self.weights.position_embedding()
    }

    /// The layer norm before the unembedding.
    pub fn ln_f(&self) -> LayerNorm<'_> {
        self.weights.ln_f()
    }

    /// The unembedding, `[vocab, width]`: logits = final_output · unembeddingᵀ. It is the token
    /// embedding itself where [`Config::tied`] says so.
    pub fn unembedding(&self) -> Tensor<'_> {
        self.weights.unembedding()
    }

    /// The weights of one transformer block.
    ///
    /// # Panics
    ///
    /// Where `layer` is not below [`Config::layers`].
    pub fn layer(&self, layer: usize) -> Layer<'_> {
        assert!(
            layer < self.config.layers,
            "layer {layer} of {}",
            self.config.layers
        );
        self.weights.layer(layer)
    }

    /// How many weights the model has; a tied embedding counts once.
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|tensor| tensor.len()).sum()
    }

    /// Whether some weights are stored as F64. They are rounded to the nearest F32 when they are
    /// opened, as transformers does it, and count as such from then on.
    pub fn is_rounded(&self) -> bool {
        self.weights.are_rounded()
    }

    /// How many bytes those weights take as stored, or as rounded.
    pub fn bytes(&self) -> u64 {
        let width = |data| match data {
            Data::F32(_) => 4,
            Data::F16(_) | Data::BF16(_) => 2,
        };
        self.weights
            .iter()
            .map(|tensor| tensor.len() as u64 * width(tensor.data))
            .sum()
    }

    /// SHA-256, in hexadecimal, of the weights' file, as `sha256sum model.safetensors` gives it; of
    /// all shards one after the other in the order of their names where there are several; of tensors in
    /// memory, their bytes in the order of their names. Computed at the first call.
    pub fn hash(&self) -> String {
        self.hash.get_or_init(|| digest(&self.weights)).clone()
    }

    /// Begins with [`Checkpoint::hash`] on a thread of its own, so that whoever asks later waits less or not at
    /// all: of GPT-2 small's weights it is a third of a second.
    pub fn hash_ahead(&self) {
        let (weights, hash) = (self.weights.clone(), self.hash.clone());
        let ahead = move || {
            hash.get_or_init(|| digest(&weights));
        };
        // without a thread it is computed when it is asked for
        let _ = std::thread::Builder::new().name("hash".into()).spawn(ahead);
    }

    /// The tokenizer, where text is to be read or written.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoTokenizer`].
    pub fn text(&self) -> Result<&Tokenizer, ModelError> {
        let none = || ModelError::NoTokenizer {
            model: self.name.clone(),
        };
        self.tokenizer.as_deref().ok_or_else(none)
    }

    /// Checks token ids that somebody gave against the vocabulary.
    ///
    /// # Errors
    ///
    /// [`ModelError::TokenId`] for the first one beyond it.
    pub fn check_ids(&self, ids: &[u32]) -> Result<(), ModelError> {
        let vocab = self.config.vocab;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            None => Ok(()),
            Some(&id) => Err(ModelError::TokenId { id, vocab }),
        }
    }

    /// A token as tables show it: [`Tokenizer::display`], or `[id]` without a tokenizer.
    pub fn display(&self, id: u32) -> String {
        self.tokenizer
            .as_ref()
            .map_or_else(|| format!("[{id}]"), |t| t.display(id))
    }
}

/// SHA-256 of all shards, one after the other.
fn digest(weights: &Weights) -> String {
    let mut hasher = Sha256::new();
    for bytes in weights.shards().contents() {
        hasher.update(bytes);
    }
    hex(&hasher.finalize())
}
