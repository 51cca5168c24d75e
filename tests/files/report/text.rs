//! The text forms, as people see them.

use headlight::report;
use headlight::report::{ColourDepth, DrawnValue, HeatMap, TopkFormat};
use headlight::results::candidate::Candidate;
use headlight::results::recovery::Levels;
use headlight::results::strongest::{Strong, Strongest};
use headlight::results::table::Table;

use super::tables::{ALL_HEADS, FIVE_TARGETS, LONG_TOKENS, REFERENCE, Sweep, XL, toy};

fn text(table: &Table, columns: usize, depth: ColourDepth) -> String {
    let map = HeatMap::new(table, &DrawnValue::of("prob")).unwrap();
    drawn(&map, columns, depth)
}

fn drawn(map: &HeatMap, columns: usize, depth: ColourDepth) -> String {
    let mut out = Vec::new();
    report::render(map, columns, depth, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const DEPTHS: [ColourDepth; 4] = [
    ColourDepth::None,
    ColourDepth::Sixteen,
    ColourDepth::Indexed,
    ColourDepth::Full,
];

#[test]
fn reference_job() {
    insta::assert_snapshot!(
        "reference_80",
        text(&REFERENCE.table(), 80, ColourDepth::None)
    );
    insta::assert_snapshot!(
        "reference_60",
        text(&REFERENCE.table(), 60, ColourDepth::None)
    );
}

#[test]
fn all_heads() {
    insta::assert_snapshot!(
        "all_heads_80",
        text(&ALL_HEADS.table(), 80, ColourDepth::None)
    );
    insta::assert_snapshot!(
        "all_heads_60",
        text(&ALL_HEADS.table(), 60, ColourDepth::None)
    );
}

#[test]
fn toy_with_missing_cells() {
    insta::assert_snapshot!("toy_80", text(&toy(), 80, ColourDepth::None));
}

#[test]
fn heads_over_positions_patched_together() {
    let table = Sweep {
        heads: 0..12,
        together: true,
        ..REFERENCE
    }
    .table();
    insta::assert_snapshot!("together_120", text(&table, 120, ColourDepth::None));
}

#[test]
fn long_tokens() {
    insta::assert_snapshot!(
        "long_tokens_60",
        text(&LONG_TOKENS.table(), 60, ColourDepth::None)
    );
}

fn of_every_shape() -> [Table; 6] {
    [
        REFERENCE.table(),
        ALL_HEADS.table(),
        FIVE_TARGETS.table(),
        LONG_TOKENS.table(),
        toy(),
        Sweep { layers: 6, ..XL }.table(),
    ]
}

/// Nothing is wider than was asked for, in any shape, with and without colour.
#[test]
fn lines_fit() {
    for table in of_every_shape() {
        for columns in [60, 80, 120, 200] {
            for depth in DEPTHS {
                for line in text(&table, columns, depth).lines() {
                    let mut seen = 0;
                    let mut escape = false;
                    for c in line.chars() {
                        match c {
                            '\x1b' => escape = true,
                            'm' if escape => escape = false,
                            _ if !escape => seen += 1,
                            _ => {}
                        }
                    }
                    assert!(seen <= columns, "{seen} > {columns}: {line:?}");
                    assert!(depth > ColourDepth::None || !line.contains('\x1b'));
                    assert!(depth == ColourDepth::Full || !line.contains(";48;2;"));
                    assert!(depth == ColourDepth::Indexed || !line.contains(";48;5;"));
                }
            }
        }
    }
}

/// `HEADLIGHT_SHOW=80 cargo test --test files show -- --nocapture` prints every shape in colour.
#[test]
fn show() {
    let Some(columns) = std::env::var("HEADLIGHT_SHOW")
        .ok()
        .and_then(|text| text.parse().ok())
    else {
        return;
    };
    let depth = match std::env::var_os("NO_COLOR") {
        None => ColourDepth::Full,
        Some(_) => ColourDepth::None,
    };
    for table in of_every_shape() {
        println!(
            "{}\n{}\n",
            "=".repeat(columns),
            text(&table, columns, depth)
        );
    }
}

/// Digits that say how high a value is do not say which side of zero it is on: nearly zero has a mark.
#[test]
fn zero_has_a_mark_among_digits_of_signed_values() {
    let mut table = Sweep { layers: 6, ..XL }.table();
    table.metrics = vec!["logit_diff".to_owned()];
    for (i, row) in table.rows.iter_mut().enumerate() {
        row.metrics = vec![[-2.0, -0.01, 0.0, 0.05, 1.0][i % 5]];
    }
    let map = HeatMap::new(&table, &DrawnValue::of("logit_diff")).unwrap();
    let cells = |depth| {
        let text = drawn(&map, 80, depth);
        let grid = text.lines().skip_while(|line| !line.starts_with("cells: "));
        grid.skip(2).collect::<Vec<_>>().join("\n")
    };
    let said = drawn(&map, 80, ColourDepth::None).replace("\n    ", " ");
    assert!(said.contains("; = is within 0.2000 of zero"), "{said}");
    for depth in [ColourDepth::None, ColourDepth::Sixteen] {
        let cells = cells(depth);
        assert!(cells.matches('=').count() > 100, "{cells}");
    }
    // one-sided values have none
    assert!(!text(&Sweep { layers: 6, ..XL }.table(), 80, ColourDepth::None).contains('='));
}

#[test]
fn topk() {
    let list = [(14708, " Madrid", 0.105_012_349_78), (198, "\n", 0.5e-5)];
    let list = list.map(|(id, token, prob): (u32, &str, f64)| Candidate {
        id,
        token: token.to_owned(),
        prob,
        logprob: prob.ln(),
        logit: -97.25,
    });
    let written = |format| {
        let mut out = Vec::new();
        report::write_topk(&list, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    insta::assert_snapshot!(written(TopkFormat::Table), @r"
    _Madrid              0.10501234978
    \n                   0.00000500000
    ");
    assert!(
        written(TopkFormat::Csv)
            .starts_with("id,token,prob,logprob,logit\n14708, Madrid,0.10501234978,")
    );
    let json: serde_json::Value = serde_json::from_str(&written(TopkFormat::Json)).unwrap();
    assert_eq!(json[0]["token"], " Madrid");
    assert_eq!(json[1]["prob"].as_f64(), Some(0.5e-5));
}

#[test]
fn strongest_cells() {
    let table = REFERENCE.table();
    let mut strongest = Strongest::of(4, &[]);
    for row in table.rows.iter().filter(|row| &*row.target == " Rome") {
        let levels = Levels {
            run: row.prob,
            base: row.base_prob,
            source: f64::NAN,
        };
        strongest.add(levels, |base, value| Strong {
            row: row.clone(),
            target: true,
            base,
            value,
            pairs: None,
        });
    }
    let mut out = Vec::new();
    report::write_strongest(&strongest, report::Patched::Site, &mut out).unwrap();
    insta::assert_snapshot!("strongest", String::from_utf8(out).unwrap());
}
