//! A canvas of styled characters, and how it becomes lines: with escapes where there is colour, as
//! plain text where there is none.

use std::io::{self, Write};

use super::colour::Rgb;
use super::depth::ColourDepth;
use super::labels::{shorten, width};

/// Breaks a line at spaces so that it fits.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let wide = width(word.trim_end_matches(' '));
        if used > 0 && used + wide > columns {
            lines.push("    ".to_owned());
            used = 4;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(&shorten(word, columns.saturating_sub(4)));
        }
        used += width(word);
    }
    for line in &mut lines {
        line.truncate(line.trim_end_matches(' ').len());
    }
    lines
}

/// How a character looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Style {
    pub(super) ink: Option<Rgb>,
    pub(super) ground: Option<Rgb>,
    pub(super) bold: bool,
    pub(super) dim: bool,
    /// Left out where there are colours enough to say it.
    pub(super) plain_only: bool,
}

impl Style {
    pub(super) const PLAIN: Self = Self {
        ink: None,
        ground: None,
        bold: false,
        dim: false,
        plain_only: false,
    };
    pub(super) const BOLD: Self = Self {
        bold: true,
        ..Self::PLAIN
    };
    pub(super) const DIM: Self = Self {
        dim: true,
        ..Self::PLAIN
    };

    fn escape(self, depth: ColourDepth) -> String {
        let mut codes = "\x1b[0".to_owned();
        if self.bold {
            codes.push_str(";1");
        }
        if self.dim {
            codes.push_str(";2");
        }
        codes.push_str(&depth.codes(self.ink, self.ground));
        codes.push('m');
        codes
    }
}

/// Styled characters. A character two columns wide is followed by `None`.
#[derive(Default, Clone)]
pub(super) struct Canvas {
    lines: Vec<Vec<(Option<char>, Style)>>,
}

impl Canvas {
    fn put(&mut self, x: usize, y: usize, c: Option<char>, style: Style) {
        if self.lines.len() <= y {
            self.lines.resize(y + 1, Vec::new());
        }
        let line = &mut self.lines[y];
        if line.len() <= x {
            line.resize(x + 1, (Some(' '), Style::PLAIN));
        }
        line[x] = (c, style);
    }

    pub(super) fn text(&mut self, x: usize, y: usize, text: &str, style: Style) {
        let mut x = x;
        for c in text.chars() {
            self.put(x, y, Some(c), style);
            let wide = width(c.encode_utf8(&mut [0; 4]));
            for extra in 1..wide {
                self.put(x + extra, y, None, style);
            }
            x += wide.max(1);
        }
    }

    pub(super) fn swatch(&mut self, x: usize, y: usize, width: usize, ground: Rgb) {
        let style = Style {
            ground: Some(ground),
            ..Style::PLAIN
        };
        for x in x..x + width {
            self.put(x, y, Some(' '), style);
        }
    }

    pub(super) fn width(&self) -> usize {
        self.lines.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Sets panels side by side, their last lines level, so that axes line up.
    pub(super) fn join(panels: &[Self], gutter: usize) -> Self {
        let height = panels
            .iter()
            .map(|panel| panel.lines.len())
            .max()
            .unwrap_or(0);
        let mut page = Self::default();
        let mut left = 0;
        for panel in panels {
            let down = height - panel.lines.len();
            for (y, line) in panel.lines.iter().enumerate() {
                for (x, &(c, style)) in line.iter().enumerate() {
                    page.put(left + x, down + y, c, style);
                }
            }
            left += panel.width() + gutter;
        }
        page
    }

    pub(super) fn write(&self, out: &mut dyn Write, depth: ColourDepth) -> io::Result<()> {
        let colour = depth > ColourDepth::None;
        for line in &self.lines {
            let mut text = String::new();
            let mut current = Style::PLAIN;
            for &(c, style) in line {
                let Some(c) = c else { continue };
                if colour && style != current {
                    text.push_str(&style.escape(depth));
                    current = style;
                }
                let said = style.plain_only && depth > ColourDepth::Sixteen;
                text.push(if said { ' ' } else { c });
            }
            if current != Style::PLAIN {
                text.push_str("\x1b[0m");
            }
            // Trailing blanks are nothing to see, unless they are coloured.
            writeln!(out, "{}", text.trim_end_matches(' '))?;
        }
        Ok(())
    }
}
