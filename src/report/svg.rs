//! A figure as SVG: rectangles, lines, and text that stays text.
//!
//! Each text states the width it was laid out for, so that a viewer without DejaVu Sans fits its
//! own font into the same place.

use std::fmt::Write as _;

use super::colour::Rgb;
use super::scene::{Anchor, Mark, Scene, text_width};

/// The figure as an SVG document.
pub(super) fn document(scene: &Scene) -> String {
    let mut out = String::new();
    let (width, height) = (scene.width, scene.height);
    // Writing to a string cannot fail, so the results of `write!` are dropped throughout.
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="'DejaVu Sans', Verdana, sans-serif">"#
    );
    let _ = writeln!(
        out,
        r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##
    );
    for mark in &scene.marks {
        match mark {
            Mark::Rect {
                x,
                y,
                width,
                height,
                fill,
                tip,
            } => {
                let _ = write!(
                    out,
                    r#"<rect x="{}" y="{}" width="{}" height="{}" fill="{}""#,
                    Short(*x),
                    Short(*y),
                    Short(*width),
                    Short(*height),
                    hex(*fill)
                );
                let _ = match tip {
                    Some(tip) => writeln!(out, "><title>{}</title></rect>", escape(tip)),
                    None => writeln!(out, "/>"),
                };
            }
            Mark::Line {
                from,
                to,
                colour,
                width,
            } => {
                let _ = writeln!(
                    out,
                    r#"<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{}" stroke-width="{width}"/>"#,
                    Short(from.0),
                    Short(from.1),
                    Short(to.0),
                    Short(to.1),
                    hex(*colour)
                );
            }
            Mark::Text {
                x,
                y,
                size,
                anchor,
                turn,
                colour,
                text,
            } => {
                let anchor = match anchor {
                    Anchor::Start => "",
                    Anchor::Middle => r#" text-anchor="middle""#,
                    Anchor::End => r#" text-anchor="end""#,
                };
                let (x, y) = (Short(*x), Short(*y));
                let _ = write!(
                    out,
                    r#"<text x="{x}" y="{y}" font-size="{size}"{anchor} fill="{}" textLength="{}" lengthAdjust="spacingAndGlyphs" xml:space="preserve""#,
                    hex(*colour),
                    Short(text_width(text, *size))
                );
                if *turn != 0.0 {
                    let _ = write!(out, r#" transform="rotate({turn} {x} {y})""#);
                }
                let _ = writeln!(out, ">{}</text>", escape(text));
            }
        }
    }
    out.push_str("</svg>\n");
    out
}

/// A length to a hundredth of a pixel, without trailing zeros.
struct Short(f32);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", (f64::from(self.0) * 100.0).round() / 100.0)
    }
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Text as XML; characters that XML forbids become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}
