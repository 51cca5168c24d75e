//! What a folder's run is, and how it is cut: written once, before the first part.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cut::PartSpan;
use super::error::FolderError;
use crate::files::error::FileError;
use crate::model::hex;
use crate::results::averages::Over;
use crate::results::metric::Metric;
use crate::text::{command_line, counted};

/// The manifest's name.
pub const MANIFEST: &str = "manifest.json";

/// How manifests are written; others are refused.
const FORMAT: u32 = 1;

/// All that decides on a run's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// headlight's version.
    pub version: String,
    /// SHA-256 of the weights.
    pub model: String,
    /// SHA-256 of what the model's configuration says.
    pub configuration: String,
    /// `cpu`, or the GPU's name: its sums are in another order.
    pub device: String,
    /// `f32`, …
    pub precision: String,
    /// SHA-256 of every pair: tokens, targets, rows and ids.
    pub pairs: String,
    /// SHA-256 of every run's patches, with the numbers that they write and the bases in which they act.
    pub patches: String,
    /// Metrics, as asked for.
    pub metrics: Vec<String>,
    /// How many of the most probable tokens after each run stand in its rows.
    #[serde(default, skip_serializing_if = "is_none")]
    pub top_tokens: usize,
    /// Whether averages over pairs are kept in place of rows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub means: bool,
}

/// What an identity does not say, as before there could be averages alone.
fn is_false(said: &bool) -> bool {
    !said
}

/// Whether there are none: what an identity then does not say, as before there could be any.
fn is_none(number: &usize) -> bool {
    *number == 0
}

impl Identity {
    /// All of it as one SHA-256, in hexadecimal digits.
    pub fn hash(&self) -> String {
        // plain strings always serialise
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(&json))
    }

    /// In what another run's differs from this, in words.
    pub fn differs(&self, other: &Self) -> Vec<String> {
        let kept = |of: &Self| match of.means {
            true => "means",
            false => "all",
        };
        let said = [
            (
                self.version != other.version,
                format!(
                    "headlight's version ({}, now {})",
                    other.version, self.version
                ),
            ),
            (self.model != other.model, "the model's weights".to_owned()),
            (
                self.configuration != other.configuration,
                "the model's configuration".to_owned(),
            ),
            (
                self.device != other.device,
                format!("the device ({}, now {})", other.device, self.device),
            ),
            (
                self.precision != other.precision,
                format!(
                    "the precision ({}, now {})",
                    other.precision, self.precision
                ),
            ),
            (self.pairs != other.pairs, "the pairs".to_owned()),
            (self.patches != other.patches, "the patches".to_owned()),
            (self.metrics != other.metrics, "the metrics".to_owned()),
            (
                self.top_tokens != other.top_tokens,
                format!("--top ({}, now {})", other.top_tokens, self.top_tokens),
            ),
            (
                self.means != other.means,
                format!("--rows ({}, now {})", kept(other), kept(self)),
            ),
        ];
        let differs = said.into_iter().filter(|(differs, _)| *differs);
        differs.map(|(_, said)| said).collect()
    }
}

/// A folder's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// How this file is written.
    format: u32,
    /// What decides on its rows.
    pub identity: Identity,
    /// The model as the user named it.
    pub model: String,
    /// The command, without what says which shard and whether again.
    pub command: Vec<String>,
    /// Columns behind those that every table has.
    pub columns: Vec<String>,
    /// What averages are over.
    over: OverName,
    /// Whether a file of the same results has averages beside it.
    pub averages: bool,
    /// How many pairs.
    pub pairs: usize,
    /// The parts of each shard.
    pub shards: Vec<Vec<PartSpan>>,
}

/// [`Over`] as a manifest spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OverName {
    Runs,
    Pairs,
    Samples,
    Prompts,
}

