//! Ragged causal attention, one arithmetic for every row.
//!
//! For each row and head: scores of the keys in absolute order, overwrites, softmax with the
//! maximum subtracted, w = e / Σe, overwrites, z = Σ w·v in absolute order. A key or value row is
//! the run's own where it is dirty and the cache's otherwise, which changes where a number is read
//! and not what is done with it.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::matrix::{Buffer, Shared};
use super::real::Real;
use super::rows::{dot, sum};
use super::{TASK_ROWS, overwrite};
use crate::backend::{Attention, KeepKeys};
use crate::model::Config;
use crate::plan::tables::{AttentionRows, Keep, Ref, Write};

/// The own rows and the cache's rows of one matrix.
#[derive(Clone, Copy)]
struct Pair<'a, T> {
    own: &'a [T],
    cache: &'a [T],
    width: usize,
}

impl<'a, T> Pair<'a, T> {
    #[inline(always)]
    fn row(&self, at: Ref) -> &'a [T] {
        let (data, row) = match at.row() {
            Ok(row) => (self.own, row),
            Err(row) => (self.cache, row),
        };
        &data[row * self.width..][..self.width]
    }
}

/// Attention of one row of z, all heads.
struct Row<'a, T> {
    query: Pair<'a, T>,
    key: Pair<'a, T>,
    value: Pair<'a, T>,
    rows: &'a AttentionRows,
    row: usize,
    heads: usize,
    scale: T,
    /// Overwrites and keeps one head's scores.
    scores: &'a dyn Fn(usize, &mut [T]),
    /// Overwrites and keeps one head's pattern.
    pattern: &'a dyn Fn(usize, &mut [T]),
    /// Scratch for one head's scores.
    weights: &'a mut Vec<T>,
    out: &'a mut [T],
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

/// Computes every row of z in `out`, overwriting scores and pattern and keeping them on the way.
pub fn attention<T: Real>(
    arch: Arch,
    config: &Config,
    attention: &Attention<'_, Buffer<T>>,
    kept: &mut [Buffer<T>],
    constants: &[T],
    out: &mut Buffer<T>,
) {
    let count = attention.rows.query.len();
    // kept scores and pattern are written while the rest of the cache is read
    let take = |kept: &mut [Buffer<T>], keep: &Option<KeepKeys<'_>>| {
        keep.as_ref().map(|k| std::mem::take(&mut kept[k.slot]))
    };
    let mut scores = take(kept, &attention.keep_scores);
    let mut pattern = take(kept, &attention.keep_pattern);
    {
        let kept = &*kept;
        let operands = [attention.query, attention.key, attention.value];
        let [query, key, value] = operands.map(|(own, slot)| Pair {
            own: &own.data,
            cache: slot.map_or(&[], |s| &kept[s].data),
            width: config.width,
        });
        let scale = T::from_f64(config.score_scale(attention.layer));
        let keep_scores = attention.keep_scores.zip(scores.as_mut().map(Shared::new));
        let keep_pattern = attention
            .keep_pattern
            .zip(pattern.as_mut().map(Shared::new));
        let settle = |writes: &[Write],
                      keep: &Option<(KeepKeys<'_>, Shared<T>)>,
                      row: usize,
                      head: usize,
                      cells: &mut [T]| {
            let from = writes.partition_point(|w| w.row < row);
            for write in writes[from..]
                .iter()
                .take_while(|w| w.row == row)
                .filter(|w| w.head == head)
            {
                overwrite::write(write, cells, kept, constants);
            }
            if let Some((keep, matrix)) = keep
                && keep.to[row] != Keep::NOWHERE
            {
                matrix.write(keep.to[row] as usize, head * attention.stride, cells);
            }
        };
        let width = out.width;
        out.filled(count)
            .par_chunks_mut(TASK_ROWS * width)
            .enumerate()
            .for_each_init(Vec::new, |weights, (block, rows)| {
                for (i, out) in rows.chunks_exact_mut(width).enumerate() {
                    let row = block * TASK_ROWS + i;
                    arch.dispatch(Row {
                        query,
                        key,
                        value,
                        rows: attention.rows,
                        row,
                        heads: config.heads,
                        scale,
                        scores: &|head, cells| {
                            settle(attention.scores, &keep_scores, row, head, cells);
                        },
                        pattern: &|head, cells| {
                            settle(attention.weights, &keep_pattern, row, head, cells);
                        },
                        weights,
                        out,
                    });
                }
            });
    }
    for (keep, matrix) in [
        (attention.keep_scores, scores),
        (attention.keep_pattern, pattern),
    ] {
        if let (Some(keep), Some(matrix)) = (keep, matrix) {
            kept[keep.slot] = matrix;
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
