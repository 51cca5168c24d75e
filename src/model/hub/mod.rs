//! Hugging Face's hub: from an id to a folder in the cache that all its clients share.
//!
//! What is in the cache is used without a request; fetching needs the feature `hub`, which brings
//! HTTP and TLS. Whatever a hub says, over a network that anyone may stand in, is checked before it
//! names a path, and what it sends before it is used.

mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod hash;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use cache::{Commit, Repository};

use super::error::{ModelError, quote};
use super::file;
use super::shards::shard_names;

#[cfg(feature = "hub")]
const MAIN: &str = "main";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// How long huggingface_hub waits, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// How long to wait for an answer, and for an answer that has begun to go on.
    pub patience: Duration,
}

impl Hub {
    /// The settings of the environment: `HF_ENDPOINT`; `HF_HUB_CACHE`, or `HF_HOME` and `hub` in it;
    /// `HF_TOKEN`, or the file `token` in `HF_HOME`; `HF_HUB_OFFLINE`; `HF_HUB_DOWNLOAD_TIMEOUT`, in
    /// seconds.
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
            patience: get("HF_HUB_DOWNLOAD_TIMEOUT")
                .and_then(|seconds| seconds.parse().ok())
                .filter(|seconds| *seconds > 0)
                .map_or(PATIENCE, Duration::from_secs),
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
        let repository = self.repository(id)?;
        let commit = repository.main()?;
        let folder = self.snapshot(&repository, &commit)?;
        (self.offline || knows_tokenizer(&repository, &commit)).then_some(folder)
    }

    /// The folder of a model, after fetching what is not in the cache.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoSuchModel`] for what [`Hub::id`] does not know as an id;
    /// [`ModelError::Offline`], [`ModelError::NotOnHub`], [`ModelError::HubFile`],
    /// [`ModelError::PickledOnly`]; [`ModelError::HubAnswer`] for an answer that cannot be trusted,
    /// [`ModelError::Download`], [`ModelError::Cache`]; a configuration of another architecture is
    /// refused before its weights are fetched. [`ModelError::CannotFetch`] without the feature `hub`.
    pub fn fetch(&self, id: &str) -> Result<PathBuf, ModelError> {
        if let Some(folder) = self.cached(id) {
            return Ok(folder);
        }
        let Some(repository) = self.repository(id) else {
            return Err(ModelError::NoSuchModel {
                name: id.to_owned(),
            });
        };
        if self.offline {
            return Err(self.unreachable(id, "HF_HUB_OFFLINE is set"));
        }
        let commit = repository.main();
        let folder = commit
            .as_ref()
            .and_then(|commit| self.snapshot(&repository, commit));
        match folder {
            None => self.download(id, &repository, None),
            // Only tokenizer files are missing, because there are none or because another program
            // did not want them. They are worth a request, but the model can be used without.
            Some(folder) => {
                let fetched = self.download(id, &repository, commit.as_ref());
                Ok(fetched.unwrap_or(folder))
            }
        }
    }

    /// The part of the cache that belongs to an id; `None` for what is no id.
    fn repository(&self, id: &str) -> Option<Repository> {
        Hub::id(id).map(|_| Repository::new(&self.cache, id))
    }

    /// The cached folder of a commit, where configuration and weights are complete.
    fn snapshot(&self, repository: &Repository, commit: &Commit) -> Option<PathBuf> {
        let folder = repository.snapshot(commit);
        if !folder.join("config.json").exists() {
            return None;
        }
        if folder.join(SINGLE).exists() {
            return Some(folder);
        }
        let index = file::read(&folder.join(INDEX), file::LONGEST_INDEX).ok()?;
        let shards = shard_names(&index, INDEX).ok()?;
        shards
            .iter()
            .all(|shard| folder.join(shard).exists())
            .then_some(folder)
    }

    #[cfg(not(feature = "hub"))]
    fn download(
        &self,
        id: &str,
        _: &Repository,
        _: Option<&Commit>,
    ) -> Result<PathBuf, ModelError> {
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

/// Whether a tokenizer is there, and what its configuration says of it there or known not to be.
fn knows_tokenizer(repository: &Repository, commit: &Commit) -> bool {
    let folder = repository.snapshot(commit);
    let there = |name: &str| folder.join(name).exists();
    let known = |name: &str| there(name) || repository.is_absent(commit, name);
    let pair = there("vocab.json")
        && there("merges.txt")
        && ["added_tokens.json", "special_tokens_map.json"]
            .iter()
            .all(|name| known(name));
    (there("tokenizer.json") || pair) && known("tokenizer_config.json")
}
