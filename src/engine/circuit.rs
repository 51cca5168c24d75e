//! Circuits run alone on a question's pairs: the metric of each beside those of the whole model and of nothing.

use std::collections::HashMap;

use super::{Engine, Form, Pairs, Question, ReadoutOptions, Task};
use crate::backend::{Backend, Readout};
use crate::circuit::Circuit;
use crate::circuit::contributions::mean_contributions;
use crate::circuit::evaluate::{Ablation, Instead, evaluate};
use crate::data::Example;
use crate::error::Error;
use crate::execute::{PairReadouts, Sink};
use crate::files::error::FileError;
use crate::patch::Run;
use crate::prompt::pair::{Pair, PairRuns};
use crate::results::metric::{Metric, Quantity, RunReadouts};
use crate::results::moments::Mean;
use crate::results::rows::{Gather, PairResult, RowSink, RunResult};
use crate::results::table::Row;

/// The columns of an evaluation behind the fixed ones: the metric of the circuit, of the whole model and of
/// nothing of it.
const COLUMNS: [&str; 3] = ["circuit", "whole", "nothing"];

/// Means over pairs and targets.
#[derive(Debug, Clone, Default)]
pub struct Evaluated {
    /// Pairs and targets.
    pub rows: usize,
    /// Of the whole model.
    pub whole: f64,
    /// Of nothing of it.
    pub nothing: f64,
    /// Of each circuit.
    pub circuits: Vec<f64>,
}

impl Evaluated {
    /// The names of the columns behind the fixed ones.
    pub fn columns() -> Vec<String> {
        COLUMNS.map(str::to_owned).to_vec()
    }

    /// A circuit's mean as a share of what the whole model is away from nothing: a ratio of means.
    pub fn faithfulness(&self, circuit: f64) -> f64 {
        (circuit - self.nothing) / (self.whole - self.nothing)
    }
}

struct Evaluating<'a>(&'a Engine, &'a [PairRuns], &'a [&'a Circuit], Ablation);

impl Task for Evaluating<'_> {
    type Output = Vec<Vec<Readout>>;

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Self::Output, Error> {
        let Self(engine, pairs, circuits, ablation) = self;
        let (model, limits) = (&engine.model, engine.limits(memory));
        let each: Vec<&Pair> = pairs.iter().map(|of| &of.pair).collect();
        let means = match ablation {
            Ablation::Patch | Ablation::Zero => None,
            Ablation::Mean | Ablation::MeanByPosition => {
                let by_position = ablation == Ablation::MeanByPosition;
                let means = mean_contributions(backend, model, &each, by_position, &limits);
                Some(means?)
            }
        };
        let instead = match (&means, ablation) {
            (Some(means), _) => Instead::Means(means),
            (None, Ablation::Zero) => Instead::Nothing,
            (None, _) => Instead::Source,
        };
        let of = |(p, pair): (usize, &&Pair)| {
            Ok(evaluate(
                backend,
                model,
                (p, pair),
                circuits,
                instead,
                &limits,
            )?)
        };
        each.iter().enumerate().map(of).collect()
    }
}

impl Engine {
    /// Readouts of circuits, pair by pair, at the last position that is read out; what is outside of a circuit
    /// is ablated.
    ///
    /// # Errors
    ///
    /// [`Error::Circuit`]: pairs that lack what the ablation needs, a budget too small, or an interruption.
    pub fn circuits(
        &self,
        pairs: &[PairRuns],
        circuits: &[&Circuit],
        ablation: Ablation,
    ) -> Result<Vec<Vec<Readout>>, Error> {
        self.on_device(Evaluating(self, pairs, circuits, ablation))
    }
}

impl Engine {
    /// Pairs with no runs.
    ///
    /// # Errors
    ///
    /// [`Error::Check`] and [`Error::Data`]: prompts and rows that do not fit.
    pub fn without_runs(&self, pairs: impl Into<Pairs>) -> Result<Question<'_>, Error> {
        let without_runs = |pair| PairRuns {
            pair,
            runs: [].into(),
        };
        let pairs = match pairs.into() {
            Pairs::Listed(pairs) => {
                for pair in &pairs {
                    crate::check::check_pair(pair, &self.model.config)?;
                }
                pairs.into_iter().map(without_runs).collect()
            }
            Pairs::Rows(rows, options, fallback) => {
                super::data::overridden(&rows, &options, "circuits are run at every position");
                let reading = self.reading(&options, &fallback)?;
                self.each_row(rows, &reading, &options, |_: &Example, resolved| {
                    Ok(Ok(without_runs(resolved.pair)))
                })?
            }
        };
        Ok(Question::new(self, pairs, Form::Runs))
    }
}

