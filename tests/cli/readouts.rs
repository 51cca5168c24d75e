//! `--at`: readouts elsewhere than at the end, against prompts that end there; logits and losses in `cache`.

use headlight::results::table::Row;
use safetensors::SafeTensors;

use crate::lab::{BASE, Lab, SOURCE, bits};

fn sweep(lab: &Lab, more: &[&str]) -> Vec<Row> {
    let fixed = [
        "--component",
        "hook_v,mlp_output",
        "--layers",
        "0-1",
        "--targets",
        " Madrid, Rome",
    ];
    let metrics = ["--metric", "rank,kl,recovery_logit"];
    lab.sweep(&[&fixed[..], &metrics, more].concat())
}

/// What is read at a position is what is read at the end of the prompt that is cut there, for what is patched before.
#[test]
fn a_readout_is_that_of_the_prompt_cut_there() {
    let lab = Lab::new();
    let whole = ["--base", BASE, "--source", SOURCE];
    let cut = [
        "--base",
        "The capital of Spain",
        "--source",
        "The capital of Italy",
    ];
    let wanted = sweep(&lab, &cut);
    for at in ["3", "-2"] {
        let found = sweep(
            &lab,
            &[&whole[..], &["--at", at, "--positions", "0-3"]].concat(),
        );
        assert_eq!(bits(&found), bits(&wanted), "{at}");
        let others = |rows: &[Row]| -> Vec<Vec<u64>> {
            let own = |row: &Row| {
                let all = row
                    .metrics
                    .iter()
                    .chain([&row.base_prob])
                    .chain(&row.source_prob);
                all.map(|x| x.to_bits()).collect()
            };
            rows.iter().map(own).collect()
        };
        assert_eq!(others(&found), others(&wanted), "{at}");
    }
    // what is patched behind it is not seen
    let behind = sweep(
        &lab,
        &[&whole[..], &["--at", "3", "--positions", "4"]].concat(),
    );
    assert!(
        behind
            .iter()
            .all(|row| row.prob.to_bits() == row.base_prob.to_bits())
    );
    // and the end is what is read anyway
    let end = sweep(&lab, &[&whole[..], &["--at", "end"]].concat());
    assert_eq!(bits(&end), bits(&sweep(&lab, &whole)));
}

/// By name, each prompt's own place; targets that nobody gave are what comes there.
#[test]
fn a_name_is_looked_up_in_each_prompt() {
    let lab = Lab::new();
    lab.write(
        "d.jsonl",
        "{\"base\": \"The capital of Spain is\", \"source\": \"A The capital of Italy is\", \"targets\": [\" is\"], \
         \"spans\": {\"subject\": \"Spain\"}, \"source_spans\": {\"subject\": \"Italy\"}}\n",
    );
    let data = [
        "sweep",
        "--data",
        "d.jsonl",
        "--component",
        "hook_z",
        "--layers",
        "0",
        "--positions",
        "subject",
    ];
    lab.ok(&[&data[..], &["--at", "subject.last", "--out", "t.csv"]].concat());
    let table = lab.table("t.csv");
    let pair = &table.provenance.pairs[0];
    assert_eq!((pair.readout, pair.source_readout), (Some(3), Some(4)));
    let clean = |text: &str| lab.ok(&["topk", text, "-n", "1", "--format", "csv"]).out;
    assert!(clean("The capital of Spain").contains(" is,"));
    assert!(
        table
            .rows
            .iter()
            .all(|row| row.base_prob > 0.9 && row.source_prob.unwrap() > 0.5)
    );
    let typed = [
        "sweep", "--base", BASE, "--source", SOURCE, "--heads", "0", "--layers", "0", "--at", "3",
    ];
    lab.ok(&[&typed[..], &["--out", "u.csv"]].concat());
    assert!(
        lab.table("u.csv")
            .rows
            .iter()
            .all(|row| &*row.target == " is")
    );
    let said = lab.ok(&typed).out;
    assert!(said.contains("read out at position 3"), "{said}");
    // paths and edges, experiments and tracing too
    for command in [
        &["path", "--senders", "a0.h0", "--at", "3"][..],
        &["edges", "--receivers", "logits", "--at", "3"],
        &[
            "trace",
            "The capital of Spain is",
            "--subject",
            "Spain",
            "--samples",
            "2",
            "--at",
            "3",
        ],
    ] {
        lab.ok(&[command, &["--out", "v.csv"]].concat());
        let rows = lab.table("v.csv").rows;
        assert!(
            rows.iter()
                .any(|row| &*row.target == " is" && row.base_prob > 0.9),
            "{command:?}"
        );
    }
    for (at, said) in [
        ("9", "only 5 tokens"),
        ("nowhere", "does not contain"),
        ("capital of", "is 2 tokens, and one is read"),
    ] {
        lab.refused_after_device(&["sweep", "--at", at], &["--at", said]);
    }
    lab.refused(&["lens", BASE, "--at", "3"], &["--at", "--positions"]);
}

#[test]
fn logits_and_losses_are_exported_of_every_position() {
    let lab = Lab::new();
    lab.ok(&[
        "cache",
        BASE,
        "--component",
        "logits,loss,final_output",
        "--out",
        "a.safetensors",
    ]);
    let bytes = std::fs::read(lab.path("a.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| -> Vec<f64> {
        let tensor = tensors.tensor(name).unwrap();
        let (numbers, _) = tensor.data().as_chunks::<4>();
        numbers
            .iter()
            .map(|b| f32::from_le_bytes(*b).into())
            .collect()
    };
    let (logits, losses) = (read("logits"), read("loss"));
    let vocab = logits.len() / 5;
    assert_eq!(tensors.tensor("logits").unwrap().shape(), [5, vocab]);
    assert_eq!(tensors.tensor("loss").unwrap().shape(), [4]);
    // each is what `topk` says of the prompt that ends there
    let words = ["The", " capital", " of", " Spain", " is"];
    for end in 1..5 {
        let prompt = words[..end].concat();
        let said = lab
            .ok(&["topk", &prompt, "-n", &vocab.to_string(), "--format", "csv"])
            .out;
        let mut rows = csv::Reader::from_reader(said.as_bytes());
        let next = rows
            .records()
            .map(Result::unwrap)
            .find(|row| &row[1] == words[end])
            .unwrap();
        let number = |i: usize| next[i].parse::<f64>().unwrap();
        let id: usize = next[0].parse().unwrap();
        assert!((losses[end - 1] + number(3)).abs() < 1e-5, "{prompt}");
        assert!(
            (logits[(end - 1) * vocab + id] - number(4)).abs() < 1e-5,
            "{prompt}"
        );
    }
    lab.refused(
        &[
            "cache",
            BASE,
            "--component",
            "logits,logits",
            "--out",
            "b.safetensors",
        ],
        &["named twice"],
    );
    lab.refused(
        &[
            "cache",
            BASE,
            "--component",
            "loss",
            "--layers",
            "1",
            "--out",
            "b.safetensors",
        ],
        &["--layers"],
    );
}
