//! Operators on columns and in bases: parity with pyvene's subspace interventions, on both backends,
//! and functions of the caller's own.
//!
//! `tests/fixtures/bases` holds what pyvene, and where it has no such operator hooks with the formulas
//! of docs/operators.md, computed in double precision (`make_bases.py`).

#![cfg(feature = "cuda")]

use std::sync::Arc;

use crate::common::fixtures::{Worst, checkpoint, folder};
use crate::common::runs::{freeze, interchange, run_of};
use crate::common::{PLENTY, run, run_pair, try_run};
use crate::emulator::gpu::gpu;
use headlight::ask::experiment::{Experiment, PairText, PatchText, RunText};
use headlight::backend::cpu::Cpu;
use headlight::backend::{Backend, Precision};
use headlight::basis::read::BasisFiles;
use headlight::basis::{Basis, Numbers};
use headlight::function::Function;
use headlight::model::{Checkpoint, SeveralTokens};
use headlight::patch::{Op, Patch};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    model: String,
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    target_ids: Vec<u32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    by: String,
    patches: Vec<PatchText>,
    logprobs: Vec<f64>,
}

const MODELS: [&str; 2] = ["tied", "odd_untied"];

fn read(model: &str) -> File {
    let text = std::fs::read_to_string(folder("bases").join(format!("{model}.json"))).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    assert_eq!(file.model, model);
    file
}

fn pair(file: &File) -> Pair {
    Pair {
        base: file.base_ids.clone(),
        source: Some(file.source_ids.clone()),
        targets: file.target_ids.clone(),
        ..Pair::default()
    }
}

/// Worst |Δ log-probability| over all cases of a model, in one chunk.
fn worst<B: Backend>(backend: &B, model: &Checkpoint, file: &File) -> Worst {
    let text = PairText {
        base_ids: Some(file.base_ids.clone()),
        source_ids: Some(file.source_ids.clone()),
        target_ids: file.target_ids.clone(),
        ..PairText::default()
    };
    let runs = file.cases.iter().map(|case| RunText {
        patches: case.patches.clone(),
        ..RunText::default()
    });
    let experiment = Experiment {
        pairs: vec![text],
        runs: runs.collect(),
        ..Experiment::default()
    };
    let pairs = experiment
        .resolve(model, &folder("bases"), SeveralTokens::Refused)
        .unwrap();
    let outcome = run(backend, &pairs, PLENTY);
    let mut worst = Worst::default();
    for (case, read) in file.cases.iter().zip(&outcome.pairs[0].runs) {
        let at = format!("{} (by {})", case.name, case.by);
        worst.note_targets(&read[0], &case.logprobs, &at);
    }
    worst
}

#[test]
fn f64_agrees_with_pyvene_in_every_basis() {
    for name in MODELS {
        let (model, file) = (checkpoint(name), read(name));
        assert!(file.cases.iter().filter(|c| c.by == "pyvene").count() > 250);
        worst(&Cpu::<f64>::new(&model), &model, &file).assert_within(1e-9, name);
    }
}

#[test]
fn f32_is_within_the_gate_in_every_basis() {
    for name in MODELS {
        let (model, file) = (checkpoint(name), read(name));
        worst(&Cpu::<f32>::new(&model), &model, &file).assert_within(1e-5, name);
    }
}

#[test]
fn the_device_agrees_in_every_basis_and_calls_functions() {
    let gpu = gpu();
    for name in MODELS {
        let (model, file) = (checkpoint(name), read(name));
        let cuda = gpu.cuda(&model, Precision::F32);
        worst(&cuda, &model, &file).assert_within(1e-5, name);
    }
    let (model, file) = (checkpoint("odd_untied"), read("odd_untied"));
    functions_equal_operators(&gpu.cuda(&model, Precision::F32), &pair(&file), 1e-5);
    functions_equal_operators(&gpu.cuda(&model, Precision::Bf16), &pair(&file), 0.05);
}

