//! Adjoints against the CPU's in double precision: every kernel of the way back, in every precision and arithmetic.

use std::sync::atomic::Ordering;

use super::*;
use crate::common::fixtures::checkpoint;
use crate::common::gradients::{
    self as gradients_of, NAMES, batch_invariant, every_kind, everything, whole,
};
use headlight::backend::adjoint::{Adjoints, Frozen, LinearAdjoint, LogitGradient};
use headlight::execute::ExecuteError;
use headlight::execute::gradient::{
    GradientRun, GradientSink, LogitWeights, RunGradients, gradients,
};
use headlight::prompt::pair::Pair;
use headlight::results::metric::Metric;
use headlight::verify::adjoints;

fn adjoints_agree(spec: &ModelSpec, precision: Precision, variant: Option<Variant>) {
    let gpu = gpu();
    let model = spec.open();
    let cuda = gpu.cuda(&model, precision).with(variant, None);
    let reference = Cpu::<f64>::rounded(&model, precision);
    let comparisons = adjoints(&reference, &cuda, Gates::of(precision), 7, &mut |_| ()).unwrap();
    assert_within_gates(&comparisons);
}

#[test]
fn adjoints_agree_in_f32_by_multiply_adds() {
    adjoints_agree(&usual(), Precision::F32, Some(Variant::Ffma));
}

#[test]
fn adjoints_agree_in_f32_by_split_products() {
    adjoints_agree(&usual(), Precision::F32, Some(Variant::Split));
}

#[test]
fn adjoints_agree_in_tf32() {
    adjoints_agree(&usual(), Precision::Tf32, None);
}

#[test]
fn adjoints_agree_in_bf16() {
    adjoints_agree(&usual(), Precision::Bf16, None);
}

#[test]
fn adjoints_agree_in_f16() {
    adjoints_agree(&usual(), Precision::F16, None);
}

/// No row of 15 numbers is a whole number of vectors, and 5 numbers a head are none either.
#[test]
fn adjoints_of_odd_widths_agree() {
    let spec = ModelSpec {
        activation: "relu",
        tied: false,
        ..shape(3, 5, 33, 17)
    };
    adjoints_agree(&spec, Precision::F32, Some(Variant::Ffma));
    adjoints_agree(&spec, Precision::Bf16, None);
}

/// A head that a lane has three columns of, and a score scale of its own in each layer.
#[test]
fn adjoints_of_a_head_of_80_agree() {
    let spec = ModelSpec {
        activation: "silu",
        by_layer: true,
        ..shape(1, 80, 100, 97)
    };
    adjoints_agree(&spec, Precision::F32, None);
    adjoints_agree(&spec, Precision::F16, None);
}

#[test]
fn adjoints_of_every_activation_agree() {
    for activation in ["gelu", "quick_gelu"] {
        let spec = ModelSpec {
            activation,
            ..shape(2, 8, 24, 17)
        };
        adjoints_agree(&spec, Precision::F32, None);
        adjoints_agree(&spec, Precision::Bf16, None);
    }
}

/// At every site, under every rule, patched, as PyTorch has them.
#[test]
fn gradients_of_whole_models_agree_with_autograd() {
    let gpu = gpu();
    for name in NAMES {
        let model = checkpoint(name);
        let cuda = gpu.cuda(&model, Precision::F32);
        let gates = gradients_of::Gates {
            all: 1e-5,
            scales: 1e-4,
        };
        every_kind(name, &cuda, &model, gates);
    }
}

#[test]
fn a_rows_gradient_does_not_depend_on_the_batch_on_the_device() {
    let gpu = gpu();
    for (i, precision) in PRECISIONS.into_iter().enumerate() {
        let spec = ModelSpec {
            layers: 3,
            ..shape(2, 5 + 11 * (i % 2), 33, 60)
        };
        let model = spec.open();
        batch_invariant(&gpu.cuda(&model, precision), &model);
    }
}

/// GPT-2's vocabulary stands in memory in three groups of tokens, and is summed in 66 parts.
#[test]
fn gpt2s_vocabulary_is_gone_back_through() {
    let gpu = gpu();
    let model = shape(1, 8, 4, 50257).open();
    for (precision, variant) in VARIANTS {
        let cuda = gpu.cuda(&model, precision).with(variant, None);
        let cpu = Cpu::<f64>::rounded(&model, precision);
        let mut random = Random(2);
        let x: Vec<f64> = (0..18 * 8).map(|_| random.normal()).collect();
        let x = cuda.read(&cuda.upload(18, 8, Store::Branch, &x)).unwrap();
        let (want, got) = (readout_gradients(&cpu, &x), readout_gradients(&cuda, &x));
        // tf32 rounds what it multiplies, the others multiply what they were given
        let near = if precision == Precision::Tf32 {
            5e-3
        } else {
            5e-6
        };
        let most = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        for (w, g) in want.iter().zip(&got) {
            assert!(
                (w - g).abs() <= near * most,
                "{precision:?} {variant:?}: {w} {g}"
            );
        }
    }
}

