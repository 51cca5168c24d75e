//! Experiment files: pairs, targets, and runs of one or several patches, in TOML or JSON.
//!
//! The file is deserialised into the structures below with unknown keys refused, so a misspelt key
//! is an error with its line and column instead of a patch that silently did nothing. Text becomes
//! token ids and named tensors become numbers in [`Experiment::resolve`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::basis::read::{Bases, ReadBasisError};
use crate::model::{Checkpoint, ModelError};
use crate::patch::{MeanOver, Op, Origin, Patch, Run, Vector};
use crate::site::{Component, Site};
use crate::sweep::pair::{Pair, PairRuns};
use crate::sweep::subspace::{Columns, columns};
use crate::sweep::vector::{VectorError, read_vector};

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

/// An experiment, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Target texts, for pairs that have none of their own.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Target ids, likewise.
    #[serde(default)]
    pub target_ids: Vec<u32>,
    /// Seed of all noise.
    #[serde(default)]
    pub seed: u64,
    /// Prompt pairs.
    #[serde(rename = "pair")]
    pub pairs: Vec<PairText>,
    /// Runs, each applied to every pair.
    #[serde(rename = "run")]
    pub runs: Vec<RunText>,
}

/// A pair, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairText {
    /// Base prompt ...
    pub base: Option<String>,
    /// ... or its token ids.
    pub base_ids: Option<Vec<u32>>,
    /// Source prompt ...
    pub source: Option<String>,
    /// ... or its token ids.
    pub source_ids: Option<Vec<u32>>,
    /// Target texts of this pair.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Target ids of this pair.
    #[serde(default)]
    pub target_ids: Vec<u32>,
    /// Wrong answers, for metrics that hold them against the targets.
    #[serde(default)]
    pub wrong_targets: Vec<String>,
    /// Wrong answers by their ids.
    #[serde(default)]
    pub wrong_target_ids: Vec<u32>,
}

/// A run, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunText {
    /// Name for the result table.
    pub name: Option<String>,
    /// Patches in the order in which overlapping ones act.
    pub patches: Vec<PatchText>,
}

/// A patch, as written; also how result tables spell a run's patches.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PatchText {
    /// Component, by its canonical name or a TransformerLens hook.
    #[serde(deserialize_with = "site", serialize_with = "site_name")]
    pub component: Site,
    /// Layer, unless the component's name has it or it stands outside the layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// Heads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<usize>,
    /// Positions in the base prompt.
    pub positions: Vec<usize>,
    /// Keys, for scores and pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<usize>>,
    /// Columns of the row, or coordinates of the basis, as a list or as ranges ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
    /// ... or first and end of some parts of it ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<Vec<usize>>>,
    /// ... and which of these parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subspaces: Option<Vec<usize>>,
    /// `F.safetensors#name` of the basis in which the operator acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// Operator.
    #[serde(default)]
    pub op: OpName,
    /// Whose activations are read: `source` (the default) or `base`.
    #[serde(default, skip_serializing_if = "is_source")]
    pub source: OriginName,
    /// Layer that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_layer: Option<usize>,
    /// Heads that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_heads: Option<Vec<usize>>,
    /// Positions that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_positions: Option<Vec<usize>>,
    /// `F.safetensors#tensor` for set, add and subtract; a file of prompts for mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Factor of scale, α of interpolate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Standard deviation of noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// Which draw of noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<u32>,
    /// Seed of this patch's noise, instead of the experiment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Prompts of a mean, as token ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_ids: Option<Vec<Vec<u32>>>,
}

/// An operator's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names of `Op`
pub enum OpName {
    #[default]
    Interchange,
    Zero,
    Set,
    Mean,
    Add,
    Subtract,
    Scale,
    Interpolate,
    Noise,
    Function,
}

/// Whose clean activations are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names of `Origin`
pub enum OriginName {
    #[default]
    Source,
    Base,
}

fn is_source(origin: &OriginName) -> bool {
    *origin == OriginName::Source
}

fn site<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Site, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(serde::de::Error::custom)
}

fn site_name<S: Serializer>(site: &Site, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(site.component.name())
}

