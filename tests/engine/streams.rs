//! What pyvene's own tests ask of GPT-2's streams: ten random examples, every logit of every
//! position, to pyvene's own tolerances. `tests/fixtures/streams` holds pyvene's numbers.

#![cfg(feature = "cuda")]

use std::path::{Path, PathBuf};

use crate::common::{PLENTY, TOP, run};
use crate::emulator::gpu::gpu;
use headlight::ask::experiment::{Experiment, PairText, PatchText, RunText};
use headlight::backend::cpu::Cpu;
use headlight::backend::{Backend, Precision, Readout};
use headlight::model::{Checkpoint, SeveralTokens};
use headlight::prompt::pair::PairRuns;
use safetensors::SafeTensors;
use serde::Deserialize;

/// One patch, in a batch of examples.
#[derive(Deserialize)]
struct Case {
    patch: PatchText,
    base_ids: Vec<Vec<u32>>,
    source_ids: Vec<Vec<u32>>,
    /// The tensor with the patched logits, [examples, positions, vocabulary], F64.
    logits: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/streams")
}

fn pairs(case: &Case, checkpoint: &Checkpoint) -> Vec<PairRuns> {
    let ids = case.base_ids.iter().zip(&case.source_ids);
    let pair = |(base, source): (&Vec<u32>, &Vec<u32>)| PairText {
        base_ids: Some(base.clone()),
        source_ids: Some(source.clone()),
        target_ids: (0..checkpoint.config.vocab as u32).collect(),
        ..PairText::default()
    };
    let experiment = Experiment {
        pairs: ids.map(pair).collect(),
        runs: vec![RunText {
            patches: vec![case.patch.clone()],
            ..RunText::default()
        }],
        ..Experiment::default()
    };
    let mut pairs = experiment
        .resolve(checkpoint, &folder(), SeveralTokens::Refused)
        .unwrap();
    for PairRuns { pair, .. } in &mut pairs {
        pair.readouts = (0..pair.base.len()).collect();
    }
    pairs
}

/// Compares every logit; `close` says whether one is near enough.
fn agrees<B: Backend>(backend: &B, checkpoint: &Checkpoint, close: impl Fn(f64, f64) -> bool) {
    let cases = std::fs::read(folder().join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
    let bytes = std::fs::read(folder().join("logits.safetensors")).unwrap();
    let logits = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!((cases.len(), logits.names().len()), (23, 23));
    let batches: Vec<Vec<PairRuns>> = cases.iter().map(|c| pairs(c, checkpoint)).collect();
    let outcome = run(backend, &batches.concat(), PLENTY);
    let mut got = outcome.pairs.iter();
    for case in &cases {
        let tensor = logits.tensor(&case.logits).unwrap();
        let (want, _) = tensor.data().as_chunks::<8>();
        let mut want = want.iter().map(|b| f64::from_le_bytes(*b));
        assert_eq!(
            tensor.shape(),
            [
                case.base_ids.len(),
                case.base_ids[0].len(),
                checkpoint.config.vocab
            ]
        );
        for pair in got.by_ref().take(case.base_ids.len()) {
            assert_eq!(pair.runs[0].len(), case.base_ids[0].len());
            for (position, readout) in pair.runs[0].iter().enumerate() {
                let place = (&case.patch.component, position);
                let want: Vec<f64> = want.by_ref().take(readout.logits.len()).collect();
                for (got, want) in readout.logits.iter().zip(&want) {
                    assert!(close(*got, *want), "{place:?}: {got}, not {want}");
                }
                says_the_same(readout, &want, &close);
            }
        }
        assert!(want.next().is_none());
    }
}

/// What the model says after a patch: pyvene's most probable tokens, where rounding does not decide between two.
fn says_the_same(readout: &Readout, want: &[f64], close: impl Fn(f64, f64) -> bool) {
    let mut order: Vec<usize> = (0..want.len()).collect();
    order.sort_by(|a, b| want[*b].total_cmp(&want[*a]).then(a.cmp(b)));
    assert_eq!(readout.top.len(), TOP);
    for (i, (id, logit)) in readout.top.iter().enumerate() {
        let wanted = want[order[i]];
        assert!(close(*logit, wanted), "{i}: {logit}, not {wanted}");
        let others = order[..=TOP]
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != i);
        let apart = others
            .map(|(_, other)| (want[*other] - wanted).abs())
            .fold(f64::MAX, f64::min);
        if apart > 1e-4 {
            assert_eq!(*id as usize, order[i]);
        }
    }
}

/// torch.allclose(…, rtol=1e-05, atol=1e-06), as pyvene's tests have it.
fn as_pyvene_asks(got: f64, want: f64) -> bool {
    (got - want).abs() <= 1e-6 + 1e-5 * want.abs()
}

#[test]
fn streams_in_f32_are_as_near_as_pyvenes_tests_ask() {
    let checkpoint = Checkpoint::open(&folder()).unwrap();
    agrees(&Cpu::<f32>::new(&checkpoint), &checkpoint, as_pyvene_asks);
}

#[test]
fn streams_in_f64_are_pyvenes() {
    let checkpoint = Checkpoint::open(&folder()).unwrap();
    agrees(&Cpu::<f64>::new(&checkpoint), &checkpoint, |got, want| {
        (got - want).abs() <= 1e-9
    });
}

#[test]
fn streams_on_the_device_are_as_near_as_pyvenes_tests_ask() {
    let gpu = gpu();
    let checkpoint = Checkpoint::open(&folder()).unwrap();
    agrees(
        &gpu.cuda(&checkpoint, Precision::F32),
        &checkpoint,
        as_pyvene_asks,
    );
}
