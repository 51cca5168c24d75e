//! Estimates of a question's runs, and the exact runs of those that look strongest.
//!
//! Rows are those that the question would have, with what was estimated beside them: `score`, and `exact`
//! where the run was run. Of a run that was not, probability and logit are NaN.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Form, Question, ReadoutOptions, Task};
use crate::attribution::agreement::{pearson, spearman, upper_bound};
use crate::attribution::{Attribution, AttributionError, Method, PairScores, edges, flow, nodes};
use crate::backend::adjoint::Adjoints;
use crate::backend::{Backend, Readout};
use crate::error::Error;
use crate::execute::gradient::GradientPlan;
use crate::execute::{Outcome, PairOutcome, PairReadouts, Sink};
use crate::files::error::FileError;
use crate::graph::patching;
use crate::patch::Run;
use crate::prompt::pair::{Pair, PairRuns};
use crate::results::metric::{Metric, RunReadouts};
use crate::results::rows::{Gather, PairResult, RowSink, RunResult};
use crate::results::table::Row;

/// Columns behind the fixed ones: what is estimated, and what was measured.
pub const SCORE: &str = "score";
/// See [`SCORE`].
pub const EXACT: &str = "exact";

/// See [`SCORE`]: the score without its sign.
pub const ABSOLUTE: &str = "absolute";

/// What stands in rows behind the fixed columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScoreColumns {
    /// Which runs are run, for [`EXACT`]; none unless said.
    pub verify: Option<Verification>,
    /// Whether there is [`ABSOLUTE`], whose means over pairs count what a mean of signed scores lets cancel (as
    /// AtP* takes it, Kramár et al. 2024).
    pub absolute: bool,
}

impl ScoreColumns {
    /// Their names.
    pub fn names(self) -> Vec<String> {
        let exact = self.verify.map(|_| EXACT);
        let absolute = self.absolute.then_some(ABSOLUTE);
        let all = std::iter::once(SCORE).chain(exact).chain(absolute);
        all.map(str::to_owned).collect()
    }
}

/// Which runs are run beside their estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    /// The runs of each pair that are estimated to move the metric most.
    pub top: usize,
    /// What seeds the sample of as many others.
    pub seed: u64,
}

/// What was estimated and executed.
#[derive(Debug, Clone, Default)]
pub struct Attributed {
    /// Runs that were estimated.
    pub estimated: usize,
    /// What that took.
    pub plan: GradientPlan,
    /// How long it took.
    pub time: Duration,
    /// Runs that were run.
    pub verified: usize,
    /// How long that took.
    pub exact_time: Duration,
    /// (score, exact) of the rows with the largest scores.
    pub top: Vec<(f64, f64)>,
    /// Of a sample of the others.
    pub sample: Vec<(f64, f64)>,
    /// Of each run among the largest, how far it moves the metric of the target that it moves furthest.
    pub top_moved: Vec<f64>,
    /// Of each run of the sample.
    pub sample_moved: Vec<f64>,
}

/// How estimates agree with what they estimate, over some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// How many.
    pub rows: usize,
    /// Pearson's correlation; `None` where something does not vary.
    pub pearson: Option<f64>,
    /// Spearman's, of ranks.
    pub spearman: Option<f64>,
}

impl Agreement {
    fn of(pairs: &[(f64, f64)]) -> Self {
        let finite = pairs.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        let (x, y): (Vec<f64>, Vec<f64>) = finite.copied().unzip();
        Self {
            rows: x.len(),
            pearson: pearson(&x, &y),
            spearman: spearman(&x, &y),
        }
    }
}

impl Attributed {
    /// Of the largest, and of the sample.
    pub fn agreements(&self) -> [Agreement; 2] {
        [&self.top, &self.sample].map(|pairs| Agreement::of(pairs))
    }

