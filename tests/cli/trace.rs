//! `headlight trace`: its table, averages, arrays and heat maps, data sets of facts, and what is refused.

use std::collections::BTreeMap;

use headlight::sweep::table::Row;

use crate::data::lab_with;
use crate::lab::{BASE, Lab, bits};
use crate::metrics::{member, npy};

const SPAIN: [&str; 4] = ["trace", BASE, "--subject", "Spain"];

fn traced(lab: &Lab, args: &[&str]) -> Vec<Row> {
    lab.ok(&[&SPAIN[..], args, &["--out", "t.csv"]].concat());
    lab.table("t.csv").rows
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
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
        assert_eq!(
            (row.target.as_str(), row.base_prob > 0.9),
            (" Madrid", true)
        );
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
fn arrays_have_romes_names() {
    let lab = Lab::new();
    let rows = traced(
        &lab,
        &[
            "--component",
            "mlp_output",
            "--window",
            "3",
            "--samples",
            "2",
            "--arrays",
            "a.npz",
            "--noise",
            "0.2",
        ],
    );
    let (shape, scores) = npy(&lab, "a.npz", "scores");
    assert_eq!(shape, [5, 5]);
    for (i, two) in rows[2..].chunks(2).enumerate() {
        let (layer, position) = (i / 5, i % 5);
        assert_eq!(
            (two[0].layer, two[0].position),
            (Some(layer as u32), Some(position as u32))
        );
        let found = scores[position * 5 + layer];
        assert!((found - (two[0].prob + two[1].prob) / 2.0).abs() < 1e-15);
    }
    let one = |name: &str| {
        let (shape, values) = npy(&lab, "a.npz", name);
        assert_eq!((shape.len(), values.len()), (0, 1), "{name}");
        values[0]
    };
    assert!((one("low_score") - (rows[0].prob + rows[1].prob) / 2.0).abs() < 1e-15);
    assert!((one("high_score") - rows[0].base_prob).abs() < 1e-15);
    assert_eq!(one("noise"), 0.2);
    let integers = |name: &str| -> Vec<i64> {
        let bytes = member(&lab, "a.npz", name);
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let values = bytes[10 + length..].chunks(8);
        values
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    assert_eq!(integers("input_ids"), [279, 285, 263, 700, 261]);
    assert_eq!(
        (
            integers("subject_range"),
            integers("window"),
            integers("samples")
        ),
        (vec![3, 4], vec![3], vec![2])
    );
    let text = |name: &str| {
        let bytes = member(&lab, "a.npz", name);
        String::from_utf8_lossy(&bytes).replace('\0', "")
    };
    assert!(text("answer").contains("'<U7'") && text("answer").ends_with(" Madrid"));
    assert!(text("kind").ends_with("mlp"));
    assert!(text("input_tokens").ends_with("The capital of Spain is"));
    // several components are a first axis, and safetensors say the rest in their metadata
    traced(&lab, &["--samples", "2", "--arrays", "b.safetensors"]);
    let bytes = std::fs::read(lab.path("b.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("scores").unwrap().shape(), [3, 5, 5]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(
        (&*about["kind"], &*about["window"]),
        (r#"["","mlp","attn"]"#, "[1,10,10]")
    );
}

/// Of prompts that differ in length and in what they have: means over those that have a place.
#[test]
fn arrays_of_a_data_set_go_by_roles() {
    let lab = Lab::new();
    let prompt = |text: &str, subject: &str, target: &str| {
        format!(
            "{{\"base\": \"{text}\", \"spans\": {{\"subject\": \"{subject}\"}}, \"targets\": [\"{target}\"], \"wrong_targets\": [\" Paris\"]}}\n"
        )
    };
    let rows = [
        prompt("The capital of Spain is", "Spain", " Madrid"),
        prompt(
            "The capital city of Italy is",
            "capital city of Italy",
            " Rome",
        ),
        prompt("The capital of Italy is", "The capital", " Rome"),
    ];
    lab.write("three.jsonl", rows.concat());
    let args = [
        "trace",
        "--data",
        "three.jsonl",
        "--samples",
        "2",
        "--noise",
        "0.2",
    ];
    let out = [
        "--metric",
        "logit_diff",
        "--out",
        "t.csv",
        "--arrays",
        "a.npz",
    ];
    lab.ok(&[&args[..], &out].concat());
    let rows = lab.table("t.csv").rows;
    let (shape, each) = npy(&lab, "a.npz", "scores_pairs");
    assert_eq!(shape, [3, 3, 7, 5]);
    assert_eq!(npy(&lab, "a.npz", "scores").0, [3, 7, 5]);
    let numbers = |name: &str| npy(&lab, "a.npz", name).1;
    let text = |name: &str| {
        let bytes = member(&lab, "a.npz", name);
        String::from_utf8_lossy(&bytes).replace('\0', "")
    };
    assert!(text("axes").ends_with("componentpositionlayer"));
    let roles = [
        "before",
        "subject.first",
        "subject.middle",
        "subject.last",
        "next",
        "further",
        "end",
    ];
    assert!(text("position").ends_with(&roles.concat()));
    let counts: Vec<i64> = member(&lab, "a.npz", "scores_n")
        .rchunks(8)
        .take(105)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for pair in 0..3 {
        let of = |name: &str, row: &&Row| row.pair == pair && row.name.as_deref() == Some(name);
        low.push(mean(
            rows.iter()
                .filter(|r| of("corrupted", r))
                .map(|r| r.metrics[0]),
        ));
        let clean = lab.sweep(&[
            "--data",
            "three.jsonl",
            "--metric",
            "logit_diff",
            "--op",
            "scale=1",
            "--component",
            "block_output",
            "--layers",
            "0",
            "--positions",
            "0",
        ]);
        high.push(clean[pair as usize].metrics[0]);
    }
    for (i, (component, role, layer)) in ["block_output", "mlp_output", "attention_output"]
        .iter()
        .flat_map(|c| {
            roles
                .iter()
                .flat_map(move |r| (0..5).map(move |l| (c, r, l)))
        })
        .enumerate()
    {
        let own = |pair: u32| {
            let of = rows.iter().filter(|row| {
                row.pair == pair
                    && row.name.as_deref() == Some(role)
                    && row.component.as_deref() == Some(component)
                    && row.layer == Some(layer)
            });
            mean(of.map(|row| row.metrics[0]))
        };
        let own: Vec<f64> = (0..3).map(own).collect();
        for (pair, own) in own.iter().enumerate() {
            let found = each[pair * 105 + i];
            assert!(
                (found - own).abs() < 1e-12 || (found.is_nan() && own.is_nan()),
                "{component} {role} {layer}: {found} {own}"
            );
        }
        let there: Vec<f64> = own.into_iter().filter(|x| !x.is_nan()).collect();
        let n = there.len() as f64;
        let average = mean(there.iter().copied());
        let square = there.iter().map(|x| (x - average).powi(2)).sum::<f64>();
        let deviation = (square / (n - 1.0)).sqrt();
        let same = |name: &str, expected: f64| {
            let found = numbers(name)[i];
            let both = found.is_nan() && expected.is_nan();
            assert!(
                (found - expected).abs() < 1e-12 || both,
                "{name}, {component} {role} {layer}: {found} {expected}"
            );
        };
        same("scores", average);
        same("scores_sd", deviation);
        same("scores_se", deviation / n.sqrt());
        assert_eq!(counts[104 - i], n as i64);
        let expected = match *role {
            // the second prompt's subject ends at the last token but one, the third's begins it
            "before" | "next" => 2 - i64::from(*role == "next"),
            "subject.first" => 2,
            "subject.middle" | "further" => 1,
            _ => 3,
        };
        assert_eq!(n as i64, expected, "{role}");
    }
    for (name, expected) in [("low_score", low), ("high_score", high)] {
        let found = numbers(&format!("{name}_pairs"));
        assert!(
            found
                .iter()
                .zip(&expected)
                .all(|(f, e)| (f - e).abs() < 1e-12)
        );
        let average = mean(expected.into_iter());
        assert!((numbers(name)[0] - average).abs() < 1e-12);
    }
    assert_eq!(numbers("noise"), [0.2]);
    // of one component and one prompt, in safetensors
    lab.write(
        "one.jsonl",
        prompt("The capital of Spain is", "Spain", " Madrid"),
    );
    let args = [
        "trace",
        "--data",
        "one.jsonl",
        "--component",
        "mlp_output",
        "--samples",
        "2",
    ];
    lab.ok(&[&args[..], &["--arrays", "b.safetensors"]].concat());
    let bytes = std::fs::read(lab.path("b.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("scores").unwrap().shape(), [7, 5]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(about["axes"], r#"["position","layer"]"#);
    assert_eq!(about["layer"], "[0,1,2,3,4]");
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
        .map(|r| r.target.as_str())
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
        "and 1 more pairs",
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
    assert_eq!(lab.table("z.csv").rows[0].target, " Madrid");
}

#[test]
fn what_cannot_be_traced_is_refused() {
    let lab = lab_with(&["capitals.jsonl", "known.json"]);
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&SPAIN[..], &["--out", "t.csv"], args].concat(), needles);
    };
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
    alone(&[], &["PROMPT"]);
    alone(&[BASE], &["--subject: ", "does not contain \"subject\""]);
    alone(
        &[BASE, "--subject", "France"],
        &["does not contain \"France\""],
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
