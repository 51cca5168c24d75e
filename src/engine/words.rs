//! Ranges and names as typed, which errors call by their flags.

use super::Where;
use crate::ask::grid::{GridError, IndexRange};
use crate::error::Error;
use crate::graph::edge::NamedNodes;

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
