//! Where everything of a heat map goes on a page.
//!
//! Cells are as large as their number allows, with the value in them while it fits; labels that
//! would touch are turned, and where even that is too tight every second, fifth … one is written.

use super::colour::{Rgb, ink_on};
use super::heatmap::{Facet, Group, HeatMap};
use super::numbers::CellSpelling;
use super::scene::{Anchor, Mark, Scene, cut, text_width, wrap};

const INK: Rgb = [0x22, 0x22, 0x22];
const SOFT: Rgb = [0x66, 0x66, 0x66];
const RULE: Rgb = [0xbb, 0xbb, 0xbb];
const EMPTY: Rgb = [0xf4, 0xf4, 0xf4];

const MARGIN: f32 = 24.0;
const GUTTER: f32 = 36.0;
/// Facets stand beside each other up to this width.
const PAGE: f32 = 1900.0;
/// The narrowest page that titles are wrapped for.
const NARROWEST: f32 = 460.0;

const TITLE: f32 = 15.0;
const NOTE: f32 = 11.5;
const HEADING: f32 = 14.0;
const LABEL: f32 = 12.0;
const SMALL: f32 = 10.0;
/// Longest token label, in pixels along the text.
const TOKEN: f32 = 190.0;
/// The angle of labels that do not fit level.
const SLANT: f32 = -45.0;
/// The narrowest column whose label fits when it stands upright.
const UPRIGHT: f32 = 14.0;

/// Up to this many cells, each says what it is when pointed at.
const TIPS: usize = 6000;

/// Lays the heat map out.
pub(super) fn scene(map: &HeatMap) -> Scene {
    let sizes = Sizes::of(map);
    let mut scene = Scene::default();

    let widest = map.facets.iter().map(|facet| sizes.facet_width(facet, map));
    let widest = widest.fold(0.0, f32::max);
    let per_row = map.beside();
    let page = map.width.unwrap_or(PAGE).max(NARROWEST) - 2.0 * MARGIN;
    let fit = (((page + GUTTER) / (widest + GUTTER)) as usize).clamp(1, per_row);
    // Five that fit three abreast stand 3 + 2, four stand 2 + 2.
    let beside = per_row.div_ceil(per_row.div_ceil(fit));
    let grid = widest * beside as f32 + GUTTER * (beside - 1) as f32;
    let room = grid.max(NARROWEST);

    let mut y = MARGIN;
    let labels = map.title.iter().map(|line| text_width(line.label, TITLE));
    let indent = labels.fold(0.0, f32::max) + 10.0;
    for line in &map.title {
        // Facts without a label need no indent.
        let (indent, ink) = match line.label {
            "" => (0.0, SOFT),
            _ => (indent, INK),
        };
        let parts = wrap(&line.text, TITLE, room - indent);
        for (index, part) in parts.iter().enumerate() {
            y += TITLE;
            if index == 0 {
                scene.text((MARGIN, y), TITLE, Anchor::Start, SOFT, line.label);
            }
            let place = (MARGIN + indent, y);
            scene.text(place, TITLE, Anchor::Start, ink, part.trim_end());
            y += 6.0;
        }
    }
    y += 2.0;
    for line in map.notes.iter().flat_map(|note| wrap(note, NOTE, room)) {
        y += NOTE;
        scene.text((MARGIN, y), NOTE, Anchor::Start, SOFT, line.trim_end());
        y += 4.5;
    }
    y += 8.0;
    let name = match sizes.numbers {
        Some(_) if !sizes.factor.is_empty() => format!("{} (in cells{})", map.value, sizes.factor),
        _ => map.value.clone(),
    };
    y = colour_bar(&mut scene, map, &name, y);

    let mut right = MARGIN + room;
    for component in map.facets.chunks(per_row) {
        for line in component.chunks(beside) {
            y += 20.0;
            let mut bottom = y;
            for (index, facet) in line.iter().enumerate() {
                let x = MARGIN + index as f32 * (widest + GUTTER);
                let (far, low) = draw_facet(&mut scene, facet, map, &sizes, x, y);
                right = right.max(far);
                bottom = bottom.max(low);
            }
            y = bottom;
        }
    }
    scene.width = (right + MARGIN).ceil();
    scene.height = (y + MARGIN).ceil();
    match map.width {
        Some(width) => {
            let factor = width / scene.width;
            scene.scaled(factor)
        }
        None => scene,
    }
}

