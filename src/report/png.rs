//! A figure as PNG, two pixels to each of the layout's, painted by tiny-skia.

use std::path::Path;

use tiny_skia::{Color, FillRule, Paint, PathBuilder, Pixmap, Rect, Stroke, Transform};
use ttf_parser::OutlineBuilder;

use super::ReportError;
use super::colour::Rgb;
use super::scene::{Mark, Scene, advance, face, glyph};
use crate::files::error::FileError;

/// The longest side of a picture, in pixels.
const LIMIT: f32 = 16_384.0;

/// The figure as a PNG file; `path` is for messages.
pub(super) fn picture(scene: &Scene, path: &Path) -> Result<Vec<u8>, ReportError> {
    let longest = scene.width.max(scene.height);
    // A large sweep at single density is better than none.
    let density = if longest * 2.0 <= LIMIT { 2.0 } else { 1.0 };
    let (width, height) = (scene.width * density, scene.height * density);
    let pixmap = if longest * density <= LIMIT {
        Pixmap::new(width.ceil() as u32, height.ceil() as u32)
    } else {
        None
    };
    let mut pixmap = pixmap.ok_or(ReportError::TooLarge {
        width: width as u64,
        height: height as u64,
        limit: LIMIT as u64,
        advice: "write .svg, which has no limit, or sweep fewer heads or positions",
    })?;
    pixmap.fill(Color::WHITE);
    let scale = Transform::from_scale(density, density);
    for mark in &scene.marks {
        paint(&mut pixmap, mark, scale);
    }
    let encoded = pixmap.encode_png().map_err(std::io::Error::other);
    Ok(encoded.map_err(FileError::write_to(path))?)
}

fn paint(pixmap: &mut Pixmap, mark: &Mark, scale: Transform) {
    match mark {
        Mark::Rect {
            x,
            y,
            width,
            height,
            fill,
            ..
        } => {
            if let Some(rect) = Rect::from_xywh(*x, *y, *width, *height) {
                let mut paint = ink(*fill);
                // Cells meet on pixel edges; smoothing would leave a seam where they do not.
                paint.anti_alias = false;
                pixmap.fill_rect(rect, &paint, scale, None);
            }
        }
        Mark::Line {
            from,
            to,
            colour,
            width,
        } => {
            let mut line = PathBuilder::new();
            line.move_to(from.0, from.1);
            line.line_to(to.0, to.1);
            if let Some(line) = line.finish() {
                let stroke = Stroke {
                    width: *width,
                    ..Stroke::default()
                };
                pixmap.stroke_path(&line, &ink(*colour), &stroke, scale, None);
            }
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
            let back = anchor.before(text, *size);
            let em = size / f32::from(face().units_per_em());
            let mut outline = Outline {
                path: PathBuilder::new(),
                pen: -back,
                em,
            };
            for c in text.chars() {
                face().outline_glyph(glyph(c), &mut outline);
                outline.pen += advance(c) * size;
            }
            // Text of spaces alone has no outline.
            if let Some(path) = outline.path.finish() {
                let place = scale.pre_translate(*x, *y).pre_rotate(*turn);
                pixmap.fill_path(&path, &ink(*colour), FillRule::Winding, place, None);
            }
        }
    }
}

fn ink([r, g, b]: Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint.anti_alias = true;
    paint
}

/// Collects glyph outlines into one path, left to right from `pen`, y downward.
struct Outline {
    path: PathBuilder,
    pen: f32,
    em: f32,
}

impl Outline {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.pen + x * self.em, -y * self.em)
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
