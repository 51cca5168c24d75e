//! What is read of a row's logits follows from them.

use headlight::backend::Readout;
use headlight::backend::cpu::Cpu;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::common::model::model;
use super::common::runs::{pair, resolve, runs};
use super::common::{PLENTY, cases, run};

/// Entropy, divergence and ranks by their definitions, from all logits of a row.
fn follows_from_its_logits(readout: &Readout, base: &Readout) -> TestCaseResult {
    let log_probabilities =
        |r: &Readout| -> Vec<f64> { r.logits.iter().map(|x| r.log_probability(*x)).collect() };
    let (own, other) = (log_probabilities(readout), log_probabilities(base));
    let entropy: f64 = own.iter().map(|l| -l.exp() * l).sum();
    let kl: f64 = other.iter().zip(&own).map(|(b, l)| b.exp() * (b - l)).sum();
    prop_assert!(
        (readout.entropy - entropy).abs() < 1e-9,
        "{} {entropy}",
        readout.entropy
    );
    prop_assert!((readout.kl - kl).abs() < 1e-9, "{} {kl}", readout.kl);
    for (id, x) in readout.logits.iter().enumerate() {
        let before = readout.logits.iter().enumerate();
        let rank = before
            .filter(|(i, y)| *y > x || (*y == x && *i < id))
            .count();
        prop_assert_eq!(readout.ranks[id] as usize, rank);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn entropy_divergence_and_ranks_follow_from_the_logits(
        spec in model(), pair in pair(6), patches in runs(5),
    ) {
        let checkpoint = spec.open();
        // every token is a target
        let pairs = [resolve(&pair, &patches, &checkpoint.config)];
        let outcome = run(&Cpu::<f64>::new(&checkpoint), &pairs, PLENTY);
        let outcome = &outcome.pairs[0];
        for base in &outcome.base {
            follows_from_its_logits(base, base)?;
        }
        for run in &outcome.runs {
            for (readout, base) in run.iter().zip(&outcome.base) {
                if readout.log_sum_exp.is_finite() {
                    follows_from_its_logits(readout, base)?;
                }
            }
        }
    }
}
