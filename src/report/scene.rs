//! The few marks a figure is made of, and the font that measures and draws its text.
//!
//! A figure is laid out once into a [`Scene`] and then written as SVG or painted as PNG, so the two
//! cannot differ. DejaVu Sans is in the binary: nothing is looked up on the machine.

use std::sync::OnceLock;

use ttf_parser::{Face, GlyphId};

use super::colour::Rgb;

/// Which point of a text its position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

// an SVG says where its text is anchored; formats that cannot are given where it begins
#[cfg(any(feature = "pdf", feature = "png"))]
impl Anchor {
    /// How far before its position a text of a size begins.
    pub(super) fn before(self, text: &str, size: f32) -> f32 {
        match self {
            Self::Start => 0.0,
            Self::Middle => text_width(text, size) / 2.0,
            Self::End => text_width(text, size),
        }
    }
}

/// One thing to draw. Lengths are in CSS pixels.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    Rect {
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        fill: Rgb,
        /// What a pointer resting on it shows, where the format can.
        tip: Option<String>,
    },
    Line {
        from: (f32, f32),
        to: (f32, f32),
        colour: Rgb,
        width: f32,
    },
    Text {
        x: f32,
        /// The baseline.
        y: f32,
        size: f32,
        anchor: Anchor,
        /// Degrees clockwise about (x, y).
        turn: f32,
        colour: Rgb,
        text: String,
    },
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Scene {
    pub(super) width: f32,
    pub(super) height: f32,
    pub(super) marks: Vec<Mark>,
}

impl Scene {
    /// Adds level text; characters that the font lacks become escapes.
    pub(super) fn text(
        &mut self,
        (x, y): (f32, f32),
        size: f32,
        anchor: Anchor,
        colour: Rgb,
        text: &str,
    ) {
        self.turned((x, y), size, anchor, 0.0, colour, text);
    }

    /// Adds text turned about its anchor.
    pub(super) fn turned(
        &mut self,
        (x, y): (f32, f32),
        size: f32,
        anchor: Anchor,
        turn: f32,
        colour: Rgb,
        text: &str,
    ) {
        if !text.is_empty() {
            self.marks.push(Mark::Text {
                x,
                y,
                size,
                anchor,
                turn,
                colour,
                text: drawable(text),
            });
        }
    }

    /// The same, larger or smaller by a factor.
    pub(super) fn scaled(mut self, by: f32) -> Self {
        self.width *= by;
        self.height *= by;
        for mark in &mut self.marks {
            let lengths: &mut [&mut f32] = match mark {
                Mark::Rect {
                    x,
                    y,
                    width,
                    height,
                    ..
                } => &mut [x, y, width, height],
                Mark::Line {
                    from, to, width, ..
                } => &mut [&mut from.0, &mut from.1, &mut to.0, &mut to.1, width],
                Mark::Text { x, y, size, .. } => &mut [x, y, size],
            };
            lengths.iter_mut().for_each(|length| **length *= by);
        }
        self
    }

    /// Adds a filled rectangle.
    pub(super) fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, fill: Rgb) {
        self.marks.push(Mark::Rect {
            x,
            y,
            width,
            height,
            fill,
            tip: None,
        });
    }
}

/// The font, parsed once.
pub(super) fn face() -> &'static Face<'static> {
    static FACE: OnceLock<Face<'static>> = OnceLock::new();
    FACE.get_or_init(|| {
        Face::parse(dejavu::sans::regular(), 0).expect("the font in the binary is a font")
    })
}

/// A character's glyph; the font's box for one it lacks.
pub(super) fn glyph(c: char) -> GlyphId {
    face().glyph_index(c).unwrap_or_default()
}

/// How far a character moves the pen, for text one pixel high.
pub(super) fn advance(c: char) -> f32 {
    let face = face();
    let units = face.glyph_hor_advance(glyph(c)).unwrap_or_default();
    f32::from(units) / f32::from(face.units_per_em())
}

/// The width of `text` at a size, as it will be drawn.
pub(super) fn text_width(text: &str, size: f32) -> f32 {
    drawable(text).chars().map(advance).sum::<f32>() * size
}

/// `text` with characters that the font lacks as `\u{…}`, in SVG too, so that both files say the
/// same.
fn drawable(text: &str) -> String {
    let face = face();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if face.glyph_index(c).is_some() {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// Breaks text at spaces into lines no wider than `limit`.
pub(super) fn wrap(text: &str, size: f32, limit: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_inclusive(' ') {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line}{}", word.trim_end()), size) <= limit => {
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `text` cut to a width, the last character `…` where something is missing.
pub(super) fn cut(text: &str, size: f32, limit: f32) -> String {
    if text_width(text, size) <= limit {
        return text.to_owned();
    }
    let mut short = text.to_owned();
    while !short.is_empty() && text_width(&format!("{short}…"), size) > limit {
        short.pop();
    }
    short.push('…');
    short
}
