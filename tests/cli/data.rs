//! `--data`: every format, named positions, both directions, and rows that are wrong.

use headlight::sweep::table::Row;

use crate::lab::{Lab, bits};
use crate::models::{SMALL, Size, config, file, weights, write};

/// A data set of tests/data, in a folder of one's own.
pub fn lab_with(names: &[&str]) -> Lab {
    let lab = Lab::new();
    for name in names {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name);
        lab.write(name, std::fs::read(path).unwrap());
    }
    lab
}

const NARROW: [&str; 6] = ["--component", "hook_v", "--heads", "0", "--layers", "0"];

fn rows(lab: &Lab, args: &[&str]) -> Vec<Row> {
    lab.sweep(&[args, &NARROW].concat())
}

fn targets(rows: &[Row], run: u32) -> Vec<(u32, &str)> {
    let of_run = rows.iter().filter(|row| row.run == run);
    of_run.map(|row| (row.pair, row.target.as_str())).collect()
}

/// The sweep of one pair of the demo, for comparison.
fn typed(lab: &Lab, base: &str, source: &str, target: &str) -> Vec<Row> {
    rows(
        lab,
        &["--base", base, "--source", source, "--target", target],
    )
}

/// Rows that the model answers with one of their targets are kept, in either direction, and asked at the
/// prompt that the targets answer.
#[test]
fn known_rows_are_kept() {
    let lab = lab_with(&["known.json"]);
    let pair = |base: &str, source: &str, target: &str| {
        format!(
            "{{\"{base}\": \"The capital of Spain is\", \"{source}\": \"The capital of Italy is\", \"targets\": [{target}]}}\n"
        )
    };
    let both = [NARROW.as_slice(), &["--metric", "kl"]].concat();
    for (base, source, right, wrong, called) in [
        ("base", "source", " Madrid", " Rome", "base"),
        ("corrupted", "clean", " Rome", " Madrid", "clean"),
        ("base", "clean", " Rome", " Madrid", "clean"),
        ("corrupt", "source", " Rome", " Madrid", "source"),
    ] {
        let rows = [
            pair(base, source, &format!("{wrong:?}")),
            pair(base, source, &format!("{wrong:?}, {right:?}")),
            pair(base, source, &format!("{wrong:?}, \" Paris\"")),
            pair(base, source, &format!("{right:?}")),
        ];
        lab.write("all.jsonl", rows.concat());
        lab.write("right.jsonl", rows[1].clone() + &rows[3]);
        lab.write("wrong.jsonl", rows[2].clone() + &rows[0]);
        for direction in ["denoise", "noise"] {
            let sweep = |file: &str, more: &[&str]| {
                let args = [
                    "sweep",
                    "--data",
                    file,
                    "--direction",
                    direction,
                    "--out",
                    "t.csv",
                ];
                let said = lab.ok(&[&args[..], &both, more].concat());
                (lab.table("t.csv").rows, lab.read("t.summary.csv"), said.err)
            };
            let (expected, means, said) = sweep("right.jsonl", &["--known"]);
            assert!(!said.contains("left out"), "{said}");
            let (kept, kept_means, said) = sweep("all.jsonl", &["--known"]);
            assert_eq!((&kept, &kept_means), (&expected, &means));
            let needle = format!(
                "left out 2 of 4 rows of all.jsonl, which the model answers otherwise; the first: \
                 all.jsonl, line 1: after the {called} prompt comes {right:?} and not {wrong:?}\n"
            );
            assert!(said.contains(&needle), "{needle}{said}");
            let (all, _, said) = sweep("all.jsonl", &[]);
            assert!(
                all.len() == 2 * kept.len() && !said.contains("left out"),
                "{said}"
            );
            let several = format!("comes {right:?} and not one of its 2 targets");
            lab.refused(
                &[
                    "sweep",
                    "--data",
                    "wrong.jsonl",
                    "--known",
                    "--direction",
                    direction,
                ],
                &[
                    "none of the 2 rows",
                    "--known",
                    "wrong.jsonl, line 1",
                    called,
                    &several,
                ],
            );
        }
    }
    // what cannot be read is counted by itself, and the BOS is part of the prompt
    lab.write(
        "bad.jsonl",
        format!(
            "{{}}\n{}{}",
            pair("base", "source", "\" Madrid\""),
            pair("base", "source", "\" Rome\"")
        ),
    );
    let said = lab.ok(&[
        "sweep",
        "--data",
        "bad.jsonl",
        "--known",
        "--skip-bad",
        "--layers",
        "0",
    ]);
    assert!(said.err.contains("skipped 1 of 3 rows"), "{said:?}");
    assert!(
        said.err.contains("left out 1 of 2 rows") && said.err.contains("line 3"),
        "{said:?}"
    );
    lab.refused(
        &["sweep", "--data", "bad.jsonl", "--known"],
        &["line 1", "base"],
    );
    lab.refused(&["sweep", "--known"], &["--data"]);
    // edges, paths and causal tracing alike
    lab.write(
        "two.jsonl",
        pair("base", "source", "\" Rome\"") + &pair("base", "source", "\" Madrid\""),
    );
    for command in ["edges", "path"] {
        let data = [command, "--data", "two.jsonl", "--senders", "m0", "--known"];
        let said = lab.ok(&[&data[..], &["--out", "t.csv"]].concat());
        assert!(said.err.contains("left out 1 of 2 rows"), "{said:?}");
        for row in lab.table("t.csv").rows {
            assert_eq!((row.pair, &*row.target), (0, " Madrid"), "{command}");
        }
    }
    let facts = lab.read("known.json").replace("\"Madrid\"", "\"Rome\"");
    lab.write("facts.json", facts);
    let trace = [
        "trace",
        "--data",
        "facts.json",
        "--samples",
        "2",
        "--known",
        "--out",
        "t.csv",
    ];
    let said = lab.ok(&trace);
    assert!(
        said.err.contains("left out 1 of 2 rows of facts.json"),
        "{said:?}"
    );
    // noise is three deviations of the subjects that are left
    lab.ok(&[
        "trace",
        "The capital of Italy is",
        "--subject",
        "Italy",
        "--samples",
        "2",
        "--out",
        "s.csv",
    ]);
    assert_eq!(
        bits(&lab.table("t.csv").rows),
        bits(&lab.table("s.csv").rows)
    );
    // rows without targets are answered as they are
    lab.write(
        "none.jsonl",
        "{\"base\": \"The capital of Spain is\", \"spans\": {\"subject\": 3}}\n",
    );
    let none = ["trace", "--data", "none.jsonl", "--samples", "1", "--known"];
    assert!(!lab.ok(&none).err.contains("left out"));
}

