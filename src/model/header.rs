//! The safetensors header, read with suspicion.
//!
//! A safetensors file is eight bytes of header length, a JSON header, and the tensors' bytes. The
//! header is checked as a whole before anything looks at the data: every entry lies inside the file,
//! entries neither overlap nor leave holes, and each is as long as its shape and type say. The
//! `safetensors` crate makes the same checks, but cannot say which tensor failed them and why.

use serde_json::{Map, Value};

use super::error::{ModelError, quote};

/// The limit that the format's reference implementation sets for a header.
const LONGEST_HEADER: u64 = 100_000_000;

/// What one header entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The type's name as written: `F32`, `BF16`, `I64` …
    pub dtype: String,
    /// The shape as written, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Reads the header at the start of `bytes`, which is the whole file; `file` names it in messages.
///
/// Returns the entries in the order of the header. Types unknown to this engine pass (a checkpoint
/// may carry buffers that nobody reads), though their length cannot be checked against their shape.
pub(super) fn read(bytes: &[u8], file: &str) -> Result<Vec<(String, Entry)>, ModelError> {
    if bytes.starts_with(b"version https://git-lfs") {
        let file = file.to_owned();
        return Err(ModelError::LfsPointer { file });
    }
    let have = bytes.len() as u64;
    let truncated = |need| ModelError::HeaderTruncated {
        file: file.to_owned(),
        need,
        have,
    };
    let length = match bytes.first_chunk::<8>() {
        Some(length) => u64::from_le_bytes(*length),
        None => return Err(truncated(8)),
    };
    if length > LONGEST_HEADER {
        let file = file.to_owned();
        return Err(ModelError::HeaderTooLong {
            file,
            length,
            limit: LONGEST_HEADER,
        });
    }
    let data = 8 + length as usize;
    let text = bytes.get(8..data).ok_or_else(|| truncated(data as u64))?;
    let header: Map<String, Value> =
        serde_json::from_slice(text).map_err(|e| ModelError::HeaderJson {
            file: file.to_owned(),
            detail: quote(&e.to_string()),
        })?;

    let mut entries = Vec::with_capacity(header.len());
    for (name, value) in header {
        // Free text about the file; everything else is a tensor.
        if name == "__metadata__" {
            continue;
        }
        let entry = entry(&value, data).map_err(|detail| ModelError::TensorPlace {
            file: file.to_owned(),
            tensor: quote(&name),
            detail,
        })?;
        entries.push((name, entry));
    }
    tile(&entries, data, bytes.len(), file)?;
    Ok(entries)
}

/// One entry, its offsets moved by `data`, where the tensors' bytes begin.
fn entry(value: &Value, data: usize) -> Result<Entry, String> {
    let dtype = value
        .get("dtype")
        .and_then(Value::as_str)
        .ok_or("has no dtype in the header, expected a name such as \"F32\"")?;
    let numbers = |key: &str| -> Option<Vec<usize>> {
        let list = value.get(key)?.as_array()?;
        list.iter()
            .map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()))
            .collect()
    };
    let shape = numbers("shape").ok_or("has no shape in the header, expected a list of sizes")?;
    let offsets = numbers("data_offsets").unwrap_or_default();
    let &[start, end] = offsets.as_slice() else {
        return Err("has no data_offsets in the header, expected [begin, end]".to_owned());
    };
    if start > end {
        return Err(format!(
            "begins at byte {start} and ends before that, at {end}"
        ));
    }

    let too_large = || format!("has shape {}, which no file can hold", show_shape(&shape));
    let elements = shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .ok_or_else(too_large)?;
    if let Some(bits) = bits(dtype) {
        let expected = elements
            .checked_mul(bits)
            .ok_or_else(too_large)?
            .div_ceil(8);
        if end - start != expected {
            return Err(format!(
                "takes {} bytes, where shape {} of {dtype} takes {expected}",
                end - start,
                show_shape(&shape),
            ));
        }
    }
    let shift = |at: usize| {
        at.checked_add(data)
            .ok_or_else(|| format!("has offset {at}, which no file can hold"))
    };
    Ok(Entry {
        dtype: quote(dtype),
        start: shift(start)?,
        end: shift(end)?,
        shape,
    })
}

