//! pyvene's bitwise identities, and that patching with what was there is free.

use headlight::backend::cpu::{Cpu, Real};
use headlight::model::Checkpoint;
use headlight::patch::{Op, Patch};
use headlight::prompt::pair::Pair;
use headlight::site::Component;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::common::laws::{equal, no_ops_are_free};
use super::common::model::model;
use super::common::runs::{PairSpec, pair, run_of};
use super::common::{Random, cases, run_pair};

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn patching_with_what_was_there_is_free_and_changes_no_bit(spec in model(), pair in pair(6)) {
        let checkpoint = spec.open();
        no_ops_are_free(&Cpu::<f32>::new(&checkpoint), &pair)?;
        no_ops_are_free(&Cpu::<f64>::new(&checkpoint), &pair)?;
    }
}

fn identities<T: Real>(checkpoint: &Checkpoint, pair: &PairSpec, seed: u64) -> TestCaseResult {
    let cpu = Cpu::<T>::new(checkpoint);
    let config = &checkpoint.config;
    let mut random = Random(seed);
    let mut pair = pair.resolve(config);
    pair.readouts = (0..pair.base.len()).collect();
    let read = pair
        .base
        .len()
        .min(pair.source.as_ref().map_or(usize::MAX, Vec::len));
    let go = |pair: &Pair, patches: Vec<Vec<Patch>>| {
        run_pair(&cpu, pair, patches.into_iter().map(run_of).collect())
    };
    let heads: Vec<usize> = (0..config.heads).collect();

    // a patch at p leaves the rows before p alone, and source = base leaves everything
    let mut patches = Vec::new();
    for component in Component::all() {
        let layer = (!component.is_global()).then(|| random.below(config.layers));
        let heads = if component.has_heads() {
            heads.clone()
        } else {
            Vec::new()
        };
        patches.push(Patch::interchange(
            component,
            layer,
            heads,
            vec![random.below(read)],
        ));
    }
    let each = || patches.iter().map(|p| vec![p.clone()]).collect::<Vec<_>>();
    let from_source = go(&pair, each());
    for (patch, got) in patches.iter().zip(&from_source.runs) {
        let before = patch.positions[0];
        equal(
            &format!("before {patch:?}"),
            &got[..before],
            &from_source.base[..before],
        )?;
    }
    let to_itself = Pair {
        source: Some(pair.base.clone()),
        ..pair.clone()
    };
    let from_base = go(&to_itself, each());
    for (patch, got) in patches.iter().zip(&from_base.runs) {
        equal(&format!("source = base: {patch:?}"), got, &from_base.base)?;
    }

    // a layer's output is the next one's input; the heads of z together are z
    for position in [0, random.below(read), read - 1] {
        for layer in 0..config.layers {
            let at = |component, heads: &[usize], layer| {
                Patch::interchange(component, Some(layer), heads.to_vec(), vec![position])
            };
            let mut same = vec![vec![
                vec![at(Component::AttentionValueOutput, &[], layer).with_op(Op::Zero)],
                vec![at(Component::HeadAttentionValueOutput, &heads, layer).with_op(Op::Zero)],
                heads
                    .iter()
                    .map(|h| {
                        at(Component::HeadAttentionValueOutput, &[*h], layer).with_op(Op::Zero)
                    })
                    .collect(),
            ]];
            // all the way from b to s is s, by the same bits
            let all_the_way = at(Component::MlpOutput, &[], layer);
            same.push(vec![
                vec![all_the_way.clone()],
                vec![all_the_way.with_op(Op::Interpolate(1.0))],
            ]);
            if layer + 1 < config.layers {
                for op in [
                    Op::Interchange,
                    Op::Scale(0.3),
                    Op::Noise {
                        level: 0.0,
                        seed: 0,
                        sample: 0,
                    },
                    Op::Add(None),
                ] {
                    same.push(vec![
                        vec![at(Component::BlockOutput, &[], layer).with_op(op.clone())],
                        vec![at(Component::BlockInput, &[], layer + 1).with_op(op)],
                    ]);
                }
            }
            for patches in same {
                let got = go(&pair, patches.clone());
                for (patches, other) in patches.iter().zip(&got.runs).skip(1) {
                    equal(&format!("{patches:?}"), other, &got.runs[0])?;
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn pyvenes_bitwise_identities_hold(spec in model(), pair in pair(6), seed in any::<u64>()) {
        let checkpoint = spec.open();
        identities::<f32>(&checkpoint, &pair, seed)?;
        identities::<f64>(&checkpoint, &pair, seed)?;
    }
}
