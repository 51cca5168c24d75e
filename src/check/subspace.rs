//! Whether the columns and the basis of a patch fit its component.

use super::{CheckError, in_range, once};
use crate::model::Config;
use crate::patch::{Op, Patch};
use crate::site::columns;

/// Checks a patch's columns, basis and function against its component.
pub(super) fn check(patch: &Patch, config: &Config) -> Result<(), CheckError> {
    let site = patch.component.name();
    let shape = |problem: &str| {
        Err(CheckError::Shape {
            site,
            problem: problem.into(),
        })
    };
    let keyed = patch.component.has_keys();
    let function = matches!(patch.op, Op::Function(_));
    let width = columns(patch.component, config);
    let (what, count) = match &patch.basis {
        None => ("column", width),
        Some(_) if keyed => {
            return shape("has rows of different lengths, so no basis fits it: leave it out");
        }
        Some(_) if width == 1 => {
            return shape("has one number a row, so no basis fits it: leave it out");
        }
        Some(_) if function => {
            return shape("takes a function of the row's own numbers: leave out the basis");
        }
        Some(basis) if basis.width() != width => {
            return Err(CheckError::BasisWidth {
                label: basis.label().to_owned(),
                found: basis.width(),
                site,
                expected: width,
            });
        }
        Some(basis) => ("coordinate", basis.coordinates()),
    };
    if keyed && function {
        return shape("takes no function: patch attention_value_output, which it weighs");
    }
    if let Some(columns) = &patch.columns {
        if keyed {
            return shape("has keys where others have columns: give keys");
        }
        if columns.is_empty() {
            return shape("has an empty list of columns: leave it out to touch every one");
        }
        in_range(what, columns, count, site)?;
        once(what, columns, site)?;
    }
    Ok(())
}
