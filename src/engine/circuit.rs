//! Circuits run alone on a question's pairs: the metric of each beside those of the whole model and of nothing.

use std::collections::HashMap;

use super::{Engine, Form, Pairs, Question, ReadoutOptions, Task};
use crate::backend::{Backend, Readout};
use crate::circuit::Circuit;
use crate::circuit::acdc::{Search, search};
use crate::circuit::contributions::{MeanContributions, mean_contributions};
use crate::circuit::curve::{SIZES, cmd, count, cpr};
use crate::circuit::evaluate::{Ablation, EvaluateError, Instead, PreparedPair, evaluate};
use crate::circuit::select::{Selection, Worth};
use crate::data::Example;
use crate::error::Error;
use crate::execute::{ExecuteError, Limits, Outcome, PairReadouts, Sink};
use crate::files::error::FileError;
use crate::model::Checkpoint;
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
        let means = means(backend, model, &each, ablation, &limits)?;
        let instead = instead(means.as_ref(), ablation);
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

/// The mean contributions over pairs, where an ablation takes them.
fn means<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pairs: &[&Pair],
    ablation: Ablation,
    limits: &Limits<'_>,
) -> Result<Option<MeanContributions>, Error> {
    Ok(match ablation {
        Ablation::Patch | Ablation::Zero => None,
        Ablation::Mean | Ablation::MeanByPosition => {
            let by_position = ablation == Ablation::MeanByPosition;
            Some(mean_contributions(
                backend,
                model,
                pairs,
                by_position,
                limits,
            )?)
        }
    })
}

fn instead(means: Option<&MeanContributions>, ablation: Ablation) -> Instead<'_> {
    match (means, ablation) {
        (Some(means), _) => Instead::Means(means),
        (None, Ablation::Zero) => Instead::Nothing,
        (None, _) => Instead::Source,
    }
}

/// What ACDC found, and where it began.
#[derive(Debug, Clone)]
pub struct Searched {
    /// The circuit.
    pub circuit: Circuit,
    /// What was run for it.
    pub search: Search,
    /// The metric of the whole model, a mean over pairs and targets.
    pub whole: f64,
}

impl Searched {
    /// Refuses a threshold that no edge could be under.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] unless it is above 0.
    pub fn check(threshold: f64) -> Result<(), Error> {
        match threshold > 0.0 && threshold.is_finite() {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "--threshold {threshold}: give a number above 0"
            ))),
        }
    }
}

struct Searching<'a> {
    question: &'a Question<'a>,
    clean: &'a Outcome,
    metric: Metric,
    ablation: Ablation,
    threshold: f64,
    tell: &'a dyn Fn(usize),
}

impl Task for Searching<'_> {
    type Output = Searched;

    fn run<B: Backend>(self, backend: &B, memory: u64) -> Result<Searched, Error> {
        let engine = self.question.engine;
        let (model, limits) = (&engine.model, engine.limits(memory));
        let pairs = self.question.pairs.iter();
        let pairs: Vec<&Pair> = pairs.map(|of| &of.pair).collect();
        let means = means(backend, model, &pairs, self.ablation, &limits)?;
        let instead = instead(means.as_ref(), self.ablation);
        let (mut prepared, mut held) = (Vec::with_capacity(pairs.len()), 0);
        for (p, pair) in pairs.iter().enumerate() {
            let one = PreparedPair::new(backend, model, (p, pair), instead, &limits)?;
            held += one.bytes();
            // all pairs are there for every edge that is tried
            if held > memory / 2 {
                let needed = 2 * held / (p as u64 + 1) * pairs.len() as u64;
                let budget = memory;
                return Err(EvaluateError::Execute(ExecuteError::Memory { needed, budget }).into());
            }
            prepared.push(one);
        }
        let limits = Limits {
            memory: memory - held,
            ..limits
        };
        let measure = |circuits: &[&Circuit]| -> Result<Vec<f64>, Error> {
            let mut means = vec![Mean::default(); circuits.len()];
            for (p, (pair, prepared)) in pairs.iter().zip(&prepared).enumerate() {
                let Some(base) = self.clean.pairs[p].base.last() else {
                    continue;
                };
                let read = prepared.run(backend, model, circuits, &limits)?;
                for (mean, run) in means.iter_mut().zip(&read) {
                    let source = self.clean.pairs[p].source.as_ref();
                    add(mean, self.metric, pair, (base, source), run);
                }
            }
            Ok(means.into_iter().map(Mean::get).collect())
        };
        let config = &model.config;
        let mut all = Circuit::new(config, &HashMap::new());
        all.kept.fill(true);
        let whole = measure(&[&all])?[0];
        let of = (self.threshold, whole);
        let (circuit, search) = search(config, of, measure, self.tell)?;
        Ok(Searched {
            circuit,
            search,
            whole,
        })
    }
}

