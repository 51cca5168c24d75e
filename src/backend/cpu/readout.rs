//! Unembedding and what is kept of it, without storing the logits.
//!
//! The vocabulary is cut into tiles of 192 tokens, whatever the machine. Each tile gives each row
//! its maximum m, Σ e^(l − m), Σ e^(l − m)(l − m) for the entropy, Σ e^(b − m_b)(b − l) for the
//! divergence from a row with logits b, the wanted logits that fall into it, how many of its tokens
//! come before each wanted one, and its own most probable tokens. Tiles are then merged in the order
//! of the vocabulary, so each sum has one order.
//!
//! The product is computed the other way round: the unembedding's rows, which are read where they are
//! stored, times the rows that are read out, transposed once. A tile's logits then stand token by
//! token, the rows side by side, so that what is done to each row is done to 16 at a time, and sums run
//! over the same 16 partial sums as everywhere (`rows.rs`) without a fold across lanes.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::linear::{self, Factor, OutputRows, Product, WeightMatrix};
use super::real::Real;
use super::rows::{PARTIALS, fold_each};
use crate::backend::{Readout, ReadoutSpec};

/// Tokens of a vocabulary tile.
const TILE: usize = 192;
/// Rows that are looked at together.
const SIDE: usize = 16;
/// Rows whose logits of a tile stand in memory at once.
const ROWS: usize = 2048;

/// What one tile knows of one row.
#[derive(Clone, Copy, Default)]
struct Part {
    max: f64,
    /// Σ exp(logit − max)
    sum: f64,
    /// Σ exp(logit − max) · (logit − max)
    weighted: f64,
    /// Σ exp(b − max b) · (b − logit), b being the logits of the row that this one is compared with
    divergence: f64,
}

/// A tile's logits of a row that others are compared with.
struct Base<T> {
    logits: [T; TILE],
    /// exp(logit − max)
    exponentials: [T; TILE],
}

/// Some neighbouring rows of a tile.
struct Scan<'a, T> {
    logits: &'a Logits<'a, T>,
    first: usize,
    /// Of each row, what it is compared with; empty if nothing is.
    bases: &'a [&'a Base<T>],
}

impl<T: Real> NullaryFnOnce for Scan<'_, T> {
    type Output = [Part; SIDE];

    #[inline(always)]
    fn call(self) -> [Part; SIDE] {
        let tokens = || self.logits.of(self.first).enumerate();
        let max = maxima(tokens().map(|(_, x)| x));
        let mut sum = [[T::default(); SIDE]; PARTIALS];
        let mut weighted = sum;
        for (n, x) in tokens() {
            for row in 0..SIDE {
                let shifted = x[row] - max[row];
                let e = shifted.exp();
                sum[n % PARTIALS][row] += e;
                weighted[n % PARTIALS][row] += e * shifted;
            }
        }
        let mut divergence = [[T::default(); SIDE]; PARTIALS];
        if !self.bases.is_empty() {
            // rows that are not there are compared with any
            let base: [&Base<T>; SIDE] =
                std::array::from_fn(|row| self.bases[row.min(self.bases.len() - 1)]);
            for (n, x) in tokens() {
                for row in 0..SIDE {
                    let (e, b) = (base[row].exponentials[n], base[row].logits[n]);
                    divergence[n % PARTIALS][row] += e * (b - x[row]);
                }
            }
        }
        let [sum, weighted, divergence] = [sum, weighted, divergence].map(fold_each);
        std::array::from_fn(|row| Part {
            max: max[row].to_f64(),
            sum: sum[row].to_f64(),
            // e⁻∞ · −∞ is 0 · −∞
            weighted: match max[row] > T::NEG_INFINITY {
                true => weighted[row].to_f64(),
                false => 0.0,
            },
            divergence: divergence[row].to_f64(),
        })
    }
}

/// The largest logit of each row.
#[inline(always)]
fn maxima<'a, T: Real>(tokens: impl Iterator<Item = &'a [T; SIDE]>) -> [T; SIDE] {
    let mut max = [T::NEG_INFINITY; SIDE];
    for x in tokens {
        for row in 0..SIDE {
            max[row] = if x[row] > max[row] { x[row] } else { max[row] };
        }
    }
    max
}

/// How many tokens of a tile come before a wanted one, for some neighbouring rows: those with a larger
/// logit, and of equal ones those with a lower id. Rows without one have NaN, which nothing is above.
struct Before<'a, T> {
    logits: &'a Logits<'a, T>,
    first: usize,
    wanted: [T; SIDE],
    /// Ids, from the tile's first token on.
    ids: [i64; SIDE],
}

impl<T: Real> NullaryFnOnce for Before<'_, T> {
    type Output = [u32; SIDE];

    #[inline(always)]
    fn call(self) -> [u32; SIDE] {
        let mut count = [0; SIDE];
        for (n, x) in self.logits.of(self.first).enumerate() {
            for row in 0..SIDE {
                let (x, wanted) = (x[row], self.wanted[row]);
                let before = x > wanted || (x == wanted && (n as i64) < self.ids[row]);
                count[row] += u32::from(before);
            }
        }
        count
    }
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

