//! Heat maps as files, and what a heat map makes of a table.

use std::fs;
use std::path::Path;

use headlight::report;
use headlight::report::{HeatMap, ReportError};
use headlight::results::table::Table;

use super::tables::{ALL_HEADS, FIVE_TARGETS, LONG_TOKENS, OV, REFERENCE, Sweep, V, XL, toy};

fn together() -> Table {
    Sweep {
        heads: 0..12,
        together: true,
        ..REFERENCE
    }
    .table()
}

fn many_components() -> Table {
    Sweep {
        components: &["query_output", V, OV, "attention_output", "mlp_output"],
        ..REFERENCE
    }
    .table()
}

/// Draws every shape in both formats. `HEADLIGHT_PLOTS=DIR cargo test` keeps them to be looked at.
#[test]
fn every_shape_is_drawn() {
    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("HEADLIGHT_PLOTS");
    let folder = kept.as_deref().map_or(scratch.path(), Path::new);
    let shapes = [
        ("reference", REFERENCE.table(), "prob"),
        ("all-heads", ALL_HEADS.table(), "prob"),
        ("toy", toy(), "prob"),
        ("xl", XL.table(), "prob"),
        ("long-tokens", LONG_TOKENS.table(), "prob"),
        ("five-targets", FIVE_TARGETS.table(), "prob"),
        ("together", together(), "prob"),
        ("many-components", many_components(), "prob"),
        ("logit-difference", REFERENCE.table(), "logit_diff"),
        ("log-probability", REFERENCE.table(), "logprob"),
    ];
    for (name, table, value) in shapes {
        let map = HeatMap::new(&table, value).unwrap();
        let svg = folder.join(format!("{name}.svg"));
        let png = folder.join(format!("{name}.png"));
        report::plot(&map, &svg).unwrap();
        report::plot(&map, &png).unwrap();
        let svg = fs::read_to_string(svg).unwrap();
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
            "{name}"
        );
        assert!(!svg.contains("NaN"), "{name}");
        assert!(fs::read(png).unwrap().starts_with(b"\x89PNG"), "{name}");
    }
}

/// A plot of a file is the plot of the table that was written to it.
#[test]
fn files_plot_like_their_tables() {
    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("HEADLIGHT_PLOTS");
    let folder = kept.as_deref().map_or(scratch.path(), Path::new);
    let table = ALL_HEADS.table();
    let map = HeatMap::new(&table, "prob").unwrap();
    for ending in ["csv", "jsonl", "parquet"] {
        let path = folder.join(format!("all-heads.{ending}"));
        report::write(&table, &path).unwrap();
        let back = report::read(&path).unwrap();
        assert_eq!(HeatMap::new(&back, "prob").unwrap(), map);
    }
}

#[test]
fn the_reference_job_is_one_facet_a_target() {
    let map = HeatMap::new(&REFERENCE.table(), "prob").unwrap();
    let titles = map.facets.iter().map(|facet| facet.title.as_str());
    assert_eq!(titles.collect::<Vec<_>>(), ["_Madrid", "_Rome"]);
    let facet = &map.facets[0];
    assert_eq!(facet.rows[..4], ["v0", "ov0", "v1", "ov1"]);
    assert_eq!(facet.rows.len(), 24);
    let labels = facet.groups.iter().map(|group| group.label.as_str());
    assert_eq!(
        labels.collect::<Vec<_>>(),
        ["The", "_capital", "_of", "_Spain", "_is"]
    );
    assert_eq!((facet.base, facet.source), (Some(0.105), Some(0.012)));
    assert!(facet.cells.iter().all(Option::is_some));
}

#[test]
fn many_heads_stand_side_by_side_in_each_position() {
    let map = HeatMap::new(&ALL_HEADS.table(), "prob").unwrap();
    assert_eq!(map.facets.len(), 4);
    assert_eq!(map.per_row, 2);
    let facet = &map.facets[0];
    assert_eq!(facet.title, "_Madrid · v (head_value_output)");
    assert_eq!(
        (facet.rows.len(), facet.groups.len(), facet.width()),
        (12, 5, 60)
    );
    assert_eq!(facet.groups[1].columns[11], "11");
}

#[test]
fn cells_that_were_not_run_are_missing() {
    let map = HeatMap::new(&toy(), "prob").unwrap();
    let missing = map.facets.iter().flat_map(|facet| &facet.cells);
    assert_eq!(missing.filter(|cell| cell.is_none()).count(), 2 * 23);
}

#[test]
fn pairs_are_averaged_and_the_picture_says_so() {
    let table = Sweep {
        pairs: 2,
        ..REFERENCE
    }
    .table();
    let map = HeatMap::new(&table, "prob").unwrap();
    assert!(
        map.notes.iter().any(|note| note.contains("mean")),
        "{:?}",
        map.notes
    );
    let of_pair = |pair| {
        let mut table = table.clone();
        table.rows.retain(|row| row.pair == pair);
        HeatMap::new(&table, "prob").unwrap().facets[0]
            .cell(23, 4)
            .unwrap()
    };
    let mean = (of_pair(0) + of_pair(1)) / 2.0;
    assert!((map.facets[0].cell(23, 4).unwrap() - mean).abs() < 1e-12);
}

#[test]
fn a_metric_of_the_run_is_drawn_once() {
    let map = HeatMap::new(&REFERENCE.table(), "logit_diff").unwrap();
    assert_eq!(map.facets.len(), 1);
    assert!(map.scale.diverging);
    let said = HeatMap::new(&REFERENCE.table(), "recovery")
        .unwrap_err()
        .to_string();
    assert_eq!(
        said,
        "there is no column recovery to plot; the table has prob, logprob, logit, kl, logit_diff"
    );
}

#[test]
fn what_cannot_be_plotted_is_an_error() {
    assert!(matches!(
        HeatMap::new(&Table::default(), "prob"),
        Err(ReportError::NothingToPlot(_))
    ));
    let mut table = REFERENCE.table();
    for row in &mut table.rows {
        row.component = None;
    }
    assert!(matches!(
        HeatMap::new(&table, "prob"),
        Err(ReportError::NothingToPlot(_))
    ));
    let map = HeatMap::new(&REFERENCE.table(), "prob").unwrap();
    let said = report::plot(&map, Path::new("a.jpg"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        said,
        "a.jpg: plots are told apart by the file name, which must end in .svg, .png or .html"
    );
}

#[test]
fn markup_in_tokens_stays_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.svg");
    let map = HeatMap::new(&LONG_TOKENS.table(), "prob").unwrap();
    report::plot(&map, &path).unwrap();
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.contains("&lt;&amp;&gt;"));
    assert!(!svg.contains("<&>"));
}
