//! Whether a pair and its patches fit the model, before anything runs.
//!
//! Everything behind this may index without looking again. Each error is one sentence that names
//! what was wrong and what would be right, because a sweep is usually typed by hand.

mod chain;

use std::collections::HashSet;

use crate::model::Config;
use crate::patch::{Op, Origin, Patch, Prompt, Run};
use crate::plan::cell;
use crate::sweep::check_subspace::check_subspace;
use crate::sweep::pair::Pair;

/// What does not fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A prompt without tokens.
    #[error("the {which} prompt is empty: give at least one token")]
    EmptyPrompt {
        /// `base`, `source`, or a further prompt's name.
        which: String,
    },
    /// More tokens than positions.
    #[error("the {which} prompt has {tokens} tokens, more than the model's context of {context}")]
    PromptTooLong {
        /// `base`, `source`, or a further prompt's name.
        which: String,
        /// Tokens in the prompt.
        tokens: usize,
        /// Positions of the model.
        context: usize,
    },
    /// A token id that the model does not have.
    #[error("token id {id} is not in the vocabulary: ids are 0 to {}", vocab - 1)]
    TokenId {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A target that is there already.
    #[error("target id {id} is given twice: name each target once")]
    TargetTwice {
        /// The id.
        id: u32,
    },
    /// A target that is a wrong one too.
    #[error("target id {id} is both right and wrong: name it as one of them")]
    RightAndWrong {
        /// The id.
        id: u32,
    },
    /// A head, position or key that one patch names twice.
    #[error(
        "{site} names {what} {value} twice in one patch: name it once, or write two patches to act twice"
    )]
    Twice {
        /// `head`, `position` or `key`.
        what: &'static str,
        /// The value.
        value: usize,
        /// The component.
        site: &'static str,
    },
    /// A layer, head, position or key out of range.
    #[error("{what} {value} of {site} is out of range: {what}s are 0 to {last}")]
    OutOfRange {
        /// `layer`, `head`, `position`, …
        what: &'static str,
        /// As given.
        value: usize,
        /// The component.
        site: &'static str,
        /// The largest that exists.
        last: usize,
    },
    /// A layer where there is none, heads where there are none, or the reverse.
    #[error("{site} {problem}")]
    Shape {
        /// The component.
        site: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// An operator that reads a source prompt, and no source prompt.
    #[error("`{op}` at {site} reads a source prompt, but the pair has none: give one")]
    NoSource {
        /// The operator.
        op: String,
        /// The component.
        site: &'static str,
    },
    /// A run of a prompt that the pair does not have.
    #[error("patches the {prompt} prompt, but the pair has none: give one")]
    NoPrompt {
        /// Which.
        prompt: &'static str,
    },
    /// A run of another prompt than the base that is to be read out.
    #[error(
        "patches the {prompt} prompt, whose answers are not the base's: make it a step, which other runs read and which has no rows"
    )]
    NotABase {
        /// Which.
        prompt: String,
    },
    /// A run that is read by itself, directly or through others, or does not exist.
    #[error("`{op}` at {site} reads run {run}, {problem}")]
    Chain {
        /// The operator.
        op: String,
        /// The component.
        site: &'static str,
        /// Index of the run.
        run: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Position p is read from a source that is too short.
    #[error(
        "`{op}` at {site} reads position {position} of the {prompt} prompt, which has only {length} \
         tokens where the patched one has {patched}: give prompts of equal length, or source_positions"
    )]
    SourceTooShort {
        /// The operator.
        op: String,
        /// The component.
        site: &'static str,
        /// The position read.
        position: usize,
        /// The prompt that is read.
        prompt: String,
        /// Its tokens.
        length: usize,
        /// Tokens of the prompt that is patched.
        patched: usize,
    },
    /// A basis of the wrong width.
    #[error(
        "the basis `{label}` is of rows of {found} numbers, but a row of {site} has {expected}"
    )]
    BasisWidth {
        /// How the basis was named.
        label: String,
        /// n.
        found: usize,
        /// The component.
        site: &'static str,
        /// The row's length.
        expected: usize,
    },
    /// A constant of the wrong length.
    #[error("`{label}` has {found} values, but {of} has {expected}")]
    VectorLength {
        /// How the constant was named.
        label: String,
        /// Its length.
        found: usize,
        /// `a row of` the component, or the basis.
        of: String,
        /// The length that fits.
        expected: usize,
    },
}

