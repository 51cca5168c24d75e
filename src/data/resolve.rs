//! From what a row says to token ids and positions of one model.

use super::{Example, RowError, Span, SpanTokens, Token};
use crate::check::{CheckError, check_pair};
use crate::model::{Checkpoint, ModelError, SeveralTokens};
use crate::prompt::pair::{DataRow, Pair, PromptText};
use crate::prompt::position::{Position, PositionError, Spot, Words, WordsError, one_place};

/// Which of a row's two prompts is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The base (corrupted) prompt is patched with the source's (clean) activations: what restores
    /// the answer?
    #[default]
    Denoise,
    /// The source (clean) prompt is patched with the base's (corrupted) activations: what breaks it?
    Noise,
}

/// How rows become pairs.
#[derive(Debug, Clone)]
pub struct Reading<'a> {
    /// Whose tokens.
    pub model: &'a Checkpoint,
    /// Which prompt is patched.
    pub direction: Direction,
    /// A token to begin every prompt with. Positions that a row counts move on by one.
    pub bos: Option<u32>,
    /// What a target of several tokens counts as.
    pub several: SeveralTokens,
    /// Targets of rows that have none of their own, each by its tokens.
    pub targets: &'a [Vec<u32>],
    /// Wrong answers of rows that have none of their own.
    pub wrong: &'a [Vec<u32>],
    /// Whether rows without targets are taken as they are.
    pub targets_optional: bool,
    /// Where every pair is patched; `None` is where its row says or, if it does not, everywhere.
    /// Numbers count the BOS.
    pub positions: Option<&'a [Position]>,
    /// Which keys are touched, of scores and a pattern: one run each; nothing unless they are listed.
    pub keys: Option<&'a [Position]>,
    /// Whether positions are needed in the source too.
    pub reads_source: bool,
    /// Where every pair is read out, in each of its prompts; `None` is the last position.
    pub at: Option<&'a Position>,
}

/// A row of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Prompts and answers.
    pub pair: Pair,
    /// Where the pair is patched, one run each.
    pub spots: Vec<Spot>,
    /// The keys that were asked for.
    pub keys: Vec<Spot>,
}

/// One of a row's prompts: its tokens, how it is called in errors, and the field that it stands in.
struct Side {
    ids: Vec<u32>,
    words: Words,
    which: &'static str,
    field: String,
}

/// A span in the prompt that is patched and, if it can be told, in the one that is read.
struct Placed<'a> {
    name: &'a str,
    base: (usize, usize),
    source: Result<(usize, usize), RowError>,
}

impl<'a> Reading<'a> {
    /// How positions alone are read, of prompts that stand as they are.
    pub fn of_positions(
        model: &'a Checkpoint,
        positions: Option<&'a [Position]>,
        reads_source: bool,
    ) -> Self {
        Self {
            model,
            direction: Direction::Denoise,
            bos: None,
            several: SeveralTokens::Refused,
            targets: &[],
            wrong: &[],
            targets_optional: true,
            positions,
            keys: None,
            reads_source,
            at: None,
        }
    }

    /// The pair and positions that a row means, checked against the model.
    ///
    /// # Errors
    ///
    /// [`RowError`] naming the field: text without tokens, answers of several tokens, prompts that
    /// are empty or too long, positions that are nowhere.
    pub fn resolve(&self, example: &Example) -> Result<Resolved, RowError> {
        let written = self.side(example, &example.base, "base")?;
        let read = match &example.source {
            Some(prompt) => Some(self.side(example, prompt, "source")?),
            None => None,
        };
        let mut spans = Vec::with_capacity(example.spans.len());
        for span in &example.spans {
            spans.push(self.span(example, span, &written, read.as_ref())?);
        }
        let (mut base, mut source) = (written, read);
        if self.direction == Direction::Noise {
            let clean = source.ok_or_else(|| {
                let problem = "has no source (or clean) prompt, which --direction noise patches";
                error(example, None, problem)
            })?;
            (base, source) = (clean, Some(base));
            (base.which, spans) = ("base", swapped(spans)?);
            source.iter_mut().for_each(|side| side.which = "source");
        }
        let mut pair = self.pair(example, &base, source.as_ref())?;
        if let Some(at) = self.at {
            let spot = self.spot(example, None, (at, None), (&base, source.as_ref()), &spans)?;
            let [here] = spot.positions[..] else {
                let count = spot.positions.len();
                let problem = format!(
                    "{at} is {count} tokens, and one is read: give {at}.first or {at}.last"
                );
                return Err(error(example, None, problem));
            };
            pair.readouts = vec![here];
            let there = spot.source_positions.map_or(here, |there| there[0]);
            pair.source_readout = pair.source.is_some().then_some(there);
        }
        let spots = self.spots(example, &base, source.as_ref(), &spans)?;
        let key = |key| self.spot(example, None, (key, None), (&base, None), &spans);
        let keys = self.keys.unwrap_or_default().iter().map(key);
        let keys = keys.collect::<Result<_, _>>()?;
        Ok(Resolved { pair, spots, keys })
    }

