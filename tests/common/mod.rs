//! Random models, pairs and runs, and the reference that they are checked against: every run
//! computed whole, alone, with everything traced that can be.
//!
//! Specifications are plain numbers that are folded into range when they meet a model, so that
//! proptest can shrink each of them without knowing the others.

#![allow(dead_code)] // each test file uses its part

pub mod edges;
pub mod fixtures;
pub mod gradients;
pub mod laws;
pub mod model;
pub mod paths;
pub mod reference;
pub mod restated;
pub mod runs;
pub mod subspaces;

use std::sync::atomic::AtomicBool;

use headlight::backend::{Backend, Readout};
use headlight::execute::{ExecuteError, Limits, Outcome, PairOutcome};
use headlight::patch::Run;
use headlight::prompt::pair::{Pair, PairRuns};
use proptest::test_runner::Config;

/// How many of the most probable tokens [`run`] reads.
pub const TOP: usize = 3;

pub const PLENTY: u64 = 1 << 32;

/// So many cases of a property, or `PROPTEST_CASES`. Failures are reported with the seed's minimal
/// case and not written to a file.
pub fn cases(count: u32) -> Config {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    Config {
        cases: wanted.and_then(|n| n.parse().ok()).unwrap_or(count),
        failure_persistence: None,
        ..Config::default()
    }
}

/// Splitmix64 (Steele et al. 2014).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Nearly normal: a sum of four uniforms, variance 1.
    pub fn normal(&mut self) -> f64 {
        let uniform = |x: u64| (x >> 11) as f64 / (1u64 << 53) as f64;
        let sum: f64 = (0..4).map(|_| uniform(self.bits())).sum();
        (sum - 2.0) * 3f64.sqrt()
    }
}

/// Plenty of memory, and nothing read out but targets.
pub fn limits(stop: &AtomicBool) -> Limits<'_> {
    Limits::new(PLENTY).until(stop)
}

/// Executes, and checks that exactly what was planned was executed.
pub fn run<B: Backend>(backend: &B, pairs: &[PairRuns], memory: u64) -> Outcome {
    try_run(backend, pairs, memory).unwrap()
}

pub fn try_run<B: Backend>(
    backend: &B,
    pairs: &[PairRuns],
    memory: u64,
) -> Result<Outcome, ExecuteError> {
    let stop = AtomicBool::new(false);
    let limits = Limits {
        memory,
        top: TOP,
        top_of_runs: TOP,
        ranks: true,
        kl: true,
        ..limits(&stop)
    };
    try_run_within(backend, pairs, &limits)
}

/// The same within limits of the caller's.
pub fn try_run_within<B: Backend>(
    backend: &B,
    pairs: &[PairRuns],
    limits: &Limits<'_>,
) -> Result<Outcome, ExecuteError> {
    let before = backend.executed_flops();
    let outcome = Outcome::of(backend, pairs, limits)?;
    let executed = backend.executed_flops() - before;
    assert_eq!(
        executed,
        outcome.plan.flops(),
        "executed operations differ from the plan's"
    );
    Ok(outcome)
}

/// Executes runs of one pair.
pub fn run_pair<B: Backend>(backend: &B, pair: &Pair, runs: Vec<Run>) -> PairOutcome {
    let pair = pair.clone();
    let runs = runs.into();
    let mut outcome = run(backend, &[PairRuns { pair, runs }], PLENTY);
    outcome.pairs.remove(0)
}

/// Every bit of a readout. NaN is NaN: its sign and payload are no part of a result.
pub fn bits(readout: &Readout) -> Vec<u64> {
    let bits = |x: f64| if x.is_nan() { u64::MAX } else { x.to_bits() };
    let mut all = vec![
        bits(readout.log_sum_exp),
        bits(readout.entropy),
        bits(readout.kl),
    ];
    all.extend(readout.logits.iter().map(|x| bits(*x)));
    all.extend(readout.ranks.iter().map(|r| u64::from(*r)));
    if !readout.log_sum_exp.is_nan() {
        all.extend(
            readout
                .top
                .iter()
                .flat_map(|(id, x)| [u64::from(*id), bits(*x)]),
        );
    }
    all
}

pub fn same(a: &[Readout], b: &[Readout]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| bits(a) == bits(b))
}
