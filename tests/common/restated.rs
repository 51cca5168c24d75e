//! Runs that tests/fixtures/restated.py computed: patches as experiment files spell them, and log-probabilities.

use headlight::ask::experiment::{Experiment, PairText, RunText};
use headlight::backend::Backend;
use headlight::model::{Checkpoint, SeveralTokens};
use serde::Deserialize;

use super::fixtures::{Worst, folder};
use super::{PLENTY, run};

#[derive(Deserialize)]
struct File {
    ids: Vec<u32>,
    target_ids: Vec<u32>,
    logprobs: Vec<f64>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    run: RunText,
    logprobs: Vec<f64>,
}

/// The worst |Δ log-probability| over every run of a checkpoint's file.
pub fn worst<B: Backend>(backend: &B, model: &Checkpoint, (name, file): (&str, &str)) -> Worst {
    let folder = folder(name);
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    let experiment = Experiment {
        pairs: vec![PairText {
            base_ids: Some(file.ids),
            target_ids: file.target_ids,
            ..PairText::default()
        }],
        runs: file.cases.iter().map(|case| case.run.clone()).collect(),
        ..Experiment::default()
    };
    let pairs = experiment
        .resolve(model, &folder, SeveralTokens::Refused)
        .unwrap();
    let outcome = run(backend, &pairs, PLENTY);
    let mut worst = Worst::default();
    worst.note_targets(&outcome.pairs[0].base[0], &file.logprobs, "clean");
    assert_eq!(outcome.pairs[0].runs.len(), file.cases.len());
    let read = outcome.pairs[0].runs.iter().zip(&file.cases);
    for ((read, case), run) in read.zip(pairs[0].runs.iter()) {
        worst.note_targets(&read[0], &case.logprobs, &format!("{:?}", run.patches));
    }
    worst
}
