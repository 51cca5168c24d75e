//! The oracles' own cases (tests/fixtures) as experiment files: every component under every operator, in
//! every basis, and every way of runs to read prompts and one another.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Experiments of a model by file name, as they are to stand in its folder.
pub fn of(fixtures: &Path, model: &str) -> Vec<(&'static str, String)> {
    let read = |path: &Path| -> Option<Value> {
        let text = fs::read_to_string(path).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    };
    let folder = fixtures.join(model);
    let mut files = Vec::new();
    if let Some(file) = read(&folder.join("cases.json")) {
        files.push(("cases.json", cases(list(&file["cases"]))));
        files.push(("chains.json", experiment(list(&file["chains"]), |_| {})));
    }
    if let Some(file) = read(&folder.join("wiring.json")) {
        files.push(("wiring.json", experiment(list(&file), |_| {})));
    }
    if let Some(file) = read(&fixtures.join(format!("bases/{model}.json"))) {
        let of_all = |case: &Value| {
            let mut case = case.clone();
            for key in ["base_ids", "source_ids", "target_ids"] {
                case[key] = file[key].clone();
            }
            case
        };
        let all: Vec<Value> = list(&file["cases"]).iter().map(of_all).collect();
        let beside = |patch: &mut Value| {
            for key in ["basis", "value"] {
                let Some(name) = patch[key].as_str() else {
                    continue;
                };
                patch[key] = format!("../bases/{name}").into();
            }
        };
        files.push(("bases.json", experiment(&all, beside)));
    }
    files
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// Cases of one run; those of one pair of prompts and targets share it.
fn cases(all: &[Value]) -> String {
    experiment(all, |_| {})
}

/// One experiment of many, each with a pair of its own, which those of equal prompts and targets share.
fn experiment(all: &[Value], alter: impl Fn(&mut Value)) -> String {
    let (mut pairs, mut runs): (Vec<Value>, Vec<Value>) = Default::default();
    let mut alone = BTreeSet::new();
    for case in all {
        let mut prompts = match case.get("prompts") {
            Some(prompts) => prompts.clone(),
            None => json!({"base": case["base_ids"], "source": case["source_ids"]}),
        };
        let mut take = |name: &str| prompts.as_object_mut().unwrap().remove(name);
        let mut pair = json!({"base_ids": take("base"), "target_ids": case["target_ids"]});
        if let Some(source) = take("source") {
            pair["source_ids"] = source;
        }
        pair["prompts"] = prompts;
        // runs are read by name, which must be theirs alone among those of a pair
        let shared = case.get("runs").is_none();
        let same = |i: &usize| shared && pairs[*i] == pair && !alone.contains(i);
        let at = (0..pairs.len()).find(same).unwrap_or(pairs.len());
        if at == pairs.len() {
            pairs.push(pair);
        }
        if !shared {
            alone.insert(at);
        }
        let own = json!([{"name": case["name"], "patches": case["patches"]}]);
        for run in list(case.get("runs").unwrap_or(&own)) {
            let mut run = run.clone();
            run["pairs"] = json!([at]);
            run["patches"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(&alter);
            runs.push(run);
        }
    }
    json!({"pair": pairs, "run": runs}).to_string()
}