/// The measures that all facets share.
struct Sizes {
    cell: (f32, f32),
    /// Space between cells; small cells touch.
    seam: f32,
    numbers: Option<(CellSpelling, usize)>,
    factor: String,
    /// Space for the row labels.
    left: f32,
    /// Whether heads stand side by side in some facet.
    heads: bool,
    /// By how many degrees token labels are turned.
    turn: f32,
    /// Of how many positions one has its label written.
    every: usize,
    tips: bool,
}

impl Sizes {
    fn of(map: &HeatMap) -> Self {
        let facets = || map.facets.iter();
        let columns = facets().map(Facet::width).max().unwrap_or(0);
        let rows = facets().map(|facet| facet.rows.len()).max().unwrap_or(0);
        let heads = facets().any(has_heads);
        let width: f32 = match (heads, columns) {
            (false, ..=6) => 58.0,
            (false, ..=12) => 48.0,
            (false, ..=24) => 38.0,
            (false, ..=48) => 22.0,
            (false, ..=96) => UPRIGHT,
            (true, ..=24) => 34.0,
            (true, ..=80) => 14.0,
            (_, ..=200) => 8.0,
            _ => 4.0,
        };
        let height: f32 = match rows {
            0..=30 if heads => 17.0,
            0..=30 => 20.0,
            31..=64 => 13.0,
            _ => 9.0,
        };
        let numbers = map.spelling();
        let fits = |digits: usize| width - 6.0 >= digits as f32 * 6.4 && height >= 13.0;
        let digits = [numbers.wide, numbers.narrow]
            .into_iter()
            .find(|&d| fits(d));
        let labels = facets().flat_map(|facet| &facet.rows);
        let left = labels
            .map(|label| text_width(label, LABEL))
            .fold(0.0, f32::max)
            + 8.0;
        let mut sizes = Self {
            cell: (width, height),
            seam: if width.min(height) >= 8.0 { 1.0 } else { 0.0 },
            numbers: digits.map(|digits| (numbers, digits)),
            factor: numbers.factor(),
            left: if heads {
                left.max(text_width("head", SMALL) + 8.0)
            } else {
                left
            },
            heads,
            turn: 0.0,
            every: 1,
            tips: facets().map(|facet| facet.cells.len()).sum::<usize>() <= TIPS,
        };
        let groups = || facets().flat_map(|facet| &facet.groups);
        let room = |group: &Group| group.columns.len() as f32 * width;
        // a single column among heads has room beside it
        let single = |group: &Group| heads && group.columns.len() == 1;
        let level = groups()
            .all(|group| single(group) || text_width(&group.label, LABEL) <= room(group) - 4.0);
        let narrowest = groups().map(room).fold(f32::INFINITY, f32::min);
        if !level {
            // slanted lines of text lie nearer to each other than their columns; upright ones as far apart
            let slanted = narrowest * -SLANT.to_radians().sin() >= LABEL;
            sizes.turn = if slanted { SLANT } else { -90.0 };
            sizes.every = match narrowest {
                room if room >= UPRIGHT => 1,
                room => ((UPRIGHT / room).ceil() as usize).next_multiple_of(5),
            };
        }
        if sizes.turn != 0.0 {
            // A turned label ends below its column and begins left of it.
            for facet in facets() {
                for (start, end, label) in sizes.spans(facet) {
                    let reach = text_width(&token(label), LABEL) * sizes.turn.to_radians().cos();
                    sizes.left = sizes.left.max(reach - (start + end) / 2.0);
                }
            }
        }
        sizes
    }

    /// Space between two positions.
    fn gap(&self) -> f32 {
        match (self.heads, self.cell.0) {
            (false, _) => 0.0,
            (true, width) if width >= 14.0 => 8.0,
            (true, _) => 5.0,
        }
    }

