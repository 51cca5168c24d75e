//! `circuit graph`: the JSON of Neuronpedia's schema, with the numbers of the table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::lab::Lab;

const PROMPTS: [&str; 10] = [
    "--base",
    "The capital of Spain is",
    "--source",
    "The capital of Italy is",
    "--target",
    " Madrid",
    "--target",
    " Rome",
    "--wrong-target",
    " Paris",
];

fn lab() -> Lab {
    let lab = Lab::new();
    let flags = ["--per-position", "--metric", "logit_diff"];
    let scores = [&["attribute", "edges"], &PROMPTS[..], &flags].concat();
    lab.ok(&[&scores[..], &["--out", "scores.parquet"]].concat());
    let exact = [
        &["edges"],
        &PROMPTS[..],
        &flags,
        &["--receivers", "logits,m3"],
    ]
    .concat();
    lab.ok(&[&exact[..], &["--out", "exact.csv"]].concat());
    lab
}

fn graph(lab: &Lab, args: &[&str]) -> Value {
    lab.ok(&[&["circuit", "graph"], args, &["--out", "g.json"]].concat());
    serde_json::from_str(&lab.read("g.json")).unwrap()
}

/// Node ids by what they are called and where they stand.
fn nodes(graph: &Value) -> BTreeMap<(String, u64), Value> {
    let nodes = graph["nodes"].as_array().unwrap().iter();
    let place = |node: &Value| {
        let name = node["clerp"].as_str().unwrap().to_owned();
        ((name, node["ctx_idx"].as_u64().unwrap()), node.clone())
    };
    nodes.map(place).collect()
}

/// What the schema requires of each part, and that links join nodes that are there.
fn is_of_the_schema(graph: &Value) {
    let metadata = &graph["metadata"];
    for key in ["slug", "scan", "prompt"] {
        assert!(metadata[key].is_string(), "{key}: {metadata}");
    }
    let slug = metadata["slug"].as_str().unwrap();
    assert!(
        slug.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
        "{slug}"
    );
    let tokens = metadata["prompt_tokens"].as_array().unwrap();
    assert!(graph["qParams"].is_object());
    let mut ids = BTreeSet::new();
    for node in graph["nodes"].as_array().unwrap() {
        for key in ["node_id", "feature_type", "jsNodeId", "clerp", "layer"] {
            assert!(node[key].is_string(), "{key}: {node}");
        }
        assert!(
            node["feature"].is_u64() || node["feature"].is_null(),
            "{node}"
        );
        let at = node["ctx_idx"].as_u64().unwrap() as usize;
        assert!(at < tokens.len(), "{node}");
        assert!(
            ids.insert(node["node_id"].as_str().unwrap().to_owned()),
            "{node}"
        );
    }
    let mut joined = BTreeSet::new();
    for link in graph["links"].as_array().unwrap() {
        assert!(link["weight"].is_f64(), "{link}");
        for end in ["source", "target"] {
            let id = link[end].as_str().unwrap();
            assert!(ids.contains(id), "{link}");
            joined.insert(id.to_owned());
        }
    }
    assert_eq!(joined, ids);
}

