//! How a question is answered: its runs, or a stretch of them, on a device, and their rows to whatever gathers them.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lens::{Work, contribute};
use super::{Form, Question, ReadoutOptions, Task};
use crate::backend::Backend;
use crate::error::Error;
use crate::execute::costs::{Costing, PairCost};
use crate::execute::{Plan, Sink, execute};
use crate::files::error::FileError;
use crate::folder::cut::{Cursor, RunRange};
use crate::graph::patching;
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
        self.engine().on_device(Answering {
            question: self,
            stretch,
            gather,
            done,
        })
    }

    /// What each pair takes at most, as far as it can be said before anything runs; `headlight plan` and Python's
    /// `Model.plan` add it up.
    pub fn costs(&self) -> Vec<PairCost> {
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
        self.pairs.iter().map(cost).collect()
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

impl Task for Answering<'_, '_> {
    type Output = Answer;

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Answer, Error> {
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
        let mut part = |first: Cursor, pairs: &[PairRuns], told: bool| -> Result<(), Error> {
            let mut work = |sink: &mut dyn Sink| Ok(execute(backend, pairs, &limits, sink)?);
            rows_of(first, pairs, told, &mut work)
        };
        let RunRange { start: from, end } = stretch;
        match form {
            Form::Edges { edges, extent } => {
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
                    let model = &engine.model;
                    patching::each_part(backend, model, pair, edges, range, &limits, &mut each)?;
                }
            }
            Form::Lens { by: Some(by), .. } => {
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
                contribute(backend, question, *by, range, &limits, &mut part)?;
            }
            _ => {
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
            }
        }
        Ok(Answer {
            plan,
            time: start.elapsed(),
        })
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
