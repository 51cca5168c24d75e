//! Data sets as one JSON file: a list of rows, as ROME's known_1000 and CounterFact are, or
//! [auto-circuit's](super::auto_circuit) object; or JSON lines, as pandas writes them under any name.

use std::path::Path;

use serde_json::{Map, Value};

use super::record::is_known;
use super::{DataError, Examples, Record, RowError, auto_circuit, jsonl};

/// Whether it is JSON lines under another name: the first line is an object by itself, and if it is the
/// only one, a row.
fn is_lines(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut lines = lines.by_ref().filter(|line| !line.is_empty());
    let first = lines.next().filter(|line| line.first() == Some(&b'{'));
    let first = first.and_then(|line| serde_json::from_slice::<Map<String, Value>>(line).ok());
    let says = |name: &String| is_known(name) || ["prompt", "requested_rewrite"].contains(&&**name);
    first.is_some_and(|object| lines.next().is_some() || object.keys().any(says))
}

/// Reads a list of rows, counted from 0, or auto-circuit's prompts.
///
/// # Errors
///
/// [`DataError::Malformed`] for what is neither.
pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Examples, DataError> {
    if is_lines(&bytes) {
        return jsonl::parse(path, bytes);
    }
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
