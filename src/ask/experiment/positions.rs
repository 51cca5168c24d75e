//! Positions in an experiment file: `[3, -1, "subject.last"]`, or `"all"`.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::prompt::position::{Position, PositionError, Words};

/// Positions of one prompt, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PositionsText {
    /// Every position of the prompt: pyvene's unit `h`.
    All,
    /// These, in order.
    List(Vec<Position>),
}

impl PositionsText {
    /// Positions by their numbers.
    pub fn numbers(positions: &[usize]) -> Self {
        let number = |p: &usize| Position::Number(p.cast_signed());
        Self::List(positions.iter().map(number).collect())
    }

    /// The same numbers as written, if they mean the same in every prompt.
    pub fn as_numbers(&self) -> Option<Vec<usize>> {
        let Self::List(list) = self else { return None };
        let number = |position: &Position| match position {
            Position::Number(n) => usize::try_from(*n).ok(),
            Position::Named { .. } => None,
        };
        list.iter().map(number).collect()
    }

    /// The one name that stands there, if it is one that fits other prompts too.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::List(list) => match &list[..] {
                [Position::Number(0..)] => None,
                [only] => Some(only.to_string()),
                _ => None,
            },
            Self::All => None,
        }
    }

    /// The positions meant in a prompt, in the order written.
    ///
    /// # Errors
    ///
    /// [`PositionError`] for one that is nowhere.
    pub fn resolve(&self, words: &Words) -> Result<Vec<usize>, PositionError> {
        match self {
            Self::All => Ok((0..words.tokens()).collect()),
            Self::List(list) => {
                let each = list.iter().map(|p| p.resolve(words, |_| None));
                Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
            }
        }
    }
}

impl<'de> Deserialize<'de> for PositionsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Positions;
        impl<'de> Visitor<'de> for Positions {
            type Value = PositionsText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("positions: a list of numbers and names, one name, or \"all\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PositionsText, E> {
                Ok(match text {
                    "all" => PositionsText::All,
                    name => PositionsText::List(vec![Position::named(name)]),
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PositionsText, A::Error> {
                let mut positions = Vec::new();
                while let Some(One(position)) = list.next_element()? {
                    positions.push(position);
                }
                Ok(PositionsText::List(positions))
            }
        }
        deserializer.deserialize_any(Positions)
    }
}

impl Serialize for PositionsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::List(list) => serializer.collect_seq(list.iter().map(|p| One(p.clone()))),
        }
    }
}

/// One position: a number, or a name.
struct One(Position);

impl Serialize for One {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Position::Number(n) => serializer.serialize_i64(*n as i64),
            named => serializer.collect_str(named),
        }
    }
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Single;
        impl Visitor<'_> for Single {
            type Value = One;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a position: a number or a name, such as 3, -1, \"end\" or a word")
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<One, E> {
                let number = isize::try_from(n).map_err(E::custom)?;
                Ok(One(Position::Number(number)))
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<One, E> {
                let number = isize::try_from(n).map_err(E::custom)?;
                Ok(One(Position::Number(number)))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<One, E> {
                Ok(One(Position::named(name)))
            }
        }
        deserializer.deserialize_any(Single)
    }
}
