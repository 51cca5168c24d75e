//! Circuits run alone against hooks in PyTorch (tests/fixtures/make_gradients.py), and their laws: the whole
//! graph is the clean run and the empty one the source's, bit for bit, alone or in one batch.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use headlight::backend::cpu::Cpu;
use headlight::backend::{Backend, Readout};
use headlight::circuit::Circuit;
use headlight::circuit::acdc::search;
use headlight::circuit::contributions::mean_contributions;
use headlight::circuit::evaluate::{Ablation, EvaluateError, Instead, PreparedPair, evaluate};
use headlight::circuit::json;
use headlight::circuit::select::{Selection, Worth};
use headlight::execute::Limits;
use headlight::model::{Checkpoint, Config};
use headlight::prompt::pair::Pair;
use headlight::results::metric::{Metric, RunReadouts};
use proptest::prelude::*;
use serde::Deserialize;

use crate::common::fixtures::{checkpoint, folder};
use crate::common::model::generic_model;
use crate::common::{PLENTY, Random, bits, cases, limits, run_pair};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    target_ids: Vec<u32>,
    wrong_ids: Vec<u32>,
    metric: String,
    circuits: Vec<Evaluated>,
}

#[derive(Deserialize)]
struct Evaluated {
    edges: Vec<String>,
    ablation: String,
    value: f64,
}

fn circuit(model: &Checkpoint, names: &[String]) -> Circuit {
    let mut circuit = Circuit::new(&model.config, &HashMap::new());
    for (edge, kept) in circuit.edges.iter().zip(&mut circuit.kept) {
        *kept = names.contains(&edge.to_string());
    }
    assert_eq!(circuit.count(), names.len());
    circuit
}

fn run<B: Backend>(
    backend: &B,
    model: &Checkpoint,
    pair: &Pair,
    circuits: &[&Circuit],
    ablation: Ablation,
    memory: u64,
) -> Vec<Readout> {
    let stop = AtomicBool::new(false);
    let limits = Limits {
        memory,
        ..limits(&stop)
    };
    let by_position = ablation == Ablation::MeanByPosition;
    let means = mean_contributions(backend, model, &[pair], by_position, &limits).unwrap();
    let instead = match ablation {
        Ablation::Patch => Instead::Source,
        Ablation::Zero => Instead::Nothing,
        Ablation::Mean | Ablation::MeanByPosition => Instead::Means(&means),
    };
    evaluate(backend, model, (0, pair), circuits, instead, &limits).unwrap()
}

#[test]
fn circuits_agree_with_hooks() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        let cpu = Cpu::<f64>::new(&model);
        let text = std::fs::read_to_string(folder(name).join("circuits.json")).unwrap();
        let file: File = serde_json::from_str(&text).unwrap();
        for case in file.cases {
            let pair = Pair {
                base: case.base_ids,
                source: Some(case.source_ids),
                targets: case.target_ids,
                wrong: case.wrong_ids,
                ..Pair::default()
            };
            let metric: Metric = case.metric.parse().unwrap();
            let mut values = Vec::new();
            for wanted in &case.circuits {
                let circuit = circuit(&model, &wanted.edges);
                let ablation: Ablation = wanted.ablation.parse().unwrap();
                let read = run(&cpu, &model, &pair, &[&circuit], ablation, PLENTY);
                let reading = RunReadouts {
                    pair: &pair,
                    base: &read[0],
                    source: None,
                    run: &read[0],
                };
                let got = metric.of(&reading, 0);
                let off = (got - wanted.value).abs();
                let size = wanted.value.abs().max(1.0);
                assert!(
                    off <= 1e-9 * size,
                    "{name}, {ablation}: {got} {}",
                    wanted.value
                );
                values.push(wanted.value.to_bits());
            }
            values.sort_unstable();
            values.dedup();
            assert!(values.len() > 20, "the fixture's circuits differ");
        }
    }
}

#[derive(Deserialize)]
struct AcdcFile {
    cases: Vec<AcdcCase>,
}

