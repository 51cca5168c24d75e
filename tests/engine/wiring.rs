//! Runs that read several prompts and one another, that collect and that skip: parity with pyvene's
//! parallel and serial modes and with raw hooks.
//!
//! `tests/fixtures/*/wiring.json` holds what they computed in double precision; see the README
//! there. Every case is an experiment of one pair, in the experiment file's own schema.

#![cfg(feature = "cuda")]

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::fixtures::{Worst, checkpoint, folder};
use crate::common::runs::{interchange, run_of};
use crate::common::{PLENTY, bits, run, try_run};
use crate::emulator::gpu::gpu;
use headlight::ask::experiment::{Experiment, PairText, RunText};
use headlight::backend::cpu::{Cpu, Real};
use headlight::backend::{Backend, Precision, Readout};
use headlight::execute::{Outcome, PairOutcome, plan};
use headlight::model::{Checkpoint, SeveralTokens};
use headlight::patch::Op;
use headlight::prompt::pair::{Pair, PairRuns, PromptText};
use headlight::site::Component;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    by: String,
    runs: Vec<RunText>,
    prompts: BTreeMap<String, Vec<u32>>,
    target_ids: Vec<u32>,
    /// Of each run that has rows, in order.
    logprobs: Vec<Vec<f64>>,
    collected: Vec<Collected>,
}

#[derive(Deserialize)]
struct Collected {
    run: usize,
    patch: usize,
    shape: Vec<usize>,
    /// Row-major; a masked score, −∞, is null.
    values: Vec<Option<f64>>,
}

const MODELS: [&str; 3] = ["tied", "odd_untied", "bare_bf16"];

fn read(model: &str) -> (Checkpoint, Vec<Case>) {
    let text = std::fs::read_to_string(folder(model).join("wiring.json")).unwrap();
    (checkpoint(model), serde_json::from_str(&text).unwrap())
}

fn resolve(case: &Case, checkpoint: &Checkpoint) -> PairRuns {
    let mut prompt_ids = case.prompts.clone();
    let pair = PairText {
        base_ids: prompt_ids.remove("base"),
        source_ids: prompt_ids.remove("source"),
        prompts: prompt_ids
            .into_iter()
            .map(|(name, ids)| (name, PromptText::Ids(ids)))
            .collect(),
        target_ids: case.target_ids.clone(),
        ..PairText::default()
    };
    let experiment = Experiment {
        pairs: vec![pair],
        runs: case.runs.clone(),
        ..Experiment::default()
    };
    let pairs = experiment.resolve(checkpoint, Path::new(""), SeveralTokens::Refused);
    pairs
        .unwrap_or_else(|e| panic!("{}: {e}", case.name))
        .remove(0)
}

/// The worst errors of a model's cases.
#[derive(Default)]
struct Errors {
    /// |Δ log-probability|
    answer: Worst,
    /// |Δ| of a collected value, relative to the largest of its row.
    collected: Worst,
}

impl Errors {
    fn compare(&mut self, case: &Case, pair: &PairRuns, got: &PairOutcome) {
        let at = format!("{} (by {})", case.name, case.by);
        let read = got.runs.iter().zip(pair.runs.iter());
        let read: Vec<_> = read.filter(|(_, run)| !run.step).collect();
        assert_eq!(read.len(), case.logprobs.len(), "{at}");
        for ((readouts, _), want) in read.iter().zip(&case.logprobs) {
            assert_eq!(readouts.len(), 1);
            self.answer.note_targets(&readouts[0], want, &at);
        }
        let places = |run: usize, patch: usize, shape: &[usize]| (run, patch, shape.to_vec());
        let found: Vec<_> = got
            .collected
            .iter()
            .map(|c| places(c.run, c.patch, &c.shape))
            .collect();
        let wanted: Vec<_> = case
            .collected
            .iter()
            .map(|c| places(c.run, c.patch, &c.shape))
            .collect();
        assert_eq!(found, wanted, "{at}");
        for (got, want) in got.collected.iter().zip(&case.collected) {
            assert_eq!(got.values.len(), want.values.len(), "{at}");
            let width = *want.shape.last().unwrap();
            for (got, want) in got.values.chunks(width).zip(want.values.chunks(width)) {
                let size = want.iter().flatten().fold(1e-3f64, |m, x| m.max(x.abs()));
                for (got, want) in got.iter().zip(want) {
                    let error = match want {
                        Some(want) => (got - want).abs() / size,
                        None if *got == f64::NEG_INFINITY => 0.0,
                        None => f64::INFINITY,
                    };
                    self.collected.note(error, || at.clone());
                }
            }
        }
    }

    fn assert_within(&self, who: &str, answer: f64, collected: f64) {
        self.answer.assert_within(answer, who);
        self.collected
            .assert_within(collected, &format!("{who}, collected"));
    }
}

/// Runs every case by itself; planned operations are those executed, and within the bound.
fn each<B: Backend>(backend: &B, pairs: &[PairRuns], memory: u64) -> Vec<Outcome> {
    let alone = |pair: &PairRuns| {
        let pairs = std::slice::from_ref(pair);
        let bound = plan(backend, pairs);
        let outcome = run(backend, pairs, memory);
        assert!(
            bound.runs.total() >= outcome.plan.runs.total(),
            "{bound:?} {:?}",
            outcome.plan
        );
        assert_eq!(
            (bound.clean, bound.count),
            (outcome.plan.clean, outcome.plan.count)
        );
        outcome
    };
    pairs.iter().map(alone).collect()
}

