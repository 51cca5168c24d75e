//! Parity with Hugging Face transformers, pyvene and raw hooks.
//!
//! `tests/fixtures` holds what they computed in double precision on small random checkpoints; see
//! its README. Every case is one run with patches in the experiment file's own schema.

use std::sync::atomic::AtomicBool;

use crate::common::fixtures::{Worst, checkpoint, folder};
use crate::common::{limits, try_run_within};
use headlight::ask::experiment::{Experiment, PairText, PatchText, RunText};
use headlight::backend::Backend;
use headlight::backend::cpu::{Cpu, Real};
use headlight::execute::activations::activations;
use headlight::execute::{Limits, PairOutcome};
use headlight::model::{Checkpoint, SeveralTokens};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    activations: Option<About>,
    clean: Vec<Clean>,
    cases: Vec<Case>,
    chains: Vec<Chain>,
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

/// Runs that read one another.
#[derive(Deserialize)]
struct Chain {
    name: String,
    by: String,
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    runs: Vec<RunText>,
    target_ids: Vec<u32>,
    logprobs: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct At {
    position: usize,
    logprobs: Vec<f64>,
}

const MODELS: [&str; 5] = ["tied", "odd_untied", "bare_bf16", "silu_f16", "sharded"];

fn read(model: &str) -> (Checkpoint, File) {
    let text = std::fs::read_to_string(folder(model).join("cases.json")).unwrap();
    (checkpoint(model), serde_json::from_str(&text).unwrap())
}

fn run<B: Backend>(backend: &B, pair: PairRuns) -> PairOutcome {
    let stop = AtomicBool::new(false);
    let limits = Limits {
        top: 10,
        ..limits(&stop)
    };
    let outcome = try_run_within(backend, &[pair], &limits);
    outcome.unwrap().pairs.remove(0)
}

/// Runs of one pair, from the experiment file's own schema.
fn runs(
    checkpoint: &Checkpoint,
    model: &str,
    [base, source]: [&[u32]; 2],
    targets: &[u32],
    runs: Vec<RunText>,
) -> PairRuns {
    let pair = PairText {
        base_ids: Some(base.to_vec()),
        source_ids: Some(source.to_vec()),
        target_ids: targets.to_vec(),
        ..PairText::default()
    };
    let experiment = Experiment {
        pairs: vec![pair],
        runs,
        ..Experiment::default()
    };
    let mut pairs = experiment
        .resolve(checkpoint, &folder(model), SeveralTokens::Refused)
        .unwrap();
    pairs.remove(0)
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
        readouts,
        ..Pair::default()
    }
}

/// Worst |Δ log-probability| over all cases.
fn worst<T: Real>(model: &str) -> Worst {
    let (checkpoint, file) = read(model);
    let cpu = Cpu::<T>::new(&checkpoint);
    let mut worst = Worst::default();
    for clean in &file.clean {
        let pair = Pair {
            base: clean.ids.clone(),
            targets: clean.target_ids.clone(),
            ..Pair::default()
        };
        let runs = [].into();
        let base = &run(&cpu, PairRuns { pair, runs }).base[0];
        worst.note_targets(base, &clean.logprobs, "clean");
        for ((id, logit), (want_id, want)) in base.top.iter().zip(&clean.top) {
            assert_eq!(id, want_id, "{model}: top tokens of {:?}", clean.ids);
            let error = (base.log_probability(*logit) - want.ln()).abs();
            worst.note(error, || "clean top".into());
        }
        assert_eq!(base.top.len(), 10);
    }
    for case in &file.cases {
        let prompts = [&case.base_ids[..], &case.source_ids];
        let text = RunText {
            patches: case.patches.clone(),
            ..RunText::default()
        };
        let of = runs(&checkpoint, model, prompts, &case.target_ids, vec![text]);
        let pair = pair(case);
        let readouts = pair.readouts.clone();
        let read = &run(&cpu, PairRuns { pair, ..of }).runs[0];
        let name = format!("{} (by {})", case.name, case.by);
        let last = At {
            position: case.base_ids.len() - 1,
            logprobs: case.logprobs.clone(),
        };
        for at in case.readouts.iter().chain([&last]) {
            let i = readouts.iter().position(|p| *p == at.position).unwrap();
            worst.note_targets(&read[i], &at.logprobs, &name);
        }
    }
    for chain in &file.chains {
        let prompts = [&chain.base_ids[..], &chain.source_ids];
        let of = runs(
            &checkpoint,
            model,
            prompts,
            &chain.target_ids,
            chain.runs.clone(),
        );
        let read = run(&cpu, of).runs;
        let name = format!("{} (by {})", chain.name, chain.by);
        assert_eq!(read.len(), chain.logprobs.len());
        for (read, want) in read.iter().zip(&chain.logprobs) {
            worst.note_targets(&read[0], want, &name);
        }
    }
    worst
}

#[test]
fn f64_agrees_with_hugging_face_and_pyvene_in_double_precision() {
    for model in MODELS {
        worst::<f64>(model).assert_within(1e-9, model);
    }
}

#[test]
fn f32_is_within_the_gate_of_whole_runs() {
    for model in MODELS {
        worst::<f32>(model).assert_within(1e-5, model);
    }
}

/// Worst error of any clean activation of any site, relative to the largest of its row.
fn worst_activation<T: Real>(model: &str) -> Worst {
    let (checkpoint, file) = read(model);
    let Some(about) = file.activations else {
        return Worst::default();
    };
    let bytes = std::fs::read(folder(model).join(&about.file)).unwrap();
    let wanted = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let layers = checkpoint.config.layers;
    let sites: Vec<(Component, Option<usize>)> = Component::all()
        // made of z where the weights are: tests/engine/heads.rs
        .filter(|c| !c.is_made_of_z())
        .flat_map(|c| {
            if c.is_global() {
                vec![(c, None)]
            } else {
                (0..layers).map(|l| (c, Some(l))).collect()
            }
        })
        .collect();
    let stop = AtomicBool::new(false);
    let kept = activations(
        &Cpu::<T>::new(&checkpoint),
        &about.ids,
        &sites,
        &limits(&stop),
    )
    .unwrap();
    let mut worst = Worst::default();
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
                worst.note(error, || activation.name.clone());
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
        worst_activation::<f64>(model).assert_within(1e-11, &format!("{model}, f64"));
        worst_activation::<f32>(model).assert_within(5e-6, &format!("{model}, f32"));
    }
}
