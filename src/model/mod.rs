//! A GPT-2 checkpoint, from a name to typed views of its weights.
//!
//! [`Checkpoint::resolve`] is the way in: `demo`, a folder in Hugging Face's layout, or a hub id
//! (which [`Hub`] fetches into the shared cache). What comes out has been checked completely —
//! configuration, names, shapes, types, every value finite, the tokenizer within the vocabulary — so
//! that nothing behind it meets a bad file. What is found wrong is a [`ModelError`].

mod checkpoint;
mod config;
mod demo;
mod error;
mod file;
mod hash;
mod header;
mod hub;
mod shards;
mod tensor;
mod tokenizer;
mod weights;

pub use checkpoint::Checkpoint;
pub use config::{ActivationFunction, Config};
pub(crate) use config::{LARGEST_SIZE, MOST_LAYERS};
pub use error::ModelError;
pub(crate) use hash::hex;
pub use hub::Hub;
pub use shards::{ForeignBytes, ForeignTensor};
pub use tensor::{Data, Tensor};
pub use tokenizer::{SeveralTokens, Tokenizer};
pub use weights::{Conv1D, Layer, LayerNorm};
