//! What commands write, as texts that hold every bit of every number and nothing that may differ between
//! two builds which compute the same: times, versions, paths, the order of keys in a header, how a file is
//! compressed or cut into row groups. A NaN is a NaN, whatever its bits.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::io::{Cursor, Read};

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::printer::print_schema;
use serde_json::Value;

/// A file's content by its name's ending.
pub fn text(name: &str, bytes: &[u8]) -> String {
    let ending = name.rsplit('.').next().unwrap();
    match ending {
        "parquet" => parquet(bytes),
        "npz" => npz(bytes),
        "safetensors" => safetensors(bytes),
        _ => {
            let text = String::from_utf8(bytes.to_vec());
            let text = text.unwrap_or_else(|_| panic!("{name} is not text"));
            match name.ends_with(".meta.json") {
                true => provenance(&text).unwrap(),
                false => text,
            }
        }
    }
}

/// How long runs took is not theirs: `200 runs in 0.1 s (1915 runs/s, 1.4 GFLOP/s; 128 skipped)` is
/// `200 runs in …; 128 skipped)`.
pub fn without_times(said: &str) -> String {
    let mut text = String::new();
    for line in said.lines() {
        let timed = ["run in ", "runs in "].iter().find_map(|what| {
            line.split_once(what)
                .map(|(count, rest)| (count, what, rest))
        });
        match timed {
            Some((count, what, rest)) => {
                let rest = rest.split_once(';').map_or("", |(_, rest)| rest);
                writeln!(text, "{count}{what}…;{rest}").unwrap();
            }
            None => writeln!(text, "{line}").unwrap(),
        }
    }
    text
}

/// How a result was made, but for the version and the program's path; `None` for another text.
fn provenance(text: &str) -> Option<String> {
    let mut about: Value = serde_json::from_str(text).ok()?;
    let of = about.as_object_mut()?;
    of.shift_remove("version")?;
    of.shift_remove("command")?;
    Some(format!("{about:#}"))
}

/// Types, rows, and what stands beside them.
fn parquet(bytes: &[u8]) -> String {
    let file = SerializedFileReader::new(Bytes::copy_from_slice(bytes)).unwrap();
    let meta = file.metadata().file_metadata();
    let mut schema = Vec::new();
    print_schema(&mut schema, meta.schema());
    let mut text = String::from_utf8(schema).unwrap();
    let beside = meta.key_value_metadata().into_iter().flatten();
    // the checksum is of the bytes, in which the version and the program's path stand
    let beside = beside.filter(|pair| pair.key != "headlight.crc32");
    let beside: BTreeMap<_, _> = beside.map(|pair| (&pair.key, &pair.value)).collect();
    for (key, value) in beside {
        let value = value.as_deref().unwrap_or_default();
        let value = provenance(value).unwrap_or_else(|| value.to_owned());
        writeln!(text, "{key} = {value}").unwrap();
    }
    for row in file.get_row_iter(None).unwrap() {
        for (name, field) in row.unwrap().get_column_iter() {
            match field {
                Field::Double(x) => writeln!(text, "{name} {x:?}").unwrap(),
                other => writeln!(text, "{name} {other}").unwrap(),
            }
        }
    }
    text
}

/// Names, types, shapes and values of the arrays, in the file's order.
fn npz(bytes: &[u8]) -> String {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut text = String::new();
    for i in 0..archive.len() {
        let mut member = archive.by_index(i).unwrap();
        let name = member.name().unwrap().into_owned();
        let mut npy = Vec::new();
        member.read_to_end(&mut npy).unwrap();
        let length = usize::from(u16::from_le_bytes([npy[8], npy[9]]));
        let mut header = std::str::from_utf8(&npy[10..10 + length]).unwrap();
        let values = &npy[10 + length..];
        let numbers = values.as_chunks::<8>().0.iter();
        let mut content = String::new();
        match header.split('\'').nth(3).unwrap() {
            "<f8" => lines(&mut content, 8, numbers.map(|x| f64::from_le_bytes(*x))),
            "<i8" => lines(&mut content, 8, numbers.map(|x| i64::from_le_bytes(*x))),
            texts => {
                let width: usize = texts.strip_prefix("<U").unwrap().parse().unwrap();
                let letter = |x: &[u8; 4]| char::from_u32(u32::from_le_bytes(*x)).unwrap();
                for one in values.chunks(4 * width) {
                    let one: String = one.as_chunks::<4>().0.iter().map(letter).collect();
                    let one = one.trim_end_matches('\0');
                    if let Some(about) = provenance(one) {
                        // as wide as the program's path makes it
                        header = "";
                        writeln!(content, "{about}").unwrap();
                    } else {
                        writeln!(content, "{one}").unwrap();
                    }
                }
            }
        }
        writeln!(text, "{name} {}\n{content}", header.trim_end()).unwrap();
    }
    text
}

/// Metadata, then names, types, shapes and values of the tensors, by name.
fn safetensors(bytes: &[u8]) -> String {
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let mut text = String::new();
    for (name, tensor) in header {
        if name == "__metadata__" {
            let about: BTreeMap<String, String> = serde_json::from_value(tensor).unwrap();
            for (key, value) in about {
                let value = provenance(&value).unwrap_or(value);
                writeln!(text, "{key} = {value}").unwrap();
            }
            continue;
        }
        let at = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
        let values = &data[at(0)..at(1)];
        writeln!(text, "{name} {} {}", tensor["dtype"], tensor["shape"]).unwrap();
        let width = tensor["shape"].as_array().unwrap().last();
        let width = width.map_or(1, |n| n.as_u64().unwrap().max(1) as usize);
        match tensor["dtype"].as_str().unwrap() {
            "F32" => {
                let numbers = values.as_chunks::<4>().0.iter();
                lines(&mut text, width, numbers.map(|x| f32::from_le_bytes(*x)));
            }
            "F64" => {
                let numbers = values.as_chunks::<8>().0.iter();
                lines(&mut text, width, numbers.map(|x| f64::from_le_bytes(*x)));
            }
            "I64" => {
                let numbers = values.as_chunks::<8>().0.iter();
                lines(&mut text, width, numbers.map(|x| i64::from_le_bytes(*x)));
            }
            other => panic!("{name} is of type {other}"),
        }
    }
    text
}

/// Numbers in their shortest form that is read back to the same bits, so many a line.
fn lines<T: Debug>(text: &mut String, width: usize, numbers: impl Iterator<Item = T>) {
    for (i, number) in numbers.enumerate() {
        let end = if (i + 1) % width == 0 { '\n' } else { ' ' };
        write!(text, "{number:?}{end}").unwrap();
    }
    text.push('\n');
}
