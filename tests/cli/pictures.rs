//! Pictures as asked: what is drawn, how, and what is refused.

use crate::lab::Lab;

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
