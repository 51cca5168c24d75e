//! `--joint`: answers of several tokens, by the chain rule; and `--metric loss`, against `cache`.

use headlight::results::table::Row;
use safetensors::SafeTensors;

use crate::lab::{BASE, Lab, SOURCE, bits};

const SITES: [&str; 6] = [
    "--component",
    "hook_z,mlp_output",
    "--layers",
    "0-1",
    "--positions",
    "0-4",
];

fn sweep(lab: &Lab, base: &str, more: &[&str]) -> Vec<Row> {
    let prompts = ["--base", base, "--source", SOURCE];
    lab.sweep(&[&SITES[..], &prompts, more].concat())
}

/// The factors are other commands' probabilities of one token, added up to the bit.
#[test]
fn a_joint_probability_is_the_chain_of_its_tokens() {
    let lab = Lab::new();
    let joint = sweep(
        &lab,
        BASE,
        &[
            "--joint",
            "--target",
            " Rome Madrid",
            "--target",
            " Paris",
            "--metric",
            "prob_diff,kl",
            "--wrong-target",
            " Rome Rome",
        ],
    );
    let one = |base: &str, target: &str| sweep(&lab, base, &["--target", target, "--metric", "kl"]);
    let first = one(BASE, " Rome");
    let longer = format!("{BASE} Rome");
    let [second, wrong] = [" Madrid", " Rome"].map(|target| one(&longer, target));
    let paris = one(BASE, " Paris");
    assert_eq!(joint.len(), 2 * first.len());
    for (i, rows) in joint.chunks(2).enumerate() {
        let [whole, single] = rows else { panic!() };
        assert_eq!(
            (&*whole.target, &*single.target),
            (" Rome Madrid", " Paris")
        );
        assert_eq!(whole.target_id, first[i].target_id);
        let logprob = first[i].logprob + second[i].logprob;
        assert_eq!((whole.logprob, whole.prob), (logprob, logprob.exp()));
        assert!(whole.logit.is_nan() && whole.source_prob.unwrap() < 1.0);
        assert_eq!(bits(std::slice::from_ref(single)), bits(&paris[i..=i]));
        let of_wrong = (first[i].logprob + wrong[i].logprob).exp();
        let difference = whole.prob + single.prob - of_wrong;
        assert!((whole.metrics[0] - difference).abs() < 1e-15);
        assert_eq!(whole.metrics[1].to_bits(), first[i].metrics[0].to_bits());
    }
    let source = format!("{SOURCE} Rome");
    let there = |base: &str, target: &str| sweep(&lab, base, &["--target", target])[0].base_prob;
    let want = there(SOURCE, " Rome") * there(&source, " Madrid");
    assert!((joint[0].source_prob.unwrap() - want).abs() < 1e-12 * want);
}

/// Of a data set's rows each its own; in every command that patches, and in folders.
#[test]
fn whole_answers_are_read_wherever_prompts_are_patched() {
    let lab = Lab::new();
    lab.write(
        "d.jsonl",
        "{\"base\": \"The capital of Spain is\", \"source\": \"The capital of Italy is\", \"targets\": [\" Rome Madrid\"]}\n\
         {\"base\": \"The capital of Italy is\", \"source\": \"The capital of Spain is\", \"targets\": [\" Rome\"]}\n",
    );
    let data = ["--data", "d.jsonl", "--joint"];
    let typed = sweep(&lab, BASE, &["--joint", "--target", " Rome Madrid"]);
    let rows = lab.sweep(&[&SITES[..], &data].concat());
    assert_eq!(bits(&rows[..typed.len()]), bits(&typed));
    assert!(
        rows[typed.len()..]
            .iter()
            .all(|row| &*row.target == " Rome" && row.logit.is_finite())
    );
    let folder = [&["sweep", "--out", "f/"], &SITES[..], &data].concat();
    lab.ok(&folder);
    lab.ok(&["merge", "f", "--out", "m.csv"]);
    assert_eq!(bits(&lab.table("m.csv").rows), bits(&rows));
    for command in [
        &["edges", "--senders", "mlps", "--receivers", "logits"][..],
        &["path", "--senders", "a0.h0", "--receivers", "logits"],
    ] {
        let first = ["--target", " Rome"];
        let whole = ["--joint", "--target", " Rome Madrid"];
        let prompts = ["--base", BASE, "--source", SOURCE];
        let of =
            |answer: &[&str]| lab.rows(command[0], &[&command[1..], &prompts, answer].concat());
        let (joint, alone) = (of(&whole), of(&first));
        assert_eq!(joint.len(), alone.len(), "{command:?}");
        assert!(
            joint
                .iter()
                .zip(&alone)
                .all(|(joint, first)| joint.prob < first.prob),
            "{command:?}"
        );
    }
    let traced = [
        "trace",
        BASE,
        "--subject",
        "Spain",
        "--samples",
        "2",
        "--joint",
        "--target",
        " Madrid Rome",
        "--out",
        "t.csv",
    ];
    lab.ok(&traced);
    assert!(
        lab.table("t.csv")
            .rows
            .iter()
            .all(|row| row.prob < 0.1 && row.logprob.is_finite())
    );
    lab.write(
        "e.toml",
        format!("[[pair]]\nbase = \"{BASE}\"\nsource = \"{SOURCE}\"\ntargets = [\" Rome Madrid\"]\n[[run]]\n[[run.patches]]\ncomponent = \"mlp_output\"\nlayer = 0\npositions = [3]\n"),
    );
    lab.ok(&["run", "e.toml", "--joint", "--out", "e.csv"]);
    let run = &lab.table("e.csv").rows[0];
    let swept = typed.iter().find(|row| {
        &*row.component.clone().unwrap() == "mlp_output"
            && row.layer == Some(0)
            && row.position == Some(3)
    });
    assert_eq!(run.logprob, swept.unwrap().logprob);
}

