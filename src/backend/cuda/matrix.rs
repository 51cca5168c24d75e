//! Matrices on the device, and how kernels see them.

use std::sync::Arc;

use half::{bf16, f16};

use super::arguments::{Pointer, View};
use super::device::{Device, failed};
use super::memory::{Allocation, Transfers};
use crate::backend::{DeviceError, Precision, Store};
use crate::model::Config;

/// The type of a matrix's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// Half precision.
    F16,
}

impl Element {
    /// The type of branch activations in a precision.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
            Precision::F32 | Precision::F64 | Precision::Tf32 => Self::F32,
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The suffix of kernels for it.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Its name in the kernels' sources.
    pub fn c_name(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Numbers as bytes of this type, rounded to nearest, ties to even.
    pub fn encode(self, values: impl Iterator<Item = f64>) -> Vec<u8> {
        match self {
            Self::F32 => values.flat_map(|x| (x as f32).to_ne_bytes()).collect(),
            Self::Bf16 => values
                .flat_map(|x| bf16::from_f64(x).to_ne_bytes())
                .collect(),
            Self::F16 => values
                .flat_map(|x| f16::from_f64(x).to_ne_bytes())
                .collect(),
        }
    }

    /// The numbers that bytes of this type are.
    pub fn decode(self, bytes: &[u8]) -> Vec<f64> {
        match self {
            Self::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f64::from(f32::from_ne_bytes(*b)))
                .collect(),
            Self::Bf16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| bf16::from_ne_bytes(*b).to_f64())
                .collect(),
            Self::F16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f16::from_ne_bytes(*b).to_f64())
                .collect(),
        }
    }
}

/// A matrix on the device: row-major, or for queries, keys, values and z `[head][row][d]`.
pub struct Matrix {
    memory: Option<Allocation>,
    /// Rows in use.
    pub rows: usize,
    /// Rows that there is room for.
    capacity: usize,
    /// Columns.
    pub width: usize,
    /// Columns in a stretch: the width, or one head's.
    segment: usize,
    /// The type of its numbers.
    pub element: Element,
}

impl Matrix {
    /// A matrix of unspecified contents; one that keeps scores or patterns is zero.
    pub fn new(
        device: &Arc<Device>,
        config: &Config,
        branch: Element,
        (rows, width): (usize, usize),
        store: Store,
    ) -> Result<Self, DeviceError> {
        let mut matrix = Self {
            memory: None,
            rows,
            capacity: 0,
            width,
            segment: match store {
                Store::Heads => config.head_width(),
                _ => width.max(1),
            },
            element: match store {
                Store::Residual | Store::Keys => Element::F32,
                Store::Branch | Store::Heads => branch,
            },
        };
        matrix.resize(device, rows)?;
        if let (Store::Keys, Some(memory)) = (store, &matrix.memory) {
            let bound = device.bind().map_err(failed("clearing memory"))?;
            bound.zero(memory.pointer, memory.bytes)?;
        }
        Ok(matrix)
    }

    /// A matrix that has no memory: what stands where an allocation failed.
    pub fn broken(width: usize, element: Element) -> Self {
        Self {
            memory: None,
            rows: 0,
            capacity: 0,
            width,
            segment: width.max(1),
            element,
        }
    }

    /// Room for some rows; contents are unspecified where there was less.
    pub fn resize(&mut self, device: &Arc<Device>, rows: usize) -> Result<(), DeviceError> {
        if rows > self.capacity {
            // given back once nothing that waits names it
            self.memory = None;
            self.capacity = 0;
            self.rows = 0;
            let bytes = rows * self.width * self.element.bytes();
            self.memory = Some(device.allocate(bytes)?);
            self.capacity = rows;
        }
        self.rows = rows;
        Ok(())
    }

