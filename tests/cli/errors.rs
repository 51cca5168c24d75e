//! Bad input: exit code 2 and one sentence, nothing half-written.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::lab::{Lab, fixture};
use crate::models::{self, SMALL};

const EXPERIMENT: &str = r#"
targets = [" Madrid"]
[[pair]]
base = "The capital of Spain is"
source = "The capital of Italy is"
[[run]]
patches = [{ component = "head_value_output", layer = 2, heads = [1], positions = [3] }]
"#;

#[test]
fn prompts_and_targets() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(
            &[&["sweep", "--out", "t.csv", "--plot", "m.svg"], args].concat(),
            needles,
        );
    };
    refused(&["--base", ""], &["base prompt is empty"]);
    refused(
        &["--base", "x", "--source", ""],
        &["source prompt is empty"],
    );
    refused(
        &["--base", "x"],
        &["`interchange` reads a source prompt", "--source"],
    );
    refused(&["--source", "x"], &["--base"]);
    refused(
        &["--base", "x", "--base-ids", "1"],
        &["--base", "cannot be used with"],
    );
    refused(
        &["--base", &"is ".repeat(70), "--source", "x"],
        &["base prompt has", "context of 64"],
    );
    refused(
        &[
            "--base",
            "The capital of the Spain is",
            "--source",
            "The capital of Italy is",
        ],
        &["the source has 5 tokens and the base 6", "equal length"],
    );
    refused(
        &[
            "--base",
            "The capital of Spain is",
            "--source",
            "The capital of the Italy is",
        ],
        &["the source has 6 tokens and the base 5", "--positions end"],
    );
    refused(
        &["--target", "Madrid Rome"],
        &[
            "`Madrid Rome` is 5 tokens",
            "` Rome` (1052)",
            "--first-token",
        ],
    );
    refused(&["--target", ""], &["target `` is empty"]);
    refused(&["--targets", " Madrid,"], &["target `` is empty"]);
    refused(
        &["--targets", " Madrid, Madrid"],
        &["target id 948 is given twice"],
    );
    refused(
        &["--target", " Madrid", "--target-ids", "948"],
        &["target id 948 is given twice"],
    );
    refused(&["--target-ids", "99999"], &["99999", "0 to 1233"]);
    refused(&["--target-ids", "-1"], &["-1"]);
    refused(&["--target", "a\nb\u{1b}[31m"], &["`a\\nb"]);
    refused(&["--target", "東"], &["`東` is 3 tokens, `\\xE6` ("]);
}

#[test]
fn components_and_ranges() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["sweep", "--out", "t.csv"], args].concat(), needles);
    };
    refused(
        &["--component", "head_value_ouput"],
        &["`head_value_ouput`", "`head_value_output`"],
    );
    refused(&["--component", "HOOK_Z"], &["`HOOK_Z`", "hook_z`"]);
    refused(&["--component", "hook_zz"], &["`hook_zz`", "hook_z"]);
    refused(
        &["--component", "blocks.x.attn.hook_z"],
        &["`blocks.x.attn.hook_z`", "attn.hook_z"],
    );
    refused(
        &["--component", "hook_z,"],
        &["the name of a component is empty"],
    );
    refused(
        &["--component", "foo"],
        &["`foo`: write a name of pyvene's"],
    );
    refused(
        &["--component", "ov"],
        &["`ov`: did you mean `head_attention_value_output`?"],
    );
    refused(
        &["--component", "hook_z,head_attention_value_output"],
        &["of layer 0 is named twice"],
    );
    refused(
        &["--component", "hook_z,hook_z.3"],
        &["of layer 3 is named twice"],
    );
    refused(
        &["--component", "blocks.9.attn.hook_z"],
        &["layer 9", "0 to 4"],
    );
    refused(
        &["--component", "hook_z.2", "--layers", "1"],
        &["--layers 1"],
    );
    refused(
        &["--component", "final_output", "--layers", "1"],
        &["--layers 1"],
    );
    refused(
        &["--component", "block_output", "--heads", "0"],
        &["--heads 0", "no heads"],
    );
    refused(
        &["--component", "block_output", "--heads", "together"],
        &["--heads together"],
    );
    refused(&["--layers", "5"], &["layer 5", "0 to 4"]);
    refused(&["--heads", "0-4"], &["head 4", "0 to 3"]);
    refused(&["--positions", "5"], &["position 5", "0 to 4"]);
    refused(&["--layers", "together"], &["`together` is not a range"]);
    refused(
        &["--layers", "first"],
        &["`first` is not a range", "all, 3, 0,4 or 2-5"],
    );
    refused(&["--heads", "3-1"], &["--heads", "`3-1` is not a range"]);
    refused(
        &["--positions", "together,1"],
        &["--positions", "`together,1` is not a range", "together"],
    );
    refused(&["--positions", ""], &["--positions", "`` is not a range"]);
    refused(&["--positions", "-6"], &["position -6", "only 5 tokens"]);
    refused(
        &["--positions", "Spian"],
        &["--positions", "base prompt does not contain \"Spian\""],
    );
    refused(&["--positions", "3-1"], &["`3-1` is not a range"]);
    refused(&["--layers", "0-99999999999999999999"], &["is not a range"]);
    refused(
        &["--layers", "0-4000000000"],
        &["layer 4000000000 is out of range: layers are 0 to 4"],
    );
    refused(
        &["--positions", "0-4000000000"],
        &["position 4000000000 is out of range: positions are 0 to 4"],
    );
    for flag in ["--layers", "--heads", "--positions"] {
        let said = "`3-1` is not a range: a range goes from the lower to the higher, as in 1-3\n";
        refused(&[flag, "3-1"], &[said]);
    }
}

