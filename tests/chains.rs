//! Runs that read other runs, and what is collected, as laws over random models, pairs and patches.
//!
//! Each law holds bit for bit and against another way of saying the same: a run that reads itself
//! changes nothing; reading a run is setting what is collected from it; collecting a patched run's
//! value and freezing it there changes nothing.

mod common;

use std::sync::Arc;

use common::laws::equal;
use common::model::{ModelSpec, model};
use common::reference::Reference;
use common::runs::{PatchSpec, pair, patch};
use common::{PLENTY, run, try_run};
use headlight::backend::Backend;
use headlight::backend::cpu::Cpu;
use headlight::model::{Checkpoint, Config};
use headlight::patch::{Op, Origin, Patch, Prompt, Run, Vector};
use headlight::plan::cell::{columns, kept, layer_of};
use headlight::site::{Component, Stage};
use headlight::sweep::check::check_run;
use headlight::sweep::execute::plan;
use headlight::sweep::pair::{Pair, PairRuns};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

fn cases(count: u32) -> ProptestConfig {
    let many = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: many.and_then(|n| n.parse().ok()).unwrap_or(count),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A site that is read: one head of one position, so that a constant can stand for it.
fn place() -> impl Strategy<Value = (usize, usize, usize, usize)> {
    (
        0..Component::all().count(),
        0usize..4,
        any::<usize>(),
        any::<usize>(),
    )
}

fn at(
    (component, layer, head, position): (usize, usize, usize, usize),
    pair: &Pair,
    config: &Config,
) -> Patch {
    let component = Component::all().nth(component).unwrap();
    let heads = match component.has_heads() {
        true => vec![head % config.heads],
        false => Vec::new(),
    };
    let layer = (!component.is_global()).then_some(layer % config.layers);
    Patch::interchange(component, layer, heads, vec![position % pair.base.len()])
}

fn patches(specs: &[PatchSpec], pair: &Pair, config: &Config) -> Vec<Patch> {
    specs.iter().map(|p| p.resolve(pair, config)).collect()
}

fn of(patches: Vec<Patch>) -> Run {
    Run {
        patches,
        ..Run::default()
    }
}

fn step(patches: Vec<Patch>) -> Run {
    Run {
        step: true,
        ..of(patches)
    }
}

fn reading(patch: &Patch, read: usize) -> Patch {
    Patch {
        origin: Origin::Run(read),
        ..patch.clone()
    }
}

/// Whether the run can be checked: some sites cannot be read of a run that patches what stands
/// between them and where they are kept.
fn sound(pair: &Pair, runs: &[Run], config: &Config) -> bool {
    runs.iter()
        .all(|run| check_run(run, runs, pair, config).is_ok())
}

/// A run that ends by writing what it has just computed is the run without that.
fn reading_itself(
    checkpoint: &Checkpoint,
    pair: Pair,
    specs: &[PatchSpec],
    site: (usize, usize, usize, usize),
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
        of(patches),
        of(again),
        of(twice),
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
    site: (usize, usize, usize, usize),
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
    // noise is keyed by the pair, which is the same, so the same patches give the same run
    let collect = there.clone().with_op(Op::Collect);
    let mut collecting = acting.clone();
    collecting.push(collect);
    let alone = [PairRuns {
        pair: subject.clone(),
        runs: [of(collecting), of(acting.clone())].into(),
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
    let runs: Arc<[Run]> = [of(by_run), read_run, of(by_value)].into();
    prop_assume!(sound(&pair, &runs, config));
    let outcome = run(
        &cpu,
        &[PairRuns {
            pair: pair.clone(),
            runs,
        }],
        PLENTY,
    );
    let [read_by_run, _, read_by_value] = &outcome.pairs[0].runs[..] else {
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
    let pairs = [PairRuns {
        pair: subject.clone(),
        runs: [of(frozen), of(acting)].into(),
    }];
    let outcome = run(&cpu, &pairs, PLENTY);
    if !own_input {
        equal(
            "a run frozen at what was collected",
            &outcome.pairs[0].runs[0],
            &outcome.pairs[0].runs[1],
        )?;
    }
    Ok(())
}

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
    prop_assume!(sound(&pair, &[of(all.clone())], config));
    let cpu = Cpu::<f32>::new(checkpoint);
    let outcome = run(
        &cpu,
        &[PairRuns {
            pair: pair.clone(),
            runs: [of(all.clone())].into(),
        }],
        PLENTY,
    );
    let mut reference = Reference::new(&cpu, &pair);
    let mut collected = outcome.pairs[0].collected.iter();
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
        let (traces, first) = reference.activations(&of(before), 0);
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

/// Many readers of few runs, in as little memory as will do: nothing changes but what is run again.
fn in_little_memory(
    checkpoint: &Checkpoint,
    pair: Pair,
    specs: &[Vec<PatchSpec>],
    sites: &[(usize, usize, usize, usize)],
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
            runs.push(of(own));
        }
    }
    prop_assume!(sound(&pair, &runs, config));
    let all = [PairRuns {
        pair: pair.clone(),
        runs: runs.clone().into(),
    }];
    let cpu = Cpu::<f32>::new(checkpoint);
    let want = run(&cpu, &all, PLENTY);
    let mut memory = 1 << 10;
    let little = loop {
        match try_run(&cpu, &all, memory) {
            Ok(outcome) => break outcome,
            Err(_) => memory = memory * 9 / 8,
        }
    };
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
        let one = run(
            &cpu,
            &[PairRuns {
                pair: pair.clone(),
                runs: some.into(),
            }],
            PLENTY,
        );
        equal(
            "a reader alone",
            &one.pairs[0].runs[specs.len()],
            &want.pairs[0].runs[r],
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
    let stream = Patch {
        origin: Origin::Clean(Prompt::Base),
        ..site(Component::BlockInput, Some(0))
    };
    let all = vec![
        token.clone().with_op(Op::Scale(2.0)),
        token.with_op(Op::Collect),
        stream,
        site(Component::BlockOutput, Some(0)).with_op(Op::Collect),
    ];
    stands_there(&checkpoint, pair, all).unwrap();
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
        runs.push(of(vec![own, first]));
    }
    let all = [PairRuns {
        pair: pair.clone(),
        runs: runs.clone().into(),
    }];
    let cpu = Cpu::<f32>::new(&checkpoint);
    let want = run(&cpu, &all, PLENTY);
    assert_eq!(want.plan.again, 0);
    let mut memory = 1 << 10;
    let little = loop {
        match try_run(&cpu, &all, memory) {
            Ok(outcome) => break outcome,
            Err(_) => memory = memory * 17 / 16,
        }
    };
    assert!(
        little.plan.again > 0,
        "everything fitted into {memory} bytes"
    );
    assert_eq!(little.plan.runs, want.plan.runs);
    for (got, want) in little.pairs[0].runs.iter().zip(&want.pairs[0].runs) {
        equal("a reader in little memory", got, want).unwrap();
    }
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
        of(vec![patch.with_op(Op::Collect)])
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
