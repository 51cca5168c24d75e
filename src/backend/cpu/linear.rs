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

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::real::{Real, Stored};
use crate::model::Data;

/// Additions of one block of K.
const BLOCK_K: usize = 256;
/// Rows whose stretch of a K block stays in the second-level cache while columns go by.
const BLOCK_ROWS: usize = 96;
/// Fewest columns worth a task of their own: one packed register tile.
const TASK_COLUMNS: usize = 192;
/// Rows in one task.
const TASK_ROWS: usize = 2048;

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
}

/// Output rows that several tasks write, each its own columns.
pub struct Output<T> {
    pub base: *mut T,
    pub stride: usize,
}

// SAFETY: tasks write disjoint (row, column) rectangles; `product` hands each its own.
unsafe impl<T: Send> Sync for Output<T> {}
unsafe impl<T: Send> Send for Output<T> {}

/// Computes `columns` of a product for some rows and hands each finished stretch of a row to
/// `finish(row, column, values)`, in place in the output.
///
/// `row(i)` is the input row of result i, `place(i)` where result i starts in the output.
pub fn product<'r, T: Real>(
    arch: Arch,
    weight: Matrix<'_>,
    columns: Range<usize>,
    rows: usize,
    row: &(impl Fn(usize) -> &'r [T] + Sync),
    place: &(impl Fn(usize) -> usize + Sync),
    output: &Output<T>,
    finish: &(impl Fn(usize, usize, &mut [T]) + Sync),
) {
    if rows == 0 || columns.is_empty() {
        return;
    }
    // enough tasks for every thread, as few repeated packings as possible
    let threads = rayon::current_num_threads();
    let wanted = (4 * threads).div_ceil(rows.div_ceil(TASK_ROWS));
    let step = columns.len().div_ceil(wanted).next_multiple_of(48).clamp(48, 2 * TASK_COLUMNS);
    let tasks: Vec<(usize, usize)> = (0..rows.div_ceil(TASK_ROWS))
        .flat_map(|r| (0..columns.len().div_ceil(step)).map(move |c| (r * TASK_ROWS, c * step)))
        .collect();
    tasks.into_par_iter().for_each_init(Vec::new, |packed, (first_row, first_column)| {
        arch.dispatch(Task {
            arch,
            weight,
            rows: first_row..rows.min(first_row + TASK_ROWS),
            columns: columns.start + first_column
                ..columns.end.min(columns.start + first_column + step),
            origin: columns.start,
            row,
            place,
            output,
            finish,
            packed,
        });
    });
}

struct Task<'a, T, R, P, F> {
    arch: Arch,
    weight: Matrix<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Column of the weight that stands in the output's column 0.
    origin: usize,
    row: &'a R,
    place: &'a P,
    output: &'a Output<T>,
    finish: &'a F,
    packed: &'a mut Vec<T>,
}

impl<'r, T, R, P, F> NullaryFnOnce for Task<'_, T, R, P, F>
where
    T: Real,
    R: Fn(usize) -> &'r [T] + Sync,
    P: Fn(usize) -> usize + Sync,
    F: Fn(usize, usize, &mut [T]) + Sync,
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // 24 accumulators of 32 vector registers with AVX-512, 12 of 16 otherwise
        match (wide(self.arch), T::LANES == 16) {
            (true, true) => self.tiles::<8, 48>(),
            (true, false) => self.tiles::<8, 24>(),
            (false, true) => self.tiles::<4, 24>(),
            (false, false) => self.tiles::<4, 12>(),
        }
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

