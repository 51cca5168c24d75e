//! Data sets as Parquet: columns named after the fields of [`record`](super::record); lists are
//! lists, spans structs or maps, and a null is a missing field. What a file says of its own bytes and values (checksums of
//! pages, statistics of columns) must hold; one that says nothing is believed.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;

use super::bounds;
use super::{DataError, Examples, Record, RowError};
use crate::files::fence::fenced;

/// Reads every row.
///
/// # Errors
///
/// [`DataError::Malformed`] for a damaged file. Parquet has no lines, and damage no row: what cannot
/// be decoded cannot be skipped.
pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Examples, DataError> {
    let malformed = |problem: String| DataError::Malformed {
        path: path.into(),
        problem,
    };
    // the crate panics on some damaged files
    let read = fenced(AssertUnwindSafe(|| parse_trusting(path, bytes)));
    match read {
        Ok(rows) => rows.map_err(|error| malformed(format!("not readable as Parquet: {error}"))),
        Err(_) => Err(malformed(
            "the Parquet file is damaged; write it again".to_owned(),
        )),
    }
}

fn parse_trusting(path: &Path, bytes: Vec<u8>) -> Result<Examples, ParquetError> {
    let file = SerializedFileReader::new(bytes::Bytes::from(bytes))?;
    bounds::check(&file)?;
    let mut rows = Vec::new();
    for (index, row) in file.get_row_iter(None)?.enumerate() {
        let place = format!("row {index}");
        let row = row?;
        let mut fields = Vec::new();
        let mut wrong = None;
        for (name, field) in row.get_column_iter() {
            match value(field) {
                Ok(value) => fields.push((name.clone(), value)),
                Err(problem) => {
                    wrong.get_or_insert((name, problem));
                }
            }
        }
        rows.push(match wrong {
            Some((name, problem)) if super::record::is_known(name) => {
                Err(RowError::new(path, &place, Some(name), problem))
            }
            _ => Record {
                path,
                place: &place,
                fields,
                plain: false,
            }
            .example(),
        });
    }
    Ok(rows)
}

/// A Parquet value as the JSON that would mean the same.
fn value(field: &Field) -> Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(x) => (*x).into(),
        Field::Byte(x) => (*x).into(),
        Field::Short(x) => (*x).into(),
        Field::Int(x) => (*x).into(),
        Field::Long(x) => (*x).into(),
        Field::UByte(x) => (*x).into(),
        Field::UShort(x) => (*x).into(),
        Field::UInt(x) => (*x).into(),
        Field::ULong(x) => (*x).into(),
        Field::Float(x) => f64::from(*x).into(),
        Field::Double(x) => (*x).into(),
        Field::Str(text) => text.clone().into(),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data())
            .map_err(|_| "holds bytes that are not UTF-8".to_owned())?
            .into(),
        Field::ListInternal(list) => Value::Array(
            list.elements()
                .iter()
                .map(value)
                .collect::<Result<_, _>>()?,
        ),
        Field::Group(row) => row
            .get_column_iter()
            .map(|(name, field)| Ok((name.clone(), value(field)?)))
            .collect::<Result<_, String>>()?,
        Field::MapInternal(map) => map
            .entries()
            .iter()
            .map(|(key, field)| match key {
                Field::Str(name) => Ok((name.clone(), value(field)?)),
                _ => Err("holds a map whose keys are not text".to_owned()),
            })
            .collect::<Result<_, String>>()?,
        _ => return Err("is of a type that no field of a data set has".to_owned()),
    })
}
