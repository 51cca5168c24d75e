//! `headlight path`: its rows, arrays and averages, which paths are meant, and what is refused.

use headlight::results::table::Row;

use crate::data::lab_with;
use crate::lab::Lab;
use crate::metrics::npy;

/// The path of a name.
fn of<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    let found = rows.iter().find(|r| r.name.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("{name} is no path"))
}

#[test]
fn rows_say_what_sends_and_where_to() {
    let lab = Lab::new();
    let said = lab.ok(&["path", "--senders", "all", "--out", "t.parquet"]);
    let table = lab.table("t.parquet");
    // 26 senders, two targets each
    assert_eq!(table.rows.len(), 2 * 26);
    let at = |name: &str| {
        let row = of(&table.rows, name);
        (row.component.clone().unwrap(), row.layer, row.head)
    };
    let z = "head_attention_value_output".into();
    assert_eq!(at("a3.h1->logits"), (z, Some(3), Some(1)));
    assert_eq!(at("m2->logits"), ("mlp_output".into(), Some(2), None));
    assert_eq!(at("input->logits"), ("block_input".into(), Some(0), None));
    assert!(
        said.out
            .contains("paths to logits; other heads held at the base's")
    );
    // layers × heads
    assert!(said.out.contains("L4  .984"), "{}", said.out);
    // with all but the sender held, the last MLP's path is its edge
    lab.ok(&[
        "path",
        "--senders",
        "m4",
        "--freeze",
        "all",
        "--out",
        "p.parquet",
    ]);
    lab.ok(&[
        "edges",
        "--senders",
        "m4",
        "--receivers",
        "logits",
        "--out",
        "e.parquet",
    ]);
    let (path, edge) = (lab.table("p.parquet"), lab.table("e.parquet"));
    for (path, edge) in path.rows.iter().zip(&edge.rows) {
        assert!((path.logprob - edge.logprob).abs() < 1e-5);
        assert!((path.prob - path.base_prob).abs() > 0.05 || &*path.target != " Madrid");
    }
}

#[test]
fn freezing_more_changes_more_paths() {
    let lab = Lab::new();
    let run = |more: &[&str], out: &str| {
        let mut line = vec!["path", "--senders", "m1", "--out", out];
        line.extend(more);
        lab.ok(&line);
        lab.table(out).rows[0].logprob.to_bits()
    };
    let all = [
        run(&[], "a.csv"),
        run(&["--freeze", "all"], "b.csv"),
        run(&["--freeze-scales"], "c.csv"),
        run(&["--freeze", "all", "--freeze-scales"], "d.csv"),
        run(&["--receivers", "block_mid.3"], "e.csv"),
        run(&["--receivers", "v"], "f.csv"),
        run(
            &["--receivers", "v", "--receiver-positions", "end"],
            "g.csv",
        ),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "{all:?}");
}

#[test]
fn receivers_apart_and_positions_stand_along_the_arrays() {
    let lab = Lab::new();
    lab.ok(&[
        "path",
        "--senders",
        "heads",
        "--receivers",
        "a1.h2.v,m3,a0.h0.q",
        "--apart",
        "--positions",
        "Spain,end",
        "--target",
        " Rome",
        "--arrays",
        "p.npz",
        "--out",
        "p.parquet",
    ]);
    let (shape, values) = npy(&lab, "p.npz", "prob");
    assert_eq!(shape, [20, 3, 2]);
    let table = lab.table("p.parquet");
    let names = ["a0.h0<q>", "a1.h2<v>", "m3"];
    let mut runs = 0;
    for layer in 0..5 {
        for head in 0..4 {
            for (r, to) in names.iter().enumerate() {
                for (p, position) in ["Spain", "end"].iter().enumerate() {
                    let value = values[((layer * 4 + head) * 3 + r) * 2 + p];
                    let name = format!("a{layer}.h{head}@{position}->{to}");
                    let row = table
                        .rows
                        .iter()
                        .find(|r| r.name.as_deref() == Some(&*name));
                    assert_eq!(row.is_none(), value.is_nan(), "{name}");
                    if let Some(row) = row {
                        runs += 1;
                        assert_eq!(row.prob.to_bits(), value.to_bits(), "{name}");
                        assert_eq!(row.position, Some(3 + p as u32));
                    }
                }
            }
        }
    }
    // layer 0 reaches a1.h2<v>, layers 0 to 3 reach m3, and nothing a0.h0<q>
    assert_eq!(runs, 2 * (4 + 16));
    // one receiver alone is what it is among others, bit for bit
    lab.ok(&[
        "path",
        "--receivers",
        "a1.h2<v>",
        "--positions",
        "end",
        "--target",
        " Rome",
        "--out",
        "one.parquet",
    ]);
    for row in &lab.table("one.parquet").rows {
        let among = of(&table.rows, row.name.as_deref().unwrap());
        assert_eq!(row.logprob.to_bits(), among.logprob.to_bits());
    }
}

