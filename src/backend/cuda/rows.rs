//! Launches of the row-wise kernels: embedding, gather and keep, sums, layer norm, activation,
//! overwrites, comparison.

use super::Cuda;
use super::device::Allocation;
use super::kernels::Kernel;
use super::linear::activation;
use super::matrix::{Element, Matrix, View};
use super::queue::{Launch, Queue, Table};
use crate::backend::{DeviceError, Embedding, Norm, Rows, Same};
use crate::plan::edit::EditOp;
use crate::plan::tables::{Operand, Write};

/// An overwrite as kernels read it. Mirrors `Write` in kernels/overwrite.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct DeviceWrite {
    row: u32,
    head: u32,
    column: u32,
    length: u32,
    op: u32,
    operand: u32,
    slot: u32,
    operand_row: u32,
    operand_column: u64,
    scalar: f32,
    padding: u32,
}

impl From<&Write> for DeviceWrite {
    fn from(write: &Write) -> Self {
        let (op, scalar) = match write.op {
            EditOp::Set => (0, 0.0),
            EditOp::Zero => (1, 0.0),
            EditOp::Add => (2, 0.0),
            EditOp::Subtract => (3, 0.0),
            EditOp::Scale(x) => (4, x),
            EditOp::Interpolate(alpha) => (5, alpha),
        };
        let (operand, slot, operand_row, operand_column) = match write.operand {
            Operand::None => (0, 0, 0, 0),
            Operand::Kept { slot, row, column } => (1, slot, row, column),
            Operand::Constant(offset) => (2, 0, 0, offset),
        };
        Self {
            row: write.row as u32,
            head: write.head as u32,
            column: write.column as u32,
            length: write.length as u32,
            op,
            operand,
            slot: slot as u32,
            operand_row: operand_row as u32,
            operand_column: operand_column as u64,
            scalar: scalar as f32,
            padding: 0,
        }
    }
}

/// Two stretches to compare. Mirrors `Comparison` in kernels/rows.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct DeviceComparison {
    a_matrix: u32,
    a_row: u32,
    a_column: u32,
    b_matrix: u32,
    b_row: u32,
    b_column: u32,
    length: u32,
    padding: u32,
}

/// Numbers that overwrites read, in each type that they may be read in.
pub struct Constants {
    /// f32.
    pub(super) full: Option<Allocation>,
    /// The precision's own, where it is another.
    pub(super) branch: Option<Allocation>,
}

impl Constants {
    /// Where those of a type start.
    pub fn pointer(&self, element: Element) -> u64 {
        let memory = match element {
            Element::F32 => &self.full,
            Element::Bf16 | Element::F16 => &self.branch,
        };
        memory.as_ref().map_or(0, |m| m.pointer)
    }
}

/// Views of all kept matrices, those of another type left out.
pub fn views(queue: &mut Queue, kept: &[Matrix], element: Element) -> Table {
    let view = |matrix: &Matrix| {
        if matrix.element == element {
            matrix.view()
        } else {
            View::NONE
        }
    };
    queue.table(&kept.iter().map(view).collect::<Vec<_>>())
}

