//! `headlight attribute` and `headlight circuit`: rows, signs, what is verified, files for others, and what is refused.

use std::collections::HashMap;

use headlight::results::table::Row;

use crate::data::lab_with;
use crate::emulator;
use crate::lab::{self, Lab};

/// Edges of the demo model: 5 layers of 4 heads.
const ALL: usize = 761;

fn by_name(rows: &[Row]) -> HashMap<(String, u32), &Row> {
    let key = |row: &Row| (row.name.as_deref().unwrap_or("").to_owned(), row.target_id);
    rows.iter().map(|row| (key(row), row)).collect()
}

/// Every edge's estimate stands in the row that `edges` has for it, and what is verified is what `edges` measures:
/// the metric of the run with the source's value minus that of the base run.
#[test]
fn verified_rows_are_those_of_edges() {
    let lab = Lab::new();
    lab.ok(&["edges", "--out", "exact.parquet"]);
    let exact = lab.table("exact.parquet");
    let known = by_name(&exact.rows);
    let flags = ["--verify-top", "30", "--out", "t.parquet"];
    let said = lab.ok(&[&["attribute", "edges"], &flags[..]].concat());
    let table = lab.table("t.parquet");
    assert_eq!(table.metrics, ["score", "exact"]);
    assert_eq!(table.rows.len(), 2 * ALL);
    let mut verified = 0;
    for (row, wanted) in table.rows.iter().zip(&exact.rows) {
        assert_eq!(
            (&row.name, row.run, row.target_id),
            (&wanted.name, wanted.run, wanted.target_id)
        );
        assert_eq!(
            (&row.component, row.layer, row.head),
            (&wanted.component, wanted.layer, wanted.head)
        );
        assert_eq!(
            (row.base_prob, row.source_prob),
            (wanted.base_prob, wanted.source_prob)
        );
        assert!(row.metrics[0].is_finite());
        if row.metrics[1].is_nan() {
            assert!(row.prob.is_nan());
            continue;
        }
        verified += 1;
        let wanted = known[&(row.name.as_deref().unwrap().to_owned(), row.target_id)];
        assert_eq!(row.prob.to_bits(), wanted.prob.to_bits(), "{:?}", row.name);
        assert_eq!(row.metrics[1], row.prob - row.base_prob);
        assert_eq!(row.patches, wanted.patches);
    }
    assert_eq!(verified, 2 * 60);
    for part in [
        "largest scores of prob, by attribution\n",
        "score and exact: Pearson ",
        "  of a random sample of the others: Pearson ",
        "(95 % confidence)",
        "761 estimates in ",
        "60 exact runs in ",
        "wrote t.parquet",
    ] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    // the largest that were measured are among the largest that were estimated, in this model
    let largest = |of: &dyn Fn(&Row) -> f64| {
        let rows = table.rows.iter().filter(|row| of(row).is_finite());
        let most = rows.max_by(|a, b| of(a).abs().total_cmp(&of(b).abs()));
        most.unwrap().name.clone()
    };
    assert!(largest(&|row| row.metrics[0]).is_some());
    assert!(largest(&|row| row.metrics[1]).is_some());
}

#[test]
fn nodes_are_the_cells_of_a_sweep() {
    let lab = Lab::new();
    let what = ["--component", "hook_z,mlp_output", "--layers", "0-1"];
    let swept = lab.rows("sweep", &what);
    let nodes = [&["attribute", "nodes"], &what[..], &["--out", "n.csv"]].concat();
    let said = lab.ok(&nodes);
    assert!(said.out.contains("\nsite"), "{said:?}");
    let table = lab.table("n.csv");
    assert_eq!(table.metrics, ["score"]);
    assert_eq!(table.rows.len(), swept.len());
    for (row, wanted) in table.rows.iter().zip(&swept) {
        let of = |row: &Row| {
            let place = (row.component.clone(), row.layer, row.head, row.position);
            (place, row.op.clone(), row.patches.clone(), row.target_id)
        };
        assert_eq!(of(row), of(wanted));
        assert!(row.prob.is_nan());
    }
    // where both prompts are the same so far, there is nothing to estimate
    let same = table.rows.iter().filter(|row| row.position < Some(3));
    assert!(same.clone().count() > 0 && same.clone().all(|row| row.metrics[0] == 0.0));
    assert!(table.rows.iter().any(|row| row.metrics[0].abs() > 1e-6));
}

