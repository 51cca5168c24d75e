//! The bound that is known before any value is: exact where patches die by common prefix alone.

use headlight::backend::cpu::Cpu;
use headlight::execute::{Plan, plan};
use headlight::model::Checkpoint;
use headlight::patch::Patch;
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use proptest::prelude::*;

use super::common::model::{ModelSpec, generic_model};
use super::common::runs::{pair, run_of};
use super::common::{PLENTY, Random, cases, run};

/// Interchanges of stages that differ wherever the tokens so far differ.
fn sweep_of_live_patches(pair: Pair, checkpoint: &Checkpoint, seed: u64) -> PairRuns {
    let config = &checkpoint.config;
    let mut random = Random(seed);
    let source = pair.source.as_deref().unwrap_or(&[]);
    let common = pair
        .base
        .iter()
        .zip(source)
        .take_while(|(a, b)| a == b)
        .count();
    let components = [
        Component::BlockInput,
        Component::HeadQueryOutput,
        Component::HeadKeyOutput,
        Component::HeadValueOutput,
        Component::AttentionValueOutput,
        Component::BlockMid,
        Component::MlpOutput,
        Component::BlockOutput,
    ];
    let mut runs = Vec::new();
    for (position, (base, source)) in pair.base.iter().zip(source).enumerate() {
        // a token that comes back differs from its twin by what attention brings from before it alone,
        // and that may be less than a rounding
        if position > common && base == source {
            continue;
        }
        let component = components[random.below(components.len())];
        let layer = random.below(config.layers);
        // so may be what a row's z gets from the row itself, which at first is all that differs
        if position == common && component == Component::AttentionValueOutput {
            continue;
        }
        let heads = if component.has_heads() {
            vec![random.below(config.heads)]
        } else {
            Vec::new()
        };
        let patch = Patch::interchange(component, Some(layer), heads, vec![position]);
        runs.push(run_of(vec![patch]));
    }
    PairRuns {
        pair,
        runs: runs.into(),
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn the_bound_is_exact_where_patches_die_by_common_prefix_alone(
        spec in generic_model(), pair in pair(12), seed in any::<u64>(),
    ) {
        // unscaled scores are large, and a pattern of zeros and a one passes nothing on
        let spec = ModelSpec { scaled: true, ..spec };
        let checkpoint = spec.open();
        let pairs = [sweep_of_live_patches(pair.resolve(&checkpoint.config), &checkpoint, seed)];
        let cpu = Cpu::<f32>::new(&checkpoint);
        let bound = plan(&cpu, &pairs);
        let done = run(&cpu, &pairs, PLENTY).plan;
        prop_assert_eq!(bound, Plan { compared: 0, ..done });
    }
}
