//! Every operation's adjoint against differences of the operation itself, in double precision, on random
//! shapes: two runs in one matrix, whose rows differ in number.

use headlight::backend::adjoint::{
    Adjoints, AttentionAdjoint, AttentionGradients, Frozen, LinearAdjoint, LogitGradient,
    NormAdjoint,
};
use headlight::backend::cpu::{Buffer, Cpu};
use headlight::backend::{
    Attention, Backend, Epilogue, Linear, Norm, ReadoutSpec, Rows, Store, Weight,
};
use headlight::model::Checkpoint;
use headlight::plan::edit::EditOp;
use headlight::plan::tables::{AttentionRows, Ref};
use headlight::plan::tape::{AttendedRun, Passed};
use headlight::plan::writes::{Operand, Write};
use headlight::site::Stage;
use proptest::prelude::*;

use crate::common::model::model;
use crate::common::{Random, cases};

type M = Buffer<f64>;

/// The distance over which differences are taken.
const STEP: f64 = 1e-4;

/// Numbers in which no ReLU has its kink.
fn numbers(count: usize, random: &mut Random) -> Vec<f64> {
    let away = |x: f64| if x.abs() < 1e-3 { x + 0.01 } else { x };
    (0..count).map(|_| away(random.normal())).collect()
}

fn upload(cpu: &Cpu<f64>, rows: usize, values: &[f64]) -> M {
    cpu.upload(rows, values.len() / rows, Store::Residual, values)
}

fn read(cpu: &Cpu<f64>, matrix: &M) -> Vec<f64> {
    cpu.read(matrix).unwrap()
}

fn zeros(cpu: &Cpu<f64>, rows: usize, width: usize) -> M {
    cpu.zeros(rows, width, Stage::BlockInput)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Rows as [`numbers`] that a layer norm does not blow up: it divides by their spread.
fn spread(rows: usize, width: usize, random: &mut Random) -> Vec<f64> {
    let mut all = Vec::new();
    while all.len() < rows * width {
        let row = numbers(width, random);
        let range = row.iter().fold(f64::MIN, |m, x| m.max(*x))
            - row.iter().fold(f64::MAX, |m, x| m.min(*x));
        if range > 0.5 {
            all.extend(row);
        }
    }
    all
}

/// Checks a gradient against central differences of fourth order, to 10⁻⁷ of the largest.
fn agrees(what: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len(), "{what}");
    let mut moved = x.to_vec();
    let differences: Vec<f64> = (0..x.len())
        .map(|i| {
            let mut at = |by: f64| {
                moved[i] = x[i] + by;
                f(&moved)
            };
            let near = at(STEP) - at(-STEP);
            let far = at(2.0 * STEP) - at(-2.0 * STEP);
            let difference = (8.0 * near - far) / (12.0 * STEP);
            moved[i] = x[i];
            difference
        })
        .collect();
    let most = differences.iter().fold(1.0f64, |m, d| m.max(d.abs()));
    for (i, (got, want)) in gradient.iter().zip(&differences).enumerate() {
        let off = (got - want).abs() / most;
        assert!(off <= 1e-7, "{what}, number {i}: {got} instead of {want}");
    }
}

fn own<'a>(matrix: &'a M, refs: &'a [Ref]) -> Rows<'a, M> {
    Rows {
        own: matrix,
        cache: None,
        refs,
    }
}

fn linear(
    cpu: &Cpu<f64>,
    weight: Weight,
    columns: std::ops::Range<usize>,
    x: &M,
    rows: usize,
    out: usize,
) -> Vec<f64> {
    let mut result = zeros(cpu, rows, out);
    let all: Vec<u32> = (0..rows as u32).collect();
    let linear = Linear {
        weight,
        columns,
        input: x,
        rows: &all,
        out_rows: None,
        epilogue: Epilogue::None,
    };
    cpu.linear(&linear, &mut result);
    read(cpu, &result)
}

