//! The cells that move a target most, as text: the answer of a sweep in a few lines.

use std::io::{self, Write};

use super::labels::{one_line, site_label, token_label, width};
use super::numbers::plain;
use crate::results::candidate::Candidate;
use crate::results::metric::{Metric, Quantity};
use crate::results::strongest::Strongest;
use crate::text::counted;

/// How many of the most probable tokens are told of a run in its line.
const TOLD: usize = 3;

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

/// Writes places as aligned lines: site, head, position and token (or edge, or path), target, base → patched, and
/// the change, of what they go by.
///
/// # Errors
///
/// Those of `out`.
pub fn write_strongest(
    strongest: &Strongest,
    what: Patched,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (places, metric) = (strongest.places(), strongest.metric());
    let is_prob = metric == Metric::plain(Quantity::Prob);
    if places.is_empty() {
        return match is_prob {
            true => writeln!(out, "no patch changed a target's probability"),
            false => writeln!(out, "no patch changed {metric}"),
        };
    }
    let means = places.iter().any(|place| place.pairs.is_some());
    let several_pairs = means || places.iter().any(|p| p.row.pair != places[0].row.pair);
    let values = match what {
        Patched::Restored => "corrupted → restored",
        _ => "base → patched",
    };
    let mut lines = vec![
        [
            match what {
                Patched::Site if places.iter().any(|p| p.row.component.is_none()) => "run",
                Patched::Site | Patched::Restored => "site",
                Patched::Edge | Patched::EdgeAt => "edge",
                Patched::Path => "path",
            },
            "head",
            "position",
            "target",
            values,
            "change",
            if means { "mean of" } else { "pair" },
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    if !is_prob {
        lines[0][4] = format!("{metric}, {values}");
    }
    for place in places {
        let row = &place.row;
        let named = row.position_name.as_deref().filter(|name| !name.is_empty());
        // a name that says no more than site and position do
        let plainly = |name: &str, component: &str| {
            let site = named.and_then(|at| name.strip_suffix(at)?.strip_suffix('@'));
            site.is_some_and(|site| site.starts_with(component))
        };
        let site = match (&row.name, &row.component) {
            (Some(name), Some(component)) if plainly(name, component) => {
                site_label(component, row.layer)
            }
            (Some(name), Some(_)) => token_label(name),
            (Some(name), None) => one_line(name),
            (None, Some(component)) => site_label(component, row.layer),
            (None, None) => format!("run {}", row.run),
        };
        let position = match (named.map(token_label), row.position) {
            (Some(name), _) => name,
            (None, Some(position)) => position.to_string(),
            (None, None) => "several".to_owned(),
        };
        let position = match &row.token {
            Some(token) => format!("{position} {}", token_label(token)),
            None => position,
        };
        lines.push(vec![
            site,
            row.head
                .map_or_else(|| "–".to_owned(), |head| head.to_string()),
            position,
            match place.target {
                true => token_label(&row.target),
                false => "each pair's own".to_owned(),
            },
            format!("{} → {}", plain(place.base), plain(place.value)),
            signed(place.change()),
            match place.pairs {
                Some(pairs) => counted(pairs as usize, "pair"),
                None => format!("pair {}", row.pair),
            },
        ]);
    }
    if !several_pairs {
        for line in &mut lines {
            line.pop();
        }
    }
    if places.iter().any(|place| place.row.top_tokens.is_some()) {
        lines[0].push("top tokens".to_owned());
        for (line, place) in lines[1..].iter_mut().zip(places) {
            let all = place.row.top_tokens.as_deref().map(Candidate::of_column);
            let all = all.unwrap_or_default().into_iter().take(TOLD);
            let all: Vec<String> = all.map(|candidate| candidate.in_short()).collect();
            line.push(all.join(", "));
        }
    }
    if !metric.is_of_target() {
        for line in &mut lines {
            line.remove(3);
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