/// Adds a metric of every target.
fn add(
    mean: &mut Mean,
    metric: Metric,
    pair: &Pair,
    (base, source): (&Readout, Option<&Readout>),
    run: &Readout,
) {
    let reading = RunReadouts {
        pair,
        base,
        source,
        run,
    };
    (0..pair.targets.len()).for_each(|target| mean.add(metric.of(&reading, target)));
}

/// How faithful circuits of MIB's ten sizes are.
#[derive(Debug, Clone)]
pub struct Curve {
    /// First those that are chosen by the sizes of scores, then those by what the scores say would do harm.
    pub circuits: Vec<(String, Circuit)>,
    /// Means of each, of the whole model and of nothing.
    pub evaluated: Evaluated,
}

impl Curve {
    /// Faithfulness at each size, of circuits chosen by size, and by sign.
    pub fn faithfulness(&self) -> [Vec<f64>; 2] {
        let of = |means: &[f64]| {
            let each = means.iter().map(|mean| self.evaluated.faithfulness(*mean));
            each.collect()
        };
        let (by_size, by_sign) = self.evaluated.circuits.split_at(SIZES.len());
        [of(by_size), of(by_sign)]
    }

    /// CMD of circuits chosen by size, CPR of those chosen by sign, as MIB takes them.
    pub fn areas(&self) -> [f64; 2] {
        let [by_size, by_sign] = self.faithfulness();
        [cmd(&by_size), cpr(&by_sign)]
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

    /// How many runs an evaluation of so many circuits takes, the whole model and nothing of it among them:
    /// [`Engine::passed`] grows by as many.
    pub fn circuit_runs(&self, circuits: usize) -> u64 {
        ((circuits + 2) * self.pairs.len()) as u64
    }

    /// How many runs a curve takes.
    pub fn curve_runs(&self) -> u64 {
        self.circuit_runs(0) + self.circuit_runs(2 * SIZES.len())
    }

    /// ACDC (Conmy et al. 2023) on all pairs together: the mean of the metric decides. `tell` is told how many edges
    /// are done.
    ///
    /// # Errors
    ///
    /// As [`Question::evaluate`]; a budget that does not hold all pairs.
    pub fn acdc(
        &self,
        metric: Metric,
        ablation: Ablation,
        threshold: f64,
        tell: &dyn Fn(usize),
    ) -> Result<Searched, Error> {
        Searched::check(threshold)?;
        self.check_of_one_row(metric, "a circuit")?;
        let metrics = [metric];
        let reads = ReadoutOptions {
            top: 0,
            top_of_runs: 0,
            metrics: &metrics,
        };
        let clean = self.engine.outcome(&self.pairs, reads)?;
        self.engine.on_device(Searching {
            question: self,
            clean: &clean,
            metric,
            ablation,
            threshold,
            tell,
        })
    }

    /// Circuits of MIB's ten sizes, chosen by an edge's scores, and how faithful they are: once by the sizes of
    /// scores, and once by their signs, the edges first whose ablation would take the metric furthest from the whole
    /// model's to that of nothing. A row for each and each target passes on, as of [`Question::evaluate`].
    ///
    /// # Errors
    ///
    /// As [`Question::evaluate`].
    pub fn curve(
        &self,
        scored: &Circuit,
        choice: fn(usize) -> Selection,
        (metric, ablation): (Metric, Ablation),
        gather: &mut [&mut dyn Gather],
    ) -> Result<Curve, Error> {
        let extremes = self.evaluate(&[], metric, ablation, &mut [])?;
        let harm = match extremes.nothing < extremes.whole {
            true => Worth::Negated,
            false => Worth::Signed,
        };
        let of = |(worth, name): (Worth, &'static str)| {
            SIZES.into_iter().map(move |share| {
                let mut circuit = scored.clone();
                circuit.choose(choice(count(share, scored.edges.len())), worth);
                (format!("{share} by {name}"), circuit)
            })
        };
        let both = [(Worth::Size, "size"), (harm, "sign")].into_iter();
        let circuits: Vec<(String, Circuit)> = both.flat_map(of).collect();
        let evaluated = self.evaluate(&circuits, metric, ablation, gather)?;
        Ok(Curve {
            circuits,
            evaluated,
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
        self.check_of_one_row(metric, "a circuit")?;
        let config = &self.engine.model.config;
        let mut whole = Circuit::new(config, &HashMap::new());
        let nothing = whole.clone();
        whole.kept.fill(true);
        let given = circuits.iter().map(|(_, circuit)| circuit);
        let all: Vec<&Circuit> = given.chain([&whole, &nothing]).collect();
        let metrics = [metric];
        let reads = ReadoutOptions {
            top: super::answer::SHOWN,
            top_of_runs: 0,
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
                add(mean, metric, &of.pair, (base, clean.source.as_ref()), run);
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
