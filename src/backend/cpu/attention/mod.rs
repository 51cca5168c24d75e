//! Ragged causal attention, one arithmetic for every row.
//!
//! For each row and head: scores of the keys in absolute order, overwrites, softmax with the
//! maximum subtracted, w = e / Σe, overwrites, z = Σ w·v in absolute order. A key or value row is
//! the run's own where it is dirty and the cache's otherwise, which changes where a number is read
//! and not what is done with it.
//!
//! Rows of one run see the same keys, so a task is some of them. It finds their key and value rows once,
//! and then goes head by head. Where there are several rows, a head's keys are laid side by side, a
//! vector of keys for each of its d columns, and its values row by row (`gathered.rs`): scores are then
//! computed for a vector of keys and several rows at a time, in the 16 partial sums of `rows::dot` and
//! folded in its order, and each value that is loaded is added to several rows. Where there are few, they
//! are read where they stand. Both give the same bits.

mod gathered;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use self::gathered::{Scores, Sums};
use super::matrix::{Buffer, Shared};
use super::overwrite;
use super::real::Real;
use super::rows::{dot, max, sum};
use crate::backend::{Attention, KeepKeys};
use crate::model::Config;
use crate::plan::tables::{AttentionRows, Keep, Ref};
use crate::plan::writes::Write;

/// Most rows of a task: the gathering of their keys and values is little beside what they are for.
const TASK_ROWS: usize = 256;
/// Rows whose scores stand in memory together.
const BLOCK_ROWS: usize = 16;
/// Fewest rows for which keys and values are gathered: with fewer it costs more than it saves.
const GATHERED_ROWS: usize = 8;
/// Fewest keys that are.
const GATHERED_KEYS: usize = 32;

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

    #[inline(always)]
    fn rows(&self, at: &[Ref]) -> Vec<&'a [T]> {
        at.iter().map(|at| self.row(*at)).collect()
    }
}

/// Some rows of one run, some heads.
struct Task<'a, T> {
    query: Pair<'a, T>,
    key: Pair<'a, T>,
    value: Pair<'a, T>,
    table: &'a AttentionRows,
    rows: Range<usize>,
    heads: Range<usize>,
    /// Columns of a head.
    d: usize,
    scale: T,
    /// Overwrites and keeps the scores of a row's head.
    scores: &'a dyn Fn(usize, usize, &mut [T]),
    /// Overwrites and keeps its pattern.
    pattern: &'a dyn Fn(usize, usize, &mut [T]),
    scratch: &'a mut Scratch<T>,
    out: &'a Shared<T>,
}

/// A thread's buffers.
#[derive(Default)]
struct Scratch<T> {
    /// A head's keys, a panel for each vector of them: `[panels, d, lanes]`.
    keys: Vec<T>,
    /// Its values: `[keys, d]`.
    values: Vec<T>,
    /// Scores, then pattern, of a block of rows: `[BLOCK_ROWS, panels · lanes]`.
    scores: Vec<T>,
    /// `[BLOCK_ROWS, d]`
    z: Vec<T>,
}

impl<T: Real> WithSimd for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let first = self.table.first[self.rows.start] as usize;
        let counts = &self.table.count[self.rows.clone()];
        let seen = first..first + counts.iter().copied().max().unwrap_or(0) as usize;
        let keys: Vec<&[T]> = self.key.rows(&self.table.key[seen.clone()]);
        let values: Vec<&[T]> = self.value.rows(&self.table.value[seen]);
        let mut scratch = std::mem::take(self.scratch);
        for head in self.heads.clone() {
            if self.rows.len() >= GATHERED_ROWS && keys.len() >= GATHERED_KEYS {
                self.gathered(simd, head, &keys, &values, &mut scratch);
            } else {
                self.in_place(head, &keys, &values, &mut scratch);
            }
        }
        *self.scratch = scratch;
    }
}

