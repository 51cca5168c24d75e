//! Data sets: files of prompt pairs with their own targets, as the field writes them.
//!
//! A file is read in two steps, so that a format knows nothing of tokens and the tokens nothing of
//! formats: [`read`] turns any of the formats into [`Example`]s, what the row says in its own
//! words; [`Reading::resolve`] turns an example into a [`Pair`](crate::prompt::pair::Pair) of one
//! model. Either step may find a row wrong. That is a [`RowError`], which names file, line and
//! field, and which a caller may count and go on from; only a file that is wrong as a whole is a
//! [`DataError`].
//!
//! | ending | format |
//! |---|---|
//! | `.jsonl` | one JSON object a line ([`jsonl`]) |
//! | `.csv` | a header and one row a line, EAP-IG's among them ([`csv`]) |
//! | `.parquet` | Apache Parquet (`parquet`, a feature) |
//! | `.json` | auto-circuit's ([`auto_circuit`]), or a list of rows ([`json`]) |
//!
//! The fields have the same names in all of them; see [`record`]. The facts of ROME's data sets and the years of
//! Greater-Than have their own, which are turned into these.

pub mod auto_circuit;
#[cfg(feature = "parquet")]
mod bounds;
pub mod csv;
mod error;
mod facts;
pub mod json;
pub mod jsonl;
mod literal;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod record;
mod resolve;
mod years;

use std::path::Path;

pub use self::error::{DataError, RowError};
pub use self::record::Record;
pub use self::resolve::{Direction, Reading, Resolved, with_bos};
use crate::prompt::pair::PromptText;
use crate::prompt::position::Position;

/// A target or wrong target as a row gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Text of one token, taken whole: nothing is trimmed.
    Text(String),
    /// A token id.
    Id(u32),
}

/// Where a named span stands in one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanTokens {
    /// Words, looked up in the prompt.
    Words(String),
    /// Words at the place at which they stand for the n-th time, from 0.
    Nth(String, usize),
    /// Tokens from the first to the last, both counted from 0 in the prompt as the row gives it.
    Tokens(usize, usize),
}

/// A named span of a pair's prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its name, such as `subject`.
    pub name: String,
    /// Where it stands in the base.
    pub base: SpanTokens,
    /// Where it stands in the source, if that is said.
    pub source: Option<SpanTokens>,
}

/// One row: a prompt pair with what is asked of it, before any token is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The file, for errors.
    pub path: std::path::PathBuf,
    /// `line 7` (text, from 1) or `row 6` (Parquet, from 0), for errors.
    pub place: String,
    /// Which row of the file it is, from 0, rows that are wrong counted too; `None` of no file.
    pub row: Option<u32>,
    /// What the file calls it.
    pub id: Option<String>,
    /// The prompt that is patched when denoising: base, or corrupted.
    pub base: PromptText,
    /// The prompt that is read when denoising: source, or clean.
    pub source: Option<PromptText>,
    /// Right answers.
    pub targets: Vec<Token>,
    /// Wrong answers.
    pub wrong: Vec<Token>,
    /// Where this pair is patched, if the row says so.
    pub positions: Option<Vec<Position>>,
    /// Where each of `positions` is read in the source, if it is elsewhere.
    pub source_positions: Option<Vec<Position>>,
    /// Named spans.
    pub spans: Vec<Span>,
    /// Fields by their canonical names, as the row calls them, for errors.
    pub names: Vec<(&'static str, String)>,
}

/// A data set: each row, or what is wrong with it, in file order.
pub type Examples = Vec<Result<Example, RowError>>;

/// How a format takes bytes apart.
type Parse = fn(&Path, Vec<u8>) -> Result<Examples, DataError>;

/// The format that the file's ending names.
fn format(path: &Path) -> Result<Parse, DataError> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("jsonl") => Ok(jsonl::parse),
        Some("csv") => Ok(csv::parse),
        #[cfg(feature = "parquet")]
        Some("parquet") => Ok(parquet::parse),
        #[cfg(not(feature = "parquet"))]
        Some("parquet") => Err(DataError::NoParquet { path: path.into() }),
        Some("json") => Ok(json::parse),
        _ => Err(DataError::UnknownFormat { path: path.into() }),
    }
}

/// Reads a data set, in the format that the file's ending names.
///
/// # Errors
///
/// [`DataError`] for a file that cannot be read, whose ending is unknown, or which is malformed as
/// a whole. A malformed row is not one of these: it stands among the rows.
pub fn read(path: &Path) -> Result<Examples, DataError> {
    format(path)?;
    let bytes = std::fs::read(path).map_err(|source| DataError::Read {
        path: path.into(),
        source,
    })?;
    of_bytes(path, bytes)
}

/// The same of a file's contents; `path` names the format, and the rows in errors.
///
/// # Errors
///
/// As [`read`].
pub fn of_bytes(path: &Path, mut bytes: Vec<u8>) -> Result<Examples, DataError> {
    let parse = format(path)?;
    // a byte order mark is no part of the first line
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    let mut rows = parse(path, bytes)?;
    for (number, row) in rows.iter_mut().enumerate() {
        if let Ok(example) = row {
            example.row = u32::try_from(number).ok();
        }
    }
    if rows.is_empty() {
        return Err(DataError::Empty { path: path.into() });
    }
    Ok(rows)
}
