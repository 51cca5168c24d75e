//! Unembedding and what is kept of it, without storing the logits.
//!
//! The vocabulary is cut into tiles of 192 columns, whatever the machine. Each tile gives each row
//! its maximum m, Σ e^(l − m), Σ e^(l − m)(l − m) for the entropy, Σ e^(b − m_b)(b − l) for the
//! divergence from a row with logits b, the wanted logits that fall into it, how many of its tokens
//! come before each wanted one, and its own most probable tokens. Tiles are then merged in the order
//! of the vocabulary, so each sum has one order.

use std::collections::HashMap;
use std::ops::Range;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::linear::{self, Factor, Matrix, Output, Product};
use super::real::Real;
use super::rows;
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
    /// Σ exp(logit − max) · (logit − max)
    weighted: f64,
    /// Σ exp(b − max b) · (b − logit), b being the logits of the row that this one is compared with
    divergence: f64,
    top: Vec<(u32, f64)>,
}

struct Scan<'a, T> {
    logits: &'a [T],
    /// Those of the row that it is compared with.
    base: Option<&'a [T]>,
    first: usize,
    top: usize,
}

impl<T: Real> NullaryFnOnce for Scan<'_, T> {
    type Output = Part;

    #[inline(always)]
    fn call(self) -> Part {
        let mut buffer = [T::default(); TILE];
        let shifted = &mut buffer[..self.logits.len()];
        let max = exponentials(self.logits, shifted);
        let sum = rows::sum(shifted);
        shifted
            .iter_mut()
            .zip(self.logits)
            .for_each(|(e, x)| *e = *e * (*x - max));
        // e⁻∞ · −∞ is 0 · −∞
        let finite = max > T::NEG_INFINITY;
        let weighted = if finite {
            rows::sum(shifted)
        } else {
            T::default()
        };
        let divergence = self.base.map_or(T::default(), |base| {
            exponentials(base, shifted);
            let terms = shifted.iter_mut().zip(base.iter().zip(self.logits));
            terms.for_each(|(e, (b, x))| *e = *e * (*b - *x));
            rows::sum(shifted)
        });
        let mut top: Vec<(u32, f64)> = Vec::new();
        if self.top > 0 {
            let ids = (self.first as u32..).zip(self.logits.iter().map(|x| x.to_f64()));
            top.extend(ids);
            best(&mut top, self.top);
        }
        Part {
            max: max.to_f64(),
            sum: sum.to_f64(),
            weighted: weighted.to_f64(),
            divergence: divergence.to_f64(),
            top,
        }
    }
}

/// exp(x − max) of each; returns the maximum.
#[inline(always)]
fn exponentials<T: Real>(x: &[T], out: &mut [T]) -> T {
    let max = x
        .iter()
        .fold(T::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
    out.iter_mut()
        .zip(x)
        .for_each(|(e, x)| *e = (*x - max).exp());
    max
}

/// The sums of one row over all tiles, in the order of the vocabulary.
struct Whole {
    max: f64,
    sum: f64,
    log_sum_exp: f64,
    entropy: f64,
}

impl Whole {
    fn of<'a>(parts: impl Iterator<Item = &'a Part> + Clone) -> Self {
        let max = parts.clone().fold(f64::NEG_INFINITY, |m, p| m.max(p.max));
        let (mut sum, mut weighted) = (0.0, 0.0);
        for part in parts {
            let shift = part.max - max;
            sum += part.sum * shift.exp();
            weighted += (part.weighted + shift * part.sum) * shift.exp();
        }
        Self {
            max,
            sum,
            log_sum_exp: max + sum.ln(),
            entropy: sum.ln() - weighted / sum,
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

/// Reads out rows `0..rows` of `[_, width]` input against a `[vocab, width]` unembedding.
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
        let block = Block::new(weight, vocab, input, first..rows.min(first + ROWS), spec);
        readouts.extend(block.read(arch));
    }
    readouts
}

/// Rows that are read out together.
struct Block<'a, T> {
    weight: Matrix<'a>,
    vocab: usize,
    input: &'a [T],
    spec: &'a ReadoutSpec,
    /// Rows of the input: first those that are read out, then those that they are compared with.
    rows: Vec<usize>,
    /// How many are read out.
    count: usize,
    /// For each of them, the index in `rows` of the one that it is compared with.
    base: Vec<usize>,
    /// Which wanted ids fall into which tile: (tile, index of the row, index among its ids, id).
    wanted: Vec<(usize, usize, usize, u32)>,
}

impl<'a, T: Real> Block<'a, T> {
    fn new(
        weight: Matrix<'a>,
        vocab: usize,
        input: &'a [T],
        range: Range<usize>,
        spec: &'a ReadoutSpec,
    ) -> Self {
        let mut rows: Vec<usize> = range.clone().collect();
        let count = rows.len();
        let mut base = Vec::new();
        if !spec.base.is_empty() {
            let mut known = HashMap::new();
            for row in &spec.base[range.clone()] {
                base.push(*known.entry(*row).or_insert_with(|| {
                    rows.push(*row as usize);
                    rows.len() - 1
                }));
            }
        }
        let mut wanted: Vec<_> = range
            .enumerate()
            .flat_map(|(m, row)| {
                let ids = &spec.ids[spec.first[row]..spec.first[row + 1]];
                ids.iter()
                    .enumerate()
                    .map(move |(i, id)| (*id as usize / TILE, m, i, *id))
            })
            .collect();
        wanted.sort_unstable();
        Self {
            weight,
            vocab,
            input,
            spec,
            rows,
            count,
            base,
            wanted,
        }
    }

