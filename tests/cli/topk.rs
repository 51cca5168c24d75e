//! `headlight topk` and `headlight info`.

use headlight::backend::cpu::Instructions;

use crate::lab::{BASE, Lab, fixture};
use crate::models::{self, SMALL};
use serde_json::Value;

#[test]
fn prints_one_token_a_line_and_the_device_elsewhere() {
    let lab = Lab::new();
    let said = lab.ok(&["topk", BASE]);
    assert_eq!(said.out.lines().count(), 10);
    assert!(
        said.out.starts_with("_Madrid              0.98"),
        "{}",
        said.out
    );
    assert!(
        said.err.starts_with("device: cpu, ") && said.err.lines().count() == 1,
        "{}",
        said.err
    );
    assert_eq!(lab.ok(&["topk", BASE, "-n", "3"]).out.lines().count(), 3);
    // more than there are is all there are
    assert_eq!(
        lab.ok(&["topk", BASE, "-n", "100000"]).out.lines().count(),
        1234
    );
}

/// Phrasings that the demo model was not trained with for any country (`NEVER` in its `corpus.py`).
/// The last here, "My teacher said that the capital of C is", is the weak one and has a bar of
/// its own: its answer is on top, but Madrid has p = 0.75 only, while Rome has 0.95.
#[test]
fn the_demo_knows_capitals_in_phrasings_it_never_saw() {
    let lab = Lab::new();
    for (country, capital) in [("Spain", " Madrid"), ("Italy", " Rome")] {
        for (phrasing, bar) in [
            ("In {c}, the capital city is", 0.9),
            ("I think the capital city of {c} is", 0.9),
            ("What is the capital city of {c}? It is", 0.9),
            ("The name of the capital city of {c} is", 0.9),
            ("In {c} the name of the capital is", 0.9),
            ("My teacher said that the capital of {c} is", 0.7),
        ] {
            let prompt = phrasing.replace("{c}", country);
            let said = lab.ok(&["topk", &prompt, "-n", "1", "--format", "json"]);
            let top: Value = serde_json::from_str(&said.out).unwrap();
            assert_eq!(top[0]["token"], capital, "{prompt}");
            let prob = top[0]["prob"].as_f64().unwrap();
            assert!(prob > bar, "{prompt}: {prob}");
        }
    }
}

#[test]
fn csv_and_json_hold_the_same_list() {
    let lab = Lab::new();
    let csv = lab.ok(&["topk", BASE, "-n", "5", "--format", "csv"]).out;
    let json = lab.ok(&["topk", BASE, "-n", "5", "--format", "json"]).out;
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let header = csv.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    let json: Value = serde_json::from_str(&json).unwrap();
    let list = json.as_array().unwrap();
    assert_eq!((rows.len(), list.len()), (5, 5));
    for (row, object) in rows.iter().zip(list) {
        for (name, field) in header.iter().zip(row) {
            let same = match &object[name] {
                Value::String(text) => text == field,
                number => number.as_f64() == field.parse().ok(),
            };
            assert!(same, "{name}: {field} in CSV, {} in JSON", object[name]);
        }
    }
    assert_eq!(list[0]["token"], " Madrid");
    let probs: Vec<f64> = list.iter().map(|c| c["prob"].as_f64().unwrap()).collect();
    assert!(probs.is_sorted_by(|a, b| a >= b), "{probs:?}");
}

#[test]
fn ids_are_the_prompt_without_a_tokenizer() {
    let lab = Lab::new();
    let text = lab.ok(&["topk", BASE]).out;
    assert_eq!(lab.ok(&["topk", "--ids", "279,285,263,700,261"]).out, text);
    for model in ["tied", "odd_untied", "bare_bf16", "silu_f16", "sharded"] {
        let said = lab.ok(&[
            "topk",
            "--ids",
            "1,2,3",
            "--model",
            &fixture(model),
            "-n",
            "4",
        ]);
        assert_eq!(said.out.lines().count(), 4, "{model}");
        assert!(said.out.starts_with('['), "{model}: {}", said.out);
    }
    lab.refused(
        &["topk", "hello", "--model", &fixture("tied")],
        &["has no tokenizer", "token ids"],
    );
}

/// A tokenizer that begins or ends every text with a token is said, once, and changes nothing by itself.
#[test]
fn a_tokenizer_that_asks_for_bos_is_told() {
    let lab = Lab::new();
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/demo");
    std::fs::create_dir(lab.path("model")).unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        std::fs::copy(demo.join(name), lab.path("model").join(name)).unwrap();
    }
    let run = || lab.ok(&["topk", BASE, "--model", "model"]);
    let plain = run();
    assert_eq!(plain.err.lines().count(), 1, "{}", plain.err);
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let path = lab.path("model").join(name);
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    };
    edit("tokenizer_config.json", &|config| {
        config["add_bos_token"] = true.into()
    });
    let told = run();
    assert_eq!(told.out, plain.out);
    let note = "tokenizer: its files put `<|endoftext|>` before every text; here nothing is put there unless --bos asks";
    assert_eq!(told.err.lines().nth(1), Some(note), "{}", told.err);
    assert_eq!(told.err.lines().count(), 2, "{}", told.err);
    edit("tokenizer_config.json", &|config| {
        config["add_bos_token"] = false.into()
    });
    let end = serde_json::json!(["<|endoftext|>", 0]);
    edit("tokenizer.json", &|json| {
        json["post_processor"] =
            serde_json::json!({"type": "BertProcessing", "cls": end, "sep": end});
    });
    let told = run();
    assert_eq!(told.out, plain.out);
    let both = "`<|endoftext|>` before and `<|endoftext|>` after every text";
    assert!(told.err.contains(both), "{}", told.err);
}

