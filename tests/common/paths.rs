//! Every path as raw hooks patched it (tests/fixtures/make_paths.py), and how far a backend is off.

use headlight::backend::Backend;
use headlight::graph::edge::senders;
use headlight::graph::path::{Freeze, Paths, Receivers, receivers};
use headlight::model::Checkpoint;
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::prompt::position::Spot;
use serde::Deserialize;

use super::fixtures::{Worst, folder};
use super::{PLENTY, run};

#[derive(Deserialize)]
struct File {
    cases: Vec<Prompts>,
}

#[derive(Deserialize)]
struct Prompts {
    base_ids: Vec<u32>,
    source_ids: Vec<u32>,
    target_ids: Vec<u32>,
    paths: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    sender: String,
    receivers: Vec<String>,
    freeze: String,
    /// Whether they are held.
    scales: bool,
    positions: Option<Vec<usize>>,
    receiver_positions: Option<Vec<usize>>,
    logprobs: Vec<f64>,
}

impl Case {
    fn pair(&self, pair: &Pair, model: &Checkpoint) -> PairRuns {
        let (config, length) = (&model.config, pair.base.len());
        let named = [(self.sender.clone(), self.sender.parse().unwrap())];
        let all = receivers(&self.receivers, config).unwrap();
        let paths = Paths {
            senders: senders(&named, config).unwrap(),
            receivers: vec![Receivers::together(&self.receivers, all).unwrap()],
            freeze: match self.freeze.as_str() {
                "heads" => Freeze::Heads,
                "all" => Freeze::All,
                other => panic!("{other}"),
            },
            freeze_scales: self.scales,
        };
        let everywhere = |positions: &Option<Vec<usize>>| {
            positions.clone().unwrap_or_else(|| (0..length).collect())
        };
        let spot = Spot::same(None, everywhere(&self.positions));
        let at = everywhere(&self.receiver_positions);
        let runs = paths.runs(config, length, &[spot], &at);
        PairRuns {
            pair: pair.clone(),
            runs: runs.into(),
        }
    }
}

/// The worst |Δ log-probability| over every `step`-th path of a fixture. A sender that stands
/// before no receiver has no path, and must have moved nothing.
pub fn worst<B: Backend>(backend: &B, name: &str, model: &Checkpoint, step: usize) -> Worst {
    let text = std::fs::read_to_string(folder(name).join("paths.json")).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    assert_eq!(file.cases.len(), 2);
    let mut worst = Worst::default();
    for prompts in &file.cases {
        let pair = Pair {
            base: prompts.base_ids.clone(),
            source: Some(prompts.source_ids.clone()),
            targets: prompts.target_ids.clone(),
            ..Pair::default()
        };
        let cases: Vec<&Case> = prompts.paths.iter().step_by(step).collect();
        let pairs: Vec<PairRuns> = cases.iter().map(|case| case.pair(&pair, model)).collect();
        let outcome = run(backend, &pairs, PLENTY);
        for (case, read) in cases.iter().zip(&outcome.pairs) {
            let readout = match &read.runs[..] {
                [] => &read.base[0],
                runs => &runs[0][0],
            };
            worst.note_targets(readout, &case.logprobs, &format!("{case:?}"));
        }
    }
    worst
}
