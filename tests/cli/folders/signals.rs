//! Signals close the open part within a second, and two processes do not write one folder.

use std::io::{BufRead, BufReader, Read};
use std::process::Command;
use std::time::{Duration, Instant};

use super::kills::spawn;
use super::{COMMANDS, assert_same, lab, results, to};

#[test]
fn signals_keep_what_there_is() {
    let lab = lab(400);
    let (_, command) = COMMANDS[0];
    // everything in one part, so that a signal comes in the middle of it
    let args = to(command, "d/", "1000000");
    lab.ok(&args);
    let wanted = results(&lab, "d");
    std::fs::remove_dir_all(lab.path("d")).unwrap();
    let mut had = 0;
    for signal in ["TERM", "USR1", "INT"] {
        let watched = ["--progress", "json", "--progress-every", "0.05"];
        let mut child = spawn(&lab, &[&args[..], &watched].concat());
        let id = child.id().to_string();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        // until it has done something that had not been there
        loop {
            let mut line = String::new();
            assert!(
                stderr.read_line(&mut line).unwrap() > 0,
                "{signal}: it ended"
            );
            let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) else {
                continue;
            };
            if said["runs"].as_u64() > said["runs_kept"].as_u64().map(|kept| kept.max(had)) {
                break;
            }
        }
        let asked = Instant::now();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
        assert!(sent.unwrap().success());
        let status = child.wait().unwrap();
        let took = asked.elapsed();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(75), "{signal}: {said}");
        assert!(took < Duration::from_secs(1), "{signal}: {took:?}");
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with("headlight: stopped with 0 of 1 part whole"),
            "{said}"
        );
        let names: Vec<String> = results(&lab, "d").into_keys().collect();
        assert_eq!(names, ["manifest.json", "open-00000.parquet"]);
        // what is kept grows
        let runs = lab.table("d/open-00000.parquet").rows.len() as u64 / 2;
        assert!(runs > had, "{signal}: {runs} after {had}");
        had = runs;
        let status = lab.ok(&["status", "d", "--format", "json"]).out;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["state"], "stopped");
        assert_eq!(status["runs_done"], runs);
    }
    let said = lab.ok(&args);
    assert!(
        said.out.contains(&format!("{had} were there already")),
        "{}",
        said.out
    );
    assert_same(&lab, "d", &wanted, "after three signals");
}

#[test]
fn two_processes_do_not_write_one_folder() {
    let lab = lab(400);
    let (_, command) = COMMANDS[0];
    let args = to(command, "d/", "2000");
    let mut child = spawn(&lab, &args);
    let start = Instant::now();
    while !lab.path("d/part-00000.parquet").exists() {
        assert!(start.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = lab.run(&args);
    let running = lab.ok(&["status", "d"]).out;
    let first = child.wait().unwrap();
    assert_eq!(second.code, Some(2), "{second:?}");
    let last = second.err.lines().last().unwrap();
    let holder = format!("process {} on ", child.id());
    assert!(
        last.contains("writes there") && last.contains(&holder),
        "{last}"
    );
    assert!(running.contains("\nrunning: "), "{running}");
    assert_eq!(first.code(), Some(0));
}
