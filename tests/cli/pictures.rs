//! Pictures as asked: what is drawn, how, and what is refused.

use crate::lab::{BASE, Lab, SOURCE};

/// A picture beside a sweep and one of the sweep's file are the same.
#[test]
fn a_file_is_drawn_as_its_sweep_was() {
    let lab = Lab::new();
    let sweep = ["sweep", "--heads", "0", "--metric", "logit_diff,rank"];
    let answers = ["--target", " Madrid", "--wrong-target", " Rome"];
    for (at, value) in [
        "metric",
        "change",
        "prob",
        "change:prob",
        "rank",
        "change:logprob",
    ]
    .iter()
    .enumerate()
    {
        let (plot, again) = (format!("{at}.svg"), format!("{at}.again.svg"));
        let look = ["--value", value, "--title", "Spain", "--width", "700"];
        let out = ["--out", "t.parquet", "--plot", &plot];
        lab.ok(&[&sweep[..], &answers, &look, &out].concat());
        lab.ok(&[&["plot", "t.parquet", "--out", &again][..], &look].concat());
        let svg = lab.read(&plot);
        assert_eq!(svg, lab.read(&again), "{value}");
        assert!(svg.contains("width=\"700\""), "{value}");
        assert_eq!(
            svg.contains("from the base"),
            value.starts_with("change"),
            "{value}"
        );
    }
}

#[test]
fn the_terminal_shows_changes_too() {
    let lab = Lab::new();
    let said = lab.ok(&["sweep", "--heads", "0", "--value", "change"]);
    assert!(
        said.out.contains("change of probability from the base"),
        "{said:?}"
    );
}

#[test]
fn looks_that_make_no_sense_are_refused() {
    let lab = Lab::new();
    lab.ok(&["sweep", "--heads", "0", "--out", "t.csv"]);
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused(
            &[&["plot", "t.csv", "--out", "a.svg"], args].concat(),
            needles,
        );
        lab.refused(&[&["sweep", "--plot", "a.svg"], args].concat(), needles);
    };
    refused(&["--range", "1"], &["`1` is no range", "-1,1"]);
    refused(&["--range", "2,-2"], &["`2,-2` is no range"]);
    refused(&["--range", "0,nan"], &["is no range"]);
    refused(
        &["--cmap", "jet"],
        &["`jet` is no colour map", "viridis, rdbu"],
    );
    refused(&["--width", "1"], &["--width", "100"]);
    refused(&["--value", "change:"], &["which column?"]);
    refused(&["--value", "mean:prob"], &["change:COLUMN"]);
    refused(&["--value", "logit_dif"], &["logit_dif"]);
    lab.refused(
        &["plot", "t.csv", "--out", "a.gif"],
        &["a.gif", ".svg, .png, .pdf or .html"],
    );
}

/// Every edge has a cell, which holds what it does to the metric; there is none where no edge goes.
#[test]
fn edges_are_drawn_as_a_matrix() {
    let lab = Lab::new();
    let edges = [
        "edges", "--base", BASE, "--source", SOURCE, "--target", " Madrid",
    ];
    lab.ok(&[&edges[..], &["--out", "e.csv", "--plot", "e.svg"]].concat());
    let svg = lab.read("e.svg");
    let rows = lab.table("e.csv").rows;
    let tips: Vec<&str> = svg
        .split("<title>")
        .skip(1)
        .map(|rest| rest.split("</title>").next().unwrap())
        .collect();
    assert_eq!(tips.len(), rows.len());
    assert!(svg.contains("change of probability from the base"));
    let mut seen = 0;
    for row in &rows {
        let (sender, receiver) = row.name.as_deref().unwrap().split_once("->").unwrap();
        let place = match receiver {
            "logits" => format!("{sender} logits: "),
            mlp if mlp.starts_with('m') => format!("{sender} head m L{}: ", &mlp[1..]),
            head => {
                let (layer, rest) = head[1..].split_once(".h").unwrap();
                let (head, part) = rest.split_once('<').unwrap();
                format!("{sender} head {}{head} L{layer}: ", &part[..1])
            }
        };
        let own: Vec<&&str> = tips.iter().filter(|tip| tip.starts_with(&place)).collect();
        assert_eq!(own.len(), 1, "{place}");
        let drawn: f64 = own[0][place.len()..].replace('−', "-").parse().unwrap();
        let change = row.prob - row.base_prob;
        assert!(
            (drawn - change).abs() <= 5e-4 * change.abs().max(1.0),
            "{place}{drawn}, not {change}"
        );
        seen += usize::from(change.abs() > 0.1);
    }
    assert!(seen > 3);
    // of a file it is the same, and a metric as it stands is another
    lab.ok(&["plot", "e.csv", "--out", "f.svg"]);
    assert_eq!(lab.read("f.svg"), svg);
    lab.ok(&[
        "plot", "e.csv", "--out", "g.svg", "--value", "metric", "--title", "edges",
    ]);
    assert!(!lab.read("g.svg").contains("from the base"));
    // estimates are effects as they are
    lab.ok(&[
        "attribute",
        "edges",
        "--base",
        BASE,
        "--source",
        SOURCE,
        "--target",
        " Madrid",
        "--out",
        "a.csv",
    ]);
    lab.ok(&["plot", "a.csv", "--out", "a.svg"]);
    assert!(lab.read("a.svg").contains(">score<"));
    lab.refused(
        &[&edges[..], &["--per-position", "--plot", "p.svg"]].concat(),
        &["--plot", "positions", ".html"],
    );
    lab.refused(
        &[&edges[..], &["--plot", "p.html", "--title", "x"]].concat(),
        &["--title", "page"],
    );
}

/// What stands at no site is said to, and by name.
#[test]
fn parts_without_a_site_are_named() {
    let lab = Lab::new();
    let said = lab.ok(&[
        "lens", BASE, "--by", "head", "--target", " Madrid", "--plot", "l.svg",
    ]);
    let svg = lab.read("l.svg");
    assert!(
        svg.contains("stand at no site: ") && svg.contains("b_O.0 to ln_f.bias"),
        "{svg}"
    );
    assert!(!svg.contains("several sites") && !said.out.contains("several sites"));
    let one = [
        "lens",
        BASE,
        "--by",
        "component",
        "--target",
        " Madrid",
        "--plot",
        "m.svg",
    ];
    lab.ok(&one);
    assert!(lab.read("m.svg").contains("stands at no site: ln_f.bias"));
}
