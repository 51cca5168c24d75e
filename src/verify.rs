//! Every operation and whole runs, one backend against double precision.
//!
//! Operations are compared on fresh random inputs that are first rounded to the backend's own type,
//! so that what is measured is the arithmetic and not the rounding of its input. The measure is
//! ‖out − ref‖ / ‖ref‖ over everything and over the worst row (rows whose norm is under a thousandth
//! of the mean row's are measured against the mean instead); anything that is not a number fails.

use std::sync::atomic::AtomicBool;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use crate::backend::{Attention, Backend, Epilogue, Linear, Norm, ReadoutSpec, Rows, Weight};
use crate::patch::{MeanOver, Op, Origin, Patch, Run, Vector};
use crate::plan::cell::columns;
use crate::plan::tables::{AttentionRows, Ref};
use crate::site::Component;
use crate::sweep::execute::{ExecuteError, Limits, execute};
use crate::sweep::pair::{Pair, PairRuns};

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What was compared.
    pub what: String,
    /// Error over everything: relative, or |Δ log-probability| for whole runs.
    pub error: f64,
    /// Error of the worst row or run.
    pub worst: f64,
    /// What both must stay under.
    pub gate: f64,
}

impl Comparison {
    /// Whether it is within its gate; NaN is not.
    pub fn passes(&self) -> bool {
        self.error <= self.gate && self.worst <= self.gate
    }
}

/// Gate of a linear layer in f32 (DESIGN, "Numbers"): the error of a sum of K products grows with √K.
pub fn linear_gate(k: usize) -> f64 {
    2e-7 + 2.5e-8 * (k as f64).sqrt()
}

/// Gate of attention in f32, for scores up to 1 in size.
pub const ATTENTION_GATE: f64 = 2e-6;
/// Gate of layer norm in f32: a handful of roundings, each 6e-8.
pub const LAYER_NORM_GATE: f64 = 1e-6;
/// Gate of the activation functions in f32: an exponential of 2 units and a quotient.
pub const ACTIVATION_GATE: f64 = 1e-6;
/// Gate on |Δ log-probability| of whole runs in f32; pretrained weights have outlier dimensions.
pub const RUN_GATE: f64 = 1e-4;

struct Inputs(ChaCha8Rng);

impl Inputs {
    /// Standard normal values that f32 holds exactly.
    fn matrix(&mut self, rows: usize, width: usize) -> Vec<f64> {
        let mut draw = || Distribution::<f64>::sample(&StandardNormal, &mut self.0);
        (0..rows * width)
            .map(|_| f64::from(draw() as f32))
            .collect()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n.max(1) as u64) as usize
    }
}

/// Compares the operations of `subject` with those of `reference` on random ragged shapes.
pub fn operations<R: Backend, S: Backend>(
    reference: &R,
    subject: &S,
    seed: u64,
) -> Vec<Comparison> {
    let mut inputs = Inputs(ChaCha8Rng::seed_from_u64(seed));
    let mut comparisons = Vec::new();
    let config = reference.config();
    let (d, i) = (config.width, config.inner);
    let layer = config.layers / 2;
    for rows in [1, 2, 7, 97] {
        for (name, weight, k, n) in [
            ("c_attn, query", Weight::Query(layer), d, d),
            ("c_attn, key", Weight::Key(layer), d, d),
            ("c_attn, value", Weight::Value(layer), d, d),
            ("attention c_proj", Weight::AttentionOutput(layer), d, d),
            ("c_fc", Weight::MlpPre(layer), d, i),
            ("MLP c_proj", Weight::MlpOutput(layer), i, d),
        ] {
            let x = inputs.matrix(rows, k);
            let (want, got) = (
                linear(reference, weight, rows, k, n, &x),
                linear(subject, weight, rows, k, n, &x),
            );
            comparisons.push(compare(
                format!("linear {name}, {rows} × {k} → {n}"),
                &want,
                &got,
                n,
                linear_gate(k),
            ));
        }
        let x = inputs.matrix(rows, d);
        for (name, norm) in [
            ("ln_1", Norm::Ln1(layer)),
            ("ln_2", Norm::Ln2(layer)),
            ("ln_f", Norm::LnF),
        ] {
            let (want, got) = (
                layer_norm(reference, norm, rows, &x),
                layer_norm(subject, norm, rows, &x),
            );
            comparisons.push(compare(
                format!("layer norm {name}, {rows} × {d}"),
                &want,
                &got,
                d,
                LAYER_NORM_GATE,
            ));
        }
        let x = inputs.matrix(rows, i);
        let (want, got) = (activate(reference, rows, &x), activate(subject, rows, &x));
        let name = config.activation.name();
        comparisons.push(compare(
            format!("{name}, {rows} × {i}"),
            &want,
            &got,
            i,
            ACTIVATION_GATE,
        ));
    }
    for lengths in [vec![1], vec![3, 5, 2], vec![config.context.min(40), 9, 1]] {
        let tables = ragged(&mut inputs, &lengths);
        let own = inputs.matrix(lengths.iter().sum::<usize>() * 3, d);
        let trace = inputs.matrix(lengths.iter().sum::<usize>() * 3, d);
        let (want, got) = (
            attention(reference, layer, &tables, &own, &trace),
            attention(subject, layer, &tables, &own, &trace),
        );
        let largest = config.score_scale(layer) * 5.0 * (d as f64 / config.heads as f64);
        let gate = ATTENTION_GATE * largest.max(1.0);
        comparisons.push(compare(
            format!("attention over {lengths:?} keys"),
            &want,
            &got,
            d,
            gate,
        ));
    }
    for rows in [1, 5] {
        let x = inputs.matrix(rows, d);
        let (want, got) = (readout(reference, rows, &x), readout(subject, rows, &x));
        comparisons.push(compare(
            format!("readout, {rows} × {d} → {}", config.vocab),
            &want,
            &got,
            want.len() / rows,
            linear_gate(d),
        ));
    }
    comparisons
}

