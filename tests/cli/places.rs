//! Outputs that are no plain files, and folders that others use too: nothing is lost, replaced or left over.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::lab::{BASE, Lab};

const NARROW: [&str; 5] = ["sweep", "--layers", "0", "--heads", "0"];

fn to<'a>(flag: &'a str, file: &'a str) -> Vec<&'a str> {
    [&NARROW[..], &[flag, file]].concat()
}

fn names(lab: &Lab) -> Vec<String> {
    let names = lab.files().into_keys();
    names
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_pipe_with_a_name_is_written_through() {
    let lab = Lab::new();
    let plain = [
        (to("--out", "t.csv"), "t.csv", "f.csv"),
        (to("--out", "t.jsonl"), "t.jsonl", "f.jsonl"),
        (to("--plot", "m.svg"), "m.svg", "f.svg"),
        (
            vec![
                "cache",
                BASE,
                "--component",
                "mlp_output",
                "--out",
                "a.safetensors",
            ],
            "a.safetensors",
            "f.safetensors",
        ),
    ];
    for (args, file, fifo) in plain {
        lab.ok(&args);
        let fifo_path = lab.path(fifo);
        assert!(
            Command::new("mkfifo")
                .arg(&fifo_path)
                .status()
                .unwrap()
                .success()
        );
        let reading = fifo_path.clone();
        let reader = std::thread::spawn(move || fs::read(reading).unwrap());
        let through: Vec<&str> = args
            .iter()
            .map(|arg| if *arg == file { fifo } else { arg })
            .collect();
        lab.ok(&through);
        assert!(fs::metadata(&fifo_path).unwrap().file_type().is_fifo());
        let read = reader.join().unwrap();
        assert!(read == fs::read(lab.path(file)).unwrap(), "{fifo}");
        fs::remove_file(fifo_path).unwrap();
        assert!(!lab.path(&format!("{fifo}.meta.json")).exists());
    }
}

#[test]
fn a_device_is_written_through_and_a_link_stays_a_link() {
    let lab = Lab::new();
    symlink("/dev/null", lab.path("null.csv")).unwrap();
    lab.ok(&to("--out", "null.csv"));
    assert!(
        fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
    assert!(
        fs::symlink_metadata(lab.path("null.csv"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(names(&lab), ["null.csv"]);

    if File::options().write(true).open("/dev/full").is_ok() {
        symlink("/dev/full", lab.path("full.csv")).unwrap();
        let said = lab.run(&to("--out", "full.csv"));
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(
            said.err
                .contains("full.csv: cannot write: the disk is full"),
            "{said:?}"
        );
        // which whoever reads it reads for ever
        fs::remove_file(lab.path("full.csv")).unwrap();
    }

    symlink("there.csv", lab.path("dangling.csv")).unwrap();
    lab.ok(&to("--out", "dangling.csv"));
    assert!(
        fs::symlink_metadata(lab.path("dangling.csv"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(lab.table("dangling.csv").rows, lab.table("there.csv").rows);
    symlink("no/where.csv", lab.path("lost.csv")).unwrap();
    lab.refused(
        &to("--out", "lost.csv"),
        &["lost.csv: there is no folder no"],
    );
}

#[test]
fn standard_output_by_its_other_names() {
    let lab = Lab::new();
    let dash = lab.ok(&to("--out", "-"));
    assert!(dash.out.starts_with("pair,run,name,"), "{dash:?}");
    for name in ["/dev/stdout", "/dev/fd/1"] {
        let other = lab.ok(&to("--out", name));
        assert_eq!(other.out, dash.out, "{name}");
        assert!(other.err.contains("strongest"), "{other:?}");
        assert_eq!(names(&lab), [""; 0]);
    }
}

#[test]
fn what_a_killed_process_left_goes() {
    let lab = Lab::new();
    lab.write(".headlight-abc.part", "half");
    lab.write("mine.part", "half");
    let then = SystemTime::now() - Duration::from_secs(3600);
    for file in [".headlight-abc.part", "mine.part"] {
        let file = File::options().write(true).open(lab.path(file)).unwrap();
        file.set_modified(then).unwrap();
    }
    lab.ok(&to("--out", "t.csv"));
    assert_eq!(names(&lab), ["mine.part", "t.csv", "t.csv.meta.json"]);
}

/// A table's provenance is its own, whoever else writes to the same name at the same time.
#[test]
fn of_two_who_write_one_name_the_last_has_both_files() {
    let lab = Lab::new();
    let pairs = [
        ("Spain", "Italy", " Madrid"),
        ("France", "Germany", " Paris"),
    ];
    for _ in 0..8 {
        let children = pairs.map(|(base, source, target)| {
            let [base, source] =
                [base, source].map(|country| format!("The capital of {country} is"));
            let prompts = ["--base", &base, "--source", &source, "--target", target];
            let mut command = lab.command(&[&to("--out", "t.csv")[..], &prompts].concat());
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        });
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let table = lab.table("t.csv");
        let of = |country: &str| {
            table.provenance.pairs[0]
                .base_text
                .as_ref()
                .unwrap()
                .contains(country)
        };
        let target = &*table.rows[0].target;
        let expected = pairs.iter().find(|(.., of)| *of == target).unwrap().0;
        assert!(of(expected), "{target} beside {:?}", table.provenance.pairs);
        assert_eq!(names(&lab), ["t.csv", "t.csv.meta.json"]);
    }
}

#[test]
fn results_may_stand_in_a_models_folder() {
    let lab = Lab::new();
    fs::create_dir(lab.path("m")).unwrap();
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/demo");
    let files = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    for file in files {
        fs::copy(demo.join(file), lab.path("m").join(file)).unwrap();
    }
    let prompts = [
        "--model",
        "m",
        "--base",
        BASE,
        "--source",
        "The capital of Italy is",
    ];
    for _ in 0..2 {
        lab.ok(&[&to("--out", "m/results.csv")[..], &prompts].concat());
        let cache = ["--model", "m", "cache", BASE, "--component", "mlp_output"];
        lab.ok(&[&cache[..], &["--out", "m/acts.safetensors"]].concat());
    }
    for file in ["model.safetensors", "other.safetensors"] {
        let out = format!("m/{file}");
        lab.write(
            "m/model.safetensors.index.json",
            r#"{"weight_map": {"x": "other.safetensors"}}"#,
        );
        lab.write("m/other.safetensors", "");
        let cache = [
            "--model",
            "m",
            "cache",
            BASE,
            "--component",
            "mlp_output",
            "--out",
            &out,
        ];
        lab.refused(&cache, &["a file of the model"]);
    }
}