/// Functions that do what operators do, at heads' own rows, rows of all heads and inputs of one head;
/// alone, on some columns and between other patches.
fn functions_equal_operators<B: Backend>(backend: &B, pair: &Pair, gate: f64) {
    use Component as C;
    let last = pair.base.len() - 1;
    let at = |component: Component| interchange(component, 0, &[1, 3], [1, last]);
    let half = Function::new("half", |b, s| {
        b.iter_mut().zip(s).for_each(|(b, s)| *b += 0.5 * (s - *b));
    });
    let triple = Function::of_base("triple", |b| b.iter_mut().for_each(|b| *b *= 3.0));
    let sorted = Function::of_base("sorted", |b| b.sort_by(f64::total_cmp));
    let (mut operators, mut functions) = (Vec::new(), Vec::new());
    for component in [
        C::HeadValueOutput,
        C::AttentionValueOutput,
        C::AttentionKeyInput,
        C::MlpResidualInput,
        C::BlockOutput,
        C::MlpActivation,
        C::Ln2Normalized,
    ] {
        let twice = |op: Op, columns: Option<Vec<usize>>| Patch {
            columns,
            ..at(component).with_op(op)
        };
        for columns in [None, Some(vec![4, 0, 1])] {
            let go = |op: Op| twice(op, columns.clone());
            operators.push(vec![go(Op::Interpolate(0.5))]);
            functions.push(vec![go(Op::Function(half.clone()))]);
            operators.push(vec![
                at(component).with_op(Op::Scale(-1.0)),
                go(Op::Scale(3.0)),
                go(Op::Add(None)),
                go(Op::Interpolate(0.5)),
            ]);
            functions.push(vec![
                at(component).with_op(Op::Scale(-1.0)),
                go(Op::Function(triple.clone())),
                go(Op::Add(None)),
                go(Op::Function(half.clone())),
            ]);
        }
    }
    // columns go in the order given: descending ones of an ascending sort are another row
    for columns in [vec![0, 3], vec![3, 0]] {
        functions.push(vec![Patch {
            columns: Some(columns),
            ..at(C::BlockOutput).with_op(Op::Function(sorted.clone()))
        }]);
    }
    let count = operators.len();
    let runs = operators.into_iter().chain(functions);
    let outcome = run_pair(backend, pair, runs.map(run_of).collect());
    let read = &outcome.runs;
    for i in 0..count {
        let (want, got) = (&read[i][0], &read[count + i][0]);
        assert_ne!(want.logits, outcome.base[0].logits, "run {i}");
        for (w, g) in want.logits.iter().zip(&got.logits) {
            let error = (want.log_probability(*w) - got.log_probability(*g)).abs();
            assert!(error <= gate, "run {i}: {error:e}");
        }
    }
    assert_ne!(read[2 * count][0].logits, read[2 * count + 1][0].logits);
}

#[test]
fn functions_equal_the_operators_that_they_spell() {
    let (model, file) = (checkpoint("odd_untied"), read("odd_untied"));
    functions_equal_operators(&Cpu::<f64>::new(&model), &pair(&file), 1e-12);
    functions_equal_operators(&Cpu::<f32>::new(&model), &pair(&file), 1e-5);
}

/// Readouts of runs of one patch or several in bases of the fixtures, at block_output's last row.
fn runs_in(basis: &str, ops: &[&[Op]]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let (model, file) = (checkpoint("tied"), read("tied"));
    let mut bases = BasisFiles::default();
    // as pyvene has them: rows become their reconstructions
    let whole = ["sae", "jump", "pca"]
        .iter()
        .any(|form| basis.starts_with(form));
    let error_term = whole.then_some(false);
    let text = format!("tied.safetensors#{basis}");
    let basis = bases.read(&text, &folder("bases"), error_term).unwrap();
    let pair = pair(&file);
    let last = pair.base.len() - 1;
    let patch = |op: &Op| Patch {
        basis: Some(basis.clone()),
        ..freeze(interchange(Component::BlockOutput, 0, &[], [last])).with_op(op.clone())
    };
    let runs = ops
        .iter()
        .map(|ops| run_of(ops.iter().map(patch).collect()));
    let outcome = run_pair(&Cpu::<f64>::new(&model), &pair, runs.collect());
    let read = outcome.runs.iter().map(|r| r[0].logits.clone()).collect();
    (read, outcome.base[0].logits.clone())
}

/// What is decoded whole leaves the reconstruction, even where no coordinate changes.
#[test]
fn an_autoencoder_leaves_its_reconstruction() {
    let noise = Op::Noise {
        level: 0.0,
        seed: 0,
        sample: 0,
    };
    for basis in ["sae32", "jump32", "pca32"] {
        let ops: [&[Op]; 4] = [
            &[Op::Interchange],
            &[Op::Scale(1.0)],
            &[Op::Interpolate(0.0)],
            std::slice::from_ref(&noise),
        ];
        let (runs, base) = runs_in(basis, &ops);
        assert_ne!(runs[0], base, "{basis}");
        assert!(runs.iter().all(|run| *run == runs[0]), "{basis}: {runs:?}");
    }
    // by difference the same runs are the base's
    let ops: [&[Op]; 3] = [&[Op::Interchange], &[Op::Scale(1.0)], &[noise]];
    let (runs, base) = runs_in("rotated32", &ops);
    assert!(runs.iter().all(|run| *run == base), "{runs:?}");
}

