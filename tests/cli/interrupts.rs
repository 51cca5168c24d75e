//! Whoever asks a command to end is heard in every phase, and nohup is kept.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::Lab;

const ROW: &str = r#"{"base":"The capital of Spain is","source":"The capital of Italy is","targets":[" Madrid"],"wrong_targets":[" Rome"]}"#;

fn send(signal: &str, child: &Child) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status().unwrap();
    assert!(sent.success());
}

fn spawn(mut command: Command) -> Child {
    let piped = command.stdout(Stdio::null()).stderr(Stdio::piped());
    piped.spawn().unwrap()
}

fn said(child: &mut Child) -> String {
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    said
}

/// Asks a command to end after a while: how long it took, if it was not over by then. It leaves nothing.
fn end_after(lab: &Lab, args: &[&str], signal: &str, wait: Duration) -> Option<Duration> {
    let before = lab.files();
    let mut child = spawn(lab.command(args));
    std::thread::sleep(wait);
    if child.try_wait().unwrap().is_some() {
        return None;
    }
    let asked = Instant::now();
    send(signal, &child);
    let said = said(&mut child);
    let code = child.wait().unwrap().code();
    let took = asked.elapsed();
    if code == Some(0) {
        // its last bytes were on their way
        return None;
    }
    assert_eq!(code, Some(130), "{args:?} after {wait:?}: {said}");
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(
        last, "headlight: interrupted; nothing was written",
        "{args:?}"
    );
    assert!(
        lab.files() == before,
        "{args:?} after {wait:?} left something"
    );
    Some(took)
}

/// Reading, resolving, planning, running, writing: whatever a command is at. Once there is a handler, that is: what
/// comes sooner ends the process as it ends any.
#[test]
fn every_phase_ends_within_300_ms() {
    let lab = Lab::new();
    lab.write("d.jsonl", format!("{ROW}\n").repeat(20_000));
    let mut times = Vec::new();
    let commands: [&[&str]; 4] = [
        &["sweep", "--data", "d.jsonl", "--out", "q.csv"],
        &[
            "sweep",
            "--data",
            "d.jsonl",
            "--known",
            "--out",
            "q.parquet",
            "--metric",
            "kl",
        ],
        &[
            "edges",
            "--data",
            "d.jsonl",
            "--senders",
            "m0",
            "--receivers",
            "logits",
            "--out",
            "q.csv",
        ],
        &["verify"],
    ];
    for (i, args) in commands.into_iter().enumerate() {
        for wait in [100, 250, 400, 700, 1100, 1800] {
            let wait = Duration::from_millis(wait + 37 * i as u64);
            times.extend(end_after(&lab, args, "-INT", wait));
        }
    }
    assert!(times.len() > 15, "{times:?}");
    times.sort();
    // of a machine that does other things too, half: the rest may wait for a core
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(300), "{times:?}");
    assert!(times.last() < Some(&Duration::from_secs(3)), "{times:?}");
}

#[test]
fn hangups_end_a_command_unless_it_was_told_to_ignore_them() {
    let lab = Lab::new();
    lab.write("d.jsonl", format!("{ROW}\n").repeat(20_000));
    let args = ["sweep", "--data", "d.jsonl", "--out", "q.csv"];
    for signal in ["-HUP", "-TERM"] {
        assert!(
            end_after(&lab, &args, signal, Duration::from_millis(400)).is_some(),
            "{signal}"
        );
    }
    // as nohup starts it
    lab.write("d.jsonl", format!("{ROW}\n").repeat(150));
    let command = lab.command(&args);
    let mut ignoring = Command::new("sh");
    ignoring
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(command.get_program());
    ignoring.args(command.get_args()).current_dir(lab.path(""));
    let mut child = spawn(ignoring);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(60));
        if child.try_wait().unwrap().is_none() {
            send("-HUP", &child);
        }
    }
    let said = said(&mut child);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(lab.table("q.csv").rows.len() > 150);
}