#[test]
fn what_cannot_be_read_whole_says_what_can() {
    let lab = Lab::new();
    let prompts = [
        "--base",
        BASE,
        "--source",
        SOURCE,
        "--target",
        " Rome Madrid",
    ];
    let with = |command: &[&'static str], more: &[&'static str]| -> Vec<&str> {
        [command, &prompts, more].concat()
    };
    lab.refused(
        &with(&["sweep"], &[]),
        &["is 2 tokens", "--first-token", "--joint"],
    );
    lab.refused(
        &with(&["sweep"], &["--joint", "--first-token"]),
        &["--joint", "--first-token"],
    );
    lab.refused_after_device(
        &with(&["sweep"], &["--joint", "--at", "2"]),
        &["--at", "several tokens"],
    );
    lab.refused(
        &with(&["sweep"], &["--joint", "--metric", "rank"]),
        &["rank", "single tokens", "logprob"],
    );
    lab.refused(
        &with(&["attribute", "nodes"], &["--joint"]),
        &["attribution", "several tokens"],
    );
    lab.refused(
        &with(
            &["attribute", "nodes"],
            &["--first-token", "--metric", "loss"],
        ),
        &["loss", "whole prompt"],
    );
    lab.refused(
        &["lens", BASE, "--target", " Rome Madrid", "--joint"],
        &["a lens", "several tokens"],
    );
}

/// A run that changes nothing has its prompt's loss, which `cache` writes position by position.
#[test]
fn a_loss_is_that_of_the_prompts_own_tokens() {
    let lab = Lab::new();
    lab.ok(&[
        "cache",
        BASE,
        "--component",
        "loss",
        "--out",
        "c.safetensors",
    ]);
    let bytes = std::fs::read(lab.path("c.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (_, tensor) = tensors
        .iter()
        .find(|(name, _)| name.contains("loss"))
        .unwrap();
    let (losses, _) = tensor.data().as_chunks::<4>();
    let losses: Vec<f64> = losses
        .iter()
        .map(|b| f64::from(f32::from_le_bytes(*b)))
        .collect();
    assert_eq!(losses.len(), 4);
    let mean = losses.iter().sum::<f64>() / 4.0;
    let rows = sweep(
        &lab,
        BASE,
        &["--target", " Rome", "--metric", "loss,recovery_loss"],
    );
    let (unchanged, changed): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.position < Some(3));
    assert!(
        unchanged
            .iter()
            .all(|row| (row.metrics[0] - mean).abs() < 1e-5 && row.metrics[1] == 0.0)
    );
    assert_eq!(changed.len(), 2 * unchanged.len() / 3);
    let zero = ["--target", " Rome", "--metric", "loss", "--op", "zero"];
    let zeroed = sweep(&lab, BASE, &zero);
    let far = |row: &&Row| (row.metrics[0] - mean).abs() > 0.1;
    assert!(zeroed.iter().filter(far).count() > 3);
    // up to where it is read
    let at = sweep(
        &lab,
        BASE,
        &["--target", " Rome", "--metric", "loss", "--at", "2"],
    );
    let mean = losses[..2].iter().sum::<f64>() / 2.0;
    assert!(at.iter().all(|row| (row.metrics[0] - mean).abs() < 1e-5));
}
