//! Matrix products whose every row is a function of that row alone.
//!
//! Libraries pick a kernel, a blocking of K and sometimes a transposition from M, N and K
//! together, so a row's last bits depend on how many rows stand beside it. Here one arithmetic
//! holds for every shape:
//!
//! ```text
//! out[m, n] = Σ_b ( Σ_{k in block b} in[m, k] · w[k, n] )        fused multiply-adds, k ascending,
//!                                                                blocks of 256, added in order
//! ```
//!
//! Tiles, threads and packing decide when an element is computed, never how, so results do not
//! depend on the batch, the number of threads or the width of the vector registers. Two levels of
//! sums also keep the rounding error at √256-like instead of √K-like growth.
//!
//! The loops are Goto and van de Geijn's (2008). A task is some rows by some columns. For each block of
//! K it cuts its columns into panels as wide as a register tile (`tile.rs`), so narrow that a panel of
//! packed weights stays in the first-level cache, and takes its rows a block at a time, copied so that
//! they lie close together. The first tile of rows reads the weights where they are stored and packs
//! them for those that follow; a product of few rows therefore packs nothing. Only weights that must be
//! widened or rounded are packed beforehand (`pack.rs`).

mod pack;
mod tile;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

pub use self::pack::stretch;
pub(super) use self::tile::tile_in_cache;
use self::tile::{MOST_ROWS, PanelTile, TileWeights, panel_columns, prefetch, tile_rows};
use super::real::Real;
use crate::model::Data;

/// Additions of one block of K.
const BLOCK_K: usize = 256;
/// Rows whose stretch of a K block stays in the second-level cache while columns go by.
const BLOCK_ROWS: usize = 192;
/// Rows, of the input or of weights, between the one that is copied and the one that is asked for.
const AHEAD: usize = 4;
/// Columns that stay together: a multiple of every panel's width.
const LEAST_COLUMNS: usize = 32;
/// Most columns of a task: their packed weights share the second-level cache with a block of rows.
const TASK_COLUMNS: usize = 192;
/// Rows in one task: as many results of a task's columns stay in the second-level cache from one block
/// of K to the next.
const TASK_ROWS: usize = 384;

/// A weight as stored: `[K, N]` (in, out).
#[derive(Clone, Copy)]
pub struct WeightMatrix<'a> {
    pub data: Data<'a>,
    /// Numbers from one stored row to the next.
    pub stride: usize,
    /// K.
    pub inputs: usize,
    /// Applied to each weight: the identity, or the rounding of another precision.
    pub round: Rounding,
}

/// What rows are multiplied by.
#[derive(Clone, Copy)]
pub enum Factor<'a, T> {
    /// A weight of the checkpoint, widened where it is packed.
    Stored(WeightMatrix<'a>),
    /// Numbers of the backend's own type, `[K, N]`.
    Own {
        data: &'a [T],
        /// K.
        inputs: usize,
        /// N.
        columns: usize,
    },
}

impl<T> Factor<'_, T> {
    /// K.
    fn inputs(&self) -> usize {
        match self {
            Self::Stored(weight) => weight.inputs,
            Self::Own { inputs, .. } => *inputs,
        }
    }
}

impl<'a> WeightMatrix<'a> {
    /// The weights where they are stored, if they are numbers of this type and used as they are.
    pub fn in_place<T: Real>(&self) -> Option<&'a [T]> {
        match self.data {
            Data::F32(data) if self.round == Rounding::None => T::own(data),
            _ => None,
        }
    }
}

impl<'a, T: Real> Factor<'a, T> {
    /// The weights as numbers of the backend's own type, `[K, N]`, with the numbers from one row to the
    /// next; `None` if they must be widened or rounded first.
    fn in_place(&self) -> Option<(&'a [T], usize)> {
        match self {
            Self::Own { data, columns, .. } => Some((data, *columns)),
            Self::Stored(weight) => Some((weight.in_place()?, weight.stride)),
        }
    }
}

/// What is done to weights before they are used, so that double precision can be the reference of a
/// backend that stores them in 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Nothing.
    None,
    /// To bfloat16 and back.
    Bf16,
    /// To half precision and back.
    F16,
}

