//! What is asked of which pairs: one that was typed, or those of a data set.

use std::collections::HashMap;
use std::sync::Arc;

use super::data::overridden;
use super::{Engine, Fallback, Form, Question, RowOptions, Sweep, Where};
use crate::ask::grid::{Grid, IndexRange};
use crate::ask::preset::{GridIndex, together};
use crate::check::{CheckError, check_pair, check_run};
use crate::data::{self, Example, Examples, Reading, Resolved, RowError, SpanTokens};
use crate::error::Error;
use crate::graph::edge::Edge;
use crate::graph::extent::Extent;
use crate::graph::patching;
use crate::graph::path::Paths;
use crate::patch::Run;
use crate::prompt::pair::{Pair, PairRuns};
use crate::prompt::position::{Position, Spot, one_place};
use crate::tracing::level::Level;
use crate::tracing::runs::Tracing;

/// Pairs, or the rows of a data set.
pub enum Pairs {
    /// These.
    Listed(Vec<Pair>),
    /// Rows, how they are taken, and the answers of those that have none.
    Rows(Examples, RowOptions, Fallback),
}

impl From<Vec<Pair>> for Pairs {
    fn from(pairs: Vec<Pair>) -> Self {
        Self::Listed(pairs)
    }
}

impl From<Pair> for Pairs {
    fn from(pair: Pair) -> Self {
        Self::Listed(vec![pair])
    }
}

/// Where each run of a pair stands in a preset's array.
pub type Places = Arc<[GridIndex]>;

/// A pair with its runs, their places, and the names of where they patch.
type Cells = (PairRuns, Places, Vec<String>);

/// Runs of pairs patched at the same spots, and where each stands in a preset's array.
type KnownRuns = HashMap<Vec<Spot>, (Arc<[Run]>, Places)>;

/// Runs of pairs whose senders send, and whose receivers receive, at the same places of as long a prompt.
type KnownPaths = HashMap<(usize, Vec<Spot>, Vec<usize>), Arc<[Run]>>;

