//! Prompts over which a mean activation is taken.

use std::path::Path;

use crate::model::{Checkpoint, ModelError};
use crate::patch::MeanOver;

/// How prompts given as token ids are named: by themselves.
pub(super) fn ids_label(prompts: &[Vec<u32>]) -> String {
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
        by_position: false,
    })
}
