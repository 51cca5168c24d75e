//! Pairs from a data set, row by row; and which rows the model answers rightly, as ROME asks of its facts before
//! it traces them: the most probable token is a right answer, as the metric `top1` counts it.

use std::path::PathBuf;

use super::Engine;
use crate::data::{DataError, Direction, Example, Examples, Reading, Resolved, RowError, with_bos};
use crate::error::Error;
use crate::model::SeveralTokens;
use crate::prompt::pair::Pair;
use crate::prompt::position::Position;

/// How rows are taken.
#[derive(Debug, Clone)]
pub struct RowOptions {
    /// The data set, for sentences.
    pub path: PathBuf,
    /// Which prompt is patched with which one's activations.
    pub direction: Direction,
    /// Whether every prompt begins with the model's BOS token.
    pub bos: bool,
    /// Whether malformed rows are passed over.
    pub skip_bad: bool,
    /// Whether rows are kept only if a target is the model's most probable token after their clean prompt.
    pub known: bool,
    /// Where every pair is read out, in each of its prompts; the last position unless said.
    pub at: Option<Position>,
    /// Told in a sentence how many rows were passed over.
    pub note: fn(&str),
}

/// Answers of rows that have none of their own.
#[derive(Debug, Clone, Default)]
pub struct Fallback {
    /// Targets, each by its tokens.
    pub targets: Vec<Vec<u32>>,
    /// Wrong targets.
    pub wrong: Vec<Vec<u32>>,
    /// What a target of several tokens counts as.
    pub several: SeveralTokens,
}

impl Engine {
    /// The token that begins every prompt, if it is wanted.
    fn bos(&self, wanted: bool) -> Result<Option<u32>, Error> {
        match (wanted, self.model.config.bos) {
            (false, _) => Ok(None),
            (true, Some(bos)) => Ok(Some(bos)),
            (true, None) => Err(Error::Usage(
                "--bos: the model's config.json names no bos_token_id: leave it out".into(),
            )),
        }
    }

    /// A pair, begun with the BOS if it is wanted.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where the model has none, or a prompt begins with it already.
    pub fn begin(&self, mut pair: Pair, bos: bool) -> Result<Pair, Error> {
        let bos = self.bos(bos)?;
        let further = pair.prompts.iter_mut().map(|(_, ids)| ids);
        for ids in std::iter::once(&mut pair.base)
            .chain(&mut pair.source)
            .chain(further)
        {
            *ids = with_bos(std::mem::take(ids), bos).ok_or_else(|| {
                Error::Usage("a prompt begins with the BOS token already: leave out --bos".into())
            })?;
        }
        Ok(pair)
    }

    /// How rows are meant to be read; patches are where they say, and read no source.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where the model has no BOS and one is wanted.
    pub fn reading<'a>(
        &'a self,
        options: &'a RowOptions,
        fallback: &'a Fallback,
    ) -> Result<Reading<'a>, Error> {
        Ok(Reading {
            model: &self.model,
            direction: options.direction,
            bos: self.bos(options.bos)?,
            several: fallback.several,
            targets: &fallback.targets,
            wrong: &fallback.wrong,
            targets_optional: false,
            positions: None,
            keys: None,
            reads_source: false,
            at: options.at.as_ref(),
        })
    }

    /// Hands each row on as a pair and returns what becomes of it. The inner error of `visit` is what is
    /// wrong with the row, which is passed over, as one that cannot be read is, if that was asked for;
    /// and so is a row that the model answers otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a row that is wrong, or where none is left; what `visit` says.
    pub fn each_row<T>(
        &self,
        rows: Examples,
        reading: &Reading<'_>,
        options: &RowOptions,
        mut visit: impl FnMut(&Example, Resolved) -> Result<Result<T, RowError>, Error>,
    ) -> Result<Vec<T>, Error> {
        let (count, path) = (rows.len(), &options.path);
        answered(&rows, reading, options)?;
        let mut bad: Vec<RowError> = Vec::new();
        let (mut all, mut asked) = (Vec::new(), Vec::new());
        for row in rows {
            let done = match row.and_then(|row| Ok((reading.resolve(&row)?, row))) {
                Ok((resolved, example)) => {
                    let asks = options
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
                Err(error) if options.skip_bad => bad.push(error),
                Err(error) => return Err(DataError::Row(error).into()),
            }
        }
        if let Some(first) = bad.first() {
            if bad.len() == count {
                let (path, first) = (path.clone(), Box::new(first.clone()));
                return Err(DataError::AllBad { path, count, first }.into());
            }
            let (bad, path) = (bad.len(), path.display());
            let said = format!("skipped {bad} of {count} rows of {path}; the first: {first}");
            (options.note)(&said);
        }
        if options.known {
            let (count, otherwise) = (all.len(), self.otherwise(&asked)?);
            let mut left_out = otherwise.iter().flatten();
            if let Some(first) = left_out.next() {
                let others = 1 + left_out.count();
                if others == count {
                    let (path, first) = (path.clone(), Box::new(first.clone()));
                    return Err(DataError::NoneKnown { path, count, first }.into());
                }
                (options.note)(&format!(
                    "left out {others} of {count} rows of {}, which the model answers otherwise; the first: {first}",
                    path.display(),
                ));
            }
            let mut known = otherwise.iter().map(Option::is_none);
            all.retain(|_| known.next().unwrap_or(true));
        }
        Ok(all)
    }
}

