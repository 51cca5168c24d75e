//! What must stay true of every run, bit for bit, on random models, pairs and patches.
//!
//! 1. A run computed through its light cone equals the same run computed whole.
//! 2. Patching with what was there changes nothing and costs nothing.
//! 3. A run's result does not depend on what else is in the batch, nor on how it is cut or threaded.
//! 4. pyvene's bitwise identities hold.
//!
//! Every execution here also checks that what was executed is what was planned. Each property runs
//! in f32 and f64. `PROPTEST_CASES` sets the number of cases, `PROPTEST_RNG_SEED` the seed.

mod common;

use common::model::{ModelSpec, generic_model, model};
use common::reference::Reference;
use common::runs::{PairSpec, PatchSpec, Places, distinct, pair, resolve, runs};
use common::{PLENTY, Random, bits, run, same, try_run};
use headlight::backend::cpu::{Cpu, Real};
use headlight::backend::{Backend, Readout};
use headlight::model::Checkpoint;
use headlight::patch::{Op, Origin, Patch, Run, Vector};
use headlight::plan::cell::columns;
use headlight::site::{Component, Stage};
use headlight::sweep::execute::{ExecuteError, Outcome, plan};
use headlight::sweep::pair::{Pair, PairRuns};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

/// Cases are independent of each other and small: many. Failures are reported with the seed's
/// minimal case and not written to a file.
fn cases(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(cases);
    ProptestConfig {
        cases,
        failure_persistence: None,

        ..ProptestConfig::default()
    }
}

fn equal(what: &str, got: &[Readout], want: &[Readout]) -> TestCaseResult {
    let differ = |(got, want): (&Readout, &Readout)| bits(got) != bits(want);
    let first = got.iter().zip(want).position(differ);
    prop_assert!(
        same(got, want),
        "{what}: {} readouts against {}, the first that differs is {first:?}:\n{:?}\n{:?}",
        got.len(),
        want.len(),
        first.map(|i| &got[i]),
        first.map(|i| &want[i]),
    );
    Ok(())
}

/// Everything that was read, run by run.
fn everything(outcome: &Outcome) -> Vec<&[Readout]> {
    let pairs = outcome.pairs.iter();
    pairs
        .flat_map(|p| {
            [&p.base[..], p.source.as_slice()]
                .into_iter()
                .chain(p.runs.iter().map(Vec::as_slice))
        })
        .collect()
}

// 1. The light cone.

fn cone_equals_whole<T: Real>(checkpoint: &Checkpoint, pairs: &[PairRuns]) -> TestCaseResult {
    let cpu = Cpu::<T>::new(checkpoint);
    let bound = plan(&cpu, pairs);
    let outcome = run(&cpu, pairs, PLENTY);
    prop_assert!(
        bound.runs.linear >= outcome.plan.runs.linear,
        "{bound:?} {:?}",
        outcome.plan
    );
    prop_assert!(
        bound.runs.attention >= outcome.plan.runs.attention,
        "{bound:?} {:?}",
        outcome.plan
    );
    prop_assert_eq!(bound.clean, outcome.plan.clean);
    prop_assert_eq!(bound.count, outcome.plan.count);
    prop_assert!(bound.copied <= outcome.plan.copied);
    for (p, (PairRuns { pair, runs }, got)) in pairs.iter().zip(&outcome.pairs).enumerate() {
        let mut reference = Reference::new(&cpu, pair);
        equal("the clean base run", &got.base, &reference.base)?;
        for (run, got) in runs.iter().zip(&got.runs) {
            equal(
                &format!("pair {p}, {run:#?}"),
                got,
                &reference.run(run, p as u32),
            )?;
        }
    }
    Ok(())
}

fn in_both(spec: &ModelSpec, pairs: impl Fn(&Checkpoint) -> Vec<PairRuns>) -> TestCaseResult {
    let checkpoint = spec.open();
    let pairs = pairs(&checkpoint);
    cone_equals_whole::<f32>(&checkpoint, &pairs)?;
    cone_equals_whole::<f64>(&checkpoint, &pairs)
}

/// A live patch and, later in the run, the base's own values over whole stages.
#[derive(Debug, Clone)]
struct Frozen {
    live: PatchSpec,
    /// Component, layers after the live patch's, first position, head by head or all together.
    freezes: Vec<(Component, usize, usize, bool)>,
    /// Patches among the freezes: how many layers after the live one.
    also: Vec<(PatchSpec, usize)>,
}

