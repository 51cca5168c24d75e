//! Which rows of a data set the model answers with their first target, as ROME asks of its facts before
//! it traces them.

use super::setup::Setup;
use crate::data::{Direction, Example, Resolved, RowError};
use crate::error::Error;
use crate::sweep::pair::{Pair, PairRuns};
use crate::sweep::results::raw;

/// What a row asks the model.
pub struct Asked {
    /// The row, for sentences.
    example: Example,
    /// Which of its prompts, as the row calls it.
    called: String,
    prompt: Vec<u32>,
    /// What the model should answer; a row without targets has none that could be wrong.
    target: Option<u32>,
}

impl Asked {
    /// The prompt that the targets answer: the clean one, where the row calls its prompts clean or
    /// corrupted, else the base.
    pub fn of(example: &Example, resolved: &Resolved, direction: Direction) -> Self {
        let called = |canonical| {
            let given = example.names.iter().find(|(name, _)| *name == canonical);
            given.map_or(canonical, |(_, given)| given.as_str())
        };
        let corrupted = ["corrupted", "corrupt"].contains(&called("base"));
        let clean = corrupted || called("source") == "clean";
        let pair = &resolved.pair;
        let (written, read) = match (direction, &pair.source) {
            (Direction::Denoise, source) => (&pair.base, source.as_ref()),
            (Direction::Noise, source) => (source.as_ref().unwrap_or(&pair.base), Some(&pair.base)),
        };
        let (called, prompt) = match read.filter(|_| clean) {
            Some(read) => (called("source"), read),
            None => (called("base"), written),
        };
        Self {
            example: example.clone(),
            called: called.to_owned(),
            prompt: prompt.clone(),
            target: pair.targets.first().copied(),
        }
    }
}

/// What the model says instead of each row's first target; nothing where it says that.
pub fn otherwise(asked: &[Asked], setup: &Setup) -> Result<Vec<Option<RowError>>, Error> {
    let clean = |asked: &Asked| PairRuns {
        pair: Pair {
            base: asked.prompt.clone(),
            ..Pair::default()
        },
        runs: [].into(),
    };
    let prompts: Vec<PairRuns> = asked.iter().map(clean).collect();
    let (outcome, _) = setup.execute(&prompts, 1, &[])?;
    let otherwise = asked.iter().zip(&outcome.pairs).map(|(asked, read)| {
        let top = read.base.last().and_then(|read| read.top.first());
        let (top, target) = top.map(|(id, _)| *id).zip(asked.target)?;
        let text = |id| raw(&setup.model, id);
        let problem = format!(
            "after the {} prompt comes {:?} and not {:?}",
            asked.called,
            text(top),
            text(target)
        );
        let example = &asked.example;
        let error = RowError::new(&example.path, &example.place, None, problem);
        (top != target).then_some(error)
    });
    Ok(otherwise.collect())
}
