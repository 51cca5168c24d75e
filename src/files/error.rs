//! What can go wrong with a file as a file, each in one sentence: what, where, what would be right.

use std::io;
use std::path::{Path, PathBuf};

/// A file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The folder of an output file does not exist.
    #[error("{}: there is no folder {}; create it first or name another", path.display(), folder.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },

    /// The output is a folder.
    #[error("{}: this is a folder; name a file in it", path.display())]
    IsFolder {
        /// The folder.
        path: PathBuf,
    },

    /// The output file stands and is marked read-only.
    #[error("{}: this file is read-only; make it writable or name another", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },

    /// The system refused to create the file.
    #[error("{}: cannot create the file: {}", path.display(), unwritten(source))]
    Create {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// Writing failed part-way; nothing was left behind.
    #[error("{}: cannot write: {}", to, unwritten(source))]
    Write {
        /// The file, or `standard output`.
        to: String,
        /// The system's reason.
        source: io::Error,
    },

    /// The file could not be read at all.
    #[error("{}: cannot read the file: {}", path.display(), sentence(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl FileError {
    /// Whether the reader of a pipe went away, which is no error of ours.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn write_to(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let to = path.display().to_string();
        move |source| Self::Write { to, source }
    }

    pub(crate) fn read_of(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// Why something could not be written: what is not there then is its folder.
fn unwritten(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "its folder is gone; make it again or write elsewhere".to_owned()
        }
        _ => sentence(error),
    }
}

/// The reason in plain words; the system's own where we have none.
fn sentence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "the disk is full; free some space or write elsewhere".to_owned()
        }
        io::ErrorKind::QuotaExceeded => {
            "your quota on that disk is used up; free some space or write elsewhere".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; choose a place that you may use, or change its permissions"
                .to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "that file system is read-only; write elsewhere".to_owned()
        }
        io::ErrorKind::NotFound => "there is no such file; check the spelling".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder; name a file".to_owned(),
        io::ErrorKind::InvalidFilename => "the name is not one the system accepts".to_owned(),
        _ => error.to_string(),
    }
}
