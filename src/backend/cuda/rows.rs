//! Launches of the row-wise kernels: embedding, gather and keep, sums, layer norm, activation,
//! overwrites, comparison.

use super::Cuda;
use super::arguments::{
    self, ActivateArgs, AddArgs, Comparison, EmbedArgs, GatherArgs, LayerNormArgs,
    OVERWRITE_THREADS, Operator, OverwriteArgs, Pointer, SameArgs, Source, View, WARP, number,
};
use super::kernels::Kernel;
use super::linear::activation;
use super::matrix::{Element, Matrix};
use super::memory::Allocation;
use super::queue::{Launch, Queue};
use crate::backend::{DeviceError, Embedding, Norm, Rows, Same};
use crate::plan::edit::EditOp;
use crate::plan::writes::{Operand, Write};

impl From<&Operand> for Source {
    fn from(operand: &Operand) -> Self {
        let (operand, slot, row, column) = match *operand {
            Operand::None => (arguments::Operand::Nothing, 0, 0, 0),
            Operand::Kept { slot, row, column } => (arguments::Operand::Kept, slot, row, column),
            Operand::Constant(offset) => (arguments::Operand::Constant, 0, 0, offset),
        };
        Self {
            column: column as u64,
            operand,
            slot: number(slot),
            row: number(row),
            unused: 0,
        }
    }
}

impl From<&Write> for arguments::Write {
    fn from(write: &Write) -> Self {
        let (op, scalar) = match write.op {
            EditOp::Set => (Operator::Set, 0.0),
            EditOp::Fill(x) => (Operator::Fill, x),
            EditOp::Add => (Operator::Add, 0.0),
            EditOp::Subtract => (Operator::Subtract, 0.0),
            EditOp::Scale(x) => (Operator::Scale, x),
            EditOp::Interpolate(alpha) => (Operator::Interpolate, alpha),
        };
        Self {
            source: Source::from(&write.operand),
            row: number(write.row),
            head: number(write.head),
            column: number(write.column),
            length: number(write.length),
            op,
            scalar: scalar as f32,
        }
    }
}

/// Numbers that overwrites read, in each type that they may be read in.
pub struct Constants {
    /// f32.
    pub(super) full: Option<Allocation>,
    /// The precision's own, where it is another.
    pub(super) branch: Option<Allocation>,
}

impl Constants {
    /// None.
    pub const NONE: Self = Self {
        full: None,
        branch: None,
    };

    /// Where those of a type start.
    pub fn pointer(&self, element: Element) -> Pointer {
        let memory = match element {
            Element::F32 => &self.full,
            Element::Bf16 | Element::F16 => &self.branch,
        };
        memory.as_ref().map_or(Pointer::NULL, Allocation::start)
    }
}

/// Views of all kept matrices, those of another type left out.
pub fn views(queue: &mut Queue, kept: &[Matrix], element: Element) -> Pointer {
    let view = |matrix: &Matrix| {
        if matrix.element == element {
            matrix.view()
        } else {
            View::NONE
        }
    };
    queue.table(&kept.iter().map(view).collect::<Vec<_>>())
}

/// Rows as kernels take them.
pub fn rows(queue: &mut Queue, rows: &Rows<'_, Matrix>) -> arguments::Rows {
    arguments::Rows {
        own: rows.own.view(),
        cache: rows.cache.map_or(View::NONE, Matrix::view),
        refs: queue.table(rows.refs),
    }
}

pub fn embed(cuda: &Cuda, table: Embedding, index: &[u32], out: &Matrix) {
    cuda.record_rows(Kernel::Embed, index.len(), |queue| EmbedArgs {
        table: cuda.weights.embedding(table),
        index: queue.table(index),
        out: out.view(),
        count: number(index.len()),
        width: number(out.width),
    });
}

/// Row refs[i] goes to row places[i] of `out`, or to row first + i.
pub fn gather(
    cuda: &Cuda,
    from: &Rows<'_, Matrix>,
    first: usize,
    places: Option<&[u32]>,
    out: &Matrix,
) {
    debug_assert_eq!(from.own.element, out.element);
    let count = from.refs.len();
    cuda.record_rows(Kernel::Gather(out.element), count, |queue| GatherArgs {
        rows: rows(queue, from),
        places: queue.optional(places),
        out: out.view_from(first),
        count: number(count),
        width: number(out.width),
    });
}

pub fn add(cuda: &Cuda, a: &Rows<'_, Matrix>, b: &Rows<'_, Matrix>, out: &Matrix) {
    let count = a.refs.len();
    cuda.record_rows(Kernel::Add, count, |queue| AddArgs {
        a: rows(queue, a),
        b: rows(queue, b),
        out: out.view(),
        count: number(count),
        width: number(out.width),
    });
}