impl Engine {
    /// Runs by themselves. Pairs without targets have no rows.
    pub fn runs(&self, pairs: impl Into<Vec<PairRuns>>) -> Question<'_> {
        let pairs = pairs.into();
        Question::new(self, pairs, Form::Runs)
    }

    /// One run a cell of a grid or a preset.
    ///
    /// # Errors
    ///
    /// [`Error::Grid`], [`Error::Check`] and [`Error::Data`]: ranges, prompts and rows that do not fit.
    pub fn sweep(&self, sweep: &Sweep, pairs: impl Into<Pairs>) -> Result<Question<'_>, Error> {
        sweep.check()?;
        let mut known = KnownRuns::new();
        let reads_source = sweep.grid.op.reads_source();
        let keys = sweep.keys.as_ref().and_then(Where::listed);
        let all = match pairs.into() {
            Pairs::Rows(rows, options, fallback) => {
                if sweep.places.listed().is_some() {
                    overridden(&rows, &options, "patched is at --positions");
                }
                let reading = Reading {
                    positions: sweep.places.listed(),
                    keys,
                    reads_source,
                    ..self.reading(&options, &fallback)?
                };
                self.each_row(rows, &reading, &options, |example, resolved| {
                    let cells = self.cells(sweep, resolved, true, &mut known)?;
                    Ok(cells.map_err(|error| of_row(example, error)))
                })?
            }
            Pairs::Listed(pairs) => {
                // one pair is averaged with none
                let several = pairs.len() > 1;
                let one = |pair: Pair| -> Result<Cells, Error> {
                    if pair.source.is_none() && reads_source {
                        let op = sweep.grid.op.label();
                        return Err(Error::Usage(format!(
                            "`{op}` reads a source prompt: give --source too"
                        )));
                    }
                    let spots = match sweep.places.numbers() {
                        Some(span) => {
                            let positions = span.of(pair.base.len(), "position")?;
                            let each = positions.into_iter().map(|p| Spot::same(None, vec![p]));
                            each.collect()
                        }
                        None => self.spots(&pair, sweep.places.listed(), reads_source)?,
                    };
                    let keys = match keys {
                        None => Vec::new(),
                        Some(_) => self.named_spots(("keys", keys), &pair, false)?,
                    };
                    let resolved = Resolved { pair, spots, keys };
                    Ok(self.cells(sweep, resolved, several, &mut known)??)
                };
                pairs.into_iter().map(one).collect::<Result<_, _>>()?
            }
        };
        let (mut pairs, mut places, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for (pair, of_runs, spots) in all {
            pairs.push(pair);
            places.push(of_runs);
            labels.push(spots);
        }
        let form = match sweep.preset {
            Some(preset) => Form::Preset {
                preset,
                grid: Box::new(sweep.grid.clone()),
                places,
                labels,
            },
            None => Form::Runs,
        };
        Ok(Question::new(self, pairs, form))
    }

    /// Named positions of a pair that was typed.
    pub(super) fn spots(
        &self,
        pair: &Pair,
        listed: Option<&[Position]>,
        reads_source: bool,
    ) -> Result<Vec<Spot>, Error> {
        self.named_spots(("positions", listed), pair, reads_source)
    }

    /// What was listed under a flag, in a pair that was typed.
    fn named_spots(
        &self,
        (flag, listed): (&str, Option<&[Position]>),
        pair: &Pair,
        reads_source: bool,
    ) -> Result<Vec<Spot>, Error> {
        let reading = Reading::of_positions(&self.model, listed, reads_source);
        let example = Example::of_ids(pair.base.clone(), pair.source.clone());
        let usage = |problem: &str| Error::Usage(format!("--{flag}: {problem}"));
        let resolved = reading.resolve(&example);
        let spots = resolved.map_err(|error| usage(&error.problem))?.spots;
        match listed.and_then(|listed| one_place(listed, &spots)) {
            Some([a, b]) => Err(usage(&format!(
                "{a} and {b} are the same token of the base prompt: name it once"
            ))),
            None => Ok(spots),
        }
    }

    /// A pair with the runs of a sweep, and the names of its places; the inner error is what does not fit this
    /// pair.
    fn cells(
        &self,
        sweep: &Sweep,
        Resolved { pair, spots, keys }: Resolved,
        several: bool,
        known: &mut KnownRuns,
    ) -> Result<Result<Cells, CheckError>, Error> {
        let (grid, config) = (&sweep.grid, &self.model.config);
        if let Some(error) = misaligned(grid, &pair, &spots) {
            return Ok(Err(error));
        }
        let spots = match sweep.places {
            Where::Together => {
                let mut all = together(&spots);
                all.name = all.name.filter(|_| several || sweep.keys.is_some());
                vec![all]
            }
            _ => spots,
        };
        let spots = sweep.seeing(spots, keys, pair.base.len());
        let labels: Vec<String> = spots.iter().map(Spot::label).collect();
        if !known.contains_key(&spots) {
            let (runs, places) = match &sweep.preset {
                Some(preset) => preset.runs(grid, config, &spots)?,
                None => (grid.runs_at(config, &spots)?, Vec::new()),
            };
            known.insert(spots.clone(), (runs.into(), places.into()));
        }
        let (runs, places) = &known[&spots];
        for run in runs.iter() {
            if let Err(error) = check_run(run, runs, &pair, config) {
                return Ok(Err(error));
            }
        }
        let runs = runs.clone();
        Ok(Ok((PairRuns { pair, runs }, places.clone(), labels)))
    }

    /// Every one of these edges, patched by itself.
    ///
    /// # Errors
    ///
    /// [`Error::EdgePatching`] and [`Error::Data`]: prompts and rows that do not fit.
    pub fn edges(
        &self,
        edges: Vec<Edge>,
        extent: Extent,
        pairs: impl Into<Pairs>,
    ) -> Result<Question<'_>, Error> {
        let config = &self.model.config;
        let without_runs = |pair| PairRuns {
            pair,
            runs: [].into(),
        };
        let pairs = match pairs.into() {
            Pairs::Listed(pairs) => {
                for pair in &pairs {
                    patching::check(pair, config)?;
                }
                pairs.into_iter().map(without_runs).collect()
            }
            Pairs::Rows(rows, options, fallback) => {
                overridden(&rows, &options, "edges are patched at every position");
                let reading = self.reading(&options, &fallback)?;
                let visit = |example: &Example, Resolved { pair, .. }| {
                    Ok(match patching::check(&pair, config) {
                        Ok(_) => Ok(without_runs(pair)),
                        Err(error) => Err(of_example(example, error.to_string())),
                    })
                };
                self.each_row(rows, &reading, &options, visit)?
            }
        };
        Ok(Question::new(self, pairs, Form::Edges { edges, extent }))
    }

    /// What senders tell receivers along direct paths; senders send at the one place, receivers receive at the
    /// other.
    ///
    /// # Errors
    ///
    /// [`Error::Path`], [`Error::Usage`] and [`Error::Data`]: paths, prompts and rows that do not fit.
    pub fn paths(
        &self,
        paths: Paths,
        (from, to): (&Where, &Where),
        pairs: impl Into<Pairs>,
    ) -> Result<Question<'_>, Error> {
        paths.check(&self.model.config)?;
        let mut known = KnownPaths::new();
        let mut plan = |reading: &Reading<'_>, example: &Example, resolved| {
            self.path(&paths, (from, to), reading, example, resolved, &mut known)
        };
        let planned = match pairs.into() {
            Pairs::Rows(rows, options, fallback) => {
                if from.listed().is_some() {
                    overridden(&rows, &options, "senders send at --positions");
                }
                let reading = Reading {
                    positions: from.listed(),
                    reads_source: true,
                    ..self.reading(&options, &fallback)?
                };
                self.each_row(rows, &reading, &options, |example, resolved| {
                    Ok(plan(&reading, example, resolved))
                })?
            }
            Pairs::Listed(pairs) => {
                let one = |pair: Pair| -> Result<_, Error> {
                    let reads_source = pair.source.is_some();
                    let spots = self.spots(&pair, from.listed(), reads_source)?;
                    let example = Example::of_ids(pair.base.clone(), pair.source.clone());
                    let reading = Reading::of_positions(&self.model, from.listed(), reads_source);
                    let resolved = Resolved {
                        pair,
                        spots,
                        keys: Vec::new(),
                    };
                    let planned = plan(&reading, &example, resolved);
                    planned.map_err(|error| Error::Usage(error.problem))
                };
                pairs.into_iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
        };
        let (pairs, spots) = planned.into_iter().unzip();
        Ok(Question::new(self, pairs, Form::Paths { paths, spots }))
    }

    /// A pair with its runs, and where its senders send.
    fn path(
        &self,
        paths: &Paths,
        (from, to): (&Where, &Where),
        reading: &Reading<'_>,
        example: &Example,
        Resolved { pair, spots, .. }: Resolved,
        known: &mut KnownPaths,
    ) -> Result<(PairRuns, Vec<Spot>), RowError> {
        let everywhere = from.listed().is_none() && example.positions.is_none();
        let wrong = |problem: String| of_example(example, problem);
        Paths::check_pair(&pair, everywhere).map_err(|error| wrong(error.to_string()))?;
        let spots = match from {
            Where::Together => vec![together(&spots)],
            Where::All | Where::Listed(_) => spots,
        };
        let (config, length) = (&self.model.config, pair.base.len());
        let at = match to.listed() {
            None => (0..length).collect(),
            Some(_) => {
                let receiving = Reading {
                    positions: to.listed(),
                    reads_source: false,
                    ..reading.clone()
                };
                let resolved = receiving.resolve(example).map_err(|mut error| {
                    error.problem = format!("--receiver-positions: {}", error.problem);
                    error
                })?;
                together(&resolved.spots).positions
            }
        };
        let runs =
            known
                .entry((length, spots.clone(), at))
                .or_insert_with_key(|(length, spots, at)| {
                    paths.runs(config, *length, spots, at).into()
                });
        let runs = Arc::clone(runs);
        for run in runs.iter() {
            let check = check_run(run, &runs, &pair, config);
            check.map_err(|error| wrong(error.to_string()))?;
        }
        Ok((PairRuns { pair, runs }, spots))
    }

    /// Noise on a subject, and what restored states bring back; `subject` are words of a prompt or token
    /// numbers, or what a data set calls it. The tracing's level is set from `noise`.
    ///
    /// # Errors
    ///
    /// [`Error::Tracing`], [`Error::Usage`] and [`Error::Data`]: tracings, prompts and rows that do not fit.
    pub fn tracing(
        &self,
        mut tracing: Tracing,
        (noise, subject): (Level, &str),
        pairs: impl Into<Pairs>,
    ) -> Result<Question<'_>, Error> {
        tracing.check()?;
        let pairs = pairs.into();
        let of_data = matches!(pairs, Pairs::Rows(..));
        let resolved = match pairs {
            Pairs::Rows(rows, options, fallback) => {
                let positions = [named_subject(subject).1];
                let reading = Reading {
                    positions: Some(&positions),
                    targets_optional: true,
                    ..self.reading(&options, &fallback)?
                };
                let visit = |_: &Example, resolved| Ok(Ok(resolved));
                self.each_row(rows, &reading, &options, visit)?
            }
            Pairs::Listed(pairs) => {
                let one = |pair: Pair| self.subject(pair, subject);
                pairs.into_iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
        };
        let (mut pairs, mut subjects) = (Vec::new(), Vec::new());
        for Resolved { pair, spots, .. } in resolved {
            let subject = spots.into_iter().next().map(|spot| spot.positions);
            subjects.push(subject.unwrap_or_default());
            pairs.push(pair);
        }
        let tokens = |(pair, subject): (&Pair, &Vec<usize>)| -> Vec<u32> {
            subject.iter().map(|p| pair.base[*p]).collect()
        };
        let tokens: Vec<u32> = pairs.iter().zip(&subjects).flat_map(tokens).collect();
        tracing.level = noise.of(&self.model, &tokens);
        tracing.check()?;
        // prompts of one shape have the same runs
        let mut known: HashMap<(usize, Vec<usize>), Arc<[Run]>> = HashMap::new();
        let with_runs = |(pair, subject): (Pair, &Vec<usize>)| {
            let length = pair.base.len();
            let make = || tracing.runs(&self.model.config, length, subject).into();
            let runs = known.entry((length, subject.clone()));
            let runs = runs.or_insert_with(make).clone();
            PairRuns { pair, runs }
        };
        let pairs = pairs.into_iter().zip(&subjects).map(with_runs).collect();
        let form = Form::Tracing {
            tracing,
            subjects,
            of_data,
        };
        Ok(Question::new(self, pairs, form))
    }
}

