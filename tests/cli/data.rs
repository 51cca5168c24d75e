//! `--data`: every format, named positions, both directions.

use std::sync::Arc;

use headlight::results::table::Row;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::lab::{Lab, bits};

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

/// A Parquet file of bases, sources and targets, and of positions.
pub fn parquet(rows: &[([&str; 3], &[i64])]) -> Vec<u8> {
    let schema = "message pairs {
        required binary base (STRING);
        required binary source (STRING);
        required binary targets (STRING);
        optional group positions (LIST) { repeated group list { required int64 element; } }
    }";
    let mut out = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(&mut out, schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    for i in 0..3 {
        let texts: Vec<ByteArray> = rows.iter().map(|(t, _)| ByteArray::from(t[i])).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&texts, None, None).unwrap();
        column.close().unwrap();
    }
    let (mut positions, mut repetition) = (Vec::new(), Vec::new());
    for (_, of_row) in rows {
        positions.extend_from_slice(of_row);
        repetition.extend((0..of_row.len()).map(|i| i16::from(i > 0)));
    }
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<Int64Type>();
    let definition = vec![2; positions.len()];
    typed
        .write_batch(&positions, Some(&definition), Some(&repetition))
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    out
}

/// One head of one layer.
pub const NARROW: [&str; 6] = ["--component", "hook_v", "--heads", "0", "--layers", "0"];

fn rows(lab: &Lab, args: &[&str]) -> Vec<Row> {
    lab.sweep(&[args, &NARROW].concat())
}

fn targets(rows: &[Row], run: u32) -> Vec<(u32, &str)> {
    let of_run = rows.iter().filter(|row| row.run == run);
    of_run.map(|row| (row.pair, &*row.target)).collect()
}

/// The sweep of one pair of the demo, for comparison.
fn typed(lab: &Lab, base: &str, source: &str, target: &str) -> Vec<Row> {
    rows(
        lab,
        &["--base", base, "--source", source, "--target", target],
    )
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
    let [spain, france] = [
        [
            "The capital of Spain is",
            "The capital of Italy is",
            " Madrid",
        ],
        [
            "The capital of France is",
            "The capital of Germany is",
            " Paris",
        ],
    ];
    let bytes = parquet(&[(spain, &[3, 4]), (france, &[3, -1])]);
    lab.write("capitals.parquet", bytes);
    for columnar in [
        at("capitals.parquet", "3,4"),
        rows(&lab, &["--data", "capitals.parquet"]),
    ] {
        assert_eq!(bits(&columnar), bits(&jsonl[..4]));
        assert_eq!(targets(&columnar, 0), [(0, " Madrid"), (1, " Paris")]);
    }
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
    // by number, tokens face each other by accident, whichever prompt is longer
    let misaligned = [
        "u.jsonl, line 1",
        "6 tokens and the base 5",
        "--positions end",
    ];
    lab.refused(&["sweep", "--data", "u.jsonl"], &misaligned);
    let reverse = ["sweep", "--data", "u.jsonl", "--direction", "noise"];
    lab.refused(&reverse, &["u.jsonl, line 1", "5 tokens and the base 6"]);
    lab.refused(
        &["sweep", "--data", "u.jsonl", "--positions", "5"],
        &["u.jsonl, line 1", "position 5"],
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
    assert_eq!(&*all[0].target, "M");
}
