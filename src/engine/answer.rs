//! How a question is answered: its runs, or a stretch of them, on a device, and their rows to whatever gathers them.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::lens::{Work, contribute};
use super::question::targets;
use super::shared::{TakePart, share};
use super::{Form, Question, ReadoutOptions, SharedTask};
use crate::backend::Backend;
use crate::error::Error;
use crate::execute::costs::{Costing, PairCost};
use crate::execute::{Limits, Plan, Sink, execute};
use crate::files::error::FileError;
use crate::folder::cut::{self, Cursor, PartLimit, RunRange, Weighed};
use crate::graph::patching;
use crate::model::Checkpoint;
use crate::patch::{Origin, Run};
use crate::prompt::pair::PairRuns;
use crate::results::metric::Metric;
use crate::results::rows::{Gather, RowSink, RunResult};

/// What was executed, and how long it took.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Exactly what was planned once the clean runs were there.
    pub plan: Plan,
    /// By the clock.
    pub time: Duration,
}

impl Question<'_> {
    /// Runs it. Rows pass to each that gathers, and are kept by nobody else; `done` is told how many runs were
    /// read out.
    ///
    /// # Errors
    ///
    /// [`Error::Execute`] and [`Error::EdgePatching`]: pairs that do not fit the model, a budget too small, or
    /// an interruption; [`Error::File`] of a file that did not take its results.
    pub fn answer(
        &self,
        gather: &mut [&mut dyn Gather],
        done: &dyn Fn(u64),
    ) -> Result<Answer, Error> {
        self.answer_some(self.whole(), gather, done)
    }

    /// All its runs.
    pub fn whole(&self) -> RunRange {
        let to = Cursor::new(self.pairs.len(), 0);
        Cursor::default()..to
    }

    /// Runs those of a stretch of its runs. A pair of which the stretch has not the first run is not announced.
    ///
    /// # Errors
    ///
    /// As [`Question::answer`].
    pub fn answer_some(
        &self,
        stretch: RunRange,
        gather: &mut [&mut dyn Gather],
        done: &dyn Fn(u64),
    ) -> Result<Answer, Error> {
        self.engine().on_devices(Answering {
            question: self,
            stretch,
            gather,
            done,
        })
    }

    /// What each pair takes at most, as far as it can be said before anything runs; `headlight plan` and Python's
    /// `Model.plan` add it up.
    pub fn costs(&self) -> Vec<PairCost> {
        self.costs_of(0..self.pairs.len())
    }

    /// What its pairs weigh, given what they take. One without targets has rows as if it got one of each prompt.
    pub fn weigh(&self, costs: &[PairCost]) -> Vec<Weighed> {
        let pairs = costs.iter().zip(&self.pairs);
        let weigh = pairs.map(|(cost, of)| Weighed {
            cost: cost.clone(),
            rows: targets(of),
        });
        weigh.collect()
    }

    /// What some pairs take.
    fn costs_of(&self, pairs: Range<usize>) -> Vec<PairCost> {
        let config = &self.engine().model.config;
        let mut costing = Costing::new(config, self.metrics.iter().any(Metric::needs_loss));
        let cost = |of: &PairRuns| match &self.form {
            Form::Edges { edges, extent } => {
                let runs = patching::outlines((edges, *extent), &of.pair, config);
                let pair = of.pair.clone();
                costing.pair(&PairRuns { pair, runs }, 0)
            }
            _ => costing.pair(of, of.runs.as_ptr().addr()),
        };
        self.pairs[pairs].iter().map(cost).collect()
    }

    /// Cuts a stretch into units for so many devices: a few for each, so that none is left over for long, and none so
    /// small that clean runs, which each unit has its own of, are much of it.
    fn units(&self, stretch: &RunRange, devices: usize) -> Vec<RunRange> {
        /// Units a device.
        const UNITS: u64 = 4;
        /// Operations of a unit, by those of a pair's clean runs.
        const LEAST: u64 = 16;
        let first = stretch.start.pair;
        let last = (stretch.end.pair + usize::from(stretch.end.run > 0)).min(self.pairs.len());
        let weighed = self.costs_of(first..last).into_iter();
        let weighed: Vec<Weighed> = weighed.map(|cost| Weighed { cost, rows: 0 }).collect();
        let flops = |pair: &Weighed| pair.cost.flops.last().copied().unwrap_or(0);
        let total: u64 = weighed
            .iter()
            .map(|pair| flops(pair) + pair.cost.clean)
            .sum();
        let clean = weighed.iter().map(|pair| pair.cost.clean).max();
        let limit = PartLimit {
            rows: u64::MAX,
            flops: (total / (UNITS * devices as u64)).max(LEAST * clean.unwrap_or(0)),
            block: None,
        };
        let within = |at: Cursor| Cursor::new(at.pair - first, at.run);
        let whole = |at: Cursor| Cursor::new(at.pair + first, at.run);
        let stretch = within(stretch.start)..within(stretch.end);
        let parts = cut::parts(&weighed, stretch, limit).into_iter();
        parts.map(|part| whole(part.from)..whole(part.to)).collect()
    }
}

