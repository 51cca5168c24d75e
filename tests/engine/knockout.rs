//! Attention edges that are blocked, and numbers set: against numpy's masked softmax, and against the same thing said by
//! the pattern.

use crate::common::fixtures::checkpoint;
use crate::common::laws::{batch_invariant, cone_equals_whole, equal};
use crate::common::model::model;
use crate::common::restated::worst;
use crate::common::runs::{pair, run_of};
use crate::common::{Random, cases, run_pair};
use crate::emulator::gpu::gpu;
use headlight::backend::Precision;
use headlight::backend::cpu::{Cpu, Real};
use headlight::check::check_run;
use headlight::model::{Checkpoint, Config};
use headlight::patch::{Op, Origin, Patch, Prompt, Run};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

const FILE: &str = "knockout.json";

#[test]
fn blocked_edges_and_set_numbers_agree_with_a_masked_softmax() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        let off = worst(&Cpu::<f64>::new(&model), &model, (name, FILE));
        off.assert_within(1e-12, &format!("{name}, f64"));
        let off = worst(&Cpu::<f32>::new(&model), &model, (name, FILE));
        off.assert_within(1e-5, &format!("{name}, f32"));
    }
}

#[test]
fn the_device_agrees_with_a_masked_softmax() {
    let gpu = gpu();
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        let off = worst(&gpu.cuda(&model, Precision::F32), &model, (name, FILE));
        off.assert_within(1e-5, &gpu.device.name);
    }
}

/// Scores of one head at some queries, knocked out at some keys that leave each query one.
fn knockout(random: &mut Random, config: &Config, length: usize) -> Patch {
    let queries = 1 + random.below(length - 1);
    let queries: Vec<usize> = (queries..length).filter(|_| random.below(3) > 0).collect();
    let queries = match queries.is_empty() {
        true => vec![length - 1],
        false => queries,
    };
    let first = queries[0];
    let spared = random.below(first + 1);
    let mut keys: Vec<usize> = (0..=first)
        .filter(|key| *key != spared && random.below(2) == 0)
        .collect();
    if keys.is_empty() {
        keys.push(usize::from(spared == 0));
    }
    let heads = match random.below(2) {
        0 => vec![random.below(config.heads)],
        _ => (0..config.heads).collect(),
    };
    Patch {
        keys: Some(keys),
        ..Patch::interchange(
            Component::AttentionScores,
            Some(random.below(config.layers)),
            heads,
            queries,
        )
        .with_op(Op::Knockout)
    }
}

/// The same by the pattern, given what it was: the keys' columns become 0, and what is left is divided by its sum.
/// `pattern` is `[heads, queries, keys]`. Nothing where next to nothing is left, of which a pattern has no digits.
fn by_the_pattern(patch: &Patch, pattern: &[f64], keys: usize) -> Option<Vec<Patch>> {
    let blocked = patch.keys.as_ref().unwrap();
    let mut patches = Vec::new();
    let mut rows = pattern.chunks_exact(keys);
    for head in &patch.heads {
        for query in &patch.positions {
            let row = rows.next().unwrap();
            let left = (0..=*query).filter(|key| !blocked.contains(key));
            let left: f64 = left.map(|key| row[key]).sum();
            if left < 1e-5 {
                return None;
            }
            let there = Patch {
                component: Component::AttentionWeight,
                heads: vec![*head],
                positions: vec![*query],
                ..patch.clone()
            };
            patches.push(there.clone().with_op(Op::Zero));
            let all = Patch {
                keys: None,
                ..there
            };
            patches.push(all.with_op(Op::Scale(1.0 / left)));
        }
    }
    Some(patches)
}

