//! Whole runs: every component with every operator that fits it.

use std::sync::atomic::AtomicBool;

use super::{Comparison, Gates, Inputs};
use crate::backend::Backend;
use crate::execute::{ExecuteError, Limits, Outcome};
use crate::patch::{MeanOver, Op, Origin, Patch, Run, Vector};
use crate::prompt::pair::{Pair, PairRuns};
use crate::site::{Component, columns};

/// Compares whole runs: every component with every operator that fits it. `each` is told of every
/// comparison as it is made.
///
/// # Errors
///
/// [`ExecuteError`] for a budget too small or an interruption.
pub fn runs<R: Backend, S: Backend>(
    reference: &R,
    subject: &S,
    gates: Gates,
    seed: u64,
    memory: u64,
    stop: &AtomicBool,
    each: &mut dyn FnMut(&Comparison),
) -> Result<Vec<Comparison>, ExecuteError> {
    let mut inputs = Inputs::new(seed);
    let config = reference.config();
    let limits = Limits {
        top: 5,
        ..Limits::new(memory).until(stop)
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
                wrong: Vec::new(),
                readouts: Vec::new(),
                ..Pair::default()
            };
            let mean = MeanOver {
                by_position: false,
                label: format!("{length} tokens"),
                prompts: [ids(), ids()].into(),
            };
            let runs: Vec<Run> = patches(&mut inputs, component, length, &mean, config)
                .into_iter()
                .map(|patch| Run {
                    name: None,
                    patches: vec![patch],
                    ..Run::default()
                })
                .collect();
            let clean = [PairRuns {
                pair: pair.clone(),
                runs: [].into(),
            }];
            let read = Outcome::of(reference, &clean, &limits)?;
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
            Outcome::of(reference, &pairs, &limits)?,
            Outcome::of(subject, &pairs, &limits)?,
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
                    worst = if error.is_nan() || worst.is_nan() {
                        f64::NAN
                    } else {
                        worst.max(error)
                    };
                    total += error;
                    count += 1;
                }
            }
        }
        let read = |outcome: &Outcome| -> usize {
            let runs = outcome.pairs.iter().flat_map(|p| p.runs.iter().flatten());
            runs.map(|readout| readout.logits.len()).sum()
        };
        if count == 0 || read(&want) != read(&got) {
            worst = f64::NAN;
        }
        let what = format!("runs, {component} × {} operators", pairs[0].runs.len());
        let comparison = Comparison {
            what,
            error: total / f64::from(count.max(1)),
            worst,
            gate: gates.run(),
        };
        each(&comparison);
        comparisons.push(comparison);
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
        rows: 1,
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
        ops.extend([Op::Zero, Op::Subtract(None)]);
    }
    // what a head adds is patched through its z, which need not give what is written
    let freely = !is_scale && !component.is_made_of_z();
    if freely {
        ops.push(Op::Noise {
            level: 0.5,
            seed: 1,
            sample: 0,
        });
    }
    if !component.has_keys() {
        ops.push(Op::Mean(mean.clone()));
        if freely {
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
            origin: Origin::default(),
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
