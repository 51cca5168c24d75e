//! Fetching: which files, all of one commit, in an order that makes a broken-off download harmless:
//! `refs/main`, the file by which a cached model is found, is written last.
//!
//! A file's bytes are hashed as they arrive and take their name among the blobs only if they are
//! what the hub says they are; others are removed. What broke off is gone on with.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::cache::{Commit, Repository};
use super::client::{Client, Failure, Transfer};
use super::hash::Hash;
use super::{Hub, INDEX, MAIN, SINGLE};
use crate::model::config::Config;
use crate::model::error::{ModelError, quote};
use crate::model::file::{self, LONGEST_CONFIG, LONGEST_INDEX, LONGEST_TOKENIZER, LONGEST_WEIGHTS};
use crate::model::shards::shard_names;

/// The most bytes of the hub's list of a model's files.
const LONGEST_LISTING: u64 = 32 << 20;

/// All that a tokenizer's files may be, and those that `tokenizer.json` stands for.
const TOKENIZER: [&str; 6] = [
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
];
const ORIGINAL: [&str; 2] = ["vocab.json", "merges.txt"];

/// What a file's name keeps in an address.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// The hub's answer about a model: its commit and its files.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// Fetches the files of `commit`, or of what `main` is now.
    pub(super) fn download(
        &self,
        id: &str,
        repository: &Repository,
        commit: Option<&Commit>,
    ) -> Result<PathBuf, ModelError> {
        let client = Client::new(self);
        let revision = commit.map_or(MAIN, Commit::as_str);
        let listing = client
            .ask(
                &format!("/api/models/{id}/revision/{revision}"),
                LONGEST_LISTING,
            )
            .map_err(|failure| match failure {
                Failure::Status(status @ (401 | 403 | 404)) => self.not_there(id, status),
                Failure::Status(status) => self.unreachable(id, &format!("HTTP {status}")),
                Failure::Other(detail) => self.unreachable(id, &detail),
            })?;
        let listing: Listing = serde_json::from_slice(&listing)
            .map_err(|e| self.unreachable(id, &format!("its answer is no list of files: {e}")))?;
        let Some(found) = Commit::parse(&listing.sha) else {
            return Err(self.unreachable(id, "its answer names no commit"));
        };
        if commit.is_some_and(|commit| *commit != found) {
            return Err(self.unreachable(id, "it answers with another commit"));
        }
        let has = |file: &str| listing.siblings.iter().any(|there| there.rfilename == file);
        let lacks = |file: &str| ModelError::HubFile {
            id: id.to_owned(),
            endpoint: self.endpoint.clone(),
            file: file.to_owned(),
        };
        let fetch = Fetch {
            hub: self,
            client: &client,
            id,
            repository,
            commit: &found,
        };

        if !has("config.json") {
            return Err(lacks("config.json"));
        }
        let path = fetch.file("config.json", LONGEST_CONFIG)?;
        let config = file::read(&path, LONGEST_CONFIG)?;
        let read = Config::from_json(&config, &format!("{id}/config.json"));
        read.inspect_err(|_| unlink(&path))?;
        for name in TOKENIZER {
            if !has(name) {
                let done = repository.set_absent(&found, name);
                done.map_err(|source| self.unwritable(source))?;
            } else if !(has("tokenizer.json") && ORIGINAL.contains(&name)) {
                fetch.file(name, LONGEST_TOKENIZER)?;
            }
        }
        if has(SINGLE) {
            fetch.file(SINGLE, LONGEST_WEIGHTS)?;
        } else if has(INDEX) {
            let path = fetch.file(INDEX, LONGEST_INDEX)?;
            let index = file::read(&path, LONGEST_INDEX)?;
            let shards = shard_names(&index, &format!("{id}/{INDEX}"));
            for shard in shards.inspect_err(|_| unlink(&path))? {
                if !has(&shard) {
                    return Err(lacks(&quote(&shard)));
                }
                fetch.file(&shard, LONGEST_WEIGHTS)?;
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
        if commit.is_none() {
            let done = repository.set_main(&found);
            done.map_err(|source| self.unwritable(source))?;
        }
        Ok(repository.snapshot(&found))
    }

    fn not_there(&self, id: &str, status: u16) -> ModelError {
        ModelError::NotOnHub {
            id: id.to_owned(),
            endpoint: self.endpoint.clone(),
            status,
        }
    }

    fn unwritable(&self, source: std::io::Error) -> ModelError {
        ModelError::Cache {
            cache: self.cache.clone(),
            source,
        }
    }
}

/// Takes what was refused out of a commit's folder again, so that it is asked for anew.
fn unlink(path: &Path) {
    // Where that fails it is refused the next time too.
    let _ = std::fs::remove_file(path);
}

/// The files of one commit, on their way into its folder.
struct Fetch<'a> {
    hub: &'a Hub,
    client: &'a Client<'a>,
    id: &'a str,
    repository: &'a Repository,
    commit: &'a Commit,
}

