//! `--data` and `--bos` of commands that take a prompt or an experiment; layouts under other names.

use safetensors::SafeTensors;

use crate::data::lab_with;
use crate::lab::{BASE, Lab, SOURCE, bits};

/// The demo's two prompts as rows.
fn rows(lab: &Lab, file: &str) {
    let row = |base: &str, source: &str, target: &str| {
        format!(
            "{{\"id\": \"of {target}\", \"base\": {base:?}, \"source\": {source:?}, \"target\": \" {target}\"}}\n"
        )
    };
    lab.write(
        file,
        row(BASE, SOURCE, "Madrid") + &row(SOURCE, BASE, "Rome"),
    );
}

#[test]
fn topk_of_every_row() {
    let lab = Lab::new();
    rows(&lab, "d.jsonl");
    let alone = [BASE, SOURCE].map(|prompt| lab.ok(&["topk", prompt, "-n", "3"]).out);
    let table = lab.ok(&["topk", "--data", "d.jsonl", "-n", "3"]).out;
    assert_eq!(
        table,
        format!("0: {BASE}\n{}\n1: {SOURCE}\n{}", alone[0], alone[1])
    );
    let csv = lab
        .ok(&["topk", "--data", "d.jsonl", "-n", "1", "--format", "csv"])
        .out;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "pair,prompt,id,token,prob,logprob,logit");
    assert!(
        lines[1].starts_with(&format!("0,{BASE},948, Madrid,0.98")),
        "{csv}"
    );
    assert!(
        lines[2].starts_with(&format!("1,{SOURCE},1052, Rome,")),
        "{csv}"
    );
    let json = lab
        .ok(&["topk", "--data", "d.jsonl", "-n", "1", "--format", "json"])
        .out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["top"][0]["token"], " Rome");
    assert_eq!(
        (&json[1]["pair"], &json[1]["row_id"]),
        (&1.into(), &"of Rome".into())
    );
    lab.refused(
        &["topk", BASE, "--data", "d.jsonl"],
        &["--data", "cannot be used with"],
    );
    lab.refused(&["topk"], &["give a prompt, --ids or --data"]);
}

#[test]
fn a_bos_before_a_prompt() {
    let lab = Lab::new();
    let ids = |ids: &str| lab.ok(&["topk", "--ids", ids, "-n", "5"]).out;
    let with = lab
        .ok(&["topk", "--bos", "--ids", "279,285,263", "-n", "5"])
        .out;
    assert_eq!(with, ids("0,279,285,263"));
    assert_ne!(with, ids("279,285,263"));
    lab.refused(
        &["topk", "--bos", "--ids", "0,279"],
        &["begins with the BOS token already"],
    );
    let cache = |args: &[&str]| {
        let rest = [
            "--component",
            "mlp_output",
            "--layers",
            "1",
            "--out",
            "a.safetensors",
        ];
        lab.ok(&[&["cache"], args, &rest[..]].concat());
        std::fs::read(lab.path("a.safetensors")).unwrap()
    };
    let [with, by_hand] = [
        cache(&["--bos", "--ids", "279,285"]),
        cache(&["--ids", "0,279,285"]),
    ];
    assert_eq!(with, by_hand);
}

#[test]
fn activations_of_every_row() {
    let lab = Lab::new();
    rows(&lab, "d.jsonl");
    let cache = |args: &[&str], out: &str| {
        let rest = ["--component", "mlp_output", "--layers", "1", "--out", out];
        lab.ok(&[&["cache"], args, &rest[..]].concat());
        std::fs::read(lab.path(out)).unwrap()
    };
    let all = cache(&["--data", "d.jsonl"], "all.safetensors");
    let all = SafeTensors::deserialize(&all).unwrap();
    for (row, prompt) in [BASE, SOURCE].into_iter().enumerate() {
        let alone = cache(&[prompt], "one.safetensors");
        let alone = SafeTensors::deserialize(&alone).unwrap();
        let [of_row, own] = [
            all.tensor(&format!("{row}.mlp_output.1")).unwrap(),
            alone.tensor("mlp_output.1").unwrap(),
        ];
        assert_eq!((of_row.shape(), of_row.data()), (own.shape(), own.data()));
    }
    assert_eq!(all.len(), 2);
}