/// Numbers of pairs and of chunks change nothing, and averages over pairs stand beside the table.
#[test]
fn data_sets_are_averaged() {
    let lab = lab_with(&["eap_ig.csv"]);
    let flags = ["--data", "eap_ig.csv", "--metric", "logit_diff"];
    let edges = [
        "attribute",
        "edges",
        "--method",
        "eap-ig-inputs",
        "--steps",
        "3",
    ];
    let out = ["--verify-top", "5", "--out", "t.parquet"];
    lab.ok(&[&edges[..], &flags, &out].concat());
    let table = lab.table("t.parquet");
    let pairs = 1 + table.rows.iter().map(|row| row.pair).max().unwrap();
    assert!(pairs > 1);
    // each pair's own is what it is alone, and the summary has their means
    let out = ["--out", "s.csv"];
    lab.ok(&[&edges[..], &flags, &out, &["--memory", "40M"]].concat());
    let again = lab.table("s.csv");
    assert_eq!(table.rows.len(), again.rows.len());
    for (a, b) in table.rows.iter().zip(&again.rows) {
        assert_eq!(
            a.metrics[0].to_bits(),
            b.metrics[0].to_bits(),
            "{:?}",
            a.name
        );
    }
    let summary = lab.read("s.summary.csv");
    let mut lines = summary.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    assert!(!header.contains(&"prob"));
    let first: Vec<&str> = lines.next().unwrap().split(',').collect();
    let number = |name: &str| first[column(name)].parse::<f64>().unwrap();
    let name = first[column("name")];
    let of = again.rows.iter();
    let of = of.filter(|row| {
        row.name.as_deref() == Some(name) && row.target_id == again.rows[0].target_id
    });
    let own: Vec<f64> = of.map(|row| row.metrics[0]).collect();
    assert!(number("score").is_finite() && number("score_se") >= 0.0);
    assert_eq!(number("score_n"), f64::from(pairs));
    assert!(!own.is_empty());
    assert!(!table.rows.is_empty());
}

