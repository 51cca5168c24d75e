//! Experiment files: pairs, targets, and runs of one or several patches, in TOML or JSON.
//!
//! The file is deserialised into the structures below with unknown keys refused, so a misspelt key
//! is an error with its line and column instead of a patch that silently did nothing. Text becomes
//! token ids and named tensors become numbers in [`Experiment::resolve`].

mod error;
mod mean;
mod patch;
mod positions;
mod scope;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

pub use self::error::ExperimentError;
pub use self::mean::{MeanError, mean_over};
use self::patch::Subspace;
pub use self::patch::{OpName, PatchText};
pub use self::positions::PositionsText;
use self::scope::Scope;
use crate::basis::read::BasisFiles;
use crate::model::{Checkpoint, ModelError, SeveralTokens};
use crate::patch::{Op, Prompt, Run};
use crate::prompt::pair::{Pair, PairRuns, PromptText};

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
    /// Prompt pairs; none where they are a data set's rows.
    #[serde(rename = "pair", default)]
    pub pairs: Vec<PairText>,
    /// Runs, each applied to every pair unless it names some.
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
    /// Further prompts by name, as text or token ids, for runs that patch or read them.
    #[serde(default)]
    pub prompts: BTreeMap<String, PromptText>,
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
    /// Name for the result table, and for later runs that read this one.
    pub name: Option<String>,
    /// The prompt that is patched: `base` (the default), `source`, or one of the pair's further
    /// prompts. A run of another prompt than the base is there to be read and has no rows.
    pub prompt: Option<String>,
    /// Whether the run is only there for later runs to read, and has no rows.
    #[serde(default)]
    pub step: bool,
    /// The pairs that it applies to, from 0; all of them unless given.
    pub pairs: Option<Vec<usize>>,
    /// Patches in the order in which overlapping ones act.
    pub patches: Vec<PatchText>,
}

impl RunText {
    /// The name of where all its patches patch.
    fn position(&self) -> Option<String> {
        let mut names = self.patches.iter().map(|patch| patch.positions.name());
        let first = names.next()??;
        names
            .all(|name| name.as_ref() == Some(&first))
            .then_some(first)
    }
}

