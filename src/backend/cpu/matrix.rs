//! Matrices in memory, and how tables name stretches of their rows.

use crate::backend::Rows;
use crate::plan::writes::Operand;

/// A row-major matrix in memory.
#[derive(Debug, Clone, Default)]
pub struct Buffer<T> {
    pub(super) data: Vec<T>,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl<T> Buffer<T> {
    pub(super) fn row(&self, row: usize) -> &[T] {
        &self.data[row * self.width..][..self.width]
    }

    pub(super) fn filled(&mut self, rows: usize) -> &mut [T] {
        &mut self.data[..rows * self.width]
    }
}

/// The row that a table entry names. A cache row exists wherever the plan refers to one.
#[inline(always)]
pub fn at<'a, T>(rows: &Rows<'a, Buffer<T>>, i: usize) -> &'a [T] {
    match (rows.refs[i].row(), rows.cache) {
        (Ok(row), _) => rows.own.row(row),
        (Err(row), Some(cache)) => cache.row(row),
        (Err(row), None) => panic!("row {row} of a cache that is not kept: the plan is wrong"),
    }
}

/// What an operand of some numbers is.
pub fn read<'a, T>(
    operand: Operand,
    length: usize,
    kept: &'a [Buffer<T>],
    constants: &'a [T],
) -> &'a [T] {
    match operand {
        Operand::None => &[],
        Operand::Kept { slot, row, column } => &kept[slot].row(row)[column..][..length],
        Operand::Constant(offset) => &constants[offset..][..length],
    }
}

/// A matrix whose rows are written by different threads, each its own stretches.
pub struct Shared<T> {
    base: *mut T,
    length: usize,
    width: usize,
}

// SAFETY: `write` is called once for each (row, column) stretch: attention computes every (row of
// z, head) once, and a plan keeps different rows of z in different rows of the cache; its adjoint
// writes a run's rows of a head in one task, and runs share no rows.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    pub fn new(matrix: &mut Buffer<T>) -> Self {
        Self {
            base: matrix.data.as_mut_ptr(),
            length: matrix.data.len(),
            width: matrix.width,
        }
    }

    pub fn write(&self, row: usize, column: usize, values: &[T]) {
        let start = row * self.width + column;
        assert!(
            start + values.len() <= self.length,
            "kept scores do not fit their matrix"
        );
        // SAFETY: in bounds by the line above; nobody else writes this stretch, see `Sync`.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.base.add(start), values.len())
        }
    }
}
