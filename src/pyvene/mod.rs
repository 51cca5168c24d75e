//! What pyvene saved, as an experiment of headlight's own.
//!
//! `IntervenableModel.save` of pyvene 0.1.8 writes `config.json` (where and how it intervenes) and one
//! `intkey_….bin` for each trained or constant part: a torch state dict, which is a zip archive with a
//! pickle in it. Loading a pickle runs whatever program it holds. Here it is read as data: [`pickle`]
//! knows the few instructions that a state dict is made of and refuses the rest, [`storage`] checks that
//! every tensor lies within its storage, and [`orthogonal`] does what torch does when it makes a
//! rotation of what it stored.
//!
//! | step | file |
//! |---|---|
//! | `config.json` → representations, in pyvene's own words | [`configuration`] |
//! | component and unit → site, heads and positions | [`place`] |
//! | state dict → the numbers of a basis, or constants | [`parameters`] |
//! | groups and mode → runs, prompts and sources | [`steps`] |
//! | all of it → TOML and named tensors | [`experiment`] |
//!
//! What pyvene does silently wrong is an error here, or a comment in the file that is written.

pub mod columns;
pub mod configuration;
pub mod experiment;
mod instructions;
pub mod kind;
pub mod orthogonal;
pub mod parameters;
pub mod pickle;
pub mod place;
pub mod state;
pub mod steps;
pub mod storage;

use std::path::{Path, PathBuf};

/// Why a saved configuration cannot become an experiment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PyveneError {
    /// A file that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// `config.json` is malformed, or asks for what cannot be done.
    #[error("{}: {problem}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// One representation of `config.json`.
    #[error("{}: representation {index}: {problem}", path.display())]
    Representation {
        /// The file.
        path: PathBuf,
        /// Which, from 0.
        index: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A state dict's archive or one of its tensors.
    #[error("{}: {problem}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A pickle that does what no state dict does.
    #[error("{}: data.pkl, byte {at}: {problem}", path.display())]
    Pickle {
        /// The archive.
        path: PathBuf,
        /// Where in its pickle, from 0.
        at: usize,
        /// What stands there.
        problem: String,
    },
}

/// A foreign text without line breaks and the like, at most `most` characters of it.
fn printable(text: &str, most: usize) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    text.chars().take(most).map(shown).collect()
}

/// A foreign text in a sentence.
fn quoted(text: &str) -> String {
    format!("`{}`", printable(text, 80))
}

/// Reads a file of at most `most` bytes.
fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, PyveneError> {
    let read = || {
        let length = std::fs::metadata(path)?.len();
        if length > most {
            let problem = format!("it has {length} bytes, and may have {most}");
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                problem,
            ));
        }
        std::fs::read(path)
    };
    read().map_err(|error| PyveneError::Read {
        path: path.into(),
        error,
    })
}
