//! What every backend keeps, bit for bit, whatever the model, the pairs and the runs.

use headlight::backend::{Backend, Readout};
use headlight::execute::{ExecuteError, Outcome, plan};
use headlight::patch::{Op, Patch, Run, Vector};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::{Component, Stage, columns};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::reference::Reference;
use super::runs::{PairSpec, distinct, freeze, run_of};
use super::subspaces::{Form, basis};
use super::{PLENTY, Random, bits, run, same, try_run};

pub fn equal(what: &str, got: &[Readout], want: &[Readout]) -> TestCaseResult {
    let differ = |(got, want): (&Readout, &Readout)| bits(got) != bits(want);
    let first = got.iter().zip(want).position(differ);
    prop_assert!(
        same(got, want),
        "{what}: {} readouts against {}, the first that differs is {first:?}:\n{:?}\n{:?}",
        got.len(),
        want.len(),
        first.map(|i| &got[i]),
        first.map(|i| &want[i]),
    );
    Ok(())
}

/// Everything that was read, run by run.
pub fn everything(outcome: &Outcome) -> Vec<&[Readout]> {
    let pairs = outcome.pairs.iter();
    pairs
        .flat_map(|p| {
            [&p.base[..], p.source.as_slice()]
                .into_iter()
                .chain(p.runs.iter().map(Vec::as_slice))
        })
        .collect()
}

/// 1. A run computed through its light cone equals the same run computed whole.
pub fn cone_equals_whole<B: Backend>(backend: &B, pairs: &[PairRuns]) -> TestCaseResult {
    let bound = plan(backend, pairs);
    let outcome = run(backend, pairs, PLENTY);
    prop_assert!(
        bound.runs.linear >= outcome.plan.runs.linear,
        "{bound:?} {:?}",
        outcome.plan
    );
    prop_assert!(
        bound.runs.attention >= outcome.plan.runs.attention,
        "{bound:?} {:?}",
        outcome.plan
    );
    prop_assert_eq!(bound.clean, outcome.plan.clean);
    prop_assert_eq!(bound.count, outcome.plan.count);
    prop_assert!(bound.copied <= outcome.plan.copied);
    for (p, (PairRuns { pair, runs }, got)) in pairs.iter().zip(&outcome.pairs).enumerate() {
        let mut reference = Reference::new(backend, pair);
        equal("the clean base run", &got.base, &reference.base)?;
        for (run, got) in runs.iter().zip(&got.runs) {
            equal(&format!("pair {p}, {run:#?}"), got, &reference.run(run))?;
        }
    }
    Ok(())
}

/// Runs that write what stands there already, in every way that there is.
fn no_ops<B: Backend>(
    backend: &B,
    reference: &Reference<'_, B>,
    pair: &Pair,
    random: &mut Random,
) -> Vec<Run> {
    let config = backend.config();
    let length = pair.base.len();
    let mut patches = Vec::new();
    for component in Component::all() {
        let layers: Vec<Option<usize>> = if component.is_global() {
            vec![None]
        } else {
            (0..config.layers).map(Some).collect()
        };
        for layer in layers {
            let positions = match random.below(3) {
                0 => (0..length).collect(),
                1 => distinct(vec![random.below(length), random.below(length)]),
                _ => vec![random.below(length)],
            };
            let heads: Vec<usize> = match (component.has_heads(), random.below(2)) {
                (false, _) => Vec::new(),
                (true, 0) => (0..config.heads).collect(),
                (true, _) => vec![random.below(config.heads)],
            };
            let keys = (component.has_keys() && random.below(2) == 0).then(|| vec![0]);
            let there = Patch {
                keys,
                ..Patch::interchange(component, layer, heads, positions)
            };
            patches.push(freeze(there.clone()));
            for op in [
                Op::Interchange,
                Op::Interpolate(0.0),
                Op::Interpolate(1.0),
                Op::Scale(1.0),
                Op::Noise {
                    level: 0.0,
                    seed: 1,
                    sample: 0,
                },
            ] {
                // what no z need give is refused
                if !(component.is_made_of_z() && matches!(op, Op::Noise { .. })) {
                    patches.push(there.clone().with_op(op));
                }
            }
            if component.is_made_of_z() {
                continue;
            }
            let wide = columns(component, config);
            if !component.has_keys() && wide > 1 {
                // by difference, whatever the coordinates: what does not move keeps its bits
                for form in [Form::Rotation, Form::MaskedRotation, Form::Mask] {
                    let op = match random.below(4) {
                        0 => Op::Interpolate(0.0),
                        1 => Op::Scale(1.0),
                        _ => Op::Interchange,
                    };
                    patches.push(Patch {
                        basis: Some(basis(form, random.bits(), wide)),
                        op,
                        ..there.clone()
                    });
                }
            }
            if !component.has_keys() {
                let (position, head) = (random.below(length), random.below(config.heads));
                let at = match component.stage() {
                    Stage::LnFScale | Stage::LnFNormalized | Stage::FinalOutput => config.layers,
                    _ => layer.unwrap_or(0),
                };
                let row = reference.base_row(component.stage(), at, position);
                let of_head = component.has_heads() && wide < row.len();
                let values = if of_head {
                    row[head * wide..][..wide].to_vec()
                } else {
                    row
                };
                let heads = if component.has_heads() {
                    vec![head]
                } else {
                    Vec::new()
                };
                let set = Op::Set(Vector {
                    label: "there".into(),
                    values: values.into(),
                    rows: 1,
                });
                patches
                    .push(Patch::interchange(component, layer, heads, vec![position]).with_op(set));
            }
        }
    }
    patches.into_iter().map(|p| run_of(vec![p])).collect()
}

