//! Figures that others have published of OpenAI's GPT-2 small, where its weights are at hand; and the same of the
//! demo model, always. See `src/published/README.md`.

use std::io::{Write as _, stderr};
use std::path::Path;

use headlight::Engine;
use headlight::engine::DeviceWish;
use headlight::published::{Comparisons, Figures, compare};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::models::{self, SMALL};

/// The demo's figures, as they are on disk.
fn demo() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/published/demo.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn compared(figures: Value, folder: Option<&Path>) -> Comparisons {
    let figures: Figures = serde_json::from_value(figures).unwrap();
    let engine = Engine::open("demo")
        .device(DeviceWish::Cpu)
        .build()
        .unwrap();
    let mut passed = 0;
    let found = compare(&engine, &figures, folder, &mut |_| passed += 1).unwrap();
    assert_eq!(passed, found.lines.len());
    found
}

#[test]
fn figures_of_the_demo_model() {
    let lab = Lab::new();
    let said = lab.ok(&["verify", "--published", "demo"]);
    assert!(!said.out.contains("OVER"), "{said:?}");
    // ten tokens each of two prompts, 40 cells and what stands before them, and so on
    for line in [
        "      10  ",
        "two sources in one run",
        "denoising over pairs: attn_head_by_pos_every      ",
    ] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
    assert!(
        said.out.ends_with("; 0 of 11 lines over their gate\n"),
        "{said:?}"
    );
    lab.ok(&["verify", "--published", "demo", "--precision", "f64"]);
}

/// Every number counts: each of them, changed, is seen.
#[test]
fn a_figure_that_is_off_is_over() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change, usize); 6] = [
        ("lens", |f| f["streams"][7]["top"][4][1] = json!(0.9), 1),
        ("top", |f| f["top"][3][1] = json!(0.9), 1),
        ("heads", |f| f["cells"][7]["prob"][1] = json!(0.9), 1),
        ("experiment", |f| f["prob"][2] = json!(0.9), 1),
        (
            "presets",
            |f| f["matrices"][2]["values"][100] = json!(9.0),
            1,
        ),
        ("presets", |f| f["corrupted"] = json!(9.0), 1),
    ];
    for (ask, change, over) in changes {
        let mut figures = demo();
        let all = figures["figures"].as_array_mut().unwrap();
        all.retain(|f| f["ask"] == ask);
        change(&mut all[0]);
        let found = compared(figures, None);
        let wrong = found.lines.iter().filter(|line| !line.passes());
        assert_eq!(wrong.count(), over, "{ask}: {found:?}");
    }
}

#[test]
fn a_continuation_is_told_from_another() {
    let of = |tokens: Value| {
        json!({"model": demo()["model"], "figures": [{
            "what": "continuation", "by": "nobody", "within": 0, "ask": "continuation",
            "prompt": "The capital of Spain is", "bos": false, "tokens": tokens,
        }]})
    };
    let lines = |tokens| compared(of(tokens), None).lines;
    assert!(lines(json!([" Madrid"]))[0].passes());
    assert!(!lines(json!([" Rome"]))[0].passes());
}