/// Checks a pair against the model.
///
/// # Errors
///
/// [`CheckError`] for an empty or too long prompt, ids outside the vocabulary, a target given
/// twice, and readout positions beyond the base prompt.
pub fn check_pair(pair: &Pair, config: &Config) -> Result<(), CheckError> {
    let further = (0..pair.prompts.len()).map(Prompt::Further);
    for prompt in [Prompt::Base, Prompt::Source].into_iter().chain(further) {
        let Some(ids) = pair.ids(prompt) else {
            continue;
        };
        let which = pair.prompt_name(prompt).to_owned();
        if ids.is_empty() {
            return Err(CheckError::EmptyPrompt { which });
        }
        if ids.len() > config.context {
            return Err(CheckError::PromptTooLong {
                which,
                tokens: ids.len(),
                context: config.context,
            });
        }
        check_ids(ids, config)?;
    }
    let answers = pair.answers();
    check_ids(&answers, config)?;
    if let Some(&id) = repeated(&answers) {
        return Err(
            match pair.wrong.contains(&id) && pair.targets.contains(&id) {
                true => CheckError::RightAndWrong { id },
                false => CheckError::TargetTwice { id },
            },
        );
    }
    in_range("position", &pair.readouts, pair.base.len(), "the readout")
}

fn check_ids(ids: &[u32], config: &Config) -> Result<(), CheckError> {
    match ids.iter().find(|id| **id as usize >= config.vocab) {
        Some(&id) => Err(CheckError::TokenId {
            id,
            vocab: config.vocab,
        }),
        None => Ok(()),
    }
}

/// The first value that stands a second time.
fn repeated<T: Copy + Eq + std::hash::Hash>(values: &[T]) -> Option<&T> {
    // nearly every patch of a sweep names one head and one position
    if values.len() < 2 {
        return None;
    }
    let mut seen = HashSet::with_capacity(values.len());
    values.iter().find(|v| !seen.insert(**v))
}

pub(super) fn once(
    what: &'static str,
    values: &[usize],
    site: &'static str,
) -> Result<(), CheckError> {
    match repeated(values) {
        Some(&value) => Err(CheckError::Twice { what, value, site }),
        None => Ok(()),
    }
}

pub(super) fn in_range(
    what: &'static str,
    values: &[usize],
    end: usize,
    site: &'static str,
) -> Result<(), CheckError> {
    match values.iter().find(|v| **v >= end) {
        Some(&value) => Err(CheckError::OutOfRange {
            what,
            value,
            site,
            last: end.saturating_sub(1),
        }),
        None => Ok(()),
    }
}

/// Checks one of a pair's runs against the others and the model.
///
/// # Errors
///
/// [`CheckError`] naming the component and what would be right.
pub fn check_run(run: &Run, runs: &[Run], pair: &Pair, config: &Config) -> Result<(), CheckError> {
    let Some(ids) = pair.ids(run.prompt) else {
        let prompt = match run.prompt {
            Prompt::Base => "base",
            Prompt::Source => "source",
            Prompt::Further(_) => "further",
        };
        return Err(CheckError::NoPrompt { prompt });
    };
    if run.prompt != Prompt::Base && !run.step {
        let prompt = pair.prompt_name(run.prompt).to_owned();
        return Err(CheckError::NotABase { prompt });
    }
    run.patches.iter().try_for_each(|patch| {
        check_patch(patch, ids.len(), config)?;
        check_operand(patch, ids.len(), runs, pair, config)?;
        match patch.op {
            Op::Collect => chain::readable(patch, &run.patches, config, "collects"),
            _ => Ok(()),
        }
    })
}

/// Checks where a patch of a prompt of `length` tokens writes.
fn check_patch(patch: &Patch, length: usize, config: &Config) -> Result<(), CheckError> {
    let site = patch.component.name();
    let shape = |problem: String| Err(CheckError::Shape { site, problem });
    let (has_heads, is_global) = (patch.component.has_heads(), patch.component.is_global());
    match patch.layer {
        Some(_) if is_global => return shape("stands outside the layers: give no layer".into()),
        None if !is_global => {
            return shape(format!(
                "needs a layer: layers are 0 to {}",
                config.layers - 1
            ));
        }
        _ => {}
    }
    if has_heads && patch.heads.is_empty() {
        return shape(format!("needs heads: heads are 0 to {}", config.heads - 1));
    }
    if !has_heads && (!patch.heads.is_empty() || patch.source_heads.is_some()) {
        let headed = match site {
            "query_output" | "key_output" | "value_output" | "attention_value_output" => {
                format!(": give no heads, or name head_{site}")
            }
            _ => ": give no heads".to_owned(),
        };
        return shape(format!("has no heads{headed}"));
    }
    if patch.positions.is_empty() {
        return shape(format!(
            "needs positions: positions are 0 to {}",
            length - 1
        ));
    }
    let layers: Vec<usize> = patch.layer.into_iter().chain(patch.source_layer).collect();
    in_range("layer", &layers, config.layers, site)?;
    in_range("head", &patch.heads, config.heads, site)?;
    in_range("position", &patch.positions, length, site)?;
    once("head", &patch.heads, site)?;
    once("position", &patch.positions, site)?;
    if let Some(heads) = &patch.source_heads {
        in_range("source head", heads, config.heads, site)?;
        if heads.len() != patch.heads.len() {
            return shape(format!(
                "has {} heads but {} source_heads: give one for each",
                patch.heads.len(),
                heads.len()
            ));
        }
    }
    if let Some(positions) = &patch.source_positions
        && positions.len() != patch.positions.len()
    {
        return shape(format!(
            "has {} positions but {} source_positions: give one for each",
            patch.positions.len(),
            positions.len()
        ));
    }
    check_keys(patch, length)?;
    check_subspace(patch, config)
}

