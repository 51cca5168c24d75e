//! Which rows of a data set the model answers rightly, as ROME asks of its facts before it traces them: the
//! most probable token is a right answer, as the metric `top1` counts it.

use super::setup::Setup;
use crate::data::{Direction, Example, Resolved, RowError};
use crate::error::Error;
use crate::prompt::pair::{Pair, PairRuns};
use crate::results::rows::raw;

/// What a row asks the model.
pub struct Asked {
    /// The row, for sentences.
    example: Example,
    /// Which of its prompts, as the row calls it.
    called: String,
    prompt: Vec<u32>,
    /// Right answers; a row without any has none that could be missed.
    targets: Vec<u32>,
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
            targets: pair.targets.clone(),
        }
    }
}

/// What the model says to each row instead of a right answer; nothing where it gives one.
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
        let (top, _) = *read.base.last()?.top.first()?;
        let text = |id| format!("{:?}", raw(&setup.model, id));
        let missed = match &asked.targets[..] {
            [] => return None,
            targets if targets.contains(&top) => return None,
            [target] => text(*target),
            several => format!("one of its {} targets", several.len()),
        };
        let (called, top) = (&asked.called, text(top));
        let problem = format!("after the {called} prompt comes {top} and not {missed}");
        let Example { path, place, .. } = &asked.example;
        Some(RowError::new(path, place, None, problem))
    });
    Ok(otherwise.collect())
}