impl Experiment {
    /// Reads a `.toml` or `.json` file.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`] naming the file, and line and column where it is malformed.
    pub fn open(path: &Path) -> Result<Self, ExperimentError> {
        let read = || {
            let bytes = std::fs::read(path)?;
            String::from_utf8(bytes)
                .map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e))
        };
        match path.extension().and_then(|e| e.to_str()) {
            Some("toml") => {
                let text = read().map_err(|error| ExperimentError::Read {
                    path: path.into(),
                    error,
                })?;
                Self::from_toml(&text, path)
            }
            Some("json") => {
                let text = read().map_err(|error| ExperimentError::Read {
                    path: path.into(),
                    error,
                })?;
                Self::from_json(&text, path)
            }
            _ => Err(ExperimentError::Extension { path: path.into() }),
        }
    }

    /// Parses TOML; `path` is for errors.
    ///
    /// # Errors
    ///
    /// [`ExperimentError::Syntax`].
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, ExperimentError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = text.get(..start).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            let message = error.message().lines().collect::<Vec<_>>().join(" ");
            ExperimentError::Syntax {
                path: path.into(),
                line,
                column,
                message,
            }
        })
    }

    /// Parses JSON; `path` is for errors.
    ///
    /// # Errors
    ///
    /// [`ExperimentError::Syntax`].
    pub fn from_json(text: &str, path: &Path) -> Result<Self, ExperimentError> {
        serde_json::from_str(text).map_err(|error| {
            let whole = error.to_string();
            let message = whole
                .rsplit_once(" at line ")
                .map_or(whole.as_str(), |(m, _)| m)
                .to_owned();
            let (line, column) = (error.line(), error.column());
            ExperimentError::Syntax {
                path: path.into(),
                line,
                column,
                message,
            }
        })
    }

    /// Turns text into token ids and named tensors into numbers. Relative file names are looked up
    /// beside the experiment file, in `folder`.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`] naming the pair, or the run and patch.
    pub fn resolve(
        &self,
        model: &Checkpoint,
        folder: &Path,
        first_token: bool,
    ) -> Result<Vec<PairRuns>, ExperimentError> {
        if self.pairs.is_empty() {
            let problem = "give at least one [[pair]]".into();
            return Err(ExperimentError::Meaning {
                at: "the experiment has no pairs".into(),
                problem,
            });
        }
        if self.runs.is_empty() {
            let problem = "give at least one [[run]]".into();
            return Err(ExperimentError::Meaning {
                at: "the experiment has no runs".into(),
                problem,
            });
        }
        let mut bases = Bases::default();
        let mut runs = Vec::with_capacity(self.runs.len());
        for (r, run) in self.runs.iter().enumerate() {
            let patches = run.patches.iter().enumerate().map(|(i, patch)| {
                let name = run
                    .name
                    .as_ref()
                    .map_or(String::new(), |n| format!(" ({n})"));
                patch.resolve(model, folder, self.seed, &mut bases, || {
                    format!("run {r}{name}, patch {i}")
                })
            });
            runs.push(Run {
                name: run.name.clone(),
                patches: patches.collect::<Result<_, _>>()?,
            });
        }
        let runs: Arc<[Run]> = runs.into();
        let pairs = self.pairs.iter().enumerate().map(|(p, text)| {
            let pair = self.pair(text, model, first_token, &format!("pair {p}"))?;
            Ok(PairRuns {
                pair,
                runs: runs.clone(),
            })
        });
        pairs.collect()
    }

    fn pair(
        &self,
        text: &PairText,
        model: &Checkpoint,
        first_token: bool,
        at: &str,
    ) -> Result<Pair, ExperimentError> {
        let meaning = |problem: &str| ExperimentError::Meaning {
            at: at.into(),
            problem: problem.into(),
        };
        let tokens = |error: ModelError| ExperimentError::Tokens {
            at: at.into(),
            error: error.into(),
        };
        let encode = |text: &str| model.text().and_then(|t| t.encode(text)).map_err(tokens);
        let base = match (&text.base, &text.base_ids) {
            (Some(base), None) => encode(base)?,
            (None, Some(ids)) => ids.clone(),
            _ => return Err(meaning("give either base or base_ids")),
        };
        let source = match (&text.source, &text.source_ids) {
            (Some(source), None) => Some(encode(source)?),
            (None, Some(ids)) => Some(ids.clone()),
            (None, None) => None,
            _ => return Err(meaning("give either source or source_ids, not both")),
        };
        let own = !(text.targets.is_empty() && text.target_ids.is_empty());
        let (texts, ids) = if own {
            (&text.targets, &text.target_ids)
        } else {
            (&self.targets, &self.target_ids)
        };
        let all = |texts: &[String], ids: &[u32]| -> Result<Vec<u32>, ExperimentError> {
            let id = |text: &String| model.text().and_then(|t| t.target(text, first_token));
            let named: Result<Vec<u32>, ModelError> = texts.iter().map(id).collect();
            Ok([&named.map_err(tokens)?[..], ids].concat())
        };
        let targets = all(texts, ids)?;
        if targets.is_empty() {
            return Err(meaning("has no targets: give targets or target_ids"));
        }
        Ok(Pair {
            base,
            source,
            targets,
            wrong: all(&text.wrong_targets, &text.wrong_target_ids)?,
            readouts: Vec::new(),
        })
    }
}

