//! The CUDA backend against the CPU in double precision: every kernel and whole sweeps, on a GPU
//! where there is one and on the emulated driver everywhere else.
//!
//! On the emulated driver, whose device has capability 8.0, every access of every kernel is checked
//! besides, and one report of it fails the test that caused it. `HEADLIGHT_EMULATOR_SEED` picks the
//! order in which it runs threads and blocks.

mod adjoints;
mod bases;
mod edges;
mod graph;

use std::sync::atomic::AtomicBool;

use crate::common::model::{ModelSpec, shape};
use crate::common::runs::{PairSpec, PatchSpec};
use crate::common::{self, Random, laws, runs as random};
use crate::emulator::gpu::gpu;
use headlight::backend::cpu::Cpu;
use headlight::backend::cuda::{Cuda, Tile, Variant};
use headlight::backend::{
    Backend, Epilogue, Linear, Precision, Readout, ReadoutSpec, Store, Weight,
};
use headlight::model::Checkpoint;
use headlight::prompt::pair::PairRuns;
use headlight::verify::{Comparison, Gates, attention, operations, runs};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fn assert_within_gates(comparisons: &[Comparison]) {
    let over: Vec<String> = comparisons
        .iter()
        .filter(|c| !c.passes())
        .map(|c| {
            let Comparison {
                what,
                error,
                worst,
                gate,
            } = c;
            format!("{what}: {error:.2e}, worst {worst:.2e}, gate {gate:.2e}")
        })
        .collect();
    let count = comparisons.len();
    assert!(
        over.is_empty(),
        "{} of {count} over:\n{}",
        over.len(),
        over.join("\n")
    );
}

/// Every arithmetic of products.
const VARIANTS: [(Precision, Option<Variant>); 5] = [
    (Precision::F32, Some(Variant::Ffma)),
    (Precision::F32, Some(Variant::Split)),
    (Precision::Tf32, None),
    (Precision::Bf16, None),
    (Precision::F16, None),
];

/// Two heads of 64 and a vocabulary that is no multiple of any tile.
fn usual() -> ModelSpec {
    shape(2, 64, 256, 600)
}

/// Operations of a model's shape in a precision, in one arithmetic or the device's own.
fn operations_agree(spec: &ModelSpec, precision: Precision, variant: Option<Variant>) {
    let gpu = gpu();
    let model = spec.open();
    for tile in Tile::ALL {
        let cuda = gpu.cuda(&model, precision).with(variant, Some(tile));
        let reference = Cpu::<f64>::rounded(&model, precision);
        let comparisons =
            operations(&reference, &cuda, Gates::of(precision), 7, &mut |_| ()).unwrap();
        assert_within_gates(&comparisons);
    }
}

#[test]
fn operations_agree_in_f32_by_multiply_adds() {
    operations_agree(&usual(), Precision::F32, Some(Variant::Ffma));
}

#[test]
fn operations_agree_in_f32_by_split_products() {
    operations_agree(&usual(), Precision::F32, Some(Variant::Split));
}

#[test]
fn operations_agree_in_tf32() {
    operations_agree(&usual(), Precision::Tf32, None);
}

#[test]
fn operations_agree_in_bf16() {
    operations_agree(&usual(), Precision::Bf16, None);
}

#[test]
fn operations_agree_in_f16() {
    operations_agree(&usual(), Precision::F16, None);
}

#[test]
fn heads_of_16_agree_with_an_untied_unembedding() {
    let spec = ModelSpec {
        tied: false,
        activation: "gelu",
        ..shape(3, 16, 33, 193)
    };
    operations_agree(&spec, Precision::F32, None);
    operations_agree(&spec, Precision::Bf16, None);
}

#[test]
fn a_head_of_80_agrees() {
    let spec = ModelSpec {
        activation: "silu",
        by_layer: true,
        ..shape(1, 80, 100, 97)
    };
    operations_agree(&spec, Precision::F32, None);
    operations_agree(&spec, Precision::F16, None);
}

#[test]
fn the_short_form_of_gelu_agrees() {
    let spec = ModelSpec {
        activation: "quick_gelu",
        ..shape(2, 8, 24, 17)
    };
    operations_agree(&spec, Precision::F32, None);
    operations_agree(&spec, Precision::Bf16, None);
}

/// The widest head that attention takes.
#[test]
fn a_head_of_256_agrees() {
    operations_agree(&shape(1, 256, 40, 30), Precision::F32, None);
    operations_agree(&shape(1, 256, 40, 30), Precision::Bf16, None);
}

