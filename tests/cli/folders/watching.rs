//! What is said before a run and while it goes on.

use std::io::{BufRead, BufReader, Read};
use std::process::Command;

use serde_json::Value;

use super::kills::spawn;
use super::{COMMANDS, lab};
use crate::lab::Lab;

fn plan(lab: &Lab, args: &[&str]) -> Value {
    let said = lab.ok(&[&["plan"], args, &["--format", "json"]].concat());
    serde_json::from_str(&said.out).unwrap()
}

#[test]
fn plans_say_what_is_then_run() {
    let lab = lab(9);
    for (name, command) in COMMANDS {
        let before = lab.files();
        let plan = plan(&lab, command);
        assert_eq!(lab.files(), before, "{name}");
        for key in ["runs", "flops", "bytes", "memory", "seconds"] {
            assert!(plan[key].is_number(), "{name}: {key}");
        }
        lab.ok(&[command, &["--out", "t.parquet"]].concat());
        let rows = lab.table("t.parquet").rows;
        assert_eq!(plan["rows"], rows.len() as u64, "{name}");
        let mut runs: Vec<_> = rows.iter().map(|row| (row.pair, row.run)).collect();
        runs.dedup();
        assert_eq!(plan["runs"], runs.len() as u64, "{name}");
        assert_eq!(plan["pairs"], 9);
        for file in ["t.parquet", "t.summary.parquet"] {
            std::fs::remove_file(lab.path(file)).unwrap();
        }
    }
    let shards = plan(&lab, &[COMMANDS[0].1, &["--shard", "0/4"]].concat());
    assert_eq!(shards["shards"], 4);
    assert!(shards["shard_seconds"].as_f64() < shards["seconds"].as_f64());
    let people = lab.ok(&[&["plan"], COMMANDS[0].1].concat());
    for word in [
        "pairs    9\n",
        "runs     ",
        "flops    ",
        "bytes    about",
        "memory   ",
        "time     about",
    ] {
        assert!(people.out.contains(word), "{}", people.out);
    }
}

/// A plan opens no part, and asks the model for no target.
#[test]
fn a_plan_runs_nothing() {
    let lab = lab(3);
    let typed = plan(&lab, &["sweep", "--component", "hook_z", "--out", "d/"]);
    assert_eq!(
        typed["rows"].as_u64(),
        typed["runs"].as_u64().map(|runs| 2 * runs)
    );
    assert!(!lab.path("d").exists());
    lab.refused(&["plan", "sweep", "--layers", "99"], &["layer"]);
    lab.refused(&["plan", "topk"], &["topk"]);
}

#[test]
fn progress_is_lines_for_people_or_programs() {
    let lab = lab(300);
    let (_, command) = COMMANDS[0];
    let out = ["--out", "t.csv", "--progress-every", "0.05"];
    let said = |progress: &[&'static str]| lab.ok(&[command, &out, progress].concat()).err;
    let log = said(&["--progress", "log"]);
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" runs ("))
        .collect();
    assert!(lines.len() > 2, "{log}");
    let planning = |line: &&&str| line.ends_with("planning");
    let (before, during): (Vec<&&str>, Vec<&&str>) = lines.iter().partition(planning);
    assert!(during.iter().all(|line| line.contains("FLOP/s, ")), "{log}");
    assert!(!during.is_empty(), "{before:?}");
    // what stands on standard error without a terminal is the same
    assert!(said(&[]).contains(" runs ("));
    assert!(!said(&["--progress", "none"]).contains(" runs ("));
    let json = said(&["--progress", "json"]);
    let objects = json.lines().filter(|line| line.starts_with('{'));
    let objects: Vec<Value> = objects
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(objects.len() > 2, "{json}");
    let last = objects.last().unwrap();
    assert_eq!(last["state"], "ended");
    assert_eq!(last["runs"], last["runs_total"]);
    assert_eq!(last["flops"], last["flops_total"]);
    let done: Vec<u64> = objects
        .iter()
        .map(|o| o["flops"].as_u64().unwrap())
        .collect();
    assert!(done.is_sorted(), "{done:?}");
    let refused = [command, &["--progress", "loud"]].concat();
    lab.refused(&refused, &["loud"]);
}

/// What had been there says nothing of the speed.
#[test]
fn progress_of_a_folder_that_is_gone_on_with() {
    let lab = lab(20);
    let (_, command) = COMMANDS[0];
    let args = [
        command,
        &["--out", "d/", "--part-rows", "300", "--progress", "json"],
    ]
    .concat();
    lab.ok(&args);
    std::fs::remove_file(lab.path("d/part-00000.parquet")).unwrap();
    let said = lab.ok(&args).err;
    let last = said.lines().rfind(|line| line.starts_with('{')).unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["runs"], last["runs_total"]);
    let (runs, kept) = (
        last["runs"].as_u64().unwrap(),
        last["runs_kept"].as_u64().unwrap(),
    );
    let part = lab.table("d/part-00000.parquet").rows.len() as u64 / 2;
    assert_eq!(runs - kept, part);
}

/// The objects of `--progress json` among what was said.
fn objects(said: &str) -> Vec<Value> {
    let lines = said.lines().filter(|line| line.starts_with('{'));
    let read = |line| serde_json::from_str(line).unwrap();
    lines.map(read).collect()
}

