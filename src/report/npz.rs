//! NumPy's `.npz`: a ZIP archive, not compressed, of one `.npy` an array.

use std::io::{self, Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::results::array::Array;

/// The archive's bytes.
pub(super) fn write_npz<'a>(
    arrays: impl IntoIterator<Item = &'a (String, Array)>,
) -> io::Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, array) in arrays {
        let bytes = npy(array);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() >= u32::MAX as usize);
        zip.start_file(format!("{name}.npy"), options)
            .map_err(io::Error::other)?;
        zip.write_all(&bytes)?;
    }
    Ok(zip.finish().map_err(io::Error::other)?.into_inner())
}

/// One array in NumPy's format, version 1: magic, length of the header, header, values.
fn npy(array: &Array) -> Vec<u8> {
    let (kind, shape, values): (String, Vec<usize>, Vec<u8>) = match array {
        Array::Floats(shape, values) => (
            "<f8".into(),
            shape.clone(),
            values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
        Array::Indices(shape, list) => (
            "<i8".into(),
            shape.clone(),
            list.iter()
                .flat_map(|i| (*i as i64).to_le_bytes())
                .collect(),
        ),
        Array::Texts(list) => texts(list, vec![list.len()]),
        Array::Text(text) => texts(std::slice::from_ref(text), Vec::new()),
    };
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
    bytes.extend(values);
    bytes
}

/// Texts padded to the longest, as NumPy does: type, shape, UTF-32.
fn texts(list: &[String], shape: Vec<usize>) -> (String, Vec<usize>, Vec<u8>) {
    let chars: Vec<Vec<char>> = list.iter().map(|text| text.chars().collect()).collect();
    // a width of nothing is not readable everywhere
    let width = chars.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let padded = |text: &Vec<char>| {
        let padding = std::iter::repeat_n('\0', width - text.len());
        let all: Vec<u8> = text
            .iter()
            .copied()
            .chain(padding)
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        all
    };
    (
        format!("<U{width}"),
        shape,
        chars.iter().flat_map(padded).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn arrays_are_as_numpy_writes_them() {
        let texts = vec!["ab".to_owned(), "ü".to_owned()];
        let arrays = [
            (
                "x".to_owned(),
                Array::Floats(vec![1, 2], vec![0.5, f64::NAN]),
            ),
            ("t".to_owned(), Array::Texts(texts)),
            ("i".to_owned(), Array::indices(vec![])),
            ("n".to_owned(), Array::Indices(vec![], vec![7])),
            ("s".to_owned(), Array::Text("abc".to_owned())),
        ];
        let file = write_npz(&arrays).unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(file)).unwrap();
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
