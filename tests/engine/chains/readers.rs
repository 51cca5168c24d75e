//! Runs that read other runs.

use std::sync::Arc;

use headlight::backend::cpu::Cpu;
use headlight::execute::plan;
use headlight::model::Checkpoint;
use headlight::patch::{Op, Origin, Patch, Prompt, Run, Vector};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Stage;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::common::laws::equal;
use super::common::model::model;
use super::common::runs::{PatchSpec, pair, patch, run_of};
use super::common::{PLENTY, cases, run, run_pair};
use super::{Site, at, patches, place, reading, sound, step};

/// A run that ends by writing what it has just computed is the run without that.
fn reading_itself(
    checkpoint: &Checkpoint,
    pair: Pair,
    specs: &[PatchSpec],
    site: Site,
) -> TestCaseResult {
    let config = &checkpoint.config;
    let patches = patches(specs, &pair, config);
    let read = at(site, &pair, config);
    let again = [&patches[..], &[reading(&read, 0)]].concat();
    // the same through one run more
    let twice = [&patches[..], &[reading(&read, 1)]].concat();
    let runs: Arc<[Run]> = [
        step(patches.clone()),
        step(again.clone()),
        run_of(patches),
        run_of(again),
        run_of(twice),
    ]
    .into();
    prop_assume!(sound(&pair, &runs, config));
    let pairs = [PairRuns { pair, runs }];
    let cpu = Cpu::<f32>::new(checkpoint);
    let outcome = run(&cpu, &pairs, PLENTY);
    let read = &outcome.pairs[0].runs;
    prop_assert!(
        read[0].is_empty() && read[1].is_empty(),
        "steps are read out"
    );
    equal("a run that reads itself", &read[3], &read[2])?;
    equal("a run that reads itself twice", &read[4], &read[2])?;
    prop_assert!(
        plan(&cpu, &pairs).flops() >= outcome.plan.clean.total() + outcome.plan.runs.total(),
        "the bound is exceeded"
    );
    Ok(())
}

/// Reading a run's value is setting what was collected from it, and collecting changes nothing.
fn collected(
    checkpoint: &Checkpoint,
    pair: Pair,
    [of_read, of_reader]: [&[PatchSpec]; 2],
    site: Site,
    (on_source, insert): (bool, usize),
) -> TestCaseResult {
    let config = &checkpoint.config;
    let read = at(site, &pair, config);
    prop_assume!(!read.component.has_keys());
    let source = pair.source.clone().unwrap();
    // the run that is read may be of the source prompt, which is then the base of a pair of its own
    let other = Pair {
        base: source.clone(),
        source: Some(pair.base.clone()),
        readouts: Vec::new(),
        ..pair.clone()
    };
    let (prompt, subject) = match on_source {
        true => (Prompt::Source, &other),
        false => (Prompt::Base, &pair),
    };
    let position = read.positions[0] % subject.base.len();
    let there = Patch {
        positions: vec![position],
        ..read.clone()
    };
    let acting = patches(of_read, subject, config);
    let swapped = |patch: &Patch| Patch {
        origin: match patch.origin {
            Origin::Clean(Prompt::Base) if on_source => Origin::Clean(Prompt::Source),
            Origin::Clean(Prompt::Source) if on_source => Origin::Clean(Prompt::Base),
            origin => origin,
        },
        ..patch.clone()
    };
    // noise is keyed by the prompt that is patched, so the same patches give the same run
    let collect = there.clone().with_op(Op::Collect);
    let mut collecting = acting.clone();
    collecting.push(collect);
    let alone = [PairRuns {
        pair: subject.clone(),
        runs: [run_of(collecting), run_of(acting.clone())].into(),
    }];
    prop_assume!(sound(&alone[0].pair, &alone[0].runs, config));
    let cpu = Cpu::<f32>::new(checkpoint);
    let outcome = run(&cpu, &alone, PLENTY);
    let found = &outcome.pairs[0].collected;
    prop_assert_eq!(found.len(), 1);
    equal(
        "a run that collects",
        &outcome.pairs[0].runs[0],
        &outcome.pairs[0].runs[1],
    )?;
    prop_assert!(
        plan(&cpu, &alone).flops() >= outcome.plan.clean.total() + outcome.plan.runs.total(),
        "the bound is exceeded"
    );
    let value = Vector {
        label: "collected".into(),
        values: found[0].values.clone().into(),
        rows: 1,
    };

    let mut by_run = patches(of_reader, &pair, config);
    let mut by_value = by_run.clone();
    let index = insert % (by_run.len() + 1);
    let run_read = Patch {
        source_positions: Some(vec![position]),
        ..reading(&read, 1)
    };
    by_run.insert(index, run_read);
    by_value.insert(index, read.clone().with_op(Op::Set(value.clone())));
    let read_run = Run {
        prompt,
        ..step(acting.iter().map(swapped).collect())
    };
    let runs = vec![run_of(by_run), read_run, run_of(by_value)];
    prop_assume!(sound(&pair, &runs, config));
    let outcome = run_pair(&cpu, &pair, runs);
    let [read_by_run, _, read_by_value] = &outcome.runs[..] else {
        unreachable!()
    };
    equal(
        "reading a run instead of its value",
        read_by_run,
        read_by_value,
    )?;

    // what was collected stands there: writing it again changes nothing
    let own_input = matches!(
        read.component.stage(),
        Stage::QueryInput | Stage::KeyInput | Stage::ValueInput | Stage::MlpResidualInput
    );
    let mut frozen = acting.clone();
    frozen.push(there.with_op(Op::Set(value)));
    let runs = vec![run_of(frozen), run_of(acting)];
    let outcome = run_pair(&cpu, subject, runs);
    if !own_input {
        equal(
            "a run frozen at what was collected",
            &outcome.runs[0],
            &outcome.runs[1],
        )?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_run_that_reads_itself_changes_nothing(
        spec in model(),
        pair in pair(8),
        specs in proptest::collection::vec(patch(), 0..=4),
        site in place(),
    ) {
        let checkpoint = spec.open();
        reading_itself(&checkpoint, pair.resolve(&checkpoint.config), &specs, site)?;
    }

    #[test]
    fn reading_a_run_is_setting_what_it_collects(
        spec in model(),
        pair in pair(8),
        read in proptest::collection::vec(patch(), 0..=3),
        reader in proptest::collection::vec(patch(), 0..=3),
        site in place(),
        how in (any::<bool>(), any::<usize>()),
    ) {
        let checkpoint = spec.open();
        let pair = pair.resolve(&checkpoint.config);
        collected(&checkpoint, pair, [&read, &reader], site, how)?;
    }
}