    /// Where each group begins and ends, from the left edge of the grid, with its label.
    fn spans<'a>(&self, facet: &'a Facet) -> Vec<(f32, f32, &'a str)> {
        let mut x = 0.0;
        let spans = facet.groups.iter().map(|group| {
            let start = x;
            let end = start + group.columns.len() as f32 * self.cell.0;
            x = end + self.gap();
            (start, end, group.label.as_str())
        });
        spans.collect()
    }

    fn grid_width(&self, facet: &Facet) -> f32 {
        self.spans(facet).last().map_or(0.0, |span| span.1)
    }

    fn facet_width(&self, facet: &Facet, map: &HeatMap) -> f32 {
        let heading = text_width(&facet.title, HEADING).max(clean_width(facet, map));
        self.left + self.grid_width(facet).max(heading.min(420.0))
    }
}

fn has_heads(facet: &Facet) -> bool {
    facet.groups.iter().any(|group| group.columns.len() > 1)
}

fn token(label: &str) -> String {
    cut(label, LABEL, TOKEN)
}

/// The clean probabilities of a facet: name and value.
fn clean(facet: &Facet, map: &HeatMap) -> impl Iterator<Item = (String, f64)> {
    [("base", facet.base), ("source", facet.source)]
        .into_iter()
        .filter_map(|(name, value)| Some((format!("{name} {}", map.say(value?)), value?)))
}

fn clean_width(facet: &Facet, map: &HeatMap) -> f32 {
    clean(facet, map)
        .map(|(text, _)| text_width(&text, LABEL) + 36.0)
        .sum()
}

/// A cell where nothing was run.
fn empty(scene: &mut Scene, x: f32, y: f32, width: f32, height: f32, seam: f32) {
    scene.rect(x, y, width - seam, height - seam, EMPTY);
    if width >= 8.0 && height >= 8.0 {
        scene.marks.push(Mark::Line {
            from: (x + 2.0, y + height - seam - 2.0),
            to: (x + width - seam - 2.0, y + 2.0),
            colour: RULE,
            width: 0.8,
        });
    }
}

/// Draws one facet with its upper left corner at (x, y); returns its right and lower edges.
fn draw_facet(
    scene: &mut Scene,
    facet: &Facet,
    map: &HeatMap,
    sizes: &Sizes,
    x: f32,
    y: f32,
) -> (f32, f32) {
    let left = x + sizes.left;
    let mut top = y + HEADING;
    scene.text((left, top), HEADING, Anchor::Start, INK, &facet.title);
    let mut right = left + text_width(&facet.title, HEADING);
    top += 5.0;
    if facet.base.is_some() || facet.source.is_some() {
        top += LABEL;
        let mut at = left;
        for (text, value) in clean(facet, map) {
            scene.text((at, top), LABEL, Anchor::Start, SOFT, &text);
            at += text_width(&text, LABEL) + 5.0;
            // A value beyond the scale has no colour of its own.
            if value >= map.scale.low && value <= map.scale.high {
                scene.rect(at, top - 9.5, 14.0, 11.0, map.scale.colour(value));
            }
            at += 31.0;
        }
        right = right.max(at - 17.0);
        top += 5.0;
    }
    top += 4.0;

    let (width, height) = sizes.cell;
    let spans = sizes.spans(facet);
    let bottom = top + facet.rows.len() as f32 * height;
    // Row labels, every so many where rows are lower than text.
    let every = (LABEL / height).ceil() as usize;
    let every = if every > 2 {
        every.next_multiple_of(5)
    } else {
        every
    };
    for (row, label) in facet.rows.iter().enumerate() {
        if row % every == 0 {
            let middle = bottom - (row as f32 + 0.5) * height;
            scene.text((left - 6.0, middle + 4.2), LABEL, Anchor::End, INK, label);
        }
    }

    for row in 0..facet.rows.len() {
        let y = bottom - (row + 1) as f32 * height;
        let mut column = 0;
        for (group, (start, _, _)) in facet.groups.iter().zip(&spans) {
            for (index, head) in group.columns.iter().enumerate() {
                let x = left + start + index as f32 * width;
                let tip = sizes.tips.then(|| {
                    let head = if head.is_empty() {
                        String::new()
                    } else {
                        format!(" head {head}")
                    };
                    format!("{}{head} {}", facet.rows[row], group.label)
                });
                draw_cell(scene, facet.cell(row, column), tip, map, sizes, (x, y));
                column += 1;
            }
        }
    }
    let low = draw_axis(scene, facet, sizes, left, bottom);
    (right.max(left + sizes.grid_width(facet)), low)
}