    /// What the sample says of the others: the median of what the runs with the largest scores do exactly, how many
    /// runs of the sample do more, and the share of all others that may, at 95 % confidence.
    pub fn missed(&self) -> Option<(f64, usize, f64)> {
        let mut exact = self.top_moved.clone();
        exact.sort_by(f64::total_cmp);
        let median = *exact.get(exact.len() / 2)?;
        let more = self.sample_moved.iter().filter(|x| **x > median).count();
        let bound = upper_bound(more, self.sample_moved.len());
        (!self.sample_moved.is_empty()).then_some((median, more, bound))
    }
}

struct Estimating<'a>(&'a Question<'a>, &'a Attribution);

impl Task for Estimating<'_> {
    type Output = (Vec<PairScores>, GradientPlan);

    fn run<B: Adjoints>(self, backend: &B, memory: u64) -> Result<Self::Output, Error> {
        let Self(question, attribution) = self;
        let (engine, pairs) = (question.engine, &question.pairs);
        let limits = engine.limits(memory);
        Ok(match &question.form {
            Form::Edges { edges, extent } => {
                let pairs: Vec<&Pair> = pairs.iter().map(|of| &of.pair).collect();
                let edges = (&edges[..], *extent);
                edges::scores(backend, &engine.model, &pairs, edges, attribution, &limits)?
            }
            _ => nodes::scores(backend, pairs, attribution, &limits)?,
        })
    }
}

/// Information-flow routes, which need no adjoints.
struct Flowing<'a>(&'a Question<'a>, &'a Attribution);

impl Task for Flowing<'_> {
    type Output = Vec<PairScores>;

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Self::Output, Error> {
        let Self(question, attribution) = self;
        let (model, limits) = (&question.engine.model, question.engine.limits(memory));
        let Form::Edges { edges, extent } = &question.form else {
            return Ok(Vec::new());
        };
        let pairs: Vec<&Pair> = question.pairs.iter().map(|of| &of.pair).collect();
        let of = (&edges[..], *extent);
        Ok(flow::scores(
            backend,
            model,
            &pairs,
            of,
            attribution,
            &limits,
        )?)
    }
}

/// The exact runs of one pair's edges.
struct ExactEdges<'a> {
    question: &'a Question<'a>,
    pair: usize,
    runs: &'a [usize],
}

impl Task for ExactEdges<'_> {
    type Output = Vec<Run>;

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Vec<Run>, Error> {
        let engine = self.question.engine;
        let pair = &self.question.pairs[self.pair].pair;
        let Form::Edges { edges, extent } = &self.question.form else {
            return Ok(Vec::new());
        };
        let each = self.runs.iter();
        let each: Vec<_> = each
            .map(|run| extent.edge(edges, pair.base.len(), *run))
            .collect();
        let limits = engine.limits(memory);
        Ok(patching::runs_of(
            backend,
            &engine.model,
            pair,
            &each,
            &limits,
        )?)
    }
}

