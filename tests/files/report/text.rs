//! The text forms, as people see them.

use headlight::report;
use headlight::report::{Candidate, HeatMap, TopkFormat};
use headlight::results::recovery::Levels;
use headlight::results::strongest::{Strong, Strongest};
use headlight::results::table::Table;

use super::tables::{ALL_HEADS, FIVE_TARGETS, LONG_TOKENS, REFERENCE, Sweep, XL, toy};

fn text(table: &Table, columns: usize, colour: bool) -> String {
    let map = HeatMap::new(table, "prob").unwrap();
    let mut out = Vec::new();
    report::render(&map, columns, colour, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn reference_job() {
    insta::assert_snapshot!("reference_80", text(&REFERENCE.table(), 80, false));
    insta::assert_snapshot!("reference_60", text(&REFERENCE.table(), 60, false));
}

#[test]
fn all_heads() {
    insta::assert_snapshot!("all_heads_80", text(&ALL_HEADS.table(), 80, false));
    insta::assert_snapshot!("all_heads_60", text(&ALL_HEADS.table(), 60, false));
}

#[test]
fn toy_with_missing_cells() {
    insta::assert_snapshot!("toy_80", text(&toy(), 80, false));
}

#[test]
fn heads_over_positions_patched_together() {
    let table = Sweep {
        heads: 0..12,
        together: true,
        ..REFERENCE
    }
    .table();
    insta::assert_snapshot!("together_120", text(&table, 120, false));
}

#[test]
fn long_tokens() {
    insta::assert_snapshot!("long_tokens_60", text(&LONG_TOKENS.table(), 60, false));
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
            for colour in [false, true] {
                for line in text(&table, columns, colour).lines() {
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
                    assert!(colour || !line.contains('\x1b'));
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
    let colour = std::env::var_os("NO_COLOR").is_none();
    for table in of_every_shape() {
        println!(
            "{}\n{}\n",
            "=".repeat(columns),
            text(&table, columns, colour)
        );
    }
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
