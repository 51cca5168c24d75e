//! A run computed through its light cone equals the same run computed whole.

use headlight::backend::cpu::Cpu;
use headlight::patch::Op;
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use proptest::prelude::*;

use super::common::cases;
use super::common::laws::cone_equals_whole;
use super::common::model::{ModelSpec, model, shape};
use super::common::runs::{PairSpec, freeze, interchange, pair, resolve, run_of, runs};
use super::in_both;

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_run_through_its_light_cone_equals_the_whole_run(
        spec in model(),
        pairs in proptest::collection::vec((pair(9), runs(6)), 1..=2),
    ) {
        in_both(&spec, |c| pairs.iter().map(|(pair, runs)| resolve(pair, runs, &c.config)).collect())?;
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_long_run_through_its_light_cone_equals_the_whole_run(
        spec in model(),
        (pair, short) in (pair(70), pair(70)),
        runs in runs(4),
        of_short in runs(2),
    ) {
        let spec = ModelSpec { layers: spec.layers.min(2), heads: spec.heads.min(2), ..spec };
        let pair = PairSpec { length: pair.length.max(64), shared: pair.shared.saturating_mul(9), ..pair };
        in_both(&spec, |c| vec![resolve(&pair, &runs, &c.config), resolve(&short, &of_short, &c.config)])?;
    }
}

/// Runs that were once planned wrongly, each the smallest of its kind.
#[test]
fn runs_that_were_planned_wrongly_equal_the_whole_run() {
    use Component as C;
    let spec = ModelSpec {
        layers: 3,
        seed: 5,
        ..shape(2, 5, 33, 17)
    };
    let at = |component: Component, layer: usize, positions: &[usize]| {
        interchange(component, layer, &[0, 1], positions.iter().copied())
    };
    let frozen = |component, layer, positions: &[usize]| freeze(at(component, layer, positions));
    let add = |component, layer, positions: &[usize]| {
        at(component, layer, positions).with_op(Op::Add(None))
    };
    let runs = [
        // after everything that is read, in the last run of a chunk and before another's rows
        vec![
            at(C::BlockInput, 0, &[1]),
            at(C::BlockInput, 0, &[6]),
            add(C::Ln1Scale, 1, &[6]),
        ],
        // one head's input, twice
        vec![
            at(C::AttentionQueryInput, 1, &[3]),
            add(C::AttentionQueryInput, 1, &[3]),
        ],
        // a freeze of the whole branch in the live patch's own layer
        vec![
            at(C::BlockInput, 1, &[3]),
            frozen(C::AttentionInput, 1, &[3]),
        ],
        // a row overwritten whole behind patches on what has no buffer of its own
        vec![at(C::TokenEmbedding, 0, &[2]), at(C::BlockInput, 0, &[2])],
        vec![at(C::MlpInput, 1, &[2, 3]), at(C::MlpPre, 1, &[2])],
        vec![
            add(C::AttentionScores, 1, &[2, 3]),
            at(C::AttentionValueOutput, 1, &[2]),
        ],
        vec![add(C::AttentionWeight, 1, &[1])],
        // a freeze inside a layer norm, and a patch behind it there
        vec![
            at(C::BlockInput, 1, &[3]),
            frozen(C::Ln1Normalized, 2, &[3]),
            add(C::AttentionInput, 2, &[3]),
        ],
        vec![
            at(C::BlockInput, 1, &[3]),
            frozen(C::MlpResidualInput, 2, &[3]),
            add(C::Ln2Normalized, 2, &[3]),
        ],
        vec![
            at(C::BlockInput, 1, &[3]),
            frozen(C::LnFNormalized, 3, &[3]),
            add(C::FinalOutput, 3, &[3]),
        ],
        // a head's own input where the shared one is frozen
        vec![
            at(C::BlockInput, 1, &[3]),
            frozen(C::AttentionInput, 2, &[3]),
            frozen(C::AttentionQueryInput, 2, &[3]),
            add(C::AttentionQueryInput, 2, &[3]),
        ],
        vec![at(C::BlockInput, 1, &[7])],
    ];
    let runs = runs.map(run_of);
    let checkpoint = spec.open();
    for readouts in [vec![3], vec![2, 3], vec![0, 5], vec![]] {
        let pair = Pair {
            base: vec![1, 2, 3, 4, 5, 6, 7, 8],
            source: Some(vec![8, 1, 9, 2, 4, 6, 3, 1]),
            targets: (0..17).collect(),
            wrong: Vec::new(),
            readouts,
            ..Pair::default()
        };
        for runs in [runs.to_vec(), runs.iter().rev().cloned().collect()] {
            let pairs = [PairRuns {
                pair: pair.clone(),
                runs: runs.into(),
            }];
            cone_equals_whole(&Cpu::<f32>::new(&checkpoint), &pairs).unwrap();
            cone_equals_whole(&Cpu::<f64>::new(&checkpoint), &pairs).unwrap();
        }
    }
}