impl Question<'_> {
    /// Refuses what cannot be attributed, before anything is computed.
    ///
    /// # Errors
    ///
    /// [`Error::Attribution`]: a metric without a gradient, pairs or runs of which there is no estimate;
    /// [`Error::Metric`] where a pair lacks what the metric needs.
    pub fn check_attribution(&self, attribution: &Attribution) -> Result<(), Error> {
        let metric = attribution.metric;
        if attribution.method == Method::Ifr && metric.recovery {
            return Err(AttributionError::NoShare { metric }.into());
        }
        if metric.needs_ranks() {
            return Err(AttributionError::NoGradient { metric }.into());
        }
        self.check_of_one_row(metric, "an attribution")?;
        attribution.check()?;
        match &self.form {
            Form::Edges { .. } => {
                let pairs: Vec<&Pair> = self.pairs.iter().map(|of| &of.pair).collect();
                edges::check(&pairs, attribution)?;
            }
            _ => nodes::check(&self.engine.model.config, &self.pairs, attribution)?,
        }
        Ok(())
    }

    /// How many runs an attribution takes, the exact ones among them: [`Engine::passed`](super::Engine::passed) grows by as many.
    pub fn attribution_runs(&self, attribution: &Attribution, verify: Option<Verification>) -> u64 {
        let gradients = attribution.runs(&self.engine.model.config);
        let exact = |of: &PairRuns| {
            let runs = match &self.form {
                Form::Edges { edges, extent } => {
                    edges.len() * extent.positions(of.pair.base.len()).len()
                }
                _ => of.runs.iter().filter(|run| !run.step).count(),
            };
            verify.map_or(0, |verify| verify.top.saturating_mul(2).min(runs))
        };
        let all = self.pairs.iter().map(|of| (gradients + exact(of)) as u64);
        all.sum()
    }

    /// Estimates of every run, pair by pair: metric(run) − metric(base), of a recovery as a share of what the
    /// source is away from the base.
    ///
    /// # Errors
    ///
    /// As [`Question::check_attribution`]; a budget too small, or an interruption.
    pub fn estimate(
        &self,
        attribution: &Attribution,
    ) -> Result<(Vec<PairScores>, GradientPlan), Error> {
        self.check_attribution(attribution)?;
        if attribution.method == Method::Ifr {
            let scores = self.engine.on_device(Flowing(self, attribution))?;
            let plan = GradientPlan {
                runs: scores.len(),
                ..GradientPlan::default()
            };
            return Ok((scores, plan));
        }
        self.engine.on_device(Estimating(self, attribution))
    }

    /// Estimates every run, runs some of them, and passes rows on with the [`ScoreColumns::names`] as their only
    /// metrics.
    ///
    /// # Errors
    ///
    /// As [`Question::estimate`] and [`Question::answer`].
    pub fn attribute(
        &self,
        attribution: &Attribution,
        columns: ScoreColumns,
        gather: &mut [&mut dyn Gather],
    ) -> Result<Attributed, Error> {
        let verify = columns.verify;
        let start = Instant::now();
        let (mut scores, plan) = self.estimate(attribution)?;
        let metric = attribution.metric;
        let metrics = [metric];
        let reads = ReadoutOptions {
            top: super::answer::SHOWN,
            top_of_runs: 0,
            metrics: &metrics,
        };
        let without_runs = |of: &PairRuns| PairRuns {
            pair: of.pair.clone(),
            runs: [].into(),
        };
        let clean: Vec<PairRuns> = self.pairs.iter().map(without_runs).collect();
        let clean = self.engine.outcome(&clean, reads)?;
        for (p, (scores, read)) in scores.iter_mut().zip(&clean.pairs).enumerate() {
            if metric.recovery {
                recover(metric, &self.pairs[p].pair, read, scores);
            }
        }
        let mut attributed = Attributed {
            estimated: scores.iter().map(|s| s.scores.len() / s.values).sum(),
            plan,
            time: start.elapsed(),
            ..Attributed::default()
        };
        let relabel = self.relabel();
        for (p, (scores, read)) in scores.iter().zip(&clean.pairs).enumerate() {
            let start = Instant::now();
            let chosen = verify.map(|verify| choose(scores, verify, p as u64));
            let (chosen, top) = chosen.unwrap_or_default();
            let runs = self.chosen_runs(p, &chosen)?;
            let exact = self.exact(p, &runs, reads)?;
            attributed.verified += chosen.len();
            attributed.exact_time += start.elapsed();
            let mut scored = Scored {
                metric,
                scores,
                columns,
                chosen: &chosen,
                top,
                attributed: &mut attributed,
                to: gather,
            };
            let labelled = self.labelled(p, &chosen, runs);
            let mut sink = RowSink::new(
                &self.engine.model,
                std::slice::from_ref(&labelled),
                &metrics,
            )
            .relabel(&relabel)
            .from(p, 0)
            .to(&mut scored);
            let readouts = PairReadouts {
                base: read.base.clone(),
                source: read.source.clone(),
            };
            let mut flow = sink.pair(0, &readouts);
            let nothing = unread(&self.pairs[p].pair);
            for run in (0..labelled.runs.len()).filter(|r| !labelled.runs[*r].step) {
                if flow.is_break() {
                    break;
                }
                self.engine.go_on()?;
                let known = chosen.binary_search(&run).ok();
                let readout = known.and_then(|at| exact.get(at)).unwrap_or(&nothing);
                flow = sink.run(0, run, vec![readout.clone()]);
            }
            sink.finish()?;
        }
        Ok(attributed)
    }

    /// Some runs of a pair.
    fn chosen_runs(&self, pair: usize, chosen: &[usize]) -> Result<Vec<Run>, Error> {
        match &self.form {
            Form::Edges { .. } if !chosen.is_empty() => self.engine.on_device(ExactEdges {
                question: self,
                pair,
                runs: chosen,
            }),
            Form::Edges { .. } => Ok(Vec::new()),
            _ => {
                let runs = &self.pairs[pair].runs;
                Ok(chosen.iter().map(|run| runs[*run].clone()).collect())
            }
        }
    }

    /// Readouts of runs of a pair, at the last position that is read out.
    fn exact(
        &self,
        pair: usize,
        runs: &[Run],
        reads: ReadoutOptions<'_>,
    ) -> Result<Vec<Readout>, Error> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let question = PairRuns {
            pair: self.pairs[pair].pair.clone(),
            runs: runs.into(),
        };
        let Outcome { mut pairs, .. } = self.engine.outcome(&[question], reads)?;
        let read = pairs.pop().map_or(Vec::new(), |read| read.runs);
        self.engine
            .passed
            .fetch_add(read.len() as u64, Ordering::Relaxed);
        Ok(read.into_iter().filter_map(|mut r| r.pop()).collect())
    }

    /// A pair with runs that are there to be named: of edges those that were run as they were, of others the
    /// name.
    fn labelled(&self, pair: usize, chosen: &[usize], runs: Vec<Run>) -> PairRuns {
        let of = &self.pairs[pair];
        let Form::Edges { edges, extent } = &self.form else {
            return of.clone();
        };
        let length = of.pair.base.len();
        let count = edges.len() * extent.positions(length).len();
        let named = |run| Run {
            name: Some(extent.edge(edges, length, run).to_string()),
            ..Run::default()
        };
        let mut all: Vec<Run> = (0..count).map(named).collect();
        for (run, exact) in chosen.iter().zip(runs) {
            all[*run] = exact;
        }
        PairRuns {
            pair: of.pair.clone(),
            runs: all.into(),
        }
    }
}

