//! Fetching: which files, all of one commit, in an order that makes a broken-off download harmless:
//! `refs/main`, the file by which a cached model is found, is written last.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use indicatif::ProgressBar;

use super::{Hub, INDEX, MAIN, SINGLE};
use crate::model::config::Config;
use crate::model::error::{ModelError, quote};
use crate::model::shards::shard_names;

impl Hub {
    /// Fetches one commit's files; `revision` is `main` or a commit.
    pub(super) fn download(&self, id: &str, revision: &str) -> Result<PathBuf, ModelError> {
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