fn agrees<T: Real>(who: &str, answer: f64, collected: f64) {
    for model in MODELS {
        let (checkpoint, cases) = read(model);
        let pairs: Vec<PairRuns> = cases.iter().map(|c| resolve(c, &checkpoint)).collect();
        let outcomes = each(&Cpu::<T>::new(&checkpoint), &pairs, PLENTY);
        let mut worst = Errors::default();
        for ((case, pair), outcome) in cases.iter().zip(&pairs).zip(&outcomes) {
            worst.compare(case, pair, &outcome.pairs[0]);
        }
        worst.assert_within(&format!("{model}, {who}"), answer, collected);
    }
}

#[test]
fn f64_agrees_with_pyvene_and_hooks() {
    agrees::<f64>("f64", 1e-9, 1e-11);
}

#[test]
fn f32_agrees_with_pyvene_and_hooks() {
    agrees::<f32>("f32", 1e-5, 5e-6);
}

/// Bits of everything that was read and collected of a pair.
fn everything(pair: &PairOutcome) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
    let readouts = pair
        .runs
        .iter()
        .flatten()
        .chain(&pair.base)
        .chain(&pair.source);
    let collected = pair.collected.iter().map(|c| &c.values);
    (
        readouts.map(bits).collect(),
        collected
            .map(|c| c.iter().map(|x| x.to_bits()).collect())
            .collect(),
    )
}

/// Steps of many pairs share matrices, and are run again where memory holds few of them.
#[test]
fn what_a_run_reads_of_others_does_not_depend_on_who_stands_beside_it() {
    for model in MODELS {
        let (checkpoint, cases) = read(model);
        let pairs: Vec<PairRuns> = cases.iter().map(|c| resolve(c, &checkpoint)).collect();
        let cpu = Cpu::<f32>::new(&checkpoint);
        let alone = each(&cpu, &pairs, PLENTY);
        for memory in [PLENTY, 1 << 19] {
            let together = run(&cpu, &pairs, memory);
            for ((case, alone), together) in cases.iter().zip(&alone).zip(&together.pairs) {
                assert_eq!(
                    everything(&alone.pairs[0]),
                    everything(together),
                    "{model}: {}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn the_device_agrees_with_pyvene_and_hooks() {
    let gpu = gpu();
    for model in MODELS {
        let (checkpoint, cases) = read(model);
        let pairs: Vec<PairRuns> = cases.iter().map(|c| resolve(c, &checkpoint)).collect();
        let outcome = run(&gpu.cuda(&checkpoint, Precision::F32), &pairs, PLENTY);
        let mut worst = Errors::default();
        for ((case, pair), outcome) in cases.iter().zip(&pairs).zip(&outcome.pairs) {
            worst.compare(case, pair, outcome);
        }
        worst.assert_within(&format!("{model}, {}", gpu.device.name), 1e-5, 5e-6);
    }
}

/// What is read out early is the same whether or not the rest of the base is, however far others read.
#[test]
fn steps_reach_beyond_the_last_readout() {
    for model in MODELS {
        let (checkpoint, cases) = read(model);
        let cpu = Cpu::<f32>::new(&checkpoint);
        let read_out = |case: &Case, positions: &[usize]| {
            let mut pair = resolve(case, &checkpoint);
            pair.pair.readouts = positions.to_vec();
            run(&cpu, &[pair], PLENTY).pairs.remove(0)
        };
        for case in &cases {
            let (early, both) = (read_out(case, &[2]), read_out(case, &[2, 5]));
            for (early, both) in early.runs.iter().zip(&both.runs) {
                let at_2 = |run: &[Readout]| run.first().map(bits);
                assert_eq!(at_2(early), at_2(both), "{model}: {}", case.name);
            }
            assert_eq!(early.collected, both.collected, "{model}: {}", case.name);
        }
    }
}

/// In 16 bits what the MLP reads has another type than what it gives.
#[test]
fn the_mlp_is_not_skipped_in_sixteen_bits() {
    let gpu = gpu();
    let checkpoint = checkpoint("tied");
    let skip = |component, precision| {
        let patch = interchange(component, 1, &[], [2]).with_op(Op::Skip);
        let pair = Pair {
            base: vec![1, 2, 3],
            source: Some(vec![4, 5, 6]),
            targets: vec![7],
            ..Pair::default()
        };
        let runs = [run_of(vec![patch])].into();
        let pairs = [PairRuns { pair, runs }];
        try_run(&gpu.cuda(&checkpoint, precision), &pairs, PLENTY)
    };
    for precision in [Precision::Bf16, Precision::F16] {
        let error = skip(Component::MlpOutput, precision).unwrap_err();
        assert!(error.to_string().contains("use f32 or tf32"), "{error}");
        skip(Component::BlockOutput, precision).unwrap();
        skip(Component::MlpActivation, precision).unwrap();
    }
    skip(Component::MlpOutput, Precision::Tf32).unwrap();
}
