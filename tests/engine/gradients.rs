//! Gradients of whole models against PyTorch's autograd (tests/fixtures/make_gradients.py), and their laws:
//! a row's gradient does not depend on the batch, and costs what was planned.

use std::collections::BTreeSet;

use headlight::backend::Backend;
use headlight::backend::adjoint::Frozen;
use headlight::backend::cpu::Cpu;
use headlight::plan::tape::AskedGradients;
use headlight::prompt::pair::Pair;
use headlight::site::Stage;
use proptest::prelude::*;

use crate::common::fixtures::checkpoint;
use crate::common::gradients::{
    Gates, NAMES, Question, batch_invariant, every_kind, everything, fixture, found, whole,
};
use crate::common::model::model;
use crate::common::{Random, cases};

#[test]
fn gradients_agree_with_autograd_in_double_precision() {
    for name in NAMES {
        let model = checkpoint(name);
        every_kind(name, &Cpu::<f64>::new(&model), &model, Gates::same(1e-9));
    }
}

#[test]
fn gradients_agree_with_autograd_in_single_precision() {
    for name in NAMES {
        let model = checkpoint(name);
        every_kind(name, &Cpu::<f32>::new(&model), &model, Gates::same(1e-5));
    }
}

#[test]
fn a_rows_gradient_does_not_depend_on_the_batch() {
    let spec = crate::common::model::ModelSpec {
        layers: 3,
        ..crate::common::model::shape(2, 5, 33, 60)
    };
    let model = spec.open();
    batch_invariant(&Cpu::<f32>::new(&model), &model);
}

proptest! {
    #![proptest_config(cases(24))]

    /// Asking for one site alone gives the bits that asking for all gives, and never more work.
    #[test]
    fn what_is_asked_for_changes_no_bit(spec in model(), seed: u64) {
        let model = spec.open();
        let cpu = Cpu::<f32>::new(&model);
        let random = &mut Random(seed);
        let length = 1 + random.below(9);
        let pair = Pair {
            base: (0..length).map(|_| random.below(spec.vocab) as u32).collect(),
            targets: vec![0],
            ..Pair::default()
        };
        let runs = [(&pair, whole(&pair))];
        let all = everything(&model);
        let logprob = |asked: &AskedGradients| {
            let question = Question {
                asked,
                frozen: Frozen::default(),
                metric: "logprob",
                memory: crate::common::PLENTY,
            };
            found(&cpu, &runs, &question)
        };
        let before = cpu.executed_flops();
        let of_all = logprob(&all);
        let most = cpu.executed_flops() - before;
        for at in &all {
            let one = BTreeSet::from([*at]);
            let before = cpu.executed_flops();
            let found = logprob(&one);
            prop_assert!(cpu.executed_flops() - before <= most);
            for (place, (_, values)) in &found[&(0, 0)] {
                prop_assert_eq!((place.0, place.1), *at);
                let (_, wanted) = &of_all[&(0, 0)][place];
                prop_assert!(values.iter().zip(wanted).all(|(a, b)| a.to_bits() == b.to_bits()), "{:?}", place);
            }
            let heads = found[&(0, 0)].len();
            prop_assert!(heads == 1 || heads == spec.heads, "{:?}", at);
        }
    }
}

/// What lies before the earliest activation that is asked for is not gone back through.
#[test]
fn the_way_back_ends_where_nothing_earlier_is_asked_for() {
    let model = checkpoint("tied");
    let cpu = Cpu::<f64>::new(&model);
    let fixture = fixture("tied");
    let runs = [(&fixture.pair, whole(&fixture.pair))];
    let mut last = u64::MAX;
    for at in [
        (0, Stage::TokenEmbedding),
        (0, Stage::AttentionOutput),
        (1, Stage::MlpPre),
        (2, Stage::Query),
        (2, Stage::BlockOutput),
    ] {
        let asked = AskedGradients::from([at]);
        let question = Question {
            asked: &asked,
            frozen: Frozen::default(),
            metric: "logit",
            memory: crate::common::PLENTY,
        };
        let before = cpu.executed_flops();
        found(&cpu, &runs, &question);
        let cost = cpu.executed_flops() - before;
        assert!(
            cost < last,
            "{at:?} costs {cost}, and {last} what comes before it"
        );
        last = cost;
    }
}
