//! Path patching against raw hooks, its laws, and what it costs.

use crate::common::fixtures::checkpoint;
use crate::common::laws::{batch_invariant, cone_equals_whole, equal};
use crate::common::model::{ModelSpec, generic_model, shape};
use crate::common::paths::worst;
use crate::common::{self, PLENTY, run, try_run};
use headlight::backend::cpu::Cpu;
use headlight::backend::{Backend, Readout};
use headlight::execute::plan;
use headlight::graph::node::{self, Projection, Sender};
use headlight::graph::path::{Freeze, PathError, PathReceiver, Paths, Receivers, receivers};
use headlight::model::Checkpoint;
use headlight::patch::{Op, Origin, Patch, Run, Vector};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::prompt::position::Spot;
use headlight::site::Component;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

#[test]
fn every_path_agrees_with_hooks() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        let off = worst(&Cpu::<f64>::new(&model), name, &model, 1);
        off.assert_within(1e-9, &format!("{name}, f64"));
        let off = worst(&Cpu::<f32>::new(&model), name, &model, 1);
        off.assert_within(1e-5, &format!("{name}, f32"));
    }
}

/// Any paths of any model.
#[derive(Debug, Clone)]
struct PathSpec {
    senders: Vec<usize>,
    receivers: Vec<usize>,
    apart: bool,
    freeze: Freeze,
    freeze_scales: bool,
    spots: Vec<Vec<usize>>,
    at: Vec<usize>,
}

fn path_spec() -> impl Strategy<Value = PathSpec> {
    let some = || proptest::collection::vec(0usize..64, 1..4);
    (
        some(),
        some(),
        any::<bool>(),
        prop_oneof![Just(Freeze::Heads), Just(Freeze::All)],
        any::<bool>(),
        proptest::collection::vec(some(), 1..3),
        some(),
    )
        .prop_map(
            |(senders, receivers, apart, freeze, freeze_scales, spots, at)| PathSpec {
                senders,
                receivers,
                apart,
                freeze,
                freeze_scales,
                spots,
                at,
            },
        )
}

/// Every receiver that a path may end in, the logits last.
fn all_receivers(model: &Checkpoint) -> Vec<PathReceiver> {
    let streams = [
        Component::BlockInput,
        Component::BlockMid,
        Component::BlockOutput,
    ];
    let residual = (0..model.config.layers)
        .flat_map(|layer| streams.map(|component| PathReceiver::Residual { component, layer }));
    let nodes = node::Receiver::all(&model.config);
    residual
        .chain(nodes.into_iter().map(PathReceiver::Node))
        .collect()
}

impl PathSpec {
    fn paths(&self, model: &Checkpoint) -> Paths {
        let (from, to) = (Sender::all(&model.config), all_receivers(model));
        let pick = |numbers: &[usize], count: usize| {
            let mut list: Vec<usize> = numbers.iter().map(|n| n % count).collect();
            list.sort_unstable();
            list.dedup();
            list
        };
        let senders = pick(&self.senders, from.len()).into_iter().map(|i| from[i]);
        let mut chosen: Vec<PathReceiver> = pick(&self.receivers, to.len())
            .into_iter()
            .map(|i| to[i])
            .collect();
        let logits = PathReceiver::Node(node::Receiver::Logits);
        if !self.apart && chosen.len() > 1 {
            chosen.retain(|receiver| *receiver != logits);
        }
        let names: Vec<String> = chosen.iter().map(PathReceiver::to_string).collect();
        Paths {
            senders: senders.collect(),
            receivers: match self.apart {
                true => Receivers::apart(chosen),
                false => vec![Receivers::together(&names, chosen).unwrap()],
            },
            freeze: self.freeze,
            freeze_scales: self.freeze_scales,
        }
    }

    fn positions(numbers: &[usize], length: usize) -> Vec<usize> {
        common::runs::distinct(numbers.iter().map(|n| n % length).collect())
    }

    fn pair(&self, paths: &Paths, model: &Checkpoint, pair: &Pair) -> PairRuns {
        let length = pair.base.len();
        let spots = self.spots.iter().map(|spot| Self::positions(spot, length));
        let spots: Vec<Spot> = spots.map(|spot| Spot::same(None, spot)).collect();
        let at = Self::positions(&self.at, length);
        PairRuns {
            pair: pair.clone(),
            runs: paths.runs(&model.config, length, &spots, &at).into(),
        }
    }
}

fn prompts(tokens: &[(u32, u32)], vocab: usize) -> Pair {
    let fold = |id: &u32| id % vocab as u32;
    Pair {
        base: tokens.iter().map(|(base, _)| fold(base)).collect(),
        source: Some(tokens.iter().map(|(_, source)| fold(source)).collect()),
        targets: vec![0, 1],
        ..Pair::default()
    }
}

fn tokens() -> impl Strategy<Value = Vec<(u32, u32)>> {
    proptest::collection::vec((any::<u32>(), any::<u32>()), 1..7)
}