/// What is read of a run that is not run.
fn unread(pair: &Pair) -> Readout {
    let answers = pair.answers().len();
    Readout {
        log_sum_exp: f64::NAN,
        entropy: f64::NAN,
        kl: f64::NAN,
        logits: vec![f64::NAN; answers],
        ranks: vec![0; answers],
        ..Readout::default()
    }
}

/// Scores as shares of what the source is away from the base.
fn recover(metric: Metric, pair: &Pair, read: &PairOutcome, scores: &mut PairScores) {
    let plain = Metric::plain(metric.quantity);
    let (Some(base), Some(source)) = (read.base.last(), read.source.as_ref()) else {
        return;
    };
    let values = scores.values;
    for value in 0..values {
        let of = |run| {
            let read = RunReadouts {
                pair,
                base,
                source: None,
                run,
            };
            plain.of(&read, value)
        };
        let whole = of(source) - of(base);
        let each = scores.scores[value..].iter_mut().step_by(values);
        each.for_each(|score| *score /= whole);
    }
}

/// The runs with the largest scores and a random sample of as many others, ascending; and which of them are
/// the largest.
fn choose(scores: &PairScores, verify: Verification, pair: u64) -> (Vec<usize>, Vec<bool>) {
    let count = scores.scores.len() / scores.values.max(1);
    let size = |run: usize| {
        let values = 0..scores.values;
        values.fold(0.0f64, |m, v| m.max(scores.of(run, v).abs()))
    };
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| size(*b).total_cmp(&size(*a)));
    let top = verify.top.min(count);
    let (largest, others) = order.split_at_mut(top);
    // the first of a shuffle, by numbers that depend on seed, pair and place alone
    let sampled = top.min(others.len());
    let mut state = verify.seed ^ pair.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for i in 0..sampled {
        let left = (others.len() - i) as u64;
        others.swap(i, i + (splitmix(&mut state) % left) as usize);
    }
    let mut chosen: Vec<(usize, bool)> = largest.iter().map(|run| (*run, true)).collect();
    chosen.extend(others[..sampled].iter().map(|run| (*run, false)));
    chosen.sort_unstable();
    chosen.into_iter().unzip()
}

