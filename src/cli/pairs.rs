//! Where a sweep patches each of its pairs: one pair from flags, or those of a data set.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use super::data::{DataFlags, Fallback};
use super::setup::Setup;
use crate::ask::grid::{Grid, GridError, Span};
use crate::ask::preset::{Cell, Preset, together};
use crate::check::{CheckError, check_run};
use crate::data;
use crate::data::{Example, Reading, Resolved, RowError};
use crate::error::Error;
use crate::patch::Run;
use crate::prompt::pair::{Pair, PairRuns};
use crate::prompt::position::{Position, Spot};

/// Where a sweep patches, as typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Where {
    /// At every position, or where a row says.
    All,
    /// At all of them in one run.
    Together,
    /// At these.
    Listed(Vec<Position>),
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::All),
            "together" => return Ok(Self::Together),
            _ => {}
        }
        let wrong = || {
            format!(
                "`{text}` is not a range: write all, 3, 0,4 or 2-5, or together, or names such as end, -1, subject.last or a word"
            )
        };
        let mut list: Vec<Position> = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let of_numbers = part.starts_with(|c: char| c.is_ascii_digit())
                && part.chars().all(|c| c.is_ascii_digit() || c == '-');
            match part.parse::<Span>() {
                Ok(Span::Some(numbers)) => {
                    list.extend(numbers.iter().map(|n| Position::Number(n.cast_signed())));
                }
                Err(backwards @ GridError::Backwards { .. }) => return Err(backwards.to_string()),
                _ if of_numbers || ["", "all", "together"].contains(&part) => return Err(wrong()),
                _ => list.push(Position::named(part)),
            }
        }
        // a range names a set: what it names twice is meant once
        let mut seen = std::collections::HashSet::new();
        list.retain(|position| seen.insert(position.clone()));
        Ok(Self::Listed(list))
    }
}

impl Where {
    /// The positions, if they are listed.
    pub fn listed(&self) -> Option<&[Position]> {
        match self {
            Self::Listed(list) => Some(list),
            _ => None,
        }
    }

    /// As plain numbers, if they are.
    fn numbers(&self) -> Option<Span> {
        match self {
            Self::All | Self::Together => Some(Span::All),
            Self::Listed(list) => list
                .iter()
                .map(|position| match position {
                    Position::Number(n) => usize::try_from(*n).ok(),
                    Position::Named { .. } => None,
                })
                .collect::<Option<_>>()
                .map(Span::Some),
        }
    }
}

/// Pairs with their runs and, of a preset, where each run stands in its array.
#[derive(Default)]
pub struct Planned {
    pub pairs: Vec<PairRuns>,
    pub cells: Vec<Arc<[Cell]>>,
    /// Names or numbers of each pair's places.
    pub places: Vec<Vec<String>>,
}

/// One of them.
struct One {
    pair: PairRuns,
    cells: Arc<[Cell]>,
    places: Vec<String>,
}

/// What every pair of a sweep shares.
pub struct Ask<'a> {
    pub setup: &'a Setup,
    pub grid: &'a Grid,
    pub preset: Option<&'a Preset>,
    pub places: &'a Where,
    /// Whether the pairs are those of a data set.
    pub of_data: bool,
}

/// Runs of pairs patched at the same spots.
type Known = HashMap<Vec<Spot>, (Arc<[Run]>, Arc<[Cell]>)>;

