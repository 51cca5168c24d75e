//! What is typed beside what a row says for itself: refused, or said.

use std::fs;

use crate::data::NARROW;
use crate::lab::{Lab, Said};

const PAIR: &str = r#""base": "The capital of Spain is", "source": "The capital of Italy is""#;

/// A sweep of one head over `d.jsonl`.
fn sweep(lab: &Lab, rows: &[&str], more: &[&str]) -> Said {
    let rows: Vec<String> = rows
        .iter()
        .map(|row| format!("{{{PAIR}{row}}}\n"))
        .collect();
    lab.write("d.jsonl", rows.concat());
    let args = ["sweep", "--data", "d.jsonl", "--out", "t.csv"];
    lab.ok(&[&args[..], &NARROW, more].concat())
}

fn refused(lab: &Lab, rows: &[&str], more: &[&str], says: &[&str]) {
    let rows: Vec<String> = rows
        .iter()
        .map(|row| format!("{{{PAIR}{row}}}\n"))
        .collect();
    lab.write("d.jsonl", rows.concat());
    for command in [
        &["sweep"][..],
        &["edges", "--senders", "m0", "--receivers", "logits"],
        &["path"],
    ] {
        lab.refused(&[command, &["--data", "d.jsonl"], more].concat(), says);
    }
}

#[test]
fn typed_answers_that_no_row_needs_are_refused() {
    let lab = Lab::new();
    let own = [r#", "targets": [" Madrid"], "wrong_targets": [" Rome"]"#];
    let says = [
        "--targets (or --target, --target-ids) is for rows without targets",
        "every row of d.jsonl has its own",
    ];
    refused(&lab, &own, &["--target", " Paris"], &says);
    refused(&lab, &own, &["--targets", " Paris, Rome"], &says);
    refused(&lab, &own, &["--target-ids", "948"], &says);
    let says = [
        "--wrong-target (or --wrong-target-ids) is for rows without wrong targets",
        "leave the flag out",
    ];
    refused(&lab, &own, &["--wrong-target", " Paris"], &says);
    refused(&lab, &own, &["--wrong-target-ids", "3"], &says);
    // a tracing's rows too
    lab.write(
        "f.json",
        r#"[{"prompt": "The capital of Spain is", "subject": "Spain", "attribute": "Madrid"}]"#,
    );
    lab.refused(
        &["trace", "--data", "f.json", "--target", " Rome"],
        &["every row of f.json has its own"],
    );
}

#[test]
fn typed_answers_that_some_rows_need_are_said() {
    let lab = Lab::new();
    let rows = [
        r#", "targets": [" Madrid"]"#,
        "",
        r#", "target_ids": [948]"#,
    ];
    let said = sweep(&lab, &rows, &["--target", " Rome"]);
    let says = "answers for 1 of 3 rows of d.jsonl; the others keep targets of their own, the first in line 1\n";
    assert!(said.err.contains(says), "{}", said.err);
    let targets = lab.table("t.csv").rows;
    let targets: Vec<&str> = targets.iter().step_by(5).map(|row| &*row.target).collect();
    assert_eq!(targets, [" Madrid", " Rome", " Madrid"]);
    for file in ["t.csv", "t.csv.meta.json", "t.summary.csv"] {
        fs::remove_file(lab.path(file)).unwrap();
    }
    // nobody has any: nothing to say
    let said = sweep(
        &lab,
        &["", ""],
        &[
            "--target",
            " Rome",
            "--wrong-target-ids",
            "948",
            "--metric",
            "logit_diff",
        ],
    );
    assert!(!said.err.contains("rows of d.jsonl"), "{}", said.err);
    let ids = lab.table("t.csv");
    sweep(
        &lab,
        &["", ""],
        &[
            "--target",
            " Rome",
            "--wrong-target",
            " Madrid",
            "--metric",
            "logit_diff",
        ],
    );
    assert_eq!(lab.table("t.csv").rows, ids.rows);
}

#[test]
fn typed_positions_in_place_of_a_rows_own_are_said() {
    let lab = Lab::new();
    let rows = [
        r#", "targets": [" Madrid"], "positions": [3]"#,
        r#", "targets": [" Madrid"]"#,
    ];
    let said = sweep(&lab, &rows, &["--positions", "end"]);
    let says = "patched is at --positions and not the positions that 1 of 2 rows of d.jsonl name, the first in line 1\n";
    assert!(said.err.contains(says), "{}", said.err);
    let said = sweep(&lab, &rows, &[]);
    assert!(!said.err.contains("rows of d.jsonl"), "{}", said.err);
    let edges = [
        "edges",
        "--data",
        "d.jsonl",
        "--senders",
        "m0",
        "--receivers",
        "logits",
        "--out",
        "e.csv",
    ];
    let said = lab.ok(&edges);
    assert!(
        said.err
            .contains("edges are patched at every position and not the positions"),
        "{}",
        said.err
    );
}

#[test]
fn an_import_keeps_wrong_answers() {
    let lab = Lab::new();
    let saved = format!(
        "{}/tests/data/saved/config.json",
        env!("CARGO_MANIFEST_DIR")
    );
    fs::create_dir(lab.path("saved")).unwrap();
    lab.write("saved/config.json", fs::read(saved).unwrap());
    let pair = [
        "--base",
        "The capital of Spain is",
        "--source",
        "The capital of Italy is",
        "--heads",
        "0",
    ];
    let answers = ["--target", " Rome", "--wrong-target", " Madrid"];
    lab.ok(&[&["import", "pyvene", "saved"], &pair[..], &answers].concat());
    lab.ok(&[
        "run",
        "saved.toml",
        "--metric",
        "logit_diff",
        "--out",
        "t.csv",
    ]);
}

#[test]
fn targets_of_an_experiment_that_no_pair_needs_are_refused() {
    let lab = Lab::new();
    let experiment = |top: &str, pair: &str| {
        format!(
            "{top}\n[[pair]]\nbase = \"The capital of Spain is\"\n{pair}\n[[run]]\npatches = [{{ component = \"mlp_output\", layer = 0, positions = [3], op = \"zero\" }}]\n"
        )
    };
    lab.write(
        "e.toml",
        experiment("targets = [\" Rome\"]", "targets = [\" Madrid\"]"),
    );
    lab.refused(&["run", "e.toml"], &["targets", "every pair has its own"]);
    lab.write("e.toml", experiment("targets = [\" Rome\"]", ""));
    lab.ok(&["run", "e.toml"]);
}
