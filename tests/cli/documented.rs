//! Every command of docs/data.md, run as it stands there.

use crate::data::lab_with;

#[test]
fn commands_of_the_data_page_run() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/data.md")).unwrap();
    let lab = lab_with(&[
        "capitals.jsonl",
        "capitals.csv",
        "eap_ig.csv",
        "auto_circuit.json",
    ]);
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("headlight "))
        .collect();
    assert!(commands.len() >= 15, "{commands:?}");
    for command in &commands {
        let args: Vec<&str> = command.split_whitespace().collect();
        lab.ok(&args);
    }
    // every format, metric and preset family has one
    let all = commands.join("\n");
    for word in [
        ".jsonl",
        ".csv",
        "eap_ig",
        "auto_circuit",
        "rank",
        "logit_diff",
        "prob_diff",
        "kl",
        "top1",
        "entropy",
        "recovery_",
        "prob",
        "logprob",
        "logit",
        "every-head-by-position",
        "noise",
        "--bos",
        "--skip-bad",
    ] {
        assert!(all.contains(word), "{word}");
    }
    // the examples in the page are the files that the commands read
    let capitals = lab.read("capitals.jsonl");
    assert!(page.contains(capitals.lines().next().unwrap()));
    for name in ["capitals.csv", "eap_ig.csv", "auto_circuit.json"] {
        assert!(page.contains(lab.read(name).trim_end()), "{name}");
    }
}