impl<T: Real> Task<'_, T> {
    fn columns(&self, head: usize) -> Range<usize> {
        head * self.d..(head + 1) * self.d
    }

    /// How many keys a row sees.
    fn count(&self, row: usize) -> usize {
        self.table.count[row] as usize
    }

    #[inline(always)]
    fn query(&self, row: usize, head: usize) -> &[T] {
        &self.query.row(self.table.query[row])[self.columns(head)]
    }

    /// Scores to pattern, overwritten and kept on the way.
    #[inline(always)]
    fn settle(&self, row: usize, head: usize, weights: &mut [T]) {
        (self.scores)(row, head, weights);
        softmax(weights);
        (self.pattern)(row, head, weights);
    }

    /// One head of rows so few that every key and value is read once or twice.
    #[inline(always)]
    fn in_place(&self, head: usize, keys: &[&[T]], values: &[&[T]], scratch: &mut Scratch<T>) {
        let columns = self.columns(head);
        scratch
            .scores
            .resize(keys.len().max(scratch.scores.len()), T::default());
        scratch.z.resize(BLOCK_ROWS * self.d, T::default());
        let z = &mut scratch.z[..self.d];
        for row in self.rows.clone() {
            let weights = &mut scratch.scores[..self.count(row)];
            let query = self.query(row, head);
            for (w, key) in weights.iter_mut().zip(keys) {
                *w = dot(query, &key[columns.clone()]) * self.scale;
            }
            self.settle(row, head, weights);
            let value = |j: usize| &values[j][columns.clone()];
            weighted_sum(weights, value, z);
            self.out.write(row, columns.start, z);
        }
    }

    /// One head of several rows.
    #[inline(always)]
    fn gathered<S: Simd>(
        &self,
        simd: S,
        head: usize,
        keys: &[&[T]],
        values: &[&[T]],
        scratch: &mut Scratch<T>,
    ) {
        let (d, columns, lanes) = (self.d, self.columns(head), T::lanes::<S>());
        let panels = keys.len().div_ceil(lanes);
        let wide = panels * lanes;
        let resize = |buffer: &mut Vec<T>, length| buffer.resize(length, T::default());
        resize(&mut scratch.keys, wide * d);
        resize(&mut scratch.values, values.len() * d);
        resize(&mut scratch.scores, BLOCK_ROWS * wide);
        resize(&mut scratch.z, BLOCK_ROWS * d);
        let panel_keys = scratch
            .keys
            .chunks_exact_mut(lanes * d)
            .zip(keys.chunks(lanes));
        for (panel, keys) in panel_keys {
            for (j, key) in keys.iter().enumerate() {
                let column = panel[j..].iter_mut().step_by(lanes);
                column
                    .zip(&key[columns.clone()])
                    .for_each(|(to, k)| *to = *k);
            }
        }
        for (to, value) in scratch.values.chunks_exact_mut(d).zip(values) {
            to.copy_from_slice(&value[columns.clone()]);
        }
        for first in self.rows.clone().step_by(BLOCK_ROWS) {
            let rows = first..self.rows.end.min(first + BLOCK_ROWS);
            let mut queries = [&[][..]; BLOCK_ROWS];
            let mut counts = [0; BLOCK_ROWS];
            for (i, row) in rows.clone().enumerate() {
                (queries[i], counts[i]) = (self.query(row, head), self.count(row));
            }
            let (queries, counts) = (&queries[..rows.len()], &counts[..rows.len()]);
            Scores {
                simd,
                queries,
                counts,
                scale: self.scale,
                keys: &scratch.keys,
                d,
                out: &mut scratch.scores,
                wide,
            }
            .compute();
            for (row, weights) in rows.clone().zip(scratch.scores.chunks_exact_mut(wide)) {
                self.settle(row, head, &mut weights[..self.count(row)]);
            }
            scratch.z.fill(T::default());
            Sums {
                simd,
                weights: &scratch.scores,
                wide,
                counts,
                values: &scratch.values,
                d,
                z: &mut scratch.z,
            }
            .compute();
            for (row, z) in rows.zip(scratch.z.chunks_exact(d)) {
                self.out.write(row, columns.start, z);
            }
        }
    }
}

