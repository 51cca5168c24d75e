//! An operator as it is typed: `zero`, `set=0.5`, `add=F#v*2.5`.

use std::str::FromStr;

use super::grid::GridError;
use crate::patch::{FINITE, Op, unusable};

/// An operator as typed, before its file is read.
#[derive(Debug, Clone, PartialEq)]
pub enum OpText {
    /// Complete.
    Ready(Op),
    /// `set=F#tensor`
    Set(String),
    /// `add=F#tensor`
    Add(String),
    /// `subtract=F#tensor`
    Subtract(String),
    /// `mean=PROMPTS.txt`
    Mean(String),
    /// `mean-by-position=PROMPTS.txt`
    MeanByPosition(String),
}

impl OpText {
    /// What it reads: `F#tensor`, or a file of prompts.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Ready(_) => None,
            Self::Set(file)
            | Self::Add(file)
            | Self::Subtract(file)
            | Self::Mean(file)
            | Self::MeanByPosition(file) => Some(file),
        }
    }
}

/// What `set` does with a number; nothing where it is a file's name. −∞ is a score's alone.
///
/// # Errors
///
/// [`GridError::Number`] for a number that no activation can have.
pub fn filled(value: &str) -> Result<Option<Op>, GridError> {
    let Ok(number) = value.trim().parse::<f64>() else {
        return Ok(None);
    };
    if number == f64::NEG_INFINITY {
        return Ok(Some(Op::Knockout));
    }
    match unusable(number, false) {
        None => Ok(Some(Op::Fill(number))),
        Some(needs) => Err(GridError::Number {
            op: "set".to_owned(),
            needs,
            text: value.to_owned(),
        }),
    }
}

impl FromStr for OpText {
    type Err = GridError;

    fn from_str(text: &str) -> Result<Self, GridError> {
        let number = |op: &str, value: &str| {
            let wrong = |needs| GridError::Number {
                op: op.to_owned(),
                needs,
                text: value.to_owned(),
            };
            let number = value.parse().map_err(|_| wrong(FINITE))?;
            match unusable(number, op == "noise") {
                Some(needs) => Err(wrong(needs)),
                None => Ok(number),
            }
        };
        Ok(match text.split_once('=') {
            None => match text {
                "interchange" => OpText::Ready(Op::Interchange),
                "zero" => OpText::Ready(Op::Zero),
                "knockout" => OpText::Ready(Op::Knockout),
                "collect" => OpText::Ready(Op::Collect),
                "skip" => OpText::Ready(Op::Skip),
                "add" => OpText::Ready(Op::Add(None)),
                "subtract" => OpText::Ready(Op::Subtract(None)),
                _ => {
                    return Err(GridError::Op {
                        text: text.to_owned(),
                    });
                }
            },
            Some(("set", value)) => match filled(value)? {
                Some(op) => OpText::Ready(op),
                None => OpText::Set(value.to_owned()),
            },
            Some(("add", file)) => OpText::Add(file.to_owned()),
            Some(("subtract", file)) => OpText::Subtract(file.to_owned()),
            Some(("mean", file)) => OpText::Mean(file.to_owned()),
            Some(("mean-by-position", file)) => OpText::MeanByPosition(file.to_owned()),
            Some(("scale", x)) => OpText::Ready(Op::Scale(number("scale", x)?)),
            Some(("interpolate", x)) => OpText::Ready(Op::Interpolate(number("interpolate", x)?)),
            Some(("noise", x)) => OpText::Ready(Op::Noise {
                level: number("noise", x)?,
                seed: 0,
                sample: 0,
            }),
            Some(_) => {
                return Err(GridError::Op {
                    text: text.to_owned(),
                });
            }
        })
    }
}