fn draw_cell(
    scene: &mut Scene,
    value: Option<f64>,
    tip: Option<String>,
    map: &HeatMap,
    sizes: &Sizes,
    (x, y): (f32, f32),
) {
    let (width, height) = sizes.cell;
    let Some(value) = value else {
        empty(scene, x, y, width, height, sizes.seam);
        return;
    };
    let fill = map.scale.colour(value);
    let cell = Mark::Rect {
        x,
        y,
        width: width - sizes.seam,
        height: height - sizes.seam,
        fill,
        tip: tip.map(|tip| format!("{tip}: {}", map.say(value))),
    };
    // Touching cells of one colour are one rectangle: a large sweep is mostly unchanged cells.
    match scene.marks.last_mut() {
        Some(Mark::Rect {
            x: last_x,
            y: last_y,
            width: last_width,
            fill: last_fill,
            tip: None,
            ..
        }) if sizes.seam == 0.0
            && !sizes.tips
            && *last_y == y
            && *last_fill == fill
            && (*last_x + *last_width - x).abs() < 0.01 =>
        {
            *last_width += width;
        }
        _ => scene.marks.push(cell),
    }
    if let Some((numbers, digits)) = &sizes.numbers {
        let text = numbers.cell(value, *digits);
        let place = (x + (width - sizes.seam) / 2.0, y + height / 2.0 + 3.4);
        scene.text(place, SMALL, Anchor::Middle, ink_on(fill), &text);
    }
}

/// Heads and tokens below the grid; returns the lower edge.
fn draw_axis(scene: &mut Scene, facet: &Facet, sizes: &Sizes, left: f32, bottom: f32) -> f32 {
    let width = sizes.cell.0;
    let spans = sizes.spans(facet);
    let mut y = bottom + 3.0;
    if has_heads(facet) {
        y += SMALL;
        let labels = facet.groups.iter().flat_map(|group| &group.columns);
        let longest = labels
            .map(|label| text_width(label, SMALL))
            .fold(0.0, f32::max);
        let every = ((longest + 3.0) / width).ceil() as usize;
        let every = if every > 2 {
            every.next_multiple_of(5)
        } else {
            every
        };
        scene.text((left - 6.0, y), SMALL, Anchor::End, SOFT, "head");
        for (group, (start, _, _)) in facet.groups.iter().zip(&spans) {
            for (index, label) in group.columns.iter().enumerate().step_by(every.max(1)) {
                let middle = left + start + (index as f32 + 0.5) * width;
                scene.text((middle, y), SMALL, Anchor::Middle, SOFT, label);
            }
        }
        y += 5.0;
        // A bracket holds the heads of one position together.
        for &(start, end, label) in &spans {
            if !label.is_empty() {
                scene.marks.push(Mark::Line {
                    from: (left + start, y),
                    to: (left + end - sizes.seam, y),
                    colour: SOFT,
                    width: 1.0,
                });
            }
        }
        y += 3.0;
    }
    if sizes.turn != 0.0 {
        let mut deepest: f32 = 0.0;
        // upright text hangs from the axis; slanted text starts a little right of its column
        let shift = if sizes.turn == SLANT {
            4.0
        } else {
            0.35 * LABEL
        };
        for &(start, end, label) in spans.iter().step_by(sizes.every) {
            let label = token(label);
            let at = (left + (start + end) / 2.0 + shift, y + 8.0);
            scene.turned(at, LABEL, Anchor::End, sizes.turn, INK, &label);
            deepest = deepest.max(text_width(&label, LABEL) * -sizes.turn.to_radians().sin());
        }
        return y + deepest + 14.0;
    }
    y += LABEL;
    for &(start, end, label) in &spans {
        let at = (left + (start + end) / 2.0, y);
        scene.text(at, LABEL, Anchor::Middle, INK, label);
    }
    y + 4.0
}