#[test]
fn models() {
    let lab = Lab::new();
    let refused = |model: &str, needles: &[&str]| {
        lab.refused(&["topk", "--ids", "1", "--model", model], needles);
    };
    refused(
        "/no/such/model",
        &["no model `/no/such/model`", "config.json"],
    );
    refused(".", &["`.` has no config.json"]);
    lab.write("file", "x");
    refused("file", &["`file` is a file, not a model"]);
    std::fs::create_dir(lab.path("bare")).unwrap();
    lab.write("bare/config.json", models::config(SMALL).to_string());
    refused("bare", &["`bare` holds no weights"]);

    let good = models::weights(SMALL, 0.5);
    let make =
        |config: &serde_json::Value, bytes: &[u8]| models::write(&lab.path("m"), config, bytes);
    let config = models::config(SMALL);
    let bytes = models::file(&good);
    make(&config, &bytes);
    lab.ok(&["topk", "--ids", "1", "--model", "m"]);
    make(&config, &bytes[..bytes.len() - 10]);
    refused("m", &["model.safetensors", "cut off"]);
    make(&config, &bytes[..40]);
    refused("m", &["model.safetensors", "cut off"]);
    make(
        &config,
        &[u64::MAX.to_le_bytes().as_slice(), &bytes[8..]].concat(),
    );
    refused("m", &["model.safetensors", "18446744073709551615"]);
    make(&config, b"");
    refused("m", &["model.safetensors"]);
    let mut tensors = good.clone();
    let lost = tensors.remove("h.1.mlp.c_fc.bias").unwrap();
    make(&config, &models::file(&tensors));
    refused("m", &["no tensor `h.1.mlp.c_fc.bias`"]);
    tensors.insert(
        "h.1.mlp.c_fc.bias".into(),
        (vec![lost.1.len() / 2, 2], lost.1),
    );
    make(&config, &models::file(&tensors));
    refused("m", &["`h.1.mlp.c_fc.bias` has shape [16, 2]", "[32]"]);
    let mut tensors = good.clone();
    tensors.get_mut("wte.weight").unwrap().1[9] = f32::NAN;
    make(&config, &models::file(&tensors));
    refused("m", &["`wte.weight` holds NaN at row 1, column 1"]);
    make(&json!({"model_type": "llama"}), &bytes);
    refused("m", &["llama", "only GPT-2"]);
    let mut odd = config.clone();
    odd["n_head"] = json!(3);
    make(&odd, &bytes);
    refused("m", &["config.json", "n_head"]);
    lab.write("m/config.json", "{");
    refused("m", &["config.json", "not a JSON object"]);
}