fn frozen() -> impl Strategy<Value = Frozen> {
    let component = prop_oneof![
        Just(Component::BlockInput),
        Just(Component::AttentionInput),
        Just(Component::AttentionQueryInput),
        Just(Component::AttentionValueInput),
        Just(Component::QueryOutput),
        Just(Component::HeadQueryOutput),
        Just(Component::KeyOutput),
        Just(Component::HeadKeyOutput),
        Just(Component::HeadValueOutput),
        Just(Component::AttentionWeight),
        Just(Component::AttentionValueOutput),
        Just(Component::HeadAttentionValueOutput),
        Just(Component::AttentionOutput),
        Just(Component::BlockMid),
        Just(Component::Ln1Normalized),
        Just(Component::MlpResidualInput),
        Just(Component::Ln2Normalized),
        Just(Component::LnFNormalized),
        Just(Component::MlpInput),
        Just(Component::MlpPre),
        Just(Component::MlpActivation),
        Just(Component::MlpOutput),
        Just(Component::BlockOutput),
        Just(Component::FinalOutput),
    ];
    let first = prop_oneof![2 => Just(0usize), 1 => 0usize..8];
    let freezes = proptest::collection::vec((component, 0usize..3, first, any::<bool>()), 1..5);
    let also = proptest::collection::vec((common::runs::patch(), 0usize..3), 0..3);
    (common::runs::patch(), freezes, also).prop_map(|(live, freezes, also)| Frozen {
        live,
        freezes,
        also,
    })
}

impl Frozen {
    fn resolve(&self, pair: &Pair, checkpoint: &Checkpoint) -> Run {
        let config = &checkpoint.config;
        let live = self.live.resolve(pair, config);
        let from = live.layer.unwrap_or(0);
        let mut patches = vec![live];
        for &(component, after, first, apart) in &self.freezes {
            let layer = (!component.is_global()).then_some((from + after).min(config.layers - 1));
            let positions: Vec<usize> = (first % pair.base.len()..pair.base.len()).collect();
            let heads: Vec<usize> = if component.has_heads() {
                (0..config.heads).collect()
            } else {
                Vec::new()
            };
            let freeze = |heads| Patch {
                origin: Origin::Base,
                ..Patch::interchange(component, layer, heads, positions.clone())
            };
            match apart && component.has_heads() {
                true => patches.extend(heads.iter().map(|h| freeze(vec![*h]))),
                false => patches.push(freeze(heads)),
            }
        }
        for (patch, after) in &self.also {
            let layer = (from + after).min(config.layers - 1);
            patches.push(
                PatchSpec {
                    layer,
                    ..patch.clone()
                }
                .resolve(pair, config),
            );
        }
        Run {
            name: None,
            patches,
        }
    }
}

/// Patches that meet: a live one somewhere, then several at neighbouring stages of one layer, all
/// at one position, and most of them freezes.
#[derive(Debug, Clone)]
struct Meeting {
    live: PatchSpec,
    /// The first of four neighbouring components.
    around: usize,
    /// Which of the four, and what is done there.
    patches: Vec<(usize, PatchSpec)>,
    layer: usize,
    position: usize,
}

fn meeting() -> impl Strategy<Value = Meeting> {
    let frozen =
        (common::runs::patch(), proptest::bool::weighted(0.6)).prop_map(|(patch, freeze)| {
            match freeze {
                true => PatchSpec {
                    op: common::runs::OpSpec::Interchange,
                    base: true,
                    heads: 0,
                    keys: None,
                    source_layer: None,
                    source_heads: None,
                    source_positions: None,
                    ..patch
                },
                false => patch,
            }
        });
    let patches = proptest::collection::vec((0usize..4, frozen), 1..6);
    (
        common::runs::patch(),
        0usize..32,
        patches,
        0usize..4,
        any::<usize>(),
    )
        .prop_map(|(live, around, patches, layer, position)| Meeting {
            live,
            around,
            patches,
            layer,
            position,
        })
}