#[test]
fn a_graph_has_the_scores_of_its_table() {
    let lab = lab();
    let all = graph(&lab, &["scores.parquet", "--top-n", "100000"]);
    is_of_the_schema(&all);
    assert_eq!(all["metadata"]["scan"], "demo");
    assert_eq!(all["metadata"]["prompt"], "The capital of Spain is");
    let table = lab.table("scores.parquet");
    let rows: Vec<_> = table
        .rows
        .iter()
        .filter(|row| &*row.target == " Madrid")
        .collect();
    let links = all["links"].as_array().unwrap();
    assert_eq!(links.len(), rows.len());
    let at = nodes(&all);
    let id = |name: &str, position: u64| at[&(name.to_owned(), position)]["node_id"].clone();
    let logit = format!("Output \" Madrid\" (p={:.3})", rows[0].base_prob);
    let weights = |source: Value, target: Value| {
        let of = links.iter();
        let of = of.filter(|link| link["source"] == source && link["target"] == target);
        let mut of: Vec<f64> = of.map(|link| link["weight"].as_f64().unwrap()).collect();
        of.sort_by(f64::total_cmp);
        of
    };
    let scores = |names: &[&str]| {
        let of = rows
            .iter()
            .filter(|row| names.contains(&row.name.as_deref().unwrap()));
        let mut of: Vec<f64> = of.map(|row| row.metrics[0]).collect();
        of.sort_by(f64::total_cmp);
        assert_eq!(of.len(), names.len(), "{names:?}");
        of
    };
    let spain = "Emb: \" Spain\"";
    assert_eq!(
        weights(id(spain, 3), id("MLP 2", 3)),
        scores(&["input->m2@3"])
    );
    // queries, keys and values end in their head
    assert_eq!(
        weights(id("L0H1", 3), id("L1H0", 3)),
        scores(&[
            "a0.h1->a1.h0<q>@3",
            "a0.h1->a1.h0<k>@3",
            "a0.h1->a1.h0<v>@3"
        ])
    );
    // the logit stands where it is read out
    assert_eq!(
        weights(id("MLP 4", 4), id(&logit, 4)),
        scores(&["m4->logits@4"])
    );
    let node = &at[&(logit.clone(), 4)];
    assert_eq!(node["is_target_logit"], true);
    assert_eq!(node["layer"], "6");
    assert_eq!(node["feature"], u64::from(rows[0].target_id));

    // the largest, whatever their signs
    let few = graph(&lab, &["scores.parquet", "--top-n", "25"]);
    is_of_the_schema(&few);
    let size = |link: &Value| link["weight"].as_f64().unwrap().abs();
    let kept: Vec<f64> = few["links"].as_array().unwrap().iter().map(size).collect();
    let mut sizes: Vec<f64> = rows.iter().map(|row| row.metrics[0].abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(kept, sizes[..25]);
    // another target has other scores
    let rome = graph(
        &lab,
        &["scores.parquet", "--target", " Rome", "--top-n", "25"],
    );
    assert_ne!(rome["links"], few["links"]);
}

/// Of exact runs a link is what the edge changes.
#[test]
fn a_graph_of_exact_edges_has_changes() {
    let lab = lab();
    let table = lab.table("exact.csv");
    for column in ["prob", "logit_diff"] {
        let found = graph(&lab, &["exact.csv", "--column", column, "--top-n", "1"]);
        is_of_the_schema(&found);
        let base = &table.provenance.pairs[0].clean;
        let base: Value = serde_json::to_value(base).unwrap();
        let rows = table.rows.iter().filter(|row| &*row.target == " Madrid");
        let changes = rows.map(|row| match column {
            "prob" => row.prob - row.base_prob,
            _ => row.metrics[0] - base["logit_diff"]["base"][0].as_f64().unwrap(),
        });
        let largest = changes.max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
        let weight = found["links"][0]["weight"].as_f64().unwrap();
        assert!(
            (weight - largest).abs() < 1e-9,
            "{column}: {weight}, {largest}"
        );
    }
}

#[test]
fn what_is_no_graph_is_refused() {
    let lab = lab();
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(
            &[&["circuit", "graph"], args, &["--out", "x.json"]].concat(),
            needles,
        );
        assert!(!lab.path("x.json").exists());
    };
    lab.ok(&[
        &["edges"],
        &PROMPTS[..],
        &["--receivers", "logits", "--out", "whole.csv"],
    ]
    .concat());
    refused(&["whole.csv"], &["single positions", "--per-position"]);
    lab.ok(&["sweep", "--component", "hook_z", "--out", "sweep.csv"]);
    refused(&["sweep.csv"], &["single positions"]);
    refused(&["scores.parquet", "--column", "kl"], &["kl", "score"]);
    refused(&["scores.parquet", "--pair", "7"], &["no pair 7"]);
    refused(
        &["scores.parquet", "--target", "Oslo"],
        &["no target `Oslo`"],
    );
    std::fs::remove_file(lab.path("exact.csv.meta.json")).unwrap();
    refused(&["exact.csv"], &["tokens of pair 0", ".meta.json"]);
}