impl Question<'_> {
    /// The metric that was asked for; else logit_diff where all pairs have wrong answers, else prob.
    pub fn metric_or_default(&mut self, asked: Option<Metric>) -> Metric {
        asked.unwrap_or_else(|| {
            self.default_metric();
            let metric = self.metrics.pop();
            metric.unwrap_or(Metric::plain(Quantity::Prob))
        })
    }

    /// Runs circuits on every pair, and passes a row on for each circuit and target, with
    /// [`Evaluated::columns`] as its only metrics.
    ///
    /// # Errors
    ///
    /// As [`Engine::circuits`]; [`Error::Metric`] where a pair lacks what the metric needs.
    pub fn evaluate(
        &self,
        circuits: &[(String, Circuit)],
        metric: Metric,
        ablation: Ablation,
        gather: &mut [&mut dyn Gather],
    ) -> Result<Evaluated, Error> {
        crate::results::metric::check(&[metric], &self.pairs)?;
        let config = &self.engine.model.config;
        let mut whole = Circuit::new(config, &HashMap::new());
        let nothing = whole.clone();
        whole.kept.fill(true);
        let given = circuits.iter().map(|(_, circuit)| circuit);
        let all: Vec<&Circuit> = given.chain([&whole, &nothing]).collect();
        let metrics = [metric];
        let reads = ReadoutOptions {
            top: super::question::SHOWN,
            metrics: &metrics,
        };
        let clean = self.engine.outcome(&self.pairs, reads)?;
        let read = self.engine.circuits(&self.pairs, &all, ablation)?;
        let runs = circuits.iter().map(|(name, _)| Run {
            name: Some(name.clone()),
            ..Run::default()
        });
        let runs: std::sync::Arc<[Run]> = runs.collect();
        let mut means = vec![Mean::default(); all.len()];
        let mut rows = 0;
        for (p, (of, clean)) in self.pairs.iter().zip(&clean.pairs).enumerate() {
            let named = PairRuns {
                pair: of.pair.clone(),
                runs: runs.clone(),
            };
            let mut beside = Beside {
                metric,
                extremes: &read[p][circuits.len()..],
                to: gather,
            };
            let pairs = std::slice::from_ref(&named);
            let mut sink = RowSink::new(&self.engine.model, pairs, &metrics)
                .from(p, 0)
                .to(&mut beside);
            let readouts = PairReadouts {
                base: clean.base.clone(),
                source: clean.source.clone(),
            };
            let mut flow = sink.pair(0, &readouts);
            for (run, readout) in read[p][..circuits.len()].iter().enumerate() {
                if flow.is_continue() {
                    flow = sink.run(0, run, vec![readout.clone()]);
                }
            }
            sink.finish()?;
            let Some(base) = clean.base.last() else {
                continue;
            };
            rows += of.pair.targets.len();
            for (mean, run) in means.iter_mut().zip(&read[p]) {
                let reading = RunReadouts {
                    pair: &of.pair,
                    base,
                    source: clean.source.as_ref(),
                    run,
                };
                (0..of.pair.targets.len()).for_each(|t| mean.add(metric.of(&reading, t)));
            }
        }
        let mut means: Vec<f64> = means.into_iter().map(Mean::get).collect();
        let nothing = means.pop().unwrap_or(f64::NAN);
        let whole = means.pop().unwrap_or(f64::NAN);
        Ok(Evaluated {
            rows,
            whole,
            nothing,
            circuits: means,
        })
    }
}

/// Puts the metric of a circuit, of the whole model and of nothing into rows, and passes them on.
struct Beside<'a, 'g> {
    metric: Metric,
    /// Of the whole model, and of nothing.
    extremes: &'a [Readout],
    to: &'a mut [&'g mut dyn Gather],
}

impl Gather for Beside<'_, '_> {
    fn pair(&mut self, pair: &PairResult<'_>) -> Result<(), FileError> {
        self.to.iter_mut().try_for_each(|to| to.pair(pair))
    }

    fn run(&mut self, result: &RunResult<'_>) -> Result<(), FileError> {
        let mut rows: Vec<Row> = result.rows.to_vec();
        for (target, row) in rows.iter_mut().enumerate() {
            let all = std::iter::once(result.read.run).chain(self.extremes);
            let of = |run| {
                let read = RunReadouts { run, ..result.read };
                self.metric.of(&read, target)
            };
            row.metrics = all.map(of).collect();
        }
        let result = RunResult {
            rows: &rows,
            ..*result
        };
        self.to.iter_mut().try_for_each(|to| to.run(&result))
    }
}