impl PatchText {
    /// The patch that this text means. Bases that are named again are shared.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`] at the place that `at` describes.
    pub fn resolve(
        &self,
        model: &Checkpoint,
        folder: &Path,
        seed: u64,
        bases: &mut Bases,
        at: impl Fn() -> String,
    ) -> Result<Patch, ExperimentError> {
        let meaning = |problem: String| ExperimentError::Meaning { at: at(), problem };
        let layer = match (self.component.layer, self.layer) {
            (Some(a), Some(b)) if a != b => {
                return Err(meaning(format!(
                    "names layer {a} in its component and {b} as its layer"
                )));
            }
            (a, b) => a.or(b),
        };
        let vector = || {
            let text = self.value.as_deref();
            text.map(|text| read_vector(text, folder))
                .transpose()
                .map_err(|error| ExperimentError::Vector { at: at(), error })
        };
        let number = |value: Option<f64>, name: &str, op: &str| {
            value.ok_or_else(|| meaning(format!("`{op}` needs {name}")))
        };
        let op = match self.op {
            OpName::Interchange => Op::Interchange,
            OpName::Zero => Op::Zero,
            OpName::Set => {
                Op::Set(vector()?.ok_or_else(|| {
                    meaning("`set` needs value = \"F.safetensors#tensor\"".into())
                })?)
            }
            OpName::Add => Op::Add(vector()?),
            OpName::Subtract => Op::Subtract(vector()?),
            OpName::Scale => Op::Scale(number(self.alpha, "alpha, its factor", "scale")?),
            OpName::Interpolate => Op::Interpolate(number(self.alpha, "alpha", "interpolate")?),
            OpName::Noise => Op::Noise {
                level: number(self.level, "level, its standard deviation", "noise")?,
                seed: self.seed.unwrap_or(seed),
                sample: self.sample.unwrap_or(0),
            },
            OpName::Mean => Op::Mean(self.mean(model, folder, &at)?),
            OpName::Function => {
                let problem = "`function` is a closure of a program that uses the library: no file \
                                   has one";
                return Err(meaning(problem.into()));
            }
        };
        let reads = op.reads_source();
        let uses_alpha = matches!(self.op, OpName::Scale | OpName::Interpolate);
        let uses_value = matches!(
            self.op,
            OpName::Set | OpName::Add | OpName::Subtract | OpName::Mean
        );
        for (given, used, name) in [
            (self.alpha.is_some(), uses_alpha, "alpha"),
            (self.level.is_some(), self.op == OpName::Noise, "level"),
            (self.sample.is_some(), self.op == OpName::Noise, "sample"),
            (self.seed.is_some(), self.op == OpName::Noise, "seed"),
            (self.value.is_some(), uses_value, "value"),
            (self.mean_ids.is_some(), self.op == OpName::Mean, "mean_ids"),
            (self.source != OriginName::Source, reads, "source"),
            (
                self.source_layer.is_some(),
                reads || self.op == OpName::Mean,
                "source_layer",
            ),
            (
                self.source_heads.is_some(),
                reads || self.op == OpName::Mean,
                "source_heads",
            ),
            (self.source_positions.is_some(), reads, "source_positions"),
        ] {
            if given && !used {
                return Err(meaning(format!(
                    "`{}` takes no {name}: leave it out",
                    op.label()
                )));
            }
        }
        let subspaces = self.subspaces.as_deref();
        let columns = columns(self.columns.as_ref(), self.partitions.as_deref(), subspaces);
        let basis = self.basis.as_ref().map(|text| bases.read(text, folder));
        let basis = basis.transpose().map_err(|error| ExperimentError::Basis {
            at: at(),
            error: error.into(),
        })?;
        Ok(Patch {
            component: self.component.component,
            layer,
            heads: self.heads.clone(),
            positions: self.positions.clone(),
            keys: self.keys.clone(),
            columns: columns.map_err(meaning)?,
            basis,
            op,
            origin: match self.source {
                OriginName::Source => Origin::Source,
                OriginName::Base => Origin::Base,
            },
            source_layer: self.source_layer,
            source_heads: self.source_heads.clone(),
            source_positions: self.source_positions.clone(),
        })
    }

