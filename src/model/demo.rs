//! The demo checkpoint, a small GPT-2 inside the program, so that everything can be tried at once.
//!
//! How it was made, and the facts it knows, lie beside its files in `demo/`.

use std::borrow::Cow;

use super::checkpoint::Checkpoint;
use super::error::ModelError;

const CONFIG: &[u8] = include_bytes!("demo/config.json");
const WEIGHTS: &[u8] = include_bytes!("demo/model.safetensors");
const TOKENIZER: &[u8] = include_bytes!("demo/tokenizer.json");

/// Opens it, with the same checks as any other.
pub(super) fn open() -> Result<Checkpoint, ModelError> {
    Checkpoint::from_bytes("demo", CONFIG, Cow::Borrowed(WEIGHTS), Some(TOKENIZER))
}