/// The scale, below the titles. Returns the page's y below it.
fn colour_bar(scene: &mut Scene, map: &HeatMap, name: &str, y: f32) -> f32 {
    let (low, high) = (map.scale.low, map.scale.high);
    let (length, height, steps) = (240.0, 12.0, 120);
    let left = MARGIN + text_width(name, LABEL) + 10.0;
    scene.text((MARGIN, y + 10.5), LABEL, Anchor::Start, INK, name);
    let step = length / steps as f32;
    for index in 0..steps {
        let at = (f64::from(index) + 0.5) / f64::from(steps);
        let x = left + index as f32 * step;
        scene.rect(x, y, step, height, map.scale.colour_at(at));
    }
    for (value, text) in ticks(low, high) {
        let x = left + length * ((value - low) / (high - low)) as f32;
        scene.marks.push(Mark::Line {
            from: (x, y + height),
            to: (x, y + height + 4.0),
            colour: SOFT,
            width: 1.0,
        });
        scene.text((x, y + height + 14.0), SMALL, Anchor::Middle, INK, &text);
    }
    let cells = || map.facets.iter().flat_map(|facet| &facet.cells);
    if cells().any(Option::is_none) {
        let x = left + length + 30.0;
        empty(scene, x, y, 18.0, height, 1.0);
        scene.text((x + 24.0, y + 10.5), LABEL, Anchor::Start, INK, map.empty);
    }
    y + height + 16.0
}

/// Round values for the scale's marks, about four of them, and the two ends in any case.
fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let span = high - low;
    let mut ticks = Vec::new();
    let unit = 10f64.powf((span / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * unit)
        .into_iter()
        .find(|step| span / step <= 5.0)
        .unwrap_or(span);
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let mut index = (low / step).ceil();
    while index * step <= high && ticks.len() < 12 {
        let value = index * step + 0.0;
        // The ends have marks of their own.
        if value - low > 0.12 * span && high - value > 0.12 * span {
            ticks.push((value, number(value, decimals)));
        }
        index += 1.0;
    }
    for end in [low, high] {
        ticks.push((end, number(end, decimals + 1)));
    }
    ticks
}

fn number(value: f64, decimals: usize) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value.abs() >= 1e6 || decimals > 6 || decimals > 3 && value.abs() < 1e-3 {
        format!("{value:.1e}")
    } else {
        let text = format!("{value:.decimals$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::colour::{Scale, Sides};
    use super::*;

    /// One facet of so many positions, each with so many heads.
    fn wide(positions: usize, heads: usize) -> HeatMap {
        let group = |position: usize| Group {
            label: "_Wednesday".into(),
            position: u32::try_from(position).ok(),
            columns: (0..heads).map(|head| head.to_string()).collect(),
        };
        HeatMap {
            title: Vec::new(),
            notes: Vec::new(),
            value: "probability".into(),
            whole: false,
            empty: "not run",
            scale: Scale::of([0.0, 1.0].into_iter(), Sides::FromZero),
            width: None,
            facets: vec![Facet {
                title: "_Madrid".into(),
                base: None,
                source: None,
                rows: vec!["v0".into()],
                groups: (0..positions).map(group).collect(),
                cells: vec![Some(0.5); positions * heads],
            }],
            per_row: 1,
        }
    }

    /// Lines of text along an axis are as far apart as they are high.
    #[test]
    fn tokens_do_not_overprint() {
        for (positions, heads) in [
            (5, 1),
            (15, 1),
            (30, 1),
            (64, 1),
            (150, 1),
            (64, 2),
            (20, 12),
        ] {
            let scene = scene(&wide(positions, heads));
            let labels = scene.marks.iter().filter_map(|mark| match mark {
                Mark::Text {
                    x,
                    y,
                    turn,
                    size,
                    text,
                    ..
                } if text == "_Wednesday" => Some((*x, *y, *turn, *size)),
                _ => None,
            });
            let labels: Vec<(f32, f32, f32, f32)> = labels.collect();
            assert!(labels.len() >= 5, "{positions} × {heads}");
            for pair in labels.windows(2) {
                let [(x, _, turn, size), (next, ..)] = pair else {
                    continue;
                };
                let between = match *turn {
                    0.0 => next - x - text_width("_Wednesday", *size) + size,
                    turn => (next - x) * -turn.to_radians().sin(),
                };
                assert!(
                    between >= *size,
                    "{positions} × {heads}: {between} < {size}"
                );
            }
        }
    }
}