/// Greater-Than as EAP-IG's files have it: later years are right, in prob_diff as in the column.
#[test]
fn years_are_answers() {
    let lab = Lab::new();
    // a tokenizer of letters and of two digits, as GPT-2's has
    let letters = "TheGwarlstdfomyi$,0123456789\u{120}";
    let mut vocab: Vec<String> = letters.chars().map(String::from).collect();
    vocab.extend((0..100).map(|year| format!("{year:02}")));
    let size = Size {
        vocab: vocab.len(),
        context: 64,
        ..SMALL
    };
    write(&lab.path("m"), &config(size), &file(&weights(size, 1.0)));
    let ids = vocab
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), id.into()));
    let ids = serde_json::Value::Object(ids.collect());
    lab.write("m/vocab.json", ids.to_string());
    let merges = (0..100).map(|year| format!("{} {}\n", year / 10, year % 10));
    let merges: Vec<String> = merges.collect();
    lab.write(
        "m/merges.txt",
        format!("#version: 0.2\n{}", merges.concat()),
    );

    let war = "The war lasted from the year";
    let prompt = |from: u32| format!("{war} {from} to the year {}", from / 100);
    let rows = |column: &str, years: [u32; 2]| {
        let row =
            |year: u32, value: u32| format!("{},{},{value}\n", prompt(1300 + year), prompt(1301));
        format!(
            "clean,corrupted,{column}\n{}{}",
            row(52, years[0]),
            row(4, years[1])
        )
    };
    lab.write("g.csv", rows("correct_idx", [52, 4]));
    lab.write("label.csv", rows("label", [52, 4]));
    let sweep = |file: &str| {
        let args = [
            "sweep",
            "--model",
            "m",
            "--data",
            file,
            "--precision",
            "f64",
            "--out",
            "t.csv",
        ];
        let op = [
            "--op",
            "scale=1",
            "--component",
            "block_output",
            "--layers",
            "0",
            "--positions",
            "end",
        ];
        lab.ok(&[&args[..], &op, &["--metric", "prob_diff,logit_diff"]].concat());
        lab.table("t.csv").rows
    };
    let found = sweep("g.csv");
    assert_eq!(found, sweep("label.csv"));
    // of the corrupted prompt as it is, by the whole distribution
    let args = [
        "topk",
        "--model",
        "m",
        &prompt(1301),
        "-n",
        "200",
        "--format",
        "json",
        "--precision",
        "f64",
    ];
    let said = lab.ok(&args);
    let all: Vec<serde_json::Value> = serde_json::from_str(&said.out).unwrap();
    let prob = |year: usize| {
        let id = letters.chars().count() + year;
        let row = all.iter().find(|row| row["id"].as_u64() == Some(id as u64));
        row.unwrap()["logprob"].as_f64().unwrap().exp()
    };
    let mean_log = |years: std::ops::Range<usize>| {
        let n = years.len() as f64;
        years.map(|year| prob(year).ln()).sum::<f64>() / n
    };
    let mut rest = found.iter();
    for (pair, year) in [52, 4].into_iter().enumerate() {
        let right: f64 = (year + 1..100).map(prob).sum();
        let wrong: f64 = (0..year + 1).map(prob).sum();
        let logits = mean_log(year + 1..100) - mean_log(0..year + 1);
        for later in year + 1..100 {
            let row = rest.next().unwrap();
            assert_eq!(
                (row.pair as usize, &row.target),
                (pair, &format!("{later:02}"))
            );
            assert!((row.prob - prob(later)).abs() < 1e-12, "{row:?}");
            assert!((row.metrics[0] - (right - wrong)).abs() < 1e-12, "{row:?}");
            assert!((row.metrics[1] - logits).abs() < 1e-9, "{row:?}");
        }
    }
    assert!(rest.next().is_none());
    // a token id, which might be a year, and a year of another prompt
    lab.write("other.csv", rows("correct_idx", [52, 5]));
    let other = ["sweep", "--model", "m", "--data", "other.csv"];
    lab.refused(
        &other,
        &[
            "other.csv, line 3, field correct_idx",
            "no year",
            "target_ids",
        ],
    );
    lab.write(
        "both.csv",
        rows("correct_idx", [52, 4])
            .replace(",52\n", ",52,53\n")
            .replace(",4\n", ",4,53\n")
            .replace("_idx\n", "_idx,targets\n"),
    );
    lab.refused(
        &["sweep", "--model", "m", "--data", "both.csv"],
        &["line 2, field correct_idx"],
    );
    // other labels are not read
    lab.write("labels.csv", rows("label", [1, 0]));
    lab.refused(
        &["sweep", "--model", "m", "--data", "labels.csv"],
        &["line 2", "has no targets"],
    );
    // the demo's years are two tokens each
    let demo = ["sweep", "--data", "g.csv"];
    lab.refused(&demo, &["g.csv, line 2, field correct_idx", "is 2 tokens"]);
}

