//! `--metric` against the whole distribution, and `--preset` against the cells one by one.

use std::collections::HashMap;
use std::io::Read;

use crate::data::lab_with;
use crate::lab::{BASE, Lab, SOURCE, fixture};

/// Probabilities of all tokens after a prompt, most probable first.
fn distribution(lab: &Lab, prompt: &str) -> Vec<(u32, f64)> {
    let said = lab.ok(&[
        "topk",
        prompt,
        "-n",
        "1234",
        "--format",
        "json",
        "--precision",
        "f64",
    ]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&said.out).unwrap();
    rows.iter()
        .map(|r| {
            (
                r["id"].as_u64().unwrap() as u32,
                r["logprob"].as_f64().unwrap(),
            )
        })
        .collect()
}

const ALL: &str = "rank,logit_diff,prob_diff,kl,top1,entropy,recovery_prob,recovery_logprob,recovery_logit,\
    recovery_logit_diff,recovery_prob_diff,recovery_kl,recovery_entropy,recovery_rank,recovery_top1";

#[test]
fn metrics_are_those_of_the_whole_distribution() {
    let lab = Lab::new();
    // the whole source at the input: the run's distribution is the source's
    let args = [
        "--base",
        BASE,
        "--source",
        SOURCE,
        "--target",
        " Rome",
        "--target",
        " Paris",
        "--wrong-target",
        " Madrid",
        "--wrong-target",
        " Lisbon",
        "--precision",
        "f64",
        "--component",
        "block_input",
        "--layers",
        "0",
        "--positions",
        "together",
        "--metric",
        ALL,
    ];
    let rows = lab.sweep(&args);
    let table = lab.table("t.csv");
    assert_eq!(
        table.metrics,
        ALL.split(',').map(str::trim).collect::<Vec<_>>()
    );
    let (base, source) = (distribution(&lab, BASE), distribution(&lab, SOURCE));
    let in_base: HashMap<u32, f64> = base.iter().copied().collect();
    let id = |text: &str| {
        let rows = lab.sweep(&[
            "--target",
            text,
            "--layers",
            "0",
            "--heads",
            "0",
            "--positions",
            "0",
        ]);
        rows[0].target_id
    };
    let wrong = [id(" Madrid"), id(" Lisbon")];
    let right = [rows[0].target_id, rows[1].target_id];
    let log = |id: u32| source.iter().find(|(i, _)| *i == id).unwrap().1;
    let rank = |id: u32| source.iter().position(|(i, _)| *i == id).unwrap() as f64;
    let kl: f64 = source
        .iter()
        .map(|(id, q)| in_base[id].exp() * (in_base[id] - q))
        .sum();
    let entropy: f64 = source.iter().map(|(_, q)| -q.exp() * q).sum();
    let diff = (log(right[0]) + log(right[1]) - log(wrong[0]) - log(wrong[1])) / 2.0;
    let prob_diff =
        log(right[0]).exp() + log(right[1]).exp() - log(wrong[0]).exp() - log(wrong[1]).exp();
    for (i, row) in rows.iter().enumerate() {
        let mut expected = vec![rank(right[i]), diff, prob_diff, kl, 1.0, entropy];
        expected.extend([1.0; 9]);
        for ((name, found), expected) in table.metrics.iter().zip(&row.metrics).zip(expected) {
            assert!(
                (found - expected).abs() < 1e-9,
                "{name} of {}: {found} {expected}",
                row.target
            );
        }
    }
    // a patch that changes nothing is the base: KL 0, recovery 0
    let idle = lab.sweep(
        &[
            &args[..args.len() - 4],
            &["--positions", "0", "--metric", ALL],
        ]
        .concat(),
    );
    let metrics = &idle[0].metrics;
    assert_eq!(metrics[3], 0.0);
    assert!(metrics[6..].iter().all(|x| *x == 0.0), "{metrics:?}");
    let neither = lab.sweep(&[
        "--metric",
        "recovery_top1",
        "--target",
        " Paris",
        "--layers",
        "0",
    ]);
    assert!(neither[0].metrics[0].is_nan(), "0 of 0 is no recovery");
}