#[test]
fn pairs_of_a_data_set_are_averaged() {
    let lab = lab_with(&["capitals.jsonl"]);
    lab.ok(&[
        "path",
        "--data",
        "capitals.jsonl",
        "--senders",
        "m1,m4",
        "--metric",
        "logit_diff",
        "--out",
        "p.csv",
    ]);
    let summary = lab.read("p.summary.csv");
    assert_eq!(summary.lines().count(), 1 + 2, "{summary}");
    assert!(summary.contains("m4->logits"), "{summary}");
    // every row of the table is one pair's
    let pairs: std::collections::HashSet<u32> =
        lab.table("p.csv").rows.iter().map(|r| r.pair).collect();
    assert!(pairs.len() > 1);
}

#[test]
fn what_leads_nowhere_is_refused() {
    let lab = Lab::new();
    for (line, said) in [
        (
            &["--senders", "m4", "--receivers", "a0.h0.q"][..],
            "no path goes from",
        ),
        (&["--receivers", "logits,m3"], "`m3` what follows from it"),
        (
            &["--receivers", "input"],
            "`input` is no receiver of a path",
        ),
        (&["--receivers", "foo"], "such as block_input.5\n"),
        (&["--receivers", "ov"], "such as block_input.5\n"),
        (
            &["--receivers", "blok_input.3"],
            "did you mean `block_input`?",
        ),
        (
            &["--receivers", "block_input"],
            "block_input needs its layer",
        ),
        (&["--receivers", "a9.h0.q"], "layers 0 to 4"),
        (&["--senders", "a9"], "no sender is meant by `a9`"),
        (&["--positions", "9"], "--positions: "),
        (&["--receiver-positions", "Peru"], "--receiver-positions: "),
        (&["--base", "The capital of Spain is"], "give one"),
        (
            &[
                "--base",
                "The capital of Spain is",
                "--source",
                "The capital of",
            ],
            "give prompts of equal length",
        ),
        (&["--arrays", "p.txt"], "p.txt"),
    ] {
        let mut command = vec!["path"];
        command.extend(line);
        lab.refused(&command, &[said]);
    }
}

