//! `--columns`, `--basis`, and every command and experiment of docs/operators.md.

use headlight::results::table::Row;
use serde_json::{Value, json};

use crate::data::lab_with;
use crate::documented::words;
use crate::lab::{BASE, Lab, SOURCE, bits};
use crate::models::{self, Tensors};

/// Numbers that differ from each other.
fn ramp(shape: &[usize], step: f32) -> (Vec<usize>, Vec<f32>) {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| ((i * 37 % 101) as f32 / 101.0 - 0.5) * step);
    (shape.to_vec(), values.collect())
}

/// The first k axes of a row of n numbers, as a rotation.
fn axes(n: usize, k: usize) -> (Vec<usize>, Vec<f32>) {
    let axis = |i: usize| if i / k == i % k { 1.0 } else { 0.0 };
    (vec![n, k], (0..n * k).map(axis).collect())
}

fn bases() -> Vec<u8> {
    let mut tensors = Tensors::new();
    tensors.insert("das.rotation".into(), axes(32, 4));
    tensors.insert("every.rotation".into(), axes(32, 32));
    tensors.insert("gate.mask".into(), (vec![128], vec![0.5; 128]));
    tensors.insert("half.mask".into(), (vec![32], vec![0.5; 32]));
    for (name, shape) in [
        ("W_enc", &[128, 40][..]),
        ("b_enc", &[40]),
        ("W_dec", &[40, 128]),
        ("b_dec", &[128]),
    ] {
        tensors.insert(format!("sae.{name}"), ramp(shape, 0.5));
    }
    models::file(&tensors)
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("bases.safetensors", bases());
    lab
}

const CELL: [&str; 8] = [
    "--component",
    "hook_v",
    "--layers",
    "0",
    "--heads",
    "0-1",
    "--positions",
    "3-4",
];

fn sweep(lab: &Lab, more: &[&str]) -> Vec<Row> {
    lab.sweep(&[&CELL[..], more].concat())
}

#[test]
fn commands_and_experiments_of_the_operators_page_run() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operators.md");
    let page = std::fs::read_to_string(page).unwrap();
    // the repository's own file
    let lab = lab_with(&["bases.safetensors", "capitals.jsonl"]);
    assert!(std::fs::read(lab.path("bases.safetensors")).unwrap() == bases());
    let commands = page.lines().filter(|line| line.starts_with("headlight "));
    let commands: Vec<&str> = commands.collect();
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands {
        lab.ok(&words(command)[1..]);
        if !command.contains("results.csv") {
            continue;
        }
        assert!(
            lab.table("results.csv")
                .rows
                .iter()
                .any(|r| r.prob != r.base_prob),
            "{command}"
        );
    }
    let experiments = page.split("```toml\n").skip(1);
    let experiments: Vec<&str> = experiments.filter_map(|t| t.split("```").next()).collect();
    assert_eq!(experiments.len(), 3);
    for text in experiments {
        lab.write("e.toml", text);
        let rows = lab.rows("run", &["e.toml"]);
        assert!(rows.iter().any(|r| r.prob != r.base_prob), "{text}");
    }
}

#[test]
fn columns_and_axes_that_say_the_same_do_the_same() {
    let lab = lab();
    let go = |more: &[&str]| bits(&sweep(&lab, more));
    let near = |a: &[&str], b: &[&str]| {
        let (a, b) = (sweep(&lab, a), sweep(&lab, b));
        let apart = a.iter().zip(&b).map(|(a, b)| (a.logprob - b.logprob).abs());
        assert_eq!(a.len(), b.len());
        assert!(apart.fold(0.0, f64::max) < 1e-5, "{:?} {:?}", a[0], b[0]);
        assert_ne!(bits(&a), go(&[]), "not everything is patched");
    };
    assert_eq!(go(&["--columns", "0-31"]), go(&[]));
    assert_eq!(go(&["--columns", "all"]), go(&[]));
    near(&["--columns", "0-3"], &["--basis", "bases.safetensors#das"]);
    near(
        &["--columns", "1,3"],
        &["--basis", "bases.safetensors#das", "--columns", "1,3"],
    );
    near(
        &["--op", "interpolate=0.5"],
        &["--basis", "bases.safetensors#half"],
    );
    let doubled = ["--op", "scale=2", "--columns", "0-3"];
    let in_basis = ["--op", "scale=2", "--basis", "bases.safetensors#das"];
    near(&doubled, &in_basis);
}

#[test]
fn the_table_spells_columns_and_bases_as_experiments_do() {
    let lab = lab();
    let rows = sweep(
        &lab,
        &["--basis", "bases.safetensors#das", "--columns", "0,2-3"],
    );
    let patches: Value = serde_json::from_str(&rows[0].patches).unwrap();
    assert_eq!(patches[0]["basis"], "bases.safetensors#das");
    assert_eq!(patches[0]["columns"], "0,2-3");
    let run = |row: &Row| json!({"patches": serde_json::from_str::<Value>(&row.patches).unwrap()});
    // two targets a run
    let runs: Vec<Value> = rows.iter().step_by(2).map(run).collect();
    let file = json!({"target_ids": [rows[0].target_id, rows[1].target_id],
        "pair": [{"base": BASE, "source": SOURCE}], "run": runs});
    lab.write("e.json", file.to_string());
    assert_eq!(bits(&lab.rows("run", &["e.json"])), bits(&rows));
    // and as partitions
    let whole = sweep(&lab, &["--columns", "8-31"]);
    let mut file = file;
    for run in file["run"].as_array_mut().unwrap() {
        let patch = run["patches"][0].as_object_mut().unwrap();
        patch.remove("basis");
        patch.remove("columns");
        patch.insert("partitions".into(), json!([[0, 8], [8, 20], [20, 32]]));
        patch.insert("subspaces".into(), json!([1, 2]));
    }
    lab.write("e.json", file.to_string());
    assert_eq!(bits(&lab.rows("run", &["e.json"])), bits(&whole));
}

