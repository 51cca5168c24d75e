//! The cache that all of the hub's clients share, laid out as huggingface_hub does it:
//!
//! ```text
//! models--owner--name/refs/main                 the commit that `main` was
//! models--owner--name/blobs/HASH                one file's bytes, under their hash
//! models--owner--name/blobs/HASH.incomplete     the beginning of it
//! models--owner--name/snapshots/COMMIT/NAME     a link to the blob
//! models--owner--name/.no_exist/COMMIT/NAME     an empty file: that commit has no such file
//! .locks/models--owner--name/HASH.lock          held by whoever fetches the blob
//! ```
//!
//! A path is made of nothing but names that were checked: ids by [`Hub::id`](super::Hub::id), commits
//! by [`Commit`], hashes by their type, files by the list of those that are fetched at all.

use std::path::{Path, PathBuf};

/// A git commit: forty lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit(String);

impl Commit {
    /// `None` for whatever else stands in a commit's place.
    pub(super) fn parse(text: &str) -> Option<Self> {
        is_hex(text, 40).then(|| Commit(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` is so many lowercase hexadecimal digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// One model's part of the cache.
pub(super) struct Repository {
    folder: PathBuf,
    #[cfg(feature = "hub")]
    locks: PathBuf,
}

impl Repository {
    /// `id` has been checked by [`Hub::id`](super::Hub::id).
    pub(super) fn new(cache: &Path, id: &str) -> Self {
        let name = format!("models--{}", id.replace('/', "--"));
        Repository {
            folder: cache.join(&name),
            #[cfg(feature = "hub")]
            locks: cache.join(".locks").join(name),
        }
    }

    /// The commit that `refs/main` names.
    pub(super) fn main(&self) -> Option<Commit> {
        let mut text = String::new();
        let file = std::fs::File::open(self.folder.join("refs/main")).ok()?;
        std::io::Read::read_to_string(&mut std::io::Read::take(file, 64), &mut text).ok()?;
        Commit::parse(text.trim())
    }

    /// The folder of one commit's files.
    pub(super) fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.folder.join("snapshots").join(commit.as_str())
    }

    /// Whether a commit is known to have no file of that name.
    pub(super) fn is_absent(&self, commit: &Commit, name: &str) -> bool {
        self.absence(commit, name).exists()
    }

    fn absence(&self, commit: &Commit, name: &str) -> PathBuf {
        self.folder
            .join(".no_exist")
            .join(commit.as_str())
            .join(name)
    }
}

#[cfg(feature = "hub")]
mod writing {
    use std::fs::{File, OpenOptions, TryLockError, create_dir_all};
    use std::io::{ErrorKind, Result, Write};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use super::super::hash::Hash;
    use super::{Commit, Repository};

    impl Repository {
        /// Remembers that a commit has no file of that name.
        pub(in super::super) fn set_absent(&self, commit: &Commit, name: &str) -> Result<()> {
            let path = self.absence(commit, name);
            create_dir_all(parent(&path))?;
            File::create(path).map(drop)
        }

        /// Makes `commit` what `refs/main` names: the file by which a cached model is found.
        pub(in super::super) fn set_main(&self, commit: &Commit) -> Result<()> {
            let refs = self.folder.join("refs");
            create_dir_all(&refs)?;
            let mut beside = tempfile::Builder::new();
            // Temporary files are private unless told otherwise (the umask still applies).
            #[cfg(unix)]
            beside.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let mut file = beside.tempfile_in(&refs)?;
            file.write_all(commit.as_str().as_bytes())?;
            file.persist(refs.join("main"))?;
            Ok(())
        }

        /// Where the bytes of that hash belong.
        pub(in super::super) fn blob(&self, hash: &Hash) -> PathBuf {
            self.folder.join("blobs").join(hash.hex())
        }

        /// Where the beginning of them stands meanwhile.
        pub(in super::super) fn incomplete(&self, hash: &Hash) -> PathBuf {
            let name = format!("{}.incomplete", hash.hex());
            self.folder.join("blobs").join(name)
        }

        /// Takes the blob's lock, whose file is what Python's clients lock too. Waits while another
        /// process holds it, as long as what that fetches grows every `patience`.
        ///
        /// The error is of kind `WouldBlock` where it does not.
        pub(in super::super) fn lock(&self, hash: &Hash, patience: Duration) -> Result<File> {
            create_dir_all(&self.locks)?;
            create_dir_all(self.folder.join("blobs"))?;
            let path = self.locks.join(format!("{}.lock", hash.hex()));
            let options = || OpenOptions::new().write(true).create(true).clone();
            let file = options().truncate(false).open(path)?;
            let length = || std::fs::metadata(self.incomplete(hash)).map_or(0, |m| m.len());
            let (mut grown, mut since) = (length(), Instant::now());
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(file),
                    Err(TryLockError::Error(error)) => return Err(error),
                    Err(TryLockError::WouldBlock) if since.elapsed() > patience => {
                        return Err(ErrorKind::WouldBlock.into());
                    }
                    Err(TryLockError::WouldBlock) => {}
                }
                std::thread::sleep(Duration::from_millis(50));
                let now = length();
                if now != grown {
                    (grown, since) = (now, Instant::now());
                }
            }
        }

        /// Puts the blob among a commit's files.
        pub(in super::super) fn link(
            &self,
            commit: &Commit,
            name: &str,
            hash: &Hash,
        ) -> Result<PathBuf> {
            let folder = self.snapshot(commit);
            create_dir_all(&folder)?;
            let path = folder.join(name);
            #[cfg(unix)]
            {
                // A link to a blob that somebody removed may stand there, and another process may be
                // about to make the same one.
                let beside = tempfile::Builder::new().make_in(&folder, |beside| {
                    std::os::unix::fs::symlink(format!("../../blobs/{}", hash.hex()), beside)
                })?;
                beside.persist(&path)?;
            }
            #[cfg(not(unix))]
            std::fs::copy(self.blob(hash), &path).map(drop)?;
            Ok(path)
        }
    }

    /// The folder of a path that was put together here.
    fn parent(path: &Path) -> &Path {
        path.parent().unwrap_or(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_forty_hexadecimal_digits_and_nothing_else() {
        let sound = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(Commit::parse(sound).unwrap().as_str(), sound);
        for text in [
            "",
            "main",
            "../../../../evil",
            &sound[..39],
            &format!("{sound}0"),
            &sound.to_uppercase(),
            &format!("{}/", &sound[..39]),
            &"é".repeat(20),
        ] {
            assert_eq!(Commit::parse(text), None, "{text}");
        }
    }
}
