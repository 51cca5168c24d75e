//! A model's small files, read whole, and the bounds on what is read of them.
//!
//! A file comes from anywhere: it may be a pipe that never ends, or longer than memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::ModelError;

/// The most bytes of a `config.json`; GPT-2's own have under a thousand.
pub(super) const LONGEST_CONFIG: u64 = 16 << 20;
/// The most bytes of any one file of a tokenizer; GPT-2's `tokenizer.json` has 1.4 million.
pub(super) const LONGEST_TOKENIZER: u64 = 256 << 20;
/// The most bytes of an index of shards; one line a tensor.
pub(super) const LONGEST_INDEX: u64 = 64 << 20;
/// The most bytes of one file of weights that are fetched: a hundred times GPT-2 XL.
#[cfg(feature = "hub")]
pub(super) const LONGEST_WEIGHTS: u64 = 1 << 40;

/// The whole of the file at `path`, of at most `most` bytes.
///
/// # Errors
///
/// [`ModelError::Read`], [`ModelError::NotPlain`], [`ModelError::TooLong`].
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::Read {
        path: path.to_owned(),
        source,
    };
    plain(path)?;
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(ModelError::TooLong {
            path: path.to_owned(),
            most,
        });
    }
    Ok(bytes)
}

/// Refuses what is there but no plain file: opening a pipe waits for who writes it.
///
/// # Errors
///
/// [`ModelError::Read`] where nothing is there, [`ModelError::NotPlain`].
pub(super) fn plain(path: &Path) -> Result<(), ModelError> {
    let metadata = std::fs::metadata(path).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })?;
    match metadata.is_file() {
        true => Ok(()),
        false => Err(ModelError::NotPlain {
            path: path.to_owned(),
        }),
    }
}
