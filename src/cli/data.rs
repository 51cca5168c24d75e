//! Pairs from a data set: its flags, and what becomes of each row.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::prompts::Answers;
use super::{Global, note};
use crate::data;
use crate::engine::{Engine, Fallback, Pairs, RowOptions};
use crate::error::Error;
use crate::prompt::pair::Pair;
use crate::prompt::position::Position;

/// Flags of data sets.
#[derive(Debug, Args)]
pub struct DataFlags {
    /// Data set: .jsonl, .csv, .parquet or .json (auto-circuit's, or a list of rows); each row keeps
    /// its own targets
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Patch the base (corrupted) prompt with the source's (clean) activations, or the reverse
    #[arg(
        long,
        value_enum,
        requires = "data",
        default_value = "denoise",
        value_name = "denoise|noise"
    )]
    direction: Direction,
    /// Begin every prompt with the model's BOS token
    #[arg(long)]
    bos: bool,
    /// Pass over malformed rows, and count them
    #[arg(long, requires = "data")]
    skip_bad: bool,
    /// Keep only rows of which a target is the model's most probable token after their clean prompt
    /// (known facts), and count the others
    #[arg(long, requires = "data")]
    known: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Direction {
    Denoise,
    Noise,
}

impl DataFlags {
    /// Which prompt of a data set is patched; `None` of prompts that are typed.
    pub fn direction(&self) -> Option<data::Direction> {
        self.data.as_ref().map(|_| match self.direction {
            Direction::Denoise => data::Direction::Denoise,
            Direction::Noise => data::Direction::Noise,
        })
    }

    /// The data set's rows, if one was named.
    pub fn read(&self) -> Result<Option<data::Examples>, Error> {
        Ok(self.data.as_deref().map(data::read).transpose()?)
    }

    /// A pair that was typed, with the BOS if it was asked for.
    pub fn begin(&self, pair: Pair, engine: &Engine) -> Result<Pair, Error> {
        engine.begin(pair, self.bos)
    }

    /// The rows as pairs; `answers` are those of rows that have none of their own. Where nothing is to be run, as
    /// many as there may be.
    pub fn pairs(
        &self,
        rows: data::Examples,
        answers: &Answers,
        engine: &Engine,
        global: &Global,
    ) -> Result<Pairs, Error> {
        let fallback = answers.fallback(engine)?;
        Ok(self.rows(rows, fallback, answers.at(), global))
    }

    /// The same, with answers by their ids.
    pub fn rows(
        &self,
        rows: data::Examples,
        fallback: Fallback,
        at: Option<Position>,
        global: &Global,
    ) -> Pairs {
        // to know what is known, it would have to be computed
        let planned = global.plan.is_some();
        let options = RowOptions {
            path: self.data.clone().unwrap_or_default(),
            direction: self.direction().unwrap_or_default(),
            bos: self.bos,
            skip_bad: self.skip_bad,
            known: self.known && !planned,
            at,
            note: |said| note(format_args!("{said}")),
        };
        Pairs::Rows(rows, options, fallback)
    }
}