/// Most probable first: larger logits, of equal ones lower ids.
fn order(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the n largest, largest first, ties by lower id.
fn best(list: impl Iterator<Item = (u32, f64)>, n: usize) -> Vec<(u32, f64)> {
    let mut top: Vec<(u32, f64)> = Vec::with_capacity(n);
    for next in list {
        if top.len() == n {
            match top.last() {
                Some(last) if order(&next, last).is_lt() => top.pop(),
                _ => continue,
            };
        }
        let at = top.partition_point(|other| order(other, &next).is_lt());
        top.insert(at, next);
    }
    top
}

/// Reads out rows `0..rows` of `[_, width]` input against a `[vocab, width]` unembedding.
pub fn readout<T: Real>(
    arch: Arch,
    weight: WeightMatrix<'_>,
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
    weight: WeightMatrix<'a>,
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
        weight: WeightMatrix<'a>,
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

    /// The rows as columns, `[width, stride]`, zeros beyond the last.
    fn transposed(&self) -> (Vec<T>, usize) {
        let width = self.weight.inputs;
        // a cache line more, so that the columns of one row of it lie in different sets
        let stride = self.side() + SIDE;
        let mut columns = vec![T::default(); width * stride];
        columns
            .par_chunks_mut(64 * stride)
            .enumerate()
            .for_each(|(block, columns)| {
                for (m, row) in self.rows.iter().enumerate() {
                    let stretch = &self.input[row * width..][..width][64 * block..];
                    let columns = columns.chunks_exact_mut(stride);
                    columns.zip(stretch).for_each(|(column, x)| column[m] = *x);
                }
            });
        (columns, stride)
    }

    /// Rows that stand side by side: as many as there are and those that fill the last vectors.
    fn side(&self) -> usize {
        self.rows.len().next_multiple_of(2 * SIDE)
    }

    /// Logits of some tokens, `[tokens, side]`.
    fn product(
        &self,
        arch: Arch,
        (columns, stride): (&[T], usize),
        tokens: Range<usize>,
        scratch: &mut Scratch<T>,
    ) {
        let (width, side) = (self.weight.inputs, self.side());
        scratch.logits.resize(tokens.len() * side, T::default());
        let Scratch {
            linear,
            logits,
            rows,
            widened,
        } = scratch;
        let stored = match self.weight.in_place::<T>() {
            Some(data) => &data[tokens.start * width..],
            None => {
                rows.clear();
                widened.resize(width, 0.0);
                for token in tokens.clone() {
                    let row = linear::stretch(self.weight, token * width, width, widened);
                    rows.extend(row.iter().map(|x| T::from(*x)));
                }
                &rows[..]
            }
        };
        let product = Product {
            weight: Factor::Own {
                data: columns,
                inputs: width,
                columns: stride,
            },
            columns: 0..side,
            rows: tokens.len(),
            row: &|token| &stored[token * width..][..width],
            place: &|token| token,
            output: OutputRows {
                base: logits.as_mut_ptr(),
                stride: side,
            },
            finish: &|_, _, _: &mut [T]| {},
        };
        linear::product_alone(arch, &product, linear);
    }

    /// Wanted logits of each row by id, before anything else is known: the product of a row and a
    /// token does not depend on what stands beside them, so these are the scan's own bits.
    fn wanted_logits(&self, arch: Arch, columns: (&[T], usize)) -> Vec<Vec<(u32, T)>> {
        let mut distinct: Vec<u32> = self.wanted.iter().map(|w| w.3).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let by_id: HashMap<u32, Vec<T>> = distinct
            .into_par_iter()
            .map_init(Scratch::default, |scratch, id| {
                let token = id as usize;
                self.product(arch, columns, token..token + 1, scratch);
                (id, scratch.logits.clone())
            })
            .collect();
        let mut all = vec![Vec::new(); self.count];
        for (_, m, _, id) in &self.wanted {
            all[*m].push((*id, by_id[id][*m]));
        }
        all
    }

    fn read(&self, arch: Arch) -> Vec<Readout> {
        let (columns, stride) = self.transposed();
        let columns = (&columns[..], stride);
        let early = if self.spec.ranks {
            self.wanted_logits(arch, columns)
        } else {
            Vec::new()
        };
        let tiles: Vec<PanelTile> = (0..self.vocab.div_ceil(TILE))
            .into_par_iter()
            .map_init(Scratch::default, |scratch, tile| {
                self.tile(arch, tile, columns, &early, scratch)
            })
            .collect();

        let whole = |m: usize| Whole::of(tiles.iter().map(move |tile| &tile.parts[m]));
        let mut readouts: Vec<Readout> = (0..self.count)
            .into_par_iter()
            .map(|m| {
                let own = whole(m);
                let top = match self.spec.top {
                    0 => Vec::new(),
                    n => best(tiles.iter().flat_map(|tile| tile.top[m].iter().copied()), n),
                };
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
                    ..Readout::default()
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

    fn tile(
        &self,
        arch: Arch,
        tile: usize,
        columns: (&[T], usize),
        early: &[Vec<(u32, T)>],
        scratch: &mut Scratch<T>,
    ) -> PanelTile {
        let tokens = tile * TILE..self.vocab.min((tile + 1) * TILE);
        let origin = tokens.start;
        self.product(arch, columns, tokens, scratch);
        let logits = &Logits {
            tokens: &scratch.logits,
            side: self.side(),
        };

        let mut bases = HashMap::new();
        for m in &self.base {
            bases.entry(*m).or_insert_with(|| logits.base(arch, *m));
        }
        let bases: Vec<&Base<T>> = self.base.iter().map(|m| &bases[m]).collect();
        let mut parts = Vec::with_capacity(self.side());
        let mut above = vec![Vec::new(); early.len()];
        for first in (0..self.rows.len()).step_by(SIDE) {
            parts.extend(arch.dispatch(Scan {
                logits,
                first,
                bases: &bases[first.min(bases.len())..],
            }));
            let early = &early[first.min(early.len())..early.len().min(first + SIDE)];
            for i in 0..early.iter().map(Vec::len).max().unwrap_or(0) {
                let mut before = Before {
                    logits,
                    first,
                    wanted: [T::NAN; SIDE],
                    ids: [0; SIDE],
                };
                for (row, (id, logit)) in early
                    .iter()
                    .map(|w| w.get(i))
                    .enumerate()
                    .filter_map(|(row, w)| Some((row, w?)))
                {
                    before.wanted[row] = *logit;
                    before.ids[row] = i64::from(*id) - origin as i64;
                }
                let counts = arch.dispatch(before);
                for (row, wanted) in early.iter().enumerate() {
                    if i < wanted.len() {
                        above[first + row].push(counts[row]);
                    }
                }
            }
        }
        let top = match self.spec.top {
            0 => Vec::new(),
            n => {
                let ids = origin as u32..;
                let of = |m| ids.clone().zip(logits.row(m).map(|x| x.to_f64()));
                (0..self.count).map(|m| best(of(m), n)).collect()
            }
        };
        let from = self.wanted.partition_point(|w| w.0 < tile);
        let to = self.wanted.partition_point(|w| w.0 <= tile);
        let found = self.wanted[from..to]
            .iter()
            .map(|(_, m, _, id)| logits.at(*id as usize - origin, *m).to_f64());
        PanelTile {
            parts,
            top,
            found: found.collect(),
            above,
        }
    }
}

/// A thread's buffers.
struct Scratch<T> {
    linear: linear::Scratch<T>,
    logits: Vec<T>,
    /// The tile's rows of the unembedding, where they are stored as something else.
    rows: Vec<T>,
    widened: Vec<f32>,
}

impl<T: Default> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            linear: linear::Scratch::default(),
            logits: Vec::new(),
            rows: Vec::new(),
            widened: Vec::new(),
        }
    }
}

/// A tile's logits, token by token.
struct Logits<'a, T> {
    /// `[tokens, side]`
    tokens: &'a [T],
    side: usize,
}

