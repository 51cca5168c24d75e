//! Data sets as CSV: a header that names fields of [`record`](super::record), then one row each.
//!
//! A CSV field is text, so fields that may be lists (targets, ids, positions, spans) hold either one
//! value, taken whole, or a list in JSON:
//!
//! ```csv
//! base,source,targets,wrong_targets
//! The capital of Spain is,The capital of Italy is," Madrid","["" Rome"", "" Paris""]"
//! ```
//!
//! EAP-IG's files are of this kind, with columns `clean, corrupted, correct_idx, incorrect_idx`, the
//! last two token ids, or one of them a year. An empty field is a missing one.

use std::path::Path;

use serde_json::Value;

use super::{DataError, Examples, Record, RowError};
use crate::text::counted;

/// Reads the header and every row.
///
/// # Errors
///
/// [`DataError::Malformed`] without a header, or with one that is not UTF-8.
pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Examples, DataError> {
    let malformed = |problem: String| DataError::Malformed {
        path: path.into(),
        problem,
    };
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(&bytes[..]);
    let mut records = reader.byte_records();
    let header = match records.next() {
        Some(Ok(header)) => header,
        Some(Err(error)) => return Err(malformed(format!("not readable as CSV: {error}"))),
        None => return Ok(Vec::new()),
    };
    let names: Result<Vec<String>, _> = header
        .iter()
        .map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned()))
        .collect();
    let names = names.map_err(|_| malformed("line 1, the header, is not UTF-8".to_owned()))?;

    let mut rows = Vec::new();
    for record in records {
        let record = record.map_err(|error| malformed(format!("not readable as CSV: {error}")))?;
        let line = record.position().map_or(0, ::csv::Position::line);
        let place = format!("line {line}");
        let bad =
            |field: Option<&str>, problem: String| Err(RowError::new(path, &place, field, problem));
        if record.len() != names.len() {
            let (found, expected) = (counted(record.len(), "field"), names.len());
            rows.push(bad(
                None,
                format!("has {found}, but the header names {expected}"),
            ));
            continue;
        }
        let mut fields = Vec::with_capacity(names.len());
        let mut wrong = None;
        for (name, bytes) in names.iter().zip(&record) {
            match std::str::from_utf8(bytes) {
                Ok("") => {}
                Ok(text) => fields.push((name.clone(), Value::String(text.to_owned()))),
                Err(_) => {
                    wrong.get_or_insert(name);
                }
            }
        }
        rows.push(match wrong {
            Some(name) => bad(Some(name), "is not UTF-8".to_owned()),
            None => Record {
                path,
                place: &place,
                fields,
                plain: true,
            }
            .example(),
        });
    }
    Ok(rows)
}
