//! A heat map as text: coloured cells on a terminal, digits anywhere else.
//!
//! Cells are as wide as the terminal lets them be: with the value in them where it fits, else one
//! or two columns of colour (or one digit, the tenth of the range). Grids that do not fit beside
//! each other stand below each other, and one that is too wide itself is continued below.

use std::io::{self, Write};

use super::canvas::{Canvas, Style, wrap};
use super::colour::{Scale, ink_on};
use super::depth::ColourDepth;
use super::heatmap::{Facet, HeatMap};
use super::labels::{shorten, width};
use super::numbers::{CellSpelling, plain};

/// The least width that is drawn for; a narrower terminal wraps lines.
const LEAST: usize = 40;

/// What the axis of heads is called.
const HEAD: &str = "head";

/// Columns between facets side by side.
const GUTTER: usize = 3;

/// Draws the heat map, at most `columns` wide, for a reader that shows so many colours; for one that shows none
/// nothing but plain text is written.
///
/// # Errors
///
/// Those of `out`.
pub fn render(
    map: &HeatMap,
    columns: usize,
    depth: ColourDepth,
    out: &mut dyn Write,
) -> io::Result<()> {
    let columns = columns.max(LEAST);
    let numbers = map.spelling();
    for line in &map.title {
        let line = match line.label {
            "" => line.text.clone(),
            label => format!("{label:<8}{}", line.text),
        };
        write_wrapped(&line, columns, out)?;
    }
    for note in &map.notes {
        write_wrapped(note, columns, out)?;
    }
    let cells = Cells::choose(map, &numbers, columns);
    legend(map, &numbers, &cells, columns, depth).write(out, depth)?;

    for facets in map.facets.chunks(map.beside()) {
        let mut beside: Vec<Canvas> = Vec::new();
        for facet in facets {
            for (index, part) in cells.panels(facet, columns).iter().enumerate() {
                let title = match index {
                    0 => facet.title.clone(),
                    _ => format!("{} (continued)", facet.title),
                };
                let title = shorten(&title, columns);
                let panel = panel(facet, &title, part, map, &numbers, &cells);
                let taken: usize = beside.iter().map(|panel| panel.width() + GUTTER).sum();
                if !beside.is_empty() && taken + panel.width() > columns {
                    writeln!(out)?;
                    Canvas::join(&beside, GUTTER).write(out, depth)?;
                    beside.clear();
                }
                beside.push(panel);
            }
        }
        writeln!(out)?;
        Canvas::join(&beside, GUTTER).write(out, depth)?;
    }
    if let Some(key) = column_key(map, &cells) {
        writeln!(out)?;
        write_wrapped(&key, columns, out)?;
    }
    Ok(())
}