impl<T: Real> Logits<'_, T> {
    /// Of some neighbouring rows, token by token.
    #[inline(always)]
    fn of(&self, first: usize) -> impl Iterator<Item = &[T; SIDE]> {
        let tokens = self.tokens.chunks_exact(self.side);
        tokens.filter_map(move |token| token[first..].first_chunk())
    }

    /// Of one row.
    fn row(&self, m: usize) -> impl Iterator<Item = T> {
        self.tokens[m..].iter().step_by(self.side).copied()
    }

    fn at(&self, token: usize, m: usize) -> T {
        self.tokens[token * self.side + m]
    }

    fn base(&self, arch: Arch, m: usize) -> Base<T> {
        let mut base = Base {
            logits: [T::default(); TILE],
            exponentials: [T::default(); TILE],
        };
        base.logits
            .iter_mut()
            .zip(self.row(m))
            .for_each(|(to, x)| *to = x);
        arch.dispatch(Exponentials(&mut base, self.tokens.len() / self.side));
        base
    }
}

/// Computes a row's exponentials, of so many logits.
struct Exponentials<'a, T>(&'a mut Base<T>, usize);

impl<T: Real> NullaryFnOnce for Exponentials<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let logits = &self.0.logits[..self.1];
        let max = logits
            .iter()
            .fold(T::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
        let out = self.0.exponentials.iter_mut().zip(logits);
        out.for_each(|(e, x)| *e = (*x - max).exp());
    }
}

/// What one tile knows of a block.
struct PanelTile {
    parts: Vec<Part>,
    /// Each row's most probable tokens, if they are wanted.
    top: Vec<Vec<(u32, f64)>>,
    /// The wanted logits that fall into it.
    found: Vec<f64>,
    /// For each row and each of its wanted ids, how many of the tile's tokens come before it.
    above: Vec<Vec<u32>>,
}
