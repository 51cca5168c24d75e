//! Many readers in little memory: they go batch by batch, and steps that several batches read are run
//! again.

use headlight::backend::cpu::Cpu;
use headlight::model::Checkpoint;
use headlight::patch::{Op, Patch, Run};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::common::laws::{equal, least};
use super::common::model::model;
use super::common::runs::{PatchSpec, pair, patch, run_of};
use super::common::{PLENTY, cases, run, run_pair};
use super::{Site, at, patches, place, reading, sound, step};

/// Many readers of few runs, in as little memory as will do: nothing changes but what is run again.
fn in_little_memory(
    checkpoint: &Checkpoint,
    pair: Pair,
    specs: &[Vec<PatchSpec>],
    sites: &[Site],
) -> TestCaseResult {
    let config = &checkpoint.config;
    let mut runs: Vec<Run> = specs
        .iter()
        .map(|s| step(patches(s, &pair, config)))
        .collect();
    for (i, site) in sites.iter().enumerate() {
        for read in 0..specs.len() {
            let mut own = patches(&specs[(i + read) % specs.len()], &pair, config);
            own.push(reading(&at(*site, &pair, config), read));
            own.push(at(*site, &pair, config).with_op(Op::Collect));
            runs.push(run_of(own));
        }
    }
    prop_assume!(sound(&pair, &runs, config));
    let all = [PairRuns {
        pair: pair.clone(),
        runs: runs.clone().into(),
    }];
    let cpu = Cpu::<f32>::new(checkpoint);
    let want = run(&cpu, &all, PLENTY);
    let little = run(&cpu, &all, least(&cpu, &all));
    for (got, want) in little.pairs[0].runs.iter().zip(&want.pairs[0].runs) {
        equal("a reader in little memory", got, want)?;
    }
    let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (got, want) in little.pairs[0]
        .collected
        .iter()
        .zip(&want.pairs[0].collected)
    {
        prop_assert_eq!(bits(&got.values), bits(&want.values));
    }
    // one by one, from the last on
    for (r, reader) in runs.iter().enumerate().rev().filter(|(_, run)| !run.step) {
        let mut some = runs[..specs.len()].to_vec();
        some.push(reader.clone());
        let one = run_pair(&cpu, &pair, some);
        equal(
            "a reader alone",
            &one.runs[specs.len()],
            &want.pairs[0].runs[r],
        )?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn readers_do_not_depend_on_memory_or_on_one_another(
        spec in model(),
        pair in pair(8),
        specs in proptest::collection::vec(proptest::collection::vec(patch(), 1..=2), 1..=3),
        sites in proptest::collection::vec(place(), 1..=4),
    ) {
        let checkpoint = spec.open();
        in_little_memory(&checkpoint, pair.resolve(&checkpoint.config), &specs, &sites)?;
    }
}

/// More steps than fit on the shelf at once: readers go batch by batch, and steps that several batches
/// read are run again, which the bound does not hold but the plan says.
#[test]
fn steps_that_do_not_fit_at_once_are_run_in_batches() {
    let checkpoint = Checkpoint::resolve("demo").unwrap();
    let pair = Pair {
        base: (1..9).collect(),
        source: Some((11..19).collect()),
        targets: vec![3, 4],
        ..Pair::default()
    };
    let z = |layer: usize, head: usize, position: usize| {
        let component = Component::HeadAttentionValueOutput;
        Patch::interchange(component, Some(layer), vec![head], vec![position])
    };
    let stream = Patch::interchange(Component::BlockOutput, Some(2), vec![], (0..8).collect());
    let mut runs: Vec<Run> = (0..64)
        .map(|i| step(vec![z(i % 2, i / 2 % 4, i / 8)]))
        .collect();
    // every reader reads a step of its own, and the first
    for i in 0..64 {
        let own = Patch {
            positions: (0..7).collect(),
            ..reading(&stream, i)
        };
        let first = Patch {
            positions: vec![7],
            ..reading(&stream, 0)
        };
        runs.push(run_of(vec![own, first]));
    }
    let all = [PairRuns {
        pair: pair.clone(),
        runs: runs.clone().into(),
    }];
    let cpu = Cpu::<f32>::new(&checkpoint);
    let want = run(&cpu, &all, PLENTY);
    assert_eq!(want.plan.again, 0);
    let memory = least(&cpu, &all);
    let little = run(&cpu, &all, memory);
    assert!(
        little.plan.again > 0,
        "everything fitted into {memory} bytes"
    );
    assert_eq!(little.plan.runs, want.plan.runs);
    for (got, want) in little.pairs[0].runs.iter().zip(&want.pairs[0].runs) {
        equal("a reader in little memory", got, want).unwrap();
    }
}
