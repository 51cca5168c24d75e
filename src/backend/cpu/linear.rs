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
//! The loops are Goto and van de Geijn's (2008): a block of K × columns of the weight is packed so
//! that a register tile reads it in order, widened on the way from f16 or bf16 if need be; rows of
//! the input are read where they stand.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::real::Real;
use crate::model::Data;

/// Additions of one block of K.
const BLOCK_K: usize = 256;
/// Rows whose stretch of a K block stays in the second-level cache while columns go by.
const BLOCK_ROWS: usize = 96;
/// Fewest columns worth a task of their own: one packed register tile.
const TASK_COLUMNS: usize = 192;
/// Rows in one task.
const TASK_ROWS: usize = 8192;

/// A weight as stored: `[K, N]` (in, out), or transposed `[N, K]` as the unembedding is.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub data: Data<'a>,
    /// Numbers from one stored row to the next.
    pub stride: usize,
    /// K.
    pub inputs: usize,
    /// Whether a stored row is an output.
    pub transposed: bool,
    /// Applied to each weight: the identity, or the rounding of another precision.
    pub round: Rounding,
}

/// What rows are multiplied by.
#[derive(Clone, Copy)]
pub enum Factor<'a, T> {
    /// A weight of the checkpoint, widened where it is packed.
    Stored(Matrix<'a>),
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
pub struct Output<T> {
    pub base: *mut T,
    pub stride: usize,
}

// SAFETY: tasks write disjoint (row, column) rectangles; `product` hands each its own.
unsafe impl<T: Send> Sync for Output<T> {}

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
    pub output: Output<T>,
    /// Called once for each finished stretch: result, first column, values in place.
    pub finish: &'a (dyn Fn(usize, usize, &mut [T]) + Sync),
}

/// Computes a product.
pub fn product<T: Real>(arch: Arch, product: &Product<'_, '_, T>) {
    let (rows, columns) = (product.rows, product.columns.clone());
    if rows == 0 || columns.is_empty() {
        return;
    }
    let tile = tile_columns::<T>(arch);
    // enough tasks for every thread, as few repeated packings as possible
    let wanted = (4 * rayon::current_num_threads()).div_ceil(rows.div_ceil(TASK_ROWS));
    let step = columns
        .len()
        .div_ceil(wanted)
        .next_multiple_of(tile)
        .clamp(tile, TASK_COLUMNS);
    let starts = columns.clone().step_by(step);
    let tasks: Vec<_> = (0..rows)
        .step_by(TASK_ROWS)
        .flat_map(|r| starts.clone().map(move |c| (r, c)))
        .collect();
    tasks
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, (row, column)| {
            arch.dispatch(Task {
                wide: wide(arch),
                product,
                tile,
                rows: row..rows.min(row + TASK_ROWS),
                columns: column..columns.end.min(column + step),
                scratch,
            });
        });
}

/// Columns of a register tile: 24 accumulators of 32 vector registers with AVX-512, 12 of 16
/// otherwise.
fn tile_columns<T: Real>(arch: Arch) -> usize {
    if wide(arch) {
        3 * T::LANES
    } else {
        3 * T::LANES / 2
    }
}

fn wide(arch: Arch) -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return matches!(arch, Arch::V4(_));
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    {
        let _ = arch;
        false
    }
}

/// A thread's buffers.
struct Scratch<T> {
    packed: Vec<T>,
    sums: Vec<T>,
    widened: Vec<f32>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            packed: Vec::new(),
            sums: Vec::new(),
            widened: Vec::new(),
        }
    }
}

struct Task<'a, 'p, 'r, T> {
    wide: bool,
    product: &'a Product<'p, 'r, T>,
    tile: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> NullaryFnOnce for Task<'_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut scratch = std::mem::take(self.scratch);
        self.run(&mut scratch);
        *self.scratch = scratch;
    }
}

