//! A lens as text: what each stream says, or what each part adds to a logit, a line each.

use std::io::{self, Write};

use super::labels::{one_line, token_label, width};
use super::numbers::plain;
use super::strongest::signed;
use crate::results::candidate::Candidate;
use crate::results::table::Row;

/// How many of a stream's most probable tokens stand in its line.
const TOLD: usize = 3;
/// How many parts are told of, the largest.
const LARGEST: usize = 20;

/// A stream or part at one position.
pub struct LensLine {
    /// Its rows, one a target.
    pub rows: Vec<Row>,
    /// The targets' ranks, where they were read.
    pub ranks: Vec<u32>,
    /// A stream's most probable tokens.
    pub top: Vec<Candidate>,
    /// What it says of, or adds to, the difference of right and wrong answers, where there are wrong ones.
    pub difference: Option<f64>,
    /// Logits of the targets in the clean run at that position.
    pub logits: Vec<f64>,
    /// The clean run's difference.
    pub base_difference: Option<f64>,
}

impl LensLine {
    fn position(&self) -> String {
        let Some(row) = self.rows.first() else {
            return String::new();
        };
        let named = row.position_name.as_deref().filter(|name| !name.is_empty());
        let number = || row.position.map_or_else(String::new, |p| p.to_string());
        let at = named.map_or_else(number, token_label);
        match &row.token {
            Some(token) => format!("{at} {}", token_label(token)),
            None => at,
        }
    }

    fn name(&self) -> String {
        let name = self.rows.first().and_then(|row| row.name.as_deref());
        name.map_or_else(String::new, one_line)
    }
}

/// Writes the streams in order or, where `parts` are told of, those that add most, and what all of them add up to.
///
/// # Errors
///
/// Those of `out`.
pub fn write_lens(lines: &[LensLine], parts: bool, out: &mut dyn Write) -> io::Result<()> {
    match parts {
        true => write_parts(lines, out),
        false => write_streams(lines, out),
    }
}

fn write_streams(lines: &[LensLine], out: &mut dyn Write) -> io::Result<()> {
    let Some(first) = lines.first() else {
        return Ok(());
    };
    let mut head = vec![
        "stream".to_owned(),
        "position".to_owned(),
        "top tokens".to_owned(),
    ];
    head.extend(first.rows.iter().map(|row| token_label(&row.target)));
    let mut cells = vec![head];
    for line in lines {
        let top = line.top.iter().take(TOLD).map(Candidate::in_short);
        let top: Vec<String> = top.collect();
        let mut cell = vec![line.name(), line.position(), top.join(", ")];
        cell.extend(
            line.rows
                .iter()
                .enumerate()
                .map(|(i, row)| match line.ranks.get(i) {
                    Some(rank) => format!("{} (rank {rank})", plain(row.prob)),
                    None => plain(row.prob),
                }),
        );
        cells.push(cell);
    }
    aligned(&cells, out)
}

fn write_parts(lines: &[LensLine], out: &mut dyn Write) -> io::Result<()> {
    let differs = lines.first().is_some_and(|line| line.difference.is_some());
    // what is added to the difference where there is one, else to each target's logit
    let columns = match differs {
        true => vec!["logit_diff".to_owned()],
        false => lines.first().map_or(Vec::new(), |line| {
            line.rows
                .iter()
                .map(|row| token_label(&row.target))
                .collect()
        }),
    };
    let added = |line: &LensLine, column: usize| match line.difference {
        Some(difference) => difference,
        None => line.rows.get(column).map_or(f64::NAN, |row| row.logit),
    };
    let mut positions: Vec<String> = Vec::new();
    for line in lines {
        let position = line.position();
        if !positions.contains(&position) {
            positions.push(position);
        }
    }
    for (i, position) in positions.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        let mut here: Vec<&LensLine> = lines.iter().filter(|l| l.position() == *position).collect();
        let first = here[0];
        let sum = |column: usize| here.iter().map(|line| added(line, column)).sum::<f64>();
        let sums: Vec<f64> = (0..columns.len()).map(sum).collect();
        let most = |line: &LensLine| {
            let each = (0..columns.len()).map(|c| added(line, c).abs());
            each.fold(0.0f64, f64::max)
        };
        here.sort_by(|a, b| most(b).total_cmp(&most(a)));
        let mut cells = vec![[vec![format!("adds at {position}")], columns.clone()].concat()];
        for line in here.iter().take(LARGEST) {
            let numbers = (0..columns.len()).map(|c| signed(added(line, c)));
            cells.push(std::iter::once(line.name()).chain(numbers).collect());
        }
        if here.len() > LARGEST {
            cells.push(vec![format!("… and {} more", here.len() - LARGEST)]);
        }
        let all = sums.iter().map(|x| signed(*x));
        cells.push(
            std::iter::once("all together".to_owned())
                .chain(all)
                .collect(),
        );
        let clean = (0..columns.len()).map(|c| {
            let logit = first.base_difference.or(first.logits.get(c).copied());
            logit.map_or_else(String::new, signed)
        });
        cells.push(
            std::iter::once("the model's own".to_owned())
                .chain(clean)
                .collect(),
        );
        aligned(&cells, out)?;
    }
    Ok(())
}

/// Writes cells in columns.
fn aligned(lines: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |c: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(c))
            .map(|cell| width(cell))
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|c| widest(c).unwrap_or(0)).collect();
    for line in lines {
        let mut text = String::new();
        for (cell, wide) in line.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(wide - width(cell) + 2));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}
