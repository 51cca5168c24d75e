//! Hugging Face's hub: from an id to a folder in the cache that all its clients share.
//!
//! hf-hub keeps the cache's layout and moves the bytes (`download`). What is in the cache is used
//! without a request; fetching needs the feature `hub`, which brings HTTP and TLS.

#[cfg(feature = "hub")]
mod download;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo};

use super::error::{ModelError, quote};
use super::shards::shard_names;

const MAIN: &str = "main";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Names that were ids before models had owners.
const ALIASES: [(&str, &str); 5] = [
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
    ("distilgpt2", "distilbert/distilgpt2"),
];

/// Where models come from and where they are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The hub's address without a slash at the end.
    pub endpoint: String,
    /// The cache: a folder of `models--owner--name` folders.
    pub cache: PathBuf,
    /// What private and gated models ask for.
    pub token: Option<String>,
    /// Never to send a request.
    pub offline: bool,
    /// Whether to draw a progress bar on stderr.
    pub progress: bool,
}

impl Hub {
    /// The settings of the environment: `HF_ENDPOINT`; `HF_HUB_CACHE`, or `HF_HOME` and `hub` in it;
    /// `HF_TOKEN`, or the file `token` in `HF_HOME`; `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoCache`] where there is neither `HF_HOME` nor a home folder.
    pub fn from_env() -> Result<Self, ModelError> {
        Self::from_lookup(|key| std::env::var(key).ok())
    }

    /// [`Hub::from_env`] for any environment.
    ///
    /// # Errors
    ///
    /// As for [`Hub::from_env`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ModelError> {
        let get = |key| {
            lookup(key)
                .map(|v| v.trim().to_owned())
                .filter(|v| !v.is_empty())
        };
        let home = match get("HF_HOME") {
            Some(home) => Some(PathBuf::from(home)),
            None => std::env::home_dir().map(|home| home.join(".cache").join("huggingface")),
        };
        let cache = match get("HF_HUB_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => home.as_deref().ok_or(ModelError::NoCache)?.join("hub"),
        };
        let token = get("HF_TOKEN").or_else(|| {
            let saved = std::fs::read_to_string(home?.join("token")).ok()?;
            Some(saved.trim().to_owned()).filter(|token| !token.is_empty())
        });
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let offline = get("HF_HUB_OFFLINE")
            .is_some_and(|on| ["1", "on", "yes", "true"].contains(&on.to_lowercase().as_str()));
        Ok(Hub {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            offline,
            progress: std::io::stderr().is_terminal(),
        })
    }

    /// The hub id that `name` stands for: itself where it is `owner/name`, or what an alias says.
    /// Other names without an owner are more likely a misspelt folder, and give `None`.
    pub fn id(name: &str) -> Option<&str> {
        if let Some((_, id)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            return Some(id);
        }
        let sound = |part: &str| {
            part.len() <= 96
                && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !part.contains("..")
                && !part.contains("--")
        };
        let (owner, model) = name.split_once('/')?;
        (sound(owner) && sound(model)).then_some(name)
    }

    /// The folder of a model whose configuration, weights and tokenizer are all in the cache. Sends
    /// no request.
    pub fn cached(&self, id: &str) -> Option<PathBuf> {
        let folder = self.snapshot(id)?;
        (self.offline || has_tokenizer(&folder)).then_some(folder)
    }

    /// The folder of a model, after fetching what is not in the cache.
    ///
    /// # Errors
    ///
    /// [`ModelError::Offline`], [`ModelError::NotOnHub`], [`ModelError::HubFile`],
    /// [`ModelError::PickledOnly`], [`ModelError::Download`]; a configuration of another
    /// architecture is refused before its weights are fetched. [`ModelError::CannotFetch`] without
    /// the feature `hub`.
    pub fn fetch(&self, id: &str) -> Result<PathBuf, ModelError> {
        if let Some(folder) = self.cached(id) {
            return Ok(folder);
        }
        if self.offline {
            return Err(self.unreachable(id, "HF_HUB_OFFLINE is set"));
        }
        match self.snapshot(id) {
            None => self.download(id, MAIN),
            // Only the tokenizer is missing, because there is none or because another program did
            // not want it. It is worth a request, but the model can be used without.
            Some(folder) => {
                let commit = folder
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or(MAIN);
                Ok(self.download(id, commit).unwrap_or_else(|_| folder.clone()))
            }
        }
    }

    /// The cached folder of `refs/main`, where configuration and weights are complete.
    fn snapshot(&self, id: &str) -> Option<PathBuf> {
        let repo = Cache::new(self.cache.clone()).repo(Repo::model(id.to_owned()));
        let folder = repo.get("config.json")?.parent()?.to_owned();
        if folder.join(SINGLE).exists() {
            return Some(folder);
        }
        let index = std::fs::read(folder.join(INDEX)).ok()?;
        let shards = shard_names(&index, INDEX).ok()?;
        shards
            .iter()
            .all(|shard| folder.join(shard).exists())
            .then_some(folder)
    }

    #[cfg(not(feature = "hub"))]
    fn download(&self, id: &str, _revision: &str) -> Result<PathBuf, ModelError> {
        Err(ModelError::CannotFetch {
            id: id.to_owned(),
            cache: self.cache.clone(),
        })
    }

    fn unreachable(&self, id: &str, detail: &str) -> ModelError {
        ModelError::Offline {
            id: id.to_owned(),
            cache: self.cache.clone(),
            endpoint: self.endpoint.clone(),
            detail: quote(detail),
        }
    }
}

fn has_tokenizer(folder: &Path) -> bool {
    let there = |name: &str| folder.join(name).exists();
    there("tokenizer.json") || (there("vocab.json") && there("merges.txt"))
}
