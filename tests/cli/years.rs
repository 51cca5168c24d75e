//! EAP-IG's Greater-Than: years as answers.

use crate::lab::Lab;
use crate::models::{SMALL, Size, config, file, weights, write};

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
                (row.pair as usize, &*row.target),
                (pair, &*format!("{later:02}"))
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
