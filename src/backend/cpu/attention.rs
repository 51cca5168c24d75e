//! Ragged causal attention, one arithmetic for every row.
//!
//! For each row and head: scores of the keys in absolute order, overwrites, softmax with the
//! maximum subtracted, w = e / Σe, overwrites, z = Σ w·v in absolute order. A key or value row is
//! the run's own where it is dirty and the trace's otherwise, which changes where a number is read
//! and not what is done with it.

use pulp::NullaryFnOnce;

use super::real::Real;
use super::rows::{dot, sum};
use crate::plan::tables::{AttentionRows, Ref};

/// The own rows and the trace's rows of one matrix.
#[derive(Clone, Copy)]
pub struct Pair<'a, T> {
    pub own: &'a [T],
    pub trace: &'a [T],
    pub width: usize,
}

impl<'a, T> Pair<'a, T> {
    #[inline(always)]
    pub fn row(&self, at: Ref) -> &'a [T] {
        let (data, row) = match at.row() {
            Ok(row) => (self.own, row),
            Err(row) => (self.trace, row),
        };
        &data[row * self.width..][..self.width]
    }
}

/// Attention of one row of z, all heads.
pub struct Row<'a, T> {
    pub query: Pair<'a, T>,
    pub key: Pair<'a, T>,
    pub value: Pair<'a, T>,
    pub rows: &'a AttentionRows,
    pub row: usize,
    pub heads: usize,
    pub scale: T,
    /// Overwrites and keeps one head's scores.
    pub scores: &'a dyn Fn(usize, &mut [T]),
    /// Overwrites and keeps one head's pattern.
    pub pattern: &'a dyn Fn(usize, &mut [T]),
    /// Scratch for one head's scores.
    pub weights: &'a mut Vec<T>,
    pub out: &'a mut [T],
}

impl<T: Real> NullaryFnOnce for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let d = self.out.len() / self.heads;
        let query = self.query.row(self.rows.query[self.row]);
        let first = self.rows.first[self.row] as usize;
        let seen = first..first + self.rows.count[self.row] as usize;
        let (keys, values) = (&self.rows.key[seen.clone()], &self.rows.value[seen]);
        self.weights.resize(keys.len(), T::default());
        let weights = &mut self.weights[..keys.len()];
        for (head, z) in self.out.chunks_exact_mut(d).enumerate() {
            let columns = head * d..(head + 1) * d;
            let q = &query[columns.clone()];
            for (w, key) in weights.iter_mut().zip(keys) {
                *w = dot(q, &self.key.row(*key)[columns.clone()]) * self.scale;
            }
            (self.scores)(head, weights);
            softmax(weights);
            (self.pattern)(head, weights);
            let value = |j: usize| &self.value.row(values[j])[columns.clone()];
            weighted_sum(weights, value, z);
        }
    }
}

/// z = Σ w·v, each column's sum in absolute order, 64 columns in registers at a time.
#[inline(always)]
fn weighted_sum<'a, T: Real>(weights: &[T], value: impl Fn(usize) -> &'a [T], z: &mut [T]) {
    const COLUMNS: usize = 64;
    let (blocks, rest) = z.as_chunks_mut::<COLUMNS>();
    let whole = blocks.len() * COLUMNS;
    for (block, z) in blocks.iter_mut().enumerate() {
        let mut sum = [T::default(); COLUMNS];
        for (j, w) in weights.iter().enumerate() {
            if let Some(v) = value(j)[block * COLUMNS..].first_chunk::<COLUMNS>() {
                for c in 0..COLUMNS {
                    sum[c] = w.mul_add(v[c], sum[c]);
                }
            }
        }
        *z = sum;
    }
    rest.fill(T::default());
    for (j, w) in weights.iter().enumerate() {
        rest.iter_mut()
            .zip(&value(j)[whole..])
            .for_each(|(z, v)| *z = w.mul_add(*v, *z));
    }
}

#[inline(always)]
fn softmax<T: Real>(scores: &mut [T]) {
    let max = scores
        .iter()
        .fold(T::NEG_INFINITY, |m, s| if *s > m { *s } else { m });
    scores.iter_mut().for_each(|s| *s = (*s - max).exp());
    let inverse = T::ONE / sum(scores);
    scores.iter_mut().for_each(|s| *s = *s * inverse);
}
