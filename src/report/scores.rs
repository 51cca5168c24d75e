//! The largest scores of an attribution, as text, with what was measured beside them.

use std::io::{self, Write};

use super::labels::{one_line, site_label, token_label, width};
use super::numbers::plain;
use super::strongest::{Patched, signed};
use crate::results::table::Row;

/// Writes rows as aligned lines: site, head, position and token (or edge), target, score, and where some runs
/// were run what that gave.
///
/// # Errors
///
/// Those of `out`.
pub fn write_scores(rows: &[Row], what: Patched, out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "every score is 0");
    }
    let several_pairs = rows.iter().any(|row| row.pair != rows[0].pair);
    let verified = rows.iter().any(|row| row.metrics.len() > 1);
    let is_site = what == Patched::Site;
    let mut head = vec![if is_site { "site" } else { "edge" }];
    if is_site {
        head.push("head");
    }
    if what != Patched::Edge {
        head.push("position");
    }
    head.extend(["target", "score"]);
    head.extend(verified.then_some("exact"));
    head.extend(several_pairs.then_some("pair"));
    let mut lines: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    for row in rows {
        let name = match (&row.name, &row.component) {
            (Some(name), Some(_)) => token_label(name),
            (Some(name), None) => one_line(name),
            (None, Some(component)) => site_label(component, row.layer),
            (None, None) => format!("run {}", row.run),
        };
        let mut line = vec![name];
        if is_site {
            let head = row.head.map(|head| head.to_string());
            line.push(head.unwrap_or_else(|| "–".to_owned()));
        }
        if what != Patched::Edge {
            line.push(match (row.position, &row.token) {
                (Some(position), Some(token)) => format!("{position} {}", token_label(token)),
                (Some(position), None) => position.to_string(),
                (None, _) => "several".to_owned(),
            });
        }
        line.push(token_label(&row.target));
        let number = |x: &f64| match x.is_nan() {
            true => "–".to_owned(),
            false => signed(*x),
        };
        line.extend(row.metrics.iter().map(number));
        line.extend(several_pairs.then(|| row.pair.to_string()));
        lines.push(line);
    }
    let columns = lines[0].len();
    let widest = |column: usize| lines.iter().map(|line| width(&line[column])).max();
    let widths: Vec<usize> = (0..columns).map(|c| widest(c).unwrap_or(0)).collect();
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

/// How estimates agree with exact runs over some rows, in words.
pub fn agreement(rows: usize, pearson: Option<f64>, spearman: Option<f64>) -> String {
    let number = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |x| format!("{x:.3}"));
    format!(
        "Pearson {}, rank {} over {rows} rows",
        number(pearson),
        number(spearman)
    )
}

/// A share in running text.
pub fn share(x: f64) -> String {
    format!("{} %", plain(100.0 * x))
}
