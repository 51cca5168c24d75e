//! Which columns of a row, or coordinates of a basis, a representation touches.

use super::configuration::{Dimension, Representation};
use super::kind::InterventionKind;
use crate::ask::grid::IndexRange;

/// A part of a row, or of the coordinates of a basis, as pyvene's `subspaces` would name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubspacePart {
    /// Columns.
    Columns(IndexRange),
    /// Parts of the saved `subspace_partition`.
    Subspaces(Vec<usize>),
}

/// Which of `total` columns or coordinates act; `None` is all of them.
pub(super) fn columns(
    made: &Representation,
    part: Option<&SubspacePart>,
    total: usize,
) -> Result<Option<Vec<usize>>, String> {
    let kind = made.kind;
    let name = kind.name();
    if part.is_some() && !kind.takes_subspaces() {
        return Err(format!(
            "{name} ignores subspaces in pyvene, and has its own mask: leave them out"
        ));
    }
    let range = |list: &[usize]| match list.iter().find(|c| **c >= total) {
        Some(c) => Err(format!(
            "column {c} is out of range: columns are 0 to {}",
            total.saturating_sub(1)
        )),
        None => {
            let mut seen = std::collections::HashSet::new();
            let once: Vec<usize> = list.iter().copied().filter(|c| seen.insert(*c)).collect();
            match once.is_empty() {
                true => Err("it would act on no column: name at least one".to_owned()),
                false => Ok(Some(once)),
            }
        }
    };
    match part {
        Some(SubspacePart::Columns(IndexRange::All)) => return Ok(None),
        Some(SubspacePart::Columns(IndexRange::Some(list))) => return range(list),
        Some(SubspacePart::Subspaces(asked)) => {
            let Some(parts) = &made.partition else {
                return Err("it has no subspace_partition: name columns by --columns".into());
            };
            let mut all = Vec::new();
            for &subspace in asked {
                let Some(part) = parts.get(subspace) else {
                    let last = parts.len().saturating_sub(1);
                    return Err(format!(
                        "subspace {subspace} is out of range: subspaces are 0 to {last}"
                    ));
                };
                all.extend(part);
            }
            return range(&all);
        }
        None => {}
    }
    match (kind, &made.dimension) {
        (InterventionKind::LowRankRotatedSpace, _) => Ok(None),
        _ if !kind.takes_subspaces() => Ok(None),
        (InterventionKind::Autoencoder, dimension) => {
            let latents = match dimension {
                Dimension::List(list) => list.clone(),
                Dimension::Number(n) => vec![*n],
                Dimension::Whole => vec![total],
            };
            range(&latents).map_err(|_| {
                format!(
                    "its interchange_dim names latent {latents:?} of {total}, as pyvene's default does by mistake: \
                     name the latents by --columns"
                )
            })
        }
        (_, Dimension::Whole) => Ok(None),
        (_, Dimension::Number(n)) => first(*n, total),
        (_, Dimension::List(list)) => match list[..] {
            [n] => first(n, total),
            _ => Err(format!(
                "its interchange_dim is {list:?}, which {name} takes no list for: name --columns"
            )),
        },
    }
}

/// The first n columns.
fn first(n: usize, total: usize) -> Result<Option<Vec<usize>>, String> {
    match n {
        0 => Err("its interchange_dim is 0, so it does nothing: name --columns".into()),
        n if n >= total => Ok(None),
        n => Ok(Some((0..n).collect())),
    }
}