impl<T: Real> Task<'_, '_, '_, T> {
    #[inline(always)]
    fn run(&self, scratch: &mut Scratch<T>) {
        let (inputs, width, tile) = (self.product.weight.inputs(), self.columns.len(), self.tile);
        let panels = width.div_ceil(tile);
        scratch.packed.resize(panels * BLOCK_K * tile, T::default());
        scratch.sums.resize(BLOCK_ROWS * tile, T::default());
        for first_k in (0..inputs).step_by(BLOCK_K) {
            let k = BLOCK_K.min(inputs - first_k);
            self.pack(first_k, k, scratch);
            for first_row in self.rows.clone().step_by(BLOCK_ROWS) {
                let block = first_row..self.rows.end.min(first_row + BLOCK_ROWS);
                let mut stretches = [&[][..]; BLOCK_ROWS];
                for (input, m) in stretches.iter_mut().zip(block.clone()) {
                    *input = &(self.product.row)(m)[first_k..first_k + k];
                }
                for panel in 0..panels {
                    Panel {
                        wide: self.wide,
                        a: &stretches[..block.len()],
                        b: &scratch.packed[panel * BLOCK_K * tile..][..k * tile],
                        k,
                        sums: &mut scratch.sums,
                    }
                    .call();
                    let first = self.columns.start + panel * tile;
                    let columns = first..self.columns.end.min(first + tile);
                    for (m, sums) in block.clone().zip(scratch.sums.chunks_exact(tile)) {
                        self.add(m, columns.clone(), sums, first_k == 0);
                    }
                }
                if first_k + k == inputs {
                    for m in block {
                        (self.product.finish)(
                            m,
                            self.columns.start,
                            self.output(m, self.columns.clone()),
                        );
                    }
                }
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the output is shared on purpose: see the SAFETY line
    fn output(&self, m: usize, columns: Range<usize>) -> &mut [T] {
        let output = &self.product.output;
        let start =
            (self.product.place)(m) * output.stride + columns.start - self.product.columns.start;
        // SAFETY: the output has room for every place and column and belongs to `product`'s caller
        // (who promises both in `Product`); of it, this task alone touches its rows and columns, and
        // never holds two stretches at once.
        unsafe { std::slice::from_raw_parts_mut(output.base.add(start), columns.len()) }
    }

    #[inline(always)]
    fn add(&self, m: usize, columns: Range<usize>, sums: &[T], first: bool) {
        let out = self.output(m, columns);
        if first {
            out.copy_from_slice(&sums[..out.len()]);
        } else {
            out.iter_mut().zip(sums).for_each(|(o, s)| *o += *s);
        }
    }

    /// Packs rows `first_k..first_k + k` of the task's columns, panel by panel, zeros beyond the
    /// last column.
    #[inline(always)]
    fn pack(&self, first_k: usize, k: usize, scratch: &mut Scratch<T>) {
        let tile = self.tile;
        for (panel, out) in scratch.packed.chunks_exact_mut(BLOCK_K * tile).enumerate() {
            let first = self.columns.start + panel * tile;
            let wide = tile.min(self.columns.end - first);
            if wide < tile {
                out.fill(T::default());
            }
            let weight = match self.product.weight {
                Factor::Stored(weight) => weight,
                Factor::Own { data, columns, .. } => {
                    for (i, out) in out.chunks_exact_mut(tile).take(k).enumerate() {
                        let row = &data[(first_k + i) * columns + first..][..wide];
                        out[..wide].copy_from_slice(row);
                    }
                    continue;
                }
            };
            if weight.transposed {
                for j in 0..wide {
                    let column = stretch(
                        weight,
                        (first + j) * weight.stride + first_k,
                        k,
                        &mut scratch.widened,
                    );
                    out.iter_mut()
                        .skip(j)
                        .step_by(tile)
                        .zip(column)
                        .for_each(|(o, x)| *o = T::from(*x));
                }
            } else {
                for (i, out) in out.chunks_exact_mut(tile).take(k).enumerate() {
                    let row = stretch(
                        weight,
                        (first_k + i) * weight.stride + first,
                        wide,
                        &mut scratch.widened,
                    );
                    out.iter_mut().zip(row).for_each(|(o, x)| *o = T::from(*x));
                }
            }
        }
    }
}

/// Neighbouring weights as f32: where they stand, or widened or rounded into the buffer.
#[inline(always)]
fn stretch<'a>(
    weight: Matrix<'a>,
    first: usize,
    length: usize,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    buffer.resize(buffer.len().max(length), 0.0);
    match weight.data {
        Data::F32(data) if weight.round == Rounding::None => return &data[first..][..length],
        Data::F32(data) => buffer[..length].copy_from_slice(&data[first..][..length]),
        Data::F16(data) => data[first..][..length].convert_to_f32_slice(&mut buffer[..length]),
        Data::BF16(data) => data[first..][..length].convert_to_f32_slice(&mut buffer[..length]),
    }
    match weight.round {
        Rounding::None => {}
        Rounding::Bf16 => buffer[..length]
            .iter_mut()
            .for_each(|x| *x = half::bf16::from_f32(*x).to_f32()),
        Rounding::F16 => buffer[..length]
            .iter_mut()
            .for_each(|x| *x = half::f16::from_f32(*x).to_f32()),
    }
    &buffer[..length]
}

/// Rows of a block against one packed panel.
struct Panel<'a, T> {
    wide: bool,
    a: &'a [&'a [T]],
    b: &'a [T],
    k: usize,
    /// `[a.len(), tile]`
    sums: &'a mut [T],
}