/// No row of 15 numbers is a whole number of vectors, and 5 numbers a head are none either.
#[test]
fn odd_widths_agree() {
    let spec = ModelSpec {
        activation: "relu",
        ..shape(3, 5, 33, 17)
    };
    for variant in [Variant::Ffma, Variant::Split] {
        operations_agree(&spec, Precision::F32, Some(variant));
    }
    operations_agree(&spec, Precision::Bf16, None);
}

/// Rows of one number: a result that cancels has no size to compare an error with, so whole runs.
#[test]
fn one_number_a_row_agrees() {
    for variant in [Variant::Ffma, Variant::Split] {
        whole_runs_agree(&shape(1, 1, 1, 2), Precision::F32, Some(variant));
    }
}

#[test]
fn a_sum_of_6400_products_agrees() {
    let gpu = gpu();
    let model = shape(1, 8, 6400, 5).open();
    for (precision, variant) in VARIANTS {
        let cuda = gpu.cuda(&model, precision).with(variant, None);
        let reference = Cpu::<f64>::rounded(&model, precision);
        let (want, got) = (mlp_proj(&reference, &cuda, 3), mlp_proj(&cuda, &cuda, 3));
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let error =
            norm(&mut want.iter().zip(&got).map(|(w, g)| w - g)) / norm(&mut want.iter().copied());
        let gate = Gates::of(precision).linear(6400);
        assert!(
            error <= gate,
            "{precision:?} {variant:?}: {error:.2e}, gate {gate:.2e}"
        );
    }
}

/// The MLP's second layer over random rows, rounded as `stored` stores them.
fn mlp_proj<B: Backend, S: Backend>(backend: &B, stored: &S, rows: usize) -> Vec<f64> {
    let (k, n) = (backend.config().inner, backend.config().width);
    let mut random = Random(9);
    let values: Vec<f64> = (0..rows * k).map(|_| random.normal()).collect();
    let rounded = stored
        .read(&stored.upload(rows, k, Store::Branch, &values))
        .unwrap();
    product(backend, Weight::MlpOutput(0), rows, n, &rounded)
}

fn product<B: Backend>(backend: &B, weight: Weight, rows: usize, n: usize, x: &[f64]) -> Vec<f64> {
    let input = backend.upload(rows, x.len() / rows, Store::Branch, x);
    let mut out = backend.matrix(rows, n, Store::Residual);
    let list: Vec<u32> = (0..rows as u32).collect();
    let linear = Linear {
        weight,
        columns: 0..n,
        input: &input,
        rows: &list,
        out_rows: None,
        epilogue: Epilogue::None,
    };
    backend.linear(&linear, &mut out);
    backend.read(&out).unwrap()
}

/// Query, key and value of as many rows each as of no other: what is launched together has the bits of what is
/// launched alone.
#[test]
fn layers_launched_together_are_the_same_layers() {
    let gpu = gpu();
    let model = usual().open();
    let mut random = Random(12);
    let x: Vec<f64> = (0..140 * 128).map(|_| random.normal()).collect();
    let lists: Vec<Vec<u32>> = [17, 140, 1]
        .iter()
        .map(|count| (0..*count).map(|i| (i * 37) % 140).collect())
        .collect();
    let weights = [Weight::Query(1), Weight::Key(1), Weight::Value(1)];
    for (precision, variant) in VARIANTS {
        for tile in Tile::ALL {
            let cuda = gpu.cuda(&model, precision).with(variant, Some(tile));
            let input = cuda.upload(140, 128, Store::Branch, &x);
            let linear = |i: usize| Linear {
                weight: weights[i],
                columns: 0..128,
                input: &input,
                rows: &lists[i],
                out_rows: None,
                epilogue: Epilogue::None,
            };
            let outs = || -> Vec<_> {
                let made = lists
                    .iter()
                    .map(|l| cuda.matrix(l.len(), 128, Store::Heads));
                made.collect()
            };
            let (mut alone, mut together) = (outs(), outs());
            for (i, out) in alone.iter_mut().enumerate() {
                cuda.linear(&linear(i), out);
            }
            let mut all: Vec<_> = together.iter_mut().enumerate().collect();
            let mut all: Vec<_> = all.drain(..).map(|(i, out)| (linear(i), out)).collect();
            cuda.linears(&mut all);
            for (alone, together) in alone.iter().zip(&together) {
                let (alone, together) = (cuda.read(alone).unwrap(), cuda.read(together).unwrap());
                assert_eq!(alone, together, "{precision:?} {variant:?} {tile:?}");
            }
        }
    }
}