#[test]
fn metrics_that_cannot_be_are_refused() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["sweep", "--out", "t.csv"], args].concat(), needles);
    };
    refused(
        &["--metric", "logit_dif"],
        &["logit_dif", "recovery_logit_diff"],
    );
    refused(
        &["--metric", "logit_diff"],
        &["logit_diff needs wrong answers", "pair 0"],
    );
    refused(&["--metric", "kl,kl"], &["kl is named twice"]);
    refused(
        &["--base", BASE, "--op", "zero", "--metric", "recovery_kl"],
        &["recovery_kl needs a source prompt", "name kl"],
    );
    // a metric that is a column already adds none
    lab.sweep(&["--metric", "prob,kl", "--layers", "0"]);
    assert_eq!(lab.table("t.csv").metrics, ["kl"]);
    lab.ok(&[
        "sweep", "--metric", "kl", "--layers", "0", "--plot", "m.svg",
    ]);
    assert!(lab.read("m.svg").contains("kl"));
}

/// An array of a `.npz`: its shape and doubles.
pub fn npy(lab: &Lab, file: &str, name: &str) -> (Vec<usize>, Vec<f64>) {
    let bytes = member(lab, file, name);
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    let shape = header
        .split_once("'shape': (")
        .unwrap()
        .1
        .split_once(')')
        .unwrap()
        .0;
    let shape = shape
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let values = bytes[10 + length..]
        .chunks(8)
        .map(|b| f64::from_le_bytes(b.try_into().unwrap()));
    (shape, values.collect())
}

pub fn member(lab: &Lab, file: &str, name: &str) -> Vec<u8> {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(lab.path(file)).unwrap()).unwrap();
    let mut bytes = Vec::new();
    zip.by_name(&format!("{name}.npy"))
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn presets_have_transformer_lens_shapes() {
    let lab = lab_with(&["eap_ig.csv"]);
    // 5 layers, 4 heads, 5 positions
    for (preset, shape) in [
        ("resid_pre", &[5, 5][..]),
        ("resid_mid", &[5, 5]),
        ("attn_out", &[5, 5]),
        ("mlp_out", &[5, 5]),
        ("block_every", &[3, 5, 5]),
        ("attn_head_out_by_pos", &[5, 5, 4]),
        ("attn_head_pattern_by_pos", &[5, 4, 5]),
        ("attn_head_pattern_dest_src_pos", &[5, 4, 5, 5]),
        ("attn_head_q_all_pos", &[5, 4]),
        ("every-head", &[5, 5, 4]),
        ("every-head-by-position", &[5, 5, 5, 4]),
    ] {
        lab.ok(&[
            "sweep",
            "--data",
            "eap_ig.csv",
            "--preset",
            preset,
            "--arrays",
            "a.npz",
        ]);
        let (found, values) = npy(&lab, "a.npz", "logit_diff");
        assert_eq!(found, shape, "{preset}");
        assert!(values.iter().all(|x| x.is_finite()), "{preset}");
        let (pairs, each) = npy(&lab, "a.npz", "logit_diff_pairs");
        assert_eq!(pairs, [&[2], shape].concat());
        for (i, mean) in values.iter().enumerate() {
            assert_eq!(*mean, (each[i] + each[values.len() + i]) / 2.0);
        }
    }
}

