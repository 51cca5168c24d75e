//! `--op`: every operator, and what each must leave alone.

use headlight::results::table::Row;
use safetensors::SafeTensors;

use crate::lab::{BASE, Lab, bits};
use crate::models::{self, Tensors};

const CELL: [&str; 6] = [
    "--component",
    "hook_z",
    "--layers",
    "2",
    "--positions",
    "3-4",
];

fn sweep(lab: &Lab, op: &[&str]) -> Vec<Row> {
    lab.sweep(&[&CELL[..], &["--op"], op].concat())
}

/// Whether no row differs from the clean base run.
fn unchanged(rows: &[Row]) -> bool {
    rows.iter().all(|r| r.prob == r.base_prob)
}

fn vectors() -> Vec<u8> {
    let mut tensors = Tensors::new();
    let ramp: Vec<f32> = (0..32).map(|i| i as f32 / 8.0).collect();
    tensors.insert("zero".into(), (vec![32], vec![0.0; 32]));
    tensors.insert("ramp".into(), (vec![32], ramp.clone()));
    tensors.insert(
        "down".into(),
        (vec![1, 32], ramp.iter().map(|x| -x).collect()),
    );
    tensors.insert("every".into(), (vec![4, 32], ramp.repeat(4)));
    tensors.insert("short".into(), (vec![31], vec![0.0; 31]));
    tensors.insert(
        "nan".into(),
        (vec![32], [vec![0.0; 7], vec![f32::NAN; 25]].concat()),
    );
    models::file(&tensors)
}

#[test]
fn every_operator_runs_and_is_named_in_the_table() {
    let lab = Lab::new();
    lab.write("v.safetensors", vectors());
    lab.write(
        "prompts.txt",
        "The capital of France is\nThe capital of Peru is\n",
    );
    for op in [
        "interchange",
        "zero",
        "add",
        "subtract",
        "set=v.safetensors#ramp",
        "add=v.safetensors#ramp",
        "mean=prompts.txt",
        "scale=0.5",
        "interpolate=0.25",
        "noise=0.5",
        "skip",
    ] {
        let rows = sweep(&lab, &[op]);
        assert_eq!(rows.len(), 16, "{op}");
        assert!(
            rows.iter().all(|r| r.op.as_deref() == Some(op)),
            "{op}: {:?}",
            rows[0]
        );
        assert!(!unchanged(&rows), "{op} changed nothing");
        let reads = ["interchange", "add", "subtract", "interpolate=0.25", "skip"].contains(&op);
        assert_eq!(rows[0].source_layer, reads.then_some(2), "{op}");
        assert_eq!(rows[0].sample, op.starts_with("noise").then_some(0), "{op}");
    }
}

#[test]
fn a_sweep_collects_what_stands_there() {
    let lab = Lab::new();
    lab.refused(
        &[&["sweep", "--op", "collect"], &CELL[..]].concat(),
        &["--collect F.safetensors"],
    );
    let rows = sweep(&lab, &["collect", "--collect", "c.safetensors"]);
    assert_eq!(rows.len(), 16);
    assert!(unchanged(&rows));
    assert!(rows.iter().all(|r| r.op.as_deref() == Some("collect")));
    let cached = ["cache", BASE, "--component", "hook_z", "--layers", "2"];
    lab.ok(&[&cached[..], &["--out", "z.safetensors"]].concat());
    let [collected, cached] =
        ["c", "z"].map(|name| std::fs::read(lab.path(&format!("{name}.safetensors"))).unwrap());
    let [collected, cached] =
        [&collected, &cached].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let cached = cached.tensor("head_attention_value_output.2").unwrap();
    assert_eq!(cached.shape(), [4, 5, 32]);
    assert_eq!(collected.len(), 8);
    // one run for each head at each position
    for row in rows.iter().step_by(2) {
        let found = collected.tensor(&format!("0.{}.0", row.run)).unwrap();
        assert_eq!(found.shape(), [1, 1, 32]);
        let place = 5 * row.head.unwrap() + row.position.unwrap();
        let stands = &cached.data()[place as usize * 128..][..128];
        assert_eq!(found.data(), stands, "{row:?}");
    }
}

#[test]
fn operators_that_say_the_same_do_the_same() {
    let lab = Lab::new();
    lab.write("v.safetensors", vectors());
    let op = |op: &str| bits(&sweep(&lab, &[op]));
    assert_eq!(op("interpolate=1"), op("interchange"));
    assert_eq!(op("set=v.safetensors#zero"), op("zero"));
    assert_eq!(op("set=v.safetensors#every"), op("set=v.safetensors#ramp"));
    assert_eq!(
        op("subtract=v.safetensors#down"),
        op("add=v.safetensors#ramp")
    );
    for nothing in [
        "interpolate=0",
        "scale=1",
        "noise=0",
        "add=v.safetensors#zero",
    ] {
        assert!(unchanged(&sweep(&lab, &[nothing])), "{nothing}");
    }
    // the prompts differ at 3 alone, but everything after it knows
    let alike = [
        "--base",
        "The capital of Spain is",
        "--source",
        "The capital of Spain is",
    ];
    assert!(unchanged(&lab.sweep(&alike)));
}