    fn mean(
        &self,
        model: &Checkpoint,
        folder: &Path,
        at: &impl Fn() -> String,
    ) -> Result<MeanOver, ExperimentError> {
        match (&self.mean_ids, &self.value) {
            (Some(ids), None) => Ok(MeanOver {
                label: ids_label(ids),
                prompts: ids.clone().into(),
            }),
            (None, Some(file)) => mean_over(file, model, folder).map_err(|problem| match problem {
                MeanError::Tokens(error) => ExperimentError::Tokens {
                    at: at(),
                    error: error.into(),
                },
                MeanError::Read(problem) => ExperimentError::Meaning { at: at(), problem },
            }),
            _ => Err(ExperimentError::Meaning {
                at: at(),
                problem: "`mean` needs either value = \"PROMPTS.txt\" or mean_ids".into(),
            }),
        }
    }

    /// How a patch is spelt.
    pub fn from_patch(patch: &Patch) -> Self {
        let (mut value, mut alpha, mut level, mut sample, mut noise_seed) =
            (None, None, None, None, None);
        let mut mean_ids = None;
        let op = match &patch.op {
            Op::Interchange => OpName::Interchange,
            Op::Zero => OpName::Zero,
            Op::Set(v) => {
                value = Some(v.label.clone());
                OpName::Set
            }
            Op::Mean(over) => {
                match ids_label(&over.prompts) == over.label {
                    true => mean_ids = Some(over.prompts.to_vec()),
                    false => value = Some(over.label.clone()),
                }
                OpName::Mean
            }
            Op::Add(v) => {
                value = v.as_ref().map(|v: &Vector| v.label.clone());
                OpName::Add
            }
            Op::Subtract(v) => {
                value = v.as_ref().map(|v: &Vector| v.label.clone());
                OpName::Subtract
            }
            Op::Scale(x) => {
                alpha = Some(*x);
                OpName::Scale
            }
            Op::Interpolate(x) => {
                alpha = Some(*x);
                OpName::Interpolate
            }
            Op::Noise {
                level: l,
                seed,
                sample: s,
            } => {
                (level, sample, noise_seed) = (Some(*l), Some(*s), Some(*seed));
                OpName::Noise
            }
            Op::Function(function) => {
                value = Some(function.label().to_owned());
                OpName::Function
            }
        };
        Self {
            component: Site {
                component: patch.component,
                layer: None,
            },
            layer: patch.layer,
            heads: patch.heads.clone(),
            positions: patch.positions.clone(),
            keys: patch.keys.clone(),
            columns: patch.columns.as_deref().map(Columns::of),
            partitions: None,
            subspaces: None,
            basis: patch.basis.as_ref().map(|basis| basis.label().to_owned()),
            op,
            source: match patch.origin {
                Origin::Source => OriginName::Source,
                Origin::Base => OriginName::Base,
            },
            source_layer: patch.source_layer,
            source_heads: patch.source_heads.clone(),
            source_positions: patch.source_positions.clone(),
            value,
            alpha,
            level,
            sample,
            seed: noise_seed,
            mean_ids,
        }
    }
}

/// How prompts given as token ids are named: by themselves.
fn ids_label(prompts: &[Vec<u32>]) -> String {
    serde_json::json!(prompts).to_string()
}

/// Why a file of prompts cannot be used for a mean.
#[derive(Debug, thiserror::Error)]
pub enum MeanError {
    /// A line cannot be turned into tokens.
    #[error(transparent)]
    Tokens(#[from] ModelError),
    /// The file cannot be read, or is empty.
    #[error("{0}")]
    Read(String),
}

/// Prompts of a text file, one a line; empty lines are skipped.
///
/// # Errors
///
/// [`MeanError`] for a file that cannot be read, is not UTF-8 or has no prompt.
pub fn mean_over(file: &str, model: &Checkpoint, folder: &Path) -> Result<MeanOver, MeanError> {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        MeanError::Read(format!(
            "cannot read the prompts in {}: {e}",
            path.display()
        ))
    })?;
    let lines = text.lines().filter(|line| !line.is_empty());
    let prompts = lines
        .map(|line| model.text()?.encode(line))
        .collect::<Result<Vec<_>, _>>()?;
    if prompts.is_empty() {
        return Err(MeanError::Read(format!(
            "{} has no prompts: give one a line",
            path.display()
        )));
    }
    Ok(MeanOver {
        label: file.to_owned(),
        prompts: prompts.into(),
    })
}

/// The component of a site text, for callers that need no layer.
pub fn component(name: &str) -> Result<Component, crate::site::UnknownComponent> {
    name.parse::<Site>().map(|site| site.component)
}
