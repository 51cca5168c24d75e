//! What can go wrong with result files and plots, each in one sentence: what, where, what would be
//! right.

use std::path::{Path, PathBuf};

use crate::files::error::FileError;

/// An error of [`crate::report`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The file name does not say which format is meant.
    #[error("{}: {} are told apart by the file name, which must end in {}", path.display(), what, endings)]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// `results` or `plots`.
        what: &'static str,
        /// The endings that are known.
        endings: &'static str,
    },

    /// A format whose feature this program was built without.
    #[error("{}: this build has no {format}: use {instead}, or build without --no-default-features", path.display())]
    LeftOut {
        /// The file.
        path: PathBuf,
        /// `Parquet` or `PNG`.
        format: &'static str,
        /// Endings that can be used.
        instead: &'static str,
    },

    /// A file that cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),

    /// The file as a whole is not what its name says.
    #[error("{}: {}", path.display(), problem)]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        problem: String,
    },

    /// One field of a file is wrong.
    #[error("{}, {}, column {}: {}", path.display(), place, column, problem)]
    Field {
        /// The file.
        path: PathBuf,
        /// `line 7` (text, from 1) or `row 6` (Parquet, from 0).
        place: String,
        /// The column.
        column: String,
        /// What was found, and what was expected.
        problem: String,
    },

    /// A table that no file can hold: metric names and values do not fit together.
    #[error("the result table is inconsistent: {0}")]
    Inconsistent(String),

    /// A plot was asked to show a column that the table does not have.
    #[error("there is no column {name} to plot; the table has {known}")]
    NoSuchValue {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },

    /// The table has no cell that a heat map could place.
    #[error("nothing to plot: {0}")]
    NothingToPlot(String),

    /// Two runs of one pair have the same cell of the heat map.
    #[error(
        "nothing to plot: `{one}` and `{other}` share a cell of the heat map, which would show neither; plot runs that differ in layer, head, position or source"
    )]
    Crowded {
        /// A run's name.
        one: String,
        /// The other's.
        other: String,
    },

    /// The plot would be too large to draw.
    #[error(
        "the plot would be {width} × {height} pixels, more than a PNG here may have ({limit} a side); {advice}"
    )]
    TooLarge {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The largest side allowed.
        limit: u64,
        /// What to do instead.
        advice: &'static str,
    },
}

impl ReportError {
    /// Whether the reader of a pipe went away, which is no error of ours.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::File(error) if error.is_broken_pipe())
    }

    pub(crate) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