/// Compares whole runs: every component with every operator that fits it.
///
/// # Errors
///
/// [`ExecuteError`] for a budget too small or an interruption.
pub fn runs<R: Backend, S: Backend>(
    reference: &R,
    subject: &S,
    seed: u64,
    memory: u64,
    stop: &AtomicBool,
) -> Result<Vec<Comparison>, ExecuteError> {
    let mut inputs = Inputs(ChaCha8Rng::seed_from_u64(seed));
    let config = reference.config();
    let limits = Limits {
        memory,
        top: 5,
        top_of_runs: 0,
        stop,
    };
    let mut comparisons = Vec::new();
    for component in Component::all() {
        let mut pairs = Vec::new();
        for length in [2, 5, 13].map(|n: usize| n.min(config.context)) {
            let mut ids = || {
                (0..length)
                    .map(|_| inputs.below(config.vocab) as u32)
                    .collect::<Vec<_>>()
            };
            let pair = Pair {
                base: ids(),
                source: Some(ids()),
                targets: Vec::new(),
                readouts: Vec::new(),
            };
            let mean = MeanOver {
                label: format!("{length} tokens"),
                prompts: [ids(), ids()].into(),
            };
            let runs: Vec<Run> = patches(&mut inputs, component, length, &mean, config)
                .into_iter()
                .map(|patch| Run {
                    name: None,
                    patches: vec![patch],
                })
                .collect();
            let clean = [PairRuns {
                pair: pair.clone(),
                runs: [].into(),
            }];
            let read = execute(reference, &clean, &limits)?;
            let targets = read.pairs[0].base[0]
                .top
                .iter()
                .map(|(id, _)| *id)
                .collect();
            pairs.push(PairRuns {
                pair: Pair { targets, ..pair },
                runs: runs.into(),
            });
        }
        let (want, got) = (
            execute(reference, &pairs, &limits)?,
            execute(subject, &pairs, &limits)?,
        );
        let (mut worst, mut total, mut count) = (0.0f64, 0.0, 0);
        for (want, got) in want.pairs.iter().zip(&got.pairs) {
            for (want, got) in want
                .runs
                .iter()
                .zip(&got.runs)
                .filter_map(|(w, g)| w.first().zip(g.first()))
            {
                for (w, g) in want.logits.iter().zip(&got.logits) {
                    let error = (want.log_probability(*w) - got.log_probability(*g)).abs();
                    worst = if error.is_nan() {
                        f64::NAN
                    } else {
                        worst.max(error)
                    };
                    total += error;
                    count += 1;
                }
            }
        }
        let what = format!("runs, {component} × {} operators", pairs[0].runs.len());
        comparisons.push(Comparison {
            what,
            error: total / f64::from(count.max(1)),
            worst,
            gate: RUN_GATE,
        });
    }
    Ok(comparisons)
}

/// A patch of a component with each operator that fits it, at random heads and positions.
fn patches(
    inputs: &mut Inputs,
    component: Component,
    length: usize,
    mean: &MeanOver,
    config: &crate::model::Config,
) -> Vec<Patch> {
    let width = columns(component, config);
    let vector = Vector {
        label: "random".into(),
        values: inputs.matrix(1, width).into(),
    };
    let mut ops = vec![
        Op::Interchange,
        Op::Add(None),
        Op::Scale(1.5),
        Op::Interpolate(0.25),
    ];
    let is_scale = width == 1 && component.name().ends_with("_scale");
    // a scale is divided by, so it stays away from zero
    if !is_scale {
        ops.extend([
            Op::Zero,
            Op::Subtract(None),
            Op::Noise {
                level: 0.5,
                seed: 1,
                sample: 0,
            },
        ]);
    }
    if !component.has_keys() {
        ops.push(Op::Mean(mean.clone()));
        if !is_scale {
            ops.extend([Op::Set(vector.clone()), Op::Add(Some(vector))]);
        }
    }
    ops.into_iter()
        .map(|op| Patch {
            heads: if component.has_heads() {
                vec![inputs.below(config.heads)]
            } else {
                Vec::new()
            },
            origin: Origin::Source,
            ..Patch::interchange(
                component,
                (!component.is_global()).then(|| inputs.below(config.layers)),
                Vec::new(),
                vec![inputs.below(length)],
            )
            .with_op(op)
        })
        .collect()
}

