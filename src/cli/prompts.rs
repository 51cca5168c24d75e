//! Prompts and targets as typed, for every command that patches.

use std::path::Path;

use clap::Args;

use super::Global;
use super::data::DataFlags;
use crate::check::check_pair;
use crate::data::Examples;
use crate::engine::{Engine, Fallback, Pairs};
use crate::error::Error;
use crate::model::SeveralTokens;
use crate::prompt::pair::Pair;
use crate::prompt::position::Position;

/// Flags of one prompt pair.
#[derive(Debug, Args)]
pub struct Prompts {
    /// Base prompt: the one that is patched; on the demo model its own unless given
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["base_ids", "data"])]
    base: Option<String>,
    /// Base prompt as token ids
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        value_parser = token_id,
        allow_negative_numbers = true,
        conflicts_with = "data"
    )]
    base_ids: Option<Vec<u32>>,
    /// Source prompt: where activations are taken from; on the demo model its own unless given
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["source_ids", "data"])]
    source: Option<String>,
    /// Source prompt as token ids
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        value_parser = token_id,
        allow_negative_numbers = true,
        conflicts_with = "data"
    )]
    source_ids: Option<Vec<u32>>,
    #[command(flatten)]
    pub answers: Answers,
}

/// Flags of a prompt by itself, or of each of a data set.
#[derive(Debug, Args)]
pub struct OnePrompt {
    /// The prompt
    #[arg(conflicts_with_all = ["ids", "data"])]
    prompt: Option<String>,
    /// The prompt as token ids
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "IDS",
        value_parser = token_id,
        allow_negative_numbers = true,
        conflicts_with = "data"
    )]
    ids: Option<Vec<u32>>,
    #[command(flatten)]
    data: DataFlags,
}

/// Flags of answers that are more than one token.
#[derive(Debug, Args)]
pub struct Several {
    /// Let a target of several tokens count as its first
    #[arg(long)]
    first_token: bool,
    /// Let a target of several tokens count whole: the probability of all of them, each after those before it
    #[arg(long, conflicts_with = "first_token")]
    joint: bool,
}

impl Several {
    /// What they say of such answers.
    pub fn tokens(&self) -> SeveralTokens {
        match (self.first_token, self.joint) {
            (true, _) => SeveralTokens::First,
            (_, true) => SeveralTokens::Joint,
            _ => SeveralTokens::Refused,
        }
    }
}

/// Flags of what is read of a run.
#[derive(Debug, Args)]
pub struct Answers {
    /// Target tokens, split at commas and not trimmed, such as " Madrid, Rome"; a pair without targets has the most
    /// probable token after each prompt unless given
    #[arg(long, value_name = "TEXTS")]
    targets: Option<String>,
    /// A target token, taken whole; may be repeated
    #[arg(long, visible_alias = "answer", value_name = "TEXT")]
    target: Vec<String>,
    /// Target tokens as ids
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        value_parser = token_id,
        allow_negative_numbers = true
    )]
    target_ids: Vec<u32>,
    /// A wrong answer, taken whole, that logit_diff and prob_diff hold against the targets; may be
    /// repeated
    #[arg(long, value_name = "TEXT")]
    wrong_target: Vec<String>,
    /// Wrong answers as token ids
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        value_parser = token_id,
        allow_negative_numbers = true
    )]
    wrong_target_ids: Vec<u32>,
    #[command(flatten)]
    pub several: Several,
    /// Where prompts are read out, by number or name (3, -2, subject.last, a word), in each prompt by itself; the end
    /// unless given
    #[arg(long, value_name = "POSITION", allow_negative_numbers = true)]
    pub at: Option<String>,
}

impl Prompts {
    /// The pairs of a data set's rows, or the one that the flags give.
    pub fn pairs(
        &self,
        rows: Option<Examples>,
        global: &Global,
        engine: &Engine,
        data: &DataFlags,
    ) -> Result<Pairs, Error> {
        match rows {
            Some(rows) => data.pairs(rows, &self.answers, engine, global),
            None => Ok(Pairs::Listed(vec![self.pair(engine, data)?])),
        }
    }