#[test]
fn outputs() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["sweep"], args].concat(), needles);
    };
    refused(&["--out", "no/t.csv"], &["no/t.csv: there is no folder no"]);
    refused(
        &["--plot", "no/m.svg"],
        &["no/m.svg: there is no folder no"],
    );
    refused(&["--out", "t.txt"], &["t.txt", ".csv, .jsonl or .parquet"]);
    refused(&["--out", "t"], &["t: ", ".csv, .jsonl or .parquet"]);
    refused(&["--out", ""], &["--out", "value is required"]);
    refused(
        &["--out", "/dev/full"],
        &["/dev/full", ".csv, .jsonl or .parquet"],
    );
    refused(
        &["--plot", "m.bmp"],
        &["m.bmp", ".svg, .png, .pdf or .html"],
    );
    refused(&["--plot", "-"], &[".svg, .png, .pdf or .html"]);
    std::fs::create_dir(lab.path("folder.csv")).unwrap();
    refused(&["--out", "folder.csv"], &["folder.csv: this is a folder"]);
    // its provenance would have a name too long, and so is refused before anything is computed
    let long = format!("{}.csv", "a".repeat(246));
    refused(
        &["--out", &long],
        &[".csv.meta.json: cannot create the file"],
    );
    lab.write("fixed.csv", "x");
    std::fs::set_permissions(
        lab.path("fixed.csv"),
        std::fs::Permissions::from_mode(0o444),
    )
    .unwrap();
    refused(
        &["--out", "fixed.csv"],
        &["fixed.csv: this file is read-only"],
    );
    std::fs::create_dir(lab.path("closed")).unwrap();
    std::fs::set_permissions(lab.path("closed"), std::fs::Permissions::from_mode(0o555)).unwrap();
    // permissions do not bind root
    if std::fs::write(lab.path("closed/probe"), "").is_err() {
        refused(
            &["--out", "closed/t.csv"],
            &["closed/t.csv", "permission denied"],
        );
    } else {
        std::fs::remove_file(lab.path("closed/probe")).unwrap();
        refused(&["--out", "/proc/t.csv"], &["/proc/t.csv", "cannot create"]);
    }
}

#[test]
fn result_files() {
    let lab = Lab::new();
    lab.ok(&["sweep", "--out", "t.csv", "--layers", "0"]);
    lab.ok(&["sweep", "--out", "t.jsonl", "--layers", "0"]);
    lab.ok(&["sweep", "--out", "t.parquet", "--layers", "0"]);
    let plot = |file: &str, needles: &[&str]| {
        lab.refused(&["plot", file, "--out", "m.svg"], needles);
    };
    plot("none.csv", &["none.csv", "no such file"]);
    plot("t.txt", &["t.txt", ".csv, .jsonl or .parquet"]);
    lab.write("empty.csv", "");
    plot("empty.csv", &["empty.csv"]);
    lab.write("other.csv", "a,b\n1,2\n");
    plot("other.csv", &["other.csv", "the column pair is missing"]);
    let mut lines: Vec<String> = lab.read("t.csv").lines().map(str::to_owned).collect();
    lines[3] = lines[3].replacen("0.98", "0.x8", 1);
    lab.write("bad.csv", lines.join("\n"));
    plot(
        "bad.csv",
        &["bad.csv, line 4, column ", "expected a number"],
    );
    let mut lines: Vec<String> = lab.read("t.jsonl").lines().map(str::to_owned).collect();
    lines[2] = lines[2].replacen("\"layer\":0", "\"layer\":\"zero\"", 1);
    lab.write("bad.jsonl", lines.join("\n"));
    plot("bad.jsonl", &["bad.jsonl, line 3, column layer"]);
    let bytes = std::fs::read(lab.path("t.parquet")).unwrap();
    lab.write("bad.parquet", &bytes[..bytes.len() / 2]);
    plot("bad.parquet", &["bad.parquet"]);
    // numbers that no run gives
    let line = lab.read("t.csv").lines().nth(1).unwrap().to_owned();
    let fields: Vec<&str> = line.split(',').collect();
    let header: Vec<String> = lab
        .read("t.csv")
        .lines()
        .next()
        .unwrap()
        .split(',')
        .map(str::to_owned)
        .collect();
    for (column, number, says) in [
        ("prob", "-5", "-5 is no prob, which is a number from 0 to 1"),
        ("prob", "inf", "inf is no prob"),
        ("logprob", "0.5", "0.5 is no logprob, which is 0 or less"),
        (
            "logit",
            "-inf",
            "-inf is no logit, which is a finite number",
        ),
        ("base_prob", "1.5", "1.5 is no base_prob"),
        (
            "layer",
            "999999999",
            "999999999 is beyond every model's, which end at 4095",
        ),
        (
            "position",
            "4294967295",
            "4294967295 is beyond every model's",
        ),
    ] {
        let at = header.iter().position(|name| name == column).unwrap();
        let mut changed = fields.clone();
        changed[at] = number;
        lab.write(
            "odd.csv",
            [&header.join(","), &line, &changed.join(",")]
                .map(|l| format!("{l}\n"))
                .concat(),
        );
        plot("odd.csv", &["odd.csv, row 1, column", column, says]);
    }
    lab.refused(
        &["plot", "t.csv", "--out", "m.svg", "--value", "nope"],
        &["nope", "prob, logprob, logit"],
    );
    lab.refused(
        &["plot", "t.csv", "--out", "m.gif"],
        &["m.gif", ".svg, .png, .pdf or .html"],
    );
    lab.refused(&["plot", "t.csv"], &["--out"]);
}

