//! Every command of the pages in docs, run as it stands there.

use crate::data::lab_with;
use crate::lab::Lab;

const FILES: [&str; 6] = [
    "capitals.jsonl",
    "capitals.csv",
    "eap_ig.csv",
    "auto_circuit.json",
    "facts.json",
    "known.json",
];

/// Runs a page's commands; the page, and where its files are.
fn run(page: &str) -> (String, Vec<String>, Lab) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(page);
    let page = std::fs::read_to_string(path).unwrap();
    let lab = lab_with(&FILES);
    let commands = page
        .lines()
        .filter_map(|line| line.strip_prefix("headlight "));
    let commands: Vec<String> = commands.map(str::to_owned).collect();
    for command in &commands {
        lab.ok(&words(command));
    }
    (page, commands, lab)
}

/// A line as a shell splits it, with double quotes alone.
fn words(line: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        match i % 2 {
            0 => all.extend(part.split_whitespace().map(str::to_owned)),
            _ => all.push(part.to_owned()),
        }
    }
    all
}

#[test]
fn commands_of_the_edges_page_run() {
    let (page, commands, lab) = run("edges.md");
    assert!(commands.len() >= 6, "{commands:?}");
    // what two of them print
    let mut examples = page.split("```text\n").skip(1);
    let each = commands.iter().find(|c| c.contains("--per-position"));
    for command in [Some(&commands[0]), each] {
        let said = lab.ok(&words(command.unwrap()));
        let example = examples.next().unwrap().split_once("```").unwrap().0;
        assert!(
            example.lines().count() > 3 && said.out.contains(example),
            "{example}"
        );
    }
}

#[test]
fn commands_of_the_tracing_page_run() {
    let (page, commands, lab) = run("tracing.md");
    assert!(commands.len() >= 6, "{commands:?}");
    assert!(page.contains(lab.read("known.json").trim_end()));
    for file in [
        "trace.png",
        "mlp.npz",
        "facts.svg",
        "facts.summary.csv",
        "known.npz",
    ] {
        assert!(lab.path(file).exists(), "{file}");
    }
}

#[test]
fn commands_of_the_data_page_run() {
    let (page, commands, lab) = run("data.md");
    assert!(commands.len() >= 15, "{commands:?}");
    // every format, metric and preset family has one
    let all = commands.join("\n");
    for word in [
        ".jsonl",
        ".csv",
        "eap_ig",
        "auto_circuit",
        "rank",
        "logit_diff",
        "prob_diff",
        "kl",
        "top1",
        "entropy",
        "recovery_",
        "prob",
        "logprob",
        "logit",
        "every-head-by-position",
        "noise",
        "--bos",
        "--skip-bad",
    ] {
        assert!(all.contains(word), "{word}");
    }
    // the examples in the page are the files that the commands read
    let capitals = lab.read("capitals.jsonl");
    assert!(page.contains(capitals.lines().next().unwrap()));
    for name in ["capitals.csv", "eap_ig.csv", "auto_circuit.json"] {
        assert!(page.contains(lab.read(name).trim_end()), "{name}");
    }
    assert!(page.contains(lab.read("facts.json").lines().nth(1).unwrap()));
}

#[test]
fn commands_of_the_paths_page_run() {
    let (page, commands, lab) = run("paths.md");
    assert!(commands.len() >= 7, "{commands:?}");
    let said = lab.ok(&words(&commands[0]));
    let example = page.split("```text\n").nth(1).unwrap();
    let example = example.split_once("```").unwrap().0;
    assert!(
        example.lines().count() > 3 && said.out.contains(example),
        "{example}"
    );
}

#[test]
fn commands_of_the_scale_page_run() {
    let (_, commands, lab) = run("scale.md");
    assert!(commands.len() >= 12, "{commands:?}");
    for file in [
        "capitals/manifest.json",
        "capitals/part-00000.parquet",
        "capitals/summary.parquet",
        "capitals.parquet",
        "edges/part-00000.parquet",
        "paths/part-00000.parquet",
        "traces/part-00000.parquet",
        "all.summary.parquet",
        "jobs/submit.sh",
    ] {
        assert!(lab.path(file).exists(), "{file}");
    }
    assert_eq!(
        lab.table("capitals.parquet").rows,
        lab.table("all.parquet").rows
    );
}
