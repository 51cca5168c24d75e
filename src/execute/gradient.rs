//! Gradients of a metric with respect to activations: many runs in one ragged batch, forward and back.
//!
//! Runs are taken a few at a time, as many as the memory allows: each chunk is run forward onto a tape and read
//! out, its metric says what the gradient of its logits is, and the tape is run backwards, once for each
//! gradient that a run has (a metric that differs between targets has one for each). Nothing of a row
//! depends on how runs are cut into chunks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::passes::Passes;
use super::{ExecuteError, Limits};
use crate::backend::adjoint::{Adjoints, Frozen, LogitGradient};
use crate::backend::{Readout, ReadoutSpec};
use crate::backward::{Arrived, GradientBuffers, WayBack, backward};
use crate::forward::{ActivationCache, ForwardError};
use crate::plan::cone::Shapes;
use crate::plan::cost::{Cost, Flops};
use crate::plan::tape::{AskedGradients, Passed, TapePlan, TapedRun};
use crate::site::Stage;

/// A run whose gradients are wanted, and what is read of it.
#[derive(Debug, Clone)]
pub struct GradientRun {
    /// The prompt with its patches, which pass gradients ([`crate::plan::tape::passes_gradients`]).
    pub run: TapedRun,
    /// Tokens whose logits are read.
    pub answers: Arc<[u32]>,
    /// The clean prompt whose distribution it is compared with, if it is.
    pub compared: Option<Arc<[u32]>>,
}

/// ∂m/∂logits of a run's last row as a metric gives it: `Σ weights + spread · p + surprise · p (ln p + H) +
/// compared · p′`, with the terms of [`LogitGradient`]; p′ is the distribution that the run is compared with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogitWeights {
    /// Token ids with what their logits count.
    pub weights: Vec<(u32, f64)>,
    /// Coefficient of p.
    pub spread: f64,
    /// Coefficient of p (ln p + H).
    pub surprise: f64,
    /// Coefficient of p′.
    pub compared: f64,
}

/// The gradients of one stage, of some runs.
#[derive(Debug)]
pub struct RunGradients<'a> {
    /// Layer, as edits count.
    pub layer: usize,
    /// Of which stage.
    pub stage: Stage,
    /// Of which head's copy, for stages that single heads read.
    pub head: Option<usize>,
    /// Which of a run's gradients.
    pub which: usize,
    /// Numbers of a row: for scores and pattern the longest prompt's keys, head by head.
    pub width: usize,
    /// Index of the first run.
    first: usize,
    plan: &'a TapePlan,
    values: &'a [f64],
    /// How many gradients each run has.
    counts: &'a [usize],
}

impl RunGradients<'_> {
    /// Runs that have this gradient, with the rows of each, `[positions, width]`.
    pub fn runs(&self) -> impl Iterator<Item = (usize, &[f64])> {
        let counted = self.counts.iter().enumerate();
        let here = counted.filter(|(_, count)| self.which < **count);
        here.map(|(run, _)| {
            let rows = self.plan.rows(run);
            let values = &self.values[rows.start * self.width..rows.end * self.width];
            (self.first + run, values)
        })
    }
}

/// Says where gradients start, and takes them.
pub trait GradientSink {
    /// What a run's gradients start from, given its readout: one for each.
    fn logits(&mut self, run: usize, readout: &Readout) -> Vec<LogitWeights>;

    /// The layer, if any, through whose attention and MLP one of a run's gradients does not go (GradDrop, Kramár et
    /// al. 2024): what these add to the residual stream passes nothing on, what goes past them does.
    fn dropped(&self, _run: usize, _which: usize) -> Option<usize> {
        None
    }

    /// A stage's gradients; stages come from the last layer to the first.
    fn gradients(&mut self, gradients: &RunGradients<'_>);
}

/// What was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GradientPlan {
    /// Operations of the runs, forward.
    pub forward: Flops,
    /// Operations of the way back.
    pub backward: Flops,
    /// Runs.
    pub runs: usize,
}

