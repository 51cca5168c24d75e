//! Parity with Hugging Face transformers, pyvene and raw hooks.
//!
//! `tests/fixtures` holds what they computed in double precision on small random checkpoints; see
//! its README. Every case is one run with patches in the experiment file's own schema.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use headlight::backend::Backend;
use headlight::backend::cpu::{Cpu, Real};
use headlight::basis::read::Bases;
use headlight::model::Checkpoint;
use headlight::patch::Run;
use headlight::site::Component;
use headlight::sweep::activations::activations;
use headlight::sweep::execute::{Limits, Outcome, execute};
use headlight::sweep::experiment::{OpName, PatchText};
use headlight::sweep::pair::{Pair, PairRuns};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    activations: Option<About>,
    clean: Vec<Clean>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct About {
    file: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Clean {
    ids: Vec<u32>,
    target_ids: Vec<u32>,
    logprobs: Vec<f64>,
    top: Vec<(u32, f64)>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    by: String,
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    patches: Vec<PatchText>,
    target_ids: Vec<u32>,
    logprobs: Vec<f64>,
    #[serde(default)]
    readouts: Vec<At>,
}

#[derive(Deserialize)]
struct At {
    position: usize,
    logprobs: Vec<f64>,
}

const MODELS: [&str; 5] = ["tied", "odd_untied", "bare_bf16", "silu_f16", "sharded"];

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(model)
}

fn read(model: &str) -> (Checkpoint, File) {
    let checkpoint = Checkpoint::open(&folder(model)).unwrap();
    let text = std::fs::read_to_string(folder(model).join("cases.json")).unwrap();
    (checkpoint, serde_json::from_str(&text).unwrap())
}

fn run<B: Backend>(backend: &B, pairs: &[PairRuns]) -> Outcome {
    let stop = AtomicBool::new(false);
    let limits = Limits {
        memory: 1 << 30,
        top: 10,
        top_of_runs: 0,
        ranks: false,
        kl: false,
        stop: &stop,
    };
    let before = backend.executed_flops();
    let outcome = execute(backend, pairs, &limits).unwrap();
    let executed = backend.executed_flops() - before;
    assert_eq!(
        executed,
        outcome.plan.flops(),
        "executed operations differ from the plan's"
    );
    outcome
}

fn pair(case: &Case) -> Pair {
    let mut readouts: Vec<usize> = case.readouts.iter().map(|r| r.position).collect();
    readouts.push(case.base_ids.len() - 1);
    readouts.sort_unstable();
    readouts.dedup();
    Pair {
        base: case.base_ids.clone(),
        source: Some(case.source_ids.clone()),
        targets: case.target_ids.clone(),
        wrong: Vec::new(),
        readouts,
    }
}

/// Differences of two scales nearly cancel: each is rounded to f32 where it stands, and what is left
/// is a third of them, by which the final logits are then divided.
fn ill_conditioned(case: &Case) -> bool {
    case.patches
        .iter()
        .any(|p| p.component.component.name().ends_with("_scale") && p.op == OpName::Subtract)
}

/// Worst |Δ log-probability| over all cases, with the case's name; `skip` leaves cases out.
fn worst<T: Real>(model: &str, skip: fn(&Case) -> bool) -> (f64, String) {
    let (checkpoint, file) = read(model);
    let cpu = Cpu::<T>::new(&checkpoint);
    let mut worst = (0.0, String::new());
    let mut note = |got: f64, want: f64, name: &str| {
        let error = (got - want).abs();
        if error.is_nan() || error > worst.0 {
            worst = (
                if error.is_nan() { f64::INFINITY } else { error },
                name.to_owned(),
            );
        }
    };
    for clean in &file.clean {
        let pair = Pair {
            base: clean.ids.clone(),
            targets: clean.target_ids.clone(),
            ..Pair::default()
        };
        let outcome = run(
            &cpu,
            &[PairRuns {
                pair,
                runs: [].into(),
            }],
        );
        let base = &outcome.pairs[0].base[0];
        for (logit, want) in base.logits.iter().zip(&clean.logprobs) {
            note(base.log_probability(*logit), *want, "clean");
        }
        for ((id, logit), (want_id, want)) in base.top.iter().zip(&clean.top) {
            assert_eq!(id, want_id, "{model}: top tokens of {:?}", clean.ids);
            note(base.log_probability(*logit), want.ln(), "clean top");
        }
        assert_eq!(base.top.len(), 10);
    }
    for case in file.cases.iter().filter(|case| !skip(case)) {
        let patches = case.patches.iter().map(|p| {
            p.resolve(
                &checkpoint,
                &folder(model),
                0,
                &mut Bases::default(),
                || case.name.clone(),
            )
        });
        let patches = patches.collect::<Result<Vec<_>, _>>().unwrap();
        let pair = pair(case);
        let readouts = pair.readouts.clone();
        let runs = [Run {
            name: None,
            patches,
        }]
        .into();
        let outcome = run(&cpu, &[PairRuns { pair, runs }]);
        let read = &outcome.pairs[0].runs[0];
        let name = format!("{} (by {})", case.name, case.by);
        let last = At {
            position: case.base_ids.len() - 1,
            logprobs: case.logprobs.clone(),
        };
        for at in case.readouts.iter().chain([&last]) {
            let i = readouts.iter().position(|p| *p == at.position).unwrap();
            for (logit, want) in read[i].logits.iter().zip(&at.logprobs) {
                note(read[i].log_probability(*logit), *want, &name);
            }
        }
    }
    worst
}

