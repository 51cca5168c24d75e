//! Edge patching against raw hooks, and its laws: nothing moves where base and source agree, and runs of
//! several edges are several runs.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use crate::common::edges::worst;
use crate::common::fixtures::checkpoint;
use crate::common::model::{ModelSpec, generic_model, shape};
use crate::common::{self, limits};
use headlight::backend::cpu::Cpu;
use headlight::backend::{Backend, Readout};
use headlight::check::check_run;
use headlight::engine::{DeviceWish, Engine, Pairs};
use headlight::execute::Outcome;
use headlight::graph::contribution::Differences;
use headlight::graph::edge::{Edge, edges};
use headlight::graph::extent::{EdgeAt, Extent};
use headlight::graph::node::{Receiver, Sender};
use headlight::graph::patching::{EdgePatchingError, count, each_part, patch_edges};
use headlight::model::Checkpoint;
use headlight::patch::{Op, Patch, Run, Vector};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use proptest::prelude::*;

#[test]
fn every_edge_agrees_with_hooks() {
    agrees(Extent::Whole);
}

#[test]
fn edges_at_one_position_agree_with_hooks() {
    agrees(Extent::PerPosition);
}

fn agrees(extent: Extent) {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        let off = worst(&Cpu::<f64>::new(&model), name, &model, extent, 0);
        off.assert_within(1e-9, &format!("{name}, f64"));
        let off = worst(&Cpu::<f32>::new(&model), name, &model, extent, 0);
        off.assert_within(1e-5, &format!("{name}, f32"));
    }
}

/// Every edge's readouts, with the clean base's.
fn patched<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pair: &Pair,
    edges: &[Edge],
    extent: Extent,
) -> (Readout, Vec<(EdgeAt, Readout, bool)>) {
    let stop = AtomicBool::new(false);
    let (mut base, mut all) = (Readout::default(), Vec::new());
    let (of, limits) = ((edges, extent), limits(&stop));
    let range = 0..count(of, pair.base.len());
    each_part(backend, model, pair, of, range, &limits, |first, part| {
        let outcome = Outcome::of(backend, std::slice::from_ref(part), &limits)?;
        let read = &outcome.pairs[0];
        base = read.base[0].clone();
        for (i, (run, readouts)) in part.runs.iter().zip(&read.runs).enumerate() {
            let edge = extent.edge(edges, pair.base.len(), first + i);
            assert_eq!(run.name, Some(edge.to_string()));
            all.push((edge, readouts[0].clone(), run.patches.is_empty()));
        }
        Ok::<_, EdgePatchingError>(())
    })
    .unwrap();
    (base, all)
}

