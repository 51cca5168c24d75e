//! The next-token distribution as text: what `topk` prints.
//!
//! The table is pyvene's tutorial format, `f"{token:<20} {p}"`, so that the two can be compared
//! line by line.

use std::io::{self, Write};

use super::csv::io_error;
use super::labels::{one_line, token_label, width};
use super::numbers::plain;
use crate::prompt::pair::DataRow;
use crate::results::candidate::Candidate;
use crate::results::columns::float_text;

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

/// What stands of a candidate in a line, behind whatever names its prompt.
const FIELDS: [&str; 5] = ["id", "token", "prob", "logprob", "logit"];

impl Candidate {
    /// The token and its probability: `_Madrid 0.9843`.
    pub fn in_short(&self) -> String {
        format!("{} {}", token_label(&self.token), plain(self.prob))
    }

    fn fields(&self) -> [String; 5] {
        let [prob, logprob, logit] = [self.prob, self.logprob, self.logit].map(float_text);
        [
            self.id.to_string(),
            self.token.clone(),
            prob,
            logprob,
            logit,
        ]
    }

    fn line(&self, out: &mut dyn Write) -> io::Result<()> {
        let label = token_label(&self.token);
        let blank = 20usize.saturating_sub(width(&label));
        writeln!(out, "{label}{:blank$} {:.11}", "", self.prob)
    }
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
        TopkFormat::Table => candidates
            .iter()
            .try_for_each(|candidate| candidate.line(out)),
        TopkFormat::Csv => {
            let mut csv = ::csv::Writer::from_writer(out);
            csv.write_record(FIELDS).map_err(io_error)?;
            for candidate in candidates {
                csv.write_record(candidate.fields()).map_err(io_error)?;
            }
            csv.flush()
        }
        TopkFormat::Json => {
            let list: Vec<_> = candidates.iter().map(Candidate::json).collect();
            serde_json::to_writer_pretty(&mut *out, &list)?;
            writeln!(out)
        }
    }
}

/// A prompt of a data set, and what the model says to it.
pub struct Told<'a> {
    /// Its row.
    pub row: Option<DataRow>,
    /// Decoded.
    pub prompt: String,
    /// The most probable tokens.
    pub top: &'a [Candidate],
}

/// Writes the candidates of several prompts: in CSV behind the row's number and prompt, in JSON an object each.
///
/// # Errors
///
/// Those of `out`.
pub fn write_topk_of_rows(
    rows: &[Told<'_>],
    format: TopkFormat,
    out: &mut dyn Write,
) -> io::Result<()> {
    let number = |told: &Told<'_>| told.row.as_ref().map_or(0, |row| row.number);
    match format {
        TopkFormat::Table => {
            for (i, told) in rows.iter().enumerate() {
                let blank = if i > 0 { "\n" } else { "" };
                writeln!(out, "{blank}{}: {}", number(told), one_line(&told.prompt))?;
                told.top
                    .iter()
                    .try_for_each(|candidate| candidate.line(out))?;
            }
            Ok(())
        }
        TopkFormat::Csv => {
            let mut csv = ::csv::Writer::from_writer(out);
            let header = ["pair", "prompt"].into_iter().chain(FIELDS);
            csv.write_record(header).map_err(io_error)?;
            for told in rows {
                for candidate in told.top {
                    let row = [number(told).to_string(), told.prompt.clone()];
                    let record = row.into_iter().chain(candidate.fields());
                    csv.write_record(record).map_err(io_error)?;
                }
            }
            csv.flush()
        }
        TopkFormat::Json => {
            let of = |told: &Told<'_>| {
                let top: Vec<_> = told.top.iter().map(Candidate::json).collect();
                let mut of =
                    serde_json::json!({"pair": number(told), "prompt": told.prompt, "top": top});
                if let Some(id) = told.row.as_ref().and_then(|row| row.id.as_deref()) {
                    of["row_id"] = id.into();
                }
                of
            };
            let list: Vec<_> = rows.iter().map(of).collect();
            serde_json::to_writer_pretty(&mut *out, &list)?;
            writeln!(out)
        }
    }
}
