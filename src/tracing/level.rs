//! How strong the noise is: a number, or so many standard deviations of the subjects' embeddings.

use std::fmt;
use std::str::FromStr;

use crate::model::Checkpoint;
use crate::text::shortest;

/// A standard deviation of noise, as typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Level {
    /// So many standard deviations of the token embeddings of all subjects: `3s`.
    Deviations(f64),
    /// This number.
    Number(f64),
}

/// Not a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no level of noise: write 3s for three standard deviations of the subjects' embeddings, or a number that is not negative"
)]
pub struct LevelError {
    /// As given.
    pub text: String,
}

impl Default for Level {
    /// ROME's.
    fn default() -> Self {
        Self::Deviations(3.0)
    }
}

impl FromStr for Level {
    type Err = LevelError;

    /// `3s`, ROME's `s3`, or a number.
    fn from_str(text: &str) -> Result<Self, LevelError> {
        let trimmed = text.trim();
        let factor = trimmed.strip_suffix('s').or(trimmed.strip_prefix('s'));
        let number = |text: &str| {
            text.parse::<f64>()
                .ok()
                .filter(|x| x.is_finite() && *x >= 0.0)
        };
        let level = match factor {
            Some(factor) => number(factor).map(Self::Deviations),
            None => number(trimmed).map(Self::Number),
        };
        level.ok_or_else(|| LevelError { text: text.into() })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deviations(factor) => write!(f, "{}s", shortest(*factor)),
            Self::Number(level) => f.write_str(&shortest(*level)),
        }
    }
}

impl Level {
    /// The number that it means for these subjects' token ids, each as often as it stands there.
    pub fn of(self, model: &Checkpoint, subjects: &[u32]) -> f64 {
        match self {
            Self::Number(level) => level,
            Self::Deviations(factor) => factor * deviation(model, subjects),
        }
    }
}

/// The standard deviation of all numbers of the tokens' embeddings together, as torch's `std` takes it:
/// √(Σ(x − mean)² / (n − 1)). NaN of fewer than two numbers.
pub fn deviation(model: &Checkpoint, tokens: &[u32]) -> f64 {
    let table = model.token_embedding();
    let rows = tokens
        .iter()
        .map(|id| table.row(*id as usize).to_vec::<f64>());
    let all: Vec<f64> = rows.flatten().collect();
    let n = all.len() as f64;
    let mean = all.iter().sum::<f64>() / n;
    let squares: f64 = all.iter().map(|x| (x - mean).powi(2)).sum();
    match all.len() {
        0 | 1 => f64::NAN,
        _ => (squares / (n - 1.0)).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_as_they_are_written() {
        assert_eq!("3s".parse(), Ok(Level::Deviations(3.0)));
        assert_eq!("s3".parse(), Ok(Level::default()));
        assert_eq!(" 0.1 ".parse(), Ok(Level::Number(0.1)));
        assert_eq!("0".parse(), Ok(Level::Number(0.0)));
        for wrong in [
            "", "s", "3ss", "s3s", "-1", "-1s", "inf", "NaN", "nans", "1e999", "x",
        ] {
            assert!(wrong.parse::<Level>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_deviation_is_that_of_all_numbers_together() {
        let model = Checkpoint::demo().unwrap();
        let row = |id: usize| model.token_embedding().row(id).to_vec::<f64>();
        let all = [row(948), row(1052), row(948)].concat();
        let mut moments = crate::results::moments::Moments::default();
        all.iter().for_each(|x| moments.add(*x));
        let found = deviation(&model, &[948, 1052, 948]);
        assert!((found - moments.deviation()).abs() < 1e-12, "{found}");
        assert_eq!(
            Level::Deviations(2.0).of(&model, &[948, 1052, 948]),
            2.0 * found
        );
        assert_eq!(Level::Number(0.5).of(&model, &[]), 0.5);
    }

    proptest! {
        #[test]
        fn any_text_is_a_level_or_an_error(text in "[-+0-9.es]{0,8}|\\PC{0,8}") {
            if let Ok(level) = text.parse::<Level>() {
                prop_assert_eq!(level.to_string().parse::<Level>(), Ok(level));
            }
        }
    }
}
