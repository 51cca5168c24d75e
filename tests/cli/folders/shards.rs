//! However a run is cut, ordered and interrupted, it merges to the same bytes; what is missing, double, foreign, stale
//! or truncated is refused in a sentence.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::kills::Random;
use super::{COMMANDS, lab, to};
use crate::lab::Lab;

fn merged(lab: &Lab, folders: &[&str]) -> (Vec<u8>, Vec<u8>) {
    lab.ok(&[&["merge"], folders, &["--out", "merged.parquet"]].concat());
    let read = |name: &str| std::fs::read(lab.path(name)).unwrap();
    (read("merged.parquet"), read("merged.summary.parquet"))
}

pub fn shuffled(count: usize, random: &mut Random) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}

#[test]
fn any_number_of_shards_merges_to_the_same_bytes() {
    let lab = lab(30);
    for (name, command) in COMMANDS {
        let start = Instant::now();
        let one = [command, &["--out", "merged.parquet"]].concat();
        lab.ok(&one);
        let longest = start.elapsed();
        let read = |name: &str| std::fs::read(lab.path(name)).unwrap();
        let wanted = (read("merged.parquet"), read("merged.summary.parquet"));
        for shards in [1, 2, 7, 23] {
            let mut random = Random(shards as u64);
            for shard in shuffled(shards, &mut random) {
                let which = format!("{shard}/{shards}");
                let args = [&to(command, "d/", "61")[..], &["--shard", &which]].concat();
                // one of three is killed first
                if random.below(3) == 0 {
                    let mut child = lab
                        .command(&args)
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .unwrap();
                    let wait = random.below(longest.as_micros() as u64 / 2);
                    std::thread::sleep(Duration::from_micros(wait));
                    let _ = child.kill();
                    child.wait().unwrap();
                }
                lab.ok(&args);
            }
            assert!(merged(&lab, &["d"]) == wanted, "{name} in {shards} shards");
            std::fs::remove_dir_all(lab.path("d")).unwrap();
        }
    }
}

#[test]
fn shards_of_several_machines() {
    let lab = lab(12);
    let (_, command) = COMMANDS[0];
    lab.ok(&[command, &["--out", "merged.parquet"]].concat());
    let wanted = std::fs::read(lab.path("merged.parquet")).unwrap();
    let shard = |which: &str, out: &str| {
        let args = [&to(command, out, "100")[..], &["--shard", which]].concat();
        lab.ok(&args)
    };
    shard("0/3", "a/");
    shard("2/3", "b/");
    let merge = |folders: &[&'static str]| [&["merge"][..], folders, &["--out", "m.csv"]].concat();
    lab.refused(&merge(&["a", "b"]), &["are missing: shard 1/3"]);
    lab.refused(&merge(&["a"]), &["shard 1/3, shard 2/3"]);
    let status = lab.ok(&["status", "a"]).out;
    assert!(
        status.contains("shard 0/3  done") && status.contains("shard 1/3  stopped"),
        "{status}"
    );
    shard("1/3", "a/");
    // the command that stands in the result is that of the first folder
    for folders in [["a", "b"], ["b", "a"]] {
        let (table, _) = merged(&lab, &folders);
        assert!(table == wanted);
    }
    shard("1/3", "b/");
    lab.refused(
        &merge(&["a", "b"]),
        &["part-00001-of-00003-", "stands in a and in b"],
    );
    // no two shards have one summary
    assert!(!lab.path("a/summary.parquet").exists());
}

#[test]
fn shards_that_do_not_belong_are_refused() {
    let lab = lab(8);
    let (_, command) = COMMANDS[0];
    let make = |out: &'static str, more: &[&'static str]| {
        lab.ok(&[&to(command, out, "100")[..], more].concat());
    };
    make("a/", &["--shard", "0/2"]);
    make("b/", &["--shard", "1/2"]);
    make("other/", &["--shard", "1/2", "--layers", "1"]);
    make("three/", &["--shard", "1/3"]);
    let merge = |folders: &[&'static str]| [&["merge"][..], folders, &["--out", "m.csv"]].concat();
    lab.refused(
        &merge(&["a", "other"]),
        &["other", "another run's", "the patches"],
    );
    lab.refused(
        &merge(&["a", "three"]),
        &["three", "is cut into 3 shards, not 2 shards"],
    );
    let (part, copy) = (
        "b/part-00001-of-00002-00000.parquet",
        "b/part-00001-of-00002-00001.parquet",
    );
    let bytes = |name: &str| std::fs::read(lab.path(name)).unwrap();
    let (whole, second) = (bytes(part), bytes(copy));
    // stale: of another run, under this one's name
    lab.write(part, bytes("other/part-00001-of-00002-00000.parquet"));
    lab.refused(&merge(&["a", "b"]), &[part, "another run's"]);
    // this run's, but another part
    lab.write(part, &second);
    lab.refused(
        &merge(&["a", "b"]),
        &[part, "other runs than the manifest says"],
    );
    // a file of somebody else
    lab.ok(&["sweep", "--component", "hook_z", "--out", "t.parquet"]);
    lab.write(part, bytes("t.parquet"));
    lab.refused(&merge(&["a", "b"]), &[part, "no run in a folder"]);
    // truncated anywhere
    for length in [0, 3, whole.len() / 2, whole.len() - 1] {
        lab.write(part, &whole[..length]);
        lab.refused(&merge(&["a", "b"]), &[part, "start the command again"]);
    }
    lab.write(part, &whole);
    // one that nobody knows
    lab.write("b/part-00009-of-00002-00000.parquet", &whole);
    lab.refused(&merge(&["a", "b"]), &["part-00009-of-00002", "in 2 shards"]);
    std::fs::remove_file(lab.path("b/part-00009-of-00002-00000.parquet")).unwrap();
    lab.ok(&merge(&["b", "a"]));
}

/// What a batch system says is what is computed.
#[test]
fn a_job_knows_its_shard() {
    let lab = lab(4);
    let (_, command) = COMMANDS[0];
    let args = [&to(command, "d/", "1000")[..], &["--shard", "auto"]].concat();
    for task in 0..3 {
        let mut job = lab.command(&args);
        job.env("SLURM_ARRAY_TASK_ID", (task + 1).to_string())
            .env("SLURM_ARRAY_TASK_COUNT", "3")
            .env("SLURM_ARRAY_TASK_MIN", "1")
            .env("SLURM_ARRAY_TASK_MAX", "3");
        let output = job.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            lab.path(&format!("d/part-0000{task}-of-00003-00000.parquet"))
                .exists()
        );
    }
    lab.ok(&["merge", "d", "--out", "t.csv"]);
}