fn every_linear_layer(model: &Checkpoint, random: &mut Random) {
    let (cpu, config) = (Cpu::<f64>::new(model), &model.config);
    let (d, i, last) = (config.width, config.inner, config.layers - 1);
    for (weight, inputs, outputs, heads) in [
        (Weight::Query(last), d, d, true),
        (Weight::Key(0), d, d, true),
        (Weight::Value(last), d, d, true),
        (Weight::AttentionOutput(last), d, d, false),
        (Weight::MlpPre(0), d, i, false),
        (Weight::MlpOutput(last), i, d, false),
    ] {
        let rows = 3;
        let (x, g) = (
            numbers(rows * inputs, random),
            numbers(rows * outputs, random),
        );
        let last_head = heads.then(|| d - config.head_width()..d);
        for columns in std::iter::once(0..outputs).chain(last_head) {
            // the middle row is not listed, and keeps what stood there
            let mut into = upload(&cpu, rows, &vec![0.5; rows * inputs]);
            let adjoint = LinearAdjoint {
                weight,
                columns: columns.clone(),
                gradient: &upload(&cpu, rows, &g),
                rows: &[0, 2],
            };
            cpu.linear_adjoint(&adjoint, &mut into);
            let gradient: Vec<f64> = read(&cpu, &into).iter().map(|x| x - 0.5).collect();
            agrees(&format!("{weight:?} {columns:?}"), &x, &gradient, |x| {
                let y = linear(
                    &cpu,
                    weight,
                    columns.clone(),
                    &upload(&cpu, rows, x),
                    rows,
                    outputs,
                );
                let row = |r: usize| {
                    dot(
                        &y[r * outputs..][columns.clone()],
                        &g[r * outputs..][columns.clone()],
                    )
                };
                row(0) + row(2)
            });
        }
    }
}

fn every_norm(model: &Checkpoint, random: &mut Random) {
    let (cpu, d) = (Cpu::<f64>::new(model), model.config.width);
    let rows = 2;
    let refs = Ref::first(rows);
    for norm in [Norm::Ln1(0), Norm::Ln2(model.config.layers - 1), Norm::LnF] {
        let (x, g) = (spread(rows, d, random), numbers(rows * d, random));
        let (input, gradient) = (upload(&cpu, rows, &x), upload(&cpu, rows, &g));
        let adjoint = |scales| NormAdjoint {
            norm,
            input: &input,
            gradient: &gradient,
            rows: &[0, 1],
            frozen: Frozen {
                scales,
                ..Frozen::default()
            },
        };
        let mut scale = zeros(&cpu, rows, 1);
        cpu.layer_norm_scale(&own(&input, &refs), &mut scale);
        let from_scale = |x: &[f64], scale: &M| {
            let (input, mut normalized) = (upload(&cpu, rows, x), zeros(&cpu, rows, d));
            cpu.layer_norm_normalize(&own(&input, &refs), scale, &mut normalized);
            let mut out = zeros(&cpu, rows, d);
            cpu.layer_norm_affine(norm, &normalized, rows, &mut out);
            (dot(&read(&cpu, &out), &g), read(&cpu, &normalized))
        };
        let mut into = zeros(&cpu, rows, d);
        cpu.norm_adjoint(&adjoint(false), &mut into);
        agrees(&format!("{norm:?}"), &x, &read(&cpu, &into), |x| {
            let (input, mut out) = (upload(&cpu, rows, x), zeros(&cpu, rows, d));
            cpu.layer_norm(norm, &own(&input, &refs), &mut out);
            dot(&read(&cpu, &out), &g)
        });
        cpu.clear(&mut into, rows);
        cpu.norm_adjoint(&adjoint(true), &mut into);
        let held = format!("{norm:?}, scale held");
        agrees(&held, &x, &read(&cpu, &into), |x| from_scale(x, &scale).0);
        let mut out = zeros(&cpu, rows, 1);
        cpu.scale_adjoint(&adjoint(false), &mut out);
        let at = read(&cpu, &scale);
        agrees(
            &format!("{norm:?} scale"),
            &at,
            &read(&cpu, &out),
            |scale| from_scale(&x, &upload(&cpu, rows, scale)).0,
        );
        let mut out = zeros(&cpu, rows, d);
        cpu.normalized_adjoint(&adjoint(false), &mut out);
        let at = from_scale(&x, &scale).1;
        agrees(
            &format!("{norm:?} normalised"),
            &at,
            &read(&cpu, &out),
            |n| {
                let (normalized, mut out) = (upload(&cpu, rows, n), zeros(&cpu, rows, d));
                cpu.layer_norm_affine(norm, &normalized, rows, &mut out);
                dot(&read(&cpu, &out), &g)
            },
        );
    }
}