/// 2. Patching with what was there changes nothing and costs nothing.
pub fn no_ops_are_free<B: Backend>(backend: &B, pair: &PairSpec) -> TestCaseResult {
    let mut pair = pair.resolve(backend.config());
    pair.source = Some(pair.base.clone());
    let mut reference = Reference::new(backend, &pair);
    let mut random = Random(pair.base.iter().fold(1, |h, t| 31 * h + u64::from(*t)));
    let runs = no_ops(backend, &reference, &pair, &mut random);
    let pairs = [PairRuns {
        pair: pair.clone(),
        runs: runs.clone().into(),
    }];
    let outcome = run(backend, &pairs, PLENTY);
    equal("base", &outcome.pairs[0].base, &reference.base)?;
    for (run, got) in runs.iter().zip(&outcome.pairs[0].runs) {
        equal(&format!("{run:?}"), got, &reference.base)?;
        // not only planned away: writing it changes no bit either
        equal(
            &format!("whole: {run:?}"),
            &reference.run(run),
            &reference.base,
        )?;
    }
    prop_assert_eq!(outcome.plan.runs.total(), 0);
    prop_assert_eq!(outcome.plan.copied, runs.len());
    Ok(())
}

/// The least memory that some pairs need.
pub fn least<B: Backend>(backend: &B, pairs: &[PairRuns]) -> u64 {
    let mut memory = 1;
    loop {
        match try_run(backend, pairs, memory) {
            Ok(_) => return memory,
            Err(ExecuteError::Memory { needed, .. }) => memory = needed.max(memory + 1),
            Err(other) => panic!("{other}"),
        }
    }
}

/// 3. A result does not depend on what else is in the batch, nor on how it is cut or threaded.
pub fn batch_invariant<B: Backend>(backend: &B, pairs: &[PairRuns], seed: u64) -> TestCaseResult {
    let mut random = Random(seed);
    let whole = run(backend, pairs, PLENTY);
    let agree = |what: &str, other: &Outcome| {
        let (want, got) = (everything(&whole), everything(other));
        prop_assert_eq!(want.len(), got.len());
        want.iter()
            .zip(&got)
            .try_for_each(|(want, got)| equal(what, got, want))
    };

    let least = least(backend, pairs);
    for memory in [
        least,
        least + least / 7,
        least + least / 2,
        2 * least,
        3 * least,
        5 * least,
    ] {
        let cut = run(backend, pairs, memory);
        agree(&format!("memory {memory}, at least {least}"), &cut)?;
        prop_assert_eq!(cut.plan.runs, whole.plan.runs);
    }
    for threads in [1, 2, 3, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        agree(
            &format!("{threads} threads"),
            &pool.install(|| run(backend, pairs, PLENTY)),
        )?;
        agree(
            &format!("{threads} threads, cut"),
            &pool.install(|| run(backend, pairs, 2 * least)),
        )?;
    }

    for (p, PairRuns { pair, runs }) in pairs.iter().enumerate() {
        // noise is seeded by the pair's index: keep it, with pairs of no runs before
        let alone = |runs: Vec<Run>| -> Outcome {
            let mut list = vec![
                PairRuns {
                    pair: Pair {
                        base: vec![0],
                        ..Pair::default()
                    },
                    runs: [].into()
                };
                p
            ];
            list.push(PairRuns {
                pair: pair.clone(),
                runs: runs.into(),
            });
            run(backend, &list, PLENTY)
        };
        let together = &whole.pairs[p].runs;
        let mut order: Vec<usize> = (0..runs.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        let shuffled = alone(order.iter().map(|r| runs[*r].clone()).collect());
        for (at, r) in order.iter().enumerate() {
            equal(
                "shuffled, one pair",
                &shuffled.pairs[p].runs[at],
                &together[*r],
            )?;
        }
        for (r, run) in runs.iter().enumerate() {
            let got = alone(vec![run.clone()]);
            equal(
                &format!("alone: {run:?}"),
                &got.pairs[p].runs[0],
                &together[r],
            )?;
            equal(
                "base beside one run",
                &got.pairs[p].base,
                &whole.pairs[p].base,
            )?;
        }
    }
    Ok(())
}
