//! What can be wrong with an experiment file.

use std::path::PathBuf;

use crate::basis::read::ReadBasisError;
use crate::files::tensors::VectorError;
use crate::model::ModelError;
use crate::prompt::position::PositionError;

/// What can be wrong with an experiment file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// Cannot be read.
    #[error("cannot read the experiment file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Nothing in the file.
    #[error("{} is empty: an experiment has at least one pair of prompts and one run", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Neither `.toml` nor `.json`.
    #[error("{} is neither .toml nor .json: name the experiment file by its format", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// Malformed, with line and column.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// Well-formed, but says something that cannot be meant.
    #[error("{at}: {problem}")]
    Meaning {
        /// `pair 2`, `run 3, patch 0`, …
        at: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A prompt or target cannot be turned into tokens.
    #[error("{at}: {error}")]
    Tokens {
        /// `pair 2`, …
        at: String,
        /// Why.
        error: Box<ModelError>,
    },
    /// A position that is nowhere in its prompt.
    #[error("{at}: the {prompt} prompt {error}")]
    Position {
        /// `run 3, patch 0`.
        at: String,
        /// Which prompt.
        prompt: String,
        /// Why.
        error: PositionError,
    },
    /// A named tensor cannot be read.
    #[error("{at}: {error}")]
    Vector {
        /// `run 3, patch 0`.
        at: String,
        /// Why.
        error: VectorError,
    },
    /// A named basis cannot be read.
    #[error("{at}: {error}")]
    Basis {
        /// `run 3, patch 0`.
        at: String,
        /// Why.
        error: Box<ReadBasisError>,
    },
}