/// Means over data sets and circuits chosen by them are what the other commands say they are.
#[test]
fn data_sets_are_read_where_they_are() {
    let lab = Lab::new();
    let engine = Engine::open("demo")
        .device(DeviceWish::Cpu)
        .build()
        .unwrap();
    let id = |text: &str| engine.model().text().unwrap().target(text).unwrap();
    let row = |clean: &str, corrupted: &str, right: &str, wrong: &str| {
        format!(
            "The capital of {clean} is,The capital of {corrupted} is,{},{}\n",
            id(right),
            id(wrong)
        )
    };
    let text = [
        "clean,corrupted,correct_idx,incorrect_idx\n".to_owned(),
        row("Spain", "Italy", " Madrid", " Rome"),
        row("France", "Germany", " Paris", " Berlin"),
    ]
    .concat();
    lab.write("d.csv", text);
    let common = [
        "--data",
        "d.csv",
        "--direction",
        "noise",
        "--bos",
        "--metric",
        "logit_diff",
    ];
    let edges = ["attribute", "edges", "--method", "eap", "--out", "s.csv"];
    lab.ok(&[&edges[..], &common].concat());
    lab.ok(&["circuit", "s.csv", "--greedy", "60", "--out", "c.json"]);
    let said = lab.ok(&[
        &["circuit", "evaluate", "c.json", "--out", "e.csv"][..],
        &common,
    ]
    .concat());
    let table = lab.table("e.csv");
    let mean = |i: usize| table.rows.iter().map(|row| row.metrics[i]).sum::<f64>() / 2.0;
    let kept = said.out.split(" of 761 edges").next().unwrap();
    let kept: usize = kept.rsplit(' ').next().unwrap().parse().unwrap();
    let figures = |change: f64| {
        let common = json!({"by": "the other commands", "file": "d.csv", "metric": "logit_diff"});
        let with = |more: Value| {
            let mut all = common.clone();
            let object = all.as_object_mut().unwrap();
            object.extend(more.as_object().unwrap().clone());
            all
        };
        json!({"model": demo()["model"], "figures": [
            with(json!({"what": "means", "within": 1e-4, "ask": "data_set", "clean": mean(1) + change, "corrupted": mean(2) + change})),
            with(json!({"what": "circuits", "within": 1e-4, "ask": "circuits", "method": "eap", "greedy": [{"n": 60, "edges": kept, "value": mean(0) + change}]})),
        ]})
    };
    let found = compared(figures(0.0), Some(&lab.path("")));
    assert_eq!(found.lines.len(), 4);
    assert!(found.lines.iter().all(|line| line.passes()), "{found:?}");
    let off = compared(figures(0.01), Some(&lab.path("")));
    assert_eq!(off.lines.iter().filter(|line| !line.passes()).count(), 3);
    // without the folder they are named
    let without = compared(figures(0.0), None);
    assert!(without.lines.is_empty());
    assert_eq!(without.left_out, ["d.csv"]);
}

#[test]
fn other_models_and_other_flags_are_refused() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["verify"], args].concat(), needles);
    };
    models::write(
        &lab.path("small"),
        &models::config(SMALL),
        &models::file(&models::weights(SMALL, 0.1)),
    );
    refused(
        &["--published", "small"],
        &[
            "OpenAI's GPT-2 small",
            "2 layers of width 8",
            "give one of them",
        ],
    );
    refused(
        &["--published", "demo", "--model", "small"],
        &["--published demo names the model", "--model small"],
    );
    refused(
        &["--published", "demo", "--seed", "1"],
        &["--seed", "--published"],
    );
    refused(&["--data-sets", "d"], &["--published"]);
}

/// A model of the demo's shape that says something else: exit code 1.
#[test]
fn other_weights_are_over() {
    let lab = Lab::new();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/demo");
    std::fs::create_dir(lab.path("other")).unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(demo.join(file), lab.path("other").join(file)).unwrap();
    }
    let mut bytes = std::fs::read(demo.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // one weight more or less: the sign of some
    let from = 8 + header + 200_000;
    bytes[from..from + 20_000]
        .iter_mut()
        .skip(1)
        .step_by(2)
        .for_each(|b| *b ^= 0x80);
    std::fs::write(lab.path("other/model.safetensors"), bytes).unwrap();
    let said = lab.run(&["verify", "--published", "other"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("OVER"), "{said:?}");
}

#[test]
fn published_figures_of_gpt2() {
    let lab = Lab::new();
    match std::env::var("HEADLIGHT_GPT2") {
        Ok(folder) => {
            let mut args = vec!["verify".to_owned(), "--published".to_owned(), folder];
            if let Ok(data) = std::env::var("HEADLIGHT_EAP_IG") {
                args.extend(["--data-sets".to_owned(), data]);
            }
            lab.ok(&args);
        }
        Err(_) => {
            // at least its form is read, and is of GPT-2's shape
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/published/gpt2.json");
            let text: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            let _: Figures = serde_json::from_value(text.clone()).unwrap();
            let presets = text["figures"]
                .as_array()
                .unwrap()
                .iter()
                .find(|f| f["ask"] == "presets")
                .unwrap();
            for matrix in presets["matrices"].as_array().unwrap() {
                let shape = matrix["shape"].as_array().unwrap().iter();
                let size: u64 = shape.map(|n| n.as_u64().unwrap()).product();
                assert_eq!(matrix["values"].as_array().unwrap().len() as u64, size);
            }
            assert_eq!(
                presets["rows"].as_array().unwrap().len(),
                presets["clean"].as_array().unwrap().len()
            );
            // libtest captures what print macros write, not this
            let skipped = "published_figures_of_gpt2 skipped: HEADLIGHT_GPT2 names no folder with OpenAI's GPT-2 \
                           small; HEADLIGHT_GPT2=/path/to/gpt2 cargo test --test cli published runs it\n";
            let _ = stderr().write_all(skipped.as_bytes());
        }
    }
}