/// Every partial sum is an integer below 2²⁴: whatever the order and the rounding, nothing is lost.
#[test]
fn integers_multiply_exactly() {
    let gpu = gpu();
    let model = common::model::integers(2, 64, 200);
    let mut random = Random(4);
    let rows = 37;
    let x: Vec<f64> = (0..rows * 200)
        .map(|_| random.below(9) as f64 - 4.0)
        .collect();
    let want = product(
        &Cpu::<f64>::new(&model),
        Weight::MlpOutput(0),
        rows,
        128,
        &x,
    );
    assert!(want.iter().any(|y| *y != 0.0) && want.iter().all(|y| y.fract() == 0.0));
    for (precision, variant) in VARIANTS {
        for tile in Tile::ALL {
            let cuda = gpu.cuda(&model, precision).with(variant, Some(tile));
            let got = product(&cuda, Weight::MlpOutput(0), rows, 128, &x);
            assert_eq!(got, want, "{precision:?} {variant:?} {tile:?}");
        }
    }
}

#[test]
fn attention_agrees_over_1024_keys_and_after_tiles_end() {
    let gpu = gpu();
    let model = shape(1, 16, 8, 5).open();
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        let cuda = gpu.cuda(&model, precision);
        let reference = Cpu::<f64>::rounded(&model, precision);
        let gates = Gates::of(precision);
        for lengths in [vec![1024], vec![33, 1, 16, 17, 31, 65]] {
            assert_within_gates(&attention(&reference, &cuda, gates, 7, &lengths).unwrap());
        }
    }
}

/// Scores that are all far below zero, or far above: only the row's own maximum may be subtracted.
#[test]
fn attention_agrees_where_every_score_is_far_from_zero() {
    let gpu = gpu();
    let model = shape(2, 16, 8, 5).open();
    let (cuda, cpu) = (gpu.cuda(&model, Precision::F32), Cpu::<f64>::new(&model));
    let near = |key: usize| 15.0 + key as f64 / 64.0;
    for sign in [-1.0, 1.0] {
        let want = steep_attention(&cpu, 6, sign, &near);
        let got = steep_attention(&cuda, 6, sign, &near);
        let mut errors = want.iter().zip(&got).map(|(w, g)| (w - g).abs());
        // scores of 900 have errors of 900 · 2e-6 at most
        assert!(errors.all(|error| error < 2e-3), "{got:?}, not {want:?}");
    }
}

/// The one steep score of a row is past the 32 keys that a warp takes at once: whoever subtracts the maximum
/// of the first of them overflows. Row and head, then, are the value at that key.
#[test]
fn the_steepest_score_may_be_any_key() {
    let gpu = gpu();
    let model = shape(2, 16, 8, 5).open();
    let cuda = gpu.cuda(&model, Precision::F32);
    let (single, double) = (Cpu::<f32>::new(&model), Cpu::<f64>::new(&model));
    let rows = 100;
    for steep in [0, 31, 32, 33, 63, 64, 96, 99] {
        let key = |key: usize| if key == steep { 15.0 } else { -15.0 };
        let of = [
            steep_attention(&cuda, rows, 1.0, &key),
            steep_attention(&single, rows, 1.0, &key),
            steep_attention(&double, rows, 1.0, &key),
        ];
        for z in of {
            for row in steep..rows {
                for column in 0..32 {
                    let i = steep * 32 + column;
                    let value = (i % 7) as f64 - 3.0 + steep as f64;
                    assert!(
                        (z[row * 32 + column] - value).abs() < 1e-4,
                        "{steep} {row} {column}"
                    );
                }
            }
        }
    }
}

