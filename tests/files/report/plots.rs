//! Heat maps as files, and what a heat map makes of a table.

use std::fs;
use std::path::Path;

use headlight::report;
use headlight::report::colour::ColourMap;
use headlight::report::{DrawnValue, FigureStyle, HeatMap, ReportError, ValueRange};
use headlight::results::table::Table;

use super::tables::{
    ALL_HEADS, FIVE_TARGETS, LONG_TOKENS, OV, REFERENCE, SIXTY_FOUR, Sweep, V, XL, toy,
};

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

fn three_components() -> Table {
    Sweep {
        components: &["mlp_output", V, OV],
        ..REFERENCE
    }
    .table()
}

/// Draws every shape in all formats. `HEADLIGHT_PLOTS=DIR cargo test` keeps them to be looked at.
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
        ("three-components", three_components(), "prob"),
        ("sixty-four", SIXTY_FOUR.table(), "prob"),
    ];
    for (name, table, value) in shapes {
        let map = HeatMap::new(&table, &DrawnValue::of(value)).unwrap();
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
        let pdf = folder.join(format!("{name}.pdf"));
        report::plot(&map, &pdf).unwrap();
        let pdf = fs::read(pdf).unwrap();
        assert!(
            pdf.starts_with(b"%PDF") && pdf.trim_ascii_end().ends_with(b"%%EOF"),
            "{name}"
        );
    }
}

/// A plot of a file is the plot of the table that was written to it.
#[test]
fn files_plot_like_their_tables() {
    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("HEADLIGHT_PLOTS");
    let folder = kept.as_deref().map_or(scratch.path(), Path::new);
    let table = ALL_HEADS.table();
    let map = HeatMap::new(&table, &DrawnValue::of("prob")).unwrap();
    for ending in ["csv", "jsonl", "parquet"] {
        let path = folder.join(format!("all-heads.{ending}"));
        report::write(&table, &path).unwrap();
        let back = report::read(&path).unwrap();
        assert_eq!(HeatMap::new(&back, &DrawnValue::of("prob")).unwrap(), map);
    }
}

#[test]
fn the_reference_job_is_one_facet_a_target() {
    let map = HeatMap::new(&REFERENCE.table(), &DrawnValue::of("prob")).unwrap();
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
    let map = HeatMap::new(&ALL_HEADS.table(), &DrawnValue::of("prob")).unwrap();
    assert_eq!(map.facets.len(), 4);
    assert_eq!(map.per_row, 2);
    let facet = &map.facets[0];
    // in the order in which they were asked for
    assert_eq!(facet.title, "_Madrid · ov (head_attention_value_output)");
    assert_eq!(
        (facet.rows.len(), facet.groups.len(), facet.width()),
        (12, 5, 60)
    );
    assert_eq!(facet.groups[1].columns[11], "11");
}

#[test]
fn cells_that_were_not_run_are_missing() {
    let map = HeatMap::new(&toy(), &DrawnValue::of("prob")).unwrap();
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
    let map = HeatMap::new(&table, &DrawnValue::of("prob")).unwrap();
    assert!(
        map.notes.iter().any(|note| note.contains("mean")),
        "{:?}",
        map.notes
    );
    let of_pair = |pair| {
        let mut table = table.clone();
        table.rows.retain(|row| row.pair == pair);
        HeatMap::new(&table, &DrawnValue::of("prob"))
            .unwrap()
            .facets[0]
            .cell(23, 4)
            .unwrap()
    };
    let mean = (of_pair(0) + of_pair(1)) / 2.0;
    assert!((map.facets[0].cell(23, 4).unwrap() - mean).abs() < 1e-12);
}

