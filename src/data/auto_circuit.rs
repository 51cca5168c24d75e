//! Data sets as auto-circuit writes them (IOI, Greater-Than, docstring …), in one JSON file:
//!
//! ```json
//! {"seq_labels": ["The", "capital"], "word_idxs": {"subject": 3},
//!  "prompts": [{"clean": "The capital of Italy is", "corrupt": "The capital of Spain is",
//!               "answers": [" Rome"], "wrong_answers": [" Madrid"]}]}
//! ```
//!
//! `word_idxs` are positions that all prompts share, and become named spans; `seq_labels` are for
//! plots and not needed. Prompts and answers may be token ids, as its own loader takes them.

use std::path::Path;

use serde_json::{Map, Value};

use super::{DataError, Examples, Record, RowError};

/// Reads every prompt pair.
///
/// # Errors
///
/// [`DataError::Malformed`] for what is no JSON, has no `prompts`, or has bad `word_idxs`.
pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Examples, DataError> {
    let malformed = |problem: String| DataError::Malformed {
        path: path.into(),
        problem,
    };
    let whole: Value = serde_json::from_slice(&bytes)
        .map_err(|error| malformed(format!("not readable as JSON: {error}")))?;
    let Some(Value::Array(prompts)) = whole.get("prompts") else {
        return Err(malformed(
            "has no list `prompts`: auto-circuit's files are {\"prompts\": [{\"clean\", \"corrupt\", \
             \"answers\", \"wrong_answers\"}]} (for one object a line, name the file .jsonl)"
                .to_owned(),
        ));
    };
    let words = match whole.get("word_idxs") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(words)) if words.values().all(Value::is_u64) => words.clone(),
        Some(other) => {
            return Err(malformed(format!(
                "word_idxs should name positions, as in {{\"subject\": 3}}, but is {other}"
            )));
        }
    };
    let lines = prompt_lines(&bytes);
    let row = |(index, prompt): (usize, &Value)| {
        let place = format!("line {}", lines.get(index).copied().unwrap_or(0));
        let Value::Object(prompt) = prompt else {
            let problem = format!("prompt {index} should be an object, but is {prompt}");
            return Err(RowError::new(path, &place, None, problem));
        };
        let mut fields: Vec<(String, Value)> =
            prompt.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if !words.is_empty() && !prompt.contains_key("spans") {
            fields.push(("spans".to_owned(), Value::Object(words.clone())));
        }
        Record {
            path,
            place: &place,
            fields,
            plain: false,
        }
        .example()
    };
    Ok(prompts.iter().enumerate().map(row).collect())
}

/// The line on which each element of the outermost `prompts` begins, from 1. The parser does not say,
/// so this walks the text, which it has found to be well-formed.
fn prompt_lines(bytes: &[u8]) -> Vec<usize> {
    let mut lines = Vec::new();
    let (mut line, mut depth) = (1, 0usize);
    let (mut key, mut is_key) = (Vec::new(), true);
    let (mut within, mut expects) = (false, false);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        let value = !byte.is_ascii_whitespace() && !matches!(byte, b',' | b':' | b']' | b'}');
        if within && expects && depth == 2 && value {
            lines.push(line);
            expects = false;
        }
        match byte {
            b'\n' => line += 1,
            b'"' => {
                let start = at;
                while let Some(&byte) = bytes.get(at) {
                    at += 1;
                    match byte {
                        b'\\' => at += 1,
                        b'"' => break,
                        _ => {}
                    }
                }
                if depth == 1 && is_key {
                    key = bytes
                        .get(start..at.saturating_sub(1))
                        .unwrap_or(&[])
                        .to_vec();
                }
            }
            b':' if depth == 1 => is_key = false,
            b',' if depth == 1 => is_key = true,
            b',' if depth == 2 => expects = within,
            b'[' | b'{' => {
                depth += 1;
                // of two keys of one name the parser keeps the last
                if depth == 2 && byte == b'[' && key == b"prompts" {
                    (within, expects) = (true, true);
                    lines.clear();
                }
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                within &= depth >= 2;
            }
            _ => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_know_their_lines() {
        let text = "{\"word_idxs\": {\"prompts\": 3},\n \"x\": [\n[1], \"a\\\"[{\"], \"prompts\": [\n{\"clean\": \"[,\"},\n\n 3, [1,\n2],\n  \"a\"\n]}";
        assert_eq!(prompt_lines(text.as_bytes()), [4, 6, 6, 8]);
    }
}
