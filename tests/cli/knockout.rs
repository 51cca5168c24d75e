//! `--op knockout`, `--keys` and `--window`, and numbers that are set: places, names, and what is refused.

use crate::lab::Lab;
use headlight::results::table::Row;
use serde_json::Value;

fn sweep(lab: &Lab, more: &[&str]) -> Vec<Row> {
    lab.rows("sweep", more)
}

fn patches(row: &Row) -> Value {
    serde_json::from_str(&row.patches).unwrap()
}

#[test]
fn a_knockout_goes_by_its_query_and_keys() {
    let lab = Lab::new();
    let rows = sweep(
        &lab,
        &[
            "--op",
            "knockout",
            "--positions",
            "end",
            "--keys",
            "Spain,0-1",
            "--layers",
            "1",
        ],
    );
    let names = ["end<-Spain", "end<-0", "end<-1"];
    let mut seen: Vec<&str> = rows
        .iter()
        .map(|r| r.position_name.as_deref().unwrap())
        .collect();
    seen.dedup();
    assert_eq!(seen[..3], names);
    assert_eq!(rows[0].component.as_deref(), Some("attention_scores"));
    assert_eq!(
        (rows[0].layer, rows[0].position, rows[0].op.as_deref()),
        (Some(1), Some(4), Some("knockout"))
    );
    assert_eq!(patches(&rows[0])[0]["keys"], serde_json::json!([3]));
    assert!(rows.iter().all(|r| r.prob.is_finite()));
    // the country is read off Spain
    let heads = [
        "--op",
        "knockout",
        "--positions",
        "end",
        "--keys",
        "Spain",
        "--heads",
        "together",
        "--window",
        "9",
    ];
    let rows = sweep(&lab, &heads);
    let madrid = rows
        .iter()
        .find(|r| r.layer == Some(0) && &*r.target == " Madrid")
        .unwrap();
    assert!(
        madrid.base_prob > 0.9 && madrid.prob < 0.5,
        "{} {}",
        madrid.base_prob,
        madrid.prob
    );
}

#[test]
fn a_window_is_filed_under_its_middle_and_patches_around_it() {
    let lab = Lab::new();
    let all = [
        "--op",
        "knockout",
        "--positions",
        "end",
        "--keys",
        "Spain",
        "--heads",
        "0",
        "--window",
        "2",
    ];
    let rows = sweep(&lab, &all);
    let layers = |row: &Row| -> Vec<u64> {
        let patches = patches(row);
        let each = patches.as_array().unwrap().iter();
        each.map(|p| p["layer"].as_u64().unwrap()).collect()
    };
    let first = |layer| rows.iter().find(|r| r.layer == Some(layer)).unwrap();
    // from layer − size / 2 on, as ROME counts
    assert_eq!(layers(first(0)), [0]);
    assert_eq!(layers(first(1)), [0, 1]);
    assert_eq!(layers(first(2)), [1, 2]);
}

#[test]
fn every_key_by_itself_leaves_out_what_nobody_sees_and_what_would_leave_nothing() {
    let lab = Lab::new();
    let cells = |op: &str| -> Vec<String> {
        let more = [
            "--component",
            "attention_scores",
            "--op",
            op,
            "--keys",
            "all",
            "--layers",
            "0",
            "--heads",
            "0",
        ];
        let mut names: Vec<String> = sweep(&lab, &more)
            .iter()
            .map(|r| r.position_name.as_deref().unwrap().to_owned())
            .collect();
        names.dedup();
        names
    };
    let seen: Vec<String> = (0..5)
        .flat_map(|q| (0..=q).map(move |k| format!("{q}<-{k}")))
        .collect();
    assert_eq!(cells("zero"), seen);
    assert_eq!(cells("knockout"), seen[1..]);
}

#[test]
fn a_number_is_set_wherever_it_is_asked_for() {
    let lab = Lab::new();
    let rows = sweep(
        &lab,
        &[
            "--component",
            "head_value_output",
            "--layers",
            "0",
            "--op",
            "set=0",
        ],
    );
    let zeros = sweep(
        &lab,
        &[
            "--component",
            "head_value_output",
            "--layers",
            "0",
            "--op",
            "zero",
        ],
    );
    assert_eq!(rows.len(), zeros.len());
    assert!(
        rows.iter()
            .zip(&zeros)
            .all(|(a, b)| a.prob.to_bits() == b.prob.to_bits())
    );
    assert_eq!(rows[0].op.as_deref(), Some("set=0"));
    // as an experiment spells it, a score that is set to −∞ is knocked out
    let experiment = |patch: &str| {
        let text = format!(
            "targets = [\" Madrid\"]\n[[pair]]\nbase = \"The capital of Spain is\"\n[[run]]\npatches = [{{ component = \
             \"attention_scores\", layer = 1, heads = [0], positions = [-1], keys = [\"Spain\"], {patch} }}]\n"
        );
        lab.write("e.toml", &text);
        lab.rows("run", &["e.toml"])[0].clone()
    };
    let knocked = experiment("op = \"knockout\"");
    for same in [
        "op = \"set\", value = \"-inf\"",
        "op = \"set\", value = -inf",
    ] {
        let row = experiment(same);
        assert_eq!(
            (row.prob.to_bits(), &row.patches),
            (knocked.prob.to_bits(), &knocked.patches)
        );
    }
    assert_ne!(experiment("op = \"set\", value = 0").prob, knocked.prob);
}

#[test]
fn what_cannot_be_knocked_out_is_refused_in_a_sentence() {
    let lab = Lab::new();
    let refused = |more: &[&str], wanted: &str| {
        let args: Vec<&str> = ["sweep", "--op", "knockout"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        lab.refused_after_device(&args, &[wanted]);
    };
    refused(
        &["--positions", "end"],
        "loses every key of query 4 in layer 0, head 0",
    );
    refused(&["--keys", "0"], "loses every key of query 0");
    refused(&["--component", "mlp_output"], "mlp_output has no −∞");
    refused(
        &["--positions", "1", "--keys", "end"],
        "is masked at key 4 for every query up to 1",
    );
    refused(
        &["--positions", "end", "--keys", "together"],
        "--keys together",
    );
    refused(&["--positions", "end", "--keys", "Peru"], "--keys: ");
    refused(
        &["--positions", "end", "--keys", "Spain", "--window", "0"],
        "--window 0 patches nothing",
    );
}
