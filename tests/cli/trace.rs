//! `headlight trace`: its table, averages and heat maps, data sets of facts, and what is refused.

use std::collections::BTreeMap;

use headlight::results::table::Row;

use crate::data::lab_with;
use crate::lab::{BASE, Lab, bits};

const SPAIN: [&str; 4] = ["trace", BASE, "--subject", "Spain"];

pub fn traced(lab: &Lab, args: &[&str]) -> Vec<Row> {
    lab.ok(&[&SPAIN[..], args, &["--out", "t.csv"]].concat());
    lab.table("t.csv").rows
}

pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let all: Vec<f64> = values.collect();
    all.iter().sum::<f64>() / all.len() as f64
}

/// Rows of a summary file by their columns.
fn summary(lab: &Lab, name: &str) -> Vec<BTreeMap<String, String>> {
    let text = lab.read(name);
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned));
    let header: Vec<String> = lines.next().unwrap().collect();
    lines
        .map(|line| header.iter().cloned().zip(line).collect())
        .collect()
}

#[test]
fn a_row_is_a_sample_of_a_restored_state() {
    let lab = Lab::new();
    let rows = traced(&lab, &["--samples", "3", "--metric", "kl"]);
    // three corrupted runs, then components × layers × positions × samples
    assert_eq!(rows.len(), 3 + 3 * 5 * 5 * 3);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!((row.run as usize, row.sample), (i, Some(i as u32 % 3)));
        assert_eq!((&*row.target, row.base_prob > 0.9), (" Madrid", true));
        let (component, layer, position, op) = match i.checked_sub(3).map(|i| i / 3) {
            None => ("token_embedding", None, 3, None),
            Some(cell) => (
                ["block_output", "mlp_output", "attention_output"][cell / 25],
                Some((cell % 25 / 5) as u32),
                cell as u32 % 5,
                Some("interchange"),
            ),
        };
        assert_eq!(row.component.as_deref(), Some(component), "{row:?}");
        assert_eq!(
            (row.layer, row.position),
            (layer, Some(position)),
            "{row:?}"
        );
        assert!(op.is_none_or(|op| row.op.as_deref() == Some(op)), "{row:?}");
        assert_eq!(
            row.token.as_deref(),
            Some(["The", " capital", " of", " Spain", " is"][position as usize])
        );
        let name = match layer {
            None => "corrupted",
            Some(_) => ["before", "before", "before", "subject.last", "end"][position as usize],
        };
        assert_eq!(row.name.as_deref(), Some(name));
    }
    // samples differ, and what stands before the subject restores nothing
    let corrupted: Vec<u64> = bits(&rows[..3]).into_iter().map(|(prob, _)| prob).collect();
    assert!(corrupted[0] != corrupted[1] && corrupted[1] != corrupted[2]);
    for row in rows
        .iter()
        .filter(|row| row.name.as_deref() == Some("before"))
    {
        assert_eq!(row.prob.to_bits(), corrupted[row.sample.unwrap() as usize]);
    }
    // the whole state of the last layer at the last position is the clean run's
    for row in rows
        .iter()
        .filter(|row| row.name.as_deref() == Some("end") && row.layer == Some(4))
    {
        if row.component.as_deref() == Some("block_output") {
            assert_eq!(row.prob.to_bits(), row.base_prob.to_bits());
        }
    }
    // averages: a line a place, over samples
    let lines = summary(&lab, "t.summary.csv");
    assert_eq!(lines.len(), 1 + 3 * 5 * 5);
    for line in &lines {
        let of: Vec<&Row> = rows
            .iter()
            .filter(|row| {
                row.component.as_deref() == Some(&line["component"])
                    && row.layer.map_or(String::new(), |l| l.to_string()) == line["layer"]
                    && row.position.map_or(String::new(), |p| p.to_string()) == line["position"]
            })
            .collect();
        assert_eq!(
            (of.len(), line["prob_n"].as_str(), line["sample"].as_str()),
            (3, "3", "")
        );
        let number = |name: &str| line[name].parse::<f64>().unwrap();
        let average = mean(of.iter().map(|row| row.prob));
        let variance = of
            .iter()
            .map(|row| (row.prob - average).powi(2))
            .sum::<f64>()
            / 2.0;
        assert!((number("prob") - average).abs() < 1e-12);
        assert!((number("prob_sd") - variance.sqrt()).abs() < 1e-12);
        assert!((number("prob_se") - (variance / 3.0).sqrt()).abs() < 1e-12);
        assert!((number("kl") - mean(of.iter().map(|row| row.metrics[0]))).abs() < 1e-12);
    }
    // fewer samples are the first of more, another seed is others
    let two = traced(&lab, &["--samples", "2", "--metric", "kl"]);
    assert_eq!(bits(&two[..2]), bits(&rows[..2]));
    let other = traced(&lab, &["--samples", "2", "--seed", "1"]);
    assert_ne!(bits(&two[..2]), bits(&other[..2]));
}

