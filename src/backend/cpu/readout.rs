//! Unembedding and what is kept of it, without storing the logits.
//!
//! The vocabulary is cut into tiles of 192 columns, whatever the machine. Each tile gives each row
//! its maximum, Σ exp(logit − maximum), the wanted logits that fall into it and its own most
//! probable tokens; tiles are then merged in the order of the vocabulary, so the sum has one order.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::linear::{self, Matrix, Output, Product};
use super::real::Real;
use crate::backend::{Readout, ReadoutSpec};

/// Columns of a vocabulary tile.
const TILE: usize = 192;
/// Rows whose logits of a tile stand in memory at once.
const ROWS: usize = 2048;

/// What one tile knows of one row.
#[derive(Clone, Default)]
struct Part {
    max: f64,
    /// Σ exp(logit − max)
    sum: f64,
    top: Vec<(u32, f64)>,
}

struct Scan<'a, T> {
    logits: &'a [T],
    first: usize,
    top: usize,
}

impl<T: Real> NullaryFnOnce for Scan<'_, T> {
    type Output = Part;

    #[inline(always)]
    fn call(self) -> Part {
        let max = self
            .logits
            .iter()
            .fold(T::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
        let mut shifted = [T::default(); TILE];
        let shifted = &mut shifted[..self.logits.len()];
        shifted
            .iter_mut()
            .zip(self.logits)
            .for_each(|(s, x)| *s = (*x - max).exp());
        let sum = super::rows::sum(shifted);
        let mut top: Vec<(u32, f64)> = Vec::new();
        if self.top > 0 {
            let ids = (self.first as u32..).zip(self.logits.iter().map(|x| x.to_f64()));
            top.extend(ids);
            best(&mut top, self.top);
        }
        Part {
            max: max.to_f64(),
            sum: sum.to_f64(),
            top,
        }
    }
}

/// Keeps the n largest, largest first, ties by lower id.
fn best(list: &mut Vec<(u32, f64)>, n: usize) {
    let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if list.len() > n {
        if n > 0 {
            list.select_nth_unstable_by(n - 1, order);
        }
        list.truncate(n);
    }
    list.sort_by(order);
}

/// Reads out rows `0..rows` of `[rows, width]` input against a `[vocab, width]` unembedding.
pub fn readout<T: Real>(
    arch: Arch,
    weight: Matrix<'_>,
    vocab: usize,
    input: &[T],
    rows: usize,
    spec: &ReadoutSpec,
) -> Vec<Readout> {
    let mut readouts: Vec<Readout> = Vec::with_capacity(rows);
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        readouts.extend(block(arch, weight, vocab, input, first, count, spec));
    }
    readouts
}

fn block<T: Real>(
    arch: Arch,
    weight: Matrix<'_>,
    vocab: usize,
    input: &[T],
    first: usize,
    count: usize,
    spec: &ReadoutSpec,
) -> Vec<Readout> {
    let width = weight.inputs;
    let row = |m: usize| &input[(first + m) * width..][..width];
    // which wanted ids fall into which tile: (tile, row, index among the row's ids, id)
    let mut wanted: Vec<(usize, usize, usize, u32)> = (0..count)
        .flat_map(|m| {
            let ids = spec.first[first + m]..spec.first[first + m + 1];
            ids.enumerate().map(move |(i, at)| (m, i, at))
        })
        .map(|(m, i, at)| (spec.ids[at] as usize / TILE, m, i, spec.ids[at]))
        .collect();
    wanted.sort_unstable();

    let tiles: Vec<(Vec<Part>, Vec<f64>)> = (0..vocab.div_ceil(TILE))
        .into_par_iter()
        .map_init(Vec::new, |logits: &mut Vec<T>, tile| {
            let columns = tile * TILE..vocab.min((tile + 1) * TILE);
            let wide = columns.len();
            logits.resize(count * wide, T::default());
            let origin = columns.start;
            let output = Output {
                base: logits.as_mut_ptr(),
                stride: wide,
            };
            let finish = |_, _, _: &mut [T]| {};
            let product = Product {
                weight,
                columns,
                rows: count,
                row: &row,
                place: &|m| m,
                output,
                finish: &finish,
            };
            linear::product(arch, &product);
            let part = |m: usize| {
                arch.dispatch(Scan {
                    logits: &logits[m * wide..][..wide],
                    first: origin,
                    top: spec.top,
                })
            };
            let parts = (0..count).map(part).collect();
            let from = wanted.partition_point(|w| w.0 < tile);
            let to = wanted.partition_point(|w| w.0 <= tile);
            let found = wanted[from..to]
                .iter()
                .map(|(_, m, _, id)| logits[m * wide + *id as usize - origin].to_f64());
            (parts, found.collect())
        })
        .collect();

    let mut readouts: Vec<Readout> = (0..count)
        .map(|m| {
            let max = tiles
                .iter()
                .fold(f64::NEG_INFINITY, |x, (parts, _)| x.max(parts[m].max));
            let sum: f64 = tiles
                .iter()
                .map(|(parts, _)| parts[m].sum * (parts[m].max - max).exp())
                .sum();
            let mut top: Vec<_> = tiles
                .iter()
                .flat_map(|(parts, _)| parts[m].top.iter().copied())
                .collect();
            best(&mut top, spec.top);
            let ids = spec.first[first + m + 1] - spec.first[first + m];
            Readout {
                log_sum_exp: max + sum.ln(),
                logits: vec![0.0; ids],
                top,
            }
        })
        .collect();
    let found = tiles.iter().flat_map(|(_, found)| found);
    for ((_, m, i, _), logit) in wanted.iter().zip(found) {
        readouts[*m].logits[*i] = *logit;
    }
    readouts
}
