//! Processes that are killed at random moments, with SIGKILL and for want of room, and what is there in the end.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{COMMANDS, assert_same, lab, results, to};
use crate::lab::Lab;

/// Random numbers of a seed; whoever reruns a test gets the same.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

pub fn spawn(lab: &Lab, args: &[&str]) -> Child {
    lab.command(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts a command and kills it after up to `longest`, so many times; how often it was killed before it ended. What
/// starts from nothing and is over sooner says how long it takes now: machines have other work at times.
pub fn kill(
    lab: &Lab,
    args: &[&str],
    (times, longest): (usize, &mut Duration),
    random: &mut Random,
) -> usize {
    let mut killed = 0;
    for time in 0..times {
        let start = Instant::now();
        let mut child = spawn(lab, args);
        let wait = random.below(longest.as_micros() as u64);
        let then = Instant::now() + Duration::from_micros(wait);
        // one that is over needs no killing
        while Instant::now() < then && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(wait.min(500)));
        }
        let _ = child.kill();
        let status = child.wait().unwrap();
        match status.code() {
            None => killed += 1,
            Some(0) if time == 0 => *longest = start.elapsed().min(*longest),
            Some(0) => {}
            code => panic!("{args:?} ended with {code:?}"),
        }
    }
    killed
}

fn ends_as_if_nothing_had_happened(which: usize) {
    let lab = lab(60);
    let (name, command) = COMMANDS[which];
    let args = to(command, "quiet/", "300");
    let start = Instant::now();
    lab.ok(&args);
    let mut longest = start.elapsed();
    let wanted = results(&lab, "quiet");
    let mut manifest = wanted["manifest.json"].clone();
    assert!(wanted.len() > 10, "{name}: {}", wanted.len());
    let args = to(command, "d/", "300");
    let mut random = Random(which as u64 + 1);
    let (mut killed, mut rounds) = (0, 0);
    while killed < 15 {
        rounds += 1;
        assert!(rounds < 20, "{name} was killed {killed} times only");
        // what is whole makes the next start shorter
        if rounds > 1 {
            let _ = std::fs::remove_dir_all(lab.path("d"));
        }
        killed += kill(&lab, &args, (6, &mut longest), &mut random);
        lab.ok(&args);
        let text = String::from_utf8(manifest).unwrap().replace("quiet/", "d/");
        manifest = text.into_bytes();
        let mut here = wanted.clone();
        here.insert("manifest.json".into(), manifest.clone());
        let found = results(&lab, "d");
        assert!(found.keys().eq(here.keys()), "{name}: {:?}", found.keys());
        // parts and averages say which command they are of
        lab.ok(&["merge", "d", "--out", "t.csv"]);
        lab.ok(&["merge", "quiet", "--out", "u.csv"]);
        assert!(lab.read("t.csv") == lab.read("u.csv"), "{name}");
        assert!(
            lab.read("t.summary.csv") == lab.read("u.summary.csv"),
            "{name}"
        );
        let hidden = std::fs::read_dir(lab.path("d")).unwrap();
        let hidden = hidden.filter(|e| {
            let name = e.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".part")
        });
        assert_eq!(hidden.count(), 0, "{name} left files in the making");
    }
}

#[test]
fn a_sweep_that_is_killed() {
    ends_as_if_nothing_had_happened(0);
}

#[test]
fn edges_that_are_killed() {
    ends_as_if_nothing_had_happened(1);
}

#[test]
fn paths_that_are_killed() {
    ends_as_if_nothing_had_happened(2);
}

#[test]
fn a_tracing_that_is_killed() {
    ends_as_if_nothing_had_happened(3);
}

/// In one place, so that every byte is the same.
#[test]
fn every_byte_is_that_of_the_quiet_run() {
    let lab = lab(60);
    for (name, command) in COMMANDS {
        let args = to(command, "d/", "200");
        let start = Instant::now();
        lab.ok(&args);
        let mut longest = start.elapsed();
        let wanted = results(&lab, "d");
        std::fs::remove_dir_all(lab.path("d")).unwrap();
        kill(&lab, &args, (4, &mut longest), &mut Random(7));
        lab.ok(&args);
        assert_same(&lab, "d", &wanted, name);
        std::fs::remove_dir_all(lab.path("d")).unwrap();
    }
}

/// A disk that takes no more, as the shell's limit on files has it: an error in one sentence, and whoever starts
/// again with more room goes on.
#[test]
fn a_disk_without_room() {
    let lab = lab(40);
    let (_, command) = COMMANDS[0];
    let args = to(command, "d/", "1000000");
    lab.ok(&args);
    let wanted = results(&lab, "d");
    std::fs::remove_dir_all(lab.path("d")).unwrap();
    let line = "trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\"";
    let headlight = lab.command::<&str>(&[]);
    let output = Command::new("bash")
        .arg("-c")
        .arg(line)
        .arg(headlight.get_program())
        .args(&args)
        .current_dir(lab.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("headlight: d/part-00000.parquet: cannot write"),
        "{said}"
    );
    assert!(!lab.path("d/part-00000.parquet").exists());
    lab.ok(&args);
    assert_same(&lab, "d", &wanted, "after a full disk");
}

/// The folder goes away: an error in one sentence.
#[test]
fn a_folder_that_vanishes() {
    let lab = lab(400);
    let (_, command) = COMMANDS[0];
    let args = to(command, "d/", "300");
    let mut child = spawn(&lab, &args);
    let start = Instant::now();
    while !lab.path("d/part-00001.parquet").exists() {
        assert!(start.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(2));
    }
    std::fs::rename(lab.path("d"), lab.path("elsewhere")).unwrap();
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(
        said.lines()
            .last()
            .unwrap()
            .starts_with("headlight: d/part-"),
        "{said}"
    );
    std::fs::rename(lab.path("elsewhere"), lab.path("d")).unwrap();
    lab.ok(&args);
    let parts = lab.ok(&["status", "d"]).out;
    assert!(parts.contains("\ndone: "), "{parts}");
}