impl Meeting {
    fn resolve(&self, pair: &Pair, checkpoint: &Checkpoint) -> Run {
        let config = &checkpoint.config;
        let count = Component::all().count();
        let mut patches = vec![self.live.resolve(pair, config)];
        for (near, patch) in &self.patches {
            let component = (self.around + near).min(count - 1);
            let positions = Places::One(self.position);
            let patch = PatchSpec {
                component,
                layer: self.layer,
                positions,
                ..patch.clone()
            };
            patches.push(patch.resolve(pair, config));
        }
        Run {
            name: None,
            patches,
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_run_through_its_light_cone_equals_the_whole_run(
        spec in model(),
        pairs in proptest::collection::vec((pair(9), runs(6)), 1..=2),
    ) {
        in_both(&spec, |c| pairs.iter().map(|(pair, runs)| resolve(pair, runs, &c.config)).collect())?;
    }

    #[test]
    fn freezes_equal_the_whole_run(spec in model(), pair in pair(7), runs in proptest::collection::vec(frozen(), 1..5)) {
        in_both(&spec, |c| {
            let pair = pair.resolve(&c.config);
            let runs = runs.iter().map(|f| f.resolve(&pair, c)).collect();
            vec![PairRuns { pair, runs }]
        })?;
    }
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn patches_that_meet_equal_the_whole_run(spec in model(), pair in pair(4), runs in proptest::collection::vec(meeting(), 1..9)) {
        in_both(&spec, |c| {
            let pair = pair.resolve(&c.config);
            let runs = runs.iter().map(|m| m.resolve(&pair, c)).collect();
            vec![PairRuns { pair, runs }]
        })?;
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
        heads: 2,
        head_width: 5,
        inner: 33,
        vocab: 17,
        activation: "gelu_new",
        tied: true,
        by_layer: false,
        scaled: true,
        dtype: "F32",
        seed: 5,
    };
    let at = |component: Component, layer: usize, positions: &[usize]| {
        let heads = if component.has_heads() {
            vec![0, 1]
        } else {
            vec![]
        };
        let layer = (!component.is_global()).then_some(layer);
        Patch::interchange(component, layer, heads, positions.to_vec())
    };
    let freeze = |component, layer, positions: &[usize]| Patch {
        origin: Origin::Base,
        ..at(component, layer, positions)
    };
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
            freeze(C::AttentionInput, 1, &[3]),
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
            freeze(C::Ln1Normalized, 2, &[3]),
            add(C::AttentionInput, 2, &[3]),
        ],
        vec![
            at(C::BlockInput, 1, &[3]),
            freeze(C::MlpResidualInput, 2, &[3]),
            add(C::Ln2Normalized, 2, &[3]),
        ],
        vec![
            at(C::BlockInput, 1, &[3]),
            freeze(C::LnFNormalized, 3, &[3]),
            add(C::FinalOutput, 3, &[3]),
        ],
        // a head's own input where the shared one is frozen
        vec![
            at(C::BlockInput, 1, &[3]),
            freeze(C::AttentionInput, 2, &[3]),
            freeze(C::AttentionQueryInput, 2, &[3]),
            add(C::AttentionQueryInput, 2, &[3]),
        ],
        vec![at(C::BlockInput, 1, &[7])],
    ];
    let runs = runs.map(|patches| Run {
        name: None,
        patches,
    });
    let checkpoint = spec.open();
    for readouts in [vec![3], vec![2, 3], vec![0, 5], vec![]] {
        let pair = Pair {
            base: vec![1, 2, 3, 4, 5, 6, 7, 8],
            source: Some(vec![8, 1, 9, 2, 4, 6, 3, 1]),
            targets: (0..17).collect(),
            readouts,
        };
        for runs in [runs.to_vec(), runs.iter().rev().cloned().collect()] {
            let pairs = [PairRuns {
                pair: pair.clone(),
                runs: runs.into(),
            }];
            cone_equals_whole::<f32>(&checkpoint, &pairs).unwrap();
            cone_equals_whole::<f64>(&checkpoint, &pairs).unwrap();
        }
    }
}

// 2. What was there.