impl GradientPlan {
    /// Operations of everything.
    pub fn flops(&self) -> u64 {
        self.forward.total() + self.backward.total()
    }
}

impl std::ops::AddAssign for GradientPlan {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.backward += other.backward;
        self.runs += other.runs;
    }
}

/// Computes gradients of runs.
///
/// # Errors
///
/// [`ExecuteError`]: a budget too small for one run, an interruption, or a device that failed.
pub fn gradients<B: Adjoints>(
    backend: &B,
    runs: &[GradientRun],
    (asked, frozen): (&AskedGradients, Frozen),
    limits: &Limits<'_>,
    sink: &mut dyn GradientSink,
) -> Result<GradientPlan, ExecuteError> {
    let shapes = Shapes::default();
    let mut work = Work {
        passes: Passes::new(backend, limits, &shapes),
        buffers: GradientBuffers::default(),
        asked,
        frozen,
        plan: GradientPlan::default(),
    };
    let mut first = 0;
    while first < runs.len() {
        let count = work.fitting(&runs[first..])?;
        work.chunk(first, &runs[first..first + count], sink)?;
        first += count;
    }
    Ok(work.plan)
}

struct Work<'a, B: Adjoints> {
    passes: Passes<'a, B>,
    buffers: GradientBuffers<B::Matrix>,
    asked: &'a AskedGradients,
    frozen: Frozen,
    plan: GradientPlan,
}

/// Runs of a chunk: those that are asked for, then the prompts that they are compared with.
fn taped(runs: &[GradientRun]) -> (Vec<TapedRun>, Vec<u32>) {
    let mut taped: Vec<TapedRun> = runs.iter().map(|run| run.run.clone()).collect();
    let mut known: HashMap<&[u32], u32> = HashMap::new();
    let mut compared = Vec::new();
    for run in runs {
        let base = run.compared.as_deref().unwrap_or(&[]);
        compared.push(*known.entry(base).or_insert_with(|| {
            if !base.is_empty() {
                taped.push(TapedRun {
                    ids: base.to_vec(),
                    edits: Vec::new(),
                });
            }
            taped.len() as u32 - 1
        }));
    }
    (taped, compared)
}

