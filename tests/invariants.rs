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

use common::laws::{batch_invariant, cone_equals_whole, equal, no_ops_are_free};
use common::model::{ModelSpec, generic_model, model};
use common::runs::{PairSpec, PatchSpec, Places, pair, resolve, runs};
use common::{PLENTY, Random, run};
use headlight::backend::Readout;
use headlight::backend::cpu::{Cpu, Real};
use headlight::model::Checkpoint;
use headlight::patch::{Op, Origin, Patch, Prompt, Run};
use headlight::site::Component;
use headlight::sweep::execute::{Plan, plan};
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

// 1. The light cone.

fn in_both(spec: &ModelSpec, pairs: impl Fn(&Checkpoint) -> Vec<PairRuns>) -> TestCaseResult {
    let checkpoint = spec.open();
    let pairs = pairs(&checkpoint);
    cone_equals_whole(&Cpu::<f32>::new(&checkpoint), &pairs)?;
    cone_equals_whole(&Cpu::<f64>::new(&checkpoint), &pairs)
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
                origin: Origin::Clean(Prompt::Base),
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
            ..Run::default()
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
                    subspace: common::subspaces::Subspace::All,
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
            ..Run::default()
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
        origin: Origin::Clean(Prompt::Base),
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
        ..Run::default()
    });
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

// 2. What was there.

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn patching_with_what_was_there_is_free_and_changes_no_bit(spec in model(), pair in pair(6)) {
        let checkpoint = spec.open();
        no_ops_are_free(&Cpu::<f32>::new(&checkpoint), &pair)?;
        no_ops_are_free(&Cpu::<f64>::new(&checkpoint), &pair)?;
    }
}

// 3. The batch.

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
        batch_invariant(&Cpu::<f32>::new(&checkpoint), &pairs, seed)?;
        batch_invariant(&Cpu::<f64>::new(&checkpoint), &pairs, seed)?;
    }

    /// One kind of patch over many positions, as sweeps are: chunks of many rows, and of one.
    #[test]
    fn a_sweep_does_not_depend_on_its_chunks(spec in model(), pair in pair(40), patch in common::runs::patch(), seed in any::<u64>()) {
        let checkpoint = spec.open();
        let pair = PairSpec { shared: 0, ..pair };
        let places = (0..12).map(|i| vec![PatchSpec { positions: Places::One(3 * i), layer: i, ..patch.clone() }]);
        let pairs = [resolve(&pair, &places.collect::<Vec<_>>(), &checkpoint.config)];
        batch_invariant(&Cpu::<f32>::new(&checkpoint), &pairs, seed)?;
        batch_invariant(&Cpu::<f64>::new(&checkpoint), &pairs, seed)?;
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
                ..Run::default()
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
        runs.push(Run {
            name: None,
            patches: vec![Patch::interchange(
                component,
                Some(layer),
                heads,
                vec![position],
            )],
            ..Run::default()
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

/// Entropy, divergence and ranks by their definitions, from all logits of a row.
fn follows_from_its_logits(readout: &Readout, base: &Readout) -> TestCaseResult {
    let log_probabilities =
        |r: &Readout| -> Vec<f64> { r.logits.iter().map(|x| r.log_probability(*x)).collect() };
    let (own, other) = (log_probabilities(readout), log_probabilities(base));
    let entropy: f64 = own.iter().map(|l| -l.exp() * l).sum();
    let kl: f64 = other.iter().zip(&own).map(|(b, l)| b.exp() * (b - l)).sum();
    prop_assert!(
        (readout.entropy - entropy).abs() < 1e-9,
        "{} {entropy}",
        readout.entropy
    );
    prop_assert!((readout.kl - kl).abs() < 1e-9, "{} {kl}", readout.kl);
    for (id, x) in readout.logits.iter().enumerate() {
        let before = readout.logits.iter().enumerate();
        let rank = before
            .filter(|(i, y)| *y > x || (*y == x && *i < id))
            .count();
        prop_assert_eq!(readout.ranks[id] as usize, rank);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn entropy_divergence_and_ranks_follow_from_the_logits(
        spec in model(), pair in pair(6), patches in runs(5),
    ) {
        let checkpoint = spec.open();
        // every token is a target
        let pairs = [resolve(&pair, &patches, &checkpoint.config)];
        let outcome = run(&Cpu::<f64>::new(&checkpoint), &pairs, PLENTY);
        let outcome = &outcome.pairs[0];
        for base in &outcome.base {
            follows_from_its_logits(base, base)?;
        }
        for run in &outcome.runs {
            for (readout, base) in run.iter().zip(&outcome.base) {
                if readout.log_sum_exp.is_finite() {
                    follows_from_its_logits(readout, base)?;
                }
            }
        }
    }
}