/// Pairs of unequal lengths, whose places each finds by itself, in either direction.
#[test]
fn places_of_a_data_set_are_found_in_every_pair() {
    let lab = Lab::new();
    let row = |base: &str, source: &str, more: &str| {
        format!(
            "{{\"base\": \"{base}\", \"source\": \"{source}\", \"targets\": [\" Rome\"]{more}}}\n"
        )
    };
    let (short, long) = ("The capital of Spain is", "The capital city of Italy is");
    lab.write("d.jsonl", row(short, long, ""));
    lab.write("r.jsonl", row(long, short, ""));
    let run = |file: &str, more: &[&str]| {
        let line = [
            "path",
            "--data",
            file,
            "--senders",
            "m0,m3",
            "--positions",
            "end,-2",
            "--receivers",
            "a4",
            "--receiver-positions",
            "end",
            "--out",
            "t.parquet",
        ];
        lab.ok(&[&line[..], more].concat());
        lab.table("t.parquet").rows
    };
    let rows = run("d.jsonl", &[]);
    let at = |name: &str| {
        let row = of(&rows, name);
        (
            row.position,
            row.source_position,
            row.token.clone().unwrap(),
        )
    };
    assert_eq!(at("m0@end->a4"), (Some(4), Some(5), " is".into()));
    assert_eq!(at("m3@-2->a4"), (Some(3), Some(4), " Spain".into()));
    let reversed = run("r.jsonl", &["--direction", "noise"]);
    for (here, there) in rows.iter().zip(&reversed) {
        assert_eq!(here.logprob.to_bits(), there.logprob.to_bits());
    }
    lab.refused(
        &["path", "--data", "d.jsonl"],
        &[
            "d.jsonl, line 1",
            "give prompts of equal length, or positions by name",
        ],
    );
    // what a row says itself is where all of its senders send, in one run
    lab.write("own.jsonl", row(short, long, ", \"positions\": [\"end\"]"));
    lab.ok(&[
        "path",
        "--data",
        "own.jsonl",
        "--senders",
        "m0",
        "--out",
        "o.parquet",
    ]);
    assert_eq!(lab.table("o.parquet").rows[0].position, Some(4));
}

#[test]
fn what_shares_a_cell_is_neither_drawn_nor_averaged() {
    let lab = Lab::new();
    let spans = ["--positions", "capital of,Spain is"];
    // what has a name has columns of its own
    for command in [
        &["path", "--senders", "a0"][..],
        &["sweep", "--component", "attention_output"],
    ] {
        let said = lab.ok(&[command, &spans, &["--plot", "p.svg"]].concat());
        for name in ["capital", "Spain"] {
            assert!(lab.read("p.svg").contains(name), "{}", said.out);
        }
        std::fs::remove_file(lab.path("p.svg")).unwrap();
    }
    // the default targets are what the model says, so the device is named before the refusal
    let refused = |line: &[&str]| {
        let said = lab.run(&[line, &["--plot", "p.svg"]].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
        assert!(said.err.contains("share a cell"), "{said:?}");
        assert!(!lab.path("p.svg").exists());
    };
    let apart = ["path", "--receivers", "a1,a2", "--apart"];
    assert!(!lab.ok(&apart).out.contains("L0"));
    refused(&apart);
    // pairs that are patched at different places have no axis in common
    let row = |more: &str| {
        format!(
            "{{\"base\": \"The capital of Spain is\", \"source\": \"The capital of Italy is\", \"targets\": [\" Rome\"]{more}}}\n"
        )
    };
    lab.write("own.jsonl", row(", \"positions\": [\"end\"]") + &row(""));
    let own = ["--data", "own.jsonl", "--arrays", "o.npz"];
    for line in [
        &["path", "--positions", "all"][..],
        &["sweep", "--preset", "attn_head_out_by_pos"],
    ] {
        lab.refused(
            &[line, &own].concat(),
            &["--arrays: one pair is patched at 0, 1", "at end"],
        );
    }
    lab.ok(&[&["path", "--senders", "m0", "--positions", "end"][..], &own].concat());
}

#[test]
fn a_receiver_named_twice_is_one() {
    let lab = Lab::new();
    let names = |receivers: &str| {
        let rows = lab.rows("path", &["--senders", "m0", "--receivers", receivers]);
        rows[0].name.clone().unwrap()
    };
    assert_eq!(&*names("a1.h2.q,a1.h2.q"), "m0->a1.h2<q>");
    assert_eq!(&*names("a1.h2.v, m1"), "m0->a1.h2<v>+m1");
    assert_eq!(&*names("logits,logits"), "m0->logits");
    assert_eq!(&*names("q,q"), "m0->q");
}