impl Experiment {
    /// Reads a `.toml` or `.json` file.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`] naming the file, and line and column where it is malformed.
    pub fn open(path: &Path) -> Result<Self, ExperimentError> {
        let parse = match path.extension().and_then(|e| e.to_str()) {
            Some("toml") => Self::from_toml,
            Some("json") => Self::from_json,
            _ => return Err(ExperimentError::Extension { path: path.into() }),
        };
        let read = || {
            let bytes = std::fs::read(path)?;
            String::from_utf8(bytes)
                .map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e))
        };
        let text = read().map_err(|error| ExperimentError::Read {
            path: path.into(),
            error,
        })?;
        match text.trim().is_empty() {
            true => Err(ExperimentError::Empty { path: path.into() }),
            false => parse(&text, path),
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

    /// What its patches read, relative to the experiment file: `F#name`, or a file of prompts.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let patches = self.runs.iter().flat_map(|run| &run.patches);
        patches.flat_map(|patch| {
            let named = [&patch.value, &patch.basis];
            named.into_iter().filter_map(Option::as_deref)
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
        several: SeveralTokens,
    ) -> Result<Vec<PairRuns>, ExperimentError> {
        self.of_pairs(self.own_pairs(model, several)?, model, folder)
    }

    /// The targets above all pairs, each by its tokens.
    ///
    /// # Errors
    ///
    /// [`ExperimentError::Tokens`].
    pub fn targets(
        &self,
        model: &Checkpoint,
        several: SeveralTokens,
    ) -> Result<Vec<Vec<u32>>, ExperimentError> {
        let targets = answers((&self.targets, &self.target_ids), model, several);
        targets.map_err(|error| ExperimentError::Tokens {
            at: "the targets above all pairs".into(),
            error: error.into(),
        })
    }

    /// The experiment's own pairs, as they are typed.
    ///
    /// # Errors
    ///
    /// As [`Experiment::resolve`].
    pub fn own_pairs(
        &self,
        model: &Checkpoint,
        several: SeveralTokens,
    ) -> Result<Vec<Pair>, ExperimentError> {
        let pair = |(p, text)| self.pair(text, model, several, &format!("pair {p}"));
        self.pairs.iter().enumerate().map(pair).collect()
    }

    /// The same runs of other pairs, such as a data set's rows: positions by name are looked up in each.
    ///
    /// # Errors
    ///
    /// As [`Experiment::resolve`].
    pub fn of_pairs(
        &self,
        of: Vec<Pair>,
        model: &Checkpoint,
        folder: &Path,
    ) -> Result<Vec<PairRuns>, ExperimentError> {
        if of.is_empty() {
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
        let typed = |texts: &[String], ids: &[u32]| !(texts.is_empty() && ids.is_empty());
        let own = |pair: &PairText| typed(&pair.targets, &pair.target_ids);
        let own_pairs = !self.pairs.is_empty();
        if own_pairs && typed(&self.targets, &self.target_ids) && self.pairs.iter().all(own) {
            return Err(ExperimentError::Meaning {
                at: "the targets above all pairs are for pairs without their own".into(),
                problem: "every pair has its own, so leave either out".into(),
            });
        }
        let at = |r: usize, i: usize| {
            let name = self.runs[r].name.as_ref();
            let name = name.map_or(String::new(), |n| format!(" ({n})"));
            format!("run {r}{name}, patch {i}")
        };
        // what a patch does is the same in every pair, and may come from a file
        let mut bases = BasisFiles::default();
        let mut ops: Vec<Vec<(Op, Subspace)>> = Vec::with_capacity(self.runs.len());
        for (r, run) in self.runs.iter().enumerate() {
            let mut own = Vec::with_capacity(run.patches.len());
            for (i, patch) in run.patches.iter().enumerate() {
                let op = patch.op(model, folder, self.seed, &at(r, i))?;
                own.push((op, patch.subspace(folder, &mut bases, &at(r, i))?));
            }
            ops.push(own);
            let unknown = run.pairs.iter().flatten().find(|p| **p >= of.len());
            if let Some(p) = unknown {
                return Err(ExperimentError::Meaning {
                    at: format!("run {r}"),
                    problem: format!("applies to pair {p}, but pairs are 0 to {}", of.len() - 1),
                });
            }
        }
        let mut pairs: Vec<PairRuns> = Vec::with_capacity(of.len());
        for (p, pair) in of.into_iter().enumerate() {
            let runs = self.runs_of(p, &pair, model, &ops, &at)?;
            // most experiments do the same to every pair
            let runs = match pairs.last() {
                Some(last) if *last.runs == *runs => last.runs.clone(),
                _ => runs.into(),
            };
            pairs.push(PairRuns { pair, runs });
        }
        Ok(pairs)
    }

    /// The runs of one pair.
    fn runs_of(
        &self,
        p: usize,
        pair: &Pair,
        model: &Checkpoint,
        ops: &[Vec<(Op, Subspace)>],
        at: &dyn Fn(usize, usize) -> String,
    ) -> Result<Vec<Run>, ExperimentError> {
        let mut scope = Scope::new(pair, model);
        let mut runs = Vec::with_capacity(self.runs.len());
        for (r, text) in self.runs.iter().enumerate() {
            if text.pairs.as_ref().is_some_and(|pairs| !pairs.contains(&p)) {
                continue;
            }
            let prompt = text.prompt.as_ref().map(|name| scope.prompt(name));
            let prompt = prompt
                .transpose()
                .map_err(|problem| ExperimentError::Meaning {
                    at: format!("run {r}"),
                    problem,
                })?;
            let prompt = prompt.unwrap_or_default();
            let mut patches = Vec::with_capacity(text.patches.len());
            for (i, (patch, op)) in text.patches.iter().zip(&ops[r]).enumerate() {
                patches.extend(patch.patches(op, &scope, prompt, &at(r, i))?);
            }
            runs.push(Run {
                name: text.name.clone(),
                position: text.position(),
                layer: None,
                prompt,
                at: None,
                step: text.step || prompt != Prompt::Base,
                patches,
            });
            scope.runs.push((text, prompt));
        }
        Ok(runs)
    }

    fn pair(
        &self,
        text: &PairText,
        model: &Checkpoint,
        several: SeveralTokens,
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
        let mut prompts = Vec::new();
        for (name, prompt) in &text.prompts {
            prompts.push((name.clone(), prompt.tokens(model).map_err(tokens)?));
        }
        for (i, (name, _)) in prompts.iter().enumerate() {
            let taken = prompts[..i].iter().any(|(n, _)| n == name);
            if taken || matches!(name.as_str(), "base" | "source") {
                return Err(meaning(&format!(
                    "has two prompts called {name:?}: give each a name of its own"
                )));
            }
        }
        let own = !(text.targets.is_empty() && text.target_ids.is_empty());
        let (texts, ids) = if own {
            (&text.targets, &text.target_ids)
        } else {
            (&self.targets, &self.target_ids)
        };
        let targets = answers((texts, ids), model, several).map_err(tokens)?;
        let wrong = (&text.wrong_targets[..], &text.wrong_target_ids[..]);
        let wrong = answers(wrong, model, several).map_err(tokens)?;
        // without targets nothing is read out, which is enough for runs that only collect
        let collects = |patch: &PatchText| patch.op == OpName::Collect;
        let only_collected = self
            .runs
            .iter()
            .all(|run| !run.patches.is_empty() && run.patches.iter().all(collects));
        if targets.is_empty() && !only_collected {
            return Err(meaning("has no targets: give targets or target_ids"));
        }
        let pair = Pair {
            base,
            source,
            prompts,
            ..Pair::default()
        };
        Ok(pair.answered(&targets, &wrong))
    }
}

/// Answers as text, then those given as ids, each by its tokens.
fn answers(
    (texts, ids): (&[String], &[u32]),
    model: &Checkpoint,
    several: SeveralTokens,
) -> Result<Vec<Vec<u32>>, ModelError> {
    let named = texts.iter().map(|text| model.text()?.answer(text, several));
    named.chain(ids.iter().map(|id| Ok(vec![*id]))).collect()
}