impl Engine {
    /// A prompt, and where its subject stands.
    fn subject(&self, pair: Pair, subject: &str) -> Result<Resolved, Error> {
        check_pair(&pair, &self.model.config)?;
        let mut example = Example::of_ids(pair.base.clone(), None);
        example.spans.push(data::Span {
            name: "subject".into(),
            base: named_subject(subject).0,
            source: None,
        });
        let positions = [Position::named("subject")];
        let reading = Reading {
            targets_optional: true,
            ..Reading::of_positions(&self.model, Some(&positions), false)
        };
        let resolved = reading.resolve(&example).map_err(|e| {
            // the span's name says nothing here: there is but one, and nobody typed it
            let problem = e.problem.trim_start_matches("\"subject\": ");
            Error::Usage(format!("--subject: {problem}"))
        })?;
        Ok(Resolved { pair, ..resolved })
    }
}

/// The subject of a typed prompt: tokens by number, else words; or what a data set calls it.
fn named_subject(subject: &str) -> (SpanTokens, Position) {
    let words = || SpanTokens::Words(subject.to_owned());
    let numbers = match subject.parse() {
        Ok(IndexRange::Some(numbers)) => Some(numbers),
        _ => None,
    };
    let stretch = numbers.and_then(|numbers| {
        let whole = numbers.windows(2).all(|two| two[1] == two[0] + 1);
        let (first, last) = (numbers.first()?, numbers.last()?);
        whole.then_some(SpanTokens::Tokens(*first, *last))
    });
    (stretch.unwrap_or_else(words), Position::named(subject))
}

/// Prompts of unequal lengths that are patched at every position of the base: which tokens of the
/// source they would be given is an accident.
fn misaligned(grid: &Grid, pair: &Pair, spots: &[Spot]) -> Option<CheckError> {
    let source = pair.source.as_ref()?;
    let here = |spot: &Spot| spot.source_positions.is_none() && spot.positions.len() == 1;
    let everywhere = spots.len() == pair.base.len() && spots.iter().all(here);
    let equal = source.len() == pair.base.len() || !grid.op.reads_source();
    (everywhere && !equal).then(|| CheckError::UnequalLengths {
        op: grid.op.label(),
        base_tokens: pair.base.len(),
        source_tokens: source.len(),
    })
}

/// What stands along an axis of the places at which pairs are patched: those of the pair that has most,
/// where all others have the first of them.
pub(super) fn axis(places: &[Vec<String>]) -> Result<Vec<String>, Error> {
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
    of_example(example, problem)
}

fn of_example(example: &Example, problem: String) -> RowError {
    RowError::new(&example.path, &example.place, None, problem)
}