/// Output rows that several tasks write, each its own columns.
pub struct OutputRows<T> {
    pub base: *mut T,
    pub stride: usize,
}

// SAFETY: tasks write disjoint (row, column) rectangles; `product` hands each its own.
unsafe impl<T: Send> Sync for OutputRows<T> {}

/// What a product reads and writes.
///
/// Functions are called through pointers so that the code below is compiled once a number type and
/// not once a caller.
pub struct Product<'a, 'r, T> {
    pub weight: Factor<'a, T>,
    /// Columns of the weight; the first stands in the output's column 0.
    pub columns: Range<usize>,
    /// How many results.
    pub rows: usize,
    /// The input row of result i.
    pub row: &'a (dyn Fn(usize) -> &'r [T] + Sync),
    /// The output row of result i; different for different results.
    pub place: &'a (dyn Fn(usize) -> usize + Sync),
    /// Owned by the caller, with room for every place and column.
    pub output: OutputRows<T>,
    /// Called once for each finished stretch: result, first column, values in place.
    pub finish: &'a (dyn Fn(usize, usize, &mut [T]) + Sync),
}

/// Computes a product, its tasks spread over threads.
pub fn product<T: Real>(arch: Arch, product: &Product<'_, '_, T>) {
    let (rows, columns) = (product.rows, product.columns.clone());
    // enough tasks for every thread, as few repeated copies of rows as possible
    let wanted = (4 * rayon::current_num_threads()).div_ceil(rows.div_ceil(TASK_ROWS).max(1));
    let step = columns
        .len()
        .div_ceil(wanted)
        .next_multiple_of(LEAST_COLUMNS)
        .clamp(LEAST_COLUMNS, TASK_COLUMNS);
    let starts = columns.clone().step_by(step);
    let tasks: Vec<_> = (0..rows)
        .step_by(TASK_ROWS)
        .flat_map(|r| starts.clone().map(move |c| (r, c)))
        .collect();
    tasks
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, (row, column)| {
            arch.dispatch(Task {
                product,
                rows: row..rows.min(row + TASK_ROWS),
                columns: column..columns.end.min(column + step),
                scratch,
            });
        });
}

/// Computes a product on this thread.
pub fn product_alone<T: Real>(arch: Arch, product: &Product<'_, '_, T>, scratch: &mut Scratch<T>) {
    arch.dispatch(Task {
        product,
        rows: 0..product.rows,
        columns: product.columns.clone(),
        scratch,
    });
}

/// A thread's buffers.
#[derive(Default)]
pub struct Scratch<T> {
    /// Weights of one block of K: `[panels, BLOCK_K, panel_columns]`.
    packed: Vec<T>,
    /// Stretches of a block's rows: `[BLOCK_ROWS and a tile, row_stride]`. What stands beyond the rows
    /// is read and thrown away.
    rows: Vec<T>,
    widened: Vec<f32>,
}

/// Numbers from one row of a block to the next: a cache line more than a block of K, so that the rows
/// of a tile lie in different sets of the first-level cache.
const fn row_stride<T: Real>() -> usize {
    BLOCK_K + T::LANES
}

struct Task<'a, 'p, 'r, T> {
    product: &'a Product<'p, 'r, T>,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for Task<'_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut scratch = std::mem::take(self.scratch);
        self.run(simd, &mut scratch);
        *self.scratch = scratch;
    }
}