/// Splitmix64 (Steele et al. 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Puts scores into rows, and passes them on.
struct Scored<'a, 'g> {
    metric: Metric,
    scores: &'a PairScores,
    columns: ScoreColumns,
    /// Runs that are run, ascending.
    chosen: &'a [usize],
    /// Which of them are there for their scores.
    top: Vec<bool>,
    attributed: &'a mut Attributed,
    to: &'a mut [&'g mut dyn Gather],
}

impl Gather for Scored<'_, '_> {
    fn pair(&mut self, pair: &PairResult<'_>) -> Result<(), FileError> {
        self.to.iter_mut().try_for_each(|to| to.pair(pair))
    }

    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let of = |run: &Readout, target: usize| {
            let read = RunReadouts { run, ..result.read };
            self.metric.of(&read, target)
        };
        let known = self.chosen.binary_search(&result.run).ok();
        let mut rows: Vec<Row> = result.rows.to_vec();
        let mut moved = 0.0f64;
        for (target, row) in rows.iter_mut().enumerate() {
            let score = self.scores.of(result.run, target);
            let exact = match known {
                Some(_) => of(result.read.run, target) - of(result.read.base, target),
                None => f64::NAN,
            };
            moved = moved.max(exact.abs());
            row.metrics = vec![score];
            row.metrics.extend(self.columns.verify.map(|_| exact));
            row.metrics
                .extend(self.columns.absolute.then_some(score.abs()));
            if let Some(at) = known
                && target < self.scores.values
            {
                let to = match self.top[at] {
                    true => &mut self.attributed.top,
                    false => &mut self.attributed.sample,
                };
                to.push((score, exact));
            }
        }
        if let Some(at) = known {
            match self.top[at] {
                true => self.attributed.top_moved.push(moved),
                false => self.attributed.sample_moved.push(moved),
            }
        }
        let result = RunResult {
            rows: &rows,
            ..*result
        };
        self.to.iter_mut().try_for_each(|to| to.run(&result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_chosen_and_as_many_others() {
        let scores = PairScores {
            values: 2,
            scores: (0..40).map(|i| f64::from((i * 7) % 40) - 20.0).collect(),
        };
        let verify = Verification { top: 4, seed: 1 };
        let (chosen, top) = choose(&scores, verify, 0);
        assert_eq!((chosen.len(), top.iter().filter(|t| **t).count()), (8, 4));
        assert!(chosen.is_sorted_by(|a, b| a < b));
        let size = |run: usize| scores.of(run, 0).abs().max(scores.of(run, 1).abs());
        let least = chosen.iter().zip(&top).filter(|(_, top)| **top);
        let least = least.map(|(run, _)| size(*run)).fold(f64::MAX, f64::min);
        let larger = (0..20).filter(|run| size(*run) > least).count();
        assert!(larger < 4);
        assert_eq!(choose(&scores, verify, 0).0, chosen);
        let all = Verification { top: 50, seed: 1 };
        assert_eq!(choose(&scores, all, 0).0.len(), 20);
    }
}