/// Checks that the entries cover the bytes from `data` to `end` once each.
fn tile(
    entries: &[(String, Entry)],
    data: usize,
    end: usize,
    file: &str,
) -> Result<(), ModelError> {
    let mut order: Vec<&(String, Entry)> = entries.iter().collect();
    order.sort_by_key(|(_, e)| (e.start, e.end));
    let described = order.iter().map(|(_, e)| e.end).max().unwrap_or(data);

    let mut at = data;
    let mut before = "";
    for (name, e) in order {
        let detail = if e.start < at {
            let other = quote(before);
            format!(
                "begins at byte {}, inside `{other}`, which ends at {}",
                e.start - data,
                at - data
            )
        } else if e.start > at {
            format!(
                "begins at byte {}, but the tensor before it ends at {}: bytes between them belong to none",
                e.start - data,
                at - data
            )
        } else {
            (at, before) = (e.end, name);
            continue;
        };
        let (file, tensor) = (file.to_owned(), quote(name));
        return Err(ModelError::TensorPlace {
            file,
            tensor,
            detail,
        });
    }
    if described != end {
        return Err(ModelError::DataLength {
            file: file.to_owned(),
            expected: (described - data) as u64,
            found: (end - data) as u64,
        });
    }
    Ok(())
}

/// The width of the format's types, in bits.
fn bits(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

/// A shape as messages show it: `[768, 2304]`.
pub(super) fn show_shape(shape: &[usize]) -> String {
    let shown: Vec<String> = shape.iter().take(8).map(usize::to_string).collect();
    format!(
        "[{}{}]",
        shown.join(", "),
        if shape.len() > 8 { ", …" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        let message = read(bytes, "model.safetensors").unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn a_sound_header_gives_its_entries() {
        let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[8,14]},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
        let entries = read(&file(header, 14), "x").unwrap();
        let data = 8 + header.len();
        assert_eq!(entries[0].0, "b");
        let a = Entry {
            dtype: "F32".into(),
            shape: vec![1, 2],
            start: data,
            end: data + 8,
        };
        assert_eq!(entries[1], ("a".to_owned(), a));
    }

    #[test]
    fn each_lie_is_named() {
        assert!(message(b"abc").contains("needs 8 bytes, but the file has 3"));
        assert!(message(&u64::MAX.to_le_bytes()).contains("18446744073709551615 bytes"));
        assert!(message(&[200, 0, 0, 0, 0, 0, 0, 0, b'{']).contains("needs 208 bytes"));
        assert!(message(&file("{]", 0)).contains("broken safetensors header"));
        let cases = [
            (r#"{"a":7}"#, 0, "`a` has no dtype"),
            (
                r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
                4,
                "`a` has no shape",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}"#,
                4,
                "`a` has no data_offsets",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
                4,
                "ends before that, at 0",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                4,
                "takes 4 bytes, where shape [2] of F32 takes 8",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#,
                4,
                "which no file can hold",
            ),
            (
                r#"{"a":{"dtype":"X","shape":[],"data_offsets":[18446744073709551615,18446744073709551615]}}"#,
                4,
                "which no file can hold",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
                6,
                "`b` begins at byte 2, inside `a`, which ends at 4",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
                12,
                "belong to none",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                3,
                "holds 3 bytes of tensor data where its header describes 4",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                9,
                "holds 9 bytes of tensor data where its header describes 4",
            ),
        ];
        for (header, data, part) in cases {
            let message = message(&file(header, data));
            assert!(message.contains(part), "{header}: {message}");
        }
    }
}
