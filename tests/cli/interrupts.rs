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

/// The command as a terminal starts it, whatever the tests' own parent ignores.
fn heard(command: &Command) -> Command {
    let mut heard = Command::new("env");
    heard
        .arg("--default-signal=HUP,INT,TERM")
        .arg(command.get_program());
    heard.args(command.get_args());
    heard.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => heard.env(name, value),
            None => heard.env_remove(name),
        };
    }
    heard
}

/// Asks a command to end after a while: how long it took, if it was not over by then. It leaves nothing.
fn end_after(lab: &Lab, args: &[&str], signal: &str, wait: Duration) -> Option<Duration> {
    let before = lab.files();
    let mut child = spawn(heard(&lab.command(args)));
    std::thread::sleep(wait);
    let clear = || {
        let new = lab
            .files()
            .into_keys()
            .filter(|path| !before.contains_key(path));
        new.for_each(|path| std::fs::remove_file(lab.path("").join(path)).unwrap());
    };
    if child.try_wait().unwrap().is_some() {
        clear();
        return None;
    }
    let asked = Instant::now();
    send(signal, &child);
    let said = said(&mut child);
    let code = child.wait().unwrap().code();
    let took = asked.elapsed();
    if code == Some(0) {
        // its last bytes were on their way
        clear();
        return None;
    }
    assert_eq!(code, Some(130), "{args:?} after {wait:?}: {said}");
    let last = said.lines().last().unwrap_or_default();
    // what it was asked for may be there already, whole and by name
    match last.strip_prefix("headlight: interrupted; written before that: ") {
        Some(names) => names
            .split(", ")
            .for_each(|name| std::fs::remove_file(lab.path(name)).unwrap()),
        None => assert_eq!(
            last, "headlight: interrupted; nothing was written",
            "{args:?}"
        ),
    }
    assert!(
        lab.files() == before,
        "{args:?} after {wait:?} left something"
    );
    Some(took)
}

/// How many moments of each command are tried; `HEADLIGHT_MOMENTS=100` for a thorough look.
fn moments() -> u64 {
    let asked = std::env::var("HEADLIGHT_MOMENTS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(2)
}

/// Reading, resolving, planning, running, writing: whatever a command is at. Once there is a handler, that is: what
/// comes sooner ends the process as it ends any.
#[test]
fn every_command_ends_within_300_ms_in_every_phase() {
    let lab = Lab::new();
    lab.write("d.jsonl", format!("{ROW}\n").repeat(20_000));
    lab.write(
        "e.toml",
        "[[run]]\n[[run.patches]]\ncomponent = \"mlp_output\"\nlayer = 0\npositions = [\"end\"]\n",
    );
    lab.write(
        "p.txt",
        "The capital of Spain is\nThe capital of Italy is\n",
    );
    lab.write("few.jsonl", format!("{ROW}\n").repeat(300));
    lab.ok(&["attribute", "edges", "--out", "scores.csv"]);
    lab.ok(&["circuit", "scores.csv", "--top-n", "40", "--out", "c.json"]);
    lab.ok(&[
        "sweep",
        "--data",
        "few.jsonl",
        "--preset",
        "every-head-by-position",
        "--out",
        "big.csv",
    ]);
    let commands = [
        "sweep --data d.jsonl --out q.csv",
        "sweep --data d.jsonl --known --out q.parquet --metric kl",
        "sweep --data d.jsonl --component mlp_output --op mean=p.txt --metric loss --out q.jsonl",
        "edges --data d.jsonl --senders m0 --receivers logits --out q.csv",
        "path --data d.jsonl --senders a0.h0 --receivers logits --out q.csv",
        "trace --ids 11,285,263,700,261 --subject 3 --samples 1000 --noise 0.1 --out q.csv",
        "run e.toml --data d.jsonl --out q.csv",
        "lens --data d.jsonl --out q.csv",
        "lens --data d.jsonl --by head --out q.csv",
        "cache --data d.jsonl --component block_output --out q.safetensors",
        "topk --data d.jsonl --format csv",
        "attribute nodes --data d.jsonl --out q.csv",
        "attribute edges --data d.jsonl --method eap-ig-inputs --out q.csv",
        "circuit evaluate c.json --data d.jsonl --out q.csv",
        "circuit acdc --data few.jsonl --threshold 0.01 --out q.json",
        "circuit curve scores.csv --data few.jsonl --out q.csv",
        "plot big.csv --out q.html",
        "plan sweep --data d.jsonl --metric kl",
        "verify",
        "bench",
    ];
    let mut times = Vec::new();
    // splitmix, so that a failure comes again
    let mut state = 0x5eed_u64;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) >> 11
    };
    for command in commands {
        let args: Vec<&str> = command.split(' ').collect();
        let mut seen = 0;
        for moment in 0..moments() {
            // early ones too, of commands that are soon done
            let wait = 100 + random() % if moment % 2 == 0 { 500 } else { 2000 };
            let took = end_after(&lab, &args, "-INT", Duration::from_millis(wait));
            seen += usize::from(took.is_some());
            times.extend(took.map(|took| (took, command)));
        }
        eprintln!("{seen} of {} moments of {command}", moments());
    }
    assert!(times.len() as u64 > 10 * moments(), "{times:?}");
    times.sort();
    eprintln!("slowest: {:?}", &times[times.len().saturating_sub(10)..]);
    // of a machine that does other things too, half: the rest may wait for a core
    let (median, _) = times[times.len() / 2];
    assert!(median < Duration::from_millis(300), "{times:?}");
    let (longest, of) = times[times.len() - 1];
    assert!(longest < Duration::from_secs(3), "{longest:?} of {of}");
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
