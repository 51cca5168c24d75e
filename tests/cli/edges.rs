//! `headlight edges`: its rows, matrices and averages, which edges are meant, and what is refused.

use std::collections::HashMap;

use headlight::results::table::Row;

use crate::data::lab_with;
use crate::lab::{Lab, bits};
use crate::metrics::{member, npy};

/// Edges of the demo model: 5 layers of 4 heads.
const ALL: usize = 761;

/// Texts of an archive.
fn texts(lab: &Lab, file: &str, name: &str) -> Vec<String> {
    let bytes = member(lab, file, name);
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    let width = header.split_once("<U").unwrap().1;
    let width: usize = width.split_once('\'').unwrap().0.parse().unwrap();
    let text = |b: &[u8]| -> String {
        let chars = b
            .chunks(4)
            .map(|c| u32::from_le_bytes(c.try_into().unwrap()));
        chars
            .filter(|c| *c > 0)
            .map(|c| char::from_u32(c).unwrap())
            .collect()
    };
    bytes[10 + length..].chunks(4 * width).map(text).collect()
}

fn names(rows: &[Row]) -> Vec<&str> {
    rows.iter().filter_map(|row| row.name.as_deref()).collect()
}

#[test]
fn without_prompts_every_edge_of_the_demo_is_patched() {
    let lab = Lab::new();
    let said = lab.ok(&["edges", "--out", "t.parquet"]);
    let table = lab.table("t.parquet");
    assert_eq!(table.rows.len(), 2 * ALL);
    let edge = |name: &str| {
        let found = table
            .rows
            .iter()
            .filter(|r| r.name.as_deref() == Some(name));
        let found: Vec<&Row> = found.collect();
        assert_eq!(found.len(), 2, "{name}");
        let row = found[0];
        let head = (row.component.clone(), row.layer, row.head);
        assert_eq!((&*row.target, &*found[1].target), (" Madrid", " Rome"));
        assert_eq!(row.op.as_deref(), Some("add=source-base"));
        head
    };
    let at = |component: &str, layer, head| (Some(component.into()), Some(layer), head);
    assert_eq!(
        edge("a0.h1->a2.h3<q>"),
        at("attention_query_input", 2, Some(3))
    );
    assert_eq!(edge("m0->a4.h0<k>"), at("attention_key_input", 4, Some(0)));
    assert_eq!(
        edge("input->a0.h2<v>"),
        at("attention_value_input", 0, Some(2))
    );
    assert_eq!(edge("a3.h2->m3"), at("mlp_residual_input", 3, None));
    assert_eq!(edge("m4->logits"), at("block_output", 4, None));
    // by sender, then by receiver
    assert_eq!(names(&table.rows)[0], "input->a0.h0<q>");
    assert_eq!(names(&table.rows)[2 * ALL - 1], "m4->logits");
    for (i, row) in table.rows.iter().enumerate() {
        assert_eq!((row.pair, row.run as usize), (0, i / 2));
    }
    // what is read where only the last token differs is one position, and it is named
    let row = &table.rows[0];
    assert_eq!(
        (row.position, row.token.as_deref()),
        (Some(3), Some(" Spain"))
    );
    // the strongest come first, and how long it took last
    let best = |row: &&Row| (row.prob - row.base_prob).abs();
    let top = table
        .rows
        .iter()
        .max_by(|a, b| best(a).total_cmp(&best(b)))
        .unwrap();
    assert!(best(&top) > 0.1, "{top:?}");
    let strongest = said.out.split_once("strongest edges\n").unwrap().1;
    let mut lines = strongest.lines();
    assert!(lines.next().unwrap().starts_with("edge "), "{strongest}");
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with(top.name.as_deref().unwrap()),
        "{strongest}"
    );
    assert_eq!(
        strongest.lines().filter(|line| line.contains("->")).count(),
        20
    );
    assert!(
        strongest.contains("761 runs in ") && strongest.contains("GFLOP/s"),
        "{strongest}"
    );
    // a result like any other
    lab.ok(&["edges", "--senders", "input", "--out", "one.csv"]);
    lab.ok(&["plot", "one.csv", "--out", "t.svg"]);
}