#[test]
fn bases_and_columns_that_do_not_fit_are_refused() {
    let lab = lab();
    lab.write("not.safetensors", "nothing");
    let refused = |more: &[&str], needles: &[&str]| {
        let all = [&["sweep"], &CELL[..], more, &["--out", "no.csv"]].concat();
        lab.refused(&all, needles);
    };
    refused(
        &["--basis", "bases.safetensors#gate"],
        &[
            "`bases.safetensors#gate`",
            "128 numbers",
            "head_value_output has 32",
        ],
    );
    refused(
        &["--basis", "bases.safetensors#nobody"],
        &["no basis `nobody`", "rotation", "W_enc", "das.rotation"],
    );
    refused(&["--basis", "bases.safetensors"], &["has no basis:"]);
    refused(
        &["--basis", "not.safetensors#x"],
        &["not.safetensors is not a safetensors file"],
    );
    refused(
        &["--basis", "gone.safetensors"],
        &["cannot read gone.safetensors"],
    );
    refused(
        &["--columns", "0-32"],
        &["column 32 of head_value_output", "0 to 31"],
    );
    refused(
        &["--basis", "bases.safetensors#das", "--columns", "4"],
        &["coordinate 4", "0 to 3"],
    );
    let experiment = |patch: &str, needles: &[&str]| {
        lab.write("e.toml", format!(
            "target_ids = [1]\n[[pair]]\nbase = \"The capital\"\nsource = \"The city\"\n[[run]]\npatches = \
             [{{ component = \"head_value_output\", layer = 0, heads = [0], positions = [1], {patch} }}]\n"
        ));
        lab.refused(&["run", "e.toml", "--out", "no.csv"], needles);
    };
    let at = "run 0, patch 0";
    experiment("columns = \"x\"", &[at, "columns \"x\" are no range"]);
    experiment(
        "partitions = [[0, 4]], subspaces = [1]",
        &[at, "subspace 1 is out of range"],
    );
    experiment("partitions = [[0, 4]]", &[at, "subspaces = [0]"]);
    experiment(
        "basis = \"bases.safetensors#nobody\"",
        &[at, "no basis `nobody`"],
    );
    experiment("op = \"function\", value = \"f\"", &[at, "closure"]);
}

/// A latent's change was mixed with the error of the reconstruction, which is in every run without the error term.
#[test]
fn an_autoencoder_changes_nothing_by_itself() {
    let lab = lab();
    let cell = [
        "--component",
        "block_output",
        "--layers",
        "1",
        "--positions",
        "3",
        "--basis",
        "bases.safetensors#sae",
    ];
    let sweep = |more: &[&str]| {
        let said = lab.ok(&[&["sweep", "--out", "s.csv"][..], &cell, more].concat());
        (lab.table("s.csv").rows, said.out)
    };
    let (rows, said) = sweep(&["--op", "scale=1"]);
    assert!(rows.iter().all(|row| row.prob == row.base_prob), "{rows:?}");
    assert!(!said.contains("as the basis makes them"), "{said}");
    let (whole, said) = sweep(&["--op", "scale=1", "--no-error-term"]);
    assert!(
        whole.iter().all(|row| row.prob != row.base_prob),
        "{whole:?}"
    );
    // what that alone does is said of every sweep without the term
    let (_, of_zero) = sweep(&["--op", "zero", "--columns", "0", "--no-error-term"]);
    for said in [said, of_zero] {
        let line = said
            .lines()
            .find(|line| line.contains("rows as the basis makes them"));
        assert!(
            line.is_some_and(|line| line.contains("_Madrid from 0.98")),
            "{said}"
        );
    }
    let refused = [
        "sweep",
        "--component",
        "hook_v",
        "--basis",
        "bases.safetensors#das",
        "--no-error-term",
    ];
    lab.refused(&refused, &["leave the error term out"]);
    lab.refused(&["sweep", "--no-error-term"], &["--basis"]);
}

#[test]
fn each_column_and_each_latent_is_a_run_of_its_own() {
    let lab = lab();
    let names = |more: &[&str]| {
        let mut names: Vec<String> = lab
            .sweep(more)
            .iter()
            .map(|row| row.position_name.as_deref().unwrap().to_owned())
            .collect();
        names.dedup();
        names
    };
    let at = [
        "--component",
        "hook_v",
        "--layers",
        "0",
        "--heads",
        "0",
        "--positions",
        "3",
    ];
    let all = names(&[&at[..], &["--columns", "each"]].concat());
    let wanted: Vec<String> = (0..32).map(|column| format!("3#{column}")).collect();
    assert_eq!(all, wanted);
    assert_eq!(
        names(&[&at[..], &["--columns", "each:30-31"]].concat()),
        wanted[30..]
    );
    let latents = ["--columns", "each", "--basis", "bases.safetensors#das"];
    assert_eq!(names(&[&at[..], &latents].concat()).len(), 4);
    // one after the other is each by itself
    let one = lab.sweep(&[&at[..], &["--columns", "31"]].concat());
    let each = lab.sweep(&[&at[..], &["--columns", "each:30-31"]].concat());
    assert_eq!(bits(&each[each.len() - one.len()..]), bits(&one));
    lab.refused_after_device(
        &[
            "sweep",
            "--component",
            "head_value_output",
            "--columns",
            "each:32",
        ],
        &["column 32 is out of range: columns are 0 to 31"],
    );
    lab.refused(
        &["sweep", "--columns", "eachx"],
        &["--columns: `eachx` is not a range"],
    );
}
