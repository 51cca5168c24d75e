//! The readout backwards, without storing logits.
//!
//! The vocabulary is cut into stretches, whatever the machine. Of each the logits are computed again, become
//! gradients in place, and are multiplied by the stretch's rows of the unembedding; the stretches' results are
//! then added in the order of the vocabulary. Single logits that are wanted are added last, in their order.

use std::ops::Range;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use crate::backend::adjoint::LogitGradient;
use crate::backend::cpu::linear::{
    self, Factor, OutputRows, Product, Scratch, WeightMatrix, product_alone,
};
use crate::backend::cpu::matrix::Buffer;
use crate::backend::cpu::real::Real;

/// Tokens of a stretch.
const STRETCH: usize = 1024;
/// Rows that are gone through together.
const ROWS: usize = 64;

/// Adds each row's gradient to that row of `into`.
pub fn readout<T: Real>(
    arch: Arch,
    (weight, vocab): (WeightMatrix<'_>, usize),
    input: &Buffer<T>,
    gradients: &[LogitGradient],
    into: &mut Buffer<T>,
) {
    let whole: Vec<&LogitGradient> = gradients
        .iter()
        .filter(|g| !g.is_of_single_logits())
        .collect();
    let width = weight.inputs;
    for rows in whole.chunks(ROWS) {
        let block = Block {
            weight,
            input,
            rows,
        };
        let starts: Vec<usize> = (0..vocab).step_by(STRETCH).collect();
        let parts: Vec<Vec<T>> = starts
            .into_par_iter()
            .map_init(Scratch::default, |scratch, first| {
                let tokens = first..vocab.min(first + STRETCH);
                block.stretch(arch, tokens, scratch)
            })
            .collect();
        for (m, gradient) in rows.iter().enumerate() {
            let out = &mut into.data[gradient.row as usize * width..][..width];
            for part in &parts {
                let part = &part[m * width..][..width];
                out.iter_mut().zip(part).for_each(|(o, x)| *o += *x);
            }
        }
    }
    let mut buffer = vec![0.0; width];
    for gradient in gradients {
        let out = &mut into.data[gradient.row as usize * width..][..width];
        for (id, count) in &gradient.weights {
            let row = linear::stretch(weight, *id as usize * width, width, &mut buffer);
            let count = T::from_f64(*count);
            out.iter_mut()
                .zip(row)
                .for_each(|(o, x)| *o = count.mul_add(T::from(*x), *o));
        }
    }
}

/// Rows whose gradients are computed together.
struct Block<'a, T> {
    weight: WeightMatrix<'a>,
    input: &'a Buffer<T>,
    rows: &'a [&'a LogitGradient],
}

impl<T: Real> Block<'_, T> {
    /// What a stretch of the vocabulary adds, `[rows, width]`.
    fn stretch(&self, arch: Arch, tokens: Range<usize>, scratch: &mut Scratch<T>) -> Vec<T> {
        let (count, width) = (self.rows.len(), self.weight.inputs);
        let mut widened = Vec::new();
        let stored = match self.weight.in_place::<T>() {
            Some(data) => &data[tokens.start * width..][..tokens.len() * width],
            None => {
                let mut buffer = vec![0.0; width];
                for token in tokens.clone() {
                    let row = linear::stretch(self.weight, token * width, width, &mut buffer);
                    widened.extend(row.iter().map(|x| T::from(*x)));
                }
                &widened[..]
            }
        };
        let own = |m: usize| self.input.row(self.rows[m].row as usize);
        let mut logits = self.logits(arch, stored, &tokens, &own, scratch);
        let others = self.rows.iter().any(|g| g.other.is_some());
        let others = others.then(|| {
            let row = |g: &LogitGradient| g.other.map_or(g.row, |(_, row, _)| row);
            let row = |m: usize| self.input.row(row(self.rows[m]) as usize);
            self.logits(arch, stored, &tokens, &row, scratch)
        });
        for (m, (gradient, logits)) in self
            .rows
            .iter()
            .zip(logits.chunks_exact_mut(tokens.len()))
            .enumerate()
        {
            arch.dispatch(ToGradients {
                gradient,
                other: others.as_ref().map(|all| &all[m * tokens.len()..]),
                logits,
            });
        }
        let mut out = vec![T::default(); count * width];
        let product = Product {
            weight: Factor::Own {
                data: stored,
                inputs: tokens.len(),
                columns: width,
            },
            columns: 0..width,
            rows: count,
            row: &|m| &logits[m * tokens.len()..][..tokens.len()],
            place: &|m| m,
            output: OutputRows {
                base: out.as_mut_ptr(),
                stride: width,
            },
            finish: &|_, _, _: &mut [T]| {},
        };
        product_alone(arch, &product, scratch);
        out
    }

    /// Logits of a stretch for some rows, `[rows, tokens]`.
    fn logits<'r>(
        &self,
        arch: Arch,
        stored: &[T],
        tokens: &Range<usize>,
        row: &dyn Fn(usize) -> &'r [T],
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let (count, width) = (self.rows.len(), self.weight.inputs);
        let mut columns = vec![T::default(); width * count];
        for m in 0..count {
            let column = columns[m..].iter_mut().step_by(count);
            column.zip(row(m)).for_each(|(to, x)| *to = *x);
        }
        let mut by_token = vec![T::default(); tokens.len() * count];
        let product = Product {
            weight: Factor::Own {
                data: &columns,
                inputs: width,
                columns: count,
            },
            columns: 0..count,
            rows: tokens.len(),
            row: &|token| &stored[token * width..][..width],
            place: &|token| token,
            output: OutputRows {
                base: by_token.as_mut_ptr(),
                stride: count,
            },
            finish: &|_, _, _: &mut [T]| {},
        };
        product_alone(arch, &product, scratch);
        let by_row = (0..count).flat_map(|m| by_token[m..].iter().step_by(count).copied());
        by_row.collect()
    }
}

/// Logits of a stretch become what their gradients are, but for those of single logits.
struct ToGradients<'a, T> {
    gradient: &'a LogitGradient,
    /// Logits of the other row.
    other: Option<&'a [T]>,
    logits: &'a mut [T],
}

impl<T: Real> NullaryFnOnce for ToGradients<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let g = self.gradient;
        let (lse, entropy) = (T::from_f64(g.log_sum_exp), T::from_f64(g.entropy));
        let (spread, surprise) = (T::from_f64(g.spread), T::from_f64(g.surprise));
        for x in self.logits.iter_mut() {
            let log = *x - lse;
            let p = log.exp();
            // a probability that is nothing has no logarithm to count with it
            *x = match p > T::default() {
                true => p * surprise.mul_add(log + entropy, spread),
                false => T::default(),
            };
        }
        if let (Some((count, _, lse)), Some(other)) = (g.other, self.other) {
            let (count, lse) = (T::from_f64(count), T::from_f64(lse));
            for (x, other) in self.logits.iter_mut().zip(other) {
                *x = count.mul_add((*other - lse).exp(), *x);
            }
        }
    }
}