/// Every way to write what stands at a site in the base run: one run a way.
fn no_ops<B: Backend>(
    backend: &B,
    reference: &Reference<'_, B>,
    pair: &Pair,
    random: &mut Random,
) -> Vec<Run> {
    let config = backend.config();
    let length = pair.base.len();
    let mut patches = Vec::new();
    for component in Component::all() {
        let layers: Vec<Option<usize>> = if component.is_global() {
            vec![None]
        } else {
            (0..config.layers).map(Some).collect()
        };
        for layer in layers {
            let positions = match random.below(3) {
                0 => (0..length).collect(),
                1 => distinct(vec![random.below(length), random.below(length)]),
                _ => vec![random.below(length)],
            };
            let heads: Vec<usize> = match (component.has_heads(), random.below(2)) {
                (false, _) => Vec::new(),
                (true, 0) => (0..config.heads).collect(),
                (true, _) => vec![random.below(config.heads)],
            };
            let keys = (component.has_keys() && random.below(2) == 0).then(|| vec![0]);
            let there = Patch {
                keys,
                ..Patch::interchange(component, layer, heads, positions)
            };
            patches.push(Patch {
                origin: Origin::Base,
                ..there.clone()
            });
            for op in [
                Op::Interchange,
                Op::Interpolate(0.0),
                Op::Interpolate(1.0),
                Op::Scale(1.0),
                Op::Noise {
                    level: 0.0,
                    seed: 1,
                    sample: 0,
                },
            ] {
                patches.push(there.clone().with_op(op));
            }
            if !component.has_keys() {
                let (position, head) = (random.below(length), random.below(config.heads));
                let at = match component.stage() {
                    Stage::LnFScale | Stage::LnFNormalized | Stage::FinalOutput => config.layers,
                    _ => layer.unwrap_or(0),
                };
                let row = reference.base_row(component.stage(), at, position);
                let wide = columns(component, config);
                let of_head = component.has_heads() && wide < row.len();
                let values = if of_head {
                    row[head * wide..][..wide].to_vec()
                } else {
                    row
                };
                let heads = if component.has_heads() {
                    vec![head]
                } else {
                    Vec::new()
                };
                let set = Op::Set(Vector {
                    label: "there".into(),
                    values: values.into(),
                });
                patches
                    .push(Patch::interchange(component, layer, heads, vec![position]).with_op(set));
            }
        }
    }
    patches
        .into_iter()
        .map(|p| Run {
            name: None,
            patches: vec![p],
        })
        .collect()
}

fn no_ops_are_free<T: Real>(checkpoint: &Checkpoint, pair: &PairSpec) -> TestCaseResult {
    let cpu = Cpu::<T>::new(checkpoint);
    let mut pair = pair.resolve(&checkpoint.config);
    pair.source = Some(pair.base.clone());
    let mut reference = Reference::new(&cpu, &pair);
    let mut random = Random(pair.base.iter().fold(1, |h, t| 31 * h + u64::from(*t)));
    let runs = no_ops(&cpu, &reference, &pair, &mut random);
    let outcome = run(
        &cpu,
        &[PairRuns {
            pair: pair.clone(),
            runs: runs.clone().into(),
        }],
        PLENTY,
    );
    equal("base", &outcome.pairs[0].base, &reference.base)?;
    for (run, got) in runs.iter().zip(&outcome.pairs[0].runs) {
        equal(&format!("{run:?}"), got, &reference.base)?;
        // not only planned away: writing it changes no bit either
        equal(
            &format!("whole: {run:?}"),
            &reference.run(run, 0),
            &reference.base,
        )?;
    }
    prop_assert_eq!(outcome.plan.runs.total(), 0);
    prop_assert_eq!(outcome.plan.copied, runs.len());
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn patching_with_what_was_there_is_free_and_changes_no_bit(spec in model(), pair in pair(6)) {
        let checkpoint = spec.open();
        no_ops_are_free::<f32>(&checkpoint, &pair)?;
        no_ops_are_free::<f64>(&checkpoint, &pair)?;
    }
}

// 3. The batch.

/// The smallest budget that lets these pairs run: about one run a chunk.
fn least<B: Backend>(backend: &B, pairs: &[PairRuns]) -> u64 {
    let mut memory = 1;
    loop {
        match try_run(backend, pairs, memory) {
            Ok(_) => return memory,
            Err(ExecuteError::Memory { needed, .. }) => memory = needed.max(memory + 1),
            Err(other) => panic!("{other}"),
        }
    }
}

