//! Whether a pair and its patches fit the model, before anything runs.
//!
//! Everything behind this may index without looking again. Each error is one sentence that names
//! what was wrong and what would be right, because a sweep is usually typed by hand.

use std::collections::HashSet;

use crate::model::Config;
use crate::patch::{Op, Origin, Patch};
use crate::plan::cell;
use crate::sweep::pair::Pair;

/// What does not fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A prompt without tokens.
    #[error("the {which} prompt is empty: give at least one token")]
    EmptyPrompt {
        /// `base` or `source`.
        which: &'static str,
    },
    /// More tokens than positions.
    #[error("the {which} prompt has {tokens} tokens, more than the model's context of {context}")]
    PromptTooLong {
        /// `base` or `source`.
        which: &'static str,
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
    /// Position p is read from a source that is too short.
    #[error(
        "`{op}` at {site} reads position {position} of the source prompt, which has only {length} \
         tokens where the base has {base}: give prompts of equal length, or source_positions"
    )]
    SourceTooShort {
        /// The operator.
        op: String,
        /// The component.
        site: &'static str,
        /// The position read.
        position: usize,
        /// Tokens of the source.
        length: usize,
        /// Tokens of the base.
        base: usize,
    },
    /// A constant of the wrong length.
    #[error("`{label}` has {found} values where {site} takes {expected}")]
    VectorLength {
        /// How the constant was named.
        label: String,
        /// Its length.
        found: usize,
        /// The component.
        site: &'static str,
        /// The row's length.
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
    let prompts = [("base", Some(&pair.base)), ("source", pair.source.as_ref())];
    for (which, ids) in prompts
        .into_iter()
        .filter_map(|(w, ids)| ids.map(|ids| (w, ids)))
    {
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

fn once(what: &'static str, values: &[usize], site: &'static str) -> Result<(), CheckError> {
    match repeated(values) {
        Some(&value) => Err(CheckError::Twice { what, value, site }),
        None => Ok(()),
    }
}

fn in_range(
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

/// Checks a patch against its pair and the model.
///
/// # Errors
///
/// [`CheckError`] naming the component and what would be right.
pub fn check_patch(patch: &Patch, pair: &Pair, config: &Config) -> Result<(), CheckError> {
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
            pair.base.len() - 1
        ));
    }
    let layers: Vec<usize> = patch.layer.into_iter().chain(patch.source_layer).collect();
    in_range("layer", &layers, config.layers, site)?;
    in_range("head", &patch.heads, config.heads, site)?;
    in_range("position", &patch.positions, pair.base.len(), site)?;
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
    check_keys(patch, pair)?;
    check_operand(patch, pair, config)
}

fn check_keys(patch: &Patch, pair: &Pair) -> Result<(), CheckError> {
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
        in_range("key", keys, pair.base.len(), site)?;
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

fn check_operand(patch: &Patch, pair: &Pair, config: &Config) -> Result<(), CheckError> {
    let site = patch.component.name();
    if patch.op.reads_source() {
        let length = match (patch.origin, &pair.source) {
            (Origin::Base, _) => pair.base.len(),
            (Origin::Source, Some(source)) => source.len(),
            (Origin::Source, None) => {
                return Err(CheckError::NoSource {
                    op: patch.op.label(),
                    site,
                });
            }
        };
        let read = patch.source_positions.as_ref().unwrap_or(&patch.positions);
        if let Some(&position) = read.iter().find(|p| **p >= length) {
            let (op, base) = (patch.op.label(), pair.base.len());
            return Err(CheckError::SourceTooShort {
                op,
                site,
                position,
                length,
                base,
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
        Op::Set(v) | Op::Add(Some(v)) | Op::Subtract(Some(v)) => {
            if patch.component.has_keys() {
                return shape(
                    "has rows of different lengths, so no constant fits it: use zero or scale",
                );
            }
            if v.rows != 1 && v.rows != patch.positions.len() {
                let (rows, positions) = (v.rows, patch.positions.len());
                return shape(&format!(
                    "takes `{}`, which has {rows} rows, at {positions} positions: give one row, or one for each",
                    v.label
                ));
            }
            let expected = cell::columns(patch.component, config) * v.rows;
            let every_head = patch.component.has_heads() && v.values.len() == config.width * v.rows;
            if v.values.len() != expected && !every_head {
                let (label, found) = (v.label.clone(), v.values.len());
                return Err(CheckError::VectorLength {
                    label,
                    found,
                    site,
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
