//! How a page says how to run a cell again: the patches of its run, as an experiment has them, with holes for what the
//! cell's place says, so that a grid shares few of them.
//!
//! In a template stand L (and L-1, L+1, …) for the layer of the cell, H for its head, P for its position and S for the
//! position of the source. A cell whose runs differ in more than that, or that take what no file has, has none.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use crate::results::table::Row;

/// So many templates are kept; the others' cells have none.
const MOST_TEMPLATES: usize = 1 << 12;
/// So many places of positions that go by a name are kept.
const MOST_STANDS: usize = 1 << 16;

/// Where a position that goes by a name stands in a pair: in the base, and in the source where that is elsewhere.
pub(super) type NamedAt = (u32, Option<u32>);

/// Templates of cells in the making.
#[derive(Default)]
pub(super) struct CellRuns {
    templates: Vec<String>,
    known: HashMap<String, u32>,
    cells: Vec<CellRun>,
    /// Of each pair's number.
    stands: HashMap<u32, BTreeMap<String, NamedAt>>,
    stood: usize,
    /// The template of the row that is looked at.
    here: String,
}

/// What is known of a cell's runs.
#[derive(Debug, Clone, Copy)]
struct CellRun {
    /// The pair of its first run.
    pair: u32,
    template: Option<u32>,
    /// Whether all pairs have it.
    shared: bool,
}

impl CellRuns {
    /// Takes note of the first row of a run that falls into this cell; cells are new in order.
    pub fn add(&mut self, cell: usize, row: &Row) {
        self.stand(row);
        let mut here = std::mem::take(&mut self.here);
        here.clear();
        let whole = template(row, &mut here);
        match self.cells.get_mut(cell) {
            None => {
                let whole = whole && self.can_be_read(row, &here);
                let template = if whole { self.index(&here) } else { None };
                self.cells.push(CellRun {
                    pair: row.pair,
                    template,
                    shared: true,
                });
            }
            Some(known) => {
                let own = known.template.map(|t| &*self.templates[t as usize]);
                if own != Some(&*here).filter(|_| whole) {
                    known.shared = false;
                    // several runs of one pair are a mean
                    known.template = known.template.filter(|_| known.pair != row.pair);
                }
            }
        }
        self.here = here;
    }

    fn stand(&mut self, row: &Row) {
        let (Some(name), Some(position)) = (&row.position_name, row.position) else {
            return;
        };
        if !name.is_empty() && self.stood < MOST_STANDS {
            let own = self.stands.entry(row.pair).or_default();
            if !own.contains_key(&**name) {
                own.insert(name.to_string(), (position, row.source_position));
                self.stood += 1;
            }
        }
    }

    /// Whether patches that no template is known of are what our own are: a table is anybody's file.
    fn can_be_read(&self, row: &Row, template: &str) -> bool {
        self.known.contains_key(template)
            || serde_json::from_str::<Vec<WrittenPatch>>(&row.patches).is_ok()
    }

    fn index(&mut self, template: &str) -> Option<u32> {
        if let Some(known) = self.known.get(template) {
            return Some(*known);
        }
        let next = self.templates.len();
        if next == MOST_TEMPLATES {
            return None;
        }
        self.known.insert(template.to_owned(), next as u32);
        self.templates.push(template.to_owned());
        Some(next as u32)
    }

    /// The templates.
    pub fn templates(&mut self) -> Vec<String> {
        std::mem::take(&mut self.templates)
    }

    /// Where the names of positions stand in a pair.
    pub fn stands(&mut self, pair: u32) -> BTreeMap<String, NamedAt> {
        self.stands.remove(&pair).unwrap_or_default()
    }

    /// Of some cells, in this order, the templates by their index: as it is where every pair runs the cell so,
    /// −2 less it where only the first that has it, whose number is `first`, and −1 where there is none.
    pub fn of(&self, cells: &[Option<usize>], first: u32) -> Vec<i32> {
        let of = |cell: &Option<usize>| {
            let run = self.cells.get((*cell)?)?;
            let template = run.template? as i32;
            match run.shared {
                true => Some(template),
                false => (run.pair == first).then_some(-2 - template),
            }
        };
        cells.iter().map(|cell| of(cell).unwrap_or(-1)).collect()
    }
}

/// What the page's script reads of a patch.
#[derive(serde::Deserialize)]
#[expect(dead_code)] // that it is there, and what it is, is all
struct WrittenPatch {
    component: String,
    op: String,
    positions: Vec<u32>,
    #[serde(default)]
    heads: Vec<u32>,
    value: Option<String>,
}

/// What makes patches say less than was run.
const NOT_IN_A_FILE: [&str; 4] = [
    "\"source_run\":",
    "\"op\":\"function\"",
    "\"op\":\"collect\"",
    "\"source\":",
];