/// z of rows whose every query is 15 · sign and whose keys are given, each the same in all columns.
fn steep_attention<B: Backend>(
    backend: &B,
    rows: usize,
    sign: f64,
    key_of: &dyn Fn(usize) -> f64,
) -> Vec<f64> {
    use headlight::backend::Attention;
    use headlight::plan::tables::{AttentionRows, Ref};
    let width = 32;
    let refs: Vec<Ref> = (0..rows).map(Ref::own).collect();
    let tables = AttentionRows {
        query: refs.clone(),
        key: refs.clone(),
        value: refs,
        first: vec![0; rows],
        count: (1..=rows as u32).collect(),
    };
    let fill = |f: &dyn Fn(usize) -> f64| {
        let values: Vec<f64> = (0..rows * width).map(f).collect();
        backend.upload(rows, width, Store::Heads, &values)
    };
    let query = fill(&|_| sign * 15.0);
    let key = fill(&|i| key_of(i / width));
    let value = fill(&|i| (i % 7) as f64 - 3.0 + (i / width) as f64);
    let mut out = backend.matrix(rows, width, Store::Heads);
    let attention = Attention {
        layer: 0,
        query: (&query, None),
        key: (&key, None),
        value: (&value, None),
        rows: &tables,
        scores: &[],
        weights: &[],
        keep_scores: None,
        keep_pattern: None,
        stride: 0,
    };
    backend.attention(&attention, &mut [], &backend.constants(&[]), &mut out);
    backend.read(&out).unwrap()
}

#[test]
fn gpt2s_vocabulary_is_read_out() {
    let gpu = gpu();
    let model = shape(1, 8, 4, 50257).open();
    let spec = ReadoutSpec {
        ids: vec![0, 191, 192, 50256],
        first: vec![0, 3, 4],
        top: 10,
        ranks: true,
        base: vec![1, 1],
    };
    let read = |backend: &dyn Fn() -> Vec<Readout>| backend();
    for (precision, variant) in [
        (Precision::F32, Some(Variant::Ffma)),
        (Precision::F32, Some(Variant::Split)),
        (Precision::Tf32, None),
        (Precision::Bf16, None),
        (Precision::F16, None),
    ] {
        let cuda = gpu.cuda(&model, precision).with(variant, None);
        let cpu = Cpu::<f64>::rounded(&model, precision);
        let mut random = Random(2);
        let x: Vec<f64> = (0..16).map(|_| random.normal()).collect();
        let x = cuda.read(&cuda.upload(2, 8, Store::Branch, &x)).unwrap();
        let want = read(&|| {
            let input = cpu.upload(2, 8, Store::Branch, &x);
            cpu.readout(&input, 2, &spec).unwrap()
        });
        let got = read(&|| {
            let input = cuda.upload(2, 8, Store::Branch, &x);
            let under_way = cuda.readout(&input, 2, &spec).unwrap();
            cuda.finish(under_way).unwrap()
        });
        // tf32 rounds what it multiplies, the others multiply what they were given
        let near = if precision == Precision::Tf32 {
            2e-3
        } else {
            1e-6
        };
        for (want, got) in want.iter().zip(&got) {
            let close =
                |w: f64, g: f64, times: f64| (w - g).abs() < times * near * w.abs().max(1.0);
            let sums = [
                (want.log_sum_exp, got.log_sum_exp),
                (want.entropy, got.entropy),
                (want.kl, got.kl),
            ];
            let sums_agree = sums.into_iter().all(|(w, g)| close(w, g, 10.0));
            assert!(sums_agree, "{precision:?} {variant:?}: {want:?} {got:?}");
            for (w, g) in want.logits.iter().zip(&got.logits) {
                assert!(close(*w, *g, 1.0), "{precision:?} {variant:?}: {w} {g}");
            }
            // what tf32 moves may pass what stands beside it
            if precision != Precision::Tf32 {
                let ids = |r: &Readout| r.top.iter().map(|t| t.0).collect::<Vec<_>>();
                assert_eq!((ids(want), &want.ranks), (ids(got), &got.ranks));
            }
        }
    }
}

/// Every component with every operator, several prompts at a time.
fn whole_runs_agree(spec: &ModelSpec, precision: Precision, variant: Option<Variant>) {
    let gpu = gpu();
    let model = spec.open();
    let cuda = gpu.cuda(&model, precision).with(variant, None);
    let reference = Cpu::<f64>::rounded(&model, precision);
    let (gates, stop) = (Gates::of(precision), AtomicBool::new(false));
    assert_within_gates(&runs(&reference, &cuda, gates, 7, 1 << 30, &stop, &mut |_| ()).unwrap());
}

#[test]
fn whole_runs_agree_in_f32_by_multiply_adds() {
    whole_runs_agree(&shape(2, 16, 64, 100), Precision::F32, Some(Variant::Ffma));
}

#[test]
fn whole_runs_agree_in_f32_by_split_products() {
    whole_runs_agree(&shape(2, 16, 64, 100), Precision::F32, Some(Variant::Split));
}

