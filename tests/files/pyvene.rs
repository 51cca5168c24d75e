//! What pyvene saved becomes an experiment that says the same.
//!
//! `tests/fixtures/pyvene` holds saves of every kind of intervention, the parameters that torch makes of
//! them and what the whole intervened model computes, in double precision (`make_pyvene_saves.py`).

#![cfg(feature = "cuda")]

mod configurations;
mod documented;
mod foreign;
mod removed;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::emulator;
use crate::lab::{Lab, fixture};
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

/// A save, and what the model with it computes.
#[derive(Deserialize)]
struct Case {
    name: String,
    mode: String,
    base_ids: Vec<u32>,
    source_ids: Vec<Vec<u32>>,
    target_ids: Vec<u32>,
    positions: Vec<usize>,
    source_positions: Option<Vec<usize>>,
    heads: Option<Vec<usize>>,
    subspaces: Option<Vec<usize>>,
    partition: bool,
    tolerance: f64,
    logprobs: Vec<f64>,
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pyvene")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    serde_json::from_str::<Cases>(&text).unwrap().cases
}

fn list<T: ToString>(numbers: &[T]) -> String {
    let all: Vec<String> = numbers.iter().map(T::to_string).collect();
    all.join(",")
}

impl Case {
    /// Whether locations mean all positions.
    fn is_whole(&self) -> bool {
        ["whole_heads", "pattern"].contains(&&self.name[..])
    }

    /// The import as one types it, into `NAME.toml`.
    fn import(&self, lab: &Lab) -> toml::Table {
        self.import_from(lab, &folder().join(&self.name))
    }

    /// The same of a save that stands elsewhere.
    fn import_from(&self, lab: &Lab, saved: &Path) -> toml::Table {
        let mut args: Vec<String> = vec![
            "--model".into(),
            fixture("tied"),
            "import".into(),
            "pyvene".into(),
        ];
        let mut flag = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        flag("base-ids", list(&self.base_ids));
        for ids in &self.source_ids {
            flag("source-ids", list(ids));
        }
        flag("target-ids", list(&self.target_ids));
        if !self.is_whole() {
            flag("positions", list(&self.positions));
        }
        if let Some(read) = &self.source_positions {
            flag("source-positions", list(read));
        }
        if let Some(heads) = &self.heads {
            flag("heads", list(heads));
        }
        if let Some(subspaces) = &self.subspaces {
            flag(
                if self.partition {
                    "subspaces"
                } else {
                    "columns"
                },
                list(subspaces),
            );
        }
        flag("out", format!("{}.toml", self.name));
        args.push(saved.to_str().unwrap().to_owned());
        lab.ok(&args);
        lab.read(&format!("{}.toml", self.name)).parse().unwrap()
    }
}

/// Every patch of an experiment with the run that it is in.
fn patches(experiment: &toml::Table) -> Vec<(&toml::Table, &toml::Table)> {
    let runs = experiment["run"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run.as_table().unwrap());
    runs.flat_map(|run| {
        let patches = run["patches"].as_array().unwrap().iter();
        patches.map(move |patch| (run, patch.as_table().unwrap()))
    })
    .collect()
}

const KEYS: [&str; 13] = [
    "error_term",
    "component",
    "layer",
    "heads",
    "positions",
    "op",
    "source",
    "source_run",
    "source_positions",
    "value",
    "basis",
    "columns",
    "keys",
];
const OPS: [&str; 7] = [
    "interchange",
    "zero",
    "set",
    "add",
    "subtract",
    "collect",
    "skip",
];

#[test]
fn every_save_is_an_experiment_of_the_contract() {
    let lab = Lab::new();
    let cases = cases();
    assert!(cases.len() > 50, "{}", cases.len());
    for case in &cases {
        let experiment = case.import(&lab);
        let pair = experiment["pair"][0].as_table().unwrap();
        assert_eq!(
            pair["base_ids"].as_array().unwrap().len(),
            case.base_ids.len()
        );
        assert_eq!(
            pair.contains_key("prompts"),
            case.source_ids.len() > 1,
            "{}",
            case.name
        );
        let names: BTreeSet<&str> = experiment["run"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len() > 1, case.mode == "serial", "{}", case.name);
        let file = format!("{}.safetensors", case.name);
        let bytes = std::fs::read(lab.path(&file)).unwrap_or_default();
        let tensors = (!bytes.is_empty()).then(|| SafeTensors::deserialize(&bytes).unwrap());
        for (run, patch) in patches(&experiment) {
            for key in patch.keys() {
                assert!(KEYS.contains(&key.as_str()), "{}: {key}", case.name);
            }
            assert!(
                OPS.contains(&patch["op"].as_str().unwrap()),
                "{}",
                case.name
            );
            if let Some(name) = patch.get("source_run") {
                assert!(
                    names.contains(name.as_str().unwrap()) && *name != run["name"],
                    "{}",
                    case.name
                );
            }
            for (key, part) in [("basis", "."), ("value", "")] {
                let Some(named) = patch.get(key) else {
                    continue;
                };
                let (in_file, name) = named.as_str().unwrap().split_once('#').unwrap();
                assert_eq!(in_file, file);
                let known = tensors.as_ref().unwrap().names();
                let found = known.iter().any(|k| match part {
                    "" => *k == name,
                    _ => k.starts_with(&format!("{name}{part}")),
                });
                assert!(found, "{}: {name}", case.name);
            }
        }
    }
}

