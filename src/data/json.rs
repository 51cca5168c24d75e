//! Data sets as one JSON file: a list of rows, as ROME's known_1000 and CounterFact are, or
//! [auto-circuit's](super::auto_circuit) object.

use std::path::Path;

use serde_json::Value;

use super::{DataError, Examples, Record, RowError, auto_circuit};

/// Reads a list of rows, counted from 0, or auto-circuit's prompts.
///
/// # Errors
///
/// [`DataError::Malformed`] for what is neither.
pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Examples, DataError> {
    // whichever it is begins with it
    if bytes.trim_ascii_start().first() != Some(&b'[') {
        return auto_circuit::parse(path, bytes);
    }
    let rows: Vec<Value> =
        serde_json::from_slice(&bytes).map_err(|error| DataError::Malformed {
            path: path.into(),
            problem: format!("not readable as a JSON list of rows: {error}"),
        })?;
    let row = |(index, row): (usize, Value)| {
        let place = format!("row {index}");
        let Value::Object(fields) = row else {
            let problem = format!("should be an object, but is {row}");
            return Err(RowError::new(path, &place, None, problem));
        };
        Record {
            path,
            place: &place,
            fields: fields.into_iter().collect(),
            plain: false,
        }
        .example()
    };
    Ok(rows.into_iter().enumerate().map(row).collect())
}
