//! A torch state dict: a zip archive of one pickle and one entry for each storage.
//!
//! `PyTorchFileWriter` stores entries uncompressed under one folder, the archive's name: `data.pkl`,
//! `byteorder` (absent before torch 2.1, when it was little), `version`, `data/0`, `data/1` …

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use zip::{CompressionMethod, ZipArchive};

use super::pickle;
use super::storage::{Layout, Strided, number};
use super::{PyveneError, printable, read_file};

/// The largest state dict, in bytes.
const LARGEST: u64 = 4 << 30;
/// The largest pickle of one; a tensor takes about 150 bytes of it.
const LARGEST_PICKLE: u64 = 1 << 20;

/// Numbers with their shape.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTensor {
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
    pub fn tensor(&mut self, name: &str) -> Result<StoredTensor, PyveneError> {
        let Some((_, layout)) = self.tensors.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = self.names().take(10).collect();
            return Err(self.wrong(format!(
                "it has no tensor `{name}`: it has {}",
                match known.is_empty() {
                    true => "none".to_owned(),
                    false => printable(&known.join(", "), 400),
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
            None => Ok(StoredTensor {
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