impl<B: Adjoints> Work<'_, B> {
    /// Bytes that some runs need.
    fn bytes(&self, runs: &[GradientRun]) -> u64 {
        let backend = self.passes.backend;
        let config = backend.config();
        let (taped, _) = taped(runs);
        let taped: Vec<&TapedRun> = taped.iter().collect();
        let plan = TapePlan::new(config, &taped, self.asked);
        let cones = plan.cones.iter().map(|cone| Cost::of_cone(cone, config));
        let values = plan.values(config, self.asked) + cones.map(|cost| cost.values).sum::<usize>();
        // and one stage's gradients in double precision, on their way
        let widest = plan.layout.rows() * (config.inner.max(config.width));
        (values * backend.value_bytes() + 8 * widest) as u64
    }

    /// How many of the first runs make a chunk: the largest power of two that fits, or all.
    fn fitting(&self, runs: &[GradientRun]) -> Result<usize, ExecuteError> {
        let limits = self.passes.limits;
        let one = self.bytes(&runs[..1]);
        if one > limits.memory {
            return Err(ExecuteError::Memory {
                needed: one,
                budget: limits.memory,
            });
        }
        // a tape is several times what stands in buffers
        let most = limits.memory.min(4 * self.passes.backend.chunk_bytes());
        let mut count = 1;
        while count < runs.len() && self.bytes(&runs[..(2 * count).min(runs.len())]) <= most {
            count = (2 * count).min(runs.len());
        }
        Ok(count)
    }

    fn chunk(
        &mut self,
        first: usize,
        runs: &[GradientRun],
        sink: &mut dyn GradientSink,
    ) -> Result<(), ExecuteError> {
        let backend = self.passes.backend;
        let config = backend.config();
        let (taped, compared) = taped(runs);
        let taped: Vec<&TapedRun> = taped.iter().collect();
        let plan = TapePlan::new(config, &taped, self.asked);
        for cone in &plan.cones {
            self.plan.forward += Cost::of_cone(cone, config).flops;
        }
        self.plan.runs += runs.len();
        let mut spec = ReadoutSpec {
            first: vec![0],
            ..ReadoutSpec::default()
        };
        for run in 0..taped.len() {
            let answers = runs.get(run).map_or(&[][..], |run| &run.answers);
            spec.ids.extend(answers);
            spec.first.push(spec.ids.len());
        }
        let compares = runs.iter().any(|run| run.compared.is_some());
        if compares {
            // whoever is compared with nobody is compared with itself
            let own = (0..taped.len()).map(|run| match runs.get(run) {
                Some(GradientRun {
                    compared: Some(_), ..
                }) => compared[run],
                _ => run as u32,
            });
            spec.base = own.collect();
        }
        let chunk = plan.chunk(config, &taped);
        let mut tape = ActivationCache::new(backend, plan.layout.clone());
        let read = self.passes.forward(&chunk, &mut tape, &spec)?;
        let read = backend.finish(read)?;
        let starts: Vec<Vec<LogitWeights>> = (0..runs.len())
            .map(|run| sink.logits(first + run, &read[run]))
            .collect();
        let counts: Vec<usize> = starts.iter().map(Vec::len).collect();
        let way_back = plan.backward_flops(config, self.asked);
        for which in 0..counts.iter().copied().max().unwrap_or(0) {
            let mut logits = Vec::new();
            let mut dropped: BTreeMap<usize, Vec<Passed>> = BTreeMap::new();
            for (run, starts) in starts.iter().enumerate() {
                let Some(of) = starts.get(which) else {
                    continue;
                };
                if let Some(layer) = sink.dropped(first + run, which) {
                    let rows = plan.rows(run).map(|row| Passed {
                        row: row as u32,
                        column: 0,
                        length: config.width,
                        factor: 0.0,
                    });
                    dropped.entry(layer).or_default().extend(rows);
                }
                let base = compared[run] as usize;
                logits.push(LogitGradient {
                    row: plan.last_row(run) as u32,
                    log_sum_exp: read[run].log_sum_exp,
                    entropy: read[run].entropy,
                    weights: of.weights.clone(),
                    spread: of.spread,
                    surprise: of.surprise,
                    other: (of.compared != 0.0).then(|| {
                        (
                            of.compared,
                            plan.last_row(base) as u32,
                            read[base].log_sum_exp,
                        )
                    }),
                });
            }
            self.plan.backward += way_back;
            self.plan.backward.linear += readout_flops(&logits, config.vocab * config.width);
            let task = WayBack {
                plan: &plan,
                tape: &tape,
                asked: self.asked,
                frozen: self.frozen,
                dropped: &dropped,
            };
            let mut take = |arrived: Arrived<'_, B::Matrix>| -> Result<(), ForwardError> {
                let values = backend.read(arrived.gradient)?;
                sink.gradients(&RunGradients {
                    layer: arrived.layer,
                    stage: arrived.stage,
                    head: arrived.head,
                    which,
                    width: values.len() / plan.layout.rows().max(1),
                    first,
                    plan: &plan,
                    values: &values,
                    counts: &counts,
                });
                Ok(())
            };
            let stop = self.passes.limits.stop;
            backward(backend, &task, &logits, &mut self.buffers, &mut take, stop)?;
        }
        self.passes.limits.pass(runs.len());
        Ok(())
    }
}

/// Operations of the readout's adjoint: logits again and their products, where single logits are not all.
fn readout_flops(logits: &[LogitGradient], unembedding: usize) -> u64 {
    let whole = logits.iter().filter(|g| !g.is_of_single_logits());
    let products = whole.map(|g| 2 + u64::from(g.other.is_some()));
    2 * unembedding as u64 * products.sum::<u64>()
}