    fn row(&self, m: usize) -> &'a [T] {
        let width = self.weight.inputs;
        &self.input[self.rows[m] * width..][..width]
    }

    /// Logits of some columns of a weight, `[rows, columns.len()]`.
    fn product(
        &self,
        arch: Arch,
        weight: Matrix<'_>,
        columns: Range<usize>,
        rows: usize,
        out: &mut Vec<T>,
    ) {
        let wide = columns.len();
        out.resize(rows * wide, T::default());
        linear::product(
            arch,
            &Product {
                weight: Factor::Stored(weight),
                columns,
                rows,
                row: &|m| self.row(m),
                place: &|m| m,
                output: Output {
                    base: out.as_mut_ptr(),
                    stride: wide,
                },
                finish: &|_, _, _: &mut [T]| {},
            },
        );
    }

    /// Wanted logits of each row by id, before anything else is known: the product of a row and a
    /// column does not depend on what stands beside them, so these are the scan's own bits.
    fn wanted_logits(&self, arch: Arch) -> Vec<Vec<(u32, T)>> {
        let mut distinct: Vec<u32> = self.wanted.iter().map(|w| w.3).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let width = self.weight.inputs;
        let mut by_id = HashMap::new();
        for id in distinct {
            let one = Matrix {
                data: self.weight.data.slice(id as usize * width, width),
                ..self.weight
            };
            let mut logits = Vec::new();
            self.product(arch, one, 0..1, self.count, &mut logits);
            by_id.insert(id, logits);
        }
        let mut all = vec![Vec::new(); self.count];
        for (_, m, _, id) in &self.wanted {
            all[*m].push((*id, by_id[id][*m]));
        }
        all
    }

    fn read(&self, arch: Arch) -> Vec<Readout> {
        let early = if self.spec.ranks {
            self.wanted_logits(arch)
        } else {
            Vec::new()
        };
        let tiles: Vec<Tile> = (0..self.vocab.div_ceil(TILE))
            .into_par_iter()
            .map_init(Vec::new, |logits: &mut Vec<T>, tile| {
                self.tile(arch, tile, &early, logits)
            })
            .collect();

        let whole = |m: usize| Whole::of(tiles.iter().map(move |tile| &tile.parts[m]));
        let mut readouts: Vec<Readout> = (0..self.count)
            .map(|m| {
                let own = whole(m);
                let mut top: Vec<_> = tiles
                    .iter()
                    .flat_map(|tile| tile.parts[m].top.iter().copied())
                    .collect();
                best(&mut top, self.spec.top);
                let kl = self.base.get(m).map_or(0.0, |base| {
                    let other = whole(*base);
                    let terms = tiles.iter().map(|tile| {
                        (tile.parts[*base].max - other.max).exp() * tile.parts[m].divergence
                    });
                    terms.sum::<f64>() / other.sum + (own.log_sum_exp - other.log_sum_exp)
                });
                let row = self.rows[m];
                let ids = self.spec.first[row + 1] - self.spec.first[row];
                Readout {
                    log_sum_exp: own.log_sum_exp,
                    entropy: own.entropy,
                    kl,
                    logits: vec![0.0; ids],
                    ranks: vec![0; if self.spec.ranks { ids } else { 0 }],
                    top,
                }
            })
            .collect();
        let found = tiles.iter().flat_map(|tile| &tile.found);
        for ((_, m, i, _), logit) in self.wanted.iter().zip(found) {
            readouts[*m].logits[*i] = *logit;
        }
        if self.spec.ranks {
            // `early` has a row's ids in the order of the vocabulary, and so has `above`
            let mut next = vec![0; self.count];
            for (_, m, i, _) in &self.wanted {
                let above = tiles.iter().map(|tile| tile.above[*m][next[*m]]);
                readouts[*m].ranks[*i] = above.sum();
                next[*m] += 1;
            }
        }
        readouts
    }

    fn tile(&self, arch: Arch, tile: usize, early: &[Vec<(u32, T)>], logits: &mut Vec<T>) -> Tile {
        let columns = tile * TILE..self.vocab.min((tile + 1) * TILE);
        let (origin, wide) = (columns.start, columns.len());
        self.product(arch, self.weight, columns, self.rows.len(), logits);
        let row = |m: usize| &logits[m * wide..][..wide];
        let part = |m: usize| {
            arch.dispatch(Scan {
                logits: row(m),
                base: self.base.get(m).map(|base| row(*base)),
                first: origin,
                top: if m < self.count { self.spec.top } else { 0 },
            })
        };
        let above = early.iter().enumerate().map(|(m, wanted)| {
            let before = |id: u32, logit: T| {
                let all = (origin as u32..).zip(row(m));
                all.filter(|(i, x)| **x > logit || (**x == logit && *i < id))
                    .count() as u32
            };
            wanted
                .iter()
                .map(|(id, logit)| before(*id, *logit))
                .collect()
        });
        let from = self.wanted.partition_point(|w| w.0 < tile);
        let to = self.wanted.partition_point(|w| w.0 <= tile);
        let found = self.wanted[from..to]
            .iter()
            .map(|(_, m, _, id)| row(*m)[*id as usize - origin].to_f64());
        Tile {
            parts: (0..self.rows.len()).map(part).collect(),
            found: found.collect(),
            above: above.collect(),
        }
    }
}

/// What one tile knows of a block.
struct Tile {
    parts: Vec<Part>,
    /// The wanted logits that fall into it.
    found: Vec<f64>,
    /// For each row and each of its wanted ids, how many of the tile's tokens come before it.
    above: Vec<Vec<u32>>,
}