#[test]
fn subjects_are_words_numbers_and_ranges() {
    let lab = Lab::new();
    let of = |subject: &str| {
        let args = [
            "trace",
            BASE,
            "--subject",
            subject,
            "--samples",
            "1",
            "--noise",
            "0.3",
            "--component",
            "hook_resid_post",
        ];
        lab.ok(&[&args[..], &["--out", "t.csv"]].concat());
        bits(&lab.table("t.csv").rows)
    };
    assert_eq!(of("Spain"), of("3"));
    assert_eq!(of("capital of Spain"), of("1-3"));
    assert_ne!(of("capital of Spain"), of("Spain"));
    let ids = [
        "trace",
        "--ids",
        "279,285,263,700,261",
        "--subject",
        "3",
        "--samples",
        "1",
        "--noise",
        "0.3",
    ];
    lab.ok(&[&ids[..], &["--component", "block_output", "--out", "t.csv"]].concat());
    assert_eq!(bits(&lab.table("t.csv").rows), of("Spain"));
}

#[test]
fn people_see_a_grid_a_component_with_the_subject_starred() {
    let lab = Lab::new();
    let args = [&SPAIN[..], &["--samples", "2", "--plot", "t.svg"]].concat();
    let said = lab.ok(&args);
    for what in [
        "mlp (mlp_output)",
        "resid (block_output)",
        "attn (attention_output)",
        "_Spain*",
        "mlp_output in 10 layers around each",
        "block_output in one layer",
        "corrupted → restored",
        "2 samples",
        " clean, ",
    ] {
        assert!(said.out.contains(what), "{what}: {}", said.out);
    }
    assert!(!said.out.contains("_is*"), "{}", said.out);
    assert!(lab.read("t.svg").contains("_Spain*"));
    // three deviations of the embedding's numbers, and said so
    let model = headlight::model::Checkpoint::demo().unwrap();
    let level = 3.0 * headlight::tracing::level::deviation(&model, &[700]);
    assert!(
        said.out.contains(&format!("noise of {level:.4} (3s)")),
        "{level}: {}",
        said.out
    );
    let csv = lab.ok(&[&SPAIN[..], &["--samples", "1", "--out", "-"]].concat());
    assert_eq!(csv.out.lines().count(), 1 + 1 + 75);
}