/// What is counted is what is done: runs of gradients, exact runs beside them, runs of circuits, edges tried.
#[test]
fn estimates_and_circuits_tell_how_far_they_are() {
    const LAYERS: u64 = 5;
    const PAIRS: u64 = 3;
    let lab = lab(PAIRS as usize);
    let edges = ["attribute", "edges", "--data", "many.jsonl"];
    let scores = ["--out", "scores.parquet"];
    let progress = ["--progress", "json"];
    let last = |args: &[&[&str]]| {
        let said = lab.ok(&[&args.concat()[..], &progress].concat()).err;
        let last = objects(&said).pop().expect("an object at the end");
        assert_eq!(last["state"], "ended", "{said}");
        assert_eq!(last["runs"], last["runs_total"], "{said}");
        last["runs"].as_u64().unwrap()
    };
    assert_eq!(last(&[&edges, &scores]), PAIRS);
    let methods = [
        (&["clean-corrupted"][..], 2),
        (&["eap-ig-inputs", "--steps", "4"], 4),
        (&["eap-ig-inputs", "--steps", "4", "--rule", "trapezoid"], 5),
        // along the embedding and what every block adds
        (
            &["eap-ig-activations", "--steps", "3"],
            3 * (1 + 2 * LAYERS),
        ),
        (&["relp"], 1),
        (&["ifr"], 1),
        (&["eap", "--gradient-at", "both"], 2),
        // exact runs of the largest and of as many others
        (&["eap", "--verify-top", "4"], 1 + 8),
    ];
    for (method, runs) in methods {
        let method = [&["--method"], method].concat();
        assert_eq!(last(&[&edges, &method]), PAIRS * runs, "{method:?}");
    }
    let nodes = [
        "attribute",
        "nodes",
        "--data",
        "many.jsonl",
        "--preset",
        "every-head",
    ];
    assert_eq!(last(&[&nodes]), PAIRS);
    assert_eq!(last(&[&nodes, &["--method", "atp-star"]]), PAIRS);

    lab.ok(&[
        "circuit",
        "scores.parquet",
        "--top-n",
        "40",
        "--out",
        "c.json",
    ]);
    let data = ["--data", "many.jsonl"];
    let evaluate = ["circuit", "evaluate", "c.json", "c.json"];
    assert_eq!(last(&[&evaluate, &data]), PAIRS * 4);
    let curve = ["circuit", "curve", "scores.parquet"];
    assert_eq!(last(&[&curve, &data]), PAIRS * (2 + 22));
    let acdc = ["circuit", "acdc", "--threshold", "0.5", "--out", "a.json"];
    let all = serde_json::from_str::<Value>(&lab.read("c.json")).unwrap();
    let all = all["edges"].as_object().unwrap().len() as u64;
    assert_eq!(last(&[&acdc, &data]), all);

    let log = [
        &evaluate[..],
        &data,
        &["--progress", "log", "--progress-every", "0.01"],
    ];
    let log = lab.ok(&log.concat()).err;
    let line = log.lines().find(|line| line.contains(" of 12 runs ("));
    assert!(line.is_some_and(|line| !line.contains("FLOP/s")), "{log}");
}

/// Whoever follows a command that is asked to end is told so.
#[test]
fn the_last_object_says_that_it_was_stopped() {
    let lab = lab(400);
    let (_, command) = COMMANDS[0];
    let watched = ["--progress", "json", "--progress-every", "0.05"];
    for (signal, out, code) in [
        ("TERM", "d/", 75),
        ("INT", "t.parquet", 130),
        // before the time of a batch system is up, whatever is written
        ("USR1", "t.parquet", 130),
    ] {
        let mut child = spawn(&lab, &[command, &["--out", out], &watched].concat());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("\"state\":\"running\"") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{signal}: {said}");
        }
        let id = child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
        assert!(sent.unwrap().success());
        let status = child.wait().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(code), "{signal}: {said}");
        let last = objects(&said).pop().unwrap();
        assert_eq!(last["state"], "stopped", "{signal}: {said}");
        assert!(
            last["runs"].as_u64() < last["runs_total"].as_u64(),
            "{said}"
        );
        assert_eq!(said.matches("\"stopped\"").count(), 1, "{said}");
    }
}

/// What results remember of their command can be pasted into a shell.
#[test]
fn commands_are_remembered_as_a_shell_reads_them() {
    let lab = lab(2);
    let base = "It's the capital of  Spain: $HOME";
    let args = ["sweep", "--base", base, "--op", "zero", "--heads", "0"];
    lab.ok(&[&args[..], &["--out", "d/"]].concat());
    lab.ok(&[&args[..], &["--out", "t.csv"]].concat());
    let words = |command: &str| {
        let line = format!("printf '%s\\n' {command}");
        let said = Command::new("sh").args(["-c", &line]).output().unwrap();
        let words = String::from_utf8(said.stdout).unwrap();
        let words: Vec<String> = words.lines().map(str::to_owned).collect();
        words[1..].to_vec()
    };
    let status = lab.ok(&["status", "d", "--format", "json"]).out;
    let status: Value = serde_json::from_str(&status).unwrap();
    let command = status["command"].as_str().unwrap();
    assert_eq!(words(command), [&args[..], &["--out", "d/"]].concat());
    let meta: Value = serde_json::from_str(&lab.read("t.csv.meta.json")).unwrap();
    let command = meta["command"].as_str().unwrap();
    assert_eq!(words(command), [&args[..], &["--out", "t.csv"]].concat());
}