/// What others count from the other prompt is not had by a sign.
#[test]
fn a_convention_needs_its_own_base() {
    let lab = lab_with(&["eap_ig.csv"]);
    let edges = ["attribute", "edges", "--receivers", "logits"];
    let data = ["--data", "eap_ig.csv", "--graph", "g.json"];
    let line = |convention, direction: &[&'static str]| -> Vec<&'static str> {
        [&edges[..], &data, &["--convention", convention], direction].concat()
    };
    for (convention, wrong, right, said) in [
        ("eap-ig", "denoise", "noise", "clean prompt as base"),
        (
            "transformer-lens",
            "noise",
            "denoise",
            "corrupted prompt as base",
        ),
    ] {
        let refused = line(convention, &["--direction", wrong]);
        lab.refused(&refused, &[convention, said, right]);
        assert!(!lab.path("g.json").exists());
        lab.ok(&line(convention, &["--direction", right]));
        std::fs::remove_file(lab.path("g.json")).unwrap();
    }
    // a data set is denoised unless it is said otherwise
    lab.refused(&line("eap-ig", &[]), &["--direction noise"]);
}

/// Sizes of scores beside them, their means over pairs, and the same numbers in arrays and pictures.
#[test]
fn scores_have_sizes_arrays_and_pictures() {
    let lab = lab_with(&["eap_ig.csv"]);
    let data = ["--data", "eap_ig.csv", "--metric", "logit_diff"];
    let edges = ["attribute", "edges", "--receivers", "logits", "--absolute"];
    let out = [
        "--out",
        "t.csv",
        "--graph",
        "g.json",
        "--arrays",
        "a.safetensors",
    ];
    lab.ok(&[&edges[..], &data, &out].concat());
    let table = lab.table("t.csv");
    assert_eq!(table.metrics, ["score", "absolute"]);
    assert!(
        table
            .rows
            .iter()
            .all(|r| r.metrics[1] == r.metrics[0].abs())
    );
    assert!(table.rows.iter().any(|r| r.metrics[0] < 0.0));
    let first = table.rows.iter().filter(|row| row.pair == 0);
    let largest = first.max_by(|a, b| a.metrics[1].total_cmp(&b.metrics[1]));
    let largest = largest.unwrap();
    let (name, at) = (largest.name.clone().unwrap(), largest.run as usize);
    let own = table.rows.iter().filter(|r| r.name.as_ref() == Some(&name));
    let own: Vec<&[f64]> = own.map(|row| &row.metrics[..]).collect();
    let mean = |i: usize| own.iter().map(|m| m[i]).sum::<f64>() / own.len() as f64;
    let json: serde_json::Value = serde_json::from_str(&lab.read("g.json")).unwrap();
    let graph = json["edges"][&*name]["score"].as_f64().unwrap();
    assert!(graph > 0.0 && (graph - mean(1)).abs() < 1e-12 * graph);
    let bytes = std::fs::read(lab.path("a.safetensors")).unwrap();
    let arrays = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let array = |name: &str| -> Vec<f64> {
        let data = arrays.tensor(name).unwrap().data();
        let each = data.chunks_exact(8);
        each.map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    for (name, i) in [("score", 0), ("absolute", 1)] {
        assert!((array(name)[at] - mean(i)).abs() < 1e-12, "{name}");
        let pairs = array(&format!("{name}_pairs"));
        assert_eq!(pairs.len(), array(name).len() * own.len());
        assert_eq!(pairs[at], largest.metrics[i], "{name}");
    }
    assert!(
        arrays.tensor("score_base").is_err(),
        "clean prompts have no score"
    );
    let summary = lab.read("t.summary.csv");
    assert!(summary.lines().next().unwrap().contains("absolute_se"));
    // nodes along the axes of a preset, and as a heat map
    let nodes = ["attribute", "nodes", "--preset", "attn_head_out_all_pos"];
    let out = [
        "--arrays", "n.npz", "--plot", "n.svg", "--out", "n.csv", "--method", "atp-star",
    ];
    let said = lab.ok(&[&nodes[..], &out].concat());
    assert!(
        said.out.contains("by atp-star") && said.out.contains("score"),
        "{said:?}"
    );
    assert!(lab.read("n.svg").contains("<svg") && lab.path("n.npz").exists());
    let of = lab
        .table("n.csv")
        .rows
        .into_iter()
        .map(|row| row.metrics[0]);
    assert!(of.clone().any(|x| x < 0.0) && of.clone().any(|x| x > 0.0));
}

/// Shares of what a receiver reads: of each receiver, whichever the metric, they add up to one.
#[test]
fn routes_are_shares_of_what_is_read() {
    let lab = Lab::new();
    let line = ["attribute", "edges", "--method", "ifr", "--verify-top", "3"];
    let said = lab.ok(&[&line[..], &["--out", "t.parquet"]].concat());
    assert!(said.out.contains("largest scores, by ifr\n"), "{said:?}");
    let mut sums: HashMap<String, f64> = HashMap::new();
    let table = lab.table("t.parquet");
    let first = table.rows[0].target_id;
    for row in table.rows.iter().filter(|row| row.target_id == first) {
        let name = row.name.as_deref().unwrap();
        *sums
            .entry(name.split("->").nth(1).unwrap().into())
            .or_default() += row.metrics[0];
        assert!(row.metrics[0] >= 0.0);
    }
    assert_eq!(sums.len(), 5 * (3 * 4 + 1) + 1);
    assert!(sums.values().all(|sum| (sum - 1.0).abs() < 1e-12));
}

#[test]
fn circuits_are_chosen_written_and_run() {
    let lab = Lab::new();
    let edges = [
        "attribute",
        "edges",
        "--method",
        "eap-ig-inputs",
        "--target",
        " Madrid",
    ];
    let wrong = ["--wrong-target", " Rome"];
    lab.ok(&[
        &edges[..],
        &wrong,
        &["--out", "scores.csv", "--graph", "all.json"],
    ]
    .concat());
    let said = lab.ok(&["circuit", "scores.csv", "--greedy", "60", "--out", "c.json"]);
    assert!(said.out.contains(" of 761 edges, "), "{said:?}");
    let answers = ["--target", " Madrid", "--wrong-target", " Rome"];
    let evaluate = [
        "circuit", "evaluate", "c.json", "all.json", "--out", "e.csv",
    ];
    let said = lab.ok(&[&evaluate[..], &answers].concat());
    assert!(said.out.contains("mean logit_diff over 1 row"), "{said:?}");
    assert!(
        said.out.contains("  all.json: 761 of 761 edges: ")
            && said.out.contains("faithfulness 1.0000"),
        "{said:?}"
    );
    let table = lab.table("e.csv");
    assert_eq!(table.metrics, ["circuit", "whole", "nothing"]);
    assert_eq!(table.rows.len(), 2);
    let [some, all] = &table.rows[..] else {
        panic!("two rows")
    };
    assert_eq!(all.metrics[0], all.metrics[1]);
    assert_eq!(all.prob, all.base_prob);
    assert_ne!(some.metrics[0], some.metrics[1]);
    // the chosen one of the scores in the file, by whichever of its columns
    let json: serde_json::Value = serde_json::from_str(&lab.read("c.json")).unwrap();
    let of = |name: &str| json["edges"][name]["score"].as_f64().unwrap();
    for row in lab.table("scores.csv").rows {
        assert_eq!(of(row.name.as_deref().unwrap()), row.metrics[0]);
    }
    let signed = [
        "circuit",
        "scores.csv",
        "--top-n",
        "50",
        "--convention",
        "eap-ig",
        "--out",
        "s.json",
    ];
    lab.ok(&signed);
    let other: serde_json::Value = serde_json::from_str(&lab.read("s.json")).unwrap();
    let name = "input->a0.h0<v>";
    assert_eq!(other["edges"][name]["score"].as_f64().unwrap(), -of(name));
    for ablation in ["zero", "mean", "mean-by-position"] {
        let line = ["circuit", "evaluate", "c.json", "--ablation", ablation];
        let said = lab.ok(&[&line[..], &answers].concat());
        assert!(said.out.contains("faithfulness "), "{said:?}");
    }
}

/// A circuit found by exact runs, how faithful circuits of many sizes are, and one as text, picture and matrices.
#[test]
fn circuits_are_found_summed_up_and_shown() {
    let lab = Lab::new();
    let acdc = ["circuit", "acdc", "--threshold", "0.05", "--out", "c.json"];
    let said = lab.ok(&acdc);
    assert!(
        said.out.contains("of 761 edges") && said.out.contains("edges tried by "),
        "{said:?}"
    );
    let threshold = ["circuit", "acdc", "--threshold", "0", "--out", "d.json"];
    lab.refused(&threshold, &["--threshold 0: give a number above 0"]);
    // without any of its edges it would be further away than that, and so it is with none
    let said = lab.ok(&["circuit", "evaluate", "c.json", "--metric", "kl"]);
    assert!(said.out.contains("faithfulness 0.9"), "{said:?}");
    let answers = ["--target", " Madrid", "--wrong-target", " Rome"];
    let method = ["--method", "eap-ig-inputs", "--out", "s.csv"];
    lab.ok(&[&["attribute", "edges"], &answers[..], &method].concat());
    let curve = ["circuit", "curve", "s.csv", "--out", "curve.csv"];
    let said = lab.ok(&[&curve[..], &answers].concat());
    assert!(said.out.contains("mean logit_diff over 1 row"), "{said:?}");
    let table = lab.table("curve.csv");
    assert_eq!(table.rows.len(), 20);
    let of = |row: &Row| (row.metrics[0] - row.metrics[2]) / (row.metrics[1] - row.metrics[2]);
    let faithful: Vec<f64> = table.rows.iter().map(of).collect();
    assert_eq!((faithful[9], faithful[19]), (1.0, 1.0));
    // CMD of those by size and CPR of those by sign, from the rows by themselves
    let sizes = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
    let area = |f: &dyn Fn(usize) -> f64| -> f64 {
        let each = (0..9).map(|i| (sizes[i + 1] - sizes[i]) * (f(i) + f(i + 1)) / 2.0);
        each.sum()
    };
    let cmd = area(&|i| (1.0 - faithful[i]).abs());
    let cpr = area(&|i| faithful[10 + i]);
    let line = format!("CMD {cmd:.4} (by size; 0 is best), CPR {cpr:.4} (by sign)");
    assert!(said.out.contains(&line), "{line}: {said:?}");
    let first = table.rows[0].name.clone().unwrap();
    assert_eq!(&*first, "0.001 by size");
    let files = ["--plot", "c.svg", "--arrays", "c.safetensors"];
    let said = lab.ok(&[&["circuit", "show", "c.json"], &files[..]].concat());
    assert!(
        said.out.contains("\nlogits    ←  ") && said.out.contains("v ←"),
        "{said:?}"
    );
    let svg = lab.read("c.svg");
    assert!(
        svg.contains(">logits</text>") && svg.contains("<line "),
        "{svg}"
    );
    let bytes = std::fs::read(lab.path("c.safetensors")).unwrap();
    let arrays = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept = arrays.tensor("in_graph").unwrap();
    // 26 senders, 66 receivers
    assert_eq!(kept.shape(), [26, 66]);
    let numbers = kept.data().chunks_exact(8);
    let numbers = numbers.map(|b| f64::from_le_bytes(b.try_into().unwrap()));
    let numbers: Vec<f64> = numbers.collect();
    assert_eq!(numbers.iter().filter(|x| !x.is_nan()).count(), ALL);
    let json: serde_json::Value = serde_json::from_str(&lab.read("c.json")).unwrap();
    let edges = json["edges"].as_object().unwrap().values();
    let in_graph = edges.filter(|edge| edge["in_graph"] == true).count();
    let known = numbers.iter().filter(|x| !x.is_nan());
    assert_eq!(known.sum::<f64>(), in_graph as f64);
    lab.refused(&["circuit", "show", "s.csv"], &["is not a circuit"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = Lab::new();
    let edges = |args: &[&str], needles: &[&str]| {
        lab.refused(
            &[&["attribute", "edges", "--out", "t.csv"], args].concat(),
            needles,
        );
    };
    edges(
        &["--method", "atp"],
        &["`atp` is no method", "eap-ig-inputs"],
    );
    edges(
        &["--method", "atp-star"],
        &["atp-star is of nodes: use attribute nodes"],
    );
    edges(
        &["--method", "ifr", "--metric", "recovery_prob"],
        &["recovery_prob", "leave recovery_ out"],
    );
    edges(
        &["--method", "ifr", "--gradient-at", "both"],
        &["ifr takes no gradient"],
    );
    edges(&["--method", "ifr", "--steps", "3"], &["--steps is for"]);
    let nodes = |args: &[&str], needles: &[&str]| {
        lab.refused(
            &[&["attribute", "nodes", "--out", "t.csv"], args].concat(),
            needles,
        );
    };
    nodes(
        &["--method", "ifr"],
        &["ifr is of edges: use attribute edges"],
    );
    nodes(
        &["--method", "atp-star", "--gradient-at", "source"],
        &["atp-star says itself"],
    );
    nodes(
        &["--component", "hook_z", "--arrays", "a.npz"],
        &["--arrays holds what a --preset runs"],
    );
    nodes(&["--plot", "a.jpg"], &[".svg, .png, .pdf or .html"]);
    edges(&["--arrays", "a.csv"], &[".npz or .safetensors"]);
    edges(&["--arrays", "t.csv"], &["t.csv"]);
    edges(
        &["--steps", "3"],
        &["--steps is for eap-ig-inputs and eap-ig-activations"],
    );
    edges(&["--rule", "left"], &["--rule is for eap-ig-inputs"]);
    edges(
        &["--method", "eap-ig-inputs", "--rule", "right"],
        &["`right` is no rule: write left, midpoint, trapezoid"],
    );
    edges(
        &["--method", "eap-ig-inputs", "--steps", "0"],
        &["--steps 0: a path has one step or more"],
    );
    edges(
        &["--method", "clean-corrupted", "--gradient-at", "base"],
        &["clean-corrupted says itself"],
    );
    edges(
        &["--metric", "rank"],
        &["rank has no gradient: use logit, logprob"],
    );
    edges(&["--metric", "top1"], &["top1 has no gradient"]);
    edges(
        &["--metric", "logit_diff", "--target", " Rome"],
        &["needs wrong answers"],
    );
    edges(&["--base", "The capital of Spain is"], &["give one"]);
    edges(
        &[
            "--base",
            "The capital of Spain is",
            "--source",
            "The capital of Italy",
        ],
        &["5 tokens", "equal length"],
    );
    edges(&["--seed", "1"], &["--verify-top"]);
    edges(
        &["--convention", "eap-ig"],
        &["--convention is for the JSON of --graph"],
    );
    lab.refused(
        &[
            "attribute",
            "nodes",
            "--method",
            "eap-ig-inputs",
            "--base",
            "The capital of Spain is",
            "--source",
            "The capital of Italy",
        ],
        &["equal length"],
    );
    lab.refused(
        &["circuit", "nothing.csv", "--top-n", "1", "--out", "c.json"],
        &["nothing.csv"],
    );
    lab.ok(&["edges", "--senders", "m0", "--out", "exact.csv"]);
    lab.refused(
        &["circuit", "exact.csv", "--top-n", "1", "--out", "c.json"],
        &["has no column score"],
    );
    lab.refused(
        &["circuit", "exact.csv", "--out", "c.json"],
        &["give --top-n, --threshold or --greedy"],
    );
    lab.write(
        "c.json",
        r#"{"cfg":{"n_layers":12,"n_heads":12},"edges":{}}"#,
    );
    lab.refused(
        &["circuit", "evaluate", "c.json"],
        &["12 layers of 12 heads", "5 layers of 4 heads"],
    );
    lab.write("c.json", "{");
    lab.refused(
        &["circuit", "evaluate", "c.json"],
        &["is not a circuit as EAP-IG writes it"],
    );
    assert!(!lab.path("t.csv").exists());
    for command in [
        &["attribute", "edges", "--help"][..],
        &["attribute", "nodes", "--help"],
    ] {
        let said = lab.ok(command);
        for known in ["atp-star", "ifr", "--absolute", "--arrays"] {
            assert!(said.out.contains(known), "{known}");
        }
    }
}

/// Where there is a GPU, scores are computed there, unless another device is asked for; they are the CPU's within
/// what single precision loses.
#[test]
fn a_gpu_computes_scores() {
    let (library, lab, model) = (emulator::library(), Lab::new(), lab::fixture("tied"));
    let on = |what: &[&str], device: &[&str], table: &str| {
        let prompts = [
            "--base-ids",
            "1,2",
            "--source-ids",
            "1,3",
            "--target-ids",
            "5",
            "--out",
            table,
        ];
        let all = [
            &["--model", &model, "attribute"],
            what,
            &prompts[..],
            device,
        ]
        .concat();
        let mut command = lab.command(&all);
        command.env("LD_LIBRARY_PATH", library.parent().unwrap());
        command.env("HEADLIGHT_EMULATOR_DRIVER", "99000");
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{err}");
        let scores = lab.table(table).rows.into_iter();
        (err, scores.map(|row| row.metrics[0]).collect::<Vec<f64>>())
    };
    for what in [
        &["edges"][..],
        &["nodes", "--component", "attention_weight,mlp_output"],
        &[
            "nodes",
            "--component",
            "hook_q,hook_z",
            "--method",
            "atp-star",
        ],
    ] {
        let (err, wanted) = on(what, &["--device", "cpu"], "cpu.csv");
        assert!(err.contains("device: cpu"), "{err}");
        let most = wanted.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(most > 0.0);
        for device in [&[][..], &["--device", "cuda"]] {
            let (err, scores) = on(what, device, "gpu.csv");
            assert!(err.contains("emulated device"), "{err}");
            assert_eq!(scores.len(), wanted.len());
            for (got, want) in scores.iter().zip(&wanted) {
                assert!(
                    (got - want).abs() <= 3e-5 * most,
                    "{what:?}: {got}, not {want}"
                );
            }
        }
    }
}
