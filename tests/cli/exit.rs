//! How a command ends: pipes, interruptions, full disks.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{BASE, Lab};
use crate::models::{self, Size};

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let lab = Lab::new();
    let ends = |args: &[&str], stderr: bool| {
        let mut child = lab
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if stderr {
            // a reader of both, as in `2>&1 | head`
            drop(child.stderr.take());
        }
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let mut rest = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut rest).unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {rest}");
        assert!(!rest.contains("panicked"), "{rest}");
        first
    };
    // far more than a pipe holds
    let first = ends(
        &[
            "sweep",
            "--out",
            "-",
            "--component",
            "hook_z,hook_v,hook_q,hook_k",
        ],
        false,
    );
    assert!(first.starts_with("pair,run,name,component,"), "{first}");
    assert!(ends(&["topk", BASE, "-n", "1234"], false).starts_with("_Madrid"));
    assert!(ends(&["topk", BASE, "-n", "1234"], true).starts_with("_Madrid"));
    ends(&["sweep"], true);
    ends(&["info"], true);
    // files are written whatever becomes of the pipe
    ends(&["sweep", "--out", "-", "--plot", "m.svg"], false);
    assert!(lab.read("m.svg").starts_with("<svg") || lab.read("m.svg").starts_with("<?xml"));
}

#[test]
fn a_full_device_is_an_error() {
    let lab = Lab::new();
    for args in [
        &["topk", BASE][..],
        &["info"],
        &["sweep"],
        &["sweep", "--out", "-"],
    ] {
        let Ok(full) = File::options().write(true).open("/dev/full") else {
            return;
        };
        let output = lab.command(args).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with("headlight: ") && last.contains("standard output"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn an_interruption_leaves_nothing_behind() {
    let lab = Lab::new();
    let size = Size {
        layers: 6,
        heads: 8,
        width: 256,
        vocab: 3000,
        context: 64,
    };
    models::write(
        &lab.path("big"),
        &models::config(size),
        &models::file(&models::weights(size, 0.05)),
    );
    let before = lab.files();
    let ids: Vec<String> = (0..64).map(|i| (i * 37 % 3000).to_string()).collect();
    let other: Vec<String> = (0..64).map(|i| (i * 41 % 3000).to_string()).collect();
    let (ids, other) = (ids.join(","), other.join(","));
    let args = [
        "sweep",
        "--model",
        "big",
        "--base-ids",
        &ids,
        "--source-ids",
        &other,
        "--threads",
        "1",
        "--memory",
        "256M",
        "--component",
        "hook_z,hook_v,hook_q,hook_k",
        "--target-ids",
        "1",
        "--precision",
        "f64",
        "--out",
        "t.csv",
    ];
    let mut child = lab
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("device: "), "{line}");
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(rest, "headlight: interrupted; nothing was written\n");
    assert_eq!(lab.files(), before);
}

/// Timing stops between two repeats; all that is still to be timed takes several seconds.
#[test]
fn a_bench_stops_where_it_is() {
    let mut child = Lab::new()
        .command(&["bench", "kernels", "--device", "cpu"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let timed = lines.any(|line| line.unwrap().starts_with("linear"));
    assert!(timed);
    let asked = Instant::now();
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(killed.success());
    assert!(lines.all(|line| !line.unwrap().contains("4096 ×")));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn help_and_versions_are_no_errors() {
    let lab = Lab::new();
    for args in [
        &["--help"][..],
        &["--version"],
        &["sweep", "--help"],
        &["help", "run"],
    ] {
        let said = lab.ok(args);
        assert!(!said.out.is_empty() && said.err.is_empty(), "{said:?}");
    }
    assert_eq!(lab.run::<&str>(&[]).code, Some(2));
    lab.refused(&["swep"], &["'swep'", "'sweep'"]);
    lab.refused(&["sweep", "--layer", "3"], &["'--layer'", "'--layers'"]);
}

/// What is read is not written over, nor one output by another.
#[test]
fn no_file_is_lost_to_another() {
    let lab = Lab::new();
    let row = "base,source,target\nThe capital of Spain is,The capital of Italy is, Rome\n";
    lab.write("pairs.csv", row);
    lab.write("prompts.txt", "The capital of Spain is\n");
    lab.write(
        "e.toml",
        "[[pair]]\nbase = \"The capital of Spain is\"\n[[run]]\npatches = [{ component = \
         \"mlp_output\", layer = 0, positions = [3], op = \"mean\", value = \"prompts.csv\" }]\n",
    );
    lab.write("prompts.csv", "The capital of Spain is\n");
    let refused: [(&[&str], [&str; 2]); 9] = [
        (
            &["sweep", "--data", "pairs.csv", "--out", "./pairs.csv"],
            ["--out", "--data"],
        ),
        (
            &["edges", "--data", "pairs.csv", "--out", "pairs.csv"],
            ["--out", "--data"],
        ),
        (
            &["path", "--data", "pairs.csv", "--out", "pairs.csv"],
            ["--out", "--data"],
        ),
        (
            &["trace", "--data", "pairs.csv", "--out", "pairs.csv"],
            ["--out", "--data"],
        ),
        (
            &["sweep", "--op", "mean=prompts.csv", "--out", "prompts.csv"],
            ["--out", "--op"],
        ),
        (
            &["run", "e.toml", "--out", "prompts.csv"],
            ["--out", "the experiment"],
        ),
        (
            &[
                "sweep",
                "--op",
                "set=v.safetensors#t",
                "--collect",
                "v.safetensors",
            ],
            ["--collect", "--op"],
        ),
        (
            &[
                "sweep",
                "--basis",
                "b.safetensors#r",
                "--collect",
                "b.safetensors",
            ],
            ["--collect", "--basis"],
        ),
        (
            &[
                "sweep",
                "--preset",
                "every-head",
                "--op",
                "collect",
                "--collect",
                "a.safetensors",
                "--arrays",
                "a.safetensors",
            ],
            ["--collect", "--arrays"],
        ),
    ];
    for (args, flags) in refused {
        lab.refused(args, &[flags[0], flags[1], "are the same file"]);
    }
    // a model's files are in a folder of their own
    let model = lab.path("model");
    std::fs::create_dir(&model).unwrap();
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/demo");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(demo.join(file), model.join(file)).unwrap();
    }
    let cache = [
        "--model",
        "model",
        "cache",
        "The capital",
        "--component",
        "mlp_output",
    ];
    let over = [&cache[..], &["--out", "model/model.safetensors"]].concat();
    lab.refused(&over, &["a file of the model"]);
    lab.ok(&[&cache[..], &["--out", "model/new.safetensors"]].concat());
}