impl<T: Real> Task<'_, '_, '_, T> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, scratch: &mut Scratch<T>) {
        let (inputs, wide) = (self.product.weight.inputs(), panel_columns::<T, S>());
        let panels = self.columns.len().div_ceil(wide);
        scratch.packed.resize(panels * BLOCK_K * wide, T::default());
        let room = (BLOCK_ROWS + MOST_ROWS) * row_stride::<T>();
        scratch.rows.resize(room, T::default());
        for first_k in (0..inputs).step_by(BLOCK_K) {
            let block_k = first_k..inputs.min(first_k + BLOCK_K);
            if let Factor::Stored(weight) = self.product.weight
                && self.product.weight.in_place().is_none()
            {
                pack::pack(weight, block_k.clone(), self.columns.clone(), wide, scratch);
            }
            for first in self.rows.clone().step_by(BLOCK_ROWS) {
                let rows = first..self.rows.end.min(first + BLOCK_ROWS);
                self.multiply(simd, rows.clone(), block_k.clone(), scratch);
                if block_k.end == inputs {
                    for m in rows {
                        (self.product.finish)(m, self.columns.start, self.output(m));
                    }
                }
            }
        }
    }

    /// Some rows times the task's columns over one block of K.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        block_k: Range<usize>,
        scratch: &mut Scratch<T>,
    ) {
        let (k, wide) = (block_k.len(), panel_columns::<T, S>());
        let mut out = [std::ptr::null_mut(); BLOCK_ROWS];
        let stretches = scratch.rows.chunks_exact_mut(row_stride::<T>());
        for ((stretch, out), m) in stretches.zip(&mut out).zip(rows.clone()) {
            let row = &(self.product.row)(m)[block_k.clone()];
            if m + AHEAD < rows.end {
                let ahead = (self.product.row)(m + AHEAD)[block_k.clone()].as_ptr();
                (0..k)
                    .step_by(T::LANES)
                    .for_each(|i| prefetch(ahead.wrapping_add(i)));
            }
            stretch[..k].copy_from_slice(row);
            *out = self.output(m).as_mut_ptr();
        }
        let stored = self.product.weight.in_place();
        for (panel, first) in (0..self.columns.len()).step_by(wide).enumerate() {
            let width = wide.min(self.columns.len() - first);
            let packed = &mut scratch.packed[panel * BLOCK_K * wide..][..k * wide];
            for tile in (0..rows.len()).step_by(tile_rows::<S>()) {
                let count = tile_rows::<S>().min(rows.len() - tile);
                let weights = match stored {
                    // the task's first tile of rows is the first to see these weights
                    Some((data, stride)) if rows.start + tile == self.rows.start => {
                        let at = |k: usize, first: usize| k * stride + self.columns.start + first;
                        let next = match first + wide < self.columns.len() {
                            true => at(block_k.start, first + wide),
                            false => at(block_k.end, 0),
                        };
                        TileWeights::Stored {
                            data: &data[at(block_k.start, first)..],
                            stride,
                            next: data.as_ptr().wrapping_add(next),
                            pack: count < self.rows.len(),
                        }
                    }
                    _ => TileWeights::Packed,
                };
                PanelTile {
                    simd,
                    rows: &scratch.rows[tile * row_stride::<T>()..],
                    k,
                    out: &out[tile..tile + count],
                    column: first,
                    width,
                    add: block_k.start > 0,
                }
                .multiply(weights, packed);
            }
        }
    }

    /// The task's stretch of an output row.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the output is shared on purpose: see the SAFETY line
    fn output(&self, m: usize) -> &mut [T] {
        let output = &self.product.output;
        let column = self.columns.start - self.product.columns.start;
        let start = (self.product.place)(m) * output.stride + column;
        // SAFETY: the output has room for every place and column and belongs to `product`'s caller
        // (who promises both in `Product`); of it, this task alone touches its rows and columns, and
        // never holds two stretches at once.
        unsafe { std::slice::from_raw_parts_mut(output.base.add(start), self.columns.len()) }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use half::{bf16, f16};

    use super::*;
    use crate::backend::cpu::Instructions;

    /// Numbers in −1..1 that fill their mantissas.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The sum that the module's documentation states, one number after the other.
    fn stated<T: Real>(row: &[T], weight: impl Fn(usize) -> T) -> T {
        let blocks = row.chunks(256).enumerate().map(|(b, block)| {
            let terms = block.iter().enumerate();
            terms.fold(T::default(), |sum, (i, x)| {
                x.mul_add(weight(256 * b + i), sum)
            })
        });
        blocks.reduce(|all, block| all + block).unwrap_or_default()
    }

    fn check<T: Real>(
        name: &str,
        factor: Factor<'_, T>,
        weight: &dyn Fn(usize, usize) -> T,
        rows: usize,
        columns: Range<usize>,
    ) {
        let inputs = factor.inputs();
        let input: Vec<T> = numbers(rows * inputs, 7).into_iter().map(T::from).collect();
        let input = |m: usize| &input[m * inputs..][..inputs];
        // rows that stand in another order, with numbers between them that nobody may touch
        let (width, stride) = (columns.len(), columns.len() + 3);
        let place = |m: usize| (m * 7 + 3) % rows.next_power_of_two().max(8);
        let untouched = T::from(-77.0);
        for instructions in Instructions::available() {
            let mut out = vec![untouched; rows.next_power_of_two().max(8) * stride];
            let product = Product {
                weight: factor,
                columns: columns.clone(),
                rows,
                row: &input,
                place: &place,
                output: OutputRows {
                    base: out.as_mut_ptr(),
                    stride,
                },
                finish: &|m, first, out: &mut [T]| {
                    assert!(first >= columns.start && first + out.len() <= columns.end);
                    out.iter_mut().for_each(|x| *x += T::from(m as f32));
                },
            };
            super::product(instructions.arch().unwrap(), &product);
            let mut expected = vec![untouched; out.len()];
            for m in 0..rows {
                for (n, column) in columns.clone().enumerate() {
                    let sum = stated(input(m), |k| weight(k, column));
                    expected[place(m) * stride + n] = sum + T::from(m as f32);
                }
            }
            let wrong = out
                .iter()
                .zip(&expected)
                .position(|(a, b)| !a.same_bits(*b));
            let [k, m] = [inputs, rows];
            assert_eq!(wrong, None, "{name}, {m} × {k} → {width}, {instructions:?}");
        }
    }

    fn check_all<T: Real>() {
        // rows that fill no tile, one, several, and several tasks; K of one block, of several and of a
        // part; columns that fill no panel, end within one, and begin anywhere
        let shapes = [
            (1, 5, 0..1),
            (2, 256, 0..7),
            (3, 257, 1..34),
            (5, 600, 0..96),
            (6, 16, 5..69),
            (13, 300, 0..40),
            (29, 513, 2..200),
            (193, 40, 0..33),
            (400, 64, 3..36),
        ];
        for (rows, inputs, columns) in shapes {
            let stride = columns.end + 2;
            let stored = numbers(inputs * stride, 3);
            let at = |k: usize, n: usize| stored[k * stride + n];
            let halves: Vec<f16> = stored.iter().map(|x| f16::from_f32(*x)).collect();
            let brains: Vec<bf16> = stored.iter().map(|x| bf16::from_f32(*x)).collect();
            let own: Vec<T> = stored.iter().map(|x| T::from(*x)).collect();
            let factor = |data, round| {
                Factor::Stored(WeightMatrix {
                    data,
                    stride,
                    inputs,
                    round,
                })
            };
            let half = |k, n| T::from(f16::from_f32(at(k, n)).to_f32());
            let brain = |k, n| T::from(bf16::from_f32(at(k, n)).to_f32());
            let whole = |k, n| T::from(at(k, n));
            let check = |name, factor, weight: &dyn Fn(usize, usize) -> T| {
                check(name, factor, weight, rows, columns.clone());
            };
            let f32s = Data::F32(&stored);
            check("f32", factor(f32s, Rounding::None), &whole);
            check("f32 to f16", factor(f32s, Rounding::F16), &half);
            check("f32 to bf16", factor(f32s, Rounding::Bf16), &brain);
            check("f16", factor(Data::F16(&halves), Rounding::None), &half);
            check("bf16", factor(Data::BF16(&brains), Rounding::None), &brain);
            let own = Factor::Own {
                data: &own,
                inputs,
                columns: stride,
            };
            check("own", own, &whole);
        }
    }

    #[test]
    fn every_shape_is_summed_in_the_stated_order_in_f32() {
        check_all::<f32>();
    }

    #[test]
    fn every_shape_is_summed_in_the_stated_order_in_f64() {
        check_all::<f64>();
    }
}
