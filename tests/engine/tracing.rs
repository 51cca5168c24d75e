//! Causal tracing against raw hooks, whose corrupted embeddings stand for noise, and with headlight's own
//! noise against runs computed whole.

#![cfg(feature = "cuda")]

use std::collections::HashMap;
use std::sync::Arc;

use crate::common::fixtures::{Worst, checkpoint, folder};
use crate::common::model::model;
use crate::common::reference::Reference;
use crate::common::{PLENTY, run, same};
use crate::emulator::gpu::gpu;
use headlight::backend::cpu::Cpu;
use headlight::backend::{Backend, Precision};
use headlight::patch::{Op, Run, Vector};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::{Component, Site};
use headlight::tracing::runs::{Restored, Traced, Tracing};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    ids: Vec<u32>,
    subject: Vec<usize>,
    target_ids: Vec<u32>,
    windows: HashMap<String, usize>,
    logprobs: Vec<f64>,
    embeddings: Vec<Vec<Vec<f64>>>,
    corrupted: Vec<Vec<f64>>,
    cells: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Wanted {
    component: String,
    layer: usize,
    position: usize,
    logprobs: Vec<Vec<f64>>,
}

/// The worst |Δ log-probability| over every run of the fixture's tracing.
fn worst<B: Backend>(backend: &B, name: &str) -> Worst {
    let text = std::fs::read_to_string(folder(name).join("tracing.json")).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    let mut restored: Vec<Restored> = Vec::new();
    for (component, window) in &file.windows {
        let Site { component, .. } = component.parse().unwrap();
        restored.push(Restored {
            component,
            window: *window,
        });
    }
    let samples = file.embeddings.len();
    let tracing = Tracing {
        restored,
        level: 1.0,
        seed: 0,
        samples: samples as u32,
    };
    tracing.check().unwrap();
    let mut runs = tracing.runs(backend.config(), file.ids.len(), &file.subject);
    let cells: Vec<Traced> = tracing
        .cells(backend.config().layers, file.ids.len())
        .collect();
    assert_eq!(runs.len(), samples * (1 + file.cells.len()));
    for (run, cell) in runs.iter_mut().zip(&cells) {
        let noise = &mut run.patches[0];
        assert!(matches!(noise.op, Op::Noise { .. }) && noise.positions == file.subject);
        noise.op = Op::Set(Vector {
            label: "corrupted".into(),
            values: file.embeddings[cell.sample as usize].concat().into(),
            rows: file.subject.len(),
        });
    }
    let pair = Pair {
        base: file.ids,
        targets: file.target_ids,
        ..Pair::default()
    };
    let runs: Arc<[Run]> = runs.into();
    let outcome = run(backend, &[PairRuns { pair, runs }], PLENTY);
    let mut worst = Worst::default();
    let read = &outcome.pairs[0];
    worst.note_targets(&read.base[0], &file.logprobs, "clean");
    for (cell, readouts) in cells.iter().zip(&read.runs) {
        let sample = cell.sample as usize;
        let Some((component, layer, position)) = cell.restored else {
            worst.note_targets(&readouts[0], &file.corrupted[sample], "corrupted");
            continue;
        };
        let component = tracing.restored[component].component.name();
        let mut wanted = file.cells.iter();
        let wanted =
            wanted.find(|w| (&*w.component, w.layer, w.position) == (component, layer, position));
        let at = format!("{component}.{layer}@{position}, sample {sample}");
        worst.note_targets(&readouts[0], &wanted.unwrap().logprobs[sample], &at);
    }
    worst
}

#[test]
fn restored_states_agree_with_hooks() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        let off = worst(&Cpu::<f64>::new(&model), name);
        off.assert_within(1e-9, &format!("{name}, f64"));
        let off = worst(&Cpu::<f32>::new(&model), name);
        off.assert_within(1e-5, &format!("{name}, f32"));
    }
}

#[test]
fn the_device_agrees_with_hooks() {
    let gpu = gpu();
    let model = checkpoint("odd_untied");
    let off = worst(&gpu.cuda(&model, Precision::F32), "odd_untied");
    off.assert_within(1e-5, &gpu.device.name);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Corrupted and restored, every run is the run computed whole, bit for bit, and a level of nothing
    /// is the clean run.
    #[test]
    fn a_tracing_is_its_runs_computed_whole(
        spec in model(),
        ids in proptest::collection::vec(any::<u32>(), 2..7),
        (first, length) in (0usize..7, 1usize..4),
        windows in (1usize..4, 1usize..12),
        (seed, quiet) in (any::<u64>(), proptest::bool::weighted(0.2)),
    ) {
        let model = spec.open();
        let cpu = Cpu::<f32>::new(&model);
        let base: Vec<u32> = ids.iter().map(|id| id % spec.vocab as u32).collect();
        let first = first % base.len();
        let subject: Vec<usize> = (first..base.len().min(first + length)).collect();
        let restored = [(Component::BlockOutput, windows.0), (Component::MlpOutput, windows.1), (Component::AttentionOutput, windows.1)];
        let tracing = Tracing {
            restored: restored.map(|(component, window)| Restored { component, window }).to_vec(),
            level: if quiet { 0.0 } else { 1.5 },
            seed,
            samples: 2,
        };
        let pair = Pair { base, targets: vec![0, 1], ..Pair::default() };
        let runs: Arc<[Run]> = tracing.runs(cpu.config(), pair.base.len(), &subject).into();
        let pairs = [PairRuns { pair: pair.clone(), runs: runs.clone() }];
        let outcome = run(&cpu, &pairs, PLENTY);
        let mut reference = Reference::new(&cpu, &pair);
        for (i, run) in runs.iter().enumerate() {
            let whole = reference.run(run);
            prop_assert!(same(&outcome.pairs[0].runs[i], &whole), "run {i}: {run:?}");
            if quiet {
                prop_assert!(same(&outcome.pairs[0].runs[i], &outcome.pairs[0].base));
            }
        }
        if quiet {
            prop_assert_eq!(outcome.plan.copied, runs.len());
        }
    }
}