#[test]
fn an_experiment_over_a_data_set() {
    let lab = Lab::new();
    rows(&lab, "d.jsonl");
    let run = "[[run]]\nname = \"country\"\npatches = [{ component = \"head_value_output\", layer = 0, heads = [0], positions = [\"of\", -2] }]\n";
    lab.write("over.toml", run);
    let over = lab.rows("run", &["over.toml", "--data", "d.jsonl"]);
    let pair = |base: &str, source: &str, target: &str| {
        format!("[[pair]]\nbase = {base:?}\nsource = {source:?}\ntargets = [{target:?}]\n")
    };
    let pairs = pair(BASE, SOURCE, " Madrid") + &pair(SOURCE, BASE, " Rome");
    lab.write("own.toml", format!("{pairs}{run}"));
    let own = lab.rows("run", &["own.toml"]);
    assert_eq!(bits(&over), bits(&own));
    assert_eq!(over[1].id.as_deref(), Some("of Rome"));
    // targets of the file are those of rows without
    lab.write(
        "bare.jsonl",
        format!("{{\"base\": {BASE:?}, \"source\": {SOURCE:?}}}\n"),
    );
    lab.write("targets.toml", format!("targets = [\" Madrid\"]\n{run}"));
    let bare = lab.rows("run", &["targets.toml", "--data", "bare.jsonl"]);
    assert_eq!(bits(&bare), bits(&own[..1]));
    // a BOS moves what is counted from the front
    let bos = lab.rows("run", &["own.toml", "--bos"]);
    let swept = [
        "sweep",
        "--data",
        "d.jsonl",
        "--bos",
        "--component",
        "hook_v",
        "--layers",
        "0",
        "--heads",
        "0",
    ];
    assert_eq!(
        bos[0].base_prob,
        lab.rows("sweep", &swept[1..])[0].base_prob
    );
    assert_ne!(bos[0].base_prob, own[0].base_prob);
    lab.refused(
        &["run", "own.toml", "--data", "d.jsonl"],
        &["has pairs of its own"],
    );
    lab.refused(&["run", "over.toml"], &["the experiment has no pairs"]);
}

#[test]
fn json_lines_under_the_name_of_json() {
    let lab = lab_with(&["auto_circuit.json", "facts.json"]);
    rows(&lab, "d.jsonl");
    rows(&lab, "d.json");
    let narrow = ["--component", "hook_v", "--layers", "0", "--heads", "0"];
    let sweep = |file: &str| bits(&lab.sweep(&[&["--data", file], &narrow[..]].concat()));
    assert_eq!(sweep("d.json"), sweep("d.jsonl"));
    lab.write("one.json", lab.read("d.json").lines().next().unwrap());
    assert_eq!(sweep("one.json"), sweep("d.jsonl")[..5]);
    // auto-circuit's object in one line, and a list
    let object: serde_json::Value = serde_json::from_str(&lab.read("auto_circuit.json")).unwrap();
    lab.write("line.json", object.to_string());
    assert_eq!(sweep("line.json"), sweep("auto_circuit.json"));
    lab.ok(&["sweep", "--data", "facts.json", "--op", "zero"]);
    lab.write(
        "bad.json",
        format!("{}{{\"base\": 3}}\n", lab.read("d.json")),
    );
    lab.refused(&["sweep", "--data", "bad.json"], &["bad.json, line 3"]);
}

#[test]
fn the_braces_say_which_subject_is_meant() {
    let lab = Lab::new();
    let fact = |prompt: &str| {
        format!("[{{\"prompt\": {prompt:?}, \"subject\": \"Spain\", \"attribute\": \"Madrid\"}}]")
    };
    let traced = |data: &str| {
        lab.write("f.json", data);
        let args = [
            "--data",
            "f.json",
            "--samples",
            "1",
            "--component",
            "mlp_output",
            "--noise",
            "0.5",
        ];
        bits(&lab.rows("trace", &args))
    };
    let typed = |subject: &str| {
        let prompt = "Spain is in Spain and the capital of Spain is";
        let args = [
            prompt,
            "--subject",
            subject,
            "--target",
            " Madrid",
            "--samples",
            "1",
            "--component",
            "mlp_output",
            "--noise",
            "0.5",
        ];
        bits(&lab.rows("trace", &args))
    };
    let ids = headlight::model::Checkpoint::demo().unwrap();
    let tokens = ids
        .text()
        .unwrap()
        .encode("Spain is in Spain and the capital of Spain is")
        .unwrap();
    let last = tokens.len() - 2;
    assert_eq!(
        traced(&fact("Spain is in Spain and the capital of {} is")),
        typed(&last.to_string())
    );
    let first = traced(&fact("{} is in Spain and the capital of Spain is"));
    assert_ne!(first, typed(&last.to_string()));
    lab.write(
        "f.json",
        fact("Spain is in Spain and the capital of Spain is"),
    );
    lab.refused(
        &["trace", "--data", "f.json"],
        &["contains \"Spain\" 3 times"],
    );
    // and so may a row of one's own
    let row = "{\"base\": \"Spain is in Spain\", \"source\": \"Spain is in Italy\", \"target\": \" Madrid\", \"spans\": {\"s\": {\"words\": \"Spain\", \"nth\": 1}}, \"source_spans\": {\"s\": \"Italy\"}}\n";
    lab.write("d.jsonl", row);
    let rows = lab.sweep(&[
        "--data",
        "d.jsonl",
        "--positions",
        "s.last",
        "--layers",
        "0",
        "--heads",
        "0",
    ]);
    assert!(rows[0].position > Some(2), "{rows:?}");
}