impl<'r, T, R, P, F> Task<'_, T, R, P, F>
where
    T: Real,
    R: Fn(usize) -> &'r [T] + Sync,
    P: Fn(usize) -> usize + Sync,
    F: Fn(usize, usize, &mut [T]) + Sync,
{
    #[inline(always)]
    fn tiles<const MR: usize, const NR: usize>(mut self) {
        let (inputs, width) = (self.weight.inputs, self.columns.len());
        let panels = width.div_ceil(NR);
        self.packed.resize(panels * BLOCK_K * NR, T::default());
        for first_k in (0..inputs).step_by(BLOCK_K) {
            let k = BLOCK_K.min(inputs - first_k);
            self.pack::<NR>(first_k, k);
            let packed = &*self.packed;
            for first_row in self.rows.clone().step_by(BLOCK_ROWS) {
                let block = self.rows.end.min(first_row + BLOCK_ROWS);
                for panel in 0..panels {
                    let b = &packed[panel * BLOCK_K * NR..][..k * NR];
                    let at = first_row..block;
                    let wide = NR.min(width - panel * NR);
                    self.panel::<MR, NR>(b, at, self.columns.start + panel * NR, wide, first_k, k);
                }
            }
        }
    }

    /// All rows of a block against one packed panel.
    #[inline(always)]
    fn panel<const MR: usize, const NR: usize>(
        &self,
        b: &[T],
        rows: Range<usize>,
        column: usize,
        wide: usize,
        first_k: usize,
        k: usize,
    ) {
        let last = first_k + k == self.weight.inputs;
        let input = |m: usize| &(self.row)(m)[first_k..first_k + k];
        let mut m = rows.start;
        while m < rows.end {
            let left = rows.end - m;
            macro_rules! tile {
                ($rows:literal) => {{
                    let a: [&[T]; $rows] = std::array::from_fn(|i| input(m + i));
                    let mut sums = [[T::default(); NR]; $rows];
                    multiply(&a, b, k, &mut sums);
                    for (i, sum) in sums.iter().enumerate() {
                        self.store(m + i, column, &sum[..wide], first_k == 0, last);
                    }
                    m += $rows;
                }};
            }
            if MR == 8 && left >= 8 {
                tile!(8)
            } else if left >= 4 {
                tile!(4)
            } else if left >= 2 {
                tile!(2)
            } else {
                tile!(1)
            }
        }
    }

    #[inline(always)]
    fn store(&self, m: usize, column: usize, sums: &[T], first: bool, last: bool) {
        let start = (self.place)(m) * self.output.stride + column - self.origin;
        // SAFETY: `product`'s caller owns the whole output, of which this task alone writes these
        // rows and columns, and `place` maps different results to different rows.
        let out = unsafe {
            std::slice::from_raw_parts_mut(self.output.base.add(start), sums.len())
        };
        if first {
            out.copy_from_slice(sums);
        } else {
            out.iter_mut().zip(sums).for_each(|(o, s)| *o += *s);
        }
        if last {
            (self.finish)(m, column, out);
        }
    }

    /// Packs rows `first_k..first_k + k` of the task's columns, panel by panel, zeros beyond the
    /// last column.
    #[inline(always)]
    fn pack<const NR: usize>(&mut self, first_k: usize, k: usize) {
        match self.weight.data {
            Data::F32(data) => pack::<T, f32, NR>(data, self.weight, self.columns.clone(), first_k, k, self.packed),
            Data::F16(data) => pack::<T, _, NR>(data, self.weight, self.columns.clone(), first_k, k, self.packed),
            Data::BF16(data) => pack::<T, _, NR>(data, self.weight, self.columns.clone(), first_k, k, self.packed),
        }
    }
}

#[inline(always)]
fn pack<T: Real, S: Stored, const NR: usize>(
    data: &[S],
    weight: Matrix<'_>,
    columns: Range<usize>,
    first_k: usize,
    k: usize,
    packed: &mut [T],
) {
    for (panel, out) in packed.chunks_exact_mut(BLOCK_K * NR).enumerate() {
        let first = columns.start + panel * NR;
        if first >= columns.end {
            break;
        }
        let wide = NR.min(columns.end - first);
        if weight.transposed {
            for j in 0..NR {
                let column = if j < wide { &data[(first + j) * weight.stride + first_k..][..k] } else { &[] };
                for (i, x) in column.iter().enumerate() {
                    out[i * NR + j] = T::from(x.widen());
                }
                if j >= wide {
                    (0..k).for_each(|i| out[i * NR + j] = T::default());
                }
            }
        } else {
            for (i, out) in out.chunks_exact_mut(NR).take(k).enumerate() {
                let row = &data[(first_k + i) * weight.stride + first..][..wide];
                let (head, tail) = out.split_at_mut(wide);
                head.iter_mut().zip(row).for_each(|(o, x)| *o = T::from(x.widen()));
                tail.fill(T::default());
            }
        }
    }
}

/// The register tile: `sums[m][n] = Σ_k a[m][k] · b[k][n]`, k ascending, fused.
#[inline(always)]
fn multiply<T: Real, const M: usize, const NR: usize>(
    a: &[&[T]; M],
    b: &[T],
    k: usize,
    sums: &mut [[T; NR]; M],
) {
    let mut acc = [[T::default(); NR]; M];
    assert!(b.len() >= k * NR && a.iter().all(|row| row.len() >= k));
    for i in 0..k {
        // SAFETY: i < k, and the lengths were checked just above.
        let b: &[T; NR] = unsafe { &*b.as_ptr().add(i * NR).cast() };
        for m in 0..M {
            // SAFETY: as above.
            let x = unsafe { *a[m].get_unchecked(i) };
            for n in 0..NR {
                acc[m][n] = x.mul_add(b[n], acc[m][n]);
            }
        }
    }
    *sums = acc;
}
