//! A table column by column, as Arrow's C stream and as what NumPy takes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{
    ArrayRef, Float64Array, RecordBatch, RecordBatchIterator, RecordBatchOptions, StringArray,
    UInt32Array,
};
use arrow_schema::{DataType, Field, Schema};
use headlight::results::columns::{Cell, Column, Kind};
use pyo3::exceptions::{PyIndexError, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyCapsule, PyList, PyString};

use crate::memory::{doubles, integers};

/// A table's columns.
#[pyclass(frozen, module = "headlight._headlight")]
pub struct Frame {
    columns: Vec<(Column, Values)>,
    rows: usize,
    /// How it was made, as JSON.
    made: String,
}

enum Values {
    Ints(Vec<Option<u32>>),
    Floats(Vec<Option<f64>>),
    /// Indices of texts, each of which is kept once.
    Texts(Vec<Option<u32>>, Vec<Box<str>>),
}

/// A column as NumPy takes it: values, and which of them are missing.
type Read<'py> = (
    &'static str,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyByteArray>>,
);

impl Frame {
    /// Rows of cells, each of its column's kind.
    pub fn new<'r, C: Iterator<Item = Cell<'r>>>(
        columns: Vec<Column>,
        rows: impl Iterator<Item = C>,
        made: String,
    ) -> Self {
        let empty = |column: &Column| match column.kind {
            Kind::Int => Values::Ints(Vec::new()),
            Kind::Float => Values::Floats(Vec::new()),
            Kind::Text => Values::Texts(Vec::new(), Vec::new()),
        };
        let mut values: Vec<Values> = columns.iter().map(empty).collect();
        let mut known: Vec<HashMap<&'r str, u32>> = vec![HashMap::new(); columns.len()];
        let mut count = 0;
        for mut cells in rows {
            count += 1;
            for (values, known) in values.iter_mut().zip(&mut known) {
                match (values, cells.next().unwrap_or(Cell::Missing)) {
                    (Values::Ints(all), Cell::Int(x)) => all.push(Some(x)),
                    (Values::Ints(all), _) => all.push(None),
                    (Values::Floats(all), Cell::Float(x)) => all.push(Some(x)),
                    (Values::Floats(all), _) => all.push(None),
                    (Values::Texts(all, texts), Cell::Text(text)) => {
                        let index = *known.entry(text).or_insert_with(|| {
                            texts.push(text.into());
                            texts.len() as u32 - 1
                        });
                        all.push(Some(index));
                    }
                    (Values::Texts(all, _), _) => all.push(None),
                }
            }
        }
        Self {
            columns: columns.into_iter().zip(values).collect(),
            rows: count,
            made,
        }
    }

    fn find(&self, name: &str) -> PyResult<&(Column, Values)> {
        let found = self.columns.iter().find(|(column, _)| column.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.columns.iter().map(|(c, _)| &*c.name).collect();
            let names = names.join(", ");
            PyKeyError::new_err(format!("there is no column {name:?}: there are {names}"))
        })
    }

    fn batch(&self) -> Result<RecordBatch, arrow_schema::ArrowError> {
        let fields = self.columns.iter().map(|(column, _)| {
            let kind = match column.kind {
                Kind::Int => DataType::UInt32,
                Kind::Float => DataType::Float64,
                Kind::Text => DataType::Utf8,
            };
            Field::new(column.name.clone(), kind, column.nullable)
        });
        let made = HashMap::from([("headlight".to_owned(), self.made.clone())]);
        let schema = Schema::new(fields.collect::<Vec<_>>()).with_metadata(made);
        let arrays = self.columns.iter().map(|(_, values)| -> ArrayRef {
            match values {
                Values::Ints(all) => Arc::new(UInt32Array::from(all.clone())),
                Values::Floats(all) => Arc::new(Float64Array::from(all.clone())),
                Values::Texts(all, texts) => {
                    let text = |i: &Option<u32>| i.map(|i| &*texts[i as usize]);
                    Arc::new(all.iter().map(text).collect::<StringArray>())
                }
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(Arc::new(schema), arrays.collect(), &options)
    }
}

#[pymethods]
impl Frame {
    fn __len__(&self) -> usize {
        self.rows
    }

    /// The columns' names, in order.
    fn names(&self) -> Vec<String> {
        let names = self.columns.iter();
        names.map(|(c, _)| c.name.clone().into_owned()).collect()
    }

    /// A column: "int" with 64-bit integers as bytes, "float" with doubles as bytes, or "text" with a list of
    /// texts and None; and a byte a value, 1 where it is missing, where some are.
    fn column<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Read<'py>> {
        fn missing<'py, T>(py: Python<'py>, all: &[Option<T>]) -> Option<Bound<'py, PyByteArray>> {
            let bytes: Vec<u8> = all.iter().map(|x| u8::from(x.is_none())).collect();
            bytes.contains(&1).then(|| PyByteArray::new(py, &bytes))
        }
        Ok(match &self.find(name)?.1 {
            Values::Ints(all) => {
                let numbers = all.iter().map(|x| x.map_or(-1, i64::from));
                ("int", integers(py, numbers)?.into_any(), missing(py, all))
            }
            Values::Floats(all) => {
                let numbers = all.iter().map(|x| x.unwrap_or(f64::NAN));
                ("float", doubles(py, numbers)?.into_any(), missing(py, all))
            }
            Values::Texts(all, texts) => {
                let texts: Vec<_> = texts.iter().map(|text| PyString::new(py, text)).collect();
                let each = all.iter().map(|i| i.map(|i| texts[i as usize].clone()));
                ("text", PyList::new(py, each)?.into_any(), None)
            }
        })
    }

    /// Some of the rows, by their numbers.
    fn take(&self, rows: Vec<usize>) -> PyResult<Self> {
        if let Some(row) = rows.iter().find(|row| **row >= self.rows) {
            return Err(PyIndexError::new_err(format!(
                "there is no row {row}: there are {}",
                self.rows
            )));
        }
        fn some<T: Copy>(all: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().map(|row| all[*row]).collect()
        }
        let columns = self.columns.iter().map(|(column, values)| {
            let values = match values {
                Values::Ints(all) => Values::Ints(some(all, &rows)),
                Values::Floats(all) => Values::Floats(some(all, &rows)),
                Values::Texts(all, texts) => Values::Texts(some(all, &rows), texts.clone()),
            };
            (column.clone(), values)
        });
        Ok(Self {
            columns: columns.collect(),
            rows: rows.len(),
            made: self.made.clone(),
        })
    }

    /// Arrow's C stream of the table, in one batch; its schema's metadata says how it was made.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // a wish that a producer need not grant
        drop(requested_schema);
        let batch = self.batch();
        let batch = batch.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let schema = batch.schema();
        let reader = RecordBatchIterator::new([Ok(batch)], schema);
        let stream = FFI_ArrowArrayStream::new(Box::new(reader));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }
}