/// Says where answers that were typed stand back behind a row's own.
///
/// # Errors
///
/// [`DataError::OwnAnswers`] where every row has its own, so that they would mean nothing.
fn answered(rows: &Examples, reading: &Reading<'_>, options: &RowOptions) -> Result<(), DataError> {
    let examples = || rows.iter().flatten();
    let said = |flag, what, has: fn(&Example) -> bool| {
        let Some(first) = examples().find(|example| has(example)) else {
            return Ok(());
        };
        let (count, own) = (examples().count(), examples().filter(|e| has(e)).count());
        if own == count {
            let path = options.path.clone();
            return Err(DataError::OwnAnswers { path, flag, what });
        }
        let (path, place) = (options.path.display(), &first.place);
        (options.note)(&format!(
            "{flag} answers for {} of {count} rows of {path}; the others keep {what} of their own, the first in {place}",
            count - own,
        ));
        Ok(())
    };
    if !reading.targets.is_empty() {
        let flag = "--targets (or --target, --target-ids)";
        said(flag, "targets", |example| !example.targets.is_empty())?;
    }
    if !reading.wrong.is_empty() {
        let flag = "--wrong-target (or --wrong-target-ids)";
        said(flag, "wrong targets", |example| !example.wrong.is_empty())?;
    }
    Ok(())
}

/// Says which rows name positions that are not the ones patched: `instead` is what is.
pub(super) fn overridden(rows: &Examples, options: &RowOptions, instead: &str) {
    let own = |example: &&Example| example.positions.is_some();
    let Some(first) = rows.iter().flatten().find(own) else {
        return;
    };
    let (count, own) = (rows.len(), rows.iter().flatten().filter(own).count());
    let (path, place) = (options.path.display(), &first.place);
    (options.note)(&format!(
        "{instead} and not the positions that {own} of {count} rows of {path} name, the first in {place}"
    ));
}

/// What a row asks the model.
struct Asked {
    /// The row, for sentences.
    example: Example,
    /// Which of its prompts, as the row calls it.
    called: String,
    prompt: Vec<u32>,
    /// Where it is read out; `None` is its last position.
    at: Option<usize>,
    /// Right answers; a row without any has none that could be missed.
    targets: Vec<u32>,
}

impl Asked {
    /// The prompt that the targets answer: the clean one, where the row calls its prompts clean or
    /// corrupted, else the base.
    fn of(example: &Example, resolved: &Resolved, direction: Direction) -> Self {
        let called = |canonical| {
            let given = example.names.iter().find(|(name, _)| *name == canonical);
            given.map_or(canonical, |(_, given)| given.as_str())
        };
        let corrupted = ["corrupted", "corrupt"].contains(&called("base"));
        let clean = corrupted || called("source") == "clean";
        let pair = &resolved.pair;
        let base = (&pair.base, pair.readouts.last().copied());
        let source = pair.source.as_ref().map(|ids| (ids, pair.source_readout));
        let (written, read) = match (direction, source) {
            (Direction::Denoise, source) => (base, source),
            (Direction::Noise, source) => (source.unwrap_or(base), Some(base)),
        };
        let (called, (prompt, at)) = match read.filter(|_| clean) {
            Some(read) => (called("source"), read),
            None => (called("base"), written),
        };
        Self {
            example: example.clone(),
            called: called.to_owned(),
            prompt: prompt.clone(),
            at,
            targets: pair.targets.clone(),
        }
    }
}

impl Engine {
    /// What the model says to each row instead of a right answer; nothing where it gives one.
    fn otherwise(&self, asked: &[Asked]) -> Result<Vec<Option<RowError>>, Error> {
        let tops = self.tops(asked.iter().map(|asked| (&asked.prompt, asked.at)))?;
        let otherwise = asked.iter().zip(tops).map(|(asked, top)| {
            let top = top?;
            let text = |id| format!("{:?}", self.token(id));
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
}