#[test]
fn whole_runs_agree_in_tf32() {
    whole_runs_agree(&shape(2, 16, 64, 100), Precision::Tf32, None);
}

#[test]
fn whole_runs_agree_in_bf16() {
    whole_runs_agree(&shape(2, 16, 64, 100), Precision::Bf16, None);
}

#[test]
fn whole_runs_agree_in_f16() {
    whole_runs_agree(&shape(2, 16, 64, 100), Precision::F16, None);
}

/// Random pairs and patches of every kind, the same ones in every precision.
fn random_pairs(model: &Checkpoint, seed: u8, count: usize) -> Vec<PairRuns> {
    let mut runner = runner(seed);
    let mut pairs = Vec::new();
    for _ in 0..count {
        let pair: PairSpec = random::pair(6).new_tree(&mut runner).unwrap().current();
        let runs: Vec<Vec<PatchSpec>> = random::runs(5).new_tree(&mut runner).unwrap().current();
        pairs.push(random::resolve(&pair, &runs, &model.config));
    }
    pairs
}

fn runner(seed: u8) -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    TestRunner::new_with_rng(Config::default(), rng)
}

const PRECISIONS: [Precision; 4] = [
    Precision::F32,
    Precision::Tf32,
    Precision::Bf16,
    Precision::F16,
];

#[test]
fn a_run_through_its_light_cone_equals_the_whole_run_on_the_device() {
    let gpu = gpu();
    for (i, precision) in PRECISIONS.into_iter().enumerate() {
        let model = shape(2, 5 + 11 * (i % 2), 33, 40).open();
        let cuda = gpu.cuda(&model, precision);
        for seed in 0..3 {
            laws::cone_equals_whole(&cuda, &random_pairs(&model, seed, 2)).unwrap();
        }
    }
}

#[test]
fn patching_with_what_was_there_changes_no_bit_on_the_device() {
    let gpu = gpu();
    for (i, precision) in PRECISIONS.into_iter().enumerate() {
        let model = shape(2, 16 - 11 * (i % 2), 33, 40).open();
        let cuda = gpu.cuda(&model, precision);
        let pair = random::pair(4)
            .new_tree(&mut runner(i as u8))
            .unwrap()
            .current();
        laws::no_ops_are_free(&cuda, &pair).unwrap();
    }
}

#[test]
fn a_result_does_not_depend_on_the_batch_on_the_device() {
    let gpu = gpu();
    for (i, precision) in PRECISIONS.into_iter().enumerate() {
        let model = shape(2, 16 - 11 * (i % 2), 33, 40).open();
        let cuda = gpu.cuda(&model, precision);
        laws::batch_invariant(&cuda, &random_pairs(&model, 7, 2), 1).unwrap();
    }
}

#[test]
fn the_tile_changes_no_bit() {
    let gpu = gpu();
    let model = shape(2, 16, 64, 200).open();
    let pairs = random_pairs(&model, 3, 2);
    for (precision, variant) in VARIANTS {
        let [large, others @ ..] = Tile::ALL.map(|tile| {
            let cuda = gpu.cuda(&model, precision).with(variant, Some(tile));
            common::run(&cuda, &pairs, common::PLENTY)
        });
        for other in others {
            let (large, other) = (laws::everything(&large), laws::everything(&other));
            for (large, other) in large.iter().zip(&other) {
                laws::equal("tiles", large, other).unwrap();
            }
        }
    }
}

/// Equal logits everywhere: a token's rank is its id, and nothing diverges, exactly.
#[test]
fn ties_go_to_the_lower_id_and_a_row_is_not_far_from_itself() {
    let gpu = gpu();
    let model = shape(1, 8, 4, 400).open();
    for precision in PRECISIONS {
        let cuda = gpu.cuda(&model, precision);
        let zeros = cuda.upload(40, 8, Store::Branch, &[0.0; 320]);
        let spec = ReadoutSpec {
            ids: [399, 0, 191, 192].repeat(40),
            first: (0..=40).map(|r| 4 * r).collect(),
            top: 195,
            ranks: true,
            base: vec![0; 40],
        };
        let under_way = cuda.readout(&zeros, 40, &spec).unwrap();
        for readout in cuda.finish(under_way).unwrap() {
            assert_eq!(readout.ranks, [399, 0, 191, 192]);
            assert!(readout.top.iter().map(|t| t.0).eq(0..195));
            assert_eq!(readout.kl, 0.0);
            assert!((readout.entropy - 400f64.ln()).abs() < 1e-6);
        }
    }
}
