//! What patches collect.

use headlight::backend::Backend;
use headlight::backend::cpu::Cpu;
use headlight::model::Checkpoint;
use headlight::patch::{Op, Patch};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::{Component, Stage, columns, kept, layer_of};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::common::model::{ModelSpec, model};
use super::common::reference::Reference;
use super::common::runs::{PatchSpec, freeze, pair, patch, run_of};
use super::common::{PLENTY, cases, run, run_pair};
use super::{patches, sound};

/// What patches collect, at random places among other patches, is what stands there in the run of the
/// patches before them, computed whole.
fn collections(
    checkpoint: &Checkpoint,
    pair: Pair,
    specs: &[PatchSpec],
    sites: &[(PatchSpec, usize)],
) -> TestCaseResult {
    let config = &checkpoint.config;
    let mut all = patches(specs, &pair, config);
    // the reference cannot read the rows of attention that it keeps
    let reads = |p: &&mut Patch| p.component.has_keys() && p.op.reads_source();
    all.iter_mut()
        .filter(reads)
        .for_each(|p| p.op = Op::Scale(0.5));
    for (site, index) in sites {
        let site = Patch {
            keys: None,
            source_layer: None,
            source_heads: None,
            source_positions: None,
            ..site.resolve(&pair, config)
        };
        all.insert(index % (all.len() + 1), site.with_op(Op::Collect));
    }
    stands_there(checkpoint, pair, all)
}

fn stands_there(checkpoint: &Checkpoint, pair: Pair, all: Vec<Patch>) -> TestCaseResult {
    let config = &checkpoint.config;
    prop_assume!(sound(&pair, &[run_of(all.clone())], config));
    let cpu = Cpu::<f32>::new(checkpoint);
    let outcome = run_pair(&cpu, &pair, vec![run_of(all.clone())]);
    let mut reference = Reference::new(&cpu, &pair);
    let mut collected = outcome.collected.iter();
    for (i, patch) in all.iter().enumerate().filter(|(_, p)| p.op == Op::Collect) {
        let found = collected.next().unwrap();
        prop_assert_eq!(found.patch, i);
        let layer = layer_of(patch.component, patch.layer, config);
        let own = (layer, patch.component.stage());
        let acts = |(j, p): &(usize, &Patch)| {
            let at = (layer_of(p.component, p.layer, config), p.component.stage());
            p.op != Op::Collect && (at < own || at == own && *j < i)
        };
        let before = all
            .iter()
            .enumerate()
            .filter(acts)
            .map(|(_, p)| p.clone())
            .collect();
        let (traces, first) = reference.activations(&run_of(before));
        let (stage, layer) = kept(own.1, own.0);
        let width = traces.layout.width(stage, config);
        let matrix = cpu.read(traces.get(stage, layer).unwrap()).unwrap();
        let columns = columns(patch.component, config);
        let mut want = Vec::new();
        let heads = match patch.heads.is_empty() {
            true => vec![0],
            false => patch.heads.clone(),
        };
        let last = patch.positions.iter().max().unwrap() + 1;
        for head in heads {
            for position in &patch.positions {
                let row = &matrix[(first + position) * width..][..width];
                if patch.component.has_keys() {
                    let masked = if stage == Stage::Scores {
                        f64::NEG_INFINITY
                    } else {
                        0.0
                    };
                    let cells = &row[head * traces.layout.key_stride()..];
                    want.extend((0..last).map(|k| if k <= *position { cells[k] } else { masked }));
                } else {
                    let own_input = matches!(
                        own.1,
                        Stage::QueryInput | Stage::KeyInput | Stage::ValueInput
                    );
                    let column = if own_input { 0 } else { head * columns };
                    want.extend(&row[column..][..columns]);
                }
            }
        }
        let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&found.values), bits(&want), "patch {}", i);
        prop_assert_eq!(found.shape.iter().product::<usize>(), want.len());
    }
    prop_assert!(collected.next().is_none());
    Ok(())
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn what_is_collected_stands_in_the_run_computed_whole(
        spec in model(),
        pair in pair(4),
        specs in proptest::collection::vec(patch(), 0..=5),
        sites in proptest::collection::vec((patch(), any::<usize>()), 1..=4),
    ) {
        // few layers, so that patches meet
        let checkpoint = ModelSpec { layers: spec.layers.min(2), ..spec }.open();
        collections(&checkpoint, pair.resolve(&checkpoint.config), &specs, &sites)?;
    }
}

/// What is collected of the embeddings where their sum is overwritten, for a run that goes on.
#[test]
fn embeddings_are_computed_for_whoever_collects_them() {
    let checkpoint = Checkpoint::resolve("demo").unwrap();
    let pair = Pair {
        base: vec![5, 9],
        source: Some(vec![6, 9]),
        targets: vec![3],
        ..Pair::default()
    };
    let site = |component, layer| Patch::interchange(component, layer, vec![], vec![0]);
    let token = site(Component::TokenEmbedding, None);
    let stream = freeze(site(Component::BlockInput, Some(0)));
    let all = vec![
        token.clone().with_op(Op::Scale(2.0)),
        token.with_op(Op::Collect),
        stream,
        site(Component::BlockOutput, Some(0)).with_op(Op::Collect),
    ];
    stands_there(&checkpoint, pair, all).unwrap();
}

/// Without targets a pair whose runs only collect is computed as far as the last collected layer.
#[test]
fn a_run_that_only_collects_ends_at_its_last_collected_layer() {
    let checkpoint = Checkpoint::resolve("demo").unwrap();
    let config = &checkpoint.config;
    let ids = vec![5, 9, 11];
    let pair = Pair {
        base: ids.clone(),
        ..Pair::default()
    };
    let collect = |layer| {
        let patch =
            Patch::interchange(Component::HeadValueOutput, Some(layer), vec![1], vec![0, 2]);
        run_of(vec![patch.with_op(Op::Collect)])
    };
    let cpu = Cpu::<f32>::new(&checkpoint);
    let flops = |layer| {
        let runs = [collect(layer)].into();
        let outcome = run(
            &cpu,
            &[PairRuns {
                pair: pair.clone(),
                runs,
            }],
            PLENTY,
        );
        assert_eq!(
            outcome.pairs[0].collected[0].shape,
            [1, 2, config.head_width()]
        );
        assert!(outcome.pairs[0].base.is_empty() && outcome.pairs[0].runs[0].is_empty());
        outcome.plan.flops()
    };
    let d = config.width as u64;
    // the first layer's values alone: one square product of three rows
    assert_eq!(flops(0), 2 * 3 * d * d);
    assert!(flops(1) > flops(0) && flops(2) - flops(1) == flops(3) - flops(2));
}