/// Counts runs that pass.
struct Count<'a>(&'a dyn Fn(u64));

impl Gather for Count<'_> {
    fn run(&mut self, _: &RunResult<'_>) -> Result<(), FileError> {
        (self.0)(1);
        Ok(())
    }
}

struct Answering<'a, 'g> {
    question: &'a Question<'a>,
    stretch: RunRange,
    gather: &'a mut [&'g mut dyn Gather],
    done: &'a dyn Fn(u64),
}

impl SharedTask for Answering<'_, '_> {
    type Output = Answer;

    fn run<B: Backend>(self, backends: &[&B], memory: u64) -> Result<Answer, Error> {
        let Self {
            question,
            stretch,
            gather,
            done,
        } = self;
        let engine = question.engine();
        let Question {
            pairs,
            metrics,
            form,
            top_tokens,
            ..
        } = question;
        let reads = ReadoutOptions {
            top: SHOWN,
            top_of_runs: *top_tokens,
            metrics,
        };
        let limits = reads.limits(engine.limits(memory));
        let relabel = question.relabel();
        let named = question.has_named_positions();
        let (start, mut plan) = (Instant::now(), Plan::default());
        let mut rows_of = |first: Cursor,
                           pairs: &[PairRuns],
                           told: bool,
                           work: &mut Work<'_>|
         -> Result<(), Error> {
            let mut count = Count(done);
            let mut sink = RowSink::new(&engine.model, pairs, metrics)
                .relabel(&relabel)
                .named(named)
                .top_tokens(*top_tokens > 0)
                .from(first.pair, first.run);
            if told {
                sink = sink.told();
            }
            for gather in gather.iter_mut() {
                sink = sink.to(&mut **gather);
            }
            sink = sink.to(&mut count);
            let executed = work(&mut sink);
            // what broke the work off is said rather than that it was
            sink.finish()?;
            plan += executed?;
            Ok(())
        };
        let asked = Asked {
            model: &engine.model,
            pairs,
            form,
        };
        match (form, backends) {
            (Form::Lens { by: Some(by), .. }, _) => {
                let RunRange { start: from, end } = stretch;
                let last = end.pair + usize::from(end.run > 0);
                let some = |p: usize| in_pair(&(from..end), p, pairs[p].runs.len());
                let mut part = |first: usize, pairs: &[PairRuns], work: &mut Work<'_>| {
                    let told = first == from.pair && from.run > 0;
                    rows_of(Cursor::new(first, 0), pairs, told, work)
                };
                let range = (
                    from.pair..last.min(pairs.len()),
                    &some as &dyn Fn(usize) -> _,
                );
                contribute(backends[0], question, *by, range, &limits, &mut part)?;
            }
            (_, [backend]) => asked.run(*backend, stretch, &limits, &mut rows_of)?,
            _ => {
                let units = question.units(&stretch, backends.len());
                // several devices wait at a time
                let each = AtomicU64::new(0);
                let limits = limits.timed(&each);
                let run = |backend: &B, unit, take: &mut TakePart<'_>| {
                    asked.run(backend, unit, &limits, take)
                };
                share(backends, units, &run, &mut rows_of, &engine.computing)?;
            }
        }
        Ok(Answer {
            plan,
            time: start.elapsed(),
        })
    }
}

