//! The scale of a figure: a bar of its colours with round values marked.

use super::figure::{INK, LABEL, MARGIN, SMALL, SOFT, empty};
use super::heatmap::HeatMap;
use super::scene::{Anchor, Mark, Scene, text_width};

/// The scale, below the titles. Returns the page's y below it.
pub(super) fn colour_bar(scene: &mut Scene, map: &HeatMap, name: &str, y: f32) -> f32 {
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
        scene.text((x + 24.0, y + 10.5), LABEL, Anchor::Start, INK, "not run");
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
    } else if decimals > 3 || value.abs() >= 1e6 {
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
