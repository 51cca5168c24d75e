//! Lenses: streams as if they were the last, and what parts of the model add to logits.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use super::{Engine, Form, Pairs, Question, Where};
use crate::ask::grid::{IndexRange, by_layer};
use crate::backend::{Backend, Readout};
use crate::data::{Example, Reading, Resolved, RowError};
use crate::error::Error;
use crate::execute::activations::CleanRows;
use crate::execute::{Limits, PairReadouts, Plan, Sink, execute};
use crate::lens::contributions::{By, LogitDirection, parts, places};
use crate::lens::streams::{runs, streams};
use crate::lens::{LensError, LensPart};
use crate::model::Config;
use crate::patch::Run;
use crate::prompt::pair::{Pair, PairRuns};
use crate::prompt::position::Spot;
use crate::site::Site;

/// Where a pair is read.
type Places = Vec<(Option<String>, usize)>;

impl Engine {
    /// The logit lens: residual streams at some positions of each pair's base, read as if they were the last.
    ///
    /// # Errors
    ///
    /// [`Error::Lens`] and [`Error::Grid`] of what is no stream, [`Error::Usage`] and [`Error::Data`] of prompts,
    /// rows and positions that do not fit.
    pub fn lens(
        &self,
        sites: &[Site],
        layers: &IndexRange,
        positions: &Where,
        pairs: impl Into<Pairs>,
    ) -> Result<Question<'_>, Error> {
        let config = &self.model.config;
        let sites = by_layer(sites, layers, config)?.into_iter();
        let sites =
            sites.flat_map(|(component, layers)| layers.into_iter().map(move |l| (component, l)));
        let mut parts = streams(sites)?;
        // as the model comes to them
        parts.sort_by_key(|part| (part.layer, part.component));
        self.read_through(parts, None, positions, pairs.into())
    }

    /// Direct logit attribution: what each part of the model adds to the answers' logits at some positions of each
    /// pair's base. Rows have it as their `logit`, and the metric `logit_diff` is what it adds to that; they have no
    /// probability.
    ///
    /// # Errors
    ///
    /// As [`Engine::lens`].
    pub fn direct_logit_attribution(
        &self,
        by: By,
        positions: &Where,
        pairs: impl Into<Pairs>,
    ) -> Result<Question<'_>, Error> {
        let parts = parts(by, &self.model.config);
        self.read_through(parts, Some(by), positions, pairs.into())
    }

    fn read_through(
        &self,
        parts: Vec<LensPart>,
        by: Option<By>,
        positions: &Where,
        pairs: Pairs,
    ) -> Result<Question<'_>, Error> {
        let listed = match positions {
            Where::All => None,
            Where::Listed(list) => Some(&list[..]),
            Where::Together => {
                let usage = "--positions: a lens reads one token at a time: leave out together";
                return Err(Error::Usage(usage.into()));
            }
        };
        let config = &self.model.config;
        let each = |Resolved {
                        mut pair, spots, ..
                    }: Resolved|
         -> Result<(PairRuns, Places), LensError> {
            let places = one_by_one(&spots)?;
            pair.source = None;
            pair.readouts = places.iter().map(|(_, at)| *at).collect();
            pair.readouts.sort_unstable();
            let runs = match by {
                None => runs(&parts, &places, config),
                Some(_) => named(&parts, &places),
            };
            let runs = runs.into();
            Ok((PairRuns { pair, runs }, places))
        };
        let found = match pairs {
            Pairs::Rows(rows, options, fallback) => {
                let reading = Reading {
                    positions: listed,
                    targets_optional: true,
                    ..self.reading(&options, &fallback)?
                };
                self.each_row(rows, &reading, &options, |example: &Example, resolved| {
                    let wrong = |error: LensError| {
                        RowError::new(&example.path, &example.place, None, error.to_string())
                    };
                    Ok(each(resolved).map_err(wrong))
                })?
            }
            Pairs::Listed(pairs) => {
                let one = |pair: Pair| -> Result<_, Error> {
                    crate::check::check_pair(&pair, config)?;
                    let spots = self.spots(&pair, listed, false)?;
                    let keys = Vec::new();
                    Ok(each(Resolved { pair, spots, keys })?)
                };
                pairs.into_iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
        };
        let (pairs, places) = found.into_iter().unzip();
        let question = Question::new(self, pairs, Form::Lens { parts, places, by });
        question.single_tokens("a lens")?;
        Ok(question)
    }
}