/// A checkpoint without a tokenizer and a batch of two pairs, as TransformerLens patched it
/// (tests/fixtures/make_transformer_lens.py; tests/engine/presets.rs has every preset).
#[test]
fn arrays_are_those_of_transformer_lens() {
    let model = fixture("tied");
    let text = std::fs::read_to_string(format!("{model}/transformer_lens.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let case = &file["cases"][1];
    let (lab, mut rows) = (Lab::new(), String::new());
    for pair in 0..2 {
        let row = ["base_ids", "source_ids", "target_ids", "wrong_target_ids"];
        let row = row.map(|field| format!("{field:?}: {}", case[field][pair]));
        rows += &format!("{{{}}}\n", row.join(", "));
    }
    lab.write("pairs.jsonl", rows);
    let function = "get_act_patch_attn_head_by_pos_every";
    lab.ok(&[
        "sweep",
        "--model",
        &model,
        "--data",
        "pairs.jsonl",
        "--preset",
        function,
        "--metric",
        "logit_diff,prob",
        "--precision",
        "f64",
        "--arrays",
        "a.npz",
    ]);
    let arrays = case["arrays"].as_array().unwrap().iter();
    let arrays: Vec<_> = arrays.filter(|a| a["function"] == function).collect();
    assert_eq!(arrays.len(), 2);
    for array in arrays {
        let (shape, values) = npy(&lab, "a.npz", array["metric"].as_str().unwrap());
        assert_eq!(serde_json::json!(shape), array["shape"]);
        let wanted = array["values"].as_array().unwrap().iter();
        let wanted: Vec<f64> = wanted.map(|x| x.as_f64().unwrap()).collect();
        assert_eq!(values.len(), wanted.len());
        for (i, (x, y)) in values.iter().zip(wanted).enumerate() {
            assert!((x - y).abs() < 1e-9, "{}, {i}: {x} {y}", array["metric"]);
        }
    }
}

#[test]
fn a_cell_of_a_preset_is_the_run_of_its_site() {
    let lab = lab_with(&["eap_ig.csv"]);
    let data = [
        "--data",
        "eap_ig.csv",
        "--metric",
        "logit_diff,recovery_logit_diff",
    ];
    let one = |component: &str, at: &[&str]| {
        let rows = lab.sweep(&[&data[..], &["--component", component], at].concat());
        let second = rows.iter().find(|row| row.pair == 1).unwrap();
        (rows[0].metrics.clone(), second.metrics.clone())
    };
    let array = |name: &str, at: &[usize]| {
        let (shape, values) = npy(&lab, "a.npz", name);
        values[at.iter().zip(&shape).fold(0, |i, (at, n)| i * n + at)]
    };
    lab.ok(&[
        &[
            "sweep",
            "--preset",
            "get_act_patch_attn_head_by_pos_every",
            "--arrays",
            "a.npz",
        ],
        &data[..],
    ]
    .concat());
    for (c, component) in ["hook_z", "hook_q", "hook_k", "hook_v", "hook_pattern"]
        .iter()
        .enumerate()
    {
        for (layer, position, head) in [(0, 3, 0), (2, 4, 1), (4, 4, 3)] {
            let [l, p, h] = [layer, position, head].map(|x: usize| x.to_string());
            let (first, second) = one(
                component,
                &["--layers", &l, "--positions", &p, "--heads", &h],
            );
            assert_eq!(
                array("logit_diff_pairs", &[0, c, layer, position, head]),
                first[0]
            );
            assert_eq!(
                array("logit_diff_pairs", &[1, c, layer, position, head]),
                second[0]
            );
            let mean = (first[1] + second[1]) / 2.0;
            assert_eq!(
                array("recovery_logit_diff_mean", &[c, layer, position, head]),
                mean
            );
        }
    }
    lab.ok(&[
        &["sweep", "--preset", "every-head", "--arrays", "a.npz"],
        &data[..],
    ]
    .concat());
    let (first, _) = one(
        "hook_k",
        &["--layers", "1", "--heads", "2", "--positions", "together"],
    );
    assert_eq!(array("logit_diff_pairs", &[0, 2, 1, 2]), first[0]);
    let text = |name: &str| {
        let bytes = member(&lab, "a.npz", name);
        bytes[128..]
            .iter()
            .filter(|b| **b != 0)
            .map(|b| *b as char)
            .collect::<String>()
    };
    assert_eq!(text("axes"), "componentlayerhead");
    assert!(text("component").starts_with("head_attention_value_outputhead_query_output"));
    // a clean prompt's own value stands beside, and recovery is 0 there
    let (_, base) = npy(&lab, "a.npz", "logit_diff_base");
    assert_eq!(base.len(), 2);
    assert_eq!(
        npy(&lab, "a.npz", "recovery_logit_diff_source").1,
        [1.0, 1.0]
    );
}

#[test]
fn cells_of_a_pattern_are_patched_one_by_one() {
    let lab = lab_with(&["eap_ig.csv"]);
    lab.ok(&[
        "sweep",
        "--data",
        "eap_ig.csv",
        "--preset",
        "attn_head_pattern_dest_src_pos",
        "--layers",
        "0",
        "--heads",
        "0",
        "--arrays",
        "a.npz",
        "--out",
        "t.csv",
    ]);
    let rows = lab.table("t.csv").rows;
    assert_eq!(rows.len(), 2 * 15, "masked cells are no runs");
    assert!(
        rows[4].patches.contains("\"positions\":[2],\"keys\":[1]"),
        "{}",
        rows[4].patches
    );
    let (_, each) = npy(&lab, "a.npz", "logit_diff_pairs");
    let (_, base) = npy(&lab, "a.npz", "logit_diff_base");
    for pair in 0..2 {
        for (destination, source) in [(0, 1), (0, 4), (2, 3), (3, 4)] {
            assert_eq!(each[pair * 25 + destination * 5 + source], base[pair]);
        }
    }
    // every cell of a row at once is the row
    lab.write(
        "e.toml",
        "targets = [\" Rome\"]\n[[pair]]\nbase = \"The capital of Spain is\"\nsource = \"The capital of Italy is\"\n\
         [[run]]\npatches = [{ component = \"attention_weight\", layer = 0, heads = [0], positions = [4], keys = [3] }]\n",
    );
    let by_hand = lab.rows("run", &["e.toml"]);
    let cell = rows
        .iter()
        .find(|r| r.patches.contains("\"positions\":[4],\"keys\":[3]"))
        .unwrap();
    assert_eq!(by_hand[0].prob, cell.prob);
    // averages do not mix keys
    assert_eq!(lab.read("t.summary.csv").lines().count(), 1 + 15);
}

#[test]
fn arrays_are_safetensors_too() {
    let lab = lab_with(&["eap_ig.csv"]);
    let sweep = |file: &str| {
        lab.ok(&[
            "sweep",
            "--data",
            "eap_ig.csv",
            "--preset",
            "attn_out",
            "--arrays",
            file,
        ])
    };
    sweep("a.npz");
    sweep("a.safetensors");
    let bytes = std::fs::read(lab.path("a.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(about["axes"], "[\"layer\",\"position\"]");
    assert_eq!(about["position"], "[\"0\",\"1\",\"2\",\"3\",\"4\"]");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("logit_diff").unwrap();
    let (shape, values) = npy(&lab, "a.npz", "logit_diff");
    assert_eq!(tensor.shape(), shape);
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(tensor.data(), bytes);
}

#[test]
fn ragged_pairs_leave_cells_empty() {
    let lab = Lab::new();
    lab.write(
        "r.jsonl",
        concat!(
            r#"{"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": " Rome"}"#,
            "\n",
            r#"{"base": "The capital city of Spain is", "source": "The capital city of Italy is", "targets": " Rome"}"#,
        ),
    );
    lab.ok(&[
        "sweep",
        "--data",
        "r.jsonl",
        "--preset",
        "resid_pre",
        "--arrays",
        "a.npz",
    ]);
    let (shape, each) = npy(&lab, "a.npz", "prob_pairs");
    let (_, mean) = npy(&lab, "a.npz", "prob");
    assert_eq!(shape, [2, 5, 6]);
    assert!(each[5].is_nan() && !each[30 + 5].is_nan());
    assert_eq!(mean[5], each[30 + 5]);
    // by name, every pair has every cell
    lab.ok(&[
        "sweep",
        "--data",
        "r.jsonl",
        "--preset",
        "resid_pre",
        "--positions",
        "of,end",
        "--arrays",
        "a.npz",
    ]);
    let (shape, each) = npy(&lab, "a.npz", "prob_pairs");
    assert_eq!(shape, [2, 5, 2]);
    assert!(each.iter().all(|x| x.is_finite()));
}

#[test]
fn presets_that_cannot_be_are_refused() {
    let lab = Lab::new();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["sweep", "--out", "t.csv"], args].concat(), needles);
    };
    refused(
        &["--preset", "attn_head_z_by_pos"],
        &["attn_head_z_by_pos", "did you mean attn_head_"],
    );
    refused(
        &["--preset", "resid_pre", "--component", "hook_z"],
        &["--preset", "--component"],
    );
    refused(
        &["--preset", "every-head", "--heads", "together"],
        &["--heads together"],
    );
    refused(
        &["--preset", "every-head", "--positions", "3"],
        &["--positions 3", "attn_head_all_pos_every"],
    );
    refused(
        &["--preset", "resid_pre", "--heads", "1"],
        &["--heads 1", "no heads"],
    );
    refused(&["--arrays", "a.npz"], &["--preset"]);
    refused(
        &["--preset", "resid_pre", "--arrays", "a.npy"],
        &["a.npy", ".npz or .safetensors"],
    );
    refused(
        &["--preset", "resid_pre", "--arrays", "no/a.npz"],
        &["no folder"],
    );
}
