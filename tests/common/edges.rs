//! Every edge as raw hooks patched it (tests/fixtures/make_edges.py), some at one position
//! (make_edge_positions.py), and how far a backend is off.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use headlight::backend::Backend;
use headlight::execute::Outcome;
use headlight::graph::edge::edges;
use headlight::graph::extent::Extent;
use headlight::graph::patching::patch_edges;
use headlight::model::Checkpoint;
use headlight::prompt::pair::Pair;
use serde::Deserialize;

use super::fixtures::{Worst, folder};
use super::limits;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    target_ids: Vec<u32>,
    logprobs: Vec<f64>,
    edges: Vec<(String, Vec<f64>)>,
}

/// The worst |Δ log-probability| over every edge of a fixture's pairs, or over those that it has at one
/// position, but for the first few pairs.
pub fn worst<B: Backend>(
    backend: &B,
    name: &str,
    model: &Checkpoint,
    extent: Extent,
    without: usize,
) -> Worst {
    let file = match extent {
        Extent::Whole => "edges.json",
        Extent::PerPosition => "edge_positions.json",
    };
    let text = std::fs::read_to_string(folder(name).join(file)).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    assert_eq!(file.cases.len(), 2);
    let stop = AtomicBool::new(false);
    let mut worst = Worst::default();
    for case in file.cases.into_iter().skip(without) {
        let mut wanted: HashMap<String, Vec<f64>> = case.edges.into_iter().collect();
        let pair = Pair {
            base: case.base_ids,
            source: Some(case.source_ids),
            targets: case.target_ids,
            ..Pair::default()
        };
        let edges = edges(&model.config);
        let count = edges.len() * extent.positions(pair.base.len()).len();
        // every edge, and a sample of their positions
        match extent {
            Extent::Whole => assert_eq!(count, wanted.len(), "{name}"),
            Extent::PerPosition => assert!(wanted.len() > 50, "{name}"),
        }
        let before = backend.executed_flops();
        let mut read = Outcome::default();
        let (of, limits) = ((&*edges, extent), limits(&stop));
        let planned = patch_edges(backend, model, &pair, of, &limits, &mut read).unwrap();
        let read = &read.pairs[0];
        worst.note_targets(&read.base[0], &case.logprobs, "clean");
        for (i, readout) in read.runs.iter().enumerate() {
            let edge = extent.edge(&edges, pair.base.len(), i).to_string();
            let Some(want) = wanted.remove(&edge) else {
                assert_eq!(extent, Extent::PerPosition, "{edge} is no edge");
                continue;
            };
            worst.note_targets(&readout[0], &want, &edge);
        }
        assert_eq!((read.runs.len(), wanted.len()), (count, 0));
        // contributions are taken from two clean runs more, which nobody reads out
        assert!(backend.executed_flops() - before > planned.flops());
    }
    worst
}
