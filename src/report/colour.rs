//! From a value to a colour.
//!
//! What is counted from one end (probabilities, KL, ranks) takes viridis: its lightness rises evenly, so order
//! survives colour blindness and grey printing, and neither end is white, so an empty cell cannot be taken
//! for a low one. What has two sides (changes, logit differences, recoveries) takes ColorBrewer's RdBu around
//! zero, red below and blue above, as the field plots them, whatever signs a sweep happens to find: a metric
//! looks alike in every figure.

use std::fmt;
use std::str::FromStr;

use crate::results::metric::{Metric, Quantity};

/// A colour in sRGB.
pub type Rgb = [u8; 3];

/// A sequence of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourMap {
    /// From dark violet to yellow.
    Viridis,
    /// From red over white to blue, white in the middle.
    RedBlue,
    /// From white to dark purple, as ROME draws causal traces.
    Purples,
    /// From white to black.
    Greys,
}

const COLOUR_MAPS: [(&str, ColourMap); 4] = [
    ("viridis", ColourMap::Viridis),
    ("rdbu", ColourMap::RedBlue),
    ("purples", ColourMap::Purples),
    ("greys", ColourMap::Greys),
];

/// A name that no [`ColourMap`] has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no colour map: use viridis, rdbu, purples or greys")]
pub struct UnknownColourMap(String);

impl FromStr for ColourMap {
    type Err = UnknownColourMap;

    fn from_str(name: &str) -> Result<Self, UnknownColourMap> {
        let found = COLOUR_MAPS.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, map)| *map)
            .ok_or_else(|| UnknownColourMap(name.to_owned()))
    }
}

impl fmt::Display for ColourMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = COLOUR_MAPS.iter().find(|(_, map)| map == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// How values become colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Value of the lowest colour.
    pub low: f64,
    /// Value of the highest colour.
    pub high: f64,
    /// The colours between them.
    pub map: ColourMap,
}

/// What a column's values are like, whichever are in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Zero is the low end: a probability.
    FromZero,
    /// Zero is the middle: a change, a difference.
    Two,
    /// Zero is nothing special: a logit.
    One,
    /// Unknown: as the values' signs are.
    AsFound,
}

impl Sides {
    /// Of a column, by its name.
    #[must_use]
    pub fn of(column: &str) -> Self {
        // what attribution estimates, and runs beside it
        if ["score", "exact"].contains(&column) {
            return Self::Two;
        }
        match column.parse::<Metric>() {
            Ok(metric) if metric.recovery => Self::Two,
            Ok(metric) => match metric.quantity {
                Quantity::LogitDiff | Quantity::ProbDiff => Self::Two,
                Quantity::Logit | Quantity::Logprob => Self::One,
                _ => Self::FromZero,
            },
            Err(_) => Self::AsFound,
        }
    }
}

const VIRIDIS: [Rgb; 9] = [
    [0x44, 0x01, 0x54],
    [0x47, 0x2d, 0x7b],
    [0x3b, 0x52, 0x8b],
    [0x2c, 0x72, 0x8e],
    [0x21, 0x91, 0x8c],
    [0x28, 0xae, 0x80],
    [0x5e, 0xc9, 0x62],
    [0xad, 0xdc, 0x30],
    [0xfd, 0xe7, 0x25],
];

const RED_BLUE: [Rgb; 9] = [
    [0xb2, 0x18, 0x2b],
    [0xd6, 0x60, 0x4d],
    [0xf4, 0xa5, 0x82],
    [0xfd, 0xdb, 0xc7],
    [0xf7, 0xf7, 0xf7],
    [0xd1, 0xe5, 0xf0],
    [0x92, 0xc5, 0xde],
    [0x43, 0x93, 0xc3],
    [0x21, 0x66, 0xac],
];

const PURPLES: [Rgb; 9] = [
    [0xfc, 0xfb, 0xfd],
    [0xef, 0xed, 0xf5],
    [0xda, 0xda, 0xeb],
    [0xbc, 0xbd, 0xdc],
    [0x9e, 0x9a, 0xc8],
    [0x80, 0x7d, 0xba],
    [0x6a, 0x51, 0xa3],
    [0x54, 0x27, 0x8f],
    [0x3f, 0x00, 0x7d],
];

const GREYS: [Rgb; 9] = [
    [0xff, 0xff, 0xff],
    [0xf0, 0xf0, 0xf0],
    [0xd9, 0xd9, 0xd9],
    [0xbd, 0xbd, 0xbd],
    [0x96, 0x96, 0x96],
    [0x73, 0x73, 0x73],
    [0x52, 0x52, 0x52],
    [0x25, 0x25, 0x25],
    [0x00, 0x00, 0x00],
];

