//! Means and spreads of values that pass one by one.
//!
//! [`Moments`] are what tables, tracings and pictures hold; two of them merge into those of all values.
//! [`Mean`] is what arrays hold: Σx / n, in the order in which values come, NaN passed over. The two round
//! differently in the last bit, and files have had both.

/// Count, mean, spread and range of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    count: u32,
    mean: f64,
    /// Σ(x − mean)².
    squares: f64,
    low: f64,
    high: f64,
    /// Values that are not finite, which take no part in all that.
    others: u32,
    /// The first of them.
    other: f64,
}

/// What moments are as numbers: how many values were finite, their mean, Σ(x − mean)², the least and the greatest
/// (∞ and −∞ of none), how many were not finite, and the first of these (NaN of none).
pub const MOMENTS: [&str; 7] = ["n", "mean", "m2", "min", "max", "others", "other"];

/// A count that was written as a number.
pub(crate) fn whole(count: f64) -> Option<u32> {
    // a cast of what is none gives another number, or 0 of NaN
    let whole = count as u32;
    (f64::from(whole) == count).then_some(whole)
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            mean: 0.0,
            squares: 0.0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            others: 0,
            other: f64::NAN,
        }
    }
}

impl Moments {
    /// Adds a value; one that is not finite, as a recovery of nothing, is only counted.
    pub fn add(&mut self, x: f64) {
        if !x.is_finite() {
            if self.others == 0 {
                self.other = x;
            }
            self.others += 1;
            return;
        }
        self.count += 1;
        let off = x - self.mean;
        self.mean += off / f64::from(self.count);
        self.squares += off * (x - self.mean);
        self.low = self.low.min(x);
        self.high = self.high.max(x);
    }

    /// The moments of these values and then those. One value is merged as [`Moments::add`] adds it, to the bit.
    #[must_use]
    pub fn merge(self, later: Self) -> Self {
        let (n, m) = (f64::from(self.count), f64::from(later.count));
        let off = later.mean - self.mean;
        let (mean, squares) = match (self.count, later.count) {
            (_, 0) => (self.mean, self.squares),
            (0, _) => (later.mean, later.squares),
            (_, 1) => {
                let mean = self.mean + off / (n + 1.0);
                (mean, self.squares + off * (later.mean - mean))
            }
            _ => (
                self.mean + off * (m / (n + m)),
                self.squares + later.squares + off * off * (n * m / (n + m)),
            ),
        };
        Self {
            count: self.count.saturating_add(later.count),
            mean,
            squares,
            low: self.low.min(later.low),
            high: self.high.max(later.high),
            others: self.others.saturating_add(later.others),
            other: if self.others > 0 {
                self.other
            } else {
                later.other
            },
        }
    }

    /// All of it as numbers, from which [`Moments::of_numbers`] has the same bits again: in the order of [`MOMENTS`].
    pub fn numbers(&self) -> [f64; MOMENTS.len()] {
        let (count, others) = (f64::from(self.count), f64::from(self.others));
        let Self {
            mean, squares, low, ..
        } = *self;
        [count, mean, squares, low, self.high, others, self.other]
    }

    /// Moments that were written as numbers; nothing where counts are none.
    pub fn of_numbers(numbers: [f64; MOMENTS.len()]) -> Option<Self> {
        let [count, mean, squares, low, high, others, other] = numbers;
        Some(Self {
            count: whole(count)?,
            mean,
            squares,
            low,
            high,
            others: whole(others)?,
            other,
        })
    }

    /// Values that were finite.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// All values, finite or not.
    pub fn values(&self) -> u32 {
        self.count + self.others
    }

    /// The mean, NaN of nothing.
    pub fn mean(&self) -> f64 {
        if self.count > 0 { self.mean } else { f64::NAN }
    }

    /// The mean, or the first value that is not finite if there is one.
    pub fn shown(&self) -> f64 {
        if self.others > 0 {
            self.other
        } else {
            self.mean()
        }
    }

    /// The least finite value, infinite of nothing.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// The greatest finite value, −∞ of nothing.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Sample standard deviation, √(Σ(x − mean)² / (n − 1)), NaN of fewer than two.
    pub fn deviation(&self) -> f64 {
        if self.count > 1 {
            (self.squares / f64::from(self.count - 1)).sqrt()
        } else {
            f64::NAN
        }
    }