#[derive(Deserialize)]
struct AcdcCase {
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    target_ids: Vec<u32>,
    wrong_ids: Vec<u32>,
    metric: String,
    circuits: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    threshold: f64,
    tried: usize,
    edges: Vec<String>,
}

/// One run after the other by hooks (tests/fixtures/make_circuits.py); here in batches.
#[test]
fn acdc_finds_what_one_run_after_the_other_finds() {
    for name in ["tied", "odd_untied"] {
        let model = checkpoint(name);
        let cpu = Cpu::<f64>::new(&model);
        let text = std::fs::read_to_string(folder(name).join("acdc.json")).unwrap();
        let file: AcdcFile = serde_json::from_str(&text).unwrap();
        for case in file.cases {
            let pair = Pair {
                base: case.base_ids,
                source: Some(case.source_ids),
                targets: case.target_ids,
                wrong: case.wrong_ids,
                ..Pair::default()
            };
            let metric: Metric = case.metric.parse().unwrap();
            let base = run_pair(&cpu, &pair, Vec::new()).base;
            let stop = AtomicBool::new(false);
            let limits = limits(&stop);
            let prepared =
                PreparedPair::new(&cpu, &model, (0, &pair), Instead::Source, &limits).unwrap();
            let measure = |circuits: &[&Circuit]| -> Result<Vec<f64>, EvaluateError> {
                let read = prepared.run(&cpu, &model, circuits, &limits)?;
                let of = |run| {
                    let reading = RunReadouts {
                        pair: &pair,
                        base: &base[0],
                        source: None,
                        run,
                    };
                    metric.of(&reading, 0)
                };
                Ok(read.iter().map(of).collect())
            };
            let mut all = Circuit::new(&model.config, &HashMap::new());
            all.kept.fill(true);
            let whole = measure(&[&all]).unwrap()[0];
            for wanted in &case.circuits {
                let of = (wanted.threshold, whole);
                let (found, searched) = search(&model.config, of, measure, |_| ()).unwrap();
                let mut names: Vec<String> = found.kept().map(|e| e.to_string()).collect();
                let mut edges = wanted.edges.clone();
                names.sort_unstable();
                edges.sort_unstable();
                assert_eq!(names, edges, "{name}, {metric}, {}", wanted.threshold);
                assert_eq!(searched.tried, wanted.tried, "{name}, {metric}");
            }
        }
    }
}

#[derive(Deserialize)]
struct Chosen {
    graph: serde_json::Value,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    how: String,
    n: f64,
    absolute: bool,
    edges: Vec<String>,
}