#[test]
fn each_pair_keeps_its_own_targets() {
    let lab = lab_with(&["capitals.jsonl"]);
    let all = rows(&lab, &["--data", "capitals.jsonl"]);
    assert_eq!(all.len(), 3 * 5);
    assert_eq!(
        targets(&all, 3),
        [(0, " Madrid"), (1, " Paris"), (2, " Warsaw")]
    );
    let first = typed(
        &lab,
        "The capital of Spain is",
        "The capital of Italy is",
        " Madrid",
    );
    assert_eq!(bits(&all[..5]), bits(&first));
    let second = typed(
        &lab,
        "The capital of France is",
        "The capital of Germany is",
        " Paris",
    );
    assert_eq!(bits(&all[5..10]), bits(&second));
    // targets from the flags are for rows without their own
    lab.write(
        "bare.jsonl",
        "{\"base\": \"The capital of Spain is\", \"source\": \"The capital of Italy is\"}\n",
    );
    let named = rows(&lab, &["--data", "bare.jsonl", "--target", " Madrid"]);
    assert_eq!(bits(&named), bits(&first));
    lab.refused(
        &["sweep", "--data", "bare.jsonl"],
        &["bare.jsonl, line 1: has no targets", "--targets"],
    );
}

#[test]
fn every_format_says_the_same() {
    let lab = lab_with(&[
        "capitals.jsonl",
        "capitals.csv",
        "eap_ig.csv",
        "auto_circuit.json",
    ]);
    let at = |file: &str, positions: &str| rows(&lab, &["--data", file, "--positions", positions]);
    let jsonl = at("capitals.jsonl", "3,4");
    assert_eq!(bits(&jsonl[..4]), bits(&at("capitals.csv", "3,4")));
    // a row's own positions, a word and from the end
    let own = rows(&lab, &["--data", "capitals.csv"]);
    assert_eq!(bits(&own), bits(&jsonl[..4]));
    let names: Vec<_> = own.iter().map(|r| r.name.as_deref()).collect();
    assert_eq!(
        names,
        [
            Some("head_value_output.0@Spain"),
            Some("head_value_output.0@end"),
            None,
            Some("head_value_output.0@-1")
        ]
    );
    // clean is the source, corrupted the base, so the answer is the source's
    let italy = typed(
        &lab,
        "The capital of Spain is",
        "The capital of Italy is",
        " Rome",
    );
    let eap = rows(&lab, &["--data", "eap_ig.csv"]);
    assert_eq!(bits(&eap[..5]), bits(&italy));
    assert_eq!(targets(&eap, 0), [(0, " Rome"), (1, " Madrid")]);
    let circuit = at("auto_circuit.json", "subject,end");
    assert_eq!(bits(&circuit[..2]), bits(&italy[3..]));
    assert_eq!(targets(&circuit, 0), [(0, " Rome"), (1, " Athens")]);
}

