//! The next-token distribution as text: what `topk` prints.
//!
//! The table is pyvene's tutorial format, `f"{token:<20} {p}"`, so that the two can be compared
//! line by line.

use std::io::{self, Write};

use super::csv::io_error;
use super::labels::{token_label, width};
use super::numbers::plain;
use crate::backend::Readout;
use crate::model::Checkpoint;
use crate::results::columns::float_text;
use crate::results::rows::raw;

/// One token of the distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The token's id.
    pub id: u32,
    /// The token, decoded raw; its id in brackets where there is no tokenizer.
    pub token: String,
    /// Its probability.
    pub prob: f64,
    /// Natural logarithm of the probability.
    pub logprob: f64,
    /// Its logit.
    pub logit: f64,
}

impl Candidate {
    /// A readout's most probable tokens.
    pub fn all(model: &Checkpoint, read: &Readout) -> Vec<Self> {
        let candidate = |(id, logit): &(u32, f64)| {
            let logprob = read.log_probability(*logit);
            Self {
                id: *id,
                token: raw(model, *id),
                prob: logprob.exp(),
                logprob,
                logit: *logit,
            }
        };
        read.top.iter().map(candidate).collect()
    }

    /// The token and its probability: `_Madrid 0.9843`.
    pub fn in_short(&self) -> String {
        format!("{} {}", token_label(&self.token), plain(self.prob))
    }
}

/// How a distribution is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopkFormat {
    /// `_Madrid              0.10501234978`, a line a token.
    Table,
    /// `id,token,prob,logprob,logit`, the token raw.
    Csv,
    /// An array of objects with the same fields.
    Json,
}

/// Writes the candidates in the order given.
///
/// # Errors
///
/// Those of `out`.
pub fn write_topk(
    candidates: &[Candidate],
    format: TopkFormat,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        TopkFormat::Table => {
            for candidate in candidates {
                let label = token_label(&candidate.token);
                let blank = 20usize.saturating_sub(width(&label));
                writeln!(out, "{label}{:blank$} {:.11}", "", candidate.prob)?;
            }
            Ok(())
        }
        TopkFormat::Csv => {
            let mut csv = ::csv::Writer::from_writer(out);
            csv.write_record(["id", "token", "prob", "logprob", "logit"])
                .map_err(io_error)?;
            for candidate in candidates {
                csv.write_record([
                    &candidate.id.to_string(),
                    &candidate.token,
                    &float_text(candidate.prob),
                    &float_text(candidate.logprob),
                    &float_text(candidate.logit),
                ])
                .map_err(io_error)?;
            }
            csv.flush()
        }
        TopkFormat::Json => {
            let number = |value: f64| match serde_json::Number::from_f64(value) {
                Some(number) => serde_json::Value::Number(number),
                None => float_text(value).into(),
            };
            let list = candidates.iter().map(|candidate| {
                serde_json::json!({
                    "id": candidate.id,
                    "token": candidate.token,
                    "prob": number(candidate.prob),
                    "logprob": number(candidate.logprob),
                    "logit": number(candidate.logit),
                })
            });
            serde_json::to_writer_pretty(&mut *out, &list.collect::<Vec<_>>())?;
            writeln!(out)
        }
    }
}