/// Gradients of 17 rows' entropy and divergence from the 18th, in a matrix of ones.
fn readout_gradients<B: Adjoints>(backend: &B, x: &[f64]) -> Vec<f64> {
    let input = backend.upload(18, 8, Store::Branch, x);
    let spec = ReadoutSpec {
        first: vec![0; 19],
        ..ReadoutSpec::default()
    };
    let read = backend.readout(&input, 18, &spec).unwrap();
    let read = backend.finish(read).unwrap();
    let gradients: Vec<LogitGradient> = (0..17)
        .map(|row| LogitGradient {
            row: row as u32,
            log_sum_exp: read[row].log_sum_exp,
            entropy: read[row].entropy,
            weights: vec![(50256, 0.5)],
            spread: 1.0,
            surprise: -1.0,
            other: (row % 2 == 0).then_some((-1.0, 17, read[17].log_sum_exp)),
        })
        .collect();
    let mut into = backend.upload(18, 8, Store::Residual, &[1.0; 18 * 8]);
    backend.readout_adjoint(&input, &gradients, &mut into);
    backend.read(&into).unwrap()
}

/// Every product and every partial sum is an integer below 2²⁴: whatever the order, nothing is lost. Of all
/// columns, and of a stretch that begins and ends within tiles.
#[test]
fn integers_go_back_exactly() {
    let gpu = gpu();
    let model = common::model::integers(2, 64, 200);
    let mut random = Random(4);
    let g: Vec<f64> = (0..37 * 200)
        .map(|_| random.below(9) as f64 - 4.0)
        .collect();
    let rows: Vec<u32> = (0..37).filter(|row| row % 5 != 3).collect();
    for columns in [0..200, 7..136] {
        let want = sums_over_outputs(&Cpu::<f64>::new(&model), &g, &rows, columns.clone());
        assert!(want.iter().any(|y| *y != 0.0) && want.iter().all(|y| y.fract() == 0.0));
        for (precision, variant) in VARIANTS {
            let cuda = gpu.cuda(&model, precision).with(variant, None);
            let got = sums_over_outputs(&cuda, &g, &rows, columns.clone());
            assert_eq!(got, want, "{precision:?} {variant:?}");
        }
    }
}

/// The MLP's first layer backwards, added to ones.
fn sums_over_outputs<B: Adjoints>(
    backend: &B,
    g: &[f64],
    rows: &[u32],
    columns: std::ops::Range<usize>,
) -> Vec<f64> {
    let gradient = backend.upload(37, 200, Store::Residual, g);
    let mut into = backend.upload(37, 128, Store::Residual, &[1.0; 37 * 128]);
    let adjoint = LinearAdjoint {
        weight: Weight::MlpPre(0),
        columns,
        gradient: &gradient,
        rows,
    };
    backend.linear_adjoint(&adjoint, &mut into);
    backend.read(&into).unwrap()
}

/// Asks for an end when the first gradient arrives.
struct Stopping<'a> {
    pair: &'a Pair,
    stop: &'a AtomicBool,
    arrived: usize,
}

impl GradientSink for Stopping<'_> {
    fn logits(&mut self, _: usize, readout: &Readout) -> Vec<LogitWeights> {
        let metric: Metric = "logprob".parse().unwrap();
        metric.gradients(self.pair, readout).unwrap()
    }

    fn gradients(&mut self, _: &RunGradients<'_>) {
        self.arrived += 1;
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The way back ends between two layers when it is asked to, and the device is as good as before.
#[test]
fn the_way_back_is_interrupted_between_layers() {
    let gpu = gpu();
    let spec = ModelSpec {
        layers: 4,
        ..shape(2, 8, 16, 40)
    };
    let model = spec.open();
    let cuda = gpu.cuda(&model, Precision::F32);
    let pair = Pair {
        base: vec![1, 2, 3],
        targets: vec![5],
        ..Pair::default()
    };
    let asked = everything(&model);
    let runs = [GradientRun {
        run: whole(&pair),
        answers: pair.answers().into(),
        compared: None,
    }];
    let stop = AtomicBool::new(false);
    let mut sink = Stopping {
        pair: &pair,
        stop: &stop,
        arrived: 0,
    };
    let of = (&asked, Frozen::default());
    let ended = gradients(&cuda, &runs, of, &common::limits(&stop), &mut sink);
    assert!(matches!(ended, Err(ExecuteError::Interrupted)), "{ended:?}");
    // what arrives in one part of a pass: the rest of the last layer norm's
    assert!(
        sink.arrived > 0 && sink.arrived < asked.len() / 4,
        "{}",
        sink.arrived
    );
    batch_invariant(&cuda, &model);
}