    /// The one pair that the flags give, or the demo's; without targets, none yet.
    fn pair(&self, engine: &Engine, data: &DataFlags) -> Result<Pair, Error> {
        let pair = match self.given(engine)? {
            Some(pair) => pair,
            None => {
                let reference = engine.reference()?;
                self.answers.answered(reference, engine)?
            }
        };
        let pair = data.begin(pair, engine)?;
        check_pair(&pair, &engine.model().config)?;
        self.answers.read_at(pair, engine)
    }

    fn given(&self, engine: &Engine) -> Result<Option<Pair>, Error> {
        let source = tokens(engine, &self.source, &self.source_ids)?;
        let Some(base) = tokens(engine, &self.base, &self.base_ids)? else {
            if source.is_some() {
                return Err(Error::Usage(
                    "a source prompt without a base prompt: give --base too".into(),
                ));
            }
            return Ok(None);
        };
        let pair = Pair {
            base,
            source,
            ..Pair::default()
        };
        Ok(Some(self.answers.answered(pair, engine)?))
    }
}

impl OnePrompt {
    /// The data set's file, if its rows are the prompts.
    pub fn file(&self) -> Option<&Path> {
        self.data.data.as_deref()
    }

    /// The prompt, or each that a data set's rows patch, as the base of a pair.
    pub fn pairs(&self, engine: &Engine, global: &Global) -> Result<Vec<Pair>, Error> {
        let pairs = match self.data.read()? {
            Some(rows) => engine.plain(self.data.rows(rows, Fallback::default(), None, global))?,
            None => {
                let base = tokens(engine, &self.prompt, &self.ids)?;
                let usage = "give a prompt, --ids or --data";
                let base = base.ok_or_else(|| Error::Usage(usage.into()))?;
                let pair = Pair {
                    base,
                    ..Pair::default()
                };
                vec![self.data.begin(pair, engine)?]
            }
        };
        for pair in &pairs {
            check_pair(pair, &engine.model().config)?;
        }
        Ok(pairs)
    }
}

impl Answers {
    /// Where prompts are read out, if that was said.
    pub fn at(&self) -> Option<Position> {
        self.at.as_deref().map(Position::named)
    }

    /// A pair that was typed, read out where that was said.
    pub fn read_at(&self, pair: Pair, engine: &Engine) -> Result<Pair, Error> {
        match self.at() {
            Some(at) => engine.read_at(pair, &at),
            None => Ok(pair),
        }
    }

    /// A pair with these answers.
    pub fn answered(&self, pair: Pair, engine: &Engine) -> Result<Pair, Error> {
        let Fallback { targets, wrong, .. } = self.fallback(engine)?;
        Ok(pair.answered(&targets, &wrong))
    }

    /// The answers, for rows that have none of their own: targets in the order `--targets`, `--target`,
    /// `--target-ids`, wrong ones in the order `--wrong-target`, `--wrong-target-ids`.
    pub fn fallback(&self, engine: &Engine) -> Result<Fallback, Error> {
        let several = self.several.tokens();
        let of_text = |text: &str| Ok(engine.model().text()?.answer(text, several)?);
        let of_id = |id: &u32| Ok(vec![*id]);
        let split = self.targets.iter().flat_map(|t| t.split(','));
        let targets = split.chain(self.target.iter().map(String::as_str));
        let targets = targets
            .map(of_text)
            .chain(self.target_ids.iter().map(of_id));
        let wrong = self.wrong_target.iter().map(|text| of_text(text));
        let wrong = wrong.chain(self.wrong_target_ids.iter().map(of_id));
        Ok(Fallback {
            targets: targets.collect::<Result<_, Error>>()?,
            wrong: wrong.collect::<Result<_, Error>>()?,
            several,
        })
    }
}

/// A token id as typed.
pub fn token_id(text: &str) -> Result<u32, String> {
    let id = text.trim().parse();
    id.map_err(|_| "it takes token ids from 0 up, such as 464,3139".to_owned())
}

/// Token ids of a prompt that is typed as text or as such ids.
pub fn tokens(
    engine: &Engine,
    text: &Option<String>,
    ids: &Option<Vec<u32>>,
) -> Result<Option<Vec<u32>>, Error> {
    match text {
        Some(text) => Ok(Some(engine.model().text()?.encode(text)?)),
        None => Ok(ids.clone()),
    }
}
