//! What people read: prompts as they were written, and nothing that drives a terminal.

use crate::lab::Lab;
use crate::models::{self, SMALL};

#[test]
fn prompts_do_not_drive_the_terminal() {
    let lab = Lab::new();
    let prompts = ["--base", "a\u{1b}[31mb", "--source", "a\u{1b}[31mc"];
    let said = lab.ok(&[&["sweep", "--layers", "0"], &prompts[..]].concat());
    assert!(!said.out.contains('\u{1b}'), "{said:?}");
    for line in ["base:   a\\u{1b}[31mb → ", "source: a\\u{1b}[31mc → "] {
        assert!(said.out.contains(line), "{said:?}");
    }
}

#[test]
fn prompts_beyond_ascii_are_readable() {
    let lab = Lab::new();
    let prompts = ["--base", "東京 é", "--source", "東亰 é"];
    let flags = ["sweep", "--layers", "0", "--out", "t.csv"];
    let said = lab.ok(&[&flags, &prompts[..]].concat());
    for line in [
        "base:   東京 é → ",
        "source: 東亰 é → ",
        "base    “東京 é”",
        "source  “東亰 é”",
    ] {
        assert!(said.out.contains(line), "{said:?}");
    }
    // a table keeps its prompts
    let made = lab.table("t.csv").provenance;
    assert_eq!(made.pairs[0].base_text.as_deref(), Some("東京 é"));
    assert_eq!(made.pairs[0].source_text.as_deref(), Some("東亰 é"));
}

#[test]
fn files_that_hold_nothing_of_use_are_named_for_what_they_are() {
    let lab = Lab::new();
    for name in ["e.json", "e.toml"] {
        lab.write(name, " \n");
        lab.refused(&["run", name], &[&format!("{name} is empty: ")]);
    }
    let bytes = models::file(&models::weights(SMALL, 0.5));
    models::write(&lab.path("m"), &models::config(SMALL), &bytes);
    let topk = ["topk", "--ids", "1", "--model", "m"];
    lab.write(
        "m/model.safetensors",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n",
    );
    lab.refused(
        &topk,
        &["model.safetensors` is a pointer", "`git lfs pull`"],
    );
    std::fs::remove_file(lab.path("m/model.safetensors")).unwrap();
    std::fs::create_dir(lab.path("m/model.safetensors")).unwrap();
    lab.refused(&topk, &["m/model.safetensors` is a folder: "]);
}

#[test]
fn numbers_are_as_short_as_they_can_be_and_named() {
    let lab = Lab::new();
    let noise = ["sweep", "--layers", "0", "--out", "t.csv", "--op"];
    for (op, label) in [
        ("noise=1e30", "noise=1e30"),
        ("scale=2", "scale=2"),
        ("scale=0.5", "scale=0.5"),
    ] {
        lab.ok(&[&noise[..], &[op]].concat());
        assert_eq!(lab.table("t.csv").rows[0].op.as_deref(), Some(label));
    }
    lab.write(
        "e.toml",
        "targets = [\" Madrid\"]\n[[pair]]\nbase = \"The capital\"\n[[run]]\n\
         patches = [{ component = \"block_output\", layer = 0, positions = [0], op = \"noise\", level = inf }]\n",
    );
    lab.refused(
        &["run", "e.toml"],
        &[
            "run 0",
            "block_output is patched with level = inf: give a finite number",
        ],
    );
}

#[test]
fn one_of_a_thing_is_singular() {
    let lab = Lab::new();
    let said = lab.ok(&["topk", "x", "--threads", "1", "--device", "cpu"]);
    assert!(said.err.contains("cpu, 1 thread, "), "{said:?}");
    lab.write("one.csv", "base,source,targets\na\n");
    lab.refused(
        &["sweep", "--data", "one.csv"],
        &["has 1 field, but the header names 3"],
    );
    lab.refused(
        &["sweep", "--data", "one.csv", "--skip-bad"],
        &["its only row is bad, so nothing is left to run"],
    );
}

#[test]
fn a_flag_of_another_command_is_not_advised() {
    let lab = Lab::new();
    let said = lab.refused(
        &[
            "sweep",
            "--base",
            "The capital of Spain is",
            "--source",
            "The capital",
            "--positions",
            "4",
        ],
        &["give prompts of equal length, or patch positions that both have"],
    );
    assert!(!said.err.contains("source_positions"), "{said:?}");
}

#[test]
fn a_prompt_is_asked_for_and_ids_are_explained() {
    let lab = Lab::new();
    let said = lab.refused(&["topk"], &[]);
    assert_eq!(said.err, "headlight: give a prompt, --ids or --data\n");
    for ids in ["-1", "", "x", "1,,2"] {
        for line in [
            &["topk", "--ids"][..],
            &["sweep", "--base-ids"],
            &["trace", "--ids"],
        ] {
            let flag = line[1];
            lab.refused(
                &[line, &[ids]].concat(),
                &[flag, "it takes token ids from 0 up, such as 464,3139\n"],
            );
        }
    }
}