#[test]
fn noising_is_denoising_with_the_prompts_exchanged() {
    let lab = lab_with(&["eap_ig.csv"]);
    let noise = rows(&lab, &["--data", "eap_ig.csv", "--direction", "noise"]);
    let by_hand = typed(
        &lab,
        "The capital of Italy is",
        "The capital of Spain is",
        " Rome",
    );
    assert_eq!(bits(&noise[..5]), bits(&by_hand));
    let denoise = rows(&lab, &["--data", "eap_ig.csv", "--direction", "denoise"]);
    assert_eq!(bits(&denoise), bits(&rows(&lab, &["--data", "eap_ig.csv"])));
    assert_ne!(bits(&denoise), bits(&noise));
    // spans are exchanged too
    lab.write(
        "s.jsonl",
        r#"{"base": "The capital of Spain is", "source": "The capital city of Italy is", "target": " Rome",
            "spans": {"c": "Spain"}, "source_spans": {"c": "Italy"}}"#.replace('\n', " "),
    );
    let at = |direction: &str| {
        let rows = rows(
            &lab,
            &[
                "--data",
                "s.jsonl",
                "--positions",
                "c",
                "--direction",
                direction,
            ],
        );
        (rows[0].position, rows[0].source_position)
    };
    assert_eq!(at("denoise"), (Some(3), Some(4)));
    assert_eq!(at("noise"), (Some(4), Some(3)));
    lab.write(
        "n.jsonl",
        r#"{"base": "The capital of Spain is", "target": " Rome"}"#,
    );
    lab.refused(
        &[
            "sweep",
            "--data",
            "n.jsonl",
            "--direction",
            "noise",
            "--op",
            "zero",
        ],
        &["n.jsonl, line 1: has no source"],
    );
}

#[test]
fn unequal_lengths_need_names_and_get_no_padding() {
    let lab = Lab::new();
    lab.write(
        "u.jsonl",
        concat!(
            r#"{"base": "The capital of Spain is", "source": "The capital city of Italy is", "targets": [" Madrid"]}"#,
            "\n",
            r#"{"base": "The capital city of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"]}"#,
        ),
    );
    let all = rows(&lab, &["--data", "u.jsonl", "--positions", "end,-2"]);
    let places: Vec<_> = all
        .iter()
        .map(|r| (r.position, r.source_position))
        .collect();
    let at = |p: u32, s: u32| (Some(p), Some(s));
    assert_eq!(places, [at(4, 5), at(3, 4), at(5, 4), at(4, 3)]);
    assert_eq!(all[1].token.as_deref(), Some(" Spain"));
    // a name is one place, whatever its number in each prompt
    let averages = |positions: &str| {
        rows(
            &lab,
            &[
                "--data",
                "u.jsonl",
                "--op",
                "zero",
                "--positions",
                positions,
            ],
        );
        lab.read("t.summary.csv").lines().count() - 1
    };
    assert_eq!(averages("end,-2"), 2);
    assert_eq!(averages("together"), 1);
    assert_eq!(averages("all"), 6);
    // by number, the longer base has no partner in the source
    lab.refused(
        &["sweep", "--data", "u.jsonl"],
        &[
            "u.jsonl, line 2",
            "only 5 tokens where the patched one has 6",
            "subject.last",
        ],
    );
    // a word stands where it stands, and in an aligned source where it stood in the base
    let spain = |base: &str, source: &str| {
        rows(
            &lab,
            &[
                "--base",
                base,
                "--source",
                source,
                "--positions",
                "of,Spain",
            ],
        )
        .iter()
        .step_by(2)
        .map(|r| (r.position, r.source_position))
        .collect::<Vec<_>>()
    };
    assert_eq!(
        spain("The capital of Spain is", "The capital of Italy is"),
        [at(2, 2), at(3, 3)]
    );
    lab.refused(
        &[
            "sweep",
            "--base",
            "The capital city of Spain is",
            "--source",
            "The capital of Italy is",
            "--positions",
            "Spain",
        ],
        &["--positions: position Spain: the source prompt does not contain \"Spain\""],
    );
}