impl<T: Real> NullaryFnOnce for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match (self.wide, T::LANES) {
            (true, 16) => self.tiles::<8, 48>(),
            (true, _) => self.tiles::<8, 24>(),
            (false, 16) => self.tiles::<4, 24>(),
            (false, _) => self.tiles::<4, 12>(),
        }
    }
}

impl<T: Real> Panel<'_, T> {
    #[inline(always)]
    fn tiles<const MR: usize, const NR: usize>(self) {
        let mut sums = self.sums.as_chunks_mut::<NR>().0;
        let mut rows = self.a;
        macro_rules! tiles {
            ($($rows:literal)*) => {$(
                while $rows <= MR && rows.len() >= $rows {
                    let (a, rest) = rows.split_at($rows);
                    let (out, below) = sums.split_at_mut($rows);
                    multiply::<T, $rows, NR>(a, self.b, self.k, out);
                    (rows, sums) = (rest, below);
                }
            )*};
        }
        tiles!(8 4 2 1);
    }
}

/// Runs the register tile on operands that stay in the first-level cache; how many operations.
pub(super) fn tile_in_cache<T: Real>(arch: Arch, repeats: usize) -> f64 {
    const K: usize = 64;
    let (rows, tile) = (if wide(arch) { 8 } else { 4 }, tile_columns::<T>(arch));
    let (a, b) = (vec![T::ONE; rows * K], vec![T::ONE; K * tile]);
    let a: Vec<&[T]> = a.chunks_exact(K).collect();
    let mut sums = vec![T::default(); rows * tile];
    for _ in 0..repeats {
        let panel = Panel {
            wide: wide(arch),
            a: &a,
            b: std::hint::black_box(&b),
            k: K,
            sums: &mut sums,
        };
        arch.dispatch(panel);
        std::hint::black_box(&mut sums);
    }
    2.0 * (rows * tile * K * repeats) as f64
}

/// The register tile: `sums[m][n] = Σ_k a[m][k] · b[k][n]`, k ascending, fused.
#[inline(always)]
fn multiply<T: Real, const M: usize, const NR: usize>(
    a: &[&[T]],
    b: &[T],
    k: usize,
    sums: &mut [[T; NR]],
) {
    assert!(
        a.len() == M && sums.len() == M && b.len() >= k * NR && a.iter().all(|row| row.len() >= k)
    );
    let a: [*const T; M] = std::array::from_fn(|m| a[m].as_ptr());
    let mut acc = [[T::default(); NR]; M];
    for i in 0..k {
        // SAFETY: i < k, and all lengths were checked above.
        let b: &[T; NR] = unsafe { &*b.as_ptr().add(i * NR).cast() };
        for m in 0..M {
            // SAFETY: as above.
            let x = unsafe { *a[m].add(i) };
            for n in 0..NR {
                acc[m][n] = x.mul_add(b[n], acc[m][n]);
            }
        }
    }
    sums.copy_from_slice(&acc);
}
