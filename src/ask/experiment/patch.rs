//! A patch as an experiment file and the `patches` column spell it.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::ExperimentError;
use super::mean::{MeanError, ids_label, mean_over};
use super::positions::PositionsText;
use super::scope::Scope;
use crate::ask::operator::filled;
use crate::ask::subspace::{Columns, columns};
use crate::basis::Basis;
use crate::basis::read::BasisFiles;

use crate::model::Checkpoint;
use crate::patch::{MeanOver, Op, Origin, Patch, Prompt, Run, Vector};
use crate::prompt::pair::PairRuns;
use crate::site::Site;
use crate::text::shortest;

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
    /// A window of layers instead of one: the same patch in each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<usize>,
    /// Heads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<usize>,
    /// Positions in the prompt that is patched.
    pub positions: PositionsText,
    /// Keys, for scores and pattern, by numbers or names as positions are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<PositionsText>,
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
    /// Whether a row keeps what the basis does not hold of it; it does unless this is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_term: Option<bool>,
    /// Operator.
    #[serde(default)]
    pub op: OpName,
    /// The prompt whose clean run is read: `source` (the default), `base`, or one of the pair's
    /// further prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The run whose activations are read instead: an earlier one of the same pair, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_run: Option<String>,
    /// Component that is read instead of the one that is written, with rows as wide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_component: Option<String>,
    /// Layer that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_layer: Option<usize>,
    /// Heads that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_heads: Option<Vec<usize>>,
    /// Positions that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_positions: Option<PositionsText>,
    /// `F.safetensors#tensor` for set, add and subtract, or for set a number; a file of prompts for mean.
    #[serde(
        default,
        deserialize_with = "text_or_number",
        skip_serializing_if = "Option::is_none"
    )]
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
    Collect,
    Skip,
    Zero,
    Knockout,
    Set,
    Mean,
    #[serde(rename = "mean-by-position")]
    MeanByPosition,
    Add,
    Subtract,
    Scale,
    Interpolate,
    Noise,
    Function,
}

fn site<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Site, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(serde::de::Error::custom)
}

/// A value as text, also where it stands as a number.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        Number(f64),
    }
    Ok(Option::deserialize(deserializer)?.map(|value| match value {
        Value::Text(text) => text,
        Value::Number(number) => shortest(number),
    }))
}

fn site_name<S: Serializer>(site: &Site, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(site.component.name())
}

/// On what a patch acts, where that is not whole rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Subspace {
    columns: Option<Vec<usize>>,
    basis: Option<Arc<Basis>>,
}