/// What the coordinates changed by is decoded and added: b + decode(h') − decode(h), which other patches of the
/// same row spell out, one after the other, with the row's reconstruction from a run of its own.
fn error_terms_are_kept<B: Backend>(backend: &B, model: &Checkpoint, gate: f64) {
    let file = read("tied");
    let last = file.base_ids.len() - 1;
    let site = format!(r#""component": "block_output", "layer": 0, "positions": [{last}]"#);
    let source = r#""op": "interchange""#;
    let mut runs = vec![format!(
        r#"{{"name": "nothing", "patches": [{{{site}, "op": "scale", "alpha": 0.5}}]}}"#
    )];
    let mut moved = 0;
    for basis in ["sae32", "jump32", "pca32"] {
        let basis = format!(r#""basis": "tied.safetensors#{basis}""#);
        let step = format!("{basis:?}").replace('"', "").replace('\\', "");
        runs.push(format!(
            r#"{{"name": "{step}", "step": true, "patches": [{{{site}, {basis}, "error_term": false, "op": "scale", "alpha": 1}}]}}"#
        ));
        for op in [
            source,
            r#""op": "zero""#,
            r#""op": "scale", "alpha": 3"#,
            r#""op": "interpolate", "alpha": 0.25"#,
            r#""op": "add""#,
            r#""op": "subtract""#,
            r#""op": "interchange", "columns": "0-4,6""#,
            r#""op": "zero", "columns": "0-5""#,
            r#""op": "noise", "level": 0.5"#,
        ] {
            moved += 1;
            runs.push(format!(r#"{{"patches": [{{{site}, {basis}, {op}}}]}}"#));
            runs.push(format!(
                r#"{{"patches": [{{{site}, {basis}, "error_term": false, {op}}},
                                {{{site}, "op": "subtract", "source_run": "{step}"}},
                                {{{site}, "op": "add", "source": "base"}}]}}"#
            ));
        }
        // what changes no coordinate changes no bit
        runs.push(format!(
            r#"{{"name": "same", "patches": [{{{site}, {basis}, "source": "base"}}]}}"#
        ));
        runs.push(format!(
            r#"{{"name": "same", "patches": [{{{site}, {basis}, "op": "scale", "alpha": 1}}]}}"#
        ));
    }
    let text = format!(
        r#"{{"target_ids": {:?}, "pair": [{{"base_ids": {:?}, "source_ids": {:?}}}], "run": [{}]}}"#,
        file.target_ids,
        file.base_ids,
        file.source_ids,
        runs.join(",\n")
    );
    let experiment: Experiment = serde_json::from_str(&text).unwrap();
    let pairs = experiment
        .resolve(model, &folder("bases"), SeveralTokens::Refused)
        .unwrap();
    let outcome = run(backend, &pairs, PLENTY);
    let base = &outcome.pairs[0].base[0];
    let shown = pairs[0].runs.iter().zip(&outcome.pairs[0].runs);
    let shown: Vec<_> = shown.filter(|(run, _)| !run.step).collect();
    let (mut checked, mut i) = (0, 1);
    while i < shown.len() {
        if shown[i].0.name.as_deref() == Some("same") {
            assert_eq!(shown[i].1[0].logits, base.logits, "{:?}", shown[i].0);
            i += 1;
            continue;
        }
        let ((run, got), (_, want)) = (shown[i], shown[i + 1]);
        let (got, want) = (&got[0], &want[0]);
        assert_ne!(got.logits, base.logits, "{run:?}");
        for (g, w) in got.logits.iter().zip(&want.logits) {
            let error = (got.log_probability(*g) - want.log_probability(*w)).abs();
            assert!(error <= gate, "{run:?}: {error:e}");
        }
        (checked, i) = (checked + 1, i + 2);
    }
    assert_eq!(checked, moved);
}

#[test]
fn rows_keep_what_an_autoencoder_does_not_hold() {
    let model = checkpoint("tied");
    error_terms_are_kept(&Cpu::<f64>::new(&model), &model, 1e-11);
    error_terms_are_kept(&Cpu::<f32>::new(&model), &model, 1e-5);
    error_terms_are_kept(&gpu().cuda(&model, Precision::F32), &model, 1e-5);
}

/// Two moves of one row in one basis act one after the other.
#[test]
fn a_row_is_moved_twice_in_one_basis() {
    let twice: &[Op] = &[Op::Scale(2.0), Op::Scale(3.0)];
    let (runs, base) = runs_in("low_rank32", &[twice, &[Op::Scale(6.0)]]);
    let apart = |a: &[f64], b: &[f64]| -> f64 {
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        apart.fold(0.0, f64::max)
    };
    assert!(apart(&runs[0], &runs[1]) < 1e-11, "{runs:?}");
    assert!(apart(&runs[0], &base) > 1e-3);
}

/// A function of b alone needs no source prompt; one of both does.
#[test]
fn a_function_of_the_base_needs_no_source() {
    let (model, file) = (checkpoint("tied"), read("tied"));
    let cpu = Cpu::<f64>::new(&model);
    let go = |function: Function| {
        let patch = interchange(Component::MlpOutput, 0, &[], [2]);
        let runs = [run_of(vec![patch.with_op(Op::Function(function))])].into();
        let pair = Pair {
            source: None,
            ..pair(&file)
        };
        try_run(&cpu, &[PairRuns { pair, runs }], PLENTY)
    };
    let zero = Function::of_base("zero", |b| b.fill(0.0));
    assert!(go(zero).is_ok());
    let error = go(Function::new("take", |b, s| b.copy_from_slice(s))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pair 0, run 0: `function=take` at mlp_output reads a source prompt, but the pair has none: give one"
    );
}

#[test]
fn patches_that_fit_no_row_are_refused_in_a_sentence() {
    let (model, file) = (checkpoint("tied"), read("tied"));
    let cpu = Cpu::<f64>::new(&model);
    let eye = |n: usize| {
        let values = (0..n * n).map(|i| f64::from(i % (n + 1) == 0)).collect();
        Arc::new(Basis::rotation("F#eye", &Numbers::new([n, n], values), None).unwrap())
    };
    let said = |patch: Patch| {
        let runs = [run_of(vec![patch])].into();
        let pair = pair(&file);
        let error = try_run(&cpu, &[PairRuns { pair, runs }], PLENTY).unwrap_err();
        let said = error.to_string();
        said.strip_prefix("pair 0, run 0: ").unwrap().to_owned()
    };
    let at = |component: Component| interchange(component, 0, &[0], [1]);
    let v = Component::HeadValueOutput;
    let basis = |component: Component, n: usize| Patch {
        basis: Some(eye(n)),
        ..at(component)
    };
    assert_eq!(
        said(basis(v, 32)),
        "the basis `F#eye` is of rows of 32 numbers, but a row of head_value_output has 16"
    );
    assert_eq!(
        said(basis(Component::AttentionWeight, 16)),
        "attention_weight has rows of different lengths, so no basis fits it: leave it out"
    );
    assert_eq!(
        said(basis(Component::Ln1Scale, 1)),
        "ln_1_scale has one number a row, so no basis fits it: leave it out"
    );
    let columns = |patch: Patch, columns: &[usize]| Patch {
        columns: Some(columns.into()),
        ..patch
    };
    assert_eq!(
        said(columns(at(v), &[3, 16])),
        "column 16 of head_value_output is out of range: columns are 0 to 15"
    );
    assert_eq!(
        said(columns(basis(v, 16), &[16])),
        "coordinate 16 of head_value_output is out of range: coordinates are 0 to 15"
    );
    assert!(said(columns(at(v), &[3, 3])).contains("names column 3 twice"));
    assert!(said(columns(at(v), &[])).contains("empty list of columns"));
    assert_eq!(
        said(columns(at(Component::AttentionScores), &[0])),
        "attention_scores has keys where others have columns: give keys"
    );
    let f = Op::Function(Function::of_base("f", |_| ()));
    assert!(said(at(Component::AttentionWeight).with_op(f.clone())).contains("takes no function"));
    assert!(said(basis(v, 16).with_op(f)).contains("leave out the basis"));
    let vector = headlight::patch::Vector {
        label: "F#v".into(),
        values: vec![0.0; 32].into(),
        rows: 1,
    };
    assert_eq!(
        said(basis(v, 16).with_op(Op::Set(vector))),
        "`F#v` has 32 values, but the basis `F#eye` has 16"
    );
}
