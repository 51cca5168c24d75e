//! Hugging Face's hub: from an id to a folder in the cache that all its clients share.
//!
//! hf-hub moves the bytes and keeps the cache's layout. What is added here is *which* files, all of
//! one commit, in an order that makes a broken-off download harmless: `refs/main`, the file by which
//! a cached model is found, is written last. What is in the cache is used without a request.

use std::cell::Cell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use indicatif::ProgressBar;

use super::config::Config;
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
    /// architecture is refused before its weights are fetched.
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

    /// Fetches one commit's files; `revision` is `main` or a commit.
    fn download(&self, id: &str, revision: &str) -> Result<PathBuf, ModelError> {
        let cache = Cache::new(self.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(false)
            .with_user_agent("headlight", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|e| self.unreachable(id, &e.to_string()))?;
        let at = |revision: &str| {
            Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned())
        };
        let info = api
            .repo(at(revision))
            .info()
            .map_err(|e| match status(&e) {
                Some(status @ (401 | 403 | 404)) => self.not_there(id, status),
                _ => self.unreachable(id, &e.to_string()),
            })?;
        // The commit becomes the name of a folder.
        if info.sha.is_empty() || !info.sha.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(self.unreachable(id, "its answer names no commit"));
        }
        let has = |file: &str| info.siblings.iter().any(|there| there.rfilename == file);
        let lacks = |file: &str| ModelError::HubFile {
            id: id.to_owned(),
            endpoint: self.endpoint.clone(),
            file: file.to_owned(),
        };
        let folder = cache
            .repo(Repo::model(id.to_owned()))
            .pointer_path(&info.sha);
        let fetch = Fetch {
            hub: self,
            api: &api,
            repo: &api.repo(at(&info.sha)),
            id,
            folder,
        };

        if !has("config.json") {
            return Err(lacks("config.json"));
        }
        let config = fetch.file("config.json")?;
        Config::from_json(&read(&config)?, &format!("{id}/config.json"))?;
        if has("tokenizer.json") {
            fetch.file("tokenizer.json")?;
        } else if has("vocab.json") && has("merges.txt") {
            fetch.file("vocab.json")?;
            fetch.file("merges.txt")?;
        }
        if has(SINGLE) {
            fetch.file(SINGLE)?;
        } else if has(INDEX) {
            let index = fetch.file(INDEX)?;
            for shard in shard_names(&read(&index)?, &format!("{id}/{INDEX}"))? {
                if !has(&shard) {
                    return Err(lacks(&quote(&shard)));
                }
                fetch.file(&shard)?;
            }
        } else if has("pytorch_model.bin") {
            let file = "pytorch_model.bin".to_owned();
            return Err(ModelError::PickledOnly {
                place: id.to_owned(),
                file,
            });
        } else {
            return Err(lacks(SINGLE));
        }
        if revision == MAIN {
            let done = cache.repo(at(MAIN)).create_ref(&info.sha);
            done.map_err(|source| ModelError::Read {
                path: self.cache.clone(),
                source,
            })?;
        }
        Ok(fetch.folder)
    }

    fn unreachable(&self, id: &str, detail: &str) -> ModelError {
        ModelError::Offline {
            id: id.to_owned(),
            cache: self.cache.clone(),
            endpoint: self.endpoint.clone(),
            detail: quote(detail),
        }
    }

    fn not_there(&self, id: &str, status: u16) -> ModelError {
        ModelError::NotOnHub {
            id: id.to_owned(),
            endpoint: self.endpoint.clone(),
            status,
        }
    }
}

/// The files of one commit, on their way into its folder.
struct Fetch<'a> {
    hub: &'a Hub,
    api: &'a Api,
    repo: &'a ApiRepo,
    id: &'a str,
    folder: PathBuf,
}

impl Fetch<'_> {
    /// One file, unless the folder has it.
    fn file(&self, name: &str) -> Result<PathBuf, ModelError> {
        let path = self.folder.join(name);
        if path.exists() {
            return Ok(path);
        }
        let size = Cell::new(0);
        let mut result = self.transfer(name, &size);
        if matches!(&result, Err(e) if stale(e)) {
            // What an earlier, broken-off run left is no beginning of this file.
            self.drop_part(name);
            result = self.transfer(name, &size);
        }
        let got = result.map_err(|e| match status(&e) {
            Some(code @ (401 | 403)) => self.hub.not_there(self.id, code),
            _ => self.failed(name, &explain(&e)),
        })?;
        // hf-hub takes the end of a connection for the end of the file.
        let length = std::fs::metadata(&got).map_or(0, |m| m.len());
        if length != size.get() {
            if let Ok(blob) = got.canonicalize() {
                let _ = std::fs::remove_file(blob);
            }
            let _ = std::fs::remove_file(&got);
            let detail = format!("{length} bytes arrived instead of {}", size.get());
            return Err(self.failed(name, &detail));
        }
        if got != path {
            return Err(self.failed(name, "the hub sent it from another commit"));
        }
        Ok(path)
    }

    fn transfer(&self, name: &str, size: &Cell<u64>) -> Result<PathBuf, ApiError> {
        let bar = self.hub.progress.then(|| ProgressBar::new(0));
        self.repo.download_with_progress(name, Meter { size, bar })
    }

    fn drop_part(&self, name: &str) {
        if let Ok(metadata) = self.api.metadata(&self.repo.url(name)) {
            let cache = Cache::new(self.hub.cache.clone());
            let blob = cache
                .repo(Repo::model(self.id.to_owned()))
                .blob_path(metadata.etag());
            let _ = std::fs::remove_file(blob.with_extension("part"));
        }
    }

    fn failed(&self, file: &str, detail: &str) -> ModelError {
        ModelError::Download {
            id: self.id.to_owned(),
            endpoint: self.hub.endpoint.clone(),
            file: quote(file),
            detail: quote(detail),
        }
    }
}

/// Remembers the size that the hub announced, and draws the bar.
struct Meter<'a> {
    size: &'a Cell<u64>,
    bar: Option<ProgressBar>,
}

impl Progress for Meter<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        self.size.set(size as u64);
        if let Some(bar) = &mut self.bar {
            Progress::init(bar, size, filename);
        }
    }

    fn update(&mut self, size: usize) {
        if let Some(bar) = &mut self.bar {
            Progress::update(bar, size);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = &mut self.bar {
            Progress::finish(bar);
        }
    }
}

fn has_tokenizer(folder: &Path) -> bool {
    let there = |name: &str| folder.join(name).exists();
    there("tokenizer.json") || (there("vocab.json") && there("merges.txt"))
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The HTTP status that an error stands for.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(inner) => match **inner {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a partial file on disk cannot be continued: longer than the file, or exactly as long
/// (then the hub has no byte left to send, which is status 416).
fn stale(error: &ApiError) -> bool {
    matches!(error, ApiError::InvalidResume) || status(error) == Some(416)
}

fn explain(error: &ApiError) -> String {
    match error {
        ApiError::LockAcquisition(_) => "another program is fetching it".to_owned(),
        other => other.to_string(),
    }
}
