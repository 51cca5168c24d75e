//! What is read of a row's logits follows from them.

use headlight::backend::cpu::Cpu;
use headlight::backend::{Backend, Readout, ReadoutSpec, Store};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::common::model::{ModelSpec, model, shape};
use super::common::runs::{pair, resolve, runs};
use super::common::{PLENTY, Random, cases, run};

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

/// Equal logits in every tile of the vocabulary, on both sides of the wanted ids, and one row that differs.
#[test]
fn of_equal_logits_the_lower_id_comes_first() {
    fn check<T: headlight::backend::cpu::Real>() {
        let vocab = 400;
        let checkpoint = shape(1, 8, 4, vocab).open();
        let cpu = Cpu::<T>::new(&checkpoint);
        let ids = [399u32, 0, 191, 192, 64, 255, 256];
        let rows = 19;
        let zeros = cpu.upload(rows, 8, Store::Branch, &vec![0.0; rows * 8]);
        let spec = ReadoutSpec {
            ids: ids.repeat(rows),
            first: (0..=rows).map(|row| row * ids.len()).collect(),
            top: 195,
            ranks: true,
            base: vec![0; rows],
        };
        for readout in cpu.readout(&zeros, rows, &spec).unwrap() {
            assert_eq!(readout.ranks, ids);
            assert!(readout.top.iter().map(|t| t.0).eq(0..195));
            assert_eq!(readout.kl, 0.0);
        }
    }
    check::<f32>();
    check::<f64>();
}

/// Logits that are small integers, most of them equal to many others.
#[test]
fn ranks_among_ties_are_those_of_a_sort() {
    let model = ModelSpec {
        layers: 1,
        dtype: "integers",
        ..shape(2, 16, 4, 400)
    };
    let checkpoint = model.open();
    let cpu = Cpu::<f32>::new(&checkpoint);
    let mut random = Random(6);
    let rows = 5;
    let x: Vec<f64> = (0..rows * 32)
        .map(|_| random.below(5) as f64 - 2.0)
        .collect();
    let spec = ReadoutSpec {
        ids: (0..400).collect::<Vec<u32>>().repeat(rows),
        first: (0..=rows).map(|row| row * 400).collect(),
        top: 300,
        ranks: true,
        ..ReadoutSpec::default()
    };
    let input = cpu.upload(rows, 32, Store::Branch, &x);
    for readout in cpu.readout(&input, rows, &spec).unwrap() {
        let logits = &readout.logits;
        let mut sorted: Vec<u32> = (0..400).collect();
        sorted.sort_by(|a, b| {
            logits[*b as usize]
                .total_cmp(&logits[*a as usize])
                .then(a.cmp(b))
        });
        let ties = sorted
            .windows(2)
            .filter(|w| logits[w[0] as usize] == logits[w[1] as usize]);
        assert!(ties.count() > 200);
        for (rank, id) in sorted.iter().enumerate() {
            assert_eq!(readout.ranks[*id as usize] as usize, rank);
        }
        assert!(
            readout
                .top
                .iter()
                .map(|t| t.0)
                .eq(sorted[..300].iter().copied())
        );
    }
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