impl Ask<'_> {
    /// The pairs of a data set.
    pub fn data(
        &self,
        flags: &DataFlags,
        rows: data::Rows,
        fallback: &Fallback,
    ) -> Result<Planned, Error> {
        let reading = Reading {
            positions: self.places.listed(),
            reads_source: self.grid.op.reads_source(),
            ..flags.reading(self.setup, fallback)?
        };
        let mut known = HashMap::new();
        let visit = |example: &Example, Resolved { pair, spots }| {
            let one = self.plan(pair, spots, &mut known)?;
            Ok(one.map_err(|error| of_row(example, error)))
        };
        let mut planned = Planned::default();
        for one in flags.each(rows, &reading, self.setup, visit)? {
            planned.push(one);
        }
        Ok(planned)
    }

    /// The one pair that was typed.
    pub fn pair(&self, pair: Pair) -> Result<Planned, Error> {
        let spots = match self.places.numbers() {
            Some(span) => {
                let positions = span.of(pair.base.len(), "position")?;
                let each = positions.into_iter().map(|p| Spot::same(None, vec![p]));
                each.collect()
            }
            None => self.named(&pair)?,
        };
        let mut planned = Planned::default();
        planned.push(self.plan(pair, spots, &mut HashMap::new())??);
        Ok(planned)
    }

    fn named(&self, pair: &Pair) -> Result<Vec<Spot>, Error> {
        let reads_source = self.grid.op.reads_source();
        let listed = self.places.listed();
        let reading = Reading::of_positions(&self.setup.model, listed, reads_source);
        let example = Example::of_ids(pair.base.clone(), pair.source.clone());
        let resolved = reading.resolve(&example);
        let resolved = resolved.map_err(|e| Error::Usage(format!("--positions: {}", e.problem)))?;
        Ok(resolved.spots)
    }

    /// Prompts of unequal lengths that are patched at every position of the base: which tokens of the
    /// source they would be given is an accident.
    fn misaligned(&self, pair: &Pair, spots: &[Spot]) -> Option<CheckError> {
        let source = pair.source.as_ref()?;
        let here = |spot: &Spot| spot.source_positions.is_none() && spot.positions.len() == 1;
        let everywhere = spots.len() == pair.base.len() && spots.iter().all(here);
        let equal = source.len() == pair.base.len() || !self.grid.op.reads_source();
        (everywhere && !equal).then(|| CheckError::UnequalLengths {
            op: self.grid.op.label(),
            base_tokens: pair.base.len(),
            source_tokens: source.len(),
        })
    }

    /// A pair with its runs; the inner error is what does not fit this pair.
    fn plan(
        &self,
        pair: Pair,
        spots: Vec<Spot>,
        known: &mut Known,
    ) -> Result<Result<One, CheckError>, Error> {
        let config = &self.setup.model.config;
        if let Some(error) = self.misaligned(&pair, &spots) {
            return Ok(Err(error));
        }
        let labels: Vec<String> = spots.iter().map(Spot::label).collect();
        if !known.contains_key(&spots) {
            let (runs, cells) = match self.preset {
                Some(preset) => preset.runs(self.grid, config, &spots)?,
                None if *self.places == Where::Together => {
                    let mut all = together(&spots);
                    // the one pair that was typed is averaged with none
                    all.name = all.name.filter(|_| self.of_data);
                    (self.grid.runs_at(config, &[all])?, Vec::new())
                }
                None => (self.grid.runs_at(config, &spots)?, Vec::new()),
            };
            known.insert(spots.clone(), (runs.into(), cells.into()));
        }
        let (runs, cells) = &known[&spots];
        for run in runs.iter() {
            if let Err(error) = check_run(run, runs, &pair, config) {
                return Ok(Err(error));
            }
        }
        let runs = runs.clone();
        Ok(Ok(One {
            pair: PairRuns { pair, runs },
            cells: cells.clone(),
            places: labels,
        }))
    }
}

impl Planned {
    fn push(&mut self, one: One) {
        self.pairs.push(one.pair);
        self.cells.push(one.cells);
        self.places.push(one.places);
    }
}

/// What stands along an axis of the places at which pairs are patched: those of the pair that has most,
/// where all others have the first of them.
pub fn axis(places: &[Vec<String>]) -> Result<Vec<String>, Error> {
    let most = places.iter().max_by_key(|places| places.len());
    let most = most.cloned().unwrap_or_default();
    match places.iter().find(|places| !most.starts_with(places)) {
        None => Ok(most),
        Some(other) => Err(Error::Usage(format!(
            "--arrays: one pair is patched at {} and another at {}, which are no axis: give --positions, the same for all",
            most.join(", "),
            other.join(", "),
        ))),
    }
}

/// What does not fit a pair, as an error of its row.
fn of_row(example: &Example, error: CheckError) -> RowError {
    let problem = match &error {
        CheckError::SourceTooShort { .. } => {
            format!("{error} (or --positions by names, such as end or subject.last)")
        }
        other => other.to_string(),
    };
    RowError::new(&example.path, &example.place, None, problem)
}