/// Runs paths as somebody would who has runs that read prompts alone: what the sender run computes at
/// the receivers is collected, and then set. Both are what they are without a light cone.
fn two_whole_runs<B: Backend>(
    backend: &B,
    of: &PairRuns,
    got: &[Vec<Readout>],
    seed: u64,
) -> TestCaseResult {
    let one = |patches: Vec<Patch>| {
        let run = Run {
            patches,
            ..Run::default()
        };
        [PairRuns {
            pair: of.pair.clone(),
            runs: [run].into(),
        }]
    };
    for (receiver_run, got) in of.runs.iter().zip(got).filter(|(run, _)| !run.step) {
        let mut patches = receiver_run.patches.clone();
        let read = patches.iter().find_map(|patch| match patch.origin {
            Origin::Run(run) => Some(run),
            Origin::Clean(_) => None,
        });
        if let Some(sender_run) = read {
            let sent = one(of.runs[sender_run].patches.clone());
            cone_equals_whole(backend, &sent)?;
            let mut sender_run = sent[0].runs[0].patches.clone();
            for patch in &patches {
                let collect = Patch {
                    origin: Origin::default(),
                    ..patch.clone()
                };
                sender_run.push(collect.with_op(Op::Collect));
            }
            let collected = run(backend, &one(sender_run), PLENTY)
                .pairs
                .remove(0)
                .collected;
            prop_assert_eq!(collected.len(), patches.len());
            for (patch, found) in patches.iter_mut().zip(collected) {
                patch.origin = Origin::default();
                patch.op = Op::Set(Vector {
                    label: "collected".into(),
                    values: found.values.into(),
                    rows: patch.positions.len(),
                });
            }
        }
        let set = one(patches);
        cone_equals_whole(backend, &set)?;
        batch_invariant(backend, &set, seed)?;
        equal("a path", got, &run(backend, &set, PLENTY).pairs[0].runs[0])?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is held and what nobody reads is not computed, and not a bit differs from two runs in which
    /// everything is; nor does the memory change one.
    #[test]
    fn a_path_is_two_whole_runs(
        spec in generic_model(), paths in path_spec(), tokens in tokens(), seed in any::<u64>(),
    ) {
        let model = spec.open();
        let cpu = Cpu::<f32>::new(&model);
        let pair = prompts(&tokens, spec.vocab);
        let pairs = [paths.pair(&paths.paths(&model), &model, &pair)];
        let bound = plan(&cpu, &pairs);
        let outcome = run(&cpu, &pairs, PLENTY);
        prop_assert!(bound.runs.linear >= outcome.plan.runs.linear);
        prop_assert!(bound.runs.attention >= outcome.plan.runs.attention);
        two_whole_runs(&cpu, &pairs[0], &outcome.pairs[0].runs, seed)?;
        let mut memory = 1 << 10;
        let little = loop {
            match try_run(&cpu, &pairs, memory) {
                Ok(outcome) => break outcome,
                Err(_) => memory = memory * 9 / 8,
            }
        };
        for (got, want) in little.pairs[0].runs.iter().zip(&outcome.pairs[0].runs) {
            equal("in little memory", got, want)?;
        }
    }

    /// Receivers by themselves are what they are one at a time, senders likewise.
    #[test]
    fn apart_is_one_by_one(
        spec in generic_model(), paths in path_spec(), tokens in tokens(),
    ) {
        let model = spec.open();
        let cpu = Cpu::<f32>::new(&model);
        let pair = prompts(&tokens, spec.vocab);
        let all = Paths { receivers: Receivers::apart(all_receivers(&model)), ..paths.paths(&model) };
        let together = run(&cpu, &[paths.pair(&all, &model, &pair)], PLENTY);
        let cells: Vec<_> = all.cells(&model.config, paths.spots.len()).collect();
        prop_assert!(cells.len() <= together.pairs[0].runs.len());
        for (cell, read) in cells.iter().zip(&together.pairs[0].runs).step_by(7) {
            let one = Paths {
                senders: vec![cell.sender],
                receivers: vec![all.receivers[cell.receivers].clone()],
                ..all.clone()
            };
            let spec = PathSpec { spots: vec![paths.spots[cell.spot].clone()], ..paths.clone() };
            let alone = run(&cpu, &[spec.pair(&one, &model, &pair)], PLENTY);
            prop_assert!(common::same(&alone.pairs[0].runs[0], read), "{:?}", cell);
        }
    }

    /// Nothing is sent where the prompts agree.
    #[test]
    fn what_is_the_same_moves_nothing(
        spec in generic_model(), paths in path_spec(), ids in tokens(),
    ) {
        let model = spec.open();
        let cpu = Cpu::<f32>::new(&model);
        let ids: Vec<(u32, u32)> = ids.into_iter().map(|(id, _)| (id, id)).collect();
        let pairs = [paths.pair(&paths.paths(&model), &model, &prompts(&ids, spec.vocab))];
        let outcome = run(&cpu, &pairs, PLENTY);
        prop_assert_eq!(outcome.plan.copied, outcome.plan.count);
        for read in outcome.pairs[0].runs.iter().filter(|read| !read.is_empty()) {
            prop_assert!(common::same(read, &outcome.pairs[0].base));
        }
    }
}

/// The shape whose costs are written out below.
fn four_layers() -> ModelSpec {
    ModelSpec {
        layers: 4,
        seed: 7,
        ..shape(2, 4, 24, 11)
    }
}

/// Operations of the patched runs of one sender and one receiver.
fn cost(sender: Sender, receiver: &str, freeze: Freeze, freeze_scales: bool) -> u64 {
    let model = four_layers().open();
    let names = [receiver.to_owned()];
    let all = receivers(&names, &model.config).unwrap();
    let paths = Paths {
        senders: vec![sender],
        receivers: vec![Receivers::together(&names, all).unwrap()],
        freeze,
        freeze_scales,
    };
    let pair = Pair {
        base: vec![1, 2, 3, 4, 5],
        source: Some(vec![6, 7, 8, 9, 10]),
        targets: vec![0],
        ..Pair::default()
    };
    let everywhere = Spot::same(None, (0..5).collect());
    let runs = paths.runs(&model.config, 5, &[everywhere], &[0, 1, 2, 3, 4]);
    let pairs = [PairRuns {
        pair,
        runs: runs.into(),
    }];
    run(&Cpu::<f32>::new(&model), &pairs, PLENTY)
        .plan
        .runs
        .total()
}

/// A frozen head or MLP costs nothing, nor does any row that no receiver reads.
#[test]
fn what_is_held_is_not_computed() {
    let (d, i, v) = (8, 24, 11);
    let head = |layer| Sender::Head { layer, head: 1 };
    let (square, mlp, unembedding) = (2 * d * d, 4 * d * i, 2 * d * v);
    for scales in [false, true] {
        // the sender's c_proj at the one row that is read out, and the unembedding
        let direct = |layer| cost(head(layer), "logits", Freeze::All, scales);
        for layer in 0..4 {
            assert_eq!(direct(layer), square + unembedding, "layer {layer}");
            // and the MLPs from the sender's layer on, in that row
            let through = cost(head(layer), "logits", Freeze::Heads, scales);
            assert_eq!(
                through,
                square + (4 - layer as u64) * mlp + unembedding,
                "layer {layer}"
            );
        }
        let sent = Sender::Mlp { layer: 1 };
        assert_eq!(cost(sent, "logits", Freeze::All, scales), unembedding);
        assert_eq!(
            cost(sent, "logits", Freeze::Heads, scales),
            2 * mlp + unembedding
        );
        // to a query of the last layer: what the sender adds and the query, of the last row; then from
        // the last row's attention on, whose five keys take 4 operations a column
        let last = |freeze| cost(head(0), "a3.h0<q>", freeze, scales);
        let receiver_run = 4 * d * 5 + square + mlp + unembedding;
        assert_eq!(last(Freeze::All), square + square + receiver_run);
        assert_eq!(
            last(Freeze::Heads),
            square + 3 * mlp + square + receiver_run
        );
        // values of the last layer are read at every row
        let all_rows = cost(head(2), "a3.h0<v>", Freeze::All, scales);
        assert_eq!(all_rows, 5 * square + 5 * square + receiver_run);
    }
}

#[test]
fn names_mean_what_the_manual_says() {
    let model = four_layers().open();
    let to = |names: &str| {
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        let all = receivers(&names, &model.config)?;
        let names: Vec<String> = all.iter().map(PathReceiver::to_string).collect();
        Ok::<_, PathError>(names.join(" "))
    };
    assert_eq!(
        to("a1.h0,m0,a0.h1.v").unwrap(),
        "a0.h1<v> m0 a1.h0<q> a1.h0<k> a1.h0<v>"
    );
    assert_eq!(
        to("block_output.3,blocks.2.hook_resid_pre,hook_resid_mid.1,logits").unwrap(),
        "block_mid.1 block_input.2 block_output.3 logits"
    );
    assert_eq!(to("k").unwrap().split(' ').count(), 8);
    for wrong in [
        "",
        "a",
        "input",
        "block_input",
        "block_input.4",
        "mlp_output.1",
        "m4",
        "a0.h2",
    ] {
        let error = to(wrong).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("`{wrong}` is no receiver")),
            "{error}"
        );
    }
    let config = &model.config;
    let logits = receivers(&["logits".to_owned(), "m1".to_owned()], config).unwrap();
    let names = ["logits".to_owned(), "m1".to_owned()];
    let error = Receivers::together(&names, logits).unwrap_err();
    assert!(error.to_string().contains("`m1`"), "{error}");
    let first = PathReceiver::Node(node::Receiver::Head {
        layer: 0,
        head: 0,
        projection: Projection::Query,
    });
    let paths = Paths {
        senders: vec![Sender::Mlp { layer: 0 }],
        receivers: Receivers::apart(vec![first]),
        freeze: Freeze::Heads,
        freeze_scales: false,
    };
    assert_eq!(paths.check(config), Err(PathError::NoPath));
}