#[test]
fn an_edge_is_the_same_whichever_others_are_asked_for() {
    let lab = Lab::new();
    let all = lab.rows("edges", &[]);
    let known: HashMap<(&str, u32), &Row> = all
        .iter()
        .map(|r| ((r.name.as_deref().unwrap(), r.target_id), r))
        .collect();
    for (senders, receivers, count) in [
        ("all", "logits", 26),
        ("mlps", "mlps", 10),
        ("input,a0.h1", "a1.h2<q>,a1.h2.v,m4", 6),
        ("embed", "q,k", 40),
        ("a0", "a1.h0", 12),
        ("heads", "a2,logits", 8 * 12 + 20),
    ] {
        let some = lab.rows("edges", &["--senders", senders, "--receivers", receivers]);
        assert_eq!(some.len(), 2 * count, "{senders} to {receivers}");
        for row in &some {
            let same = known[&(row.name.as_deref().unwrap(), row.target_id)];
            assert_eq!(
                bits(std::slice::from_ref(row)),
                bits(std::slice::from_ref(same)),
                "{row:?}"
            );
        }
    }
    let csv = lab.ok(&[
        "edges",
        "--senders",
        "a0.h0",
        "--receivers",
        "logits",
        "--out",
        "-",
    ]);
    assert!(
        csv.out.lines().count() == 3 && csv.out.starts_with("pair,run,name"),
        "{csv:?}"
    );
    assert!(csv.err.contains("strongest edges"), "{csv:?}");
}

/// With the source for base nothing is computed, and nothing moves.
#[test]
fn equal_prompts_move_nothing() {
    let lab = Lab::new();
    let same = [
        "--base",
        "The capital of Spain is",
        "--source",
        "The capital of Spain is",
    ];
    let said = lab.ok(&[
        &["edges", "--target", " Madrid", "--out", "t.csv"],
        &same[..],
    ]
    .concat());
    assert!(
        said.out
            .contains("761 skipped: they write what stands there already"),
        "{said:?}"
    );
    assert!(said.out.contains("no patch changed"), "{said:?}");
    for row in lab.table("t.csv").rows {
        assert_eq!(row.prob.to_bits(), row.base_prob.to_bits(), "{row:?}");
        assert!(row.component.is_some() && row.layer.is_some());
        assert_eq!(&*row.patches, "[]");
    }
}