/// Writes a row's patches with holes for what its place says; whether they say all that was run.
fn template(row: &Row, into: &mut String) -> bool {
    let patches = &*row.patches;
    if patches.len() <= 2 || NOT_IN_A_FILE.iter().any(|of| patches.contains(of)) {
        return false;
    }
    let holes = [
        ("\"layer\":", row.layer, 'L'),
        ("\"heads\":[", row.head, 'H'),
        ("\"source_positions\":[", row.source_position, 'S'),
        ("\"positions\":[", row.position, 'P'),
    ];
    let mut rest = patches;
    while let Some(quote) = rest.find('"') {
        let (before, after) = rest.split_at(quote);
        into.push_str(before);
        let hole = holes.iter().find_map(|(key, value, letter)| {
            let digits = after.strip_prefix(key)?;
            let end = digits.find(|c: char| !c.is_ascii_digit())?;
            let number: u32 = digits[..end].parse().ok()?;
            let value = (*value)?;
            let whole = *letter == 'L' || (number == value && digits[end..].starts_with(']'));
            whole.then_some((
                *key,
                *letter,
                i64::from(number) - i64::from(value),
                &digits[end..],
            ))
        });
        match hole {
            Some((key, letter, away, behind)) => {
                into.push_str(key);
                into.push(letter);
                if away != 0 {
                    // a String takes whatever is written
                    let _ = write!(into, "{away:+}");
                }
                rest = behind;
            }
            None => {
                into.push('"');
                rest = &after[1..];
            }
        }
    }
    into.push_str(rest);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pair: u32, layer: u32, position: u32, patches: &str) -> Row {
        Row {
            pair,
            layer: Some(layer),
            head: Some(1),
            position: Some(position),
            patches: patches.into(),
            ..Row::default()
        }
    }

    fn written(row: &Row) -> Option<String> {
        let mut text = String::new();
        template(row, &mut text).then_some(text)
    }

    #[test]
    fn what_the_place_says_is_left_out_and_nothing_else() {
        let one = row(
            0,
            3,
            4,
            r#"[{"component":"z","layer":3,"heads":[1],"positions":[4],"op":"noise","level":3,"seed":4}]"#,
        );
        let wanted = r#"[{"component":"z","layer":L,"heads":[H],"positions":[P],"op":"noise","level":3,"seed":4}]"#;
        assert_eq!(written(&one).as_deref(), Some(wanted));
        // a window around a layer, several heads, other keys
        let window = row(
            0,
            3,
            4,
            r#"[{"layer":2,"heads":[0,1],"positions":[4],"keys":[4]},{"layer":3,"positions":[3,4]},{"layer":4,"positions":[3]}]"#,
        );
        let wanted = r#"[{"layer":L-1,"heads":[0,1],"positions":[P],"keys":[4]},{"layer":L,"positions":[3,4]},{"layer":L+1,"positions":[3]}]"#;
        assert_eq!(written(&window).as_deref(), Some(wanted));
        let elsewhere = Row {
            source_position: Some(7),
            ..row(
                0,
                3,
                4,
                r#"[{"layer":3,"positions":[4],"source_positions":[7]}]"#,
            )
        };
        let wanted = r#"[{"layer":L,"positions":[P],"source_positions":[S]}]"#;
        assert_eq!(written(&elsewhere).as_deref(), Some(wanted));
        // a name that looks like a place is a name
        let named = row(
            0,
            3,
            4,
            r#"[{"basis":"\"layer\":3#\"heads\":[1]","layer":3}]"#,
        );
        let wanted = r#"[{"basis":"\"layer\":3#\"heads\":[1]","layer":L}]"#;
        assert_eq!(written(&named).as_deref(), Some(wanted));
        for text in [
            "[]",
            r#"[{"layer":3,"source_run":"a"}]"#,
            r#"[{"op":"function"}]"#,
        ] {
            assert_eq!(written(&row(0, 3, 4, text)), None, "{text}");
        }
    }

    #[test]
    fn cells_have_what_all_their_pairs_run() {
        let mut runs = CellRuns::default();
        let text = |layer: u32, position: u32, more: &str| {
            format!(
                r#"[{{"component":"z","op":"zero","layer":{layer},"positions":[{position}]{more}}}]"#
            )
        };
        // shared by pairs that stand elsewhere; other in a second pair; two runs of one pair; nothing
        runs.add(0, &row(5, 1, 2, &text(1, 2, "")));
        runs.add(1, &row(5, 2, 2, &text(2, 2, r#","seed":1"#)));
        runs.add(2, &row(5, 3, 2, &text(3, 2, "")));
        runs.add(2, &row(5, 3, 2, &text(3, 2, r#","seed":1"#)));
        runs.add(3, &row(5, 3, 2, "[]"));
        runs.add(0, &row(6, 1, 9, &text(1, 9, "")));
        runs.add(1, &row(6, 2, 2, &text(2, 2, "")));
        runs.add(4, &row(6, 2, 2, &text(2, 2, "")));
        let cells = [Some(0), Some(1), Some(2), Some(3), Some(4), None];
        assert_eq!(runs.of(&cells, 5), [0, -3, -1, -1, 0, -1]);
        assert_eq!(runs.of(&cells, 4), [0, -1, -1, -1, 0, -1]);
        let templates = runs.templates();
        let wanted = r#"[{"component":"z","op":"zero","layer":L,"positions":[P]}]"#;
        assert_eq!(templates[0], wanted);
        // whatever is no patch of ours
        let mut runs = CellRuns::default();
        for (cell, text) in ["[1]", "no JSON", r#"[{"op":3,"positions":[2]}]"#]
            .iter()
            .enumerate()
        {
            runs.add(cell, &row(5, 1, 2, text));
        }
        assert_eq!(runs.of(&[Some(0), Some(1), Some(2)], 5), [-1, -1, -1]);
    }
}