/// One file as the hub describes it, after its description has been checked.
struct Wanted<'a> {
    name: &'a str,
    /// Where on the hub.
    path: String,
    hash: Hash,
    length: Option<u64>,
    /// The most bytes that are fetched of it.
    most: u64,
}

/// What became of a transfer.
enum Outcome {
    /// The blob is there.
    Whole,
    /// The beginning that was on disk was not the file's; it has been removed.
    Stale,
}

impl Fetch<'_> {
    /// One file of at most `most` bytes, unless the folder has it.
    fn file(&self, name: &str, most: u64) -> Result<PathBuf, ModelError> {
        let there = self.repository.snapshot(self.commit).join(name);
        if there.exists() {
            return Ok(there);
        }
        let wanted = self.describe(name, most)?;
        // Given back when it is dropped.
        let _lock = self
            .repository
            .lock(&wanted.hash, self.hub.patience)
            .map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => self.failed(name, "another program is fetching it"),
                _ => self.hub.unwritable(error),
            })?;
        if !self.has_blob(&wanted)?
            && matches!(self.transfer(&wanted)?, Outcome::Stale)
            && matches!(self.transfer(&wanted)?, Outcome::Stale)
        {
            return Err(self.failed(name, "another program writes to the same file"));
        }
        let linked = self.repository.link(self.commit, name, &wanted.hash);
        linked.map_err(|source| self.hub.unwritable(source))
    }

    /// Asks what the file is, and checks every part of the answer.
    fn describe<'n>(&self, name: &'n str, most: u64) -> Result<Wanted<'n>, ModelError> {
        let (id, commit) = (self.id, self.commit.as_str());
        let path = format!("/{id}/resolve/{commit}/{}", utf8_percent_encode(name, KEPT));
        let described = self
            .client
            .describe(&path)
            .map_err(|failure| self.failure(name, failure))?;
        let lie = |detail: String| ModelError::HubAnswer {
            id: id.to_owned(),
            endpoint: self.hub.endpoint.clone(),
            file: quote(name),
            detail,
        };
        match described.commit.as_deref() {
            Some(found) if found == commit => {}
            Some(found) => {
                return Err(lie(format!(
                    "says that it is of commit `{}`, where {commit} was asked for",
                    quote(found)
                )));
            }
            None => return Err(lie("does not say of which commit it is".to_owned())),
        }
        let etag = described
            .etag
            .ok_or_else(|| lie("does not say by which hash to check it".to_owned()))?;
        let hash = Hash::from_etag(&etag).ok_or_else(|| {
            lie(format!(
                "calls it `{}`, which is neither SHA-256 nor git's hash, so that it cannot be checked",
                quote(&etag)
            ))
        })?;
        let wanted = Wanted {
            name,
            path,
            hash,
            length: described.length,
            most,
        };
        if let Some(length) = wanted.length {
            self.bounded(&wanted, length)?;
        }
        Ok(wanted)
    }

    /// Refuses a length beyond what such a file may have.
    fn bounded(&self, wanted: &Wanted<'_>, length: u64) -> Result<(), ModelError> {
        if length <= wanted.most {
            return Ok(());
        }
        let most = wanted.most;
        Err(ModelError::HubAnswer {
            id: self.id.to_owned(),
            endpoint: self.hub.endpoint.clone(),
            file: quote(wanted.name),
            detail: format!(
                "gives it {length} bytes, and at most {most} are fetched of such a file"
            ),
        })
    }

    /// Whether the blob is in the cache already, from another commit or another program. One that is
    /// damaged is removed.
    fn has_blob(&self, wanted: &Wanted<'_>) -> Result<bool, ModelError> {
        let path = self.repository.blob(&wanted.hash);
        let Ok(file) = File::open(&path) else {
            return Ok(false);
        };
        let unwritable = |source| self.hub.unwritable(source);
        let length = file.metadata().map_err(unwritable)?.len();
        let mut hasher = wanted.hash.hasher(length);
        hasher.read(file).map_err(unwritable)?;
        if hasher.finish() == wanted.hash.hex() {
            return Ok(true);
        }
        std::fs::remove_file(path).map_err(unwritable)?;
        Ok(false)
    }

    /// Fetches what the incomplete file lacks, and makes it the blob if it is sound.
    fn transfer(&self, wanted: &Wanted<'_>) -> Result<Outcome, ModelError> {
        let unwritable = |source| self.hub.unwritable(source);
        let path = self.repository.incomplete(&wanted.hash);
        let remove = || match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(unwritable(error)),
            _ => Ok(()),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(unwritable)?;
        let left = file.metadata().map_err(unwritable)?.len();

        let Transfer {
            start,
            length,
            body,
        } = match self.client.fetch(&wanted.path, left) {
            Ok(transfer) => transfer,
            // As long as the file or longer: there is no byte to send from there on.
            Err(Failure::Status(416)) if left > 0 => {
                remove()?;
                return Ok(Outcome::Stale);
            }
            Err(failure) => return Err(self.failure(wanted.name, failure)),
        };
        let fail = |detail: &str| self.failed(wanted.name, detail);
        let length = match (wanted.length, length) {
            (Some(a), Some(b)) if a != b => {
                return Err(fail(&format!(
                    "it has {a} bytes by one answer and {b} by another"
                )));
            }
            (Some(length), _) | (None, Some(length)) => length,
            (None, None) => return Err(fail("its length is not announced")),
        };
        self.bounded(wanted, length)?;
        if start != 0 && start != left || start > length {
            return Err(fail("another part of it arrived than was asked for"));
        }

        let mut hasher = wanted.hash.hasher(length);
        file.set_len(start).map_err(unwritable)?;
        file.rewind().map_err(unwritable)?;
        hasher.read(&mut file).map_err(unwritable)?;
        let mut at = start;
        let bar = self.bar(wanted.name, length, at);
        // One byte more than there should be shows that there are more.
        let mut body = body.take(length - start + 1);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(self.failure(wanted.name, self.client.broken_off(&error)));
                }
            };
            at += read as u64;
            if at > length {
                remove()?;
                return Err(fail(&format!("more than its {length} bytes arrived")));
            }
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read]).map_err(unwritable)?;
            bar.set_position(at);
        }
        bar.finish_and_clear();
        if at < length {
            return Err(fail(&format!("{at} bytes arrived instead of {length}")));
        }
        let found = hasher.finish();
        if found != wanted.hash.hex() {
            remove()?;
            if start > 0 {
                return Ok(Outcome::Stale);
            }
            let (kind, expected) = (wanted.hash.kind(), wanted.hash.hex());
            return Err(fail(&format!(
                "its {kind} is {found} instead of {expected}, so it was removed"
            )));
        }
        file.sync_all().map_err(unwritable)?;
        drop(file);
        std::fs::rename(&path, self.repository.blob(&wanted.hash)).map_err(unwritable)?;
        Ok(Outcome::Whole)
    }

    fn bar(&self, name: &str, length: u64, at: u64) -> ProgressBar {
        if !self.hub.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length).with_position(at);
        bar.set_message(quote(name));
        let template = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        // the template is a constant, and well-formed
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }

    fn failure(&self, file: &str, failure: Failure) -> ModelError {
        match failure {
            Failure::Status(status @ (401 | 403)) => self.hub.not_there(self.id, status),
            Failure::Status(status) => self.failed(file, &format!("HTTP {status}")),
            Failure::Other(detail) => self.failed(file, &detail),
        }
    }

    fn failed(&self, file: &str, detail: &str) -> ModelError {
        ModelError::Download {
            id: self.id.to_owned(),
            endpoint: self.hub.endpoint.clone(),
            file: quote(file),
            detail: detail.to_owned(),
        }
    }
}
