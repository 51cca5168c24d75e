//! Numbers as a person reads them: two or three digits in a cell, four where there is room.

/// How the cells of one heat map spell their values, all alike so that columns line up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CellSpelling {
    /// Cells hold value / 10^exponent.
    pub(super) exponent: i32,
    decimals: usize,
    /// The least width in which the digits that matter still fit.
    pub(super) narrow: usize,
    /// The width with every digit.
    pub(super) wide: usize,
}

impl CellSpelling {
    /// A spelling for whole numbers, such as ranks, between `low` and `high`.
    pub(super) fn whole(low: f64, high: f64) -> Self {
        let digits = |end: f64| format!("{end:.0}").len();
        let width = digits(low).max(digits(high));
        Self {
            exponent: 0,
            decimals: 0,
            narrow: width,
            wide: width,
        }
    }

    /// A spelling for values between `low` and `high`.
    pub(super) fn of(low: f64, high: f64) -> Self {
        let reach = low.abs().max(high.abs());
        let sign = usize::from(low < 0.0);
        let (exponent, reach) = if reach > 0.0 && !(0.01..1000.0).contains(&reach) {
            let exponent = reach.log10().floor() as i32;
            (exponent, reach / 10f64.powi(exponent))
        } else {
            (0, reach)
        };
        // `.105` and `.11`; `.047` has no digit to spare; `7.25` and `7.2`; `31.4` and `31`.
        let (decimals, narrow, wide) = match reach {
            r if r < 0.1 => (3, 4, 4),
            r if r < 1.0 => (3, 3, 4),
            r if r < 1.005 => (3, 3, 5),
            r if r < 10.0 => (2, 3, 4),
            r if r < 100.0 => (1, 2, 4),
            _ => (0, 3, 3),
        };
        Self {
            exponent,
            decimals,
            narrow: narrow + sign,
            wide: wide + sign,
        }
    }

    /// The value in at most `width` characters, with fewer decimals where it must be.
    pub(super) fn cell(&self, value: f64, width: usize) -> String {
        if value.is_infinite() {
            return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
        }
        let scaled = value / 10f64.powi(self.exponent);
        let mut text = String::new();
        for decimals in (0..=self.decimals).rev() {
            text = format!("{scaled:.decimals$}");
            if let Some(rest) = text.strip_prefix("0.") {
                text = format!(".{rest}");
            } else if let Some(rest) = text.strip_prefix("-0.") {
                text = format!("-.{rest}");
            }
            // Rounding may leave a minus before nothing.
            if text.starts_with("-.") && text[2..].bytes().all(|digit| digit == b'0') {
                text.remove(0);
            }
            if text.len() <= width {
                break;
            }
        }
        text
    }

    /// What the legend says about the factor: nothing, or ` × 1e-4`.
    pub(super) fn factor(&self) -> String {
        match self.exponent {
            0 => String::new(),
            exponent => format!(" × 1e{exponent}"),
        }
    }
}

/// A number in running text, about four digits.
pub(crate) fn plain(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !value.is_finite() {
        format!("{value}")
    } else if !(0.001..10_000.0).contains(&size) {
        format!("{value:.2e}")
    } else if size < 10.0 {
        format!("{value:.4}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_line_up() {
        let numbers = CellSpelling::of(0.0, 0.157);
        assert_eq!(numbers.cell(0.10501, 4), ".105");
        assert_eq!(numbers.cell(0.10501, 3), ".11");
        assert_eq!(numbers.cell(0.0, 4), ".000");
        let numbers = CellSpelling::of(0.0, 1.0);
        assert_eq!(numbers.cell(0.99999, 3), "1.0");
        assert_eq!(numbers.cell(0.99999, 5), "1.000");
        assert_eq!(numbers.cell(0.93, 3), ".93");
        let numbers = CellSpelling::of(0.0, 4.2e-5);
        assert_eq!(
            (numbers.cell(4.2e-5, 4), numbers.factor()),
            ("4.20".into(), " × 1e-5".into())
        );
        let numbers = CellSpelling::of(-12.5, 3.0);
        assert_eq!(numbers.cell(-12.5, 5), "-12.5");
        assert_eq!(numbers.cell(-12.5, 3), "-12");
        assert_eq!(CellSpelling::of(-0.5, 0.5).cell(-0.0001, 5), ".000");
    }

    #[test]
    fn ranks_are_whole() {
        let numbers = CellSpelling::whole(0.0, 50_256.0);
        assert_eq!((numbers.narrow, numbers.cell(3.0, 5)), (5, "3".into()));
        assert_eq!(numbers.cell(50_256.0, 5), "50256");
    }

    #[test]
    fn running_text_keeps_four_digits() {
        assert_eq!(plain(0.105_012_35), "0.1050");
        assert_eq!(plain(3.1e-7), "3.10e-7");
        assert_eq!(plain(-97.25), "-97.2");
    }
}