impl Manifest {
    /// A run with these rows.
    pub fn new(identity: Identity, over: Over, shards: Vec<Vec<PartSpan>>) -> Self {
        Self {
            format: FORMAT,
            identity,
            model: String::new(),
            command: Vec::new(),
            columns: Vec::new(),
            over: match over {
                Over::Runs => OverName::Runs,
                Over::Pairs => OverName::Pairs,
                Over::Samples => OverName::Samples,
                Over::Prompts => OverName::Prompts,
            },
            averages: false,
            pairs: 0,
            shards,
        }
    }

    /// What averages are over.
    pub fn over(&self) -> Over {
        match self.over {
            OverName::Runs => Over::Runs,
            OverName::Pairs => Over::Pairs,
            OverName::Samples => Over::Samples,
            OverName::Prompts => Over::Prompts,
        }
    }

    /// The metrics that averages are of.
    pub fn metrics(&self) -> Vec<Metric> {
        let names = self.identity.metrics.iter();
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// Every part, in order.
    pub fn parts(&self) -> impl Iterator<Item = &PartSpan> {
        self.shards.iter().flatten()
    }

    /// How many runs are read out.
    pub fn runs(&self) -> u64 {
        self.parts().map(|part| part.runs).sum()
    }

    /// The name of a part's file.
    pub fn part_name(&self, shard: usize, part: usize) -> String {
        self.named("part", shard, part)
    }

    /// The name of what there is of a part that was stopped.
    pub fn open_name(&self, shard: usize, part: usize) -> String {
        self.named("open", shard, part)
    }

    fn named(&self, what: &str, shard: usize, part: usize) -> String {
        match self.shards.len() {
            1 => format!("{what}-{part:05}.parquet"),
            shards => format!("{what}-{shard:05}-of-{shards:05}-{part:05}.parquet"),
        }
    }

    /// The command with another place for its results.
    pub fn command_to(&self, out: &str) -> String {
        let mut command = self.command.clone();
        for i in 0..command.len() {
            match command[i].as_str() {
                "--out" if i + 1 < command.len() => command[i + 1] = out.to_owned(),
                given if given.starts_with("--out=") => command[i] = format!("--out={out}"),
                _ => {}
            }
        }
        command_line(&command)
    }

    /// The same as it stands in a file.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // plain strings and numbers always serialise
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Reads a folder's manifest; nothing where it has none.
    ///
    /// # Errors
    ///
    /// [`FolderError::Manifest`] for what is none; [`FolderError::File`] for a file that cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let path = folder.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FileError::Read { path, source }.into()),
        };
        let manifest: Self = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                let problem = error.to_string();
                return Err(FolderError::Manifest { path, problem });
            }
        };
        let whole = manifest.shards.concat();
        let follows = whole.windows(2).all(|two| two[0].to == two[1].from);
        let problem = match (manifest.format, follows) {
            (FORMAT, true) if !manifest.shards.is_empty() => return Ok(Some(manifest)),
            (FORMAT, _) => "its parts do not follow one another".to_owned(),
            (other, _) => format!("it is of format {other}, and this headlight knows {FORMAT}"),
        };
        Err(FolderError::Manifest { path, problem })
    }

    /// Refuses to be gone on with as another run, or cut otherwise.
    ///
    /// # Errors
    ///
    /// [`FolderError::OtherRun`] and [`FolderError::OtherCut`].
    pub fn check_same(&self, wanted: &Self, folder: &Path) -> Result<(), FolderError> {
        let differs = wanted.identity.differs(&self.identity);
        if !differs.is_empty() {
            let folder = folder.to_owned();
            return Err(FolderError::OtherRun { folder, differs });
        }
        if self.shards == wanted.shards {
            return Ok(());
        }
        let (theirs, ours) = (self.shards.len(), wanted.shards.len());
        let said = |manifest: &Self| match theirs == ours {
            true => counted(manifest.parts().count(), "part"),
            false => counted(manifest.shards.len(), "shard"),
        };
        let (mut theirs, ours) = (said(self), said(wanted));
        if theirs == ours {
            theirs += " of other runs";
        }
        Err(FolderError::OtherCut {
            folder: folder.to_owned(),
            theirs,
            ours,
        })
    }
}
