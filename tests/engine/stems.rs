//! Runs that begin with the same patches compute them once, and nothing else changes: a bit of no result, in no order, and
//! what was planned is what is executed.

use headlight::backend::cpu::Cpu;
use headlight::check::check_run;
use headlight::execute::{Outcome, plan};
use headlight::patch::{Op, Origin, Patch, Prompt, Run};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use proptest::prelude::*;

use crate::common::model::{ModelSpec, generic_model, shape};
use crate::common::runs::{PairSpec, pair, patch, run_of};
use crate::common::{PLENTY, Random, bits, cases, run, run_pair};

/// Every position of every layer's MLP, or of another component, behind some patches.
fn swept(
    first: &[Patch],
    component: Component,
    layers: std::ops::Range<usize>,
    length: usize,
    origin: Origin,
) -> Vec<Run> {
    let places = layers.flat_map(|layer| (0..length).map(move |position| (layer, position)));
    let run = |(layer, position)| {
        let heads = if component.has_heads() {
            vec![0]
        } else {
            Vec::new()
        };
        let last = Patch {
            origin,
            ..Patch::interchange(component, Some(layer), heads, vec![position])
        };
        run_of(first.iter().cloned().chain([last]).collect())
    };
    places.map(run).collect()
}

/// One after the other, and all together.
fn same_together<const F64: bool>(
    spec: &ModelSpec,
    pair: &Pair,
    runs: &[Run],
) -> Result<(Outcome, u64), TestCaseError> {
    let checkpoint = spec.open();
    if F64 {
        together(&Cpu::<f64>::new(&checkpoint), pair, runs)
    } else {
        together(&Cpu::<f32>::new(&checkpoint), pair, runs)
    }
}

fn together<B: headlight::backend::Backend>(
    backend: &B,
    pair: &Pair,
    runs: &[Run],
) -> Result<(Outcome, u64), TestCaseError> {
    let of = [PairRuns {
        pair: pair.clone(),
        runs: runs.into(),
    }];
    let outcome = run(backend, &of, PLENTY);
    let bound = plan(backend, &of);
    prop_assert!(
        bound.flops() + outcome.plan.compared >= outcome.plan.flops(),
        "{bound:?} {:?}",
        outcome.plan
    );
    prop_assert_eq!(bound.count, outcome.plan.count);
    let mut alone = 0;
    for (index, one) in runs.iter().enumerate() {
        let found = run_pair(backend, pair, vec![one.clone()]);
        let [want, got] = [&found.runs[0], &outcome.pairs[0].runs[index]];
        prop_assert_eq!(want.len(), got.len());
        for (want, got) in want.iter().zip(got) {
            prop_assert_eq!(bits(want), bits(got), "run {}: {:?}", index, one);
        }
        let single = [PairRuns {
            pair: pair.clone(),
            runs: [one.clone()].into(),
        }];
        alone += run(backend, &single, PLENTY).plan.runs.total();
    }
    Ok((outcome, alone))
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn a_stem_moves_no_bit(
        spec in generic_model(), pair in pair(7), first in prop::collection::vec(patch(), 1..3), seed in any::<u64>(),
    ) {
        let checkpoint = spec.open();
        let config = &checkpoint.config;
        let pair = pair.resolve(config);
        let mut random = Random(seed);
        let components = [Component::MlpOutput, Component::BlockOutput, Component::HeadValueOutput, Component::AttentionOutput];
        let component = components[random.below(4)];
        let length = pair.base.len().min(pair.source.as_ref().map_or(0, Vec::len));
        // patches of the first layer or the embedding, so that the others come behind
        let first: Vec<Patch> = first.iter().map(|spec| {
            let patch = spec.resolve(&pair, config);
            Patch { layer: patch.layer.map(|_| 0), source_layer: None, ..patch }
        }).collect();
        let origin = [Prompt::Base, Prompt::Source][random.below(2)];
        let runs = swept(&first, component, 0..config.layers, length, Origin::Clean(origin));
        prop_assume!(runs.iter().all(|run| check_run(run, &runs, &pair, config).is_ok()));
        same_together::<false>(&spec, &pair, &runs)?;
        same_together::<true>(&spec, &pair, &runs)?;
    }
}

/// A model of so many layers, and a pair of eight tokens of which base and source share so many.
fn plain(layers: usize, shared: u8) -> (ModelSpec, Pair) {
    let spec = ModelSpec {
        layers,
        ..shape(2, 8, 32, 64)
    };
    let pair = PairSpec {
        length: 8,
        shared,
        longer: 0,
        readouts: 0,
        seed: 3,
    };
    let pair = pair.resolve(&spec.open().config);
    (spec, pair)
}

/// A tracing's corrupted runs, each of which many restore: less than half the operations of each by itself.
#[test]
fn a_tracing_corrupts_each_sample_once() {
    let (spec, pair) = plain(6, 255);
    let mut runs = Vec::new();
    for sample in 0..2 {
        let noise = Op::Noise {
            level: 0.7,
            seed: 5,
            sample,
        };
        let corrupt = Patch::interchange(Component::TokenEmbedding, None, Vec::new(), vec![1, 2])
            .with_op(noise);
        runs.push(run_of(vec![corrupt.clone()]));
        runs.extend(swept(
            &[corrupt],
            Component::BlockOutput,
            0..6,
            8,
            Origin::Clean(Prompt::Base),
        ));
    }
    let (outcome, alone) = same_together::<true>(&spec, &pair, &runs).unwrap();
    let taken = outcome.plan.runs.total() + outcome.plan.clean.total();
    assert!(2 * taken < alone, "{taken} of {alone}");
}

/// A patch that acts behind the others is no stem, whichever stands first in the list.
#[test]
fn what_acts_later_is_no_stem() {
    let (spec, pair) = plain(4, 0);
    let noise = Op::Noise {
        level: 0.7,
        seed: 5,
        sample: 0,
    };
    let early = Patch::interchange(Component::TokenEmbedding, None, Vec::new(), vec![1, 2]);
    let late = Patch::interchange(Component::MlpOutput, Some(3), Vec::new(), vec![7]);
    let first = [early.with_op(noise), late.with_op(Op::Scale(2.0))];
    let source = Origin::Clean(Prompt::Source);
    let runs = swept(&first, Component::MlpOutput, 0..3, 8, source);
    same_together::<true>(&spec, &pair, &runs).unwrap();
}