/// Weights of double precision are the model that they round to, and that they are rounded is said.
#[test]
fn weights_in_double_precision_are_rounded_and_it_is_said() {
    use safetensors::tensor::{Dtype, TensorView};
    let lab = Lab::new();
    let single = models::weights(models::SMALL, 1.0);
    let config = models::config(models::SMALL);
    models::write(&lab.path("single"), &config, &models::file(&single));
    // Far less than half a place away.
    let wide = |x: &f32| (f64::from(*x) * (1.0 + 1e-12)).to_le_bytes();
    let double: Vec<_> = single
        .iter()
        .map(|(name, (shape, values))| {
            let bytes: Vec<u8> = values.iter().flat_map(wide).collect();
            (format!("module._orig_mod.{name}"), shape, bytes)
        })
        .collect();
    let views = double.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F64, shape.to_vec(), bytes).unwrap();
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    models::write(&lab.path("double"), &config, &file);
    let run = |model: &str| lab.ok(&["topk", "--ids", "1,2,3", "--model", model]);
    let (single, double) = (run("single"), run("double"));
    assert_eq!(single.out, double.out);
    let note = "weights: stored in double precision, rounded to single";
    assert_eq!(double.err.lines().nth(1), Some(note), "{}", double.err);
    assert!(!single.err.contains("weights:"), "{}", single.err);
    let info = |model: &str| lab.ok(&["info", "--model", model]).out;
    assert!(info("double").contains("MB, F32 rounded from F64; "));
    assert!(info("single").contains("MB, F32; "));
}

#[test]
fn ties_go_to_the_lower_id() {
    let lab = Lab::new();
    models::write(
        &lab.path("flat"),
        &models::config(SMALL),
        &models::file(&models::weights(SMALL, 0.0)),
    );
    let said = lab.ok(&["topk", "--ids", "3,1", "--model", "flat", "-n", "4"]);
    let names: Vec<&str> = said
        .out
        .lines()
        .map(|l| l.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(names, ["[0]", "[1]", "[2]", "[3]"]);
    assert!(
        said.out.lines().all(|l| l.contains("0.0909")),
        "{}",
        said.out
    );
}

#[test]
fn one_prompt_and_a_count() {
    let lab = Lab::new();
    lab.refused(
        &["topk", "x", "--ids", "1"],
        &["cannot be used with", "--ids"],
    );
    lab.refused(&["topk"], &["give a prompt, --ids or --data"]);
    lab.refused(&["topk", ""], &["the base prompt is empty"]);
    lab.refused(&["topk", "x", "-n", "0"], &["'0'", "--number"]);
    lab.refused(&["topk", "--ids", "1,,2"], &["--ids"]);
    lab.refused(
        &["topk", "--ids", "1,99999"],
        &["99999", "ids are 0 to 1233"],
    );
}

#[test]
fn info_names_the_model_and_the_devices() {
    let lab = Lab::new();
    let said = lab.ok(&["info"]);
    for line in [
        "model      demo",
        "shape      5 layers, 4 heads of 32",
        "hash ",
        "tokenizer  1234 tokens",
        "would use  cpu",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    let said = lab.ok(&["--model", &fixture("tied"), "info"]);
    assert!(
        said.out.contains("tokenizer  none: give token ids"),
        "{}",
        said.out
    );
}

#[test]
fn narrower_instructions_say_so_and_change_no_bit() {
    let lab = Lab::new();
    let args = ["topk", "The capital of Spain is", "--format", "csv"];
    let with = |name: &str| {
        lab.command(&args)
            .env("HEADLIGHT_CPU", name)
            .output()
            .unwrap()
    };
    let best = lab.ok(&args);
    for instructions in Instructions::available() {
        let said = with(instructions.name());
        let err = String::from_utf8(said.stderr).unwrap();
        assert!(
            err.contains(&format!(", {} (", instructions.name())),
            "{err}"
        );
        assert_eq!(String::from_utf8(said.stdout).unwrap(), best.out);
    }
    let said = with("avx3");
    assert_eq!(said.status.code(), Some(2));
    assert_eq!(said.stdout, b"");
    let err = String::from_utf8(said.stderr).unwrap();
    let named = "headlight: HEADLIGHT_CPU is `avx3`: must be `";
    assert!(err.starts_with(named) && err.lines().count() == 1, "{err}");
}
