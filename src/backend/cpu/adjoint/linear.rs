//! A linear layer backwards, by the forward product's own arithmetic.
//!
//! The weights' stored rows are inputs of the layer, so the gradients of inputs are computed input by
//! input, as the unembedding computes logits token by token: stored rows, in place, times the gradient's
//! rows transposed. Every element is a sum over the layer's outputs, ascending, in blocks of 256, whatever
//! else is in the batch.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use crate::backend::adjoint::LinearAdjoint;
use crate::backend::cpu::linear::{self, Factor, OutputRows, Product, WeightMatrix, product};
use crate::backend::cpu::matrix::Buffer;
use crate::backend::cpu::real::Real;

/// Rows whose gradients are transposed together.
const ROWS: usize = 1024;

/// Adds `gradient[row] · W[:, columns]ᵀ` to rows of `into`; `stored` are the columns of the stored matrix.
pub fn transposed<T: Real>(
    arch: Arch,
    (weight, stored): (WeightMatrix<'_>, Range<usize>),
    linear: &LinearAdjoint<'_, Buffer<T>>,
    into: &mut Buffer<T>,
) {
    let (inputs, outputs) = (weight.inputs, stored.len());
    let widened = widened(weight, &stored);
    let input_row = |k: usize| match (&widened, weight.in_place::<T>()) {
        (None, Some(data)) => &data[k * weight.stride + stored.start..][..outputs],
        (Some(data), _) => &data[k * outputs..][..outputs],
        (None, None) => &[],
    };
    for rows in linear.rows.chunks(ROWS) {
        let count = rows.len();
        let mut columns = vec![T::default(); outputs * count];
        columns
            .par_chunks_mut(count)
            .enumerate()
            .for_each(|(n, column)| {
                for (to, row) in column.iter_mut().zip(rows) {
                    *to = linear.gradient.row(*row as usize)[linear.columns.start + n];
                }
            });
        let mut out = vec![T::default(); inputs * count];
        let all = Product {
            weight: Factor::Own {
                data: &columns,
                inputs: outputs,
                columns: count,
            },
            columns: 0..count,
            rows: inputs,
            row: &input_row,
            place: &|k| k,
            output: OutputRows {
                base: out.as_mut_ptr(),
                stride: count,
            },
            finish: &|_, _, _: &mut [T]| {},
        };
        product(arch, &all);
        let width = into.width;
        for (m, row) in rows.iter().enumerate() {
            let row = &mut into.data[*row as usize * width..][..inputs];
            let column = out[m..].iter().step_by(count);
            row.iter_mut().zip(column).for_each(|(o, x)| *o += *x);
        }
    }
}

/// The weights' columns as numbers of the backend's type, `[inputs, columns]`, where they are stored as
/// something else.
fn widened<T: Real>(weight: WeightMatrix<'_>, stored: &Range<usize>) -> Option<Vec<T>> {
    if weight.in_place::<T>().is_some() {
        return None;
    }
    let mut all = vec![T::default(); weight.inputs * stored.len()];
    all.par_chunks_mut(stored.len())
        .enumerate()
        .for_each_init(Vec::new, |buffer, (k, out)| {
            buffer.resize(stored.len(), 0.0);
            let first = k * weight.stride + stored.start;
            let row = linear::stretch(weight, first, stored.len(), buffer);
            out.iter_mut().zip(row).for_each(|(o, x)| *o = T::from(*x));
        });
    Some(all)
}
