//! Positions that go by a name are drawn, filed and averaged under it, wherever it stands in each prompt.

use headlight::report::{DrawnValue, HeatMap};
use headlight::results::table::Row;

use crate::lab::Lab;

/// The second pair is longer by a token, so that the first one's `end` is the second one's `subject.last`.
const UNEQUAL: &str = r#"{"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"], "wrong_targets": [" Rome"], "spans": {"subject": "Spain"}, "source_spans": {"subject": "Italy"}}
{"base": "A The capital of France is", "source": "A The capital of Germany is", "targets": [" Paris"], "wrong_targets": [" Berlin"], "spans": {"subject": "France"}, "source_spans": {"subject": "Germany"}}
"#;
const EQUAL: &str = r#"{"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"], "spans": {"subject": "Spain"}, "source_spans": {"subject": "Italy"}}
{"base": "The capital of France is", "source": "The capital of Italy is", "targets": [" Paris"], "spans": {"subject": "France"}, "source_spans": {"subject": "Italy"}}
"#;

/// What stands along the columns, and the value of the first row under each.
fn columns(map: &HeatMap) -> Vec<(&str, f64)> {
    let facet = &map.facets[0];
    let labels = facet.groups.iter().map(|group| group.label.as_str());
    labels
        .enumerate()
        .map(|(i, label)| (label, facet.cell(0, i).unwrap_or(f64::NAN)))
        .collect()
}

#[test]
fn columns_are_what_was_asked_for() {
    let lab = Lab::new();
    lab.write("unequal.jsonl", UNEQUAL);
    lab.write("equal.jsonl", EQUAL);
    let sweep = |data: &str, positions: &str, metric: &str| {
        let out = lab.ok(&[
            "sweep",
            "--data",
            data,
            "--positions",
            positions,
            "--component",
            "head_value_output",
            "--layers",
            "0",
            "--heads",
            "0",
            "--metric",
            metric,
            "--out",
            "t.parquet",
            "--plot",
            "p.svg",
        ]);
        let table = lab.table("t.parquet");
        let map = HeatMap::new(&table, &DrawnValue::of(metric)).unwrap();
        assert_eq!(map.facets.len(), 1);
        let found: Vec<(String, f64)> = columns(&map)
            .into_iter()
            .map(|(l, x)| (l.to_owned(), x))
            .collect();
        (found, table, out.out)
    };
    // computed beside, with hooks: the subject's last token carries the answer, the last token nothing yet
    let (found, table, out) = sweep("unequal.jsonl", "subject.last,end", "recovery_logit_diff");
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["subject.last", "end"]);
    // the means of what each pair has by itself, and the picture's, which is that of the means
    let mean = |place: &str| {
        let of = |row: &&Row| row.position_name.as_deref() == Some(place);
        let own: Vec<f64> = table
            .rows
            .iter()
            .filter(of)
            .map(|row| row.metrics[0])
            .collect();
        assert_eq!(own.len(), 2);
        own.iter().sum::<f64>() / 2.0
    };
    assert!((mean("subject.last") - 0.945).abs() < 6e-4, "{found:?}");
    assert!(mean("end").abs() < 6e-4, "{found:?}");
    assert!(
        (found[0].1 - 0.951).abs() < 6e-4 && found[1].1.abs() < 6e-4,
        "{found:?}"
    );
    // in the order asked
    let (turned, ..) = sweep("unequal.jsonl", "end,subject.last", "recovery_logit_diff");
    assert_eq!(turned, [found[1].clone(), found[0].clone()]);
    // the terminal's picture, the SVG and the strongest cells say so too
    for text in [&out, &lab.read("p.svg")] {
        assert!(
            text.contains("subject.last") && text.contains("end"),
            "{text}"
        );
    }
    let said: Vec<(u32, Option<u32>, &str)> = table
        .rows
        .iter()
        .map(|row| {
            (
                row.pair,
                row.position,
                row.position_name.as_deref().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            (0, Some(3), "subject.last"),
            (0, Some(4), "end"),
            (1, Some(4), "subject.last"),
            (1, Some(5), "end")
        ]
    );
    // also where they are the same numbers, and for one pair
    let (found, ..) = sweep("equal.jsonl", "end", "prob");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "end");
    // a number stands for itself, beside a name; so does one that counts from the end
    let (found, table, _) = sweep("unequal.jsonl", "3,-1", "prob");
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["3", "-1"]);
    assert_eq!(table.rows[0].position_name.as_deref(), Some(""));
}

#[test]
fn every_kind_of_result_has_the_names() {
    let lab = Lab::new();
    lab.write("unequal.jsonl", UNEQUAL);
    for file in ["t.csv", "t.jsonl", "t.parquet"] {
        lab.ok(&[
            "path",
            "--data",
            "unequal.jsonl",
            "--senders",
            "a0.h0",
            "--positions",
            "subject.last,end",
            "--metric",
            "logit_diff",
            "--out",
            file,
            "--arrays",
            "a.npz",
        ]);
        let table = lab.table(file);
        let names: Vec<&str> = table
            .rows
            .iter()
            .map(|row| row.position_name.as_deref().unwrap())
            .collect();
        assert_eq!(
            names,
            ["subject.last", "end", "subject.last", "end"],
            "{file}"
        );
        let map = HeatMap::new(&table, &DrawnValue::of("logit_diff")).unwrap();
        let names: Vec<&str> = columns(&map).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["subject.last", "end"], "{file}");
    }
    let summary = lab.read("t.summary.csv");
    let mut lines = summary
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let at = header
        .iter()
        .position(|name| *name == "position_name")
        .unwrap();
    let names: Vec<&str> = lines.map(|line| line[at]).collect();
    assert_eq!(names, ["subject.last", "end"]);
    // an experiment that names positions
    lab.write(
        "e.json",
        r#"{"pair": [{"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"]},
                      {"base": "A The capital of France is", "source": "A The capital of Italy is", "targets": [" Paris"]}],
            "run": [{"patches": [{"component": "head_value_output", "layer": 0, "heads": [0], "positions": ["end"]}]},
                     {"patches": [{"component": "head_value_output", "layer": 0, "heads": [0], "positions": [1]}]}]}"#,
    );
    lab.ok(&["run", "e.json", "--out", "e.jsonl"]);
    let table = lab.table("e.jsonl");
    let names: Vec<&str> = table
        .rows
        .iter()
        .map(|row| row.position_name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["end", "", "end", ""]);
    let map = HeatMap::new(&table, &DrawnValue::of("prob")).unwrap();
    assert_eq!(map.facets[0].groups.len(), 2);
    // and what has none says nothing of them
    lab.ok(&["sweep", "--layers", "0", "--out", "n.csv"]);
    assert!(!lab.read("n.csv").contains("position_name"));
}