/// EAP-IG's own algorithms over its own JSON (tests/fixtures/make_circuits.py).
#[test]
fn choices_are_those_of_eap_ig() {
    let text = std::fs::read_to_string(folder("choices.json")).unwrap();
    let cases: Vec<Chosen> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 6);
    let here = tempfile::tempdir().unwrap();
    for case in cases {
        let of = |name: &str| case.graph["cfg"][name].as_u64().unwrap() as usize;
        let (layers, heads) = (of("n_layers"), of("n_heads"));
        let config = serde_json::json!({
            "model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": 4 * heads,
            "vocab_size": 9, "n_positions": 8,
        });
        let config = Config::from_json(config.to_string().as_bytes(), "config.json").unwrap();
        let path = here.path().join("graph.json");
        std::fs::write(&path, case.graph.to_string()).unwrap();
        let mut circuit = json::read(&path, &config).unwrap();
        assert_eq!(
            circuit.edges.len(),
            case.graph["edges"].as_object().unwrap().len()
        );
        for choice in &case.choices {
            let how = match &*choice.how {
                "greedy" => Selection::Greedy(choice.n as usize),
                "top_n" => Selection::Top(choice.n as usize),
                _ => Selection::Threshold(choice.n),
            };
            let worth = match choice.absolute {
                true => Worth::Size,
                false => Worth::Signed,
            };
            circuit.choose(how, worth);
            let mut names: Vec<String> = circuit.kept().map(|e| e.to_string()).collect();
            let mut edges = choice.edges.clone();
            names.sort_unstable();
            edges.sort_unstable();
            assert_eq!(names, edges, "{layers}, {how:?}, {worth:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    /// The whole graph is the clean base, whatever the ablation, and the empty one the clean source; and a
    /// circuit is the same alone, among others, and with little memory.
    #[test]
    fn extremes_are_clean_runs_and_batches_change_no_bit(spec in generic_model(), seed: u64) {
        let model = spec.open();
        let cpu = Cpu::<f32>::new(&model);
        let random = &mut Random(seed);
        let length = 1 + random.below(6);
        let mut ids = || -> Vec<u32> { (0..length).map(|_| random.below(spec.vocab) as u32).collect() };
        let pair = Pair {
            base: ids(),
            source: Some(ids()),
            targets: vec![0, 1],
            ..Pair::default()
        };
        let clean = run_pair(&cpu, &pair, Vec::new());
        let mut all = Vec::new();
        for fraction in [0, 3, 5, 7, 10] {
            let mut circuit = Circuit::new(&model.config, &HashMap::new());
            circuit.kept.iter_mut().for_each(|kept| *kept = random.below(10) < fraction);
            all.push(circuit);
        }
        let all: Vec<&Circuit> = all.iter().collect();
        let plain = |mut readout: Readout| {
            // what is compared with nothing has no divergence, and ranks are not read
            (readout.kl, readout.ranks, readout.top) = (0.0, Vec::new(), Vec::new());
            bits(&readout)
        };
        for ablation in [Ablation::Patch, Ablation::Zero, Ablation::Mean, Ablation::MeanByPosition] {
            let together = run(&cpu, &model, &pair, &all, ablation, PLENTY);
            prop_assert_eq!(plain(together[4].clone()), plain(clean.base[0].clone()));
            if ablation == Ablation::Patch {
                let source = clean.source.clone().unwrap();
                prop_assert_eq!(plain(together[0].clone()), plain(source));
            }
            let cut = run(&cpu, &model, &pair, &all, ablation, 300_000 + 2 * (spec.width() as u64) * 80_000);
            for (i, circuit) in all.iter().enumerate() {
                let alone = run(&cpu, &model, &pair, &[circuit], ablation, PLENTY);
                prop_assert_eq!(bits(&alone[0]), bits(&together[i]), "{}", i);
                prop_assert_eq!(bits(&alone[0]), bits(&cut[i]), "{}", i);
            }
        }
    }

    /// What pruning drops changes nothing: nobody sees it.
    #[test]
    fn what_is_pruned_changes_nothing(spec in generic_model(), seed: u64) {
        let model = spec.open();
        let cpu = Cpu::<f64>::new(&model);
        let random = &mut Random(seed);
        let mut ids = || -> Vec<u32> { (0..4).map(|_| random.below(spec.vocab) as u32).collect() };
        let pair = Pair {
            base: ids(),
            source: Some(ids()),
            targets: vec![0],
            ..Pair::default()
        };
        let mut circuit = Circuit::new(&model.config, &HashMap::new());
        circuit.scores.iter_mut().for_each(|score| *score = random.normal());
        circuit.kept.iter_mut().for_each(|kept| *kept = random.below(10) < 3);
        let mut pruned = circuit.clone();
        pruned.prune();
        let read = run(&cpu, &model, &pair, &[&circuit, &pruned], Ablation::Patch, PLENTY);
        let [a, b] = &read[..] else { panic!("two") };
        let off = (a.logits[0] - a.log_sum_exp - b.logits[0] + b.log_sum_exp).abs();
        prop_assert!(off < 1e-9, "{off:e}");
        let count = circuit.edges.len() / 3;
        circuit.choose(Selection::Greedy(count), Worth::Size);
        prop_assert!(circuit.count() <= count);
        let kept = circuit.kept.clone();
        circuit.prune();
        prop_assert_eq!(kept, circuit.kept);
    }
}