fn batch_invariant<T: Real>(
    checkpoint: &Checkpoint,
    pairs: &[PairRuns],
    seed: u64,
) -> TestCaseResult {
    let cpu = Cpu::<T>::new(checkpoint);
    let mut random = Random(seed);
    let whole = run(&cpu, pairs, PLENTY);
    let agree = |what: &str, other: &Outcome| {
        let (want, got) = (everything(&whole), everything(other));
        prop_assert_eq!(want.len(), got.len());
        want.iter()
            .zip(&got)
            .try_for_each(|(want, got)| equal(what, got, want))
    };

    let least = least(&cpu, pairs);
    for memory in [
        least,
        least + least / 7,
        least + least / 2,
        2 * least,
        3 * least,
        5 * least,
    ] {
        let cut = run(&cpu, pairs, memory);
        agree(&format!("memory {memory}, at least {least}"), &cut)?;
        prop_assert_eq!(cut.plan.runs, whole.plan.runs);
    }
    for threads in [1, 2, 3, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        agree(
            &format!("{threads} threads"),
            &pool.install(|| run(&cpu, pairs, PLENTY)),
        )?;
        agree(
            &format!("{threads} threads, cut"),
            &pool.install(|| run(&cpu, pairs, 2 * least)),
        )?;
    }

    for (p, PairRuns { pair, runs }) in pairs.iter().enumerate() {
        // noise is seeded by the pair's index: keep it, with pairs of no runs before
        let alone = |runs: Vec<Run>| -> Outcome {
            let mut list = vec![
                PairRuns {
                    pair: Pair {
                        base: vec![0],
                        ..Pair::default()
                    },
                    runs: [].into()
                };
                p
            ];
            list.push(PairRuns {
                pair: pair.clone(),
                runs: runs.into(),
            });
            run(&cpu, &list, PLENTY)
        };
        let together = &whole.pairs[p].runs;
        let mut order: Vec<usize> = (0..runs.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        let shuffled = alone(order.iter().map(|r| runs[*r].clone()).collect());
        for (at, r) in order.iter().enumerate() {
            equal(
                "shuffled, one pair",
                &shuffled.pairs[p].runs[at],
                &together[*r],
            )?;
        }
        for (r, run) in runs.iter().enumerate() {
            let got = alone(vec![run.clone()]);
            equal(
                &format!("alone: {run:?}"),
                &got.pairs[p].runs[0],
                &together[r],
            )?;
            equal(
                "base beside one run",
                &got.pairs[p].base,
                &whole.pairs[p].base,
            )?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_result_does_not_depend_on_the_batch(
        spec in model(),
        pairs in proptest::collection::vec((pair(9), runs(7)), 1..=4),
        seed in any::<u64>(),
    ) {
        let checkpoint = spec.open();
        let pairs: Vec<_> = pairs.iter().map(|(pair, runs)| resolve(pair, runs, &checkpoint.config)).collect();
        batch_invariant::<f32>(&checkpoint, &pairs, seed)?;
        batch_invariant::<f64>(&checkpoint, &pairs, seed)?;
    }

    /// One kind of patch over many positions, as sweeps are: chunks of many rows, and of one.
    #[test]
    fn a_sweep_does_not_depend_on_its_chunks(spec in model(), pair in pair(40), patch in common::runs::patch(), seed in any::<u64>()) {
        let checkpoint = spec.open();
        let pair = PairSpec { shared: 0, ..pair };
        let places = (0..12).map(|i| vec![PatchSpec { positions: Places::One(3 * i), layer: i, ..patch.clone() }]);
        let pairs = [resolve(&pair, &places.collect::<Vec<_>>(), &checkpoint.config)];
        batch_invariant::<f32>(&checkpoint, &pairs, seed)?;
        batch_invariant::<f64>(&checkpoint, &pairs, seed)?;
    }
}

// 4. pyvene's bitwise identities, and 5. the bound.

fn identities<T: Real>(checkpoint: &Checkpoint, pair: &PairSpec, seed: u64) -> TestCaseResult {
    let cpu = Cpu::<T>::new(checkpoint);
    let config = &checkpoint.config;
    let mut random = Random(seed);
    let mut pair = pair.resolve(config);
    pair.readouts = (0..pair.base.len()).collect();
    let read = pair
        .base
        .len()
        .min(pair.source.as_ref().map_or(usize::MAX, Vec::len));
    let go = |pair: &Pair, patches: Vec<Vec<Patch>>| {
        let runs = patches
            .into_iter()
            .map(|patches| Run {
                name: None,
                patches,
            })
            .collect();
        run(
            &cpu,
            &[PairRuns {
                pair: pair.clone(),
                runs,
            }],
            PLENTY,
        )
        .pairs
        .remove(0)
    };
    let heads: Vec<usize> = (0..config.heads).collect();

    // a patch at p leaves the rows before p alone, and source = base leaves everything
    let mut patches = Vec::new();
    for component in Component::all() {
        let layer = (!component.is_global()).then(|| random.below(config.layers));
        let heads = if component.has_heads() {
            heads.clone()
        } else {
            Vec::new()
        };
        patches.push(Patch::interchange(
            component,
            layer,
            heads,
            vec![random.below(read)],
        ));
    }
    let each = || patches.iter().map(|p| vec![p.clone()]).collect::<Vec<_>>();
    let from_source = go(&pair, each());
    for (patch, got) in patches.iter().zip(&from_source.runs) {
        let before = patch.positions[0];
        equal(
            &format!("before {patch:?}"),
            &got[..before],
            &from_source.base[..before],
        )?;
    }
    let to_itself = Pair {
        source: Some(pair.base.clone()),
        ..pair.clone()
    };
    let from_base = go(&to_itself, each());
    for (patch, got) in patches.iter().zip(&from_base.runs) {
        equal(&format!("source = base: {patch:?}"), got, &from_base.base)?;
    }

    // a layer's output is the next one's input; the heads of z together are z
    for position in [0, random.below(read), read - 1] {
        for layer in 0..config.layers {
            let at = |component, heads: &[usize], layer| {
                Patch::interchange(component, Some(layer), heads.to_vec(), vec![position])
            };
            let mut same = vec![vec![
                vec![at(Component::AttentionValueOutput, &[], layer).with_op(Op::Zero)],
                vec![at(Component::HeadAttentionValueOutput, &heads, layer).with_op(Op::Zero)],
                heads
                    .iter()
                    .map(|h| {
                        at(Component::HeadAttentionValueOutput, &[*h], layer).with_op(Op::Zero)
                    })
                    .collect(),
            ]];
            // all the way from b to s is s, by the same bits
            let all_the_way = at(Component::MlpOutput, &[], layer);
            same.push(vec![
                vec![all_the_way.clone()],
                vec![all_the_way.with_op(Op::Interpolate(1.0))],
            ]);
            if layer + 1 < config.layers {
                for op in [
                    Op::Interchange,
                    Op::Scale(0.3),
                    Op::Noise {
                        level: 0.0,
                        seed: 0,
                        sample: 0,
                    },
                    Op::Add(None),
                ] {
                    same.push(vec![
                        vec![at(Component::BlockOutput, &[], layer).with_op(op.clone())],
                        vec![at(Component::BlockInput, &[], layer + 1).with_op(op)],
                    ]);
                }
            }
            for patches in same {
                let got = go(&pair, patches.clone());
                for (patches, other) in patches.iter().zip(&got.runs).skip(1) {
                    equal(&format!("{patches:?}"), other, &got.runs[0])?;
                }
            }
        }
    }
    Ok(())
}

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
    for position in 0..pair.base.len().min(source.len()) {
        let component = components[random.below(components.len())];
        let layer = random.below(config.layers);
        // a token that comes back differs from its twin only after a layer of attention, and the
        // first layer's attention at the first differing token only
        let early = layer == 0 && component < Component::AttentionValueOutput;
        if early && position > common {
            continue;
        }
        let heads = if component.has_heads() {
            vec![random.below(config.heads)]
        } else {
            Vec::new()
        };
        runs.push(Run {
            name: None,
            patches: vec![Patch::interchange(
                component,
                Some(layer),
                heads,
                vec![position],
            )],
        });
    }
    PairRuns {
        pair,
        runs: runs.into(),
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn pyvenes_bitwise_identities_hold(spec in model(), pair in pair(6), seed in any::<u64>()) {
        let checkpoint = spec.open();
        identities::<f32>(&checkpoint, &pair, seed)?;
        identities::<f64>(&checkpoint, &pair, seed)?;
    }

    #[test]
    fn the_bound_is_exact_where_patches_die_by_common_prefix_alone(
        spec in generic_model(), pair in pair(12), seed in any::<u64>(),
    ) {
        let checkpoint = spec.open();
        let pairs = [sweep_of_live_patches(pair.resolve(&checkpoint.config), &checkpoint, seed)];
        let cpu = Cpu::<f32>::new(&checkpoint);
        let bound = plan(&cpu, &pairs);
        prop_assert_eq!(bound, run(&cpu, &pairs, PLENTY).plan);
    }
}
