//! Whether one patch fits its prompts and the model.

use super::{CheckError, chain, check_pair, in_range, once, subspace};
use crate::model::Config;
use crate::patch::{Op, Origin, Patch, Run, unusable};
use crate::prompt::pair::Pair;
use crate::site::{Component, Stage, columns};
use crate::text::{counted, shortest};

/// Checks where a patch of a prompt of `length` tokens writes.
pub(super) fn place(patch: &Patch, length: usize, config: &Config) -> Result<(), CheckError> {
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
    keys(patch, length)?;
    subspace::check(patch, config)
}

fn keys(patch: &Patch, length: usize) -> Result<(), CheckError> {
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

/// Checks that what is written is z · W_O of some z, which any other row of the residual stream's width need not be.
fn through_z(patch: &Patch) -> Result<(), CheckError> {
    let shape = |problem: String| {
        let site = patch.component.name();
        Err(CheckError::Shape { site, problem })
    };
    if patch.columns.is_some() || patch.basis.is_some() {
        return shape(
            "is patched through its head's z, whose columns are others: give no columns and no basis, or patch \
             head_attention_value_output"
                .into(),
        );
    }
    match &patch.op {
        Op::Fill(_)
        | Op::Set(_)
        | Op::Add(Some(_))
        | Op::Subtract(Some(_))
        | Op::Noise { .. }
        | Op::Function(_) => {
            shape(format!(
                "is patched through its head's z, and `{}` writes what no z need give: add it to attention_output, \
                 into which heads are summed",
                patch.op.label()
            ))
        }
        Op::Collect => shape(
            "is collected as its head's z: collect head_attention_value_output, or export it with `headlight cache`"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// Checks that another component than the patch's own can be read in its place.
fn source_component(patch: &Patch, read: Component) -> Result<(), CheckError> {
    let own = patch.component;
    let shape = |problem: String| {
        let site = own.name();
        Err(CheckError::Shape { site, problem })
    };
    if !patch.op.reads_source() || patch.op == Op::Skip {
        let op = patch.op.label();
        return shape(format!(
            "takes no source_component with `{op}`: leave it out"
        ));
    }
    let form = |c: Component| (c.has_heads(), c.is_global(), c.has_keys(), c.width());
    if form(read) != form(own) || own.has_keys() || read.is_made_of_z() != own.is_made_of_z() {
        return shape(format!(
            "cannot read {read} in its place: name a source_component whose rows are laid out in the same way"
        ));
    }
    Ok(())
}

/// Checks what a patch of a prompt of `patched` tokens reads.
pub(super) fn operand(
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
    if let Some(read) = patch.source_component {
        source_component(patch, read)?;
    }
    if patch.component.is_made_of_z() {
        through_z(patch)?;
    }
    match &patch.op {
        Op::Skip if patch.component.skipped().is_none() => {
            return shape(
                "has no module of its own that reads something as wide, so nothing can be skipped: \
                 skip block_output, mlp_output or mlp_activation, or interchange",
            );
        }
        Op::Knockout if patch.component.stage() != Stage::Scores => {
            return shape(
                "has no −∞: what is knocked out are scores, so that the softmax is of the other keys; give \
                 attention_scores, or zero",
            );
        }
        Op::Fill(x) => {
            if let Some(needs) = unusable(*x, false) {
                let x = shortest(*x);
                return shape(&format!("is patched with {x}: give {needs}"));
            }
        }
        Op::Set(v) | Op::Add(Some(v)) | Op::Subtract(Some(v)) => {
            if patch.component.has_keys() {
                return shape(
                    "has rows of different lengths, so no row of constants fits it: set a number (set=x), or use \
                     zero or scale",
                );
            }
            if v.rows != 1 && v.rows != patch.positions.len() {
                let (rows, positions) = (v.rows, patch.positions.len());
                return shape(&format!(
                    "takes `{}`, which has {rows} rows, at {positions} positions: give one row, or one for each",
                    v.label
                ));
            }
            let (expected, of, every_head) = match &patch.basis {
                Some(basis) => {
                    let of = format!("the basis `{}`", basis.label());
                    (basis.coordinates() * v.rows, of, false)
                }
                None => {
                    let every_head =
                        patch.component.has_heads() && v.values.len() == config.width * v.rows;
                    let expected = columns(patch.component, config) * v.rows;
                    let of = match v.rows {
                        1 => format!("a row of {site}"),
                        rows => format!("{site} at {rows} positions"),
                    };
                    (expected, of, every_head)
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
            let mut lengths: Vec<usize> = over.prompts.iter().map(Vec::len).collect();
            if over.by_position && !lengths.contains(&patched) {
                lengths.sort_unstable();
                lengths.dedup();
                let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
                return shape(&format!(
                    "is patched with means by position over `{}`, of whose prompts none has {} as the patched one has: \
                     they have {}",
                    over.label,
                    counted(patched, "token"),
                    lengths.join(", ")
                ));
            }
        }
        Op::Scale(x) | Op::Interpolate(x) | Op::Noise { level: x, .. } => {
            let noise = matches!(patch.op, Op::Noise { .. });
            if let Some(needs) = unusable(*x, noise) {
                let parameter = if noise { "level" } else { "alpha" };
                let x = shortest(*x);
                return shape(&format!("is patched with {parameter} = {x}: give {needs}"));
            }
        }
        _ => {}
    }
    Ok(())
}
