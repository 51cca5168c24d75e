//! Pairs from a data set: its flags, and what becomes of each row.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::known::{Asked, otherwise};
use super::note;
use super::prompts::Answers;
use super::setup::Setup;
use crate::data;
use crate::data::{DataError, Example, Reading, Resolved, RowError, with_bos};
use crate::error::Error;
use crate::model::Config;
use crate::prompt::pair::Pair;

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

/// Targets and wrong targets of rows that have none of their own.
#[derive(Debug, Clone)]
pub struct Fallback {
    targets: Vec<u32>,
    wrong: Vec<u32>,
    first_token: bool,
}

impl Fallback {
    pub fn of(answers: &Answers, setup: &Setup) -> Result<Self, Error> {
        Ok(Self {
            targets: answers.targets(setup)?,
            wrong: answers.wrong(setup)?,
            first_token: answers.first_token,
        })
    }
}

impl DataFlags {
    /// The data set's rows, if one was named.
    pub fn read(&self) -> Result<Option<data::Rows>, Error> {
        Ok(self.data.as_deref().map(data::read).transpose()?)
    }

    /// A pair that was typed, with the BOS if it was asked for.
    pub fn begin(&self, mut pair: Pair, config: &Config) -> Result<Pair, Error> {
        let bos = self.bos(config)?;
        for ids in std::iter::once(&mut pair.base).chain(&mut pair.source) {
            *ids = with_bos(std::mem::take(ids), bos).ok_or_else(|| {
                Error::Usage("a prompt begins with the BOS token already: leave out --bos".into())
            })?;
        }
        Ok(pair)
    }

    /// How the rows are meant to be read; patches are where they say, and read no source.
    pub fn reading<'a>(
        &self,
        setup: &'a Setup,
        fallback: &'a Fallback,
    ) -> Result<Reading<'a>, Error> {
        Ok(Reading {
            model: &setup.model,
            direction: match self.direction {
                Direction::Denoise => data::Direction::Denoise,
                Direction::Noise => data::Direction::Noise,
            },
            bos: self.bos(&setup.model.config)?,
            first_token: fallback.first_token,
            targets: &fallback.targets,
            wrong: &fallback.wrong,
            targets_optional: false,
            positions: None,
            reads_source: false,
        })
    }

    /// Hands each row on as a pair and returns what becomes of it. The inner error of `visit` is what is
    /// wrong with the row, which is passed over, as one that cannot be read is, if that was asked for;
    /// and so is a row that the model answers otherwise.
    pub fn each<T>(
        &self,
        rows: data::Rows,
        reading: &Reading<'_>,
        setup: &Setup,
        mut visit: impl FnMut(&Example, Resolved) -> Result<Result<T, RowError>, Error>,
    ) -> Result<Vec<T>, Error> {
        let count = rows.len();
        let mut bad: Vec<RowError> = Vec::new();
        let (mut all, mut asked) = (Vec::new(), Vec::new());
        for row in rows {
            let done = match row.and_then(|row| Ok((reading.resolve(&row)?, row))) {
                Ok((resolved, example)) => {
                    let asks = self
                        .known
                        .then(|| Asked::of(&example, &resolved, reading.direction));
                    visit(&example, resolved)?.map(|done| {
                        all.push(done);
                        asked.extend(asks);
                    })
                }
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => {}
                Err(error) if self.skip_bad => bad.push(error),
                Err(error) => return Err(DataError::Row(error).into()),
            }
        }
        let path = self.data.clone().unwrap_or_default();
        if let Some(first) = bad.first() {
            if bad.len() == count {
                let first = Box::new(first.clone());
                return Err(DataError::AllBad { path, count, first }.into());
            }
            note(format_args!(
                "skipped {} of {count} rows of {}; the first: {first}",
                bad.len(),
                path.display(),
            ));
        }
        match self.known {
            true => known(all, &asked, path, setup),
            false => Ok(all),
        }
    }

    /// The token that begins every prompt, if it was asked for.
    fn bos(&self, config: &Config) -> Result<Option<u32>, Error> {
        match (self.bos, config.bos) {
            (false, _) => Ok(None),
            (true, Some(bos)) => Ok(Some(bos)),
            (true, None) => Err(Error::Usage(
                "--bos: the model's config.json names no bos_token_id: leave it out".into(),
            )),
        }
    }
}

/// What became of the rows that the model answers rightly.
fn known<T>(all: Vec<T>, asked: &[Asked], path: PathBuf, setup: &Setup) -> Result<Vec<T>, Error> {
    let (count, otherwise) = (all.len(), otherwise(asked, setup)?);
    let mut left_out = otherwise.iter().flatten();
    if let Some(first) = left_out.next() {
        let others = 1 + left_out.count();
        if others == count {
            let first = Box::new(first.clone());
            return Err(DataError::NoneKnown { path, count, first }.into());
        }
        note(format_args!(
            "left out {others} of {count} rows of {}, which the model answers otherwise; the first: {first}",
            path.display(),
        ));
    }
    let rows = all.into_iter().zip(otherwise);
    Ok(rows
        .filter(|(_, no)| no.is_none())
        .map(|(row, _)| row)
        .collect())
}