    fn side(
        &self,
        example: &Example,
        prompt: &PromptText,
        which: &'static str,
    ) -> Result<Side, RowError> {
        let field = example.called(which).to_owned();
        let fail = |problem: String| error(example, Some(&field), problem);
        let tokens = prompt.tokens(self.model);
        let ids = tokens.map_err(|error| fail(error.to_string()))?;
        let ids = with_bos(ids, self.bos)
            .ok_or_else(|| fail("begins with the BOS token already: leave out --bos".to_owned()))?;
        let tokenizer = self.model.tokenizer.as_ref();
        let words = Words::new(ids.iter().map(|id| tokenizer.and_then(|t| t.bytes(*id))));
        Ok(Side {
            ids,
            words,
            which,
            field,
        })
    }

    fn pair(
        &self,
        example: &Example,
        base: &Side,
        source: Option<&Side>,
    ) -> Result<Pair, RowError> {
        let token = |field: &str, token: &Token| match token {
            Token::Id(id) => Ok(vec![*id]),
            Token::Text(text) => {
                let tokenizer = self.model.text();
                let tokens = tokenizer.and_then(|t| t.answer(text, self.several));
                tokens.map_err(|e: ModelError| {
                    error(example, Some(example.called(field)), e.to_string())
                })
            }
        };
        let all = |field: &str, tokens: &[Token]| -> Result<Vec<Vec<u32>>, RowError> {
            tokens.iter().map(|t| token(field, t)).collect()
        };
        let mut targets = all("targets", &example.targets)?;
        if targets.is_empty() {
            targets = self.targets.to_vec();
        }
        if targets.is_empty() && !self.targets_optional {
            let problem = "has no targets: give targets or target_ids, or --targets for all rows";
            return Err(error(example, None, problem));
        }
        let mut wrong = all("wrong_targets", &example.wrong)?;
        if wrong.is_empty() {
            wrong = self.wrong.to_vec();
        }
        let pair = Pair {
            base: base.ids.clone(),
            source: source.map(|side| side.ids.clone()),
            row: example.row.map(|number| DataRow {
                number,
                id: example.id.as_deref().map(Into::into),
            }),
            ..Pair::default()
        }
        .answered(&targets, &wrong);
        check_pair(&pair, &self.model.config).map_err(|e| {
            let field = match &e {
                CheckError::EmptyPrompt { which } | CheckError::PromptTooLong { which, .. } => {
                    [Some(base), source]
                        .into_iter()
                        .flatten()
                        .find(|side| side.which == *which)
                        .map(|side| side.field.as_str())
                }
                CheckError::TargetTwice { .. } => Some(example.called("targets")),
                _ => None,
            };
            error(example, field, e.to_string())
        })?;
        Ok(pair)
    }