/// What devices run of a question.
struct Asked<'a> {
    model: &'a Checkpoint,
    pairs: &'a [PairRuns],
    form: &'a Form,
}

impl Asked<'_> {
    /// Runs a stretch on one device; `take` is given the pairs that are run together.
    fn run<B: Backend>(
        &self,
        backend: &B,
        RunRange { start: from, end }: RunRange,
        limits: &Limits<'_>,
        take: &mut TakePart<'_>,
    ) -> Result<(), Error> {
        let Self { model, pairs, form } = self;
        let mut part = |first: Cursor, pairs: &[PairRuns], told: bool| -> Result<(), Error> {
            let mut work = |sink: &mut dyn Sink| Ok(execute(backend, pairs, limits, sink)?);
            take(first, pairs, told, &mut work)
        };
        if let Form::Edges { edges, extent } = form {
            let edges = (&**edges, *extent);
            for (p, PairRuns { pair, .. }) in pairs.iter().enumerate() {
                let count = patching::count(edges, pair.base.len());
                let range = in_pair(&(from..end), p, count);
                if range.is_empty() {
                    continue;
                }
                let mut each = |first, runs: &PairRuns| {
                    part(Cursor::new(p, first), std::slice::from_ref(runs), false)
                };
                patching::each_part(backend, model, pair, edges, range, limits, &mut each)?;
            }
            return Ok(());
        }
        // pairs of which some runs are left out stand by themselves, before and behind those that are whole
        let first = from.pair + usize::from(from.run > 0);
        if from.run > 0
            && let Some(cut) = pairs.get(from.pair)
        {
            let range = in_pair(&(from..end), from.pair, cut.runs.len());
            if !range.is_empty() {
                let (runs, run) = some_runs(cut, range);
                part(Cursor::new(from.pair, run), &[runs], true)?;
            }
        }
        if first < end.pair {
            part(Cursor::new(first, 0), &pairs[first..end.pair], false)?;
        }
        if end.run > 0 && end.pair >= first {
            let (runs, _) = some_runs(&pairs[end.pair], 0..end.run);
            part(Cursor::new(end.pair, 0), &[runs], false)?;
        }
        Ok(())
    }
}

/// How many of the most probable tokens are read of clean prompts.
pub(super) const SHOWN: usize = 10;

/// Which of a pair's runs a stretch has.
fn in_pair(stretch: &RunRange, pair: usize, count: usize) -> Range<usize> {
    let begin = |at: Cursor| match at.pair.cmp(&pair) {
        Ordering::Less => 0,
        Ordering::Equal => at.run.min(count),
        Ordering::Greater => count,
    };
    begin(stretch.start)..begin(stretch.end)
}

/// A pair with some of its runs, and the index of the first. Where runs read others, all stay, and what is not
/// asked for is there to be read alone.
fn some_runs(of: &PairRuns, range: Range<usize>) -> (PairRuns, usize) {
    let reads = |run: &Run| {
        let mut patches = run.patches.iter();
        run.step || patches.any(|p| matches!(p.origin, Origin::Run(_)))
    };
    let (runs, first): (Arc<[Run]>, usize) = match of.runs.iter().any(reads) {
        false => (of.runs[range.clone()].into(), range.start),
        true => {
            let runs = of.runs.iter().enumerate().map(|(r, run)| Run {
                step: run.step || !range.contains(&r),
                ..run.clone()
            });
            (runs.collect(), 0)
        }
    };
    let pair = of.pair.clone();
    (PairRuns { pair, runs }, first)
}