pub fn activate(cuda: &Cuda, pre: &Matrix, from: &[u32], out: &Matrix) {
    cuda.record_rows(Kernel::Activate(out.element), from.len(), |queue| {
        ActivateArgs {
            pre: pre.view(),
            rows: queue.table(from),
            out: out.view(),
            count: number(from.len()),
            width: number(out.width),
            activation: activation(cuda.config.activation),
        }
    });
}

/// What all of layer norm's kernels are told of the model and their input.
fn norm_arguments(cuda: &Cuda, input: arguments::Rows, count: usize) -> LayerNormArgs {
    LayerNormArgs {
        input,
        scale: View::NONE,
        weight: Pointer::NULL,
        bias: Pointer::NULL,
        out: View::NONE,
        count: number(count),
        width: number(cuda.config.width),
        epsilon: cuda.config.layer_norm_epsilon as f32,
    }
}

pub fn layer_norm(cuda: &Cuda, norm: Norm, input: &Rows<'_, Matrix>, out: &Matrix) {
    let (count, [weight, bias]) = (input.refs.len(), cuda.weights.norm(norm));
    let kernel = Kernel::LayerNorm(out.element);
    cuda.record_rows(kernel, count, |queue| LayerNormArgs {
        weight,
        bias,
        out: out.view(),
        ..norm_arguments(cuda, rows(queue, input), count)
    });
}

pub fn layer_norm_scale(cuda: &Cuda, input: &Rows<'_, Matrix>, scale: &Matrix) {
    let count = input.refs.len();
    cuda.record_rows(Kernel::LayerNormScale, count, |queue| LayerNormArgs {
        scale: scale.view(),
        ..norm_arguments(cuda, rows(queue, input), count)
    });
}

pub fn layer_norm_normalize(cuda: &Cuda, input: &Rows<'_, Matrix>, scale: &Matrix, out: &Matrix) {
    let count = input.refs.len();
    cuda.record_rows(Kernel::LayerNormNormalize, count, |queue| LayerNormArgs {
        scale: scale.view(),
        out: out.view(),
        ..norm_arguments(cuda, rows(queue, input), count)
    });
}

pub fn layer_norm_affine(cuda: &Cuda, norm: Norm, normalized: &Matrix, count: usize, out: &Matrix) {
    let [weight, bias] = cuda.weights.norm(norm);
    let input = arguments::Rows {
        own: normalized.view(),
        ..arguments::Rows::NONE
    };
    let kernel = Kernel::LayerNormAffine(out.element);
    cuda.record_rows(kernel, count, |_| LayerNormArgs {
        weight,
        bias,
        out: out.view(),
        ..norm_arguments(cuda, input, count)
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
    if groups == 0 {
        return;
    }
    cuda.record(0, |queue| {
        let list: Vec<arguments::Write> = sorted.iter().map(|w| (*w).into()).collect();
        let arguments = OverwriteArgs {
            matrix: matrix.view(),
            writes: queue.table(&list),
            first: queue.table(&first),
            kept: views(queue, kept, matrix.element),
            constants: constants.pointer(matrix.element),
            groups: number(groups),
        };
        let grid = [number(groups).div_ceil(OVERWRITE_THREADS / WARP), 1, 1];
        let kernel = Kernel::Overwrite(matrix.element);
        Launch::new(kernel, grid, OVERWRITE_THREADS, 0, arguments)
    });
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
        let list: Vec<Comparison> = which
            .iter()
            .map(|i| {
                let Same { a, b, length } = &pairs[*i];
                Comparison {
                    a_matrix: index(a.matrix),
                    a_row: number(a.row),
                    a_column: number(a.column),
                    b_matrix: index(b.matrix),
                    b_row: number(b.row),
                    b_column: number(b.column),
                    length: number(*length),
                }
            })
            .collect();
        let flags = cuda.with_room(|| cuda.device.allocate(4 * list.len()))?;
        cuda.record_rows(Kernel::Same(element), list.len(), |queue| SameArgs {
            pairs: queue.table(&list),
            matrices: queue.table(&seen),
            flags: flags.start(),
            count: number(list.len()),
        });
        cuda.flush()?;
        let bytes = cuda.transfers.read(&[(flags.pointer, 4 * list.len())])?;
        for (i, flag) in which.iter().zip(bytes.as_chunks::<4>().0) {
            equal[*i] = u32::from_ne_bytes(*flag) == 1;
        }
    }
    Ok(equal)
}