/// Rows of one run that stand together, and heads: all of them in one task where there are enough runs
/// for every thread.
fn tasks(rows: &AttentionRows, heads: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let mut parts = Vec::new();
    let mut start = 0;
    for run in rows.first.chunk_by(|a, b| a == b) {
        let end = start + run.len();
        let starts = (start..end).step_by(TASK_ROWS);
        parts.extend(starts.map(|first| first..end.min(first + TASK_ROWS)));
        start = end;
    }
    let together = match parts.len() >= 8 * rayon::current_num_threads() {
        true => heads,
        false => 1,
    };
    let groups = |part: Range<usize>| {
        let firsts = (0..heads).step_by(together);
        firsts.map(move |first| (part.clone(), first..first + together))
    };
    parts.into_iter().flat_map(groups).collect()
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
        let tasks = tasks(attention.rows, config.heads);
        let out = &Shared::new(out);
        tasks
            .into_par_iter()
            .for_each_init(Scratch::default, |scratch, (rows, heads)| {
                arch.dispatch(Task {
                    query,
                    key,
                    value,
                    table: attention.rows,
                    rows,
                    heads,
                    d: config.head_width(),
                    scale,
                    scores: &|row, head, cells| {
                        settle(attention.scores, &keep_scores, row, head, cells);
                    },
                    pattern: &|row, head, cells| {
                        settle(attention.weights, &keep_pattern, row, head, cells);
                    },
                    scratch,
                    out,
                });
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
pub(super) fn softmax<T: Real>(scores: &mut [T]) {
    let max = max(scores);
    scores.iter_mut().for_each(|s| *s = (*s - max).exp());
    let inverse = T::ONE / sum(scores);
    scores.iter_mut().for_each(|s| *s = *s * inverse);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Instructions;
    use crate::model::Checkpoint;

    fn buffer<T: Real>(rows: usize, width: usize, seed: u64) -> Buffer<T> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            T::from((state >> 40) as f32 / (1 << 22) as f32 - 2.0)
        };
        Buffer {
            data: (0..rows * width).map(|_| next()).collect(),
            rows,
            width,
        }
    }

    /// A row's z of one head as the module's documentation states it, one number after the other.
    fn stated<T: Real>(query: &[T], keys: &[&[T]], values: &[&[T]], scale: T) -> Vec<T> {
        let dot = |key: &&[T]| {
            let mut partial = [T::default(); 16];
            for (i, (q, k)) in query.iter().zip(*key).enumerate() {
                partial[i % 16] = q.mul_add(*k, partial[i % 16]);
            }
            for half in [8, 4, 2, 1] {
                for i in 0..half {
                    let other = partial[i + half];
                    partial[i] += other;
                }
            }
            partial[0] * scale
        };
        let scores: Vec<T> = keys.iter().map(dot).collect();
        let most = scores
            .iter()
            .copied()
            .fold(T::NEG_INFINITY, |m, x| match x > m {
                true => x,
                false => m,
            });
        let exponentials: Vec<T> = scores.iter().map(|x| (*x - most).exp()).collect();
        let inverse = T::ONE / sum(&exponentials);
        let mut z = vec![T::default(); query.len()];
        for (e, value) in exponentials.iter().zip(values) {
            let w = *e * inverse;
            z.iter_mut()
                .zip(*value)
                .for_each(|(z, v)| *z = w.mul_add(*v, *z));
        }
        z
    }

    /// Runs of `length` tokens whose keys are the cache's up to `from` and their own from there on, and
    /// whose z is computed at some of their own positions.
    fn check<T: Real>(runs: &[(usize, usize)], every: usize, heads: usize, d: usize) {
        let config = Config {
            heads,
            width: heads * d,
            ..Checkpoint::demo().unwrap().config.clone()
        };
        let (mut table, mut own) = (AttentionRows::default(), 0);
        for (length, from) in runs {
            let first = table.key.len() as u32;
            for p in 0..*length {
                let at = if p < *from {
                    Ref::cached(p)
                } else {
                    Ref::own(own + p - from)
                };
                table.key.push(at);
                table.value.push(at);
            }
            for p in (*from..*length).step_by(every) {
                table.query.push(Ref::own(own + p - from));
                table.first.push(first);
                table.count.push(p as u32 + 1);
            }
            own += length - from;
        }
        let longest = runs.iter().map(|run| run.0).max().unwrap();
        let [query, key, value] = [1, 2, 3].map(|seed| buffer::<T>(own, config.width, seed));
        let mut kept: Vec<_> = [4, 5]
            .map(|seed| buffer::<T>(longest, config.width, seed))
            .into();
        let count = table.query.len();
        let scale = T::from_f64(config.score_scale(0));
        let mut expected = Vec::new();
        for row in 0..count {
            let first = table.first[row] as usize;
            let seen = first..first + table.count[row] as usize;
            for head in 0..heads {
                let columns = head * d..(head + 1) * d;
                let of = |own: &'_ Buffer<T>, cache: &'_ Buffer<T>, at: &Ref| -> Vec<T> {
                    let row = match at.row() {
                        Ok(row) => own.row(row),
                        Err(row) => cache.row(row),
                    };
                    row[columns.clone()].to_vec()
                };
                let rows = |own, cache, refs: &[Ref]| -> Vec<Vec<T>> {
                    refs.iter().map(|at| of(own, cache, at)).collect()
                };
                let keys = rows(&key, &kept[0], &table.key[seen.clone()]);
                let values = rows(&value, &kept[1], &table.value[seen.clone()]);
                let query = of(&query, &query, &table.query[row]);
                let keys: Vec<&[T]> = keys.iter().map(|k| &**k).collect();
                let values: Vec<&[T]> = values.iter().map(|v| &**v).collect();
                expected.extend(stated(&query, &keys, &values, scale));
            }
        }
        for instructions in Instructions::available() {
            let mut out = buffer::<T>(count, config.width, 6);
            let operands = Attention {
                layer: 0,
                query: (&query, None),
                key: (&key, Some(0)),
                value: (&value, Some(1)),
                rows: &table,
                scores: &[],
                weights: &[],
                keep_scores: None,
                keep_pattern: None,
                stride: longest,
            };
            let arch = instructions.arch().unwrap();
            attention(arch, &config, &operands, &mut kept, &[], &mut out);
            let pairs = out.data.iter().zip(&expected);
            let wrong = pairs.enumerate().find(|(_, (a, b))| !a.same_bits(**b));
            assert_eq!(wrong, None, "{runs:?}, {heads} × {d}, {instructions:?}");
        }
    }

    fn check_all<T: Real>() {
        // few rows and many, with gaps and without, keys that fill no vector or many; heads whose columns
        // fill no vector, one and a part, several
        let runs: [&[(usize, usize)]; 4] = [
            &[(1, 0), (5, 0), (7, 6)],
            &[(40, 0)],
            &[(70, 41), (33, 32), (90, 3), (34, 30)],
            &[(300, 0), (41, 12)],
        ];
        for runs in runs {
            for (heads, d) in [(2, 1), (3, 6), (2, 22), (2, 64), (1, 80)] {
                check::<T>(runs, 1, heads, d);
                check::<T>(runs, 3, heads, d);
            }
        }
    }

    #[test]
    fn every_row_is_computed_in_the_stated_order_in_f32() {
        check_all::<f32>();
    }

    #[test]
    fn every_row_is_computed_in_the_stated_order_in_f64() {
        check_all::<f64>();
    }
}