trait RowArguments {
    /// The own rows, the trace's, and which is which.
    fn own_and_trace(self, queue: &mut Queue, rows: &Rows<'_, Matrix>) -> Self;
}

impl RowArguments for Launch {
    fn own_and_trace(self, queue: &mut Queue, rows: &Rows<'_, Matrix>) -> Self {
        let refs = queue.refs(rows.refs);
        self.view(rows.own.view())
            .view(rows.cache.map_or(View::NONE, Matrix::view))
            .table(refs)
    }
}

pub fn embed(cuda: &Cuda, table: Embedding, index: &[u32], out: &Matrix) {
    cuda.record_rows(index.len(), |queue| {
        let at = queue.table(index);
        Launch::rows(Kernel::Embed, index.len())
            .pointer(cuda.weights.embedding(table))
            .table(at)
            .integer(index.len())
            .integer(out.width)
            .view(out.view())
    });
}

/// Row refs[i] goes to row places[i] of `out`, or to row first + i.
pub fn gather(
    cuda: &Cuda,
    rows: &Rows<'_, Matrix>,
    first: usize,
    places: Option<&[u32]>,
    out: &Matrix,
) {
    debug_assert_eq!(rows.own.element, out.element);
    let count = rows.refs.len();
    cuda.record_rows(count, |queue| {
        let places = queue.optional(places);
        Launch::rows(Kernel::Gather(out.element), count)
            .own_and_trace(queue, rows)
            .integer(first)
            .table(places)
            .integer(count)
            .integer(out.width)
            .view(out.view())
    });
}

pub fn add(cuda: &Cuda, a: &Rows<'_, Matrix>, b: &Rows<'_, Matrix>, out: &Matrix) {
    let count = a.refs.len();
    cuda.record_rows(count, |queue| {
        Launch::rows(Kernel::Add, count)
            .own_and_trace(queue, a)
            .own_and_trace(queue, b)
            .integer(count)
            .integer(out.width)
            .view(out.view())
    });
}

pub fn layer_norm(cuda: &Cuda, norm: Norm, input: &Rows<'_, Matrix>, out: &Matrix) {
    let (count, [weight, bias]) = (input.refs.len(), cuda.weights.norm(norm));
    cuda.record_rows(count, |queue| {
        Launch::rows(Kernel::LayerNorm(out.element), count)
            .own_and_trace(queue, input)
            .integer(count)
            .integer(out.width)
            .pointer(weight)
            .pointer(bias)
            .float(cuda.config.layer_norm_epsilon)
            .view(out.view())
    });
}

pub fn layer_norm_scale(cuda: &Cuda, input: &Rows<'_, Matrix>, scale: &Matrix) {
    let count = input.refs.len();
    cuda.record_rows(count, |queue| {
        Launch::rows(Kernel::LayerNormScale, count)
            .own_and_trace(queue, input)
            .integer(count)
            .integer(cuda.config.width)
            .float(cuda.config.layer_norm_epsilon)
            .view(scale.view())
    });
}

pub fn layer_norm_normalize(cuda: &Cuda, input: &Rows<'_, Matrix>, scale: &Matrix, out: &Matrix) {
    let count = input.refs.len();
    cuda.record_rows(count, |queue| {
        Launch::rows(Kernel::LayerNormNormalize, count)
            .own_and_trace(queue, input)
            .view(scale.view())
            .integer(count)
            .integer(out.width)
            .view(out.view())
    });
}

pub fn layer_norm_affine(cuda: &Cuda, norm: Norm, normalized: &Matrix, rows: usize, out: &Matrix) {
    let [weight, bias] = cuda.weights.norm(norm);
    cuda.record_rows(rows, |_| {
        Launch::rows(Kernel::LayerNormAffine(out.element), rows)
            .view(normalized.view())
            .pointer(weight)
            .pointer(bias)
            .integer(rows)
            .integer(out.width)
            .view(out.view())
    });
}

pub fn activate(cuda: &Cuda, pre: &Matrix, rows: &[u32], out: &Matrix) {
    cuda.record_rows(rows.len(), |queue| {
        let table = queue.table(rows);
        Launch::rows(Kernel::Activate(out.element), rows.len())
            .view(pre.view())
            .table(table)
            .integer(rows.len())
            .integer(out.width)
            .integer(activation(cuda.config.activation) as usize)
            .view(out.view())
    });
}

/// Overwrites in place. Those of one row keep their order and go to one warp.
pub fn overwrite(
    cuda: &Cuda,
    matrix: &Matrix,
    writes: &[Write],
    kept: &[Matrix],
    constants: &Constants,
) {
    let mut sorted: Vec<&Write> = writes.iter().collect();
    sorted.sort_by_key(|w| w.row);
    let mut first: Vec<u32> = (0..sorted.len() as u32)
        .filter(|i| *i == 0 || sorted[*i as usize].row != sorted[*i as usize - 1].row)
        .collect();
    let groups = first.len();
    first.push(sorted.len() as u32);
    cuda.record_rows(groups, |queue| {
        let list: Vec<DeviceWrite> = sorted.iter().map(|w| DeviceWrite::from(*w)).collect();
        let (list, first) = (queue.table(&list), queue.table(&first));
        let kept = views(queue, kept, matrix.element);
        let grid = [groups.div_ceil(4) as u32, 1, 1];
        Launch::new(Kernel::Overwrite(matrix.element), grid, 128, 0)
            .view(matrix.view())
            .table(list)
            .table(first)
            .integer(groups)
            .table(kept)
            .pointer(constants.pointer(matrix.element))
    });
}

/// A place as kernels count it.
fn narrow(place: usize) -> u32 {
    assert!(
        u32::try_from(place).is_ok(),
        "row or column {place} is more than a kernel counts to"
    );
    place as u32
}

/// For each pair of stretches, whether they are equal; one launch for each type of numbers.
pub fn same(cuda: &Cuda, pairs: &[Same<'_, Matrix>]) -> Result<Vec<bool>, DeviceError> {
    let mut equal = vec![false; pairs.len()];
    for element in [Element::F32, Element::Bf16, Element::F16] {
        let of_type = |pair: &&Same<'_, Matrix>| pair.a.matrix.element == element;
        let which: Vec<usize> = (0..pairs.len()).filter(|i| of_type(&&pairs[*i])).collect();
        if which.is_empty() {
            continue;
        }
        let mut seen: Vec<View> = Vec::new();
        let mut index = |matrix: &Matrix| {
            let view = matrix.view();
            let at = seen.iter().position(|v| *v == view).unwrap_or_else(|| {
                seen.push(view);
                seen.len() - 1
            });
            at as u32
        };
        let list: Vec<DeviceComparison> = which
            .iter()
            .map(|i| {
                let Same { a, b, length } = &pairs[*i];
                DeviceComparison {
                    a_matrix: index(a.matrix),
                    a_row: narrow(a.row),
                    a_column: narrow(a.column),
                    b_matrix: index(b.matrix),
                    b_row: narrow(b.row),
                    b_column: narrow(b.column),
                    length: narrow(*length),
                    padding: 0,
                }
            })
            .collect();
        let flags = cuda.with_room(|| cuda.device.allocate(4 * list.len()))?;
        cuda.record_rows(list.len(), |queue| {
            let (table, matrices) = (queue.table(&list), queue.table(&seen));
            Launch::rows(Kernel::Same(element), list.len())
                .table(table)
                .table(matrices)
                .integer(list.len())
                .pointer(flags.pointer)
        });
        cuda.flush()?;
        let mut bytes = vec![0u8; 4 * list.len()];
        cuda.device.read(&mut bytes, flags.pointer)?;
        for (i, flag) in which.iter().zip(bytes.as_chunks::<4>().0) {
            equal[*i] = u32::from_ne_bytes(*flag) == 1;
        }
    }
    Ok(equal)
}