#[test]
fn a_metric_of_the_run_is_drawn_once() {
    let map = HeatMap::new(&REFERENCE.table(), &DrawnValue::of("logit_diff")).unwrap();
    assert_eq!(map.facets.len(), 1);
    assert_eq!(map.scale.map, ColourMap::RedBlue);
    let said = HeatMap::new(&REFERENCE.table(), &DrawnValue::of("recovery"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        said,
        "there is no column recovery to plot; the table has prob, logprob, logit, kl, logit_diff"
    );
}

/// 36 rows of three components in turn are nothing to read: each has a grid of its own, in the order in which
/// they were asked for.
#[test]
fn components_of_many_layers_have_facets_of_their_own() {
    let map = HeatMap::new(&three_components(), &DrawnValue::of("logit_diff")).unwrap();
    let titles = map.facets.iter().map(|facet| facet.title.as_str());
    assert_eq!(
        titles.collect::<Vec<_>>(),
        [
            "logit_diff · mlp (mlp_output)",
            "logit_diff · v (head_value_output)",
            "logit_diff · ov (head_attention_value_output)"
        ]
    );
    assert!(map.facets.iter().all(|facet| facet.rows.len() == 12));
    // and stand side by side as long as the page is wide enough for them
    let width = |style: FigureStyle| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        report::plot(&map.clone().styled(&style), &path).unwrap();
        let svg = fs::read_to_string(path).unwrap();
        let number = |name: &str| -> f64 {
            let (_, rest) = svg.split_once(&format!("{name}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        (number("width"), number("height"))
    };
    let (wide, low) = width(FigureStyle::default());
    assert!(wide > low, "{wide} × {low}");
    let narrow = FigureStyle {
        width: Some(500.0),
        ..FigureStyle::default()
    };
    let (thin, high) = width(narrow);
    assert_eq!(thin, 500.0);
    assert!(high > 2.0 * thin, "{thin} × {high}");
}

#[test]
fn a_change_is_what_a_cell_is_less_the_base() {
    let table = REFERENCE.table();
    let plain = HeatMap::new(&table, &DrawnValue::of("prob")).unwrap();
    let change = HeatMap::new(&table, &"change:prob".parse().unwrap()).unwrap();
    assert_eq!(change.value, "change of probability from the base");
    assert_eq!(change.scale.map, ColourMap::RedBlue);
    assert_eq!(change.scale.low, -change.scale.high);
    for (plain, change) in plain.facets.iter().zip(&change.facets) {
        let base = plain.base.unwrap();
        assert_eq!(change.base, Some(0.0));
        assert!((change.source.unwrap() - (plain.source.unwrap() - base)).abs() < 1e-12);
        for (plain, change) in plain.cells.iter().zip(&change.cells) {
            assert!((change.unwrap() - (plain.unwrap() - base)).abs() < 1e-12);
        }
    }
    // of a metric whose base is not in the table nothing is a change
    let said = HeatMap::new(&table, &"change:kl".parse().unwrap()).unwrap_err();
    assert!(
        said.to_string()
            .contains("does not say what kl was in the base"),
        "{said}"
    );
}

#[test]
fn figures_are_drawn_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.svg");
    let mut table = REFERENCE.table();
    table.provenance.model = "/home/somebody/secret place/gpt2".into();
    let map = HeatMap::new(&table, &DrawnValue::of("prob")).unwrap();
    let svg = |map: &HeatMap| {
        report::plot(map, &path).unwrap();
        fs::read_to_string(&path).unwrap()
    };
    let plain = svg(&map);
    assert!(plain.contains("gpt2") && !plain.contains("somebody"));
    table.provenance.model = "openai-community/gpt2".into();
    let hub = HeatMap::new(&table, &DrawnValue::of("prob")).unwrap();
    assert!(svg(&hub).contains("openai-community/gpt2"));
    let style = FigureStyle {
        title: Some("Where Spain is".into()),
        range: Some(ValueRange {
            low: -1.0,
            high: 3.0,
        }),
        map: Some(ColourMap::Greys),
        width: Some(640.0),
    };
    let styled = map.styled(&style);
    assert_eq!((styled.scale.low, styled.scale.high), (-1.0, 3.0));
    let text = svg(&styled);
    assert!(text.contains("Where Spain is") && !text.contains("capital of Spain is"));
    assert!(text.contains("width=\"640\""));
}

#[test]
fn ranks_are_whole_numbers() {
    let mut table = REFERENCE.table();
    table.metrics = vec!["rank".into()];
    for (i, row) in table.rows.iter_mut().enumerate() {
        row.metrics = vec![(i % 900) as f64];
    }
    let map = HeatMap::new(&table, &DrawnValue::of("rank")).unwrap();
    assert!(map.whole);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.svg");
    report::plot(&map, &path).unwrap();
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.contains(">17<") && !svg.contains(">17.0<"));
    // a mean of ranks is none
    table.rows[3].metrics = vec![1.5];
    assert!(!HeatMap::new(&table, &DrawnValue::of("rank")).unwrap().whole);
}

#[test]
fn what_cannot_be_plotted_is_an_error() {
    assert!(matches!(
        HeatMap::new(&Table::default(), &DrawnValue::of("prob")),
        Err(ReportError::NothingToPlot(_))
    ));
    let mut table = REFERENCE.table();
    for row in &mut table.rows {
        row.component = None;
    }
    assert!(matches!(
        HeatMap::new(&table, &DrawnValue::of("prob")),
        Err(ReportError::NothingToPlot(_))
    ));
    let map = HeatMap::new(&REFERENCE.table(), &DrawnValue::of("prob")).unwrap();
    let said = report::plot(&map, Path::new("a.jpg"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        said,
        "a.jpg: plots are told apart by the file name, which must end in .svg, .png, .pdf or .html"
    );
}

#[test]
fn markup_in_tokens_stays_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.svg");
    let map = HeatMap::new(&LONG_TOKENS.table(), &DrawnValue::of("prob")).unwrap();
    report::plot(&map, &path).unwrap();
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.contains("&lt;&amp;&gt;"));
    assert!(!svg.contains("<&>"));
}
