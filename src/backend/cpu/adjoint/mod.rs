//! The CPU's adjoints: the specification of the backward pass.
//!
//! | operation | adjoint | where |
//! |---|---|---|
//! | layer norm, activation | row by row | `rows.rs` |
//! | linear layer | the forward product's arithmetic, over outputs instead of inputs | `linear.rs` |
//! | attention | the pattern again, then query by query in order | `attention.rs` |
//! | unembedding and readout | a stretch of the vocabulary at a time | `readout.rs` |

mod attention;
mod linear;
mod readout;
mod rows;

use std::sync::atomic::Ordering;

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::matrix::Buffer;
use super::real::Real;
use super::{Cpu, TASK_ROWS};
use crate::backend::adjoint::{
    Adjoints, AttentionAdjoint, AttentionGradients, Frozen, LinearAdjoint, LogitGradient,
    NormAdjoint,
};
use crate::backend::{Backend, Store};
use crate::plan::tape::{ATTENTION_ADJOINT, Passed};
use crate::site::Stage;

impl<T: Real> Cpu<T> {
    /// Runs `body` for each of some rows of `out`, ascending, with this machine's instructions: told the
    /// row and what stands in it.
    fn listed_rows(
        &self,
        rows: &[u32],
        out: &mut Buffer<T>,
        body: impl Fn(usize, &mut [T]) + Sync,
    ) {
        struct Block<'a, 'b, T, F> {
            rows: &'a mut [(usize, &'b mut [T])],
            body: &'a F,
        }
        impl<T, F: Fn(usize, &mut [T])> NullaryFnOnce for Block<'_, '_, T, F> {
            type Output = ();
            #[inline(always)]
            fn call(self) {
                for (row, values) in self.rows {
                    (self.body)(*row, values);
                }
            }
        }
        debug_assert!(rows.is_sorted_by(|a, b| a < b));
        let mut all = out.data.chunks_exact_mut(out.width);
        let mut next = 0;
        let mut listed = Vec::with_capacity(rows.len());
        for row in rows.iter().map(|row| *row as usize) {
            listed.extend(all.nth(row - next).map(|values| (row, values)));
            next = row + 1;
        }
        listed.par_chunks_mut(TASK_ROWS).for_each(|rows| {
            self.arch.dispatch(Block { rows, body: &body });
        });
    }
}

impl<T: Real> Adjoints for Cpu<T> {
    fn zeros(&self, rows: usize, width: usize, stage: Stage) -> Buffer<T> {
        self.matrix(rows, width, Store::of(stage))
    }

    fn clear(&self, matrix: &mut Buffer<T>, rows: usize) {
        self.resize(matrix, rows);
        matrix.filled(rows).fill(T::default());
    }

    fn accumulate(&self, from: &Buffer<T>, rows: &[u32], into: &mut Buffer<T>) {
        self.listed_rows(rows, into, |row, out| {
            let from = out.iter_mut().zip(from.row(row));
            from.for_each(|(o, x)| *o += *x);
        });
    }

    fn pass(&self, matrix: &mut Buffer<T>, passed: &[Passed]) {
        let width = matrix.width;
        for Passed {
            row,
            column,
            length,
            factor,
        } in passed
        {
            let stretch = &mut matrix.data[*row as usize * width + column..][..*length];
            match *factor {
                // a product with an infinity would not be zero
                0.0 => stretch.fill(T::default()),
                factor => stretch
                    .iter_mut()
                    .for_each(|x| *x = *x * T::from_f64(factor)),
            }
        }
    }

    fn linear_adjoint(&self, linear: &LinearAdjoint<'_, Buffer<T>>, into: &mut Buffer<T>) {
        let (weight, first, _) = self.weights.linear(linear.weight);
        let columns = linear.columns.len();
        self.flops.fetch_add(
            2 * (linear.rows.len() * weight.inputs * columns) as u64,
            Ordering::Relaxed,
        );
        let stored = first + linear.columns.start..first + linear.columns.end;
        linear::transposed(self.arch, (weight, stored), linear, into);
    }

    fn norm_adjoint(&self, norm: &NormAdjoint<'_, Buffer<T>>, into: &mut Buffer<T>) {
        let (weight, _) = self.weights.norm(norm.norm);
        let epsilon = T::from_f64(self.weights.model.config.layer_norm_epsilon);
        self.listed_rows(
            norm.rows,
            into,
            #[inline(always)]
            |row, out| {
                let (x, g) = (norm.input.row(row), norm.gradient.row(row));
                rows::norm((x, g), weight, epsilon, norm.frozen.scales, out);
            },
        );
    }

    fn normalized_adjoint(&self, norm: &NormAdjoint<'_, Buffer<T>>, out: &mut Buffer<T>) {
        let (weight, _) = self.weights.norm(norm.norm);
        self.listed_rows(norm.rows, out, |row, out| {
            let g = norm.gradient.row(row).iter().zip(weight);
            out.iter_mut().zip(g).for_each(|(o, (g, w))| *o = *g * *w);
        });
    }

    fn scale_adjoint(&self, norm: &NormAdjoint<'_, Buffer<T>>, out: &mut Buffer<T>) {
        let (weight, _) = self.weights.norm(norm.norm);
        let epsilon = T::from_f64(self.weights.model.config.layer_norm_epsilon);
        self.listed_rows(norm.rows, out, |row, out| {
            let (x, g) = (norm.input.row(row), norm.gradient.row(row));
            out[0] = rows::scale((x, g), weight, epsilon);
        });
    }

    fn activate_adjoint(
        &self,
        pre: &Buffer<T>,
        gradient: &Buffer<T>,
        rows: &[u32],
        frozen: Frozen,
        into: &mut Buffer<T>,
    ) {
        let activation = self.weights.model.config.activation;
        self.listed_rows(
            rows,
            into,
            #[inline(always)]
            |row, out| {
                let (x, g) = (pre.row(row), gradient.row(row));
                match frozen.slopes {
                    true => rows::ratio(activation, x, g, out),
                    false => rows::derivative(activation, x, g, out),
                }
            },
        );
    }

    fn attention_adjoint(
        &self,
        attention: &AttentionAdjoint<'_, Buffer<T>>,
        into: AttentionGradients<'_, Buffer<T>>,
    ) {
        let config = &self.weights.model.config;
        let keys = attention.runs.iter().flat_map(|run| &run.positions);
        let keys: u64 = keys.map(|p| u64::from(*p) + 1).sum();
        self.flops.fetch_add(
            ATTENTION_ADJOINT * config.width as u64 * keys,
            Ordering::Relaxed,
        );
        attention::attention(self.arch, config, attention, into);
    }

    fn readout_adjoint(
        &self,
        input: &Buffer<T>,
        gradients: &[LogitGradient],
        into: &mut Buffer<T>,
    ) {
        let model = &self.weights.model;
        let [vocab, width] = model.unembedding().shape;
        let whole = gradients.iter().filter(|g| !g.is_of_single_logits());
        let products = whole.map(|g| 2 + u64::from(g.other.is_some()));
        self.flops.fetch_add(
            2 * (vocab * width) as u64 * products.sum::<u64>(),
            Ordering::Relaxed,
        );
        let weight = self.weights.unembedding();
        readout::readout(self.arch, (weight, vocab), input, gradients, into);
    }
}