#[test]
fn averages_stand_beside_the_table() {
    let lab = lab_with(&["capitals.jsonl"]);
    let data = [
        "--data",
        "capitals.jsonl",
        "--positions",
        "subject.last,end",
    ];
    let all = rows(&lab, &data);
    let text = lab.read("t.summary.csv");
    let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .skip(1)
        .map(|l| l.split(',').collect())
        .collect();
    assert_eq!(lines.len(), 2);
    let line = &lines[0];
    assert_eq!(line[column("name")], "head_value_output.0@subject.last");
    assert_eq!(
        (
            line[column("pairs")],
            line[column("target")],
            line[column("prob_n")]
        ),
        ("3", "", "3")
    );
    let probs: Vec<f64> = all.iter().filter(|r| r.run == 0).map(|r| r.prob).collect();
    let mean = probs.iter().sum::<f64>() / 3.0;
    let error = (probs.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / 2.0 / 3.0).sqrt();
    let number = |name: &str| line[column(name)].parse::<f64>().unwrap();
    assert!((number("prob") - mean).abs() < 1e-15 && (number("prob_se") - error).abs() < 1e-15);
    // the other formats hold as many lines, and a typed pair has no averages
    for name in ["s.jsonl", "s.parquet"] {
        lab.ok(&[&["sweep", "--out", name][..], &data, &NARROW].concat());
    }
    assert_eq!(lab.read("s.summary.jsonl").lines().count(), 2);
    assert!(lab.path("s.summary.parquet").exists());
    let typed = Lab::new();
    typed.sweep(&NARROW);
    assert!(!typed.path("t.summary.csv").exists());
    lab.ok(&["sweep", "--data", "capitals.jsonl", "--plot", "m.svg"]);
}

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
        &["all 1 rows are bad", "line 2"],
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

#[test]
fn bos_moves_what_a_row_counts() {
    let lab = lab_with(&["auto_circuit.json"]);
    let plain = rows(
        &lab,
        &["--data", "auto_circuit.json", "--positions", "subject"],
    );
    let bos = rows(
        &lab,
        &[
            "--data",
            "auto_circuit.json",
            "--positions",
            "subject",
            "--bos",
        ],
    );
    assert_eq!((plain[0].position, bos[0].position), (Some(3), Some(4)));
    assert_eq!(plain[0].token, bos[0].token);
    let typed = rows(&lab, &["--bos", "--positions", "0,4"]);
    assert_eq!(typed[0].token.as_deref(), Some("<|endoftext|>"));
    assert_eq!(typed[2].token.as_deref(), Some(" Spain"));
    let spelt = rows(
        &lab,
        &[
            "--base",
            "<|endoftext|>The capital of Spain is",
            "--source",
            "<|endoftext|>The capital of Italy is",
            "--positions",
            "0,4",
            "--targets",
            " Madrid, Rome",
        ],
    );
    let asked = rows(
        &lab,
        &["--bos", "--positions", "0,4", "--targets", " Madrid, Rome"],
    );
    assert_eq!(bits(&spelt), bits(&asked));
    lab.refused(
        &[
            "sweep",
            "--bos",
            "--base",
            "<|endoftext|>x",
            "--source",
            "y",
        ],
        &["BOS token already", "--bos"],
    );
}

#[test]
fn first_token_lets_an_answer_of_several_count() {
    let lab = Lab::new();
    lab.write(
        "f.csv",
        "base,source,targets\nThe capital of Spain is,The capital of Italy is,Madrid\n",
    );
    lab.refused(
        &["sweep", "--data", "f.csv"],
        &["f.csv, line 2, field targets", "--first-token"],
    );
    let all = rows(&lab, &["--data", "f.csv", "--first-token"]);
    assert_eq!(all[0].target, "M");
}
