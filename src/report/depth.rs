//! How many colours a terminal shows, and a colour among so few.
//!
//! Nothing says it for certain; what terminals agree on is `COLORTERM` for 24 bits and the name in `TERM`, which
//! tells of 256 or of the first 16. These 16 are the user's own: xterm's are taken for the nearest.

use super::colour::{Rgb, ink_on};

/// How many colours there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ColourDepth {
    /// None.
    #[default]
    None,
    /// The 16 of ANSI.
    Sixteen,
    /// A cube of 6 × 6 × 6 and 24 greys.
    Indexed,
    /// 24 bits.
    Full,
}

/// Terminals that show 24 bits, by `TERM` alone.
const FULL: [&str; 7] = [
    "direct",
    "truecolor",
    "kitty",
    "alacritty",
    "ghostty",
    "wezterm",
    "foot",
];
/// Terminals without colours.
const PLAIN: [&str; 5] = ["dumb", "unknown", "vt100", "vt102", "vt220"];

const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// xterm's first 16.
const SIXTEEN: [Rgb; 16] = [
    [0, 0, 0],
    [205, 0, 0],
    [0, 205, 0],
    [205, 205, 0],
    [0, 0, 238],
    [205, 0, 205],
    [0, 205, 205],
    [229, 229, 229],
    [127, 127, 127],
    [255, 0, 0],
    [0, 255, 0],
    [255, 255, 0],
    [92, 92, 255],
    [255, 0, 255],
    [0, 255, 255],
    [255, 255, 255],
];

impl ColourDepth {
    /// What `TERM` and `COLORTERM` say.
    #[must_use]
    pub fn of(term: Option<&str>, colorterm: Option<&str>) -> Self {
        let term = term.unwrap_or_default().to_ascii_lowercase();
        let colorterm = colorterm.unwrap_or_default().to_ascii_lowercase();
        if term.is_empty() || PLAIN.contains(&&*term) {
            return Self::None;
        }
        // screen hands COLORTERM on and does not show what it promises
        let full = ["truecolor", "24bit"].contains(&&*colorterm) && !term.starts_with("screen");
        if full || FULL.iter().any(|name| term.contains(name)) {
            return Self::Full;
        }
        match term.contains("256color") || !colorterm.is_empty() {
            true => Self::Indexed,
            false => Self::Sixteen,
        }
    }

    /// The codes of an escape for characters on a background.
    pub(super) fn codes(self, ink: Option<Rgb>, ground: Option<Rgb>) -> String {
        let near = |colour: Option<Rgb>| colour.map(|colour| self.nearest(colour));
        let ground = near(ground);
        // black or white as the background that is shown asks for it
        let ink = match (ink, ground) {
            (Some(_), Some((_, shown))) => near(Some(ink_on(shown))),
            (ink, _) => near(ink),
        };
        let code = |found: Option<(usize, Rgb)>, base: usize| {
            let Some((index, [r, g, b])) = found else {
                return String::new();
            };
            match (self, index) {
                (Self::None, _) => String::new(),
                (Self::Sixteen, 0..8) => format!(";{}", base + index),
                (Self::Sixteen, _) => format!(";{}", base + 60 + index - 8),
                (Self::Indexed, _) => format!(";{};5;{index}", base + 8),
                (Self::Full, _) => format!(";{};2;{r};{g};{b}", base + 8),
            }
        };
        code(ink, 30) + &code(ground, 40)
    }

    /// The nearest colour that there is: its index among them, and itself.
    fn nearest(self, colour: Rgb) -> (usize, Rgb) {
        let far = |other: &Rgb| -> i32 {
            let squares = colour
                .iter()
                .zip(other)
                .map(|(a, b)| (i32::from(*a) - i32::from(*b)).pow(2));
            squares.sum()
        };
        let of =
            |all: &mut dyn Iterator<Item = (usize, Rgb)>| all.min_by_key(|(_, other)| far(other));
        let found = match self {
            Self::None | Self::Full => None,
            Self::Sixteen => of(&mut SIXTEEN.into_iter().enumerate()),
            Self::Indexed => {
                let cube =
                    (0..216).map(|i| (16 + i, [i / 36, i / 6 % 6, i % 6].map(|at| STEPS[at])));
                let greys = (0..24usize).map(|i| (232 + i, [8 + 10 * i as u8; 3]));
                of(&mut cube.chain(greys))
            }
        };
        found.unwrap_or((0, colour))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_what_they_say() {
        let of = |term, colorterm| ColourDepth::of(Some(term), Some(colorterm));
        for (term, colorterm, depth) in [
            ("xterm-256color", "truecolor", ColourDepth::Full),
            ("xterm-256color", "24bit", ColourDepth::Full),
            ("xterm-256color", "", ColourDepth::Indexed),
            ("tmux-256color", "", ColourDepth::Indexed),
            ("screen.xterm-256color", "truecolor", ColourDepth::Indexed),
            ("xterm-kitty", "", ColourDepth::Full),
            ("xterm-direct", "", ColourDepth::Full),
            ("xterm", "", ColourDepth::Sixteen),
            ("linux", "", ColourDepth::Sixteen),
            ("xterm", "yes", ColourDepth::Indexed),
            ("dumb", "truecolor", ColourDepth::None),
            ("vt100", "", ColourDepth::None),
            ("", "truecolor", ColourDepth::None),
        ] {
            assert_eq!(of(term, colorterm), depth, "{term} {colorterm}");
        }
        assert_eq!(ColourDepth::of(None, Some("truecolor")), ColourDepth::None);
    }

    #[test]
    fn colours_are_the_nearest_that_there_are() {
        let codes = |depth: ColourDepth, ground| depth.codes(Some([0; 3]), Some(ground));
        let yellow = [0xfd, 0xe7, 0x25];
        assert_eq!(
            codes(ColourDepth::Full, yellow),
            ";38;2;0;0;0;48;2;253;231;37"
        );
        assert_eq!(codes(ColourDepth::Indexed, yellow), ";38;5;16;48;5;220");
        assert_eq!(codes(ColourDepth::Sixteen, yellow), ";30;103");
        assert_eq!(codes(ColourDepth::Sixteen, [255, 255, 255]), ";30;107");
        // letters are seen on what is shown
        assert_eq!(codes(ColourDepth::Sixteen, [0, 0, 100]), ";97;40");
        assert_eq!(
            ColourDepth::Indexed.codes(None, Some([8, 8, 8])),
            ";48;5;232"
        );
        assert_eq!(codes(ColourDepth::None, yellow), "");
    }
}