#[test]
fn facts_are_traced_together() {
    let lab = lab_with(&["facts.json", "known.json"]);
    let of = |file: &str, more: &[&str]| {
        let args = [
            "trace",
            "--data",
            file,
            "--samples",
            "2",
            "--noise",
            "0.2",
            "--out",
            "t.csv",
        ];
        let said = lab.ok(&[&args[..], more].concat());
        (lab.table("t.csv").rows, said)
    };
    let (known, _) = of("known.json", &[]);
    let (facts, said) = of("facts.json", &["--metric", "logit_diff"]);
    assert_eq!(bits(&known), bits(&facts));
    assert_eq!(facts.len(), 2 * (2 + 2 * 75));
    let targets: Vec<&str> = facts
        .iter()
        .step_by(2 + 2 * 75)
        .map(|r| &*r.target)
        .collect();
    assert_eq!(targets, [" Madrid", " Rome"]);
    // the first is what was typed, with the same noise
    lab.ok(&[
        &SPAIN[..],
        &["--samples", "2", "--noise", "0.2", "--out", "s.csv"],
    ]
    .concat());
    assert_eq!(bits(&facts[..2 + 150]), bits(&lab.table("s.csv").rows));
    // the second has noise of its own
    assert_ne!(facts[0].logit.to_bits(), facts[152].logit.to_bits());
    // means over facts of means over samples and positions, by what a position is to the subject
    let lines = summary(&lab, "t.summary.csv");
    assert_eq!(lines.len(), 1 + 3 * 5 * 3);
    for line in &lines {
        let each: Vec<f64> = (0..2)
            .map(|pair| {
                let rows = facts.iter().filter(|row| {
                    row.pair == pair
                        && row.name.as_deref() == Some(&line["name"])
                        && row.component.as_deref() == Some(&line["component"])
                        && row.layer.map_or(String::new(), |l| l.to_string()) == line["layer"]
                });
                mean(rows.map(|row| row.prob))
            })
            .collect();
        let number = |name: &str| line[name].parse::<f64>().unwrap();
        assert!(
            (number("prob") - (each[0] + each[1]) / 2.0).abs() < 1e-12,
            "{line:?}"
        );
        assert!(
            (number("prob_se") - (each[0] - each[1]).abs() / 2.0).abs() < 1e-12,
            "{line:?}"
        );
        assert_eq!(
            (line["pairs"].as_str(), line["position"].as_str()),
            ("2", "")
        );
    }
    for what in [
        "subject.last*",
        "before",
        "end",
        "and 1 more pair ",
        "answer:",
    ] {
        assert!(said.out.contains(what), "{what}: {}", said.out);
    }
    // spans of other data sets, and rows without targets
    lab.write(
        "spans.jsonl",
        "{\"base\": \"The capital of Spain is\", \"spans\": {\"land\": 3}}\n",
    );
    let args = [
        "trace",
        "--data",
        "spans.jsonl",
        "--subject",
        "land",
        "--samples",
        "2",
        "--noise",
        "0.2",
    ];
    lab.ok(&[&args[..], &["--out", "s.csv"]].concat());
    assert_eq!(bits(&lab.table("s.csv").rows), bits(&facts[..2 + 150]));
    // sweeps read facts, too
    let sweep = [
        "sweep",
        "--data",
        "facts.json",
        "--op",
        "zero",
        "--positions",
        "subject",
        "--layers",
        "0",
    ];
    lab.ok(&[&sweep[..], &["--out", "z.csv"]].concat());
    assert_eq!(lab.table("z.csv").rows[0].target[..], *" Madrid");
}

#[test]
fn what_cannot_be_traced_is_refused() {
    let lab = lab_with(&["capitals.jsonl", "known.json"]);
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&SPAIN[..], &["--out", "t.csv"], args].concat(), needles);
    };
    refused(
        &["--samples", "4294967295"],
        &["4294967295 samples", "10000"],
    );
    refused(
        &["--component", "hook_v"],
        &["head_value_output cannot be traced"],
    );
    refused(&["--component", "mlp_output,mlp_output"], &["named twice"]);
    refused(&["--component", "mlp_output.3"], &["names a layer"]);
    refused(&["--window", "0"], &["at least one layer in its window"]);
    refused(&["--samples", "0"], &["at least one sample"]);
    refused(&["--noise", "loud"], &["3s"]);
    refused(&["--noise", "-1"], &["noise"]);
    refused(&["--target", " Nowhereville"], &["Nowhereville"]);
    refused(&["--metric", "recovery_kl"], &["source prompt"]);
    refused(&["--arrays", "a.json"], &[".npz or .safetensors"]);
    let alone = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["trace", "--out", "t.csv"], args].concat(), needles);
    };
    alone(&[], &["give a prompt"]);
    alone(
        &[BASE],
        &[
            "headlight: trace needs the words that are corrupted: give --subject, such as --subject Spain\n",
        ],
    );
    alone(
        &[BASE, "--subject", "France"],
        &["--subject: the base prompt does not contain \"France\""],
    );
    alone(&[BASE, "--subject", "9"], &["5 tokens"]);
    alone(&[BASE, "--data", "known.json"], &["cannot be used with"]);
    alone(
        &["--data", "known.json", "--arrays", "a.json"],
        &[".npz or .safetensors"],
    );
    alone(
        &["--data", "capitals.jsonl", "--subject", "object"],
        &["capitals.jsonl, line 1", "object"],
    );
    // a fact whose subject is not in its prompt, or there twice
    lab.write(
        "bad.json",
        "[{\"prompt\": \"Spain is Spain\", \"subject\": \"Spain\"}, 3]",
    );
    alone(&["--data", "bad.json"], &["bad.json, row 0", "2 times"]);
    lab.write("bad.json", "[3]");
    alone(&["--data", "bad.json"], &["bad.json, row 0", "object"]);
    lab.write("bad.json", "[{\"a\": 1}");
    alone(
        &["--data", "bad.json"],
        &["bad.json: not readable as a JSON list"],
    );
}
