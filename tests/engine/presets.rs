//! Presets against TransformerLens itself: every `get_act_patch_*` that it has, with its own shapes and axis
//! order (tests/fixtures/make_transformer_lens.py).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::common::fixtures::{Worst, checkpoint, folder};
use headlight::ask::grid::Grid;
use headlight::ask::preset::Preset;
use headlight::backend::Precision;
use headlight::engine::{DeviceWish, Engine, Pairs, Sweep, Where};
use headlight::prompt::pair::Pair;
use headlight::results::array::Array;
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
    fn sweep(&self, engine: &Engine, preset: Preset, metrics: &[Metric]) -> Vec<(String, Array)> {
        let sweep = Sweep {
            grid: Grid::all(preset.sites()),
            keys: None,
            preset: Some(preset),
            places: Where::All,
        };
        let question = engine.sweep(&sweep, Pairs::Listed(self.pairs())).unwrap();
        let question = question.metrics(metrics).unwrap();
        let axes = question.axes().unwrap().unwrap();
        let mut values = question.values(&axes, Path::new("arrays.npz"));
        question.answer(&mut [&mut values], &|_| ()).unwrap();
        values.finish().unwrap()
    }
}

/// The shape and the doubles of an array.
fn floats<'a>(arrays: &'a [(String, Array)], name: &str) -> (&'a [usize], &'a [f64]) {
    let (_, array) = arrays.iter().find(|(n, _)| n == name).unwrap();
    match array {
        Array::Floats(shape, values) => (shape, values),
        other => panic!("{name} is {other:?}"),
    }
}

/// The worst error over every value of every array.
fn worst(name: &str, precision: Precision) -> Worst {
    let engine = Engine::of(checkpoint(name)).device(DeviceWish::Cpu);
    let engine = engine.precision(precision).build().unwrap();
    let mut worst = Worst::default();
    for case in cases(name) {
        let pairs = case.base_ids.len();
        for function in case.functions() {
            let preset: Preset = function.parse().unwrap();
            let wanted = case.arrays.iter().filter(|a| a.function == function);
            let wanted: Vec<&Wanted> = wanted.collect();
            let metrics: Vec<Metric> = wanted.iter().map(|a| a.metric.parse().unwrap()).collect();
            assert_eq!(metrics.len(), case.clean.len());
            let found = case.sweep(&engine, preset, &metrics);
            for wanted in wanted {
                let name = &wanted.metric;
                let at = format!("{function}, {name} of {pairs}");
                let (shape, means) = floats(&found, name);
                assert_eq!(shape, wanted.shape, "{at}");
                assert_eq!(means.len(), wanted.values.len(), "{at}");
                for (i, (x, y)) in means.iter().zip(&wanted.values).enumerate() {
                    worst.note((x - y).abs(), || format!("{at}, value {i}"));
                }
                let mean = |each: &[f64]| each.iter().sum::<f64>() / pairs as f64;
                let clean = ["base", "source"].into_iter().zip(case.clean[name]);
                for (prompt, clean) in clean {
                    let (_, each) = floats(&found, &format!("{name}_{prompt}"));
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
        worst(name, Precision::F64).assert_within(1e-9, &format!("{name}, f64"));
        worst(name, Precision::F32).assert_within(1e-5, &format!("{name}, f32"));
    }
}

/// Neither has a sweep that the other lacks.
#[test]
fn presets_are_those_of_transformer_lens() {
    let said = "?".parse::<Preset>().unwrap_err().to_string();
    let known = said.split_once("use one of ").unwrap().1;
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