fn the_activation(model: &Checkpoint, random: &mut Random) {
    let (cpu, width) = (Cpu::<f64>::new(model), model.config.inner);
    let (x, g) = (numbers(2 * width, random), numbers(2 * width, random));
    // far out, where a sigmoid is 0 or 1 in all digits
    let far = |i: usize, x: f64| if i.is_multiple_of(3) { 12.0 * x } else { x };
    let x: Vec<f64> = x.iter().enumerate().map(|(i, x)| far(i, *x)).collect();
    let (pre, gradient) = (upload(&cpu, 2, &x), upload(&cpu, 2, &g));
    let values = |x: &[f64]| {
        let (pre, mut out) = (upload(&cpu, 2, x), zeros(&cpu, 2, width));
        cpu.activate(&pre, &[0, 1], &mut out);
        read(&cpu, &out)
    };
    let mut into = zeros(&cpu, 2, width);
    cpu.activate_adjoint(&pre, &gradient, &[0, 1], Frozen::default(), &mut into);
    let name = model.config.activation.name();
    agrees(name, &x, &read(&cpu, &into), |x| dot(&values(x), &g));
    cpu.clear(&mut into, 2);
    cpu.activate_adjoint(&pre, &gradient, &[0, 1], Frozen::RELP, &mut into);
    let held = read(&cpu, &into);
    for (i, y) in values(&x).iter().enumerate() {
        let want = g[i] * y / (x[i] + 1e-6f64.copysign(x[i]));
        assert!(
            (held[i] - want).abs() <= 1e-12 * want.abs().max(1.0),
            "{name}"
        );
    }
}

/// Two runs: one whose queries are all there, one of which the last and another are.
struct Ragged {
    runs: Vec<AttendedRun>,
    rows: usize,
    /// Row of each computed z.
    queries: Vec<usize>,
    table: AttentionRows,
}

fn ragged() -> Ragged {
    let runs = vec![
        AttendedRun {
            first: 0,
            positions: (0..3).collect(),
        },
        AttendedRun {
            first: 3,
            positions: vec![1, 4],
        },
    ];
    let (mut table, mut queries) = (AttentionRows::default(), Vec::new());
    for run in &runs {
        let first = run.first as usize;
        let begin = table.key.len() as u32;
        for position in run.positions.iter().map(|p| *p as usize) {
            queries.push(first + position);
            table.query.push(Ref::own(first + position));
            table.first.push(begin);
            table.count.push(position as u32 + 1);
        }
        let keys = run.positions.iter().max().unwrap() + 1;
        let keys = (0..keys as usize).map(|k| Ref::own(first + k));
        table.key.extend(keys.clone());
        table.value.extend(keys);
    }
    Ragged {
        runs,
        rows: 8,
        queries,
        table,
    }
}

