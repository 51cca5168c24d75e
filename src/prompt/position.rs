//! Positions by number or by name, resolved in each prompt: `3`, `-1`, `end`, `subject.last`, a word.

use std::collections::HashMap;
use std::fmt;

pub use super::words::{Words, WordsError};
use crate::text::counted;

/// A position, or the positions of a span, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Position {
    /// From 0; negative counts from the end, −1 being the last.
    Number(isize),
    /// `end`, the name of a span, or words of the prompt.
    Named {
        /// The name.
        name: String,
        /// Which of the span's tokens.
        part: Part,
    },
}

/// Which tokens of a span are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of them, as one patch.
    Whole,
    /// `.first`
    First,
    /// `.last`
    Last,
}

/// Why a position is nowhere in a prompt. The sentence goes on from the prompt's name: `the base
/// prompt …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Beyond the prompt.
    #[error("has only {}, so position {number} is out of range", counted(*length, "token"))]
    OutOfRange {
        /// As given.
        number: isize,
        /// Tokens in the prompt.
        length: usize,
    },
    /// Words that are not there, or there several times.
    #[error(transparent)]
    Words(#[from] WordsError),
}

impl Position {
    /// A position from text: a number, else a name.
    pub fn named(text: &str) -> Self {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Self::Number(number);
        }
        let (name, part) = match text.rsplit_once('.') {
            Some((name, "last")) if !name.is_empty() => (name, Part::Last),
            Some((name, "first")) if !name.is_empty() => (name, Part::First),
            _ => (text, Part::Whole),
        };
        Self::Named {
            name: name.to_owned(),
            part,
        }
    }

    /// The tokens meant in a prompt, ascending. `span` finds a named span of the prompt, first and
    /// last token.
    ///
    /// # Errors
    ///
    /// [`PositionError`].
    pub fn resolve(
        &self,
        words: &Words,
        span: impl Fn(&str) -> Option<(usize, usize)>,
    ) -> Result<Vec<usize>, PositionError> {
        let length = words.tokens();
        let number = |number: isize| {
            let at = match usize::try_from(number) {
                Ok(at) => Some(at),
                Err(_) => length.checked_sub(number.unsigned_abs()),
            };
            at.filter(|at| *at < length)
                .ok_or(PositionError::OutOfRange { number, length })
        };
        let (name, part) = match self {
            Self::Number(n) => return Ok(vec![number(*n)?]),
            Self::Named { name, part } => (name, part),
        };
        let (first, last) = match span(name) {
            Some((_, last)) if last >= length => {
                return Err(PositionError::OutOfRange {
                    number: last.cast_signed(),
                    length,
                });
            }
            Some(span) => span,
            None if name == "end" => (number(-1)?, number(-1)?),
            None => words.find(name)?,
        };
        Ok(match part {
            Part::Whole => (first..=last).collect(),
            Part::First => vec![first],
            Part::Last => vec![last],
        })
    }
}

impl From<&str> for Position {
    fn from(text: &str) -> Self {
        Self::named(text)
    }
}

impl From<i32> for Position {
    /// From 0; negative counts from the end.
    fn from(number: i32) -> Self {
        Self::Number(isize::try_from(number).unwrap_or(isize::MAX))
    }
}

impl From<usize> for Position {
    /// From 0.
    fn from(number: usize) -> Self {
        Self::Number(isize::try_from(number).unwrap_or(isize::MAX))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Named { name, part } => f.write_str(name).and_then(|()| match part {
                Part::Whole => Ok(()),
                Part::First => f.write_str(".first"),
                Part::Last => f.write_str(".last"),
            }),
        }
    }
}

/// Positions that one run patches together, and where each is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spot {
    /// Its name, where it goes by one that fits other prompts too.
    pub name: Option<String>,
    /// Positions in the base prompt.
    pub positions: Vec<usize>,
    /// Positions in the source prompt, one for each; `None` is the same.
    pub source_positions: Option<Vec<usize>>,
    /// Of scores and a pattern, the keys that are touched there; `None` is every key that a query sees.
    pub keys: Option<Vec<usize>>,
}

impl Spot {
    /// Positions that are the same in both prompts.
    pub fn same(name: Option<String>, positions: Vec<usize>) -> Self {
        Self {
            name,
            positions,
            source_positions: None,
            keys: None,
        }
    }

    /// The same queries at these keys alone: `end<-subject`.
    #[must_use]
    pub fn seeing(&self, keys: &Self) -> Self {
        Self {
            name: Some(format!("{}<-{}", self.label(), keys.label())),
            keys: Some(keys.positions.clone()),
            ..self.clone()
        }
    }

    /// Name of every position as one.
    pub const ALL: &'static str = "all";

    /// Its name, if it has one and is not every position.
    pub fn place_name(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| *name != Self::ALL)
    }

    /// Its name, else its positions: `end`, `3`, `[3, 4]`.
    pub fn label(&self) -> String {
        match (&self.name, &self.positions[..]) {
            (Some(name), _) => name.clone(),
            (None, [only]) => only.to_string(),
            (None, several) => format!("{several:?}"),
        }
    }
}

/// Two of the positions that were asked for, one a spot, at which a run would be the same.
pub fn one_place<'a>(asked: &'a [Position], spots: &[Spot]) -> Option<[&'a Position; 2]> {
    let mut first = HashMap::with_capacity(spots.len());
    asked.iter().zip(spots).find_map(|(position, spot)| {
        let place = (&spot.positions, &spot.source_positions);
        Some([first.insert(place, position)?, position])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(tokens: &[&str]) -> Words {
        Words::new(tokens.iter().map(|t| Some(t.as_bytes())))
    }

    #[test]
    fn every_way_to_name_a_position() {
        let prompt = words(&["The", " cap", "ital", " of", " Spain", " is"]);
        let subject = |name: &str| (name == "subject").then_some((1, 2));
        let at = |text: &str| {
            Position::named(text)
                .resolve(&prompt, subject)
                .map_err(|e| e.to_string())
        };
        assert_eq!(at("3"), Ok(vec![3]));
        assert_eq!(at("-1"), Ok(vec![5]));
        assert_eq!(at("-6"), Ok(vec![0]));
        assert_eq!(at("end"), Ok(vec![5]));
        assert_eq!(at("subject"), Ok(vec![1, 2]));
        assert_eq!(at("subject.last"), Ok(vec![2]));
        assert_eq!(at("subject.first"), Ok(vec![1]));
        assert_eq!(at("capital"), Ok(vec![1, 2]));
        assert_eq!(at("capital of"), Ok(vec![1, 2, 3]));
        assert_eq!(at("Spain"), Ok(vec![4]));
        assert!(at("6").unwrap_err().contains("only 6 tokens"));
        assert!(at("-7").unwrap_err().contains("position -7"));
        assert!(at("Spai").unwrap_err().contains("does not contain"));
        assert!(at("").is_err());
    }

    proptest! {
        #[test]
        fn any_text_names_tokens_of_the_prompt_or_is_refused(text in "\\PC{0,12}", n in 0usize..5) {
            let tokens = ["The", " cap", "ital", " end", "."];
            let prompt = words(&tokens[..n]);
            if let Ok(found) = Position::named(&text).resolve(&prompt, |_| None) {
                prop_assert!(!found.is_empty() && found.iter().all(|p| *p < n));
            }
            let again = Position::named(&Position::named(&text).to_string());
            prop_assert_eq!(again, Position::named(&text));
        }
    }
}
