//! `--top`: what the model says after each run, in every format, in folders and on the screen.

use headlight::results::candidate::Candidate;
use headlight::results::table::Row;

use crate::lab::{BASE, Lab, SOURCE, fixture};

const SWEEP: [&str; 7] = [
    "sweep",
    "--component",
    "hook_v,mlp_output",
    "--layers",
    "0",
    "--targets",
    " Madrid, Rome",
];

fn tops(row: &Row) -> Vec<Candidate> {
    Candidate::of_column(row.top_tokens.as_deref().unwrap())
}

/// Logits of every token after each run, as targets, and the most probable of them: two ways to one list.
#[test]
fn the_tokens_are_those_of_all_logits_sorted() {
    let lab = Lab::new();
    let every: Vec<String> = (0..4096).map(|id| id.to_string()).collect();
    let model = fixture("odd_untied");
    // every token of the fixture is a target
    let config = std::fs::read_to_string(format!("{model}/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let vocab = config["vocab_size"].as_u64().unwrap() as usize;
    let ids = every[..vocab].join(",");
    let out = [
        "--model",
        &model,
        "sweep",
        "--base-ids",
        "5,3,8",
        "--source-ids",
        "5,4,8",
        "--component",
        "block_output",
        "--target-ids",
        &ids,
        "--top",
        "7",
        "--out",
        "t.parquet",
    ];
    lab.ok(&out);
    let rows = lab.table("t.parquet").rows;
    assert!(rows.len() >= 3 * vocab);
    for run in rows.chunk_by(|a, b| a.run == b.run) {
        let mut sorted: Vec<&Row> = run.iter().collect();
        sorted.sort_by(|a, b| {
            b.logit
                .total_cmp(&a.logit)
                .then(a.target_id.cmp(&b.target_id))
        });
        let found = tops(&run[0]);
        assert_eq!(found.len(), 7);
        for (found, wanted) in found.iter().zip(sorted) {
            assert_eq!(
                (found.id, &*found.token),
                (wanted.target_id, &*wanted.target)
            );
            let numbers =
                |prob: f64, logprob: f64, logit: f64| [prob, logprob, logit].map(f64::to_bits);
            assert_eq!(
                numbers(found.prob, found.logprob, found.logit),
                numbers(wanted.prob, wanted.logprob, wanted.logit)
            );
        }
        // all rows of a run say the same
        assert!(run.iter().all(|row| row.top_tokens == run[0].top_tokens));
    }
}

#[test]
fn every_format_holds_them_and_nothing_else_changes() {
    let lab = Lab::new();
    lab.ok(&[&SWEEP[..], &["--out", "plain.csv"]].concat());
    let plain = lab.table("plain.csv").rows;
    let mut known: Option<Vec<Row>> = None;
    for file in ["t.csv", "t.jsonl", "t.parquet"] {
        lab.ok(&[
            &SWEEP[..],
            &["--top", "3", "--metric", "rank", "--out", file],
        ]
        .concat());
        let table = lab.table(file);
        assert_eq!(table.metrics, ["rank"]);
        let rows = table.rows;
        for (row, plain) in rows.iter().zip(&plain) {
            assert_eq!(
                (row.prob.to_bits(), row.run),
                (plain.prob.to_bits(), plain.run)
            );
            assert_eq!(plain.top_tokens, None);
            let top = tops(row);
            assert_eq!(top.len(), 3);
            assert!(top.is_sorted_by(|a, b| a.prob >= b.prob));
            let known = top.iter().position(|c| c.id == row.target_id);
            if let Some(rank) = known {
                assert_eq!(
                    (rank as f64, top[rank].prob.to_bits()),
                    (row.metrics[0], row.prob.to_bits())
                );
            }
        }
        match &known {
            Some(known) => assert_eq!(*known, rows, "{file}"),
            None => known = Some(rows),
        }
    }
    // the cell that carries the country makes the model say Rome
    let rows = known.unwrap();
    let row = rows
        .iter()
        .find(|r| r.head == Some(0) && r.position == Some(3))
        .unwrap();
    assert_eq!(tops(row)[0].token, " Rome");
}

/// A run whose patches write what stands there is the base's, of which ten tokens are read for people.
#[test]
fn a_run_that_changes_nothing_says_as_many() {
    let lab = Lab::new();
    for number in ["2", "10", "23"] {
        let args = [
            "sweep",
            "--base",
            BASE,
            "--source",
            BASE,
            "--component",
            "block_output",
            "--layers",
            "1",
            "--target",
            " Madrid",
            "--top",
            number,
            "--out",
            "t.csv",
        ];
        lab.ok(&args);
        for row in lab.table("t.csv").rows {
            assert_eq!(tops(&row).len().to_string(), number);
        }
    }
    // more than there are is all of them
    let model = fixture("odd_untied");
    lab.ok(&[
        "--model",
        &model,
        "sweep",
        "--base-ids",
        "5,3",
        "--source-ids",
        "5,4",
        "--component",
        "mlp_output",
        "--target-ids",
        "1",
        "--top",
        "100000",
        "--out",
        "t.csv",
    ]);
    let rows = lab.table("t.csv").rows;
    let count = tops(&rows[0]).len();
    assert!(
        count > 7 && rows.iter().all(|row| tops(row).len() == count),
        "{count}"
    );
    lab.refused(&["sweep", "--top", "0"], &["--top"]);
}

#[test]
fn folders_hold_them_and_go_on_only_with_as_many() {
    let lab = Lab::new();
    let command = [&SWEEP[..], &["--top", "4"]].concat();
    lab.ok(&[&command[..], &["--out", "one.parquet"]].concat());
    lab.ok(&[&command[..], &["--out", "d/", "--part-rows", "9"]].concat());
    lab.ok(&["merge", "d", "--out", "merged.parquet"]);
    assert_eq!(
        lab.table("merged.parquet").rows,
        lab.table("one.parquet").rows
    );
    lab.ok(&["merge", "d", "--out", "merged.csv"]);
    assert_eq!(lab.table("merged.csv").rows, lab.table("one.parquet").rows);
    for (other, said) in [
        (&["--top", "5"][..], "--top (4, now 5)"),
        (&[], "--top (4, now 0)"),
    ] {
        let again = [&SWEEP[..], other, &["--out", "d/"]].concat();
        lab.refused_after_device(&again, &[said]);
    }
}

#[test]
fn an_experiment_prints_them_as_the_tutorial_does() {
    let lab = Lab::new();
    lab.write(
        "e.toml",
        format!(
            "targets = [\" Madrid\"]\n[[pair]]\nbase = \"{BASE}\"\nsource = \"{SOURCE}\"\n\
             [[run]]\nname = \"country\"\npatches = [{{ component = \"head_value_output\", layer = 0, heads = [0], positions = [3] }}]\n\
             [[run]]\npatches = [{{ component = \"mlp_output\", layer = 0, positions = [0], op = \"zero\" }}]\n"
        ),
    );
    let said = lab
        .ok(&["run", "e.toml", "--top", "2", "--out", "t.csv"])
        .out;
    let rows = lab.table("t.csv").rows;
    for (row, name) in rows.iter().zip(["after country\n", "after run 1\n"]) {
        let [first, second] = &tops(row)[..] else {
            panic!("{row:?}")
        };
        let line = |c: &Candidate| format!("{:<20} {:.11}\n", c.token.replace(' ', "_"), c.prob);
        let block = format!("\n{name}{}{}", line(first), line(second));
        assert!(said.contains(&block), "{block}\nnot in\n{said}");
    }
    assert_eq!(tops(&rows[0])[0].token, " Rome");
    // of a sweep, where they stand beside the strongest cells
    let said = lab.ok(&[&SWEEP[..], &["--top", "2"]].concat()).out;
    let line = said.lines().find(|line| line.starts_with("v0 ")).unwrap();
    assert!(line.contains("_Rome 0.97"), "{line}");
    assert!(!lab.ok(&SWEEP).out.contains("top tokens"));
}

/// What patches of other kinds leave behind is read in the same way.
#[test]
fn edges_paths_and_tracing_have_them_too() {
    let lab = Lab::new();
    for command in [
        &["edges", "--receivers", "logits"][..],
        &["path", "--senders", "a0.h0"],
        &[
            "trace",
            "The capital of Spain is",
            "--subject",
            "Spain",
            "--samples",
            "2",
        ],
    ] {
        lab.ok(&[command, &["--top", "2", "--out", "t.jsonl"]].concat());
        let rows = lab.table("t.jsonl").rows;
        assert!(!rows.is_empty());
        for row in &rows {
            let [first, second] = &tops(row)[..] else {
                panic!("{row:?}")
            };
            assert!(
                first.prob >= second.prob && row.prob <= first.prob,
                "{row:?}"
            );
        }
    }
}