fn attention(model: &Checkpoint, random: &mut Random) {
    let (cpu, config) = (Cpu::<f64>::new(model), &model.config);
    let (d, heads, layer) = (config.width, config.heads, config.layers - 1);
    let Ragged {
        runs,
        rows,
        queries,
        table,
    } = ragged();
    let stride = 5;
    let mut some = || numbers(rows * d, random);
    let (q, k, v, g) = (some(), some(), some(), some());
    let run = |[q, k, v]: [&[f64]; 3], scores: &[Write], weights: &[Write], by: f64| {
        let [q, k, v] = [q, k, v].map(|x| upload(&cpu, rows, x));
        let attention = Attention {
            layer,
            query: (&q, None),
            key: (&k, None),
            value: (&v, None),
            rows: &table,
            scores,
            weights,
            keep_scores: None,
            keep_pattern: None,
            stride,
        };
        let mut out = zeros(&cpu, queries.len(), d);
        cpu.attention(&attention, &mut [], &vec![by], &mut out);
        let z = read(&cpu, &out);
        let rows = queries.iter().enumerate();
        rows.map(|(i, row)| dot(&z[i * d..][..d], &g[row * d..][..d]))
            .sum::<f64>()
    };
    let [qm, km, vm, gm] = [&q, &k, &v, &g].map(|x| upload(&cpu, rows, x));
    let adjoint = |patterns| {
        let mut out = [d, d, d, heads * stride, heads * stride].map(|w| zeros(&cpu, rows, w));
        let [query, key, value, scores, pattern] = &mut out;
        let adjoint = AttentionAdjoint {
            layer,
            query: &qm,
            key: &km,
            value: &vm,
            gradient: &gm,
            runs: &runs,
            frozen: Frozen {
                patterns,
                ..Frozen::default()
            },
            stride,
        };
        let into = AttentionGradients {
            query,
            key,
            value,
            scores: Some(scores),
            pattern: Some(pattern),
        };
        cpu.attention_adjoint(&adjoint, into);
        out.map(|m| read(&cpu, &m))
    };
    let [dq, dk, dv, ds, dp] = adjoint(false);
    agrees("queries", &q, &dq, |q| run([q, &k, &v], &[], &[], 0.0));
    agrees("keys", &k, &dk, |k| run([&q, k, &v], &[], &[], 0.0));
    agrees("values", &v, &dv, |v| run([&q, &k, v], &[], &[], 0.0));
    for (i, row) in queries.iter().enumerate() {
        for head in 0..heads {
            for key in 0..table.count[i] as usize {
                let write = Write {
                    row: i,
                    head,
                    column: key,
                    length: 1,
                    op: EditOp::Add,
                    operand: Operand::Constant(0),
                };
                let at = row * heads * stride + head * stride + key;
                let all = [&q[..], &k, &v];
                agrees("scores", &[0.0], &ds[at..=at], |by| {
                    run(all, std::slice::from_ref(&write), &[], by[0])
                });
                agrees("pattern", &[0.0], &dp[at..=at], |by| {
                    run(all, &[], std::slice::from_ref(&write), by[0])
                });
            }
        }
    }
    let [dq, dk, held, ..] = adjoint(true);
    assert!(dq.iter().chain(&dk).all(|x| *x == 0.0) && held == dv);
}

