//! Ranges and names as typed, which errors call by their flags.

use super::Where;
use crate::ask::grid::{Grid, GridError, IndexRange};
use crate::error::Error;
use crate::graph::edge::NamedNodes;
use crate::patch::Op;
use crate::site::{Component, Site};

/// Nodes by name, each as typed.
///
/// # Errors
///
/// [`Error::Usage`] for the first that is none.
pub fn named(flag: &str, names: &[String]) -> Result<NamedNodes, Error> {
    let pattern = |name: &String| match name.parse() {
        Ok(pattern) => Ok((name.clone(), pattern)),
        Err(error) => Err(Error::Usage(format!("--{flag}: {error}"))),
    };
    names.iter().map(pattern).collect()
}

/// Sites by their names; where none is named z and values of every head, or the scores that an operator knocks out.
///
/// # Errors
///
/// [`Error::Component`] for the first that is none.
pub fn sites(names: &[String], op: Option<&Op>) -> Result<Vec<Site>, Error> {
    if names.is_empty() {
        return Ok(match op {
            Some(Op::Knockout) => vec![Site {
                component: Component::AttentionScores,
                layer: None,
            }],
            _ => Grid::default_sites(),
        });
    }
    let parsed = names.iter().map(|name| name.trim().parse::<Site>());
    Ok(parsed.collect::<Result<_, _>>()?)
}

/// Where something is patched.
///
/// # Errors
///
/// [`Error::Usage`] for what is no range.
pub fn place(flag: &str, text: &str) -> Result<Where, Error> {
    let parsed = text.parse();
    parsed.map_err(|e| Error::Usage(format!("--{flag}: {e}")))
}

/// Heads, and whether together.
///
/// # Errors
///
/// [`Error::Usage`] for what is no range.
pub fn heads(text: &str) -> Result<(IndexRange, bool), Error> {
    match text {
        "together" => Ok((IndexRange::All, true)),
        range => range
            .parse()
            .map(|span| (span, false))
            .map_err(|e| match e {
                GridError::Span { .. } => Error::Usage(format!("--heads: {e}, or together")),
                _ => Error::Usage(format!("--heads: {e}")),
            }),
    }
}

/// Columns, and whether each has a run of its own.
///
/// # Errors
///
/// [`Error::Usage`] for what is no range.
pub fn columns(text: &str) -> Result<(IndexRange, bool), Error> {
    let (range, apart) = match text.strip_prefix("each") {
        Some("") => ("all", true),
        Some(rest) => (rest.strip_prefix(':').unwrap_or(text), true),
        None => (text, false),
    };
    let range = range.parse();
    let range = range.map_err(|e| match e {
        GridError::Span { .. } => Error::Usage(format!("--columns: {e}, or each, or each:0-31")),
        _ => Error::Usage(format!("--columns: {e}")),
    })?;
    Ok((range, apart))
}
