//! Arrays between Python and the engine.

use headlight::model::ForeignTensor;
use headlight::model::ModelError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

/// A tensor that Python owns: name, type, shape, address, bytes, and whoever keeps it alive.
pub type Lent = (String, String, Vec<usize>, usize, usize, Py<PyAny>);

/// Memory of an object of Python's, which is kept for as long.
struct LentBytes {
    address: usize,
    length: usize,
    _owner: Py<PyAny>,
}

impl AsRef<[u8]> for LentBytes {
    fn as_ref(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: `headlight._weights` takes address and length from a contiguous array or tensor on the CPU that
        // it hands over as the owner; the reference to it keeps the memory. That nobody writes to it while the
        // engine reads is up to its user, as for every view of an array; the package refuses to go on once it
        // sees that the weights were changed.
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.length) }
    }
}

/// Tensors of the engine's over memory of Python's.
pub fn tensors(lent: Vec<Lent>) -> Vec<ForeignTensor> {
    let one = |(name, dtype, shape, address, length, owner)| ForeignTensor {
        name,
        dtype,
        shape,
        bytes: Box::new(LentBytes {
            address,
            length,
            _owner: owner,
        }),
    };
    lent.into_iter().map(one).collect()
}

/// A tokenizer out of `tokenizer.json`.
pub fn tokenizer(
    json: Option<Vec<u8>>,
    name: &str,
) -> Result<Option<headlight::model::Tokenizer>, ModelError> {
    let file = format!("{name}/tokenizer.json");
    let read = |json: Vec<u8>| headlight::model::Tokenizer::from_json(&json, &file);
    json.map(read).transpose()
}

/// Doubles as bytes, for `numpy.frombuffer`.
pub fn doubles<'py>(
    py: Python<'py>,
    values: impl ExactSizeIterator<Item = f64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, values.len() * 8, |bytes| {
        for (to, from) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(values) {
            *to = from.to_le_bytes();
        }
        Ok(())
    })
}

/// 64-bit integers as bytes.
pub fn integers<'py>(
    py: Python<'py>,
    values: impl ExactSizeIterator<Item = i64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, values.len() * 8, |bytes| {
        for (to, from) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(values) {
            *to = from.to_le_bytes();
        }
        Ok(())
    })
}

/// Singles as bytes.
pub fn singles<'py>(py: Python<'py>, values: &[f32]) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, values.len() * 4, |bytes| {
        for (to, from) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *to = from.to_le_bytes();
        }
        Ok(())
    })
}
