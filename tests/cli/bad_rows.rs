//! Rows of a data set that are wrong, and files that are wrong as a whole.

use crate::data::{NARROW, parquet};
use crate::lab::Lab;

#[test]
fn bad_rows_are_named_and_may_be_skipped() {
    let lab = Lab::new();
    let good = r#"{"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"]}"#;
    let says = |row: &str, needles: &[&str]| {
        lab.write("b.jsonl", format!("{good}\n\n{row}\n"));
        let args = [
            &["sweep", "--out", "t.csv", "--data", "b.jsonl"][..],
            &NARROW,
        ]
        .concat();
        lab.refused(&args, &[&["b.jsonl, line 3"], needles].concat());
        let said = lab.ok(&[&args[..], &["--skip-bad"]].concat());
        assert!(
            said.err
                .contains("skipped 1 of 2 rows of b.jsonl; the first: b.jsonl, line 3"),
            "{}",
            said.err
        );
        assert_eq!(lab.table("t.csv").rows.len(), 5);
        for file in ["t.csv", "t.csv.meta.json", "t.summary.csv"] {
            std::fs::remove_file(lab.path(file)).unwrap();
        }
    };
    let pair = r#""base": "The capital of Spain is", "source": "The capital of Italy is""#;
    says("{", &["not a JSON object"]);
    says("[1]", &["not a JSON object"]);
    says(
        r#"{"source": "x", "targets": [" Rome"]}"#,
        &["has no base prompt", "base (or corrupted)"],
    );
    says(
        r#"{"base": 3, "targets": [" Rome"]}"#,
        &["field base: should be text", "is 3"],
    );
    says(
        r#"{"corrupted": "", "clean": "x", "answer": " Rome"}"#,
        &["field corrupted: the base prompt is empty"],
    );
    says(
        r#"{"base": "x", "corrupt": "y"}"#,
        &["field corrupt: is another name of base"],
    );
    says(
        &format!(r#"{{{pair}, "answers": ["Madrid Rome"]}}"#),
        &["field answers", "is 5 tokens", "--first-token"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome", " Rome"]}}"#),
        &["field targets: target id 1052 is given twice"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome"], "wrong_targets": [" Rome"]}}"#),
        &["both right and wrong"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [1.5]}}"#),
        &["field targets: should be a token's text or id, but is 1.5"],
    );
    says(
        &format!(r#"{{{pair}, "target_ids": [99999]}}"#),
        &["token id 99999", "0 to 1233"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome"], "positons": [3]}}"#),
        &["field positons", "did you mean positions?"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome"], "positions": ["Spian"]}}"#),
        &["field positions", "does not contain \"Spian\""],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome"], "positions": [5]}}"#),
        &["field positions", "only 5 tokens"],
    );
    says(
        &format!(
            r#"{{{pair}, "targets": [" Rome"], "positions": [2], "source_positions": [1, 2]}}"#
        ),
        &["field source_positions", "one for each"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome"], "spans": {{"s": [2, 9]}}}}"#),
        &["field spans", "out of range"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome"], "spans": 3}}"#),
        &["field spans: should be named spans"],
    );
    says(
        r#"{"base": "The capital of Spain is", "targets": [" Rome"]}"#,
        &["reads a source prompt"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome"], "positions": ["a\nb\u001b[31m"]}}"#),
        &[r"position a\nb\u{1b}[31m"],
    );
    says(
        &format!(r#"{{{pair}, "targets": [" Rome"], "spans": {{"s": 18446744073709551615}}}}"#),
        &["field spans", "out of range"],
    );
    // a near miss of the flag is one of the row, and the skipped row is counted
    lab.write(
        "c.csv",
        "clean,corrupted,correct_idx\nThe capital of Italy is,The capital of Spain is,32\n",
    );
    lab.refused(
        &["sweep", "--data", "c.csv"],
        &["c.csv, line 2, field correct_idx", "no year"],
    );
    lab.refused(
        &["sweep", "--data", "c.csv", "--skip-bad"],
        &["its only row is bad", "line 2"],
    );
    lab.write("d.csv", "base,source,targets\na,b\n");
    lab.refused(
        &["sweep", "--data", "d.csv"],
        &["d.csv, line 2: has 2 fields, but the header names 3"],
    );
    lab.write("e.json", "{\n\"prompts\": [\n 3]}");
    lab.refused(
        &["sweep", "--data", "e.json"],
        &["e.json, line 3: prompt 0 should be an object"],
    );
}

/// Parquet has no lines, so its rows are counted, from 0.
#[test]
fn bad_rows_of_parquet_are_named_by_their_number() {
    let lab = Lab::new();
    let (base, source) = ("The capital of Spain is", "The capital of Italy is");
    let good: ([&str; 3], &[i64]) = ([base, source, " Madrid"], &[3, 4]);
    let rows: [(_, &[i64], _); 3] = [
        (
            ["", source, " Madrid"],
            &[3],
            "base: the base prompt is empty",
        ),
        ([base, source, "Madrid Rome"], &[3], "targets: "),
        ([base, source, " Madrid"], &[3, 5], "positions: "),
    ];
    for (texts, positions, says) in rows {
        lab.write("b.parquet", parquet(&[good, (texts, positions), good]));
        let args = ["sweep", "--out", "t.csv", "--data", "b.parquet"];
        let args = [&args[..], &NARROW].concat();
        let place = format!("b.parquet, row 1, field {says}");
        lab.refused(&args, &[&place]);
        let said = lab.ok(&[&args[..], &["--skip-bad"]].concat());
        let skipped = format!("skipped 1 of 3 rows of b.parquet; the first: {place}");
        assert!(said.err.contains(&skipped), "{}", said.err);
        let rows = lab.table("t.csv").rows;
        let of_pairs: Vec<_> = rows.iter().map(|r| (r.pair, r.position)).collect();
        assert_eq!(
            of_pairs,
            [(0, Some(3)), (0, Some(4)), (2, Some(3)), (2, Some(4))]
        );
        for file in ["t.csv", "t.csv.meta.json", "t.summary.csv"] {
            std::fs::remove_file(lab.path(file)).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_wrong_as_a_whole_is_refused() {
    let lab = Lab::new();
    lab.refused(&["sweep", "--data", "no.jsonl"], &["no.jsonl: cannot read"]);
    lab.write("a.txt", "x");
    lab.refused(
        &["sweep", "--data", "a.txt"],
        &[".jsonl, .csv, .parquet", ".json"],
    );
    for (name, text) in [
        ("a.jsonl", "\n\n"),
        ("a.csv", ""),
        ("b.csv", "base,source\n"),
        ("a.json", "{\"prompts\": []}"),
        ("a.json", "[]"),
    ] {
        lab.write(name, text);
        lab.refused(
            &["sweep", "--data", name, "--skip-bad"],
            &[name, "has no rows"],
        );
    }
    lab.write("b.json", "{}");
    lab.refused(
        &["sweep", "--data", "b.json"],
        &["has no list `prompts`", ".jsonl"],
    );
    lab.write("b.parquet", "PAR1");
    lab.refused(
        &["sweep", "--data", "b.parquet"],
        &["b.parquet: not readable as Parquet"],
    );
    lab.refused(
        &["sweep", "--data", "x.csv", "--base", "y"],
        &["--data", "--base"],
    );
    lab.refused(&["sweep", "--skip-bad"], &["--data"]);
}