fn refs(rows: usize) -> Vec<Ref> {
    (0..rows).map(Ref::own).collect()
}

fn linear<B: Backend>(
    backend: &B,
    weight: Weight,
    rows: usize,
    k: usize,
    n: usize,
    x: &[f64],
) -> Vec<f64> {
    let input = backend.upload(rows, k, x);
    let mut out = backend.matrix(rows, n);
    let list: Vec<u32> = (0..rows as u32).collect();
    let linear = Linear {
        weight,
        columns: 0..n,
        input: &input,
        rows: &list,
        out_rows: None,
        epilogue: Epilogue::None,
    };
    backend.linear(&linear, &mut out);
    backend.read(&out)
}

fn layer_norm<B: Backend>(backend: &B, norm: Norm, rows: usize, x: &[f64]) -> Vec<f64> {
    let width = backend.config().width;
    let input = backend.upload(rows, width, x);
    let mut out = backend.matrix(rows, width);
    backend.layer_norm(
        norm,
        &Rows {
            own: &input,
            trace: None,
            refs: &refs(rows),
        },
        &mut out,
    );
    backend.read(&out)
}

fn activate<B: Backend>(backend: &B, rows: usize, x: &[f64]) -> Vec<f64> {
    let width = backend.config().inner;
    let pre = backend.upload(rows, width, x);
    let mut out = backend.matrix(rows, width);
    let list: Vec<u32> = (0..rows as u32).collect();
    backend.activate(&pre, &list, &mut out);
    backend.read(&out)
}

/// Runs of these lengths, each row's operand own or the trace's at random, queries at every position.
fn ragged(inputs: &mut Inputs, lengths: &[usize]) -> AttentionRows {
    let rows = lengths.iter().sum::<usize>() * 3;
    let mut tables = AttentionRows::default();
    let mut any = || {
        let row = inputs.below(rows);
        if inputs.below(2) == 0 {
            Ref::own(row)
        } else {
            Ref::trace(row)
        }
    };
    for length in lengths {
        let first = tables.key.len() as u32;
        for position in 0..*length {
            tables.key.push(any());
            tables.value.push(any());
            tables.query.push(any());
            tables.first.push(first);
            tables.count.push(position as u32 + 1);
        }
    }
    tables
}

fn attention<B: Backend>(
    backend: &B,
    layer: usize,
    rows: &AttentionRows,
    own: &[f64],
    trace: &[f64],
) -> Vec<f64> {
    let width = backend.config().width;
    let own = backend.upload(own.len() / width, width, own);
    let mut kept = [backend.upload(trace.len() / width, width, trace)];
    let constants = backend.upload(1, 0, &[]);
    let mut out = backend.matrix(rows.query.len(), width);
    let attention = Attention {
        layer,
        query: (&own, Some(0)),
        key: (&own, Some(0)),
        value: (&own, Some(0)),
        rows,
        scores: &[],
        weights: &[],
        keep_scores: None,
        keep_weights: None,
        stride: 0,
    };
    backend.attention(&attention, &mut kept, &constants, &mut out);
    backend.read(&out)
}

/// Some logits of each row, and its log-sum-exp.
fn readout<B: Backend>(backend: &B, rows: usize, x: &[f64]) -> Vec<f64> {
    let (width, vocab) = (backend.config().width, backend.config().vocab);
    let input = backend.upload(rows, width, x);
    let wanted: Vec<u32> = (0..vocab as u32).step_by(vocab.div_ceil(50)).collect();
    let spec = ReadoutSpec {
        ids: wanted.repeat(rows),
        first: (0..=rows).map(|r| r * wanted.len()).collect(),
        top: 0,
    };
    let read = backend.readout(&input, rows, &spec);
    read.into_iter()
        .flat_map(|r| r.logits.into_iter().chain([r.log_sum_exp]))
        .collect()
}

fn compare(what: String, want: &[f64], got: &[f64], width: usize, gate: f64) -> Comparison {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let rows: Vec<(f64, f64)> = want
        .chunks(width)
        .zip(got.chunks(width))
        .map(|(w, g)| {
            (
                norm(&mut w.iter().copied()),
                norm(&mut w.iter().zip(g).map(|(w, g)| w - g)),
            )
        })
        .collect();
    let mean = rows.iter().map(|(size, _)| size).sum::<f64>() / rows.len().max(1) as f64;
    let mut worst = 0.0;
    for (size, error) in &rows {
        let relative = error / if *size < 1e-3 * mean { mean } else { *size };
        if relative.is_nan() || relative > worst {
            worst = relative;
        }
        if worst.is_nan() {
            break;
        }
    }
    let size = norm(&mut rows.iter().map(|(size, _)| *size));
    let error = norm(&mut rows.iter().map(|(_, error)| *error)) / size;
    Comparison {
        what,
        error,
        worst,
        gate,
    }
}