    fn span<'e>(
        &self,
        example: &'e Example,
        span: &'e Span,
        base: &Side,
        source: Option<&Side>,
    ) -> Result<Placed<'e>, RowError> {
        let shift = usize::from(self.bos.is_some());
        let tokens = |stretch: &SpanTokens, side: &Side| match stretch {
            SpanTokens::Words(words) => side.words.find(words).map_err(PositionError::from),
            SpanTokens::Nth(words, n) => {
                side.words.find_nth(words, *n).map_err(PositionError::from)
            }
            SpanTokens::Tokens(_, last) if last.saturating_add(shift) >= side.ids.len() => {
                Err(PositionError::OutOfRange {
                    number: last.saturating_add(shift).try_into().unwrap_or(isize::MAX),
                    length: side.ids.len(),
                })
            }
            SpanTokens::Tokens(first, last) => Ok((first + shift, last + shift)),
        };
        let fail = |field: &str, which: &str, problem: PositionError| {
            let name = &span.name;
            error(
                example,
                Some(field),
                format!("{name:?}: the {which} prompt {problem}"),
            )
        };
        let at = tokens(&span.base, base).map_err(|e| fail("spans", "base", e))?;
        let read = match (source, &span.source) {
            // never read
            (None, _) => Ok(at),
            (Some(side), Some(stretch)) => {
                Ok(tokens(stretch, side).map_err(|e| fail("source_spans", "source", e))?)
            }
            (Some(side), None) => match tokens(&span.base, side) {
                Err(PositionError::Words(WordsError::Absent { .. }))
                    if side.ids.len() == base.ids.len() =>
                {
                    Ok(at)
                }
                found => found.map_err(|e| fail("source_spans", "source", e)),
            },
        };
        Ok(Placed {
            name: &span.name,
            base: at,
            source: read,
        })
    }

    fn spots(
        &self,
        example: &Example,
        base: &Side,
        source: Option<&Side>,
        spans: &[Placed<'_>],
    ) -> Result<Vec<Spot>, RowError> {
        let source = source.filter(|_| self.reads_source);
        let (positions, field) = match (self.positions, &example.positions) {
            (Some(positions), _) => (positions.to_vec(), None),
            (None, Some(own)) => (own.clone(), Some("positions")),
            (None, None) => {
                let every = (0..base.ids.len()).map(|p| Spot::same(None, vec![p]));
                return Ok(every.collect());
            }
        };
        let mut here = positions;
        let mut there = example.source_positions.clone().filter(|_| field.is_some());
        if field.is_some() {
            // a row counts in the prompt that it gives
            let shift = isize::from(self.bos.is_some());
            for position in here.iter_mut().chain(there.iter_mut().flatten()) {
                if let Position::Number(n @ 0..) = position {
                    *n = n.saturating_add(shift);
                }
            }
            if let (Direction::Noise, Some(read)) = (self.direction, &mut there) {
                std::mem::swap(&mut here, read);
            }
        }
        let mut spots = Vec::with_capacity(here.len());
        for (index, position) in here.iter().enumerate() {
            let read = there.as_ref().and_then(|list| list.get(index));
            spots.push(self.spot(example, field, (position, read), (base, source), spans)?);
        }
        let own = example.positions.as_deref().filter(|_| field.is_some());
        // two names may fall together in one row and not in another
        let doubled = own.and_then(|own| one_place(own, &spots));
        match doubled {
            Some([a, b]) if a == b => {
                let problem = format!("names {a} twice: name each position once");
                Err(error(example, field, problem))
            }
            Some([a, b]) if [a, b].iter().any(|p| matches!(p, Position::Number(_))) => {
                let problem = format!(
                    "{a} and {b} are the same token of the {} prompt: name it once",
                    base.which
                );
                Err(error(example, field, problem))
            }
            _ => Ok(spots),
        }
    }

    /// Where one position stands in both prompts.
    fn spot(
        &self,
        example: &Example,
        field: Option<&str>,
        (position, read): (&Position, Option<&Position>),
        (base, source): (&Side, Option<&Side>),
        spans: &[Placed<'_>],
    ) -> Result<Spot, RowError> {
        let fail = |which: &str, position: &Position, e: PositionError| {
            error(
                example,
                field,
                format!("position {position}: the {which} prompt {e}"),
            )
        };
        let placed = |name: &str| spans.iter().find(|span| span.name == name);
        let here = position
            .resolve(&base.words, |name| placed(name).map(|s| s.base))
            .map_err(|e| fail("base", position, e))?;
        let name = match position {
            Position::Number(0..) => None,
            named => Some(named.to_string()),
        };
        let Some(source) = source else {
            return Ok(Spot::same(name, here));
        };
        let asked = read.unwrap_or(position);
        if let Position::Named { name, .. } = asked
            && let Some(Err(e)) = placed(name).map(|span| &span.source)
        {
            return Err(e.clone());
        }
        let span = |name: &str| placed(name).and_then(|s| s.source.clone().ok());
        let there = match asked.resolve(&source.words, span) {
            // aligned prompts: where the word stands in the base
            Err(PositionError::Words(WordsError::Absent { .. }))
                if read.is_none() && source.ids.len() == base.ids.len() =>
            {
                here.clone()
            }
            found => found.map_err(|e| fail("source", asked, e))?,
        };
        if there.len() != here.len() {
            let problem = format!(
                "position {position} is {} tokens of the base prompt, but {} of the source: name one, as in {position}.last",
                here.len(),
                there.len()
            );
            return Err(error(example, field, problem));
        }
        Ok(Spot {
            name,
            source_positions: (there != here).then_some(there),
            positions: here,
            keys: None,
        })
    }
}

impl Example {
    /// A pair of no file, given as token ids.
    pub fn of_ids(base: Vec<u32>, source: Option<Vec<u32>>) -> Self {
        Self {
            path: std::path::PathBuf::new(),
            place: String::new(),
            row: None,
            id: None,
            base: PromptText::Ids(base),
            source: source.map(PromptText::Ids),
            targets: Vec::new(),
            wrong: Vec::new(),
            positions: None,
            source_positions: None,
            spans: Vec::new(),
            names: Vec::new(),
        }
    }

    /// The name under which the row gives a field.
    fn called<'a>(&'a self, canonical: &'a str) -> &'a str {
        let given = self.names.iter().find(|(name, _)| *name == canonical);
        given.map_or(canonical, |(_, given)| given)
    }
}

/// `ids` after a BOS, if there is to be one; `None` where one stands there already.
pub fn with_bos(ids: Vec<u32>, bos: Option<u32>) -> Option<Vec<u32>> {
    match bos {
        None => Some(ids),
        Some(bos) if ids.first() == Some(&bos) => None,
        Some(bos) => Some(std::iter::once(bos).chain(ids).collect()),
    }
}

fn swapped(spans: Vec<Placed<'_>>) -> Result<Vec<Placed<'_>>, RowError> {
    let mut all = Vec::with_capacity(spans.len());
    for Placed { name, base, source } in spans {
        all.push(Placed {
            name,
            base: source?,
            source: Ok(base),
        });
    }
    Ok(all)
}

fn error(example: &Example, field: Option<&str>, problem: impl Into<String>) -> RowError {
    RowError::new(&example.path, &example.place, field, problem)
}
