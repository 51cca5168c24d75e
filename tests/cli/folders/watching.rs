//! What is said before a run and while it goes on.

use serde_json::Value;

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