fn identities<T: Real>(model: &Checkpoint, pair: &Pair, seed: u64) -> TestCaseResult {
    let cpu = Cpu::<T>::new(model);
    let mut random = Random(seed);
    let patch = knockout(&mut random, &model.config, pair.base.len());
    // a query does not see later keys anyway, so that one without any of the keys keeps its bits
    let before = patch.keys.as_ref().unwrap().iter().min().unwrap();
    let unseen: Vec<usize> = (0..*before).collect();
    let more = Patch {
        positions: [&unseen[..], &patch.positions].concat(),
        ..patch.clone()
    };
    // one key after the other is all together; a score that is set again is not knocked out
    let apart = patch.keys.iter().flatten().map(|key| Patch {
        keys: Some(vec![*key]),
        ..patch.clone()
    });
    let again = Patch {
        op: Op::Interchange,
        origin: Origin::Clean(Prompt::Base),
        ..patch.clone()
    };
    let runs = vec![
        run_of(vec![patch.clone()]),
        run_of(vec![more]),
        run_of(apart.collect()),
        run_of(vec![patch.clone(), again]),
        run_of(vec![]),
    ];
    for run in &runs {
        prop_assert_eq!(check_run(run, &runs, pair, &model.config), Ok(()));
    }
    let got = run_pair(&cpu, pair, runs);
    equal(
        "queries that do not see the keys",
        &got.runs[1],
        &got.runs[0],
    )?;
    equal("key by key", &got.runs[2], &got.runs[0])?;
    equal("set again", &got.runs[3], &got.base)?;
    equal("nothing", &got.runs[4], &got.base)?;
    Ok(())
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn what_is_not_blocked_keeps_its_bits(spec in model(), pair in pair(9), seed in any::<u64>()) {
        let model = spec.open();
        let mut pair = pair.resolve(&model.config);
        prop_assume!(pair.base.len() > 1);
        pair.readouts = (0..pair.base.len()).collect();
        identities::<f32>(&model, &pair, seed)?;
        identities::<f64>(&model, &pair, seed)?;
    }

    #[test]
    fn a_blocked_key_is_a_column_of_zeros_in_a_pattern_that_is_divided_by_its_sum(
        spec in model(), pair in pair(9), seed in any::<u64>(),
    ) {
        let model = spec.open();
        let mut pair = pair.resolve(&model.config);
        prop_assume!(pair.base.len() > 1);
        pair.readouts = (0..pair.base.len()).collect();
        let patch = knockout(&mut Random(seed), &model.config, pair.base.len());
        let cpu = Cpu::<f64>::new(&model);
        let collect = Patch {
            component: Component::AttentionWeight,
            keys: None,
            ..patch.clone()
        };
        let clean = run_pair(&cpu, &pair, vec![run_of(vec![collect.with_op(Op::Collect)])]);
        let pattern = &clean.collected[0];
        let patches = by_the_pattern(&patch, &pattern.values, pattern.shape[2]);
        prop_assume!(patches.is_some());
        let patches = patches.unwrap();
        let got = run_pair(&cpu, &pair, vec![run_of(vec![patch]), run_of(patches)]);
        for (a, b) in got.runs[0].iter().zip(&got.runs[1]) {
            for (x, y) in a.logits.iter().zip(&b.logits) {
                prop_assert!((x - y).abs() <= 1e-9 * (1.0 + y.abs()), "{x} {y}");
            }
        }
    }

    /// Through the light cone as whole, alone as among others.
    #[test]
    fn knockouts_keep_the_laws(spec in model(), pair in pair(9), seed in any::<u64>()) {
        let model = spec.open();
        let pair = pair.resolve(&model.config);
        prop_assume!(pair.base.len() > 1);
        let mut random = Random(seed);
        let runs: Vec<Run> = (0..6)
            .map(|_| {
                let layer = random.below(model.config.layers);
                let first = knockout(&mut random, &model.config, pair.base.len());
                let set = Patch::interchange(Component::BlockOutput, Some(layer), vec![], vec![pair.base.len() - 1])
                    .with_op(Op::Fill(0.25));
                run_of(if random.below(2) == 0 { vec![first] } else { vec![first, set] })
            })
            .collect();
        let pairs = [PairRuns { pair, runs: runs.into() }];
        let cpu = Cpu::<f32>::new(&model);
        cone_equals_whole(&cpu, &pairs)?;
        batch_invariant(&cpu, &pairs, seed)?;
    }
}

#[test]
fn a_query_that_loses_every_key_is_refused() {
    let model = checkpoint("tied");
    let pair = Pair {
        base: vec![23, 65, 60, 80],
        source: Some(vec![23, 65, 60, 81]),
        targets: vec![1],
        ..Default::default()
    };
    let at = |keys: Option<Vec<usize>>, positions: &[usize]| Patch {
        keys,
        ..Patch::interchange(
            Component::AttentionScores,
            Some(1),
            vec![0],
            positions.to_vec(),
        )
        .with_op(Op::Knockout)
    };
    let said = |patches: Vec<Patch>| {
        let checked = check_run(&run_of(patches), &[], &pair, &model.config);
        checked.map_err(|error| error.to_string())
    };
    let lost = "attention_scores loses every key of query 2 in layer 1, head 0, and a softmax over none is nothing: \
                leave the query one key, or zero its head_attention_value_output";
    assert_eq!(said(vec![at(None, &[2])]), Err(lost.into()));
    assert_eq!(
        said(vec![at(Some(vec![0, 1, 2]), &[3, 2])]),
        Err(lost.into())
    );
    let (one, other) = (at(Some(vec![0, 2]), &[2]), at(Some(vec![1]), &[2, 3]));
    assert_eq!(said(vec![one.clone(), other.clone()]), Err(lost.into()));
    assert_eq!(said(vec![one.clone()]), Ok(()));
    // in other layers and heads it does not count, and a score that is set counts again
    let elsewhere = Patch {
        layer: Some(0),
        ..other.clone()
    };
    assert_eq!(said(vec![one.clone(), elsewhere]), Ok(()));
    let set = at(Some(vec![0]), &[2]).with_op(Op::Fill(1.0));
    assert_eq!(said(vec![one.clone(), other, set]), Ok(()));
    for op in [
        Op::Add(None),
        Op::Scale(2.0),
        Op::Subtract(None),
        Op::Interpolate(0.5),
    ] {
        let after = at(Some(vec![2]), &[2]).with_op(op.clone());
        let refused = said(vec![one.clone(), after]).unwrap_err();
        let wanted = format!(
            "attention_scores is knocked out at query 2, key 2 before `{}` acts there, and nothing can be done to −∞: \
             leave one of the two patches out, or set the score instead",
            op.label()
        );
        assert_eq!(refused, wanted);
    }
    let pattern = Patch {
        component: Component::AttentionWeight,
        ..one
    };
    assert_eq!(
        said(vec![pattern]),
        Err("attention_weight has no −∞: what is knocked out are scores, so that the softmax is of the other keys; \
             give attention_scores, or zero"
            .into())
    );
}