    /// Standard error of the mean: sample deviation / √n, NaN of fewer than two.
    pub fn error(&self) -> f64 {
        self.deviation() / f64::from(self.count).sqrt()
    }
}

/// A sum and how many are in it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    /// Adds a value; NaN, which stands where nothing was run, is passed over.
    pub fn add(&mut self, x: f64) {
        if !x.is_nan() {
            self.sum += x;
            self.count += 1.0;
        }
    }

    /// Σx / n, NaN of nothing.
    pub fn get(self) -> f64 {
        self.sum / self.count
    }
}

impl FromIterator<f64> for Mean {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut mean = Self::default();
        values.into_iter().for_each(|x| mean.add(x));
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|x| moments.add(*x));
        moments
    }

    proptest! {
        #[test]
        fn moments_are_those_of_the_definition(values in proptest::collection::vec(-1e3..1e3f64, 2..40)) {
            let mut moments = of(&[f64::NAN]);
            values.iter().for_each(|x| moments.add(*x));
            moments.add(f64::INFINITY);
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
            prop_assert!((moments.mean() - mean).abs() < 1e-9);
            prop_assert!((moments.deviation() - variance.sqrt()).abs() < 1e-9);
            prop_assert!((moments.error() - (variance / n).sqrt()).abs() < 1e-9);
            prop_assert_eq!(moments.count() as usize, values.len());
            prop_assert_eq!(moments.values() as usize, values.len() + 2);
            prop_assert_eq!(moments.low(), values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(moments.high(), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }

        #[test]
        fn parts_merge_into_the_whole(
            values in proptest::collection::vec(prop_oneof![9 => -1e3..1e3f64, 1 => Just(f64::INFINITY)], 0..40),
            cut in 0usize..41,
        ) {
            let (first, second) = values.split_at(cut.min(values.len()));
            let (whole, merged) = (of(&values), of(first).merge(of(second)));
            prop_assert_eq!((whole.count(), whole.values()), (merged.count(), merged.values()));
            prop_assert_eq!((whole.low(), whole.high()), (merged.low(), merged.high()));
            for (a, b) in [(whole.mean(), merged.mean()), (whole.deviation(), merged.deviation()), (whole.shown(), merged.shown())] {
                prop_assert!(a.to_bits() == b.to_bits() || (a - b).abs() < 1e-9, "{} is not {}", a, b);
            }
        }
    }

    #[test]
    fn merging_with_nothing_changes_no_bit() {
        let some = of(&[0.1, 0.7, f64::NEG_INFINITY, 0.3]);
        assert_eq!(
            some.merge(Moments::default()).mean().to_bits(),
            some.mean().to_bits()
        );
        assert_eq!(
            Moments::default().merge(some).deviation().to_bits(),
            some.deviation().to_bits()
        );
    }

    proptest! {
        #[test]
        fn one_value_merges_as_it_is_added(
            values in proptest::collection::vec(prop_oneof![9 => -1e3..1e3f64, 1 => Just(f64::NAN)], 0..40),
        ) {
            let mut merged = Moments::default();
            for value in &values {
                merged = merged.merge(of(&[*value]));
            }
            let bits = |moments: Moments| moments.numbers().map(f64::to_bits);
            prop_assert_eq!(bits(merged), bits(of(&values)));
            prop_assert_eq!(Moments::of_numbers(merged.numbers()).map(bits), Some(bits(merged)));
        }
    }

    #[test]
    fn counts_that_are_none_are_refused() {
        for wrong in [-1.0, 0.5, f64::NAN, f64::INFINITY, 1e10] {
            let mut numbers = of(&[0.1]).numbers();
            numbers[5] = wrong;
            assert_eq!(Moments::of_numbers(numbers), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_has_no_mean_and_one_value_no_error() {
        let mut moments = Moments::default();
        assert!(moments.mean().is_nan());
        moments.add(3.0);
        assert_eq!(moments.mean(), 3.0);
        assert!(moments.error().is_nan());
        assert!(Mean::default().get().is_nan());
    }
}