#[test]
fn arrays_are_senders_by_receivers() {
    let lab = lab_with(&["capitals.jsonl"]);
    lab.write(
        "two.jsonl",
        lab.read("capitals.jsonl")
            .lines()
            .take(2)
            .collect::<Vec<_>>()
            .join("\n"),
    );
    let args = [
        "edges",
        "--data",
        "two.jsonl",
        "--metric",
        "logit_diff,prob",
        "--out",
        "t.csv",
    ];
    lab.ok(&[&args[..], &["--arrays", "a.npz"]].concat());
    let table = lab.table("t.csv");
    assert_eq!(table.metrics, ["logit_diff"]);
    assert_eq!(table.rows.len(), 2 * ALL);
    let texts = |name: &str| texts(&lab, "a.npz", name);
    let (senders, receivers) = (texts("sender"), texts("receiver"));
    assert_eq!((senders.len(), receivers.len()), (26, 66));
    assert_eq!(texts("axes"), ["sender", "receiver"]);
    for (metric, of) in [
        ("logit_diff", (|row| row.metrics[0]) as fn(&Row) -> f64),
        ("prob", |row| row.prob),
    ] {
        let (shape, mean) = npy(&lab, "a.npz", metric);
        let (all, each) = npy(&lab, "a.npz", &format!("{metric}_pairs"));
        assert_eq!((shape, all), (vec![26, 66], vec![2, 26, 66]));
        let mut filled = 0;
        for row in &table.rows {
            let (from, to) = row.name.as_ref().unwrap().split_once("->").unwrap();
            let s = senders.iter().position(|n| n == from).unwrap();
            let r = receivers.iter().position(|n| n == to).unwrap();
            let at = s * 66 + r;
            assert_eq!(
                each[row.pair as usize * mean.len() + at].to_bits(),
                of(row).to_bits()
            );
            assert_eq!(mean[at], (each[at] + each[mean.len() + at]) / 2.0);
            filled += 1;
        }
        assert_eq!(each.iter().filter(|x| !x.is_nan()).count(), filled);
        let (_, base) = npy(&lab, "a.npz", &format!("{metric}_base"));
        assert_eq!(base.len(), 2);
    }
    let (_, base) = npy(&lab, "a.npz", "prob_base");
    assert!((base[0] - table.rows[0].base_prob).abs() < 1e-15);
    // the averages over pairs are the same numbers
    let summary = lab.read("t.summary.csv");
    let mut lines = summary.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = header.iter().position(|name| *name == "prob").unwrap();
    assert_eq!(lines.clone().count(), ALL);
    let (_, mean) = npy(&lab, "a.npz", "prob");
    let first: f64 = lines
        .next()
        .unwrap()
        .split(',')
        .nth(column)
        .unwrap()
        .parse()
        .unwrap();
    assert!((first - mean[0]).abs() < 1e-12);
    // targets apart, where a metric is of one
    lab.ok(&[
        "edges",
        "--metric",
        "prob,kl",
        "--senders",
        "mlps",
        "--receivers",
        "logits",
        "--arrays",
        "b.npz",
        "--out",
        "b.csv",
    ]);
    let rows = lab.table("b.csv").rows;
    let (shape, every) = npy(&lab, "b.npz", "prob_targets");
    assert_eq!(shape, [1, 2, 5, 1]);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(every[i % 2 * 5 + i / 2].to_bits(), row.prob.to_bits());
    }
    assert_eq!(npy(&lab, "b.npz", "kl").0, [5, 1]);
    lab.ok(&[
        "edges",
        "--senders",
        "mlps",
        "--receivers",
        "logits",
        "--arrays",
        "b.safetensors",
    ]);
    let bytes = std::fs::read(lab.path("b.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(about["sender"], r#"["m0","m1","m2","m3","m4"]"#);
}

#[test]
fn each_position_is_a_run_a_row_and_a_place_in_the_arrays() {
    let lab = lab_with(&["capitals.jsonl"]);
    // of five tokens and of six
    let longer = "{\"base\": \"The capital city of Spain is\", \"source\": \"The capital city of Italy is\", \"targets\": [\" Madrid\"]}";
    let shorter = lab.read("capitals.jsonl");
    let shorter = shorter.lines().next().unwrap();
    lab.write("two.jsonl", format!("{shorter}\n{longer}\n"));
    let nodes = ["--senders", "input,m0,m3", "--receivers", "a1,m4,logits"];
    let args = [&nodes[..], &["--data", "two.jsonl"]].concat();
    let whole = lab.rows("edges", &args);
    let arrays = ["--per-position", "--arrays", "a.npz", "--metric", "prob,kl"];
    let rows = lab.rows("edges", &[&args[..], &arrays].concat());
    // of 3 × (4 heads × q, k, v; an MLP; the logits), without m3 to layer 1
    let edges = 3 * 14 - 12;
    let lengths = [5, 6];
    assert_eq!((whole.len(), rows.len()), (2 * edges, edges * 11));
    let (shape, mean) = npy(&lab, "a.npz", "prob");
    let (all, pairs) = npy(&lab, "a.npz", "prob_pairs");
    assert_eq!(
        (&shape[..], &all[..]),
        (&[3, 14, 6][..], &[2, 3, 14, 6][..])
    );
    assert_eq!(
        texts(&lab, "a.npz", "axes"),
        ["sender", "receiver", "position"]
    );
    let (senders, receivers) = (
        texts(&lab, "a.npz", "sender"),
        texts(&lab, "a.npz", "receiver"),
    );
    let kl = npy(&lab, "a.npz", "kl_pairs").1;
    let mut left: Vec<&Row> = rows.iter().collect();
    let mut filled = 0;
    for (pair, length) in lengths.into_iter().enumerate() {
        for of in whole.iter().filter(|row| row.pair as usize == pair) {
            let edge = of.name.as_deref().unwrap();
            let (from, to) = edge.split_once("->").unwrap();
            let s = senders.iter().position(|n| n == from).unwrap();
            let r = receivers.iter().position(|n| n == to).unwrap();
            for position in 0..length {
                let row = left.remove(0);
                assert_eq!(row.name.as_deref(), Some(&*format!("{edge}@{position}")));
                assert_eq!(row.position, Some(position as u32));
                let tokens = ["The", " capital", " city", " of", " Spain", " is"];
                let token = match (pair, position) {
                    (0, 2..) => tokens[position + 1],
                    _ => tokens[position],
                };
                assert_eq!(row.token.as_deref(), Some(token));
                assert_eq!(
                    (&row.component, row.layer, row.head, &row.op),
                    (&of.component, of.layer, of.head, &of.op)
                );
                let at = (s * 14 + r) * 6 + position;
                assert_eq!(pairs[pair * mean.len() + at].to_bits(), row.prob.to_bits());
                assert_eq!(kl[pair * mean.len() + at], row.metrics[0]);
                filled += 1;
                // what comes before the token that differs is the same in both
                if position < length - 2 {
                    assert_eq!(row.prob.to_bits(), row.base_prob.to_bits(), "{row:?}");
                }
                // only one token's embedding differs, and the logits are read at the last position
                if (from, position) == ("input", length - 2)
                    || (to, position) == ("logits", length - 1)
                {
                    assert_eq!(row.prob.to_bits(), of.prob.to_bits(), "{row:?}");
                }
                let [first, second] = [0, 1].map(|p| pairs[p * mean.len() + at]);
                let expected = match position {
                    5 => second,
                    _ => (first + second) / 2.0,
                };
                assert_eq!(mean[at].to_bits(), expected.to_bits());
            }
        }
    }
    assert!(left.is_empty());
    assert_eq!(pairs.iter().filter(|x| !x.is_nan()).count(), filled);
    let moved = |row: &&Row| row.prob.to_bits() != row.base_prob.to_bits();
    assert!(rows.iter().filter(moved).count() > edges);
    // averages by edge and position
    let summary = lab.read("t.summary.csv");
    assert_eq!(summary.lines().count(), 1 + 6 * edges);
    assert!(summary.contains("input->a1.h0<q>@5"), "{summary}");
    // people see the token, and a picture has positions
    let one = [&nodes[..], &["--per-position", "--out", "one.csv"]].concat();
    let said = lab.ok(&[&["edges"], &one[..]].concat());
    let strongest = said.out.split_once("strongest edges\n").unwrap().1;
    let lines: Vec<&str> = strongest.lines().take(2).collect();
    assert!(
        lines[0].contains("position") && !lines[0].contains("head"),
        "{strongest}"
    );
    assert!(
        lines[1].contains("@4 ") && lines[1].contains("4 _is"),
        "{strongest}"
    );
    assert!(
        strongest.contains(&format!("{} runs in ", 5 * edges)),
        "{strongest}"
    );
    // one sender's are a cell each
    let one = [
        "edges",
        "--senders",
        "m0",
        "--per-position",
        "--out",
        "m0.csv",
    ];
    lab.ok(&one);
    lab.ok(&["plot", "m0.csv", "--out", "one.svg"]);
    assert!(lab.read("one.svg").contains("_Spain"));
    // several senders have no place in a grid of receivers and positions
    let two = [
        "edges",
        "--senders",
        "mlps",
        "--per-position",
        "--out",
        "mlps.csv",
    ];
    lab.ok(&two);
    let plot = ["plot", "mlps.csv", "--out", "two.svg"];
    lab.refused(&plot, &["share a cell"]);
    // safetensors hold positions beside the rest
    let file = [&nodes[..], &["--per-position", "--arrays", "a.safetensors"]].concat();
    lab.ok(&[&["edges"], &file[..]].concat());
    let bytes = std::fs::read(lab.path("a.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(about["position"], "[0,1,2,3,4]");
}

#[test]
fn what_has_no_edges_is_refused() {
    let lab = lab_with(&["capitals.jsonl"]);
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(&[&["edges", "--out", "t.csv"], args].concat(), needles);
    };
    refused(
        &["--senders", "a9"],
        &["no sender is meant by `a9`", "a4.h3", "m4"],
    );
    refused(
        &["--receivers", "input"],
        &["no receiver is meant by `input`", "logits"],
    );
    refused(&["--senders", "a0.h0<q>"], &["no sender"]);
    refused(
        &["--senders", "b0"],
        &["--senders: `b0` names nothing in the graph"],
    );
    refused(
        &["--senders", "m4", "--receivers", "heads"],
        &["no edge goes from these"],
    );
    refused(&["--base", "The capital of Spain is"], &["give one"]);
    refused(
        &[
            "--base",
            "The capital of Spain is",
            "--source",
            "The capital city of Spain is",
        ],
        &["5 tokens and the source 6", "equal length"],
    );
    refused(&["--metric", "logit_diff"], &["wrong answers"]);
    refused(&["--arrays", "a.csv"], &[".npz or .safetensors"]);
    // a row of a data set is named
    let mut rows = lab.read("capitals.jsonl");
    rows.push_str("{\"base\": \"The capital of Spain is\", \"source\": \"The capital\", \"targets\": [\" Rome\"]}\n");
    lab.write("bad.jsonl", rows);
    refused(
        &["--data", "bad.jsonl"],
        &["bad.jsonl, line 4", "equal length"],
    );
    let said = lab.ok(&[
        "edges",
        "--data",
        "bad.jsonl",
        "--skip-bad",
        "--senders",
        "m0",
    ]);
    assert!(said.err.contains("skipped 1 of 4 rows"), "{said:?}");
}