/// Tensors of a file, widened.
fn tensors(bytes: &[u8]) -> Vec<(String, Vec<usize>, Vec<f64>)> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let all = file.tensors().into_iter().map(|(name, view)| {
        let values = view
            .data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|x| f64::from_le_bytes(*x));
        (name, view.shape().to_vec(), values.collect())
    });
    all.collect()
}

#[test]
fn parameters_are_those_that_torch_makes() {
    let lab = Lab::new();
    let recorded = tensors(&std::fs::read(folder().join("parameters.safetensors")).unwrap());
    let mut compared = 0;
    for case in cases() {
        case.import(&lab);
        let ours = std::fs::read(lab.path(&format!("{}.safetensors", case.name)));
        let ours = ours.map(|bytes| tensors(&bytes)).unwrap_or_default();
        let prefix = format!("{}.", case.name);
        let theirs: Vec<_> = recorded
            .iter()
            .filter(|(name, ..)| name.starts_with(&prefix))
            .collect();
        assert_eq!(ours.len(), theirs.len(), "{}", case.name);
        for (name, shape, values) in theirs {
            let name = name.replace(&prefix, "intervention_");
            let (_, shape_here, here) = ours.iter().find(|(known, ..)| *known == name).unwrap();
            // a row is written as a row, whatever dimensions of 1 pyvene gave it
            match name.contains("value") {
                true => assert_eq!(shape_here.last(), shape.last(), "{}", case.name),
                false => assert_eq!(shape_here, shape, "{} {name}", case.name),
            }
            assert_eq!(here.len(), values.len());
            for (x, y) in here.iter().zip(values) {
                // the Taylor series of torch in double precision, and ours
                assert!((x - y).abs() <= 1e-13, "{} {name}: {x} {y}", case.name);
            }
            compared += 1;
        }
    }
    assert_eq!(compared, recorded.len());
    assert!(compared > 30, "{compared}");
}

/// Whether an experiment needs more than patches of whole rows, from one source, in the base.
fn is_beyond(experiment: &toml::Table) -> bool {
    let pair = experiment["pair"][0].as_table().unwrap();
    pair.contains_key("prompts")
        || experiment["run"].as_array().unwrap().len() > 1
        || patches(experiment).iter().any(|(_, patch)| {
            let op = patch["op"].as_str().unwrap();
            patch.contains_key("basis")
                || patch.contains_key("columns")
                || ["collect", "skip"].contains(&op)
        })
}

/// What runs the experiments.
#[derive(Clone, Copy)]
enum On {
    /// The CPU in double precision.
    F64,
    /// The CPU.
    F32,
    /// The emulated device.
    Device,
}

impl On {
    fn command(self, lab: &Lab, file: &str, out: &str, more: &[&str]) -> Command {
        let (device, precision) = match self {
            On::F64 => ("cpu", "f64"),
            On::F32 => ("cpu", "f32"),
            On::Device => ("cuda", "f32"),
        };
        let model = fixture("tied");
        let head = [
            "--model",
            &model,
            "--device",
            device,
            "--precision",
            precision,
        ];
        let mut command = lab.command(&[&head, &["run", file, "--out", out][..], more].concat());
        if matches!(self, On::Device) {
            let library = emulator::library();
            command.env("LD_LIBRARY_PATH", library.parent().unwrap());
            command.env("HEADLIGHT_EMULATOR_DRIVER", "99000");
        }
        command
    }

    /// How far off a log-probability may be.
    fn tolerance(self, case: &Case) -> f64 {
        match self {
            On::F64 => case.tolerance,
            On::F32 | On::Device => 1e-5,
        }
    }
}

/// Runs the experiments for which `which` holds, and compares with pyvene's own runs.
fn compare(on: On, which: impl Fn(&toml::Table) -> bool) -> usize {
    let lab = Lab::new();
    let (mut compared, mut over) = (0, Vec::new());
    let mut worst = (0.0, String::new());
    for case in cases() {
        let experiment = case.import(&lab);
        if !which(&experiment) {
            continue;
        }
        let collects = case.name == "collect";
        let more: &[&str] = match collects {
            true => &["--collect", "collected.safetensors"],
            false => &[],
        };
        let file = format!("{}.toml", case.name);
        let output = on.command(&lab, &file, "t.csv", more).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", case.name);
        let rows = lab.table("t.csv").rows;
        let last = &rows[rows.len() - case.target_ids.len()..];
        let mut error = 0.0f64;
        for ((row, id), expected) in last.iter().zip(&case.target_ids).zip(&case.logprobs) {
            assert_eq!(row.target_id, *id, "{}", case.name);
            assert!(row.logprob.is_finite(), "{}: {row:?}", case.name);
            error = error.max((row.logprob - expected).abs());
        }
        if error > on.tolerance(&case) {
            over.push(format!("{}: {error:.2e}", case.name));
        }
        if error > worst.0 {
            worst = (error, case.name);
        }
        compared += 1;
    }
    println!("{compared} saves, {:.2e} at {}", worst.0, worst.1);
    assert!(over.is_empty(), "{}", over.join(", "));
    compared
}

#[test]
fn whole_rows_give_what_pyvene_gives() {
    assert!(compare(On::F64, |experiment| !is_beyond(experiment)) > 30);
}

#[test]
fn everything_gives_what_pyvene_gives() {
    assert!(compare(On::F64, is_beyond) > 20);
}

#[test]
fn f32_gives_what_pyvene_gives() {
    assert!(compare(On::F32, |_| true) > 50);
}

#[test]
fn the_device_gives_what_pyvene_gives() {
    assert!(compare(On::Device, |_| true) > 50);
}
