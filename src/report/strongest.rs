//! The cells that move a target most, as text: the answer of a sweep in a few lines.

use std::io::{self, Write};

use super::labels::{one_line, site_label, token_label, width};
use super::numbers::plain;
use crate::results::table::Row;

/// What a row patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patched {
    /// A site, which has a head and a position.
    Site,
    /// An edge, which its name says all of.
    Edge,
    /// Paths, likewise.
    Path,
    /// An edge at one position.
    EdgeAt,
    /// A site that is restored in a corrupted prompt, which is its base.
    Restored,
}

/// Writes rows as aligned lines: site, head, position and token (or edge, or path), target, base → patched,
/// change.
///
/// # Errors
///
/// Those of `out`.
pub fn write_strongest(rows: &[Row], what: Patched, out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "no patch changed a target's probability");
    }
    let several_pairs = rows.iter().any(|row| row.pair != rows[0].pair);
    let mut lines = vec![
        [
            match what {
                Patched::Site if rows.iter().any(|row| row.component.is_none()) => "run",
                Patched::Site | Patched::Restored => "site",
                Patched::Edge | Patched::EdgeAt => "edge",
                Patched::Path => "path",
            },
            "head",
            "position",
            "target",
            match what {
                Patched::Restored => "corrupted → restored",
                _ => "base → patched",
            },
            "change",
            "pair",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in rows {
        let site = match (&row.name, &row.component) {
            (Some(name), Some(_)) => token_label(name),
            (Some(name), None) => one_line(name),
            (None, Some(component)) => site_label(component, row.layer),
            (None, None) => format!("run {}", row.run),
        };
        let position = match (row.position, &row.token) {
            (Some(position), Some(token)) => format!("{position} {}", token_label(token)),
            (Some(position), None) => position.to_string(),
            (None, _) => "several".to_owned(),
        };
        lines.push(vec![
            site,
            row.head
                .map_or_else(|| "–".to_owned(), |head| head.to_string()),
            position,
            token_label(&row.target),
            format!("{} → {}", plain(row.base_prob), plain(row.prob)),
            signed(row.prob - row.base_prob),
            format!("pair {}", row.pair),
        ]);
    }
    if !several_pairs {
        for line in &mut lines {
            line.pop();
        }
    }
    // what the edge's name says already
    let said = match what {
        Patched::Site | Patched::Restored => 1..1,
        Patched::Edge | Patched::Path => 1..3,
        Patched::EdgeAt => 1..2,
    };
    for line in &mut lines {
        line.drain(said.clone());
    }
    let columns = lines[0].len();
    let widths = (0..columns)
        .map(|column| {
            lines
                .iter()
                .map(|line| width(&line[column]))
                .max()
                .unwrap_or(0)
        })
        .collect::<Vec<_>>();
    for line in &lines {
        let mut text = String::new();
        for (cell, wide) in line.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(wide - width(cell) + 2));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

pub(super) fn signed(change: f64) -> String {
    let size = plain(change.abs());
    if change < 0.0 {
        format!("−{size}")
    } else {
        format!("+{size}")
    }
}
