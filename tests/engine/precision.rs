//! How far single precision strays from double in whole runs, over shapes of every kind, and what is said where it
//! overflows.

use crate::common::model::ModelSpec;
use crate::common::runs::{run_of, vector};
use crate::common::{PLENTY, Random, run};
use headlight::backend::Readout;
use headlight::backend::cpu::Cpu;
use headlight::patch::{Op, Patch};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;

const SHAPES: usize = 116;

/// A model, a pair and six patches of it, by their number.
fn case(number: usize) -> (ModelSpec, Pair, Vec<Patch>) {
    let mut random = Random(28 + number as u64);
    let mut pick = |from: &[usize]| from[random.below(from.len())];
    let (layers, heads) = (pick(&[1, 2, 3, 4, 7]), pick(&[1, 2, 3, 5, 7]));
    let head_width = pick(&[1, 3, 5, 8, 17, 31, 64, 90]);
    let inner = pick(&[1, 7, 33, 129, 517]);
    let vocab = pick(&[2, 3, 17, 61, 200, 503]);
    let activation = [
        "gelu_new",
        "gelu",
        "gelu_pytorch_tanh",
        "relu",
        "silu",
        "quick_gelu",
    ];
    let spec = ModelSpec {
        layers,
        heads,
        head_width,
        inner,
        vocab,
        activation: activation[number % activation.len()],
        tied: number.is_multiple_of(2),
        by_layer: number.is_multiple_of(3),
        scaled: !number.is_multiple_of(5),
        dtype: "F32",
        seed: number as u64,
    };
    let length = pick(&[1, 2, 5, 13, 40]);
    let mut ids = || {
        (0..length)
            .map(|_| random.below(vocab) as u32)
            .collect::<Vec<_>>()
    };
    let pair = Pair {
        base: ids(),
        source: Some(ids()),
        targets: (0..vocab.min(4) as u32).collect(),
        ..Pair::default()
    };
    let (layer, last, d) = (random.below(layers), length - 1, heads * head_width);
    let of = |component: Component, heads: Vec<usize>| {
        Patch::interchange(component, Some(layer), heads, vec![last])
    };
    let head = vec![random.below(heads)];
    let patches = vec![
        of(Component::BlockOutput, vec![]),
        of(Component::HeadAttentionValueOutput, head.clone()),
        of(Component::AttentionScores, head).with_op(Op::Scale(1.5)),
        of(Component::MlpOutput, vec![]).with_op(Op::Zero),
        of(Component::BlockInput, vec![]).with_op(Op::Add(Some(vector(number as u64, d, 1)))),
        of(Component::MlpInput, vec![]).with_op(Op::Interpolate(0.3)),
    ];
    (spec, pair, patches)
}

/// What single precision may be off by in log-probability: roundings of the logits, which grow with the width of a
/// random model (to 150 here). A worst error of 1.4e-4 is so explained, and nothing else of a shape.
fn gate(readout: &Readout) -> f64 {
    let largest = readout.logits.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    1e-5 * largest.max(readout.log_sum_exp.abs()).max(1.0)
}

#[test]
fn whole_runs_of_odd_shapes_are_within_their_gate() {
    let (mut worst, mut absolute) = ((0.0f64, String::new()), 0.0f64);
    for number in 0..SHAPES {
        let (spec, pair, patches) = case(number);
        let model = spec.open();
        let runs: Vec<_> = patches
            .iter()
            .map(|patch| run_of(vec![patch.clone()]))
            .collect();
        let pairs = [PairRuns {
            pair,
            runs: runs.into(),
        }];
        let want = run(&Cpu::<f64>::new(&model), &pairs, PLENTY);
        let got = run(&Cpu::<f32>::new(&model), &pairs, PLENTY);
        for ((want, got), patch) in want.pairs[0]
            .runs
            .iter()
            .zip(&got.pairs[0].runs)
            .zip(&patches)
        {
            let (want, got) = (&want[0], &got[0]);
            for (w, g) in want.logits.iter().zip(&got.logits) {
                let error = (want.log_probability(*w) - got.log_probability(*g)).abs();
                absolute = absolute.max(error);
                let of_gate = error / gate(want);
                if of_gate.is_nan() || of_gate > worst.0 {
                    worst = (
                        of_gate,
                        format!(
                            "{number}: {error:.2e}, lse {:.1}, {spec:?}, {}",
                            want.log_sum_exp, patch.component
                        ),
                    );
                }
            }
        }
    }
    println!(
        "worst: {:.2} of its gate ({}); {absolute:.2e} at most",
        worst.0, worst.1
    );
    assert!(worst.0 <= 1.0, "{worst:?}");
}

/// What is beyond f32 in a row's variance would be zeros behind a layer norm, and probabilities as if nothing had happened.
#[test]
fn what_overflows_is_no_number() {
    let model = crate::common::model::shape(2, 8, 9, 17).open();
    let pair = Pair {
        base: vec![1, 2, 3],
        targets: vec![4],
        ..Pair::default()
    };
    let large = |component, op| Patch::interchange(component, Some(0), vec![], vec![2]).with_op(op);
    let runs = vec![
        run_of(vec![large(Component::BlockOutput, Op::Scale(1e25))]),
        run_of(vec![large(Component::MlpResidualInput, Op::Scale(1e25))]),
        run_of(vec![large(Component::BlockOutput, Op::Scale(1e15))]),
    ];
    let pairs = [PairRuns {
        pair,
        runs: runs.into(),
    }];
    let single = run(&Cpu::<f32>::new(&model), &pairs, PLENTY);
    let double = run(&Cpu::<f64>::new(&model), &pairs, PLENTY);
    let finite = |outcome: &headlight::execute::Outcome| -> Vec<bool> {
        let runs = outcome.pairs[0].runs.iter();
        runs.map(|read| read[0].log_probability(read[0].logits[0]).is_finite())
            .collect()
    };
    assert_eq!(finite(&single), [false, false, true]);
    assert_eq!(finite(&double), [true, true, true]);
}
