//! A torch state dict: a zip archive of one pickle and one entry for each storage.
//!
//! `PyTorchFileWriter` stores entries uncompressed under one folder, the archive's name: `data.pkl`,
//! `byteorder` (absent before torch 2.1, when it was little), `version`, `data/0`, `data/1` …

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Kind, Layout};
use super::{PyveneError, read_file};

/// The largest state dict, in bytes.
const LARGEST: u64 = 4 << 30;
/// The largest pickle of one; a tensor takes about 150 bytes of it.
const LARGEST_PICKLE: u64 = 1 << 20;

/// Numbers with their shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes; none for a scalar.
    pub shape: Vec<usize>,
    /// Values, the last dimension the fastest.
    pub values: Vec<f64>,
}

/// A state dict whose tensors are read when they are asked for.
pub struct StateDict {
    path: PathBuf,
    archive: ZipArchive<Cursor<Vec<u8>>>,
    /// Bytes of the file; no entry is longer.
    length: u64,
    folder: String,
    tensors: Vec<(String, Layout)>,
}

impl StateDict {
    /// Opens a `.bin` or `.pt` file.
    ///
    /// # Errors
    ///
    /// [`PyveneError`]; no code of the file is run, and foreign bytes never panic.
    pub fn open(path: &Path) -> Result<Self, PyveneError> {
        Self::of_bytes(read_file(path, LARGEST)?, path)
    }

    /// The state dict in a file's bytes; `path` is for errors.
    ///
    /// # Errors
    ///
    /// As [`StateDict::open`].
    pub fn of_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self, PyveneError> {
        let wrong = |problem: String| PyveneError::State {
            path: path.into(),
            problem,
        };
        // torch's format before 1.6 begins with a pickle, or is a tar archive
        if !bytes.starts_with(b"PK") {
            return Err(wrong(
                "it is no zip archive: load it with the torch that wrote it and save it again by torch.save, \
                 whose format has been zip since torch 1.6"
                    .into(),
            ));
        }
        let length = bytes.len() as u64;
        let archive = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| wrong(format!("it is no complete zip archive: {e}")))?;
        let mut folders = Vec::new();
        for name in archive.file_names() {
            let name = name.map_err(|e| wrong(format!("an entry's name cannot be read: {e}")))?;
            let folder = name.strip_suffix("data.pkl").unwrap_or_default();
            if folder.ends_with('/') && folder.matches('/').count() == 1 {
                folders.push(folder.to_owned());
            }
        }
        let folder = match (folders.pop(), folders.pop()) {
            (Some(folder), None) => folder,
            _ => {
                return Err(wrong(
                    "it has no data.pkl in its one folder: only what torch.save wrote can be read"
                        .into(),
                ));
            }
        };
        let mut state = Self {
            path: path.into(),
            archive,
            length,
            folder,
            tensors: Vec::new(),
        };
        let order = format!("{}byteorder", state.folder);
        if state.archive.index_for_name(&order).is_some()
            && state.entry("byteorder", 16)? != b"little"
        {
            return Err(
                state.wrong("its numbers are big-endian: save it on a little-endian machine")
            );
        }
        let pickle = state.entry("data.pkl", LARGEST_PICKLE)?;
        state.tensors = pickle::read(&pickle).map_err(|error| PyveneError::Pickle {
            path: path.into(),
            at: error.at,
            problem: error.problem,
        })?;
        Ok(state)
    }

    /// Names of its tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// Whether it has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// An error of this file.
    pub fn wrong(&self, problem: impl Into<String>) -> PyveneError {
        PyveneError::State {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    /// One of its tensors, widened to double precision.
    ///
    /// # Errors
    ///
    /// [`PyveneError`] if there is none, it does not lie within its storage, its elements share memory,
    /// or a number is not finite.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor, PyveneError> {
        let Some((_, layout)) = self.tensors.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = self.names().take(10).collect();
            return Err(self.wrong(format!(
                "it has no tensor `{name}`: it has {}",
                match known.is_empty() {
                    true => "none".to_owned(),
                    false => known.join(", ").escape_debug().to_string(),
                }
            )));
        };
        let layout = layout.clone();
        let span = Strided::of(&layout).map_err(|p| self.wrong(format!("tensor `{name}` {p}")))?;
        if layout.key.is_empty() || !layout.key.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.wrong(format!("tensor `{name}` names its storage by no number")));
        }
        let size = layout.kind.bytes();
        let bytes = self.entry(&format!("data/{}", layout.key), LARGEST)?;
        if span.numbers.checked_mul(size) != Some(bytes.len()) {
            return Err(self.wrong(format!(
                "tensor `{name}`: its storage has {} bytes where {} numbers of {size} were announced",
                bytes.len(),
                span.numbers,
            )));
        }
        let values: Vec<f64> = span
            .indices()
            .map(|index| number(layout.kind, &bytes[index * size..][..size]))
            .collect();
        match values.iter().find(|x| !x.is_finite()) {
            Some(x) => Err(self.wrong(format!(
                "tensor `{name}` has {x}: its numbers must be finite"
            ))),
            None => Ok(Tensor {
                shape: span.shape,
                values,
            }),
        }
    }

    /// An entry's bytes, its checksum verified.
    fn entry(&mut self, name: &str, most: u64) -> Result<Vec<u8>, PyveneError> {
        let path = self.path.clone();
        let wrong = |problem: String| PyveneError::State { path, problem };
        let length = self.length;
        let full = format!("{}{name}", self.folder);
        let mut entry = match self.archive.by_name(&full) {
            Ok(entry) => entry,
            Err(error) => return Err(wrong(format!("its entry {name} cannot be read: {error}"))),
        };
        if entry.compression() != CompressionMethod::Stored {
            return Err(wrong(format!(
                "its entry {name} is compressed, which torch.save never does"
            )));
        }
        if entry.size() > most.min(length) {
            return Err(wrong(format!(
                "its entry {name} announces {} bytes",
                entry.size()
            )));
        }
        let mut bytes = Vec::new();
        match entry.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(wrong(format!("its entry {name} cannot be read: {error}"))),
        }
    }
}

