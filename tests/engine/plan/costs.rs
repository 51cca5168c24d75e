//! What a plan costs: DESIGN's figures, whole runs, and what is known before values are.

use headlight::backend::cpu::Cpu;
use headlight::execute::plan;
use headlight::model::Config;
use headlight::plan::cone;
use headlight::plan::positions::Positions;
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::{Component, Stage};

use super::common::model::shape;
use super::common::runs::run_of;
use super::common::{PLENTY, run};
use super::{computed, draw, flops, given, patch, read_out, rows, tiny, upward};

fn gpt2_small() -> Config {
    Config::from_json(b"{}", "defaults").unwrap()
}

/// Average linear and unembedding operations of one head's z and v over all layers and positions.
fn sweep_of_one_head(length: usize) -> (f64, usize) {
    let config = gpt2_small();
    let (mut total, mut runs, mut unseen) = (0, 0, 0);
    for component in [
        Component::HeadAttentionValueOutput,
        Component::HeadValueOutput,
    ] {
        for layer in 0..config.layers {
            for position in 0..length {
                let cone = draw(
                    &config,
                    &[patch(component, layer, [position])],
                    &[length - 1],
                );
                let cost = flops(&cone, &config);
                assert_eq!(cone.is_unseen(), cost.total() == 0);
                total += cost.linear;
                unseen += usize::from(cone.is_unseen());
                runs += 1;
            }
        }
    }
    (total as f64 / runs as f64 / 1e9, unseen)
}

#[test]
fn designs_figures_for_gpt2_small() {
    let config = gpt2_small();
    for (length, planned, digit, whole, whole_digit, ratio) in [
        (5, 0.3034, 1e-4, 0.927, 1e-3, 3.05),
        (15, 0.655, 1e-3, 2.63, 1e-2, 4.0),
        (64, 2.38, 1e-2, 10.9, 1e-1, 4.6),
    ] {
        let (average, unseen) = sweep_of_one_head(length);
        let readouts = Positions::range(length - 1, length);
        let all =
            flops(&cone::of_whole(&config, &[], length, &readouts), &config).linear as f64 / 1e9;
        assert!(
            (average - planned).abs() <= digit / 2.0,
            "{length} tokens: {average}"
        );
        assert!(
            (all - whole).abs() <= whole_digit / 2.0,
            "{length} tokens whole: {all}"
        );
        assert!(
            (all / average - ratio).abs() <= 0.05,
            "{length} tokens: {}",
            all / average
        );
        // the last layer's z before the row that is read
        assert_eq!(unseen, length - 1);
    }
}

#[test]
fn the_whole_run_computes_every_row() {
    let config = tiny(3);
    let cone = cone::of_whole(&config, &[], 70, &Positions::range(69, 70));
    let all = upward(0, 69);
    for layer in 0..3 {
        assert!(computed(&cone, layer).iter().all(|r| *r == all));
    }
    assert_eq!(rows(&given(&cone, Stage::BlockInput, 0).computed), all);
    assert_eq!(read_out(&cone), [69]);
}

#[test]
fn the_bound_knows_common_prefixes_and_the_exact_plan_knows_the_values() {
    let checkpoint = shape(2, 4, 20, 30).open();
    let cpu = Cpu::<f32>::new(&checkpoint);
    let of = |component, layer, position| {
        let runs = [run_of(vec![patch(component, layer, [position])])].into();
        let pair = Pair {
            base: vec![1, 2, 3, 4],
            source: Some(vec![1, 2, 5, 4]),
            targets: vec![0],
            ..Pair::default()
        };
        let pairs = [PairRuns { pair, runs }];
        (
            plan(&cpu, &pairs).runs.total(),
            run(&cpu, &pairs, PLENTY).plan.runs.total(),
        )
    };
    // before the first token that differs: dead by tokens alone
    assert_eq!(of(Component::BlockInput, 1, 1), (0, 0));
    // the same token after it: alive as far as tokens tell, dead by its value in layer 0 ...
    let (bound, exact) = of(Component::BlockInput, 0, 3);
    assert!(bound > 0 && exact == 0);
    // ... and alive where attention has seen the difference
    let (bound, exact) = of(Component::BlockInput, 1, 3);
    assert!(bound > 0 && exact == bound);
    assert!(of(Component::BlockInput, 0, 2).1 > 0);
}