fn the_readout(model: &Checkpoint, random: &mut Random) {
    let (cpu, config) = (Cpu::<f64>::new(model), &model.config);
    let (d, vocab) = (config.width, config.vocab as u32);
    let rows = 3;
    let x = numbers(rows * d, random);
    let ids = [0, vocab - 1];
    let spec = ReadoutSpec {
        ids: ids.repeat(2),
        first: vec![0, 2, 4],
        base: vec![2, 2],
        ..ReadoutSpec::default()
    };
    // the third row is what the others are compared with, and stands still
    let of = |x: &[f64]| {
        let all = [&x[..2 * d], &x[2 * d..]].concat();
        let read = cpu.readout(&upload(&cpu, rows, &all), 2, &spec).unwrap();
        cpu.finish(read).unwrap()
    };
    let read_out = of(&x);
    let other = {
        let spec = ReadoutSpec {
            first: vec![0; 4],
            ..ReadoutSpec::default()
        };
        let read = cpu.readout(&upload(&cpu, rows, &x), rows, &spec).unwrap();
        cpu.finish(read).unwrap()[2].log_sum_exp
    };
    type Of<'a> = (
        &'a str,
        [f64; 5],
        &'a dyn Fn(&headlight::backend::Readout) -> f64,
    );
    let all: [Of<'_>; 6] = [
        ("logit difference", [1.0, -1.0, 0.0, 0.0, 0.0], &|r| {
            r.logits[0] - r.logits[1]
        }),
        ("log-probability", [1.0, 0.0, -1.0, 0.0, 0.0], &|r| {
            r.logits[0] - r.log_sum_exp
        }),
        ("entropy", [0.0, 0.0, 0.0, -1.0, 0.0], &|r| r.entropy),
        ("divergence", [0.0, 0.0, 1.0, 0.0, -1.0], &|r| r.kl),
        ("a sum of them", [0.25, 0.5, -0.5, 2.0, 0.0], &|r| {
            0.25 * r.logits[0] + 0.5 * r.logits[1] - 0.5 * r.log_sum_exp - 2.0 * r.entropy
        }),
        ("nothing", [0.0; 5], &|_| 0.0),
    ];
    for (what, [first, second, spread, surprise, count], f) in all {
        let gradients: Vec<LogitGradient> = (0..2)
            .map(|row| LogitGradient {
                row: row as u32,
                log_sum_exp: read_out[row].log_sum_exp,
                entropy: read_out[row].entropy,
                weights: vec![(ids[0], first), (ids[1], second)],
                spread,
                surprise,
                other: (count != 0.0).then_some((count, 2, other)),
            })
            .collect();
        let mut into = zeros(&cpu, rows, d);
        cpu.readout_adjoint(&upload(&cpu, rows, &x), &gradients, &mut into);
        let gradient = read(&cpu, &into);
        assert!(gradient[2 * d..].iter().all(|x| *x == 0.0));
        agrees(what, &x[..2 * d], &gradient[..2 * d], |moved| {
            let all = [moved, &x[2 * d..]].concat();
            of(&all).iter().map(f).sum()
        });
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn adjoints_agree_with_differences(spec in model(), seed: u64) {
        let model = spec.open();
        let random = &mut Random(seed);
        every_linear_layer(&model, random);
        // a row of one number is not moved by moving it
        if spec.width() > 1 {
            every_norm(&model, random);
        }
        the_activation(&model, random);
        attention(&model, random);
        the_readout(&model, random);
    }
}

/// Each by itself, whatever models are drawn above.
#[test]
fn the_adjoint_of_every_activation_agrees_with_differences() {
    let random = &mut Random(15);
    for activation in [
        "gelu_new",
        "gelu",
        "gelu_pytorch_tanh",
        "relu",
        "silu",
        "quick_gelu",
    ] {
        let spec = crate::common::model::ModelSpec {
            activation,
            ..crate::common::model::shape(2, 8, 100, 20)
        };
        let model = spec.open();
        assert_eq!(model.config.activation.name(), activation);
        the_activation(&model, random);
    }
}

/// Additions pass gradients on; an edit leaves its factor of them, and of nothing exactly nothing.
#[test]
fn edits_leave_their_factor() {
    let model = crate::common::model::shape(2, 3, 4, 9).open();
    let cpu = Cpu::<f64>::new(&model);
    let mut into = upload(&cpu, 2, &[1.0, 2.0, f64::INFINITY, 4.0, 5.0, 6.0]);
    let passed = |row, column, length, factor| Passed {
        row,
        column,
        length,
        factor,
    };
    cpu.pass(&mut into, &[passed(0, 1, 2, 0.0), passed(1, 0, 1, -3.0)]);
    assert_eq!(read(&cpu, &into), [1.0, 0.0, 0.0, -12.0, 5.0, 6.0]);
    let from = upload(&cpu, 2, &[1.0; 6]);
    cpu.accumulate(&from, &[1], &mut into);
    assert_eq!(read(&cpu, &into), [1.0, 0.0, 0.0, -11.0, 6.0, 7.0]);
}
