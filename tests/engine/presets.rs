//! Presets against TransformerLens itself: every `get_act_patch_*` that it has, with its own shapes and axis
//! order (tests/fixtures/make_transformer_lens.py).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::common::fixtures::{Worst, checkpoint, folder};
use crate::common::{PLENTY, run};
use headlight::ask::grid::Grid;
use headlight::ask::preset::Preset;
use headlight::backend::Backend;
use headlight::backend::cpu::{Cpu, Real};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::prompt::position::Spot;
use headlight::results::dense::{Dense, dense};
use headlight::results::metric::Metric;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

/// A batch of pairs.
#[derive(Deserialize)]
struct Case {
    base_ids: Vec<Vec<u32>>,
    source_ids: Vec<Vec<u32>>,
    target_ids: Vec<u32>,
    wrong_target_ids: Vec<Vec<u32>>,
    /// A metric of the clean base and the clean source, the mean over the batch.
    clean: HashMap<String, [f64; 2]>,
    arrays: Vec<Wanted>,
}

/// What a function of TransformerLens's returned of the batch.
#[derive(Deserialize)]
struct Wanted {
    function: String,
    metric: String,
    shape: Vec<usize>,
    values: Vec<f64>,
}

fn cases(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(folder(name).join("transformer_lens.json")).unwrap();
    serde_json::from_str::<File>(&text).unwrap().cases
}

impl Case {
    fn pairs(&self) -> Vec<Pair> {
        let pair = |i: usize| Pair {
            base: self.base_ids[i].clone(),
            source: Some(self.source_ids[i].clone()),
            targets: vec![self.target_ids[i]],
            wrong: self.wrong_target_ids[i].clone(),
            ..Pair::default()
        };
        (0..self.base_ids.len()).map(pair).collect()
    }

    fn functions(&self) -> HashSet<&str> {
        self.arrays.iter().map(|a| &*a.function).collect()
    }

    /// A preset's arrays of the whole batch.
    fn sweep<B: Backend>(&self, backend: &B, preset: &Preset, metrics: &[Metric]) -> Vec<Dense> {
        let grid = Grid::all(preset.sites());
        let (mut pairs, mut cells) = (Vec::new(), Vec::new());
        for pair in self.pairs() {
            let spots = (0..pair.base.len()).map(|p| Spot::same(None, vec![p]));
            let spots: Vec<Spot> = spots.collect();
            let (runs, places) = preset.runs(&grid, backend.config(), &spots).unwrap();
            pairs.push(PairRuns {
                pair,
                runs: runs.into(),
            });
            cells.push(Arc::from(places));
        }
        let outcome = run(backend, &pairs, PLENTY);
        dense(preset, &cells, &pairs, &outcome, metrics)
    }
}

/// The worst error over every value of every array.
fn worst<T: Real>(name: &str) -> Worst {
    let model = checkpoint(name);
    let cpu = Cpu::<T>::new(&model);
    let mut worst = Worst::default();
    for case in cases(name) {
        let pairs = case.base_ids.len();
        for function in case.functions() {
            let preset: Preset = function.parse().unwrap();
            let wanted = case.arrays.iter().filter(|a| a.function == function);
            let wanted: Vec<&Wanted> = wanted.collect();
            let metrics: Vec<Metric> = wanted.iter().map(|a| a.metric.parse().unwrap()).collect();
            assert_eq!(metrics.len(), case.clean.len());
            for (found, wanted) in case.sweep(&cpu, &preset, &metrics).iter().zip(wanted) {
                let at = format!("{function}, {} of {pairs}", wanted.metric);
                assert_eq!(
                    (&found.shape, &found.name),
                    (&wanted.shape, &wanted.metric),
                    "{at}"
                );
                assert_eq!(found.mean.len(), wanted.values.len(), "{at}");
                for (i, (x, y)) in found.mean.iter().zip(&wanted.values).enumerate() {
                    worst.note((x - y).abs(), || format!("{at}, value {i}"));
                }
                let mean = |each: &[f64]| each.iter().sum::<f64>() / pairs as f64;
                let clean = case.clean[&wanted.metric];
                for (each, clean) in [&found.base, &found.source].into_iter().zip(clean) {
                    worst.note((mean(each) - clean).abs(), || format!("{at}, clean"));
                }
            }
        }
    }
    worst
}

#[test]
fn presets_agree_with_transformer_lens() {
    for name in ["tied", "odd_untied"] {
        worst::<f64>(name).assert_within(1e-9, &format!("{name}, f64"));
        worst::<f32>(name).assert_within(1e-5, &format!("{name}, f32"));
    }
}

/// Neither has a sweep that the other lacks.
#[test]
fn presets_are_those_of_transformer_lens() {
    let said = "?".parse::<Preset>().unwrap_err().to_string();
    let known = said.split_once("There are ").unwrap().1;
    let known: HashSet<String> = known
        .trim_end_matches(')')
        .split(", ")
        .map(|name| format!("get_act_patch_{name}"))
        .collect();
    for case in ["tied", "odd_untied"].iter().flat_map(|name| cases(name)) {
        let functions = case.functions();
        assert_eq!(functions, known.iter().map(|name| &**name).collect());
        assert_eq!(functions.len(), 18);
    }
}