#[test]
fn the_memory_budget_is_said_as_it_was_given() {
    let lab = Lab::new();
    lab.write("e.toml", EXPERIMENT);
    for line in [
        &["sweep"][..],
        &["run", "e.toml"],
        &["topk", "x"],
        &["bench", "sweep", "--quick"],
    ] {
        let said = lab.run(&[line, &["--memory", "3"]].concat());
        let last = said.err.lines().last().unwrap();
        assert!(last.contains("but the memory budget is 3:"), "{said:?}");
    }
}

#[test]
fn devices_and_resources() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["topk", "x"], args].concat(), needles);
    };
    refused(
        &["--device", "quantum"],
        &["`quantum`", "auto, cpu, cuda, cuda:N, cuda:N,M or all"],
    );
    refused(&["--device", "cuda:x"], &["`cuda:x`"]);
    for precision in ["tf32", "bf16", "f16"] {
        refused(
            &["--precision", precision, "--device", "cpu"],
            &["GPU only", "f32 or f64"],
        );
    }
    refused(
        &["--precision", "f8"],
        &["'f8'", "f32, f64, tf32, bf16, f16"],
    );
    for size in ["abc", "0", "-1", "1.5G", "99999999999999T", ""] {
        refused(
            &[&format!("--memory={size}")],
            &["512M, 2G or a number of bytes"],
        );
    }
    for threads in ["0", "1025", "-3", "many"] {
        refused(&[&format!("--threads={threads}")], &["--threads"]);
    }
    // what is needed is known only with the plan, after the device has been named
    // (clean runs say theirs before patched ones do)
    let mut memory = "1K".to_owned();
    for _ in 0..4 {
        let said = lab.run(&["sweep", "--memory", &memory, "--out", "t.csv"]);
        if said.code == Some(0) {
            return;
        }
        assert_eq!((said.code, lab.files().len()), (Some(2), 0), "{said:?}");
        let last = said.err.lines().last().unwrap();
        assert!(
            last.starts_with("headlight: one run needs ") && last.contains("give --memory"),
            "{last}"
        );
        memory = last
            .split_whitespace()
            .find(|w| w.parse::<u64>().is_ok())
            .unwrap()
            .to_owned();
    }
    panic!("what was said to be enough was not: {memory}");
}

#[test]
fn text_that_is_not_utf8() {
    let lab = Lab::new();
    let bad = OsStr::from_bytes(b"caf\xe9");
    lab.refused(&[OsStr::new("topk"), bad], &["not UTF-8", "token ids"]);
    lab.refused(
        &[OsStr::new("sweep"), OsStr::new("--base"), bad],
        &["not UTF-8"],
    );
    // a path may be anything
    let out = OsStr::from_bytes(b"caf\xe9.csv");
    lab.ok(&[
        OsStr::new("sweep"),
        OsStr::new("--layers"),
        OsStr::new("0"),
        OsStr::new("--out"),
        out,
    ]);
    assert_eq!(lab.files().len(), 2);
}

#[test]
fn what_does_not_go_together() {
    let lab = Lab::new();
    lab.refused(&["sweep", "--colour", "red"], &["'red'", "never"]);
    lab.refused(&["sweep", "extra"], &["'extra'"]);
    lab.refused(&["sweep", "--out", "a.csv", "--out", "b.csv"], &["--out"]);
    lab.refused(&["sweep", "--seed", "x", "--op", "noise=1"], &["--seed"]);
    lab.refused(
        &[
            "topk",
            "--ids",
            "1",
            "--model",
            &fixture("tied"),
            "--format",
            "xml",
        ],
        &["'xml'"],
    );
    let ids = (0..20).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    lab.refused(
        &["topk", "--ids", &ids, "--model", &fixture("tied")],
        &["20 tokens", "context of 16"],
    );
}