#[test]
fn f64_agrees_with_hugging_face_and_pyvene_in_double_precision() {
    for model in MODELS {
        let (error, case) = worst::<f64>(model, |_| false);
        println!("{model}: {error:.2e} at {case}");
        assert!(error <= 1e-9, "{model}: {error:e} at {case}");
    }
}

#[test]
fn f32_is_within_the_gate_of_whole_runs() {
    for model in MODELS {
        let (error, case) = worst::<f32>(model, ill_conditioned);
        println!("{model}: {error:.2e} at {case}");
        assert!(error <= 1e-5, "{model}: {error:e} at {case}");
        let (error, case) = worst::<f32>(model, |case| !ill_conditioned(case));
        println!("{model}, differences of scales: {error:.2e} at {case}");
        assert!(error <= 3e-5, "{model}: {error:e} at {case}");
    }
}

/// Worst error of any clean activation of any site, relative to the largest of its row.
fn worst_activation<T: Real>(model: &str) -> (f64, String) {
    let (checkpoint, file) = read(model);
    let Some(about) = file.activations else {
        return (0.0, String::new());
    };
    let bytes = std::fs::read(folder(model).join(&about.file)).unwrap();
    let wanted = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let layers = checkpoint.config.layers;
    let sites: Vec<(Component, Option<usize>)> = Component::all()
        .flat_map(|c| {
            if c.is_global() {
                vec![(c, None)]
            } else {
                (0..layers).map(|l| (c, Some(l))).collect()
            }
        })
        .collect();
    let stop = AtomicBool::new(false);
    let limits = Limits {
        memory: 1 << 30,
        top: 0,
        top_of_runs: 0,
        ranks: false,
        kl: false,
        stop: &stop,
    };
    let kept = activations(&Cpu::<T>::new(&checkpoint), &about.ids, &sites, &limits).unwrap();
    let mut worst = (0.0, String::new());
    let mut compared = 0;
    for activation in kept {
        let Ok(want) = wanted.tensor(&activation.name) else {
            // the residual that one head reads is the layer's input, which is there
            assert!(
                activation.name.starts_with("attention_") && activation.name.contains("_input"),
                "{}",
                activation.name
            );
            continue;
        };
        compared += 1;
        assert_eq!(want.shape(), activation.shape, "{}", activation.name);
        let want: Vec<f64> = want
            .data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b))
            .collect();
        let width = *activation.shape.last().unwrap();
        for (got, want) in activation.values.chunks(width).zip(want.chunks(width)) {
            let size = want
                .iter()
                .filter(|x| x.is_finite())
                .fold(0.0f64, |m, x| m.max(x.abs()));
            for (got, want) in got.iter().zip(want) {
                let error = if got == want {
                    0.0
                } else {
                    (got - want).abs() / size.max(1e-3)
                };
                if error.is_nan() || error > worst.0 {
                    worst = (
                        if error.is_nan() { f64::INFINITY } else { error },
                        activation.name.clone(),
                    );
                }
            }
        }
    }
    assert_eq!(
        compared,
        wanted.names().len(),
        "{model}: a fixture tensor was not compared"
    );
    worst
}

#[test]
fn every_clean_activation_agrees() {
    for model in MODELS {
        let (error, site) = worst_activation::<f64>(model);
        assert!(error <= 1e-11, "{model}, f64: {error:e} at {site}");
        let (error, site) = worst_activation::<f32>(model);
        println!("{model}: {error:.2e} at {site}");
        assert!(error <= 5e-6, "{model}, f32: {error:e} at {site}");
    }
}
