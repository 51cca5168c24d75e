//! Prompt pairs, and how positions in them are named.
//!
//! A pair is what every question is asked of. It stands below data sets, which make many of them, and
//! below the questions, which only read them.

pub mod pair;
pub mod position;
mod words;