fn write_wrapped(text: &str, columns: usize, out: &mut dyn Write) -> io::Result<()> {
    for line in wrap(text, columns) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// How cells are drawn: one choice for the whole map, so that facets compare.
struct Cells {
    /// Columns a cell takes.
    width: usize,
    /// Whether the value is written in it.
    numbered: bool,
    /// Columns of the row labels.
    label: usize,
}

impl Cells {
    fn choose(map: &HeatMap, numbers: &CellSpelling, columns: usize) -> Self {
        let rows = map.facets.iter().flat_map(|facet| &facet.rows);
        let label = rows.map(|row| width(row)).max().unwrap_or(0).min(16);
        let headed = map.facets.iter().any(|facet| Self::gap(facet) == 1);
        let label = if headed {
            label.max(width(HEAD))
        } else {
            label
        };
        let cells = |width, numbered| Self {
            width,
            numbered,
            label,
        };
        let widest = |cells: &Self, beside: usize| {
            // A heading alone on its line may be cut; it is no reason to narrow the cells.
            let widths = map.facets.iter().map(|facet| match beside {
                1 => cells.panel_width(facet),
                _ => cells.panel_width(facet).max(heading_width(facet, map)),
            });
            widths.max().unwrap_or(0)
        };
        // Tokens of an ordinary length are worth some room.
        let single = map.facets.iter().flat_map(|facet| &facet.groups);
        let single = single.filter(|group| group.columns.len() == 1);
        let token = single
            .map(|group| width(&group.label) + 1)
            .max()
            .unwrap_or(0);
        let (narrow, wide) = (numbers.narrow + 1, numbers.wide + 1);
        let roomy = token.clamp(wide, wide.max(11));
        let beside = map.beside();

        // Side by side with numbers if at all possible, then one below the other with numbers,
        // then without.
        let fits = |cells: &Self, beside: usize| {
            (widest(cells, beside) + GUTTER) * beside <= columns + GUTTER
        };
        for beside in [beside, 1] {
            for width in (narrow..=roomy).rev() {
                let choice = cells(width, true);
                if fits(&choice, beside) {
                    return choice;
                }
            }
        }
        let two = cells(2, false);
        if fits(&two, 1) { two } else { cells(1, false) }
    }

    /// Columns between two groups of several heads.
    fn gap(facet: &Facet) -> usize {
        usize::from(facet.groups.iter().any(|group| group.columns.len() > 1))
    }

    /// The width of a whole facet, its heading aside.
    fn panel_width(&self, facet: &Facet) -> usize {
        let gaps = Self::gap(facet) * facet.groups.len().saturating_sub(1);
        self.label + 1 + facet.width() * self.width + gaps
    }

    /// Splits a facet that is too wide: the columns of each part, between positions if possible.
    fn panels(&self, facet: &Facet, columns: usize) -> Vec<Vec<(usize, usize)>> {
        let room = columns.saturating_sub(self.label + 1).max(self.width);
        let gap = Self::gap(facet);
        let mut panels: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
        let mut used = 0;
        for (number, group) in facet.groups.iter().enumerate() {
            let whole = group.columns.len() * self.width;
            if used > 0 && used + gap + whole > room {
                panels.push(Vec::new());
                used = 0;
            }
            for column in 0..group.columns.len() {
                let before = if column == 0 && used > 0 { gap } else { 0 };
                if used + before + self.width > room {
                    panels.push(Vec::new());
                    used = 0;
                }
                used += if used == 0 { 0 } else { before } + self.width;
                if let Some(panel) = panels.last_mut() {
                    panel.push((number, column));
                }
            }
        }
        panels
    }
}

/// The width of what stands above the grid.
fn heading_width(facet: &Facet, map: &HeatMap) -> usize {
    let clean = clean(facet, map)
        .map(|(text, _)| width(&text) + 4)
        .sum::<usize>();
    width(&facet.title).max(clean.saturating_sub(2))
}

/// The clean probabilities of a facet, as text and value.
fn clean(facet: &Facet, map: &HeatMap) -> impl Iterator<Item = (String, f64)> {
    [("base", facet.base), ("source", facet.source)]
        .into_iter()
        .filter_map(|(name, value)| Some((format!("{name} {} ", map.say(value?)), value?)))
}

/// Draws some columns of a facet, given as (group, column in it).
fn panel(
    facet: &Facet,
    title: &str,
    columns: &[(usize, usize)],
    map: &HeatMap,
    numbers: &CellSpelling,
    cells: &Cells,
) -> Canvas {
    let mut canvas = Canvas::default();
    // The heading: what, and the values that mean "no effect" and "all of it".
    canvas.text(0, 0, title, Style::BOLD);
    let mut height = 1;
    if facet.base.is_some() || facet.source.is_some() {
        let mut x = 0;
        for (text, value) in clean(facet, map) {
            canvas.text(x, height, &text, Style::DIM);
            x += width(&text);
            // A value beyond the scale has no colour of its own.
            if value >= map.scale.low && value <= map.scale.high {
                canvas.swatch(x, height, 2, map.scale.colour(value));
            }
            x += 4;
        }
        height += 1;
    }

    // Where each column stands.
    let gap = Cells::gap(facet);
    let mut places = Vec::with_capacity(columns.len());
    let mut x = cells.label + 1;
    for (index, &(group, column)) in columns.iter().enumerate() {
        if index > 0 && column == 0 {
            x += gap;
        }
        places.push((group, column, x));
        x += cells.width;
    }
    let starts = facet.groups.iter().scan(0, |sum, group| {
        let start = *sum;
        *sum += group.columns.len();
        Some(start)
    });
    let starts = starts.collect::<Vec<_>>();

    let top = height;
    for (row, label) in facet.rows.iter().enumerate() {
        let y = top + facet.rows.len() - 1 - row;
        let label = shorten(label, cells.label);
        canvas.text(cells.label - width(&label), y, &label, Style::PLAIN);
        for &(group, column, x) in &places {
            let value = facet.cell(row, starts[group] + column);
            let text = cell_text(value, facet.base, &map.scale, numbers, cells);
            draw_cell(&mut canvas, (x, y), value, &text, &map.scale, cells);
            if gap == 1 && column == 0 && x > cells.label + 1 {
                canvas.text(x - 1, y, "│", Style::DIM);
            }
        }
    }
    axis(&mut canvas, top + facet.rows.len(), facet, &places, cells);
    canvas
}

/// What a cell says where there is no colour, or where there is room for a number in it.
fn cell_text(
    value: Option<f64>,
    base: Option<f64>,
    scale: &Scale,
    numbers: &CellSpelling,
    cells: &Cells,
) -> String {
    match value {
        None => "·".to_owned(),
        Some(value) if cells.numbered => numbers.cell(value, cells.width - 1),
        Some(value) if base.is_some_and(|base| (value - base).abs() < unmoved(scale)) => {
            "-".to_owned()
        }
        Some(value) if base.is_none() && is_signed(scale) && value.abs() < unmoved(scale) => {
            ZERO.to_owned()
        }
        Some(value) => ((scale.fraction(value) * 10.0) as u8).min(9).to_string(),
    }
}

/// Among digits, the mark of a value that is nearly zero, where values are on both sides of it.
const ZERO: &str = "=";

/// Whether values are on both sides of zero, which then is none of the digits' ends.
fn is_signed(scale: &Scale) -> bool {
    scale.low < 0.0 && scale.high > 0.0
}

/// Among digits, a cell this close to the clean prompt is drawn as unmoved, so that the cells that
/// did move stand out: half a digit.
fn unmoved(scale: &Scale) -> f64 {
    (scale.high - scale.low) / 20.0
}

fn draw_cell(
    canvas: &mut Canvas,
    (x, y): (usize, usize),
    value: Option<f64>,
    text: &str,
    scale: &Scale,
    cells: &Cells,
) {
    let mut style = Style::DIM;
    if let Some(value) = value {
        let background = scale.colour(value);
        canvas.swatch(x, y, cells.width, background);
        style = Style {
            ink: Some(ink_on(background)),
            ground: Some(background),
            plain_only: !cells.numbered,
            ..Style::PLAIN
        };
    }
    let free = cells.width.saturating_sub(width(text));
    // Numbers stand centred, a lone digit to the right so that digits line up with head numbers.
    let before = if cells.numbered {
        free.div_ceil(2)
    } else {
        free
    };
    canvas.text(x + before, y, text, style);
}

/// Heads and tokens below the grid.
fn axis(
    canvas: &mut Canvas,
    y: usize,
    facet: &Facet,
    places: &[(usize, usize, usize)],
    cells: &Cells,
) {
    let mut y = y;
    if Cells::gap(facet) == 1 {
        // As many head numbers as fit with a space between them.
        let labels = facet.groups.iter().flat_map(|group| &group.columns);
        let longest = labels.map(|label| width(label)).max().unwrap_or(0);
        let every = (longest + 1).div_ceil(cells.width);
        let every = if every > 2 {
            every.next_multiple_of(5)
        } else {
            every.max(1)
        };
        for &(group, column, x) in places {
            let label = &facet.groups[group].columns[column];
            if column % every == 0 {
                let back = if every == 1 {
                    cells.width.saturating_sub(width(label))
                } else {
                    cells.width - 1
                };
                canvas.text(x + back, y, label, Style::DIM);
            }
        }
        canvas.text(cells.label - width(HEAD), y, HEAD, Style::DIM);
        y += 1;
    }
    // One label below the columns of each group.
    let mut from = 0;
    while from < places.len() {
        let (group, _, x) = places[from];
        let columns = places[from..]
            .iter()
            .take_while(|place| place.0 == group)
            .count();
        let room = columns * cells.width;
        let group = &facet.groups[group];
        if !group.label.is_empty() {
            let mut label = shorten(&group.label, room.saturating_sub(usize::from(columns == 1)));
            // No token fits: its position, which the key below names.
            if let (..4, Some(position)) = (room, group.position) {
                label = position.to_string();
                let every = if width(&label) < room { 1 } else { 5 };
                if position % every != 0 {
                    label.clear();
                }
            }
            let before = room.saturating_sub(width(&label)).div_ceil(2);
            canvas.text(x + before, y, &label, Style::PLAIN);
        }
        from += columns;
    }
}

/// Names the columns in full where their labels had to be cut.
fn column_key(map: &HeatMap, cells: &Cells) -> Option<String> {
    let mut groups = Vec::new();
    let mut cut = false;
    for group in map.facets.iter().flat_map(|facet| &facet.groups) {
        let room = group.columns.len() * cells.width - usize::from(group.columns.len() == 1);
        cut |= width(&group.label) > room;
        let group = (group.position, group.label.as_str());
        if !group.1.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    let text = |(position, label): &(Option<u32>, &str)| match position.map(|p| p.to_string()) {
        Some(position) if position != *label => format!("{position}\u{a0}{label}"),
        _ => (*label).to_owned(),
    };
    let named = |(p, label): &(Option<u32>, &str)| p.is_none_or(|p| p.to_string() != *label);
    (cut && groups.iter().any(named)).then(|| {
        groups.sort_by_key(|(position, _)| *position);
        let parts: Vec<String> = groups.iter().map(text).collect();
        format!("positions: {}", parts.join("  "))
    })
}

/// One line (or a few) that say what a colour or a digit means.
fn legend(
    map: &HeatMap,
    numbers: &CellSpelling,
    cells: &Cells,
    columns: usize,
    depth: ColourDepth,
) -> Canvas {
    let Scale { low, high, .. } = map.scale;
    let mut canvas = Canvas::default();
    let factor = numbers.factor();
    let mut line = |y: usize, x: usize, text: &str| canvas.text(x, y, text, Style::PLAIN);
    let missing = map
        .facets
        .iter()
        .flat_map(|facet| &facet.cells)
        .any(Option::is_none);
    let (missing, not_run) = match missing {
        true => (", · not run", "; · is not run"),
        false => ("", ""),
    };
    // few colours say less than digits do
    let plainly = match depth {
        ColourDepth::None => true,
        ColourDepth::Sixteen => !cells.numbered,
        ColourDepth::Indexed | ColourDepth::Full => false,
    };
    if plainly {
        let (low, high) = (map.say(low), map.say(high));
        let text = if cells.numbered {
            format!(
                "cells: {}{factor}, from {low} to {high}{missing}",
                map.value
            )
        } else {
            let near = plain(unmoved(&map.scale));
            let same = match map.facets.iter().any(|facet| facet.base.is_some()) {
                true => format!("; - is within {near} of the base"),
                false if is_signed(&map.scale) => format!("; {ZERO} is within {near} of zero"),
                false => String::new(),
            };
            format!(
                "cells: {}; each digit is a tenth of the range {low} to {high}, 0 lowest, 9 highest{same}{not_run}",
                map.value
            )
        };
        for (y, text) in wrap(&text, columns).iter().enumerate() {
            line(y, 0, text);
        }
        return canvas;
    }
    let (left, right) = (format!("{} ", map.say(low)), format!(" {}", map.say(high)));
    line(0, 0, &left);
    let bar = 24;
    line(0, width(&left) + bar, &right);
    let mut meaning = format!("  {}", map.value);
    if cells.numbered && !factor.is_empty() {
        meaning.push_str(&format!(" (numbers{factor})"));
    }
    meaning.push_str(missing);
    let after = width(&left) + bar + width(&right);
    if after + width(&meaning) <= columns {
        line(0, after, &meaning);
    } else {
        for (y, text) in wrap(meaning.trim_start(), columns).iter().enumerate() {
            line(y + 1, 0, text);
        }
    }
    for step in 0..bar {
        let at = (step as f64 + 0.5) / bar as f64;
        canvas.swatch(width(&left) + step, 0, 1, map.scale.colour_at(at));
    }
    canvas
}