/// A layout that was found to lie within its storage.
struct Strided {
    numbers: usize,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Strided {
    fn of(layout: &Layout) -> Result<Self, String> {
        let unsigned = |list: &[i64]| -> Option<Vec<usize>> {
            list.iter().map(|n| usize::try_from(*n).ok()).collect()
        };
        let (Some(shape), Some(strides)) = (unsigned(&layout.shape), unsigned(&layout.strides))
        else {
            return Err("has a negative size or stride".into());
        };
        let (Ok(numbers), Ok(offset)) = (
            usize::try_from(layout.numbers),
            usize::try_from(layout.offset),
        ) else {
            return Err("has a negative offset or storage".into());
        };
        if shape.len() != strides.len() || shape.len() > 8 {
            return Err(format!(
                "has {} sizes and {} strides: it must have as many, and at most 8",
                shape.len(),
                strides.len()
            ));
        }
        let span = Self {
            numbers,
            offset,
            shape,
            strides,
        };
        if span.shape.contains(&0) {
            return Err("is empty".into());
        }
        // dimensions from the inmost out: each must step over all that the inner ones reach
        let mut steps: Vec<(usize, usize)> = span
            .strides
            .iter()
            .copied()
            .zip(span.shape.iter().copied())
            .collect();
        steps.retain(|(_, size)| *size > 1);
        steps.sort_unstable();
        let mut reach = 0usize;
        for (stride, size) in steps {
            if stride <= reach {
                return Err("has elements that share memory: save a contiguous clone of it".into());
            }
            let more = stride
                .checked_mul(size - 1)
                .and_then(|more| reach.checked_add(more));
            reach = more.ok_or("is larger than any memory")?;
        }
        match offset.checked_add(reach) {
            Some(last) if last < numbers => Ok(span),
            _ => Err(format!("reaches beyond its storage of {numbers} numbers")),
        }
    }

    /// Where each number stands in the storage, in the tensor's order.
    fn indices(&self) -> impl Iterator<Item = usize> {
        let count: usize = self.shape.iter().product();
        (0..count).map(|mut flat| {
            let mut index = self.offset;
            for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
                index += flat % size * stride;
                flat /= size;
            }
            index
        })
    }
}

/// One number out of as many bytes as its kind has.
fn number(kind: Kind, bytes: &[u8]) -> f64 {
    fn as_array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    match kind {
        Kind::Double => f64::from_le_bytes(as_array(bytes)),
        Kind::Float => f32::from_le_bytes(as_array(bytes)).into(),
        Kind::Half => f16::from_le_bytes(as_array(bytes)).into(),
        Kind::BFloat16 => bf16::from_le_bytes(as_array(bytes)).into(),
        Kind::Long => i64::from_le_bytes(as_array(bytes)) as f64,
        Kind::Int => i32::from_le_bytes(as_array(bytes)).into(),
        Kind::Short => i16::from_le_bytes(as_array(bytes)).into(),
        Kind::Char => i8::from_le_bytes(as_array(bytes)).into(),
        Kind::Byte | Kind::Bool => bytes[0].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(numbers: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Layout {
        Layout {
            kind: Kind::Float,
            key: "0".into(),
            numbers,
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn a_tensor_lies_within_its_storage_or_is_refused() {
        let fits = |numbers, offset, shape: &[i64], strides: &[i64]| {
            Strided::of(&layout(numbers, offset, shape, strides))
                .map(|s| s.indices().collect::<Vec<_>>())
        };
        assert_eq!(fits(6, 0, &[2, 3], &[3, 1]).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(fits(6, 0, &[2, 3], &[1, 2]).unwrap(), [0, 2, 4, 1, 3, 5]);
        assert_eq!(fits(9, 5, &[2, 1, 2], &[2, 77, 1]).unwrap(), [5, 6, 7, 8]);
        assert_eq!(fits(1, 0, &[], &[]).unwrap(), [0]);
        for (numbers, offset, shape, strides) in [
            (6, 1, &[2, 3][..], &[3, 1][..]),
            (8, 0, &[2, 3], &[2, 1]),
            (8, 0, &[4], &[0]),
            (8, 0, &[4], &[-1]),
            (8, 0, &[-4], &[1]),
            (8, -1, &[4], &[1]),
            (-8, 0, &[4], &[1]),
            (8, 0, &[4], &[1, 1]),
            (8, 0, &[0], &[1]),
            (8, 0, &[3], &[i64::MAX]),
            (8, 8, &[], &[]),
            (i64::MAX, i64::MAX, &[3, 3], &[1, i64::MAX]),
        ] {
            assert!(
                fits(numbers, offset, shape, strides).is_err(),
                "{shape:?} {strides:?}"
            );
        }
    }
}