fn pair(base: Vec<u32>, source: Vec<u32>) -> Pair {
    Pair {
        base,
        source: Some(source),
        targets: vec![0, 1],
        ..Pair::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No edge of two equal prompts moves a bit, or has anything to compute; and no edge sees a token
    /// that only later rows have.
    #[test]
    fn what_is_the_same_moves_nothing(spec in generic_model(), ids in proptest::collection::vec(any::<u32>(), 1..8), each: bool) {
        let model = spec.open();
        let cpu = Cpu::<f32>::new(&model);
        let extent = if each { Extent::PerPosition } else { Extent::Whole };
        let runs = if each { ids.len() } else { 1 };
        let ids: Vec<u32> = ids.iter().map(|id| id % spec.vocab as u32).collect();
        let edges = edges(&model.config);
        let (base, all) = patched(&cpu, &model, &pair(ids.clone(), ids), &edges, extent);
        prop_assert_eq!(all.len(), runs * edges.len());
        for (edge, readout, nothing) in all {
            prop_assert!(nothing && common::bits(&readout) == common::bits(&base), "{}", edge);
        }
    }

    /// Of two prompts that differ in one token: where its contributions are all that differ, as the last
    /// token's are, an edge at that position is the edge, bit for bit, and at any other is nothing. The
    /// logits are read at the last position alone, whichever tokens differ.
    #[test]
    fn an_edge_at_the_only_position_that_differs_is_the_edge(
        spec in generic_model(),
        ids in proptest::collection::vec(any::<u32>(), 1..7),
        other: u32,
        last: bool,
    ) {
        let model = spec.open();
        let cpu = Cpu::<f32>::new(&model);
        let base: Vec<u32> = ids.iter().map(|id| id % spec.vocab as u32).collect();
        let mut source = base.clone();
        let differs = if last { base.len() - 1 } else { 0 };
        source[differs] = other % spec.vocab as u32;
        let pair = pair(base.clone(), source);
        let edges = edges(&model.config);
        let (clean, whole) = patched(&cpu, &model, &pair, &edges, Extent::Whole);
        let (_, each) = patched(&cpu, &model, &pair, &edges, Extent::PerPosition);
        prop_assert_eq!(each.len(), base.len() * edges.len());
        for ((edge, whole, _), each) in whole.iter().zip(each.chunks(base.len())) {
            prop_assert_eq!(edge.position, None);
            for (position, (at, readout, nothing)) in each.iter().enumerate() {
                prop_assert_eq!((at.edge, at.position), (edge.edge, Some(position)));
                let of_logits = edge.edge.receiver == Receiver::Logits;
                if (last && position == differs) || (of_logits && position + 1 == base.len()) {
                    prop_assert_eq!(common::bits(readout), common::bits(whole), "{}", at);
                } else if last || of_logits || position < differs {
                    prop_assert!(*nothing || of_logits, "{}", at);
                    prop_assert_eq!(common::bits(readout), common::bits(&clean), "{}", at);
                }
            }
        }
    }

    /// A sender's contributions, biases aside, are the whole of what the residual stream is made of.
    #[test]
    fn differences_add_up_to_the_residual_stream(
        spec in generic_model(),
        tokens in proptest::collection::vec((any::<u32>(), any::<u32>()), 1..8),
    ) {
        let model = spec.open();
        let cpu = Cpu::<f64>::new(&model);
        let (config, stop) = (&model.config, AtomicBool::new(false));
        let fold = |id: u32| id % spec.vocab as u32;
        let (base, source): (Vec<u32>, Vec<u32>) = tokens.iter().map(|(a, b)| (fold(*a), fold(*b))).unzip();
        let common = base.iter().zip(&source).take_while(|(a, b)| a == b).count();
        let senders = Sender::all(config);
        let differences = Differences::new(&cpu, &base, &source, &senders, &limits(&stop)).unwrap();
        let (n, width) = (base.len(), config.width);
        let mut sum = vec![0.0; n * width];
        for sender in &senders {
            let one = differences.of(*sender, &model);
            prop_assert_eq!(one.values.len(), one.positions.len() * width);
            // a shared beginning is left out
            prop_assert!(one.positions.iter().all(|p| (common..n).contains(p)), "{sender}");
            for (position, row) in one.positions.iter().zip(one.values.chunks(width)) {
                sum[position * width..][..width].iter_mut().zip(row).for_each(|(s, x)| *s += x);
            }
        }
        let last = [(Component::BlockOutput, Some(config.layers - 1))];
        let stream = |ids: &[u32]| {
            let kept = headlight::execute::activations::activations(&cpu, ids, &last, &limits(&stop)).unwrap();
            kept[0].values.clone()
        };
        let size = stream(&base).iter().fold(1.0f64, |m, x| m.max(x.abs()));
        for (i, (b, s)) in stream(&base).iter().zip(stream(&source)).enumerate() {
            prop_assert!((sum[i] - (s - b)).abs() <= 1e-10 * size, "{i}: {} {}", sum[i], s - b);
        }
    }
}

#[test]
fn batches_and_orders_change_no_bit() {
    let model = checkpoint("tied");
    let cpu = Cpu::<f32>::new(&model);
    let pair = pair(
        vec![57, 71, 59, 57, 65, 75, 24],
        vec![30, 80, 1, 68, 8, 7, 4],
    );
    let all = edges(&model.config);
    for extent in [Extent::Whole, Extent::PerPosition] {
        let (_, together) = patched(&cpu, &model, &pair, &all, extent);
        let together: HashMap<EdgeAt, _> = together
            .into_iter()
            .map(|(e, r, _)| (e, common::bits(&r)))
            .collect();
        // one at a time, backwards
        for edge in all.iter().rev() {
            let (_, alone) = patched(&cpu, &model, &pair, &[*edge], extent);
            assert!(!alone.is_empty());
            for (edge, alone, _) in alone {
                assert_eq!(common::bits(&alone), together[&edge], "{edge}");
            }
        }
    }
}

/// More edges than are run together: each comes once, in order, and as it does alone.
#[test]
fn edges_come_in_batches() {
    let spec = ModelSpec {
        layers: 6,
        seed: 3,
        ..shape(8, 2, 4, 9)
    };
    let model = spec.open();
    let cpu = Cpu::<f32>::new(&model);
    let (all, stop) = (edges(&model.config), AtomicBool::new(false));
    let pair = pair(vec![1, 2, 3], vec![1, 4, 5]);
    let engine = Engine::of(spec.open())
        .device(DeviceWish::Cpu)
        .build()
        .unwrap();
    for extent in [Extent::Whole, Extent::PerPosition] {
        let (mut readouts, mut batches) = (Vec::new(), 0);
        let (of, limits) = ((&*all, extent), limits(&stop));
        let range = 0..count(of, pair.base.len());
        each_part(&cpu, &model, &pair, of, range, &limits, |first, part| {
            assert!(part.runs.len() <= 2048 && first == readouts.len());
            let outcome = Outcome::of(&cpu, std::slice::from_ref(part), &limits)?;
            let runs = &outcome.pairs[0].runs;
            readouts.extend(runs.iter().map(|r| common::bits(&r[0])));
            batches += 1;
            Ok::<_, EdgePatchingError>(())
        })
        .unwrap();
        let positions = extent.positions(3);
        let each = all.iter().flat_map(|edge| {
            let (edge, positions) = (*edge, &positions);
            positions.iter().map(move |p| EdgeAt { edge, position: *p })
        });
        let each: Vec<EdgeAt> = each.collect();
        let question = engine.edges(all.clone(), extent, Pairs::Listed(vec![pair.clone()]));
        let rows = question.unwrap().table().unwrap().rows;
        assert!(batches > 1 && rows.len() == 2 * each.len());
        for (i, (row, edge)) in rows
            .iter()
            .zip(each.iter().flat_map(|e| [e, e]))
            .enumerate()
        {
            assert_eq!(*edge, extent.edge(&all, 3, i / 2));
            assert_eq!(
                (row.run as usize, row.name.as_deref()),
                (i / 2, Some(&*edge.to_string()))
            );
            assert!(row.source_prob.is_some());
            if let Some(position) = edge.position {
                let token = format!("[{}]", pair.base[position]);
                assert_eq!(
                    (row.position, row.token.as_deref()),
                    (Some(position as u32), Some(&*token))
                );
            }
        }
        let count = positions.len();
        for i in (0..all.len()).step_by(97) {
            let (_, alone) = patched(&cpu, &model, &pair, &all[i..=i], extent);
            for (k, (edge, alone, _)) in alone.iter().enumerate() {
                assert_eq!(common::bits(alone), readouts[count * i + k], "{edge}");
            }
        }
    }
}

/// A constant of several rows is a constant of one row at each position, in the order listed, whether a
/// row is one head's or every head's.
#[test]
fn rows_of_a_constant_go_to_positions_in_order() {
    let model = checkpoint("odd_untied");
    let cpu = Cpu::<f64>::new(&model);
    let (width, positions) = (model.config.width, vec![4, 1, 3]);
    let constant = |columns: usize, row: Option<usize>| {
        let all: Vec<f64> = (0..3 * columns).map(|i| (i as f64).sin()).collect();
        let values = match row {
            Some(row) => all[row * columns..][..columns].into(),
            None => all.into(),
        };
        Op::Add(Some(Vector {
            label: "rows".into(),
            values,
            rows: if row.is_some() { 1 } else { 3 },
        }))
    };
    for (component, heads, columns) in [
        (Component::MlpOutput, vec![], width),
        (Component::AttentionKeyInput, vec![2, 0], width),
        (
            Component::HeadValueOutput,
            vec![1, 3],
            model.config.head_width(),
        ),
        (Component::HeadValueOutput, vec![1, 3], width),
    ] {
        let patch = |positions: Vec<usize>, row| {
            let patch = Patch::interchange(component, Some(0), heads.clone(), positions);
            patch.with_op(constant(columns, row))
        };
        let together = vec![patch(positions.clone(), None)];
        let each = positions.iter().enumerate();
        let apart = each.map(|(row, p)| patch(vec![*p], Some(row))).collect();
        let run = |patches| Run {
            patches,
            ..Run::default()
        };
        let pair = pair(vec![7, 47, 11, 22, 50], vec![1]);
        let wrong = Vector {
            label: "two".into(),
            values: vec![0.0; 2 * columns].into(),
            rows: 2,
        };
        let wrong = patch(positions.clone(), None).with_op(Op::Set(wrong));
        let error = check_run(&run(vec![wrong]), &[], &pair, &model.config).unwrap_err();
        assert!(
            error.to_string().contains("2 rows, at 3 positions"),
            "{error}"
        );
        let runs = vec![run(together), run(apart)].into();
        let outcome = common::run(&cpu, &[PairRuns { pair, runs }], common::PLENTY);
        let [together, apart] = &outcome.pairs[0].runs[..] else {
            panic!("two runs")
        };
        assert!(common::same(together, apart), "{component}");
        assert!(
            !common::same(together, &outcome.pairs[0].base),
            "{component}"
        );
    }
}

#[test]
fn pairs_that_cannot_be_patched_are_refused() {
    let model = checkpoint("tied");
    let cpu = Cpu::<f32>::new(&model);
    let edge = Edge {
        sender: Sender::Input,
        receiver: Receiver::Logits,
    };
    let stop = AtomicBool::new(false);
    let refused = |pair: Pair| {
        let (of, limits) = ((&[edge][..], Extent::Whole), limits(&stop));
        let mut sink = Outcome::default();
        patch_edges(&cpu, &model, &pair, of, &limits, &mut sink).unwrap_err()
    };
    let error = refused(pair(vec![1, 2, 3], vec![1, 2]));
    assert!(
        error.to_string().contains("3 tokens and the source 2"),
        "{error}"
    );
    let error = refused(Pair {
        source: None,
        ..pair(vec![1], vec![2])
    });
    assert!(matches!(error, EdgePatchingError::NoSource));
    assert!(matches!(
        refused(pair(vec![1], vec![999])),
        EdgePatchingError::Execute(_)
    ));
}
