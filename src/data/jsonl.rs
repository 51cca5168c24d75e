//! Data sets as JSON lines: one object a line, its keys the fields of [`record`](super::record).
//!
//! ```json
//! {"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"], "wrong_targets": [" Rome"]}
//! ```

use std::path::Path;

use super::{DataError, Examples, Record, RowError};
use crate::files::fields::Fields;

/// Reads the lines; empty ones are passed over.
///
/// # Errors
///
/// None as a whole: what is no JSON object is a bad row.
pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Examples, DataError> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let row = |(index, line): (usize, &[u8])| {
        let place = format!("line {}", index + 1);
        match serde_json::from_slice(line) {
            Ok(Fields(fields)) => Record {
                path,
                place: &place,
                fields,
                plain: false,
            }
            .example(),
            Err(error) => {
                let whole = error.to_string();
                // the line is ours, not the parser's
                let message = whole.rsplit_once(" at line ").map_or(&*whole, |(m, _)| m);
                let problem = format!("not a JSON object: {message} (column {})", error.column());
                Err(RowError::new(path, &place, None, problem))
            }
        }
    };
    Ok(filled.map(row).collect())
}
