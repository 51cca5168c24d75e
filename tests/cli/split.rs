//! A data set that is split gives what the whole gives: nothing goes by the number of a row or pair.

use crate::data::NARROW;
use crate::lab::Lab;

/// Rows of the demo's prompts, each of one token for subject and answer.
const ROWS: [[&str; 3]; 4] = [
    ["Spain", "Italy", " Madrid"],
    ["Italy", "Spain", " Rome"],
    ["France", "Germany", " Paris"],
    ["Greece", "Poland", " Athens"],
];

fn row([base, source, target]: [&str; 3]) -> String {
    format!(
        "{{\"base\": \"The capital of {base} is\", \"source\": \"The capital of {source} is\", \"target\": {target:?}, \"spans\": {{\"subject\": {base:?}}}, \"source_spans\": {{\"subject\": {source:?}}}}}\n"
    )
}

/// Every number of a command's table but the pairs'.
fn numbers(lab: &Lab, rows: &[[&str; 3]], args: &[&str]) -> Vec<Vec<u64>> {
    lab.write("d.jsonl", rows.iter().map(|r| row(*r)).collect::<String>());
    lab.ok(&[args, &["--data", "d.jsonl", "--out", "t.csv"]].concat());
    let rows = lab.table("t.csv").rows;
    rows.iter()
        .map(|r| {
            [r.prob, r.logprob, r.logit, r.base_prob]
                .map(f64::to_bits)
                .into()
        })
        .collect()
}

#[test]
fn a_data_set_split_in_two_gives_the_same_numbers() {
    let lab = Lab::new();
    let noisy = [&["sweep", "--op", "noise=0.3", "--seed", "4"], &NARROW[..]].concat();
    let noised = [&noisy[..], &["--direction", "noise"]].concat();
    let traced = [
        "trace",
        "--noise",
        "0.3",
        "--samples",
        "3",
        "--component",
        "mlp_output",
    ];
    let plain = [&["sweep", "--metric", "kl"], &NARROW[..]].concat();
    for args in [&noisy[..], &noised, &traced, &plain] {
        let whole = numbers(&lab, &ROWS, args);
        let halves = [&ROWS[..1], &ROWS[1..]].map(|half| numbers(&lab, half, args));
        assert!(whole == halves.concat(), "{args:?}");
        let mut turned = ROWS;
        turned.rotate_left(1);
        let mut turned = numbers(&lab, &turned, args);
        turned.rotate_right(whole.len() / 4);
        assert!(whole == turned, "{args:?}");
    }
    // other prompts have other noise, and other seeds
    let two = numbers(&lab, &[ROWS[0], ["Italy", "Italy", " Madrid"]], &noisy);
    assert_ne!(two[0], two[two.len() / 2]);
}

#[test]
fn an_experiment_with_one_pair_of_two_gives_the_same_numbers() {
    let lab = Lab::new();
    let pair = |country: &str| format!("[[pair]]\nbase = \"The capital of {country} is\"\n");
    let experiment = |pairs: &[&str]| {
        let pairs: String = pairs.iter().map(|country| pair(country)).collect();
        let patch =
            "component = \"block_output\", layer = 1, positions = [3], op = \"noise\", level = 0.5";
        format!("targets = [\" Madrid\"]\n{pairs}[[run]]\npatches = [{{ {patch} }}]\n")
    };
    let probs = |pairs: &[&str]| -> Vec<u64> {
        lab.write("e.toml", experiment(pairs));
        let rows = lab.rows("run", &["e.toml"]);
        rows.iter().map(|r| r.prob.to_bits()).collect()
    };
    let both = probs(&["Spain", "Italy"]);
    assert_eq!(both, [probs(&["Spain"]), probs(&["Italy"])].concat());
}