#[test]
fn a_mean_weighs_every_position_of_every_prompt() {
    let lab = Lab::new();
    lab.write("one.txt", "The capital of France is\n");
    lab.write(
        "twice.txt",
        "The capital of France is\n\nThe capital of France is",
    );
    let op = |op: &str| bits(&sweep(&lab, &[op]));
    assert_eq!(op("mean=one.txt"), op("mean=twice.txt"));
}

/// The mean of all heads side by side begins where the first head's does: one address, two lengths. Of heads 0
/// and 2, what stands behind the first is not the rest of all.
#[test]
fn constants_of_two_lengths_at_one_address_are_two() {
    let lab = Lab::new();
    lab.write("one.txt", "The capital of France is\n");
    let mean = |components: &str| {
        let mut of = vec!["--component", components, "--layers", "2"];
        of.extend(["--op", "mean=one.txt", "--positions", "4"]);
        if components.contains("head") {
            of.extend(["--heads", "0,2"]);
        }
        let rows = lab.sweep(&of);
        assert!(rows.iter().all(|row| row.prob != row.base_prob));
        rows
    };
    let [heads, whole] = ["head_value_output", "value_output"].map(mean);
    for (both, apart) in [
        (
            "head_value_output,value_output",
            [&heads[..], &whole].concat(),
        ),
        (
            "value_output,head_value_output",
            [&whole[..], &heads].concat(),
        ),
    ] {
        assert_eq!(bits(&mean(both)), bits(&apart), "{both}");
    }
}

#[test]
fn noise_is_its_seed() {
    let lab = Lab::new();
    let noise = |more: &[&str]| bits(&sweep(&lab, &[&["noise=1"], more].concat()));
    assert_eq!(noise(&[]), noise(&["--seed", "0", "--threads", "1"]));
    assert_eq!(noise(&["--seed", "7"]), noise(&["--seed", "7"]));
    assert_ne!(noise(&["--seed", "7"]), noise(&["--seed", "8"]));
    // a cell's noise does not depend on what else is swept
    let alone = lab.sweep(&[
        "--component",
        "hook_z",
        "--layers",
        "2",
        "--heads",
        "3",
        "--positions",
        "4",
        "--op",
        "noise=1",
    ]);
    assert_eq!(noise(&[])[14..], bits(&alone));
}

#[test]
fn rows_that_are_no_numbers_are_counted() {
    let lab = Lab::new();
    let said = lab.ok(&[
        "sweep",
        "--component",
        "block_output",
        "--layers",
        "0",
        "--positions",
        "4",
        "--op",
        "scale=3e38",
    ]);
    assert!(
        said.out.contains("2 of 2 rows are not finite"),
        "{}",
        said.out
    );
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let lab = Lab::new();
    lab.write("v.safetensors", vectors());
    lab.write("text.safetensors", "not tensors");
    lab.write("empty.txt", "\n\n");
    lab.write("latin.txt", b"Espa\xf1a\n");
    lab.write("long.txt", "The capital of Spain is ".repeat(20));
    let refused = |op: &str, needles: &[&str]| {
        lab.refused(
            &["sweep", "--op", op, "--out", "t.csv", "--plot", "m.svg"],
            needles,
        );
    };
    refused(
        "nonsense",
        &["`nonsense`", "interchange, zero, knockout, add"],
    );
    refused("", &["interchange, zero, knockout, add"]);
    refused("Zero", &["`Zero`", "zero"]);
    refused("zero=1", &["`zero=1`"]);
    refused("set", &["`set`", "set=F#tensor"]);
    refused(
        "set=v.safetensors",
        &["`v.safetensors` names no tensor", "F.safetensors#tensor"],
    );
    refused(
        "set=none.safetensors#x",
        &["none.safetensors", "No such file"],
    );
    refused(
        "set=text.safetensors#x",
        &["text.safetensors", "not a safetensors file"],
    );
    refused(
        "set=v.safetensors#x",
        &["v.safetensors has no tensor `x`", "ramp"],
    );
    refused(
        "set=v.safetensors#short",
        &["31 values", "head_attention_value_output", "32"],
    );
    refused(
        "add=v.safetensors#nan",
        &["`nan`", "NaN at index 7", "finite"],
    );
    refused("mean=none.txt", &["none.txt", "No such file"]);
    refused(
        "mean=empty.txt",
        &["empty.txt has no prompts", "one a line"],
    );
    refused("mean=latin.txt", &["latin.txt", "UTF-8"]);
    refused("mean=long.txt", &["more than the model's context of 64"]);
    refused("scale=", &["`scale` needs a finite number"]);
    refused("scale=ten", &["`scale` needs a finite number", "`ten`"]);
    refused("interpolate=inf", &["`interpolate` needs a finite number"]);
    refused("noise=NaN", &["`noise` needs a finite number"]);
    lab.refused(
        &["sweep", "--op", "zero", "--seed", "3"],
        &["--seed", "noise"],
    );
    let scores = [
        "sweep",
        "--component",
        "attention_scores",
        "--op",
        "set=v.safetensors#ramp",
    ];
    lab.refused(&scores, &["attention_scores", "no row of constants fits"]);
}