fn check_keys(patch: &Patch, length: usize) -> Result<(), CheckError> {
    let site = patch.component.name();
    let shape = |problem: String| Err(CheckError::Shape { site, problem });
    if let Some(keys) = &patch.keys {
        if !patch.component.has_keys() {
            return shape(
                "has no keys: give no keys, or patch attention_scores or attention_weight".into(),
            );
        }
        if keys.is_empty() {
            return shape("has an empty list of keys: leave it out to touch every key".into());
        }
        in_range("key", keys, length, site)?;
        once("key", keys, site)?;
        let last = patch.positions.iter().max().copied().unwrap_or(0);
        if let Some(key) = keys.iter().find(|k| **k > last) {
            return shape(format!(
                "is masked at key {key} for every query up to {last}: keys are at most the query"
            ));
        }
    }
    let equal = patch
        .source_positions
        .as_ref()
        .is_none_or(|s| *s == patch.positions);
    if patch.component.has_keys() && patch.op.reads_source() && !equal {
        return shape(
            "can only be read from the same query position, since other rows have other keys"
                .into(),
        );
    }
    Ok(())
}

fn check_operand(
    patch: &Patch,
    patched: usize,
    runs: &[Run],
    pair: &Pair,
    config: &Config,
) -> Result<(), CheckError> {
    let site = patch.component.name();
    if patch.op.reads_source() {
        let op = patch.op.label();
        let prompt = match patch.origin {
            Origin::Clean(prompt) => prompt,
            Origin::Run(read) => chain::check(patch, read, runs, config)?,
        };
        let Some(ids) = pair.ids(prompt) else {
            return Err(CheckError::NoSource { op, site });
        };
        let read = patch.source_positions.as_ref().unwrap_or(&patch.positions);
        if let Some(&position) = read.iter().find(|p| **p >= ids.len()) {
            return Err(CheckError::SourceTooShort {
                op,
                site,
                position,
                prompt: pair.prompt_name(prompt).to_owned(),
                length: ids.len(),
                patched,
            });
        }
    }
    let shape = |problem: &str| {
        Err(CheckError::Shape {
            site,
            problem: problem.into(),
        })
    };
    match &patch.op {
        Op::Skip if patch.component.skipped().is_none() => {
            return shape(
                "has no module of its own that reads something as wide, so nothing can be skipped: \
                 skip block_output, mlp_output or mlp_activation, or interchange",
            );
        }
        Op::Set(v) | Op::Add(Some(v)) | Op::Subtract(Some(v)) => {
            if patch.component.has_keys() {
                return shape(
                    "has rows of different lengths, so no constant fits it: use zero or scale",
                );
            }
            let (expected, of, every_head) = match &patch.basis {
                Some(basis) => {
                    let of = format!("the basis `{}`", basis.label());
                    (basis.coordinates(), of, false)
                }
                None => {
                    let every_head = patch.component.has_heads() && v.values.len() == config.width;
                    let expected = cell::columns(patch.component, config);
                    (expected, format!("a row of {site}"), every_head)
                }
            };
            if v.values.len() != expected && !every_head {
                let (label, found) = (v.label.clone(), v.values.len());
                return Err(CheckError::VectorLength {
                    label,
                    found,
                    of,
                    expected,
                });
            }
        }
        Op::Mean(_) if patch.component.has_keys() => {
            return shape(
                "has rows of different lengths, so it has no mean row: use zero or scale",
            );
        }
        Op::Mean(over) => {
            for ids in over.prompts.iter() {
                let base = ids.clone();
                check_pair(
                    &Pair {
                        base,
                        ..Pair::default()
                    },
                    config,
                )?;
            }
            if over.prompts.is_empty() {
                return shape("needs at least one prompt to take a mean over");
            }
        }
        Op::Scale(x) | Op::Interpolate(x) | Op::Noise { level: x, .. } if !x.is_finite() => {
            return shape("needs a finite number");
        }
        _ => {}
    }
    Ok(())
}