    /// As kernels see it.
    pub fn view(&self) -> View {
        let heads = self.segment < self.width;
        View {
            data: self
                .memory
                .as_ref()
                .map_or(Pointer::NULL, |m| Pointer(m.pointer)),
            segment_stride: if heads {
                (self.capacity * self.segment) as u64
            } else {
                0
            },
            row_stride: self.segment as u32,
            segment: self.segment as u32,
        }
    }

    /// The same from a row on.
    pub fn view_from(&self, row: usize) -> View {
        let view = self.view();
        let skipped = row * view.row_stride as usize * self.element.bytes();
        View {
            data: view.data.offset(skipped),
            ..view
        }
    }

    /// Device address and columns of each stretch's used rows.
    fn stretches(&self) -> impl Iterator<Item = (u64, usize)> {
        let view = self.view();
        let count = self.width / self.segment;
        let step = view.segment_stride * self.element.bytes() as u64;
        (0..count as u64).map(move |i| (view.data.0 + i * step, self.segment))
    }

    /// Writes all rows in use.
    pub(super) fn write(&self, transfers: &Transfers, values: &[f64]) -> Result<(), DeviceError> {
        let mut column = 0;
        for (at, wide) in self.stretches() {
            let rows = values.chunks_exact(self.width.max(1));
            let stretch = rows.flat_map(|row| row[column..column + wide].iter().copied());
            let bytes = self.element.encode(stretch);
            transfers.write(at, &bytes)?;
            column += wide;
        }
        Ok(())
    }

    /// Device addresses of a stretch of a row, each with how many numbers stand there.
    fn pieces(&self, row: usize, column: usize, length: usize) -> Vec<(u64, usize)> {
        let (view, end) = (self.view(), column + length);
        let size = self.element.bytes() as u64;
        let mut pieces = Vec::new();
        let mut at = column;
        while at < end {
            let (segment, within) = (at / self.segment, at % self.segment);
            let count = (self.segment - within).min(end - at);
            let number = segment as u64 * view.segment_stride
                + row as u64 * u64::from(view.row_stride)
                + within as u64;
            pieces.push((view.data.0 + number * size, count));
            at += count;
        }
        pieces
    }

    /// Writes a stretch of a row.
    pub(super) fn write_stretch(
        &self,
        transfers: &Transfers,
        (row, column): (usize, usize),
        values: &[f64],
    ) -> Result<(), DeviceError> {
        let mut rest = values;
        for (at, count) in self.pieces(row, column, values.len()) {
            let (these, others) = rest.split_at(count);
            transfers.write(at, &self.element.encode(these.iter().copied()))?;
            rest = others;
        }
        Ok(())
    }

    /// Reads a stretch of a row, and waits.
    pub(super) fn read_stretch(
        &self,
        transfers: &Transfers,
        (row, column): (usize, usize),
        length: usize,
    ) -> Result<Vec<f64>, DeviceError> {
        let pieces = self.pieces(row, column, length).into_iter();
        let places: Vec<_> = pieces
            .map(|(at, count)| (at, count * self.element.bytes()))
            .collect();
        Ok(self.element.decode(&transfers.read(&places)?))
    }

    /// Reads all rows in use, and waits.
    pub(super) fn read(&self, transfers: &Transfers) -> Result<Vec<f64>, DeviceError> {
        let mut values = vec![0.0; self.rows * self.width];
        if values.is_empty() {
            return Ok(values);
        }
        let size = self.rows * self.element.bytes();
        let stretches: Vec<_> = self
            .stretches()
            .map(|(at, wide)| (at, wide * size))
            .collect();
        let bytes = transfers.read(&stretches)?;
        let (mut rest, mut column) = (&*bytes, 0);
        for (_, count) in stretches {
            let (these, others) = rest.split_at(count);
            let (stretch, wide) = (self.element.decode(these), count / size);
            let rows = values.chunks_exact_mut(self.width);
            for (row, from) in rows.zip(stretch.chunks_exact(wide)) {
                row[column..column + wide].copy_from_slice(from);
            }
            (rest, column) = (others, column + wide);
        }
        Ok(values)
    }
}