impl Scale {
    /// The scale for these values; those that are not finite do not count.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f64>, sides: Sides) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let both = low < 0.0 && high > 0.0;
        if sides == Sides::Two || sides == Sides::AsFound && both {
            let reach = match high.max(-low) {
                0.0 => 1.0,
                reach => reach,
            };
            return Self {
                low: -reach,
                high: reach,
                map: ColourMap::RedBlue,
            };
        }
        // Starting at zero is honest, unless all there is to see happens far above it.
        let near = match sides {
            Sides::One => false,
            _ => sides == Sides::FromZero || low < 0.5 * high,
        };
        if low >= 0.0 && near && (high - low) >= 0.1 * high {
            low = 0.0;
        }
        if low == high {
            // One value: any range around it is as good as another.
            (low, high) = match high {
                0.0 => (0.0, 1.0),
                _ if high > 0.0 => (0.0, high),
                _ => (low, 0.0),
            };
        }
        Self {
            low,
            high,
            map: ColourMap::Viridis,
        }
    }

    /// Where `value` lies between the ends, from 0 to 1.
    #[must_use]
    pub fn fraction(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// The colour of `value`; values beyond the ends take the end's.
    #[must_use]
    pub fn colour(&self, value: f64) -> Rgb {
        self.colour_at(self.fraction(value))
    }

    /// The colour at a fraction of the range.
    #[must_use]
    pub fn colour_at(&self, fraction: f64) -> Rgb {
        let stops = match self.map {
            ColourMap::Viridis => VIRIDIS,
            ColourMap::RedBlue => RED_BLUE,
            ColourMap::Purples => PURPLES,
            ColourMap::Greys => GREYS,
        };
        let place = fraction.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let index = (place as usize).min(stops.len() - 2);
        let share = place - index as f64;
        let (from, to) = (stops[index], stops[index + 1]);
        std::array::from_fn(|channel| {
            let (from, to) = (f64::from(from[channel]), f64::from(to[channel]));
            (from + (to - from) * share).round() as u8
        })
    }
}

/// Black or white, whichever reads better on `background`.
#[must_use]
pub fn ink_on(background: Rgb) -> Rgb {
    let linear = |channel: u8| {
        let value = f64::from(channel) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    };
    let [r, g, b] = background.map(linear);
    // The luminance at which the contrast ratios with black and with white are equal.
    if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 {
        [0, 0, 0]
    } else {
        [255, 255, 255]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_start_at_zero_unless_all_are_alike() {
        let of = |values: &[f64]| Scale::of(values.iter().copied(), Sides::FromZero);
        assert_eq!(of(&[0.05, 0.2]).low, 0.0);
        assert_eq!(of(&[0.95, 1.0]).low, 0.95);
        let none = of(&[f64::NAN]);
        assert_eq!((none.low, none.high), (0.0, 1.0));
        let same = of(&[0.3, 0.3]);
        assert!(same.low < same.high);
    }

    #[test]
    fn two_sided_values_are_centred_whatever_their_signs() {
        for values in [[-1.0, 3.0], [1.0, 3.0], [-3.0, -1.0]] {
            let scale = Scale::of(values.into_iter(), Sides::of("logit_diff"));
            assert_eq!((scale.low, scale.high), (-3.0, 3.0));
            assert_eq!(scale.map, ColourMap::RedBlue);
            assert_eq!(scale.colour(0.0), [0xf7, 0xf7, 0xf7]);
        }
        let nothing = Scale::of([0.0].into_iter(), Sides::Two);
        assert!(nothing.low < nothing.high);
        // what nobody here knows goes by its signs
        let unknown = |values: [f64; 2]| Scale::of(values.into_iter(), Sides::of("mine")).map;
        assert_eq!(unknown([1.0, 3.0]), ColourMap::Viridis);
        assert_eq!(unknown([-1.0, 3.0]), ColourMap::RedBlue);
        let logits = Scale::of([-90.0, -80.0].into_iter(), Sides::of("logit"));
        assert_eq!((logits.low, logits.high), (-90.0, -80.0));
    }

    #[test]
    fn lightness_goes_one_way_from_end_to_end() {
        let light =
            |[r, g, b]: Rgb| 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
        for (map, falls) in [
            (ColourMap::Viridis, false),
            (ColourMap::Purples, true),
            (ColourMap::Greys, true),
        ] {
            let (low, high) = (0.0, 1.0);
            let scale = Scale { low, high, map };
            let steps = (0..=64).map(|i| light(scale.colour(f64::from(i) / 64.0)));
            let mut steps: Vec<f64> = steps.collect();
            if falls {
                steps.reverse();
            }
            assert!(steps.is_sorted(), "{map}");
            assert_eq!(map.to_string().parse(), Ok(map));
        }
    }
}
