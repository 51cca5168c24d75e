//! Job scripts: what stands in them, and that a shell that runs them, signals included, ends up with the bytes of one
//! run. The real thing is tests/slurm.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{COMMANDS, cells, lab, to};
use crate::lab::Lab;

fn scripts<'a>(shards: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    let own = [
        "slurm",
        "--shards",
        shards,
        "--scripts",
        "jobs",
        "--merge-to",
        "all.parquet",
        "--",
    ];
    [&own[..], command].concat()
}

/// A shell that runs one of the scripts as a task; `scontrol` writes down what it was asked.
fn task(lab: &Lab, script: &str, task: usize) -> Command {
    let bin = lab.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let scontrol = bin.join("scontrol");
    std::fs::write(&scontrol, "#!/bin/sh\necho \"$@\" >> asked\n").unwrap();
    std::fs::set_permissions(&scontrol, PermissionsExt::from_mode(0o755)).unwrap();
    let mut path = vec![bin];
    path.extend(
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<PathBuf>>(),
    );
    let mut shell = Command::new("bash");
    shell
        .arg(lab.path(script))
        .current_dir(lab.path(""))
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("SLURM_ARRAY_JOB_ID", "77")
        .env("SLURM_ARRAY_TASK_ID", task.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell
}

#[test]
fn scripts_say_what_a_job_needs() {
    let lab = lab(3);
    let command = [
        "sweep",
        "--data",
        "many.jsonl",
        "--targets",
        " Madrid, Rome",
        "--out",
        "d/",
    ];
    let own = [
        "slurm",
        "--shards",
        "23",
        "--scripts",
        "jobs",
        "--sbatch=--gpus=1",
        "--time",
        "1:00:00",
        "--",
    ];
    let said = lab.ok(&[&own[..], &command].concat());
    assert!(said.out.contains("bash jobs/submit.sh"), "{}", said.out);
    let array = lab.read("jobs/array.sbatch");
    for line in [
        "#!/bin/bash",
        "#SBATCH --array=0-22",
        "#SBATCH --time=1:00:00",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:USR1@60",
        "#SBATCH --gpus=1",
    ] {
        assert!(array.lines().any(|l| l == line), "{line}: {array}");
    }
    let runs = " sweep --data many.jsonl --targets ' Madrid, Rome' --out d/ --resume --shard \"$SLURM_ARRAY_TASK_ID/23\" &\n";
    assert!(array.contains(runs), "{array}");
    assert!(
        lab.read("jobs/merge.sbatch")
            .contains(" merge d/ --out d.parquet\n")
    );
    let submit = lab.read("jobs/submit.sh");
    assert!(
        submit.contains("--dependency=\"afterok:$array\""),
        "{submit}"
    );
    for script in ["array.sbatch", "merge.sbatch", "submit.sh"] {
        let checked = Command::new("bash")
            .arg("-n")
            .arg(lab.path("jobs").join(script))
            .status();
        assert!(checked.unwrap().success(), "{script}");
    }
}

#[test]
fn commands_that_cannot_be_shards_are_refused() {
    let lab = lab(3);
    let refused = |command: &[&'static str], needles: &[&str]| {
        lab.refused(&scripts("2", command), needles);
    };
    refused(&["topk", "x"], &["sweep, edges, path, trace, lens or run"]);
    refused(&["sweep"], &["--out DIR/"]);
    refused(&["sweep", "--out", "t.csv"], &["--out DIR/"]);
    refused(&["sweep", "--out", "d/", "--shard", "0/2"], &["--shard"]);
    refused(&["sweep", "--lairs", "3"], &["behind --", "--lairs"]);
    lab.refused(&scripts("0", &["sweep", "--out", "d/"]), &["--shards"]);
}

#[test]
fn tasks_are_stopped_requeued_and_merged() {
    let lab = lab(200);
    let (_, command) = COMMANDS[0];
    lab.ok(&[command, &["--out", "one.parquet"]].concat());
    lab.ok(&scripts("2", &to(command, "d/", "1000")));
    let mut shell = task(&lab, "jobs/array.sbatch", 1).spawn().unwrap();
    let start = Instant::now();
    while !lab.path("d/part-00001-of-00002-00000.parquet").exists() {
        assert!(start.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = shell.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-USR1", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(shell.wait().unwrap().code(), Some(75));
    assert_eq!(lab.read("asked"), "requeue 77_1\n");
    let stopped = lab.ok(&["status", "d"]).out;
    assert!(stopped.contains("shard 1/2  stopped"), "{stopped}");
    for shard in [1, 0] {
        assert_eq!(
            task(&lab, "jobs/array.sbatch", shard)
                .status()
                .unwrap()
                .code(),
            Some(0)
        );
    }
    // nothing more was requeued
    assert_eq!(lab.read("asked").lines().count(), 1);
    assert!(
        task(&lab, "jobs/merge.sbatch", 0)
            .status()
            .unwrap()
            .success()
    );
    // as text, in which what is no number is the same as itself
    for file in ["parquet", "summary.parquet"] {
        let cells = |name: &str| cells(&lab, &format!("{name}.{file}"));
        assert!(cells("all") == cells("one"), "{file}");
    }
}
