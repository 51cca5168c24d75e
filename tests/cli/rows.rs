//! Rows of a data set keep their numbers and names, whatever rows are passed over.

use safetensors::SafeTensors;
use serde_json::Value;

use crate::data::NARROW;
use crate::lab::{Lab, bits};

/// The third is wrong (its prompts differ in length), and the model does not answer the second.
const FILE: &str = r#"{"id": "es", "base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"]}
{"base": "The capital of France is", "source": "The capital of Italy is", "targets": [" Madrid"]}

{"id": 7, "base": "The capital of Spain is", "source": "The big capital of Italy is", "targets": [" Madrid"]}
{"id": "fr", "base": "The capital of France is", "source": "The capital of Italy is", "targets": [" Paris"]}
"#;

/// What stands in a safetensors file's metadata.
fn about(lab: &Lab, name: &str, key: &str) -> String {
    let bytes = std::fs::read(lab.path(name)).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    metadata.metadata().as_ref().unwrap()[key].clone()
}

#[test]
fn rows_keep_their_numbers_and_ids() {
    let lab = Lab::new();
    lab.write("d.jsonl", FILE);
    let args = ["--data", "d.jsonl", "--skip-bad"];
    for file in ["t.csv", "t.jsonl", "t.parquet"] {
        for (more, wanted) in [
            (&[][..], &[(0, "es"), (1, ""), (3, "fr")][..]),
            (&["--known"], &[(0, "es"), (3, "fr")]),
        ] {
            lab.ok(&[
                &["sweep", "--out", file, "--metric", "rank"][..],
                &args,
                &NARROW,
                more,
            ]
            .concat());
            let table = lab.table(file);
            let mut found: Vec<_> = table
                .rows
                .iter()
                .map(|row| (row.pair, row.id.as_deref().unwrap()))
                .collect();
            found.dedup();
            assert_eq!(found, wanted, "{file}");
            assert_eq!(table.metrics, ["rank"]);
            let pairs: Vec<_> = table
                .provenance
                .pairs
                .iter()
                .map(|p| (p.row.unwrap(), p.id.as_deref().unwrap()))
                .collect();
            assert_eq!(pairs, wanted, "{file}");
        }
    }
    // one row at a time of each kind of question
    for command in [
        &["edges", "--senders", "m0", "--receivers", "logits"][..],
        &["path", "--senders", "a0.h0"],
    ] {
        lab.ok(&[command, &args, &["--known", "--out", "e.csv"]].concat());
        let rows = lab.table("e.csv").rows;
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.pair, row.id.as_deref().unwrap()))
            .collect();
        assert_eq!(found, [(0, "es"), (3, "fr")], "{command:?}");
    }
    assert!(
        lab.ok(&["plot", "t.csv", "--out", "p.svg"])
            .err
            .contains("p.svg")
            || lab.path("p.svg").exists()
    );
}

#[test]
fn arrays_and_collected_tensors_name_their_rows() {
    let lab = Lab::new();
    lab.write("d.jsonl", FILE);
    let args = ["--data", "d.jsonl", "--skip-bad", "--known"];
    let preset = [
        "sweep",
        "--preset",
        "resid_pre",
        "--layers",
        "0",
        "--arrays",
        "a.safetensors",
    ];
    lab.ok(&[&preset[..], &args].concat());
    assert_eq!(
        about(&lab, "a.safetensors", "pair").replace(' ', ""),
        "[0,3]"
    );
    assert_eq!(
        about(&lab, "a.safetensors", "id").replace(' ', ""),
        r#"["es","fr"]"#
    );
    let collect = ["sweep", "--op", "collect", "--collect", "c.safetensors"];
    lab.ok(&[&collect[..], &args, &NARROW, &["--positions", "end"]].concat());
    let bytes = std::fs::read(lab.path("c.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    // at named positions prompts may differ in length
    assert_eq!(names, ["0.0.0", "2.0.0", "3.0.0"]);
}

/// Files without ids have no column of them, and rows that nobody passes over are the pairs there always were.
#[test]
fn a_file_without_ids_has_no_column_of_them() {
    let lab = Lab::new();
    let row = r#"{"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"], "idx": 4}"#;
    lab.write("d.jsonl", format!("{row}\n{row}\n"));
    let rows = lab.sweep(&[&["--data", "d.jsonl"], &NARROW[..]].concat());
    assert!(rows.iter().all(|row| row.id.is_none()));
    assert!(!lab.read("t.csv").lines().next().unwrap().contains("id,id"));
    assert_eq!(rows[5].pair, 1);
    assert_eq!(bits(&rows[..5]), bits(&rows[5..]));
    let meta: Value = serde_json::from_str(&lab.read("t.csv.meta.json")).unwrap();
    assert_eq!(
        (&meta["pairs"][1]["row"], &meta["pairs"][1]["id"]),
        (&1.into(), &Value::Null)
    );
    // published names of rows
    for (name, value) in [("prompt_id", "7"), ("case_id", "\"a\""), ("known_id", "0")] {
        lab.write(
            "d.jsonl",
            row.replace("\"idx\": 4", &format!("\"{name}\": {value}")),
        );
        let rows = lab.sweep(&[&["--data", "d.jsonl"], &NARROW[..]].concat());
        assert_eq!(
            rows[0].id.as_deref(),
            Some(value.trim_matches('"')),
            "{name}"
        );
    }
}
