//! What can be wrong with a run's folder, each in one sentence: what, where, what would be right.

use std::path::PathBuf;

use crate::files::error::FileError;
use crate::report::ReportError;
use crate::text::counted;

/// A run's folder that cannot be gone on with, or not be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// Somebody else writes there.
    #[error("{}: {holder} writes there: wait until it has ended, or name another folder", folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// Who, such as `process 12 on node3`.
        holder: String,
    },
    /// The folder is another run's.
    #[error(
        "{}: this folder is another run's, which differs in {}: name another folder, or give the same as before",
        folder.display(), differs.join(", ")
    )]
    OtherRun {
        /// The folder.
        folder: PathBuf,
        /// In what.
        differs: Vec<String>,
    },
    /// The folder is cut otherwise.
    #[error("{}: this run is cut into {theirs}, not {ours}: name another folder, or give the same as before", folder.display())]
    OtherCut {
        /// The folder.
        folder: PathBuf,
        /// What is there.
        theirs: String,
        /// What was asked for.
        ours: String,
    },
    /// Parts without a manifest.
    #[error("{}: there is {file} but no manifest.json, so nobody knows of which run: name another folder", folder.display())]
    NoManifest {
        /// The folder.
        folder: PathBuf,
        /// What is there.
        file: String,
    },
    /// No run's folder.
    #[error("{}: there is no manifest.json, so this is no run's folder: name one that --out DIR/ made", folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// A manifest that says something else than one.
    #[error("{}: not a run's manifest: {problem}; restore it, or start in another folder", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file that is named like a part and is none of this run's.
    #[error("{}: this is no part of the run whose manifest stands beside it ({problem}): move it away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that is known.
        problem: String,
    },
    /// A part that cannot be read.
    #[error("{}; remove the file and start the command again, which computes it anew", .0)]
    Damaged(ReportError),
    /// A part that is there twice.
    #[error("{file} stands in {} and in {}: merge each shard once", first.display(), second.display())]
    Double {
        /// The part.
        file: String,
        /// A folder that has it.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Parts that are not there.
    #[error("{} of {parts} are missing: {}: start the command again for these", counted(*missing, "part"), shards.join(", "))]
    Missing {
        /// How many parts are missing.
        missing: usize,
        /// Of how many.
        parts: usize,
        /// Whose: `shard 3/7`, with how many of its parts there are.
        shards: Vec<String>,
    },
    /// Nothing to merge.
    #[error("nothing to merge: name one folder at least")]
    Nothing,
    /// A file that cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A result file.
    #[error(transparent)]
    Report(#[from] ReportError),
}
