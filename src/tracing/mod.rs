//! Causal tracing (Meng et al. 2022, "Locating and Editing Factual Associations in GPT"): noise on the
//! subject's token embeddings corrupts a prompt, and single states of its clean run are put back.
//!
//! | concept | where |
//! |---|---|
//! | how many layers are restored together | [`window`] |
//! | how strong the noise is | [`level`] |
//! | runs, and what each restores | [`runs`] |
//! | means and spreads over samples and pairs | [`averages`] |
//! | ROME's arrays | [`arrays`] |
//!
//! A run is a patch of noise at the token embeddings and freezes after it: interchanges with the base's
//! own clean run. Noise is keyed by its sample, so all states are restored in the same corrupted runs.

pub mod arrays;
pub mod averages;
pub mod level;
pub mod runs;
pub mod window;
