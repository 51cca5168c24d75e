//! Pages from the command line: what is written, and what is refused before anything is computed.

use serde_json::Value;

use crate::lab::{BASE, Lab, SOURCE};

/// What a page says of itself.
fn about(lab: &Lab, name: &str) -> Value {
    let html = lab.read(name);
    let (_, rest) = html.split_once("id=\"about\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// The page that a sweep writes is the one that `plot` makes of its table.
#[test]
fn a_sweeps_page_is_that_of_its_table() {
    let lab = Lab::new();
    let prompts = ["--base", BASE, "--source", SOURCE];
    let flags = ["--metric", "kl", "--heads", "0", "--out", "t.parquet"];
    let said = lab.ok(&[&["sweep"], &prompts[..], &flags, &["--plot", "a.html"]].concat());
    assert!(said.out.contains("wrote a.html"), "{}", said.out);
    lab.ok(&["plot", "t.parquet", "--out", "b.html"]);
    assert_eq!(lab.read("a.html"), lab.read("b.html"));
    let shown = |name| {
        let about = about(&lab, name);
        let shown = about["shown"].as_u64().unwrap() as usize;
        about["values"][shown]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(shown("a.html"), "kl");
    lab.ok(&["plot", "t.parquet", "--out", "c.html", "--value", "logit"]);
    assert_eq!(shown("c.html"), "logit");
}

#[test]
fn every_command_that_draws_writes_pages() {
    let lab = Lab::new();
    lab.ok(&[
        "edges",
        "--senders",
        "m0",
        "--receivers",
        "logits,m3",
        "--per-position",
        "--plot",
        "e.html",
    ]);
    let edges = about(&lab, "e.html");
    assert_eq!(edges["kind"], "edges");
    assert_eq!(edges["graph"]["positions"], true);
    lab.ok(&[
        "trace",
        BASE,
        "--subject",
        "Spain",
        "--samples",
        "2",
        "--plot",
        "t.html",
    ]);
    let trace = about(&lab, "t.html");
    let labels = trace["facets"][0]["groups"].to_string();
    assert!(labels.contains("_Spain*"), "{labels}");
    assert!(trace["notes"].to_string().contains("corrupted by noise"));
    lab.ok(&["path", "--receivers", "a3.h1.q", "--plot", "p.html"]);
    assert_eq!(about(&lab, "p.html")["kind"], "cells");
    lab.ok(&[
        "cache",
        BASE,
        "--component",
        "hook_pattern",
        "--layers",
        "1",
        "--plot",
        "a.html",
        "--out",
        "a.safetensors",
    ]);
    let attention = about(&lab, "a.html");
    assert_eq!(attention["facets"].as_array().unwrap().len(), 4);
    assert!(lab.path("a.safetensors").exists());
}

#[test]
fn what_no_page_shows_is_refused() {
    let lab = Lab::new();
    lab.refused(&["edges", "--plot", "e.gif"], &["e.gif", ".html"]);
    let cache = ["cache", BASE, "--plot", "a.html", "--component"];
    lab.refused(
        &[&cache[..], &["mlp_output"]].concat(),
        &["mlp_output", "attention_weight"],
    );
    lab.refused(
        &[&cache[..], &["attention_weight,attention_scores"]].concat(),
        &["one component"],
    );
    lab.refused(
        &[
            "cache",
            BASE,
            "--component",
            "attention_weight",
            "--plot",
            "a.png",
        ],
        &["a.png", ".html"],
    );
    lab.ok(&["sweep", "--heads", "0", "--layers", "0", "--out", "t.csv"]);
    lab.refused(
        &["plot", "t.csv", "--out", "p.html", "--value", "kl"],
        &["kl", "prob, logprob, logit"],
    );
    lab.refused(&["plot", "t.csv", "--out", "none/p.html"], &["none"]);
}
