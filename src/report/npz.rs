//! NumPy's `.npz`: a ZIP archive, not compressed, of one `.npy` an array.

use std::io::{self, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::results::array::Array;

/// Writes the archive to `out`.
pub(super) fn write_npz(
    arrays: &mut [(String, Array)],
    out: &mut (impl Write + Seek),
) -> io::Result<()> {
    let mut zip = ZipWriter::new(out);
    for (name, array) in arrays {
        let (kind, shape, bytes) = describe(array);
        let header = header(&kind, &shape);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(header.len() as u64 + bytes >= u64::from(u32::MAX));
        zip.start_file(format!("{name}.npy"), options)
            .map_err(io::Error::other)?;
        zip.write_all(&header)?;
        match array {
            Array::Floats(..) | Array::Spooled(..) => array.write_numbers(&mut zip)?,
            Array::Indices(_, list) => {
                for index in list {
                    zip.write_all(&(*index as i64).to_le_bytes())?;
                }
            }
            Array::Texts(list) => write_texts(list, &mut zip)?,
            Array::Text(text) => write_texts(std::slice::from_ref(text), &mut zip)?,
        }
    }
    zip.finish().map_err(io::Error::other)?;
    Ok(())
}

/// Type and shape of an array, and how many bytes its values are.
fn describe(array: &Array) -> (String, Vec<usize>, u64) {
    let texts = |list: &[String], shape| {
        let width = width(list);
        (format!("<U{width}"), shape, (4 * width * list.len()) as u64)
    };
    match array {
        Array::Floats(shape, values) => ("<f8".into(), shape.clone(), 8 * values.len() as u64),
        Array::Spooled(shape, spool) => ("<f8".into(), shape.clone(), spool.bytes()),
        Array::Indices(shape, list) => ("<i8".into(), shape.clone(), 8 * list.len() as u64),
        Array::Texts(list) => texts(list, vec![list.len()]),
        Array::Text(text) => texts(std::slice::from_ref(text), Vec::new()),
    }
}

/// What stands before the values in NumPy's format, version 1: magic, length of the header, header.
fn header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let lengths: String = shape.iter().map(|n| format!("{n},")).collect();
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({lengths}), }}");
    // values begin at a multiple of 64
    let padding = 64 - (10 + header.len() + 1) % 64;
    let length = header.len() + padding % 64 + 1;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(10 + length - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// Characters of the longest text; a width of nothing is not readable everywhere.
fn width(list: &[String]) -> usize {
    let widths = list.iter().map(|text| text.chars().count());
    widths.max().unwrap_or(0).max(1)
}

/// Texts padded to the longest, as NumPy does, in UTF-32.
fn write_texts(list: &[String], out: &mut impl Write) -> io::Result<()> {
    let width = width(list);
    for text in list {
        let padding = std::iter::repeat('\0');
        for c in text.chars().chain(padding).take(width) {
            out.write_all(&u32::from(c).to_le_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read};

    #[test]
    fn arrays_are_as_numpy_writes_them() {
        let texts = vec!["ab".to_owned(), "ü".to_owned()];
        let mut arrays = [
            (
                "x".to_owned(),
                Array::Floats(vec![1, 2], vec![0.5, f64::NAN]),
            ),
            ("t".to_owned(), Array::Texts(texts)),
            ("i".to_owned(), Array::indices(vec![])),
            ("n".to_owned(), Array::Indices(vec![], vec![7])),
            ("s".to_owned(), Array::Text("abc".to_owned())),
        ];
        let mut file = Cursor::new(Vec::new());
        write_npz(&mut arrays, &mut file).unwrap();
        let mut zip = zip::ZipArchive::new(file).unwrap();
        let mut read = |name: &str| {
            let mut bytes = Vec::new();
            zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        // what numpy.save writes for np.array([[0.5, nan]])
        let x = read("x.npy");
        assert!(x.starts_with(
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1,2,), }"
        ));
        assert_eq!((x.len(), x[127]), (128 + 16, b'\n'));
        assert_eq!(x[128..136], 0.5f64.to_le_bytes());
        let t = read("t.npy");
        assert!(t.windows(4).any(|w| w == b"<U2'"));
        assert_eq!(
            t[128..],
            [97, 0, 0, 0, 98, 0, 0, 0, 252, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(read("i.npy").len(), 128);
        // a single value has no axes
        let n = read("n.npy");
        assert!(n.windows(13).any(|w| w == b"'shape': (), "));
        assert_eq!(n[128..], 7i64.to_le_bytes());
        let s = read("s.npy");
        assert!(s.windows(5).any(|w| w == b"'<U3'"));
        assert_eq!(s[128..].len(), 12);
    }
}