impl PatchText {
    /// What the patch does, whatever it is applied to.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`] at `at`: a value that is missing, cannot be read, or has no use.
    pub(super) fn op(
        &self,
        model: &Checkpoint,
        folder: &Path,
        seed: u64,
        at: &str,
    ) -> Result<Op, ExperimentError> {
        let meaning = |problem: String| ExperimentError::Meaning {
            at: at.to_owned(),
            problem,
        };
        let unread = |error| ExperimentError::Vector {
            at: at.to_owned(),
            error,
        };
        let vector = || {
            let text = self.value.as_deref();
            text.map(|text| Vector::read(text, folder))
                .transpose()
                .map_err(unread)
        };
        let number = |value: Option<f64>, name: &str, op: &str| {
            value.ok_or_else(|| meaning(format!("`{op}` needs {name}")))
        };
        let op = match self.op {
            OpName::Interchange => Op::Interchange,
            OpName::Collect => Op::Collect,
            OpName::Skip => Op::Skip,
            OpName::Zero => Op::Zero,
            OpName::Knockout => Op::Knockout,
            OpName::Set => {
                let text = self.value.as_deref().ok_or_else(|| {
                    meaning("`set` needs value = \"F.safetensors#tensor\", or a number".into())
                })?;
                match filled(text).map_err(|error| meaning(error.to_string()))? {
                    Some(op) => op,
                    None => Op::Set(Vector::read(text, folder).map_err(unread)?),
                }
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
            OpName::Mean => Op::Mean(self.mean(model, folder, at)?),
            OpName::MeanByPosition => Op::Mean(MeanOver {
                by_position: true,
                ..self.mean(model, folder, at)?
            }),
            OpName::Function => {
                let problem = "`function` is a closure of a program that uses the library: no file \
                               has one";
                return Err(meaning(problem.into()));
            }
        };
        self.nothing_idle(&op).map_err(meaning)?;
        Ok(op)
    }

    /// Refuses what the operator has no use for.
    fn nothing_idle(&self, op: &Op) -> Result<(), String> {
        let reads = op.reads_source();
        let mean = matches!(self.op, OpName::Mean | OpName::MeanByPosition);
        let noise = self.op == OpName::Noise;
        let alpha = matches!(self.op, OpName::Scale | OpName::Interpolate);
        let value = mean || matches!(self.op, OpName::Set | OpName::Add | OpName::Subtract);
        let given_and_used = [
            (self.alpha.is_some(), alpha, "alpha"),
            (self.level.is_some(), noise, "level"),
            (self.sample.is_some(), noise, "sample"),
            (self.seed.is_some(), noise, "seed"),
            (self.value.is_some(), value, "value"),
            (self.mean_ids.is_some(), mean, "mean_ids"),
            (self.source.is_some(), reads, "source"),
            (self.source_run.is_some(), reads, "source_run"),
            (self.source_component.is_some(), reads, "source_component"),
            (self.source_layer.is_some(), reads || mean, "source_layer"),
            (self.source_heads.is_some(), reads || mean, "source_heads"),
            (self.source_positions.is_some(), reads, "source_positions"),
        ];
        let idle = given_and_used
            .iter()
            .find(|(given, used, _)| *given && !used);
        idle.map_or(Ok(()), |(_, _, name)| {
            Err(format!("`{}` takes no {name}: leave it out", op.label()))
        })
    }

    /// On what the patch acts: columns or coordinates, and a basis. Bases that are named again are
    /// shared.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`] at `at`: a basis that cannot be read, or parts that are none.
    pub(super) fn subspace(
        &self,
        folder: &Path,
        bases: &mut BasisFiles,
        at: &str,
    ) -> Result<Subspace, ExperimentError> {
        let subspaces = self.subspaces.as_deref();
        let columns = columns(self.columns.as_ref(), self.partitions.as_deref(), subspaces);
        let columns = columns.map_err(|problem| ExperimentError::Meaning {
            at: at.to_owned(),
            problem,
        })?;
        if let (None, Some(_)) = (&self.basis, self.error_term) {
            return Err(ExperimentError::Meaning {
                at: at.to_owned(),
                problem: "has an error_term without a basis: leave it out".into(),
            });
        }
        let read = |text: &String| bases.read(text, folder, self.error_term);
        let basis = self.basis.as_ref().map(read);
        let basis = basis.transpose().map_err(|error| ExperimentError::Basis {
            at: at.to_owned(),
            error: error.into(),
        })?;
        Ok(Subspace { columns, basis })
    }

    /// The patches that this text means in one pair: one, or one for each layer of a window.
    ///
    /// # Errors
    ///
    /// [`ExperimentError`] at `at`: names of prompts, runs or positions that are nowhere.
    pub(super) fn patches(
        &self,
        (op, subspace): &(Op, Subspace),
        scope: &Scope<'_>,
        prompt: Prompt,
        at: &str,
    ) -> Result<Vec<Patch>, ExperimentError> {
        let meaning = |problem: String| ExperimentError::Meaning {
            at: at.to_owned(),
            problem,
        };
        let layers: Vec<Option<usize>> = match (self.component.layer, self.layer, &self.layers[..])
        {
            (Some(a), Some(b), []) if a != b => {
                let problem = format!("names layer {a} in its component and {b} as its layer");
                return Err(meaning(problem));
            }
            (a, b, []) => vec![a.or(b)],
            (None, None, window) if self.source_layer.is_none() => {
                if let Some(twice) = (1..window.len()).find(|i| window[..*i].contains(&window[*i]))
                {
                    return Err(meaning(format!(
                        "names layer {} twice in its window: name it once, or write two patches to act twice",
                        window[twice]
                    )));
                }
                window.iter().copied().map(Some).collect()
            }
            (None, None, _) => {
                let problem = "has a window of layers and one source_layer: give either";
                return Err(meaning(problem.into()));
            }
            _ => {
                let problem = "has both a layer and layers: give either";
                return Err(meaning(problem.into()));
            }
        };
        let origin = match (&self.source, &self.source_run) {
            (None, None) => Origin::default(),
            (Some(name), None) => Origin::Clean(scope.prompt(name).map_err(meaning)?),
            (None, Some(name)) => Origin::Run(scope.run(name).map_err(meaning)?),
            (Some(_), Some(_)) => {
                let problem = "has both a source and a source_run: give either";
                return Err(meaning(problem.into()));
            }
        };
        let named = |name: &String| {
            let site: Site = name
                .parse()
                .map_err(|error| meaning(format!("source_component: {error}")))?;
            match site.layer {
                None => Ok(site.component),
                Some(_) => Err(meaning(format!(
                    "names a layer in its source_component `{name}`: give it as source_layer"
                ))),
            }
        };
        let source_component = self.source_component.as_ref().map(named).transpose()?;
        let positions = scope.positions(&self.positions, prompt, at)?;
        let keys = self
            .keys
            .as_ref()
            .map(|keys| scope.positions(keys, prompt, at));
        let keys = keys.transpose()?;
        let read = op.reads_source().then_some(());
        let source_positions = match (read, &self.source_positions) {
            (None, _) => None,
            (Some(()), Some(text)) => Some(scope.positions(text, scope.prompt_of(origin), at)?),
            // numbers mean the same everywhere; a name is looked up where it is read
            (Some(()), None) if self.positions.as_numbers().is_some() => None,
            (Some(()), None) => {
                let there = scope.positions(&self.positions, scope.prompt_of(origin), at)?;
                if there.len() != positions.len() {
                    return Err(meaning(format!(
                        "names {} positions in the {} prompt and {} in the {} prompt that it reads: give \
                         positions and source_positions",
                        positions.len(),
                        scope.pair.prompt_name(prompt),
                        there.len(),
                        scope.pair.prompt_name(scope.prompt_of(origin)),
                    )));
                }
                (there != positions).then_some(there)
            }
        };
        let patch = |layer| Patch {
            component: self.component.component,
            layer,
            heads: self.heads.clone(),
            positions: positions.clone(),
            keys: keys.clone(),
            columns: subspace.columns.clone(),
            basis: subspace.basis.clone(),
            op: op.clone(),
            origin,
            source_component,
            source_layer: self.source_layer,
            source_heads: self.source_heads.clone(),
            source_positions: source_positions.clone(),
        };
        Ok(layers.into_iter().map(patch).collect())
    }

    fn mean(
        &self,
        model: &Checkpoint,
        folder: &Path,
        at: &str,
    ) -> Result<MeanOver, ExperimentError> {
        match (&self.mean_ids, &self.value) {
            (Some(ids), None) => Ok(MeanOver {
                label: ids_label(ids),
                prompts: ids.clone().into(),
                by_position: false,
            }),
            (None, Some(file)) => mean_over(file, model, folder).map_err(|problem| match problem {
                MeanError::Tokens(error) => ExperimentError::Tokens {
                    at: at.to_owned(),
                    error: error.into(),
                },
                MeanError::Read(problem) => ExperimentError::Meaning {
                    at: at.to_owned(),
                    problem,
                },
            }),
            _ => Err(ExperimentError::Meaning {
                at: at.to_owned(),
                problem: "a mean needs either value = \"PROMPTS.txt\" or mean_ids".into(),
            }),
        }
    }

    /// How a patch of one of a pair's runs is spelt.
    pub fn from_patch(patch: &Patch, PairRuns { pair, runs }: &PairRuns) -> Self {
        let (mut value, mut alpha, mut level, mut sample, mut noise_seed) =
            (None, None, None, None, None);
        let mut mean_ids = None;
        let op = match &patch.op {
            Op::Interchange => OpName::Interchange,
            Op::Collect => OpName::Collect,
            Op::Skip => OpName::Skip,
            Op::Zero => OpName::Zero,
            Op::Knockout => OpName::Knockout,
            Op::Fill(x) => {
                value = Some(shortest(*x));
                OpName::Set
            }
            Op::Set(v) => {
                value = Some(v.label.clone());
                OpName::Set
            }
            Op::Mean(over) => {
                match ids_label(&over.prompts) == over.label {
                    true => mean_ids = Some(over.prompts.to_vec()),
                    false => value = Some(over.label.clone()),
                }
                match over.by_position {
                    true => OpName::MeanByPosition,
                    false => OpName::Mean,
                }
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
            layers: Vec::new(),
            heads: patch.heads.clone(),
            positions: PositionsText::numbers(&patch.positions),
            keys: patch.keys.as_deref().map(PositionsText::numbers),
            columns: patch.columns.as_deref().map(Columns::of),
            partitions: None,
            subspaces: None,
            basis: patch.basis.as_ref().map(|basis| basis.label().to_owned()),
            error_term: match &patch.basis {
                Some(basis) if !basis.is_by_difference() => Some(false),
                _ => None,
            },
            op,
            source: match patch.origin {
                Origin::Clean(Prompt::Source) | Origin::Run(_) => None,
                Origin::Clean(prompt) => Some(pair.prompt_name(prompt).to_owned()),
            },
            source_run: match patch.origin {
                Origin::Clean(_) => None,
                Origin::Run(run) => Some(run_name(runs, run)),
            },
            source_component: patch.source_component.map(|c| c.name().to_owned()),
            source_layer: patch.source_layer,
            source_heads: patch.source_heads.clone(),
            source_positions: patch
                .source_positions
                .as_deref()
                .map(PositionsText::numbers),
            value,
            alpha,
            level,
            sample,
            seed: noise_seed,
            mean_ids,
        }
    }
}

/// A run's name, or its number where it has none.
fn run_name(runs: &[Run], run: usize) -> String {
    let name = runs.get(run).and_then(|r| r.name.clone());
    name.unwrap_or_else(|| run.to_string())
}
