//! From a value to a colour.
//!
//! One-sided values (probabilities, KL) take viridis: its lightness rises evenly, so order survives
//! colour blindness and grey printing, and neither end is white, so an empty cell cannot be taken
//! for a low one. Two-sided ones (logit differences) take ColorBrewer's RdBu around zero, red below
//! and blue above, as the field plots them.

/// A colour in sRGB.
pub type Rgb = [u8; 3];

/// How values become colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Value of the lowest colour.
    pub low: f64,
    /// Value of the highest colour.
    pub high: f64,
    /// Whether zero is the middle and the two sides differ in hue.
    pub diverging: bool,
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

impl Scale {
    /// The scale for these values; those that are not finite do not count. `probability` says that
    /// zero is the natural low end even if no value is near it.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f64>, probability: bool) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low < 0.0 && high > 0.0 {
            let reach = high.max(-low);
            return Self {
                low: -reach,
                high: reach,
                diverging: true,
            };
        }
        // Starting at zero is honest, unless all there is to see happens far above it.
        if low >= 0.0 && (probability || low < 0.5 * high) && (high - low) >= 0.1 * high {
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
            diverging: false,
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
        let stops = if self.diverging { RED_BLUE } else { VIRIDIS };
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
        assert_eq!(Scale::of([0.05, 0.2].into_iter(), true).low, 0.0);
        assert_eq!(Scale::of([0.95, 1.0].into_iter(), true).low, 0.95);
        let none = Scale::of([f64::NAN].into_iter(), true);
        assert_eq!((none.low, none.high), (0.0, 1.0));
        let same = Scale::of([0.3, 0.3].into_iter(), true);
        assert!(same.low < same.high);
    }

    #[test]
    fn two_sided_values_are_centred() {
        let scale = Scale::of([-1.0, 3.0].into_iter(), false);
        assert!(scale.diverging);
        assert_eq!(scale.colour(0.0), [0xf7, 0xf7, 0xf7]);
    }

    #[test]
    fn lightness_rises_from_end_to_end() {
        let scale = Scale {
            low: 0.0,
            high: 1.0,
            diverging: false,
        };
        let light =
            |[r, g, b]: Rgb| 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
        let steps = (0..=64).map(|i| light(scale.colour(f64::from(i) / 64.0)));
        assert!(steps.collect::<Vec<_>>().is_sorted());
    }
}