/// Spots of one token each.
fn one_by_one(spots: &[Spot]) -> Result<Places, LensError> {
    let mut places = Places::with_capacity(spots.len());
    for spot in spots {
        let [position] = spot.positions[..] else {
            return Err(LensError::SeveralTokens {
                name: spot.label(),
                count: spot.positions.len(),
            });
        };
        if places.iter().any(|(_, known)| *known == position) {
            return Err(LensError::Twice { position });
        }
        places.push((spot.place_name().map(str::to_owned), position));
    }
    Ok(places)
}

/// Runs that patch nothing, one a part and position.
fn named(parts: &[LensPart], places: &Places) -> Vec<Run> {
    let run = |part: &LensPart, (name, at): &(Option<String>, usize)| Run {
        name: Some(part.name.clone()),
        position: name.clone(),
        at: Some(*at),
        ..Run::default()
    };
    let each = parts
        .iter()
        .flat_map(|part| places.iter().map(move |at| run(part, at)));
    each.collect()
}

/// How many pairs' clean rows are there together.
const BATCH: usize = 16;

/// Some work that hands what it reads to a sink.
pub(super) type Work<'w> = dyn FnMut(&mut dyn Sink) -> Result<Plan, Error> + 'w;

/// Does some work for the rows of pairs of which the first has this index.
pub(super) type RowsOf<'p> = dyn FnMut(usize, &[PairRuns], &mut Work<'_>) -> Result<(), Error> + 'p;

/// What parts of the model add to logits, of some pairs and some runs of each.
pub(super) fn contribute<B: Backend>(
    backend: &B,
    question: &Question<'_>,
    by: By,
    (range, some): (Range<usize>, &dyn Fn(usize) -> Range<usize>),
    limits: &Limits<'_>,
    rows_of: &mut RowsOf<'_>,
) -> Result<(), Error> {
    let (model, config) = (question.engine().model(), backend.config());
    let mut known: HashMap<u32, LogitDirection> = HashMap::new();
    for first in range.clone().step_by(BATCH) {
        let pairs = &question.pairs[first..range.end.min(first + BATCH)];
        for id in pairs.iter().flat_map(|of| of.pair.answers()) {
            let direction = || LogitDirection::of(id, by, model);
            known.entry(id).or_insert_with(direction);
        }
        let prompts: Vec<&[u32]> = pairs.iter().map(|of| &of.pair.base[..]).collect();
        let (rows, prompts) = CleanRows::new(backend, &prompts, &places(by, config), limits)?;
        let without_runs = |of: &PairRuns| PairRuns {
            pair: of.pair.clone(),
            runs: [].into(),
        };
        let clean: Vec<PairRuns> = pairs.iter().map(without_runs).collect();
        rows_of(first, pairs, &mut |to| {
            let mut adding = Adding {
                to,
                pairs,
                some: &|pair| some(first + pair),
                rows: &rows,
                prompts: &prompts,
                known: &known,
                config,
                count: 0,
            };
            let plan = execute(backend, &clean, limits, &mut adding)?;
            let count = adding.count;
            Ok(Plan { count, ..plan })
        })?;
    }
    Ok(())
}

/// Follows each pair's clean readouts with what its parts add.
struct Adding<'a> {
    to: &'a mut dyn Sink,
    pairs: &'a [PairRuns],
    /// Which runs of a pair are asked for.
    some: &'a dyn Fn(usize) -> Range<usize>,
    rows: &'a CleanRows,
    prompts: &'a [usize],
    known: &'a HashMap<u32, LogitDirection>,
    config: &'a Config,
    count: usize,
}

impl Sink for Adding<'_> {
    fn pair(&mut self, pair: usize, clean: &PairReadouts) -> ControlFlow<()> {
        self.to.pair(pair, clean)?;
        let PairRuns { pair: of, runs } = &self.pairs[pair];
        let at = |token: &u32, position| {
            self.known[token].contributions(self.rows, self.prompts[pair], position, self.config)
        };
        // of each position, each answer's
        let mut added: HashMap<usize, Vec<Vec<f64>>> = HashMap::new();
        let positions = of.readouts.len();
        for run in (self.some)(pair) {
            let Some(position) = runs[run].at else {
                continue;
            };
            let answers = of.answers();
            let of_answers = added
                .entry(position)
                .or_insert_with(|| answers.iter().map(|token| at(token, position)).collect());
            let readout = Readout {
                log_sum_exp: f64::NAN,
                entropy: f64::NAN,
                kl: f64::NAN,
                logits: of_answers.iter().map(|of| of[run / positions]).collect(),
                ..Readout::default()
            };
            self.count += 1;
            self.to.run(pair, run, vec![readout; positions])?;
        }
        ControlFlow::Continue(())
    }

    fn run(&mut self, _: usize, _: usize, _: Vec<Readout>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
