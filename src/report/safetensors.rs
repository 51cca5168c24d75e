//! safetensors, tensor by tensor from wherever they wait.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::ReportError;
use crate::execute::collect::Collection;
use crate::files::error::FileError;
use crate::files::spool::Spool;
use crate::files::whole::WholeFile;
use crate::results::array::{Array, Arrays};
use crate::results::rows::{Gather, RunResult};

/// Writes what stands before the tensors: the length of the header and the header, for tensors of one type
/// (name, shape, bytes) in the order of their names.
fn write_header<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize], u64)>,
    dtype: Dtype,
    about: HashMap<String, String>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut offset = 0;
    let info = |(name, shape, bytes): (&str, &[usize], u64)| {
        let start = offset;
        offset += bytes as usize;
        let info = TensorInfo {
            dtype,
            shape: shape.to_vec(),
            data_offsets: (start, offset),
        };
        (name.to_owned(), info)
    };
    let metadata = Metadata::new(Some(about), tensors.map(info).collect());
    let metadata = metadata.map_err(io::Error::other)?;
    let mut header = serde_json::to_value(&metadata)?;
    // a map has its words in any order, and the same result is the same bytes
    if let Some(serde_json::Value::Object(about)) = header.get_mut("__metadata__") {
        about.sort_keys();
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)
}

/// Writes arrays: doubles as tensors, everything else as metadata.
pub(super) fn write_arrays(
    arrays: Arrays,
    mut about: HashMap<String, String>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut tensors = Vec::new();
    for (name, array) in arrays {
        match array.json() {
            Some(json) => drop(about.insert(name, json)),
            None => tensors.push((name, array)),
        }
    }
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let each = tensors.iter().filter_map(|(name, array)| match array {
        Array::Floats(shape, values) => Some((&**name, &**shape, 8 * values.len() as u64)),
        Array::Spooled(shape, spool) => Some((&**name, &**shape, spool.bytes())),
        _ => None,
    });
    write_header(each, Dtype::F64, about, out)?;
    for (_, array) in &mut tensors {
        array.write_numbers(out)?;
    }
    Ok(())
}

/// Activations on their way into a file of f32 tensors; until then they wait on disk.
pub struct Activations<'a> {
    path: &'a Path,
    spool: Spool,
    /// Name, shape, and where it stands among those that wait.
    tensors: Vec<(String, Vec<usize>, u64)>,
}

impl<'a> Activations<'a> {
    /// None yet, for a file at `path`.
    pub fn new(path: &'a Path) -> Self {
        Self {
            path,
            spool: Spool::beside(path),
            tensors: Vec::new(),
        }
    }

    /// Where they will be.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tensors.len()
    }

    /// Adds one, rounded to f32.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`] where the disk does not take it.
    pub fn add(
        &mut self,
        name: String,
        shape: Vec<usize>,
        values: &[f64],
    ) -> Result<(), FileError> {
        self.tensors.push((name, shape, self.spool.bytes()));
        let bytes = values.iter().map(|x| (*x as f32).to_le_bytes());
        let pushed = self.spool.push(bytes);
        pushed.map_err(FileError::write_to(self.path))
    }

    /// Writes the file, with a few words about them.
    ///
    /// # Errors
    ///
    /// [`FileError`] where the file cannot be written; nothing of it is left then.
    pub fn write(mut self, about: HashMap<String, String>) -> Result<(), FileError> {
        let mut file = WholeFile::create(self.path)?;
        let all = std::mem::take(&mut self.tensors).into_iter();
        let bytes = |shape: &[usize]| 4 * shape.iter().product::<usize>() as u64;
        let mut all: Vec<_> = all.collect();
        all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let tensors = all
            .iter()
            .map(|(name, shape, _)| (&**name, &**shape, bytes(shape)));
        let write = || {
            write_header(tensors, Dtype::F32, about, &mut file)?;
            all.iter()
                .try_for_each(|(_, shape, start)| self.spool.copy(*start, bytes(shape), &mut file))
        };
        write().map_err(FileError::write_to(self.path))?;
        file.finish()
    }
}

/// What patches collect, as `PAIR.RUN.PATCH`.
impl Gather for Activations<'_> {
    fn run(&mut self, _: &RunResult<'_>) -> Result<(), FileError> {
        Ok(())
    }

    fn collected(&mut self, pair: usize, found: &Collection) -> Result<(), FileError> {
        let name = format!("{pair}.{}.{}", found.run, found.patch);
        self.add(name, found.shape.clone(), &found.values)
    }
}

/// Checks that [`Activations`] could be written to `path`, for the start of a long computation.
///
/// # Errors
///
/// [`ReportError`] for another ending, and where no file can be made.
pub fn check_activations(path: &Path) -> Result<(), ReportError> {
    if path.extension().is_none_or(|e| e != "safetensors") {
        return Err(ReportError::UnknownFormat {
            path: path.into(),
            what: "activations",
            endings: ".safetensors",
        });
    }
    WholeFile::create(path)?;
    Ok(())
}
