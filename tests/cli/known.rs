//! `--known`: rows that the model answers with one of their targets.

use crate::data::{NARROW, lab_with};
use crate::lab::bits;

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
            let (mut kept, kept_means, said) = sweep("all.jsonl", &["--known"]);
            // rows keep their numbers: 1 and 3
            kept.iter_mut().for_each(|row| row.pair /= 2);
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
            assert_eq!((row.pair, &*row.target), (1, " Madrid"), "{command}");
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
