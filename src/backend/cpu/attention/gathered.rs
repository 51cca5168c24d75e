//! Attention of several rows over keys and values that were gathered.

use std::ops::Range;

use pulp::Simd;

use super::super::real::Real;
use super::super::rows::PARTIALS;

/// Values that stay in the first-level cache while the rows go by.
const BLOCK_KEYS: usize = 64;
/// Vectors of z that are summed together.
const VECTORS: usize = 4;

/// Scores of some rows and all keys that any of them sees.
pub struct Scores<'a, T, S> {
    pub simd: S,
    pub queries: &'a [&'a [T]],
    pub counts: &'a [usize],
    pub scale: T,
    /// `[panels, d, lanes]`
    pub keys: &'a [T],
    pub d: usize,
    /// `[rows, wide]`; what a row does not see is unspecified.
    pub out: &'a mut [T],
    pub wide: usize,
}

impl<T: Real, S: Simd> Scores<'_, T, S> {
    #[inline(always)]
    pub fn compute(mut self) {
        let lanes = T::lanes::<S>();
        for (panel, keys) in self.keys.chunks_exact(self.d * lanes).enumerate() {
            let mut row = 0;
            while row < self.queries.len() {
                // rows see ever more keys
                let left = self.queries.len() - row;
                let most = if S::REGISTER_COUNT >= 32 { 8 } else { 4 };
                let rows = match left {
                    8.. if most == 8 => self.tile::<8>(row, panel, keys),
                    4.. => self.tile::<4>(row, panel, keys),
                    2.. => self.tile::<2>(row, panel, keys),
                    _ => self.tile::<1>(row, panel, keys),
                };
                row += rows;
            }
        }
    }

    /// R rows and one panel of keys; how many rows.
    #[inline(always)]
    fn tile<const R: usize>(&mut self, row: usize, panel: usize, keys: &[T]) -> usize {
        let (simd, d, lanes) = (self.simd, self.d, T::lanes::<S>());
        let first = panel * lanes;
        if self.counts[row..row + R]
            .iter()
            .all(|count| *count <= first)
        {
            return R;
        }
        let queries: [*const T; R] = std::array::from_fn(|r| {
            assert!(self.queries[row + r].len() == d);
            self.queries[row + r].as_ptr()
        });
        assert!(keys.len() == d * lanes);
        let keys = keys.as_ptr();
        let zero = [T::splat(simd, T::default()); R];
        // two of the partial sums, added: the first of `rows::fold`'s levels
        let pair = |p: usize| -> [T::Vector<S>; R] {
            let half = PARTIALS / 2;
            let mut sums = [zero; 2];
            for i in (p..d).step_by(PARTIALS) {
                for (side, sums) in sums.iter_mut().enumerate() {
                    let i = i + side * half;
                    if i >= d {
                        break;
                    }
                    // SAFETY: i < d, and the lengths were checked above.
                    let k = unsafe { keys.add(i * lanes).cast::<T::Vector<S>>().read_unaligned() };
                    for r in 0..R {
                        // SAFETY: as above.
                        let q = T::splat(simd, unsafe { *queries[r].add(i) });
                        sums[r] = T::fused(simd, q, k, sums[r]);
                    }
                }
            }
            std::array::from_fn(|r| T::plus(simd, sums[0][r], sums[1][r]))
        };
        // the other levels: p + 4, p + 2, p + 1
        let mut levels = [zero; 4];
        for (n, p) in [0, 4, 2, 6, 1, 5, 3, 7].into_iter().enumerate() {
            let mut sums = pair(p);
            let mut level = 0;
            while n >> level & 1 == 1 {
                for r in 0..R {
                    sums[r] = T::plus(simd, levels[level][r], sums[r]);
                }
                level += 1;
            }
            levels[level] = sums;
        }
        let scale = T::splat(simd, self.scale);
        for (r, sum) in levels[3].iter().enumerate() {
            let out = self.out[(row + r) * self.wide + first..][..lanes].as_mut_ptr();
            // SAFETY: a vector is `lanes` numbers.
            unsafe {
                let score = T::times(simd, *sum, scale);
                out.cast::<T::Vector<S>>().write_unaligned(score);
            }
        }
        R
    }
}

/// z of some rows: Σ w·v, each column's sum in absolute order.
pub struct Sums<'a, T, S> {
    pub simd: S,
    /// `[rows, wide]`
    pub weights: &'a [T],
    pub wide: usize,
    pub counts: &'a [usize],
    /// `[keys, d]`
    pub values: &'a [T],
    pub d: usize,
    /// `[rows, d]`
    pub z: &'a mut [T],
}

impl<T: Real, S: Simd> Sums<'_, T, S> {
    #[inline(always)]
    pub fn compute(mut self) {
        let (lanes, rows) = (T::lanes::<S>(), self.counts.len());
        let together = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        let most = self.counts.iter().copied().max().unwrap_or(0);
        for first in (0..most).step_by(BLOCK_KEYS) {
            let keys = first..most.min(first + BLOCK_KEYS);
            let mut row = 0;
            while row < rows {
                let count = if row + together <= rows { together } else { 1 };
                let mut column = 0;
                while column < self.d {
                    let left = self.d - column;
                    column += match (count, left >= VECTORS * lanes, left >= lanes) {
                        (4, true, _) => self.tile::<4, VECTORS>(row, column, keys.clone()),
                        (4, _, true) => self.tile::<4, 1>(row, column, keys.clone()),
                        (2, true, _) => self.tile::<2, VECTORS>(row, column, keys.clone()),
                        (2, _, true) => self.tile::<2, 1>(row, column, keys.clone()),
                        (1, true, _) => self.tile::<1, VECTORS>(row, column, keys.clone()),
                        (1, _, true) => self.tile::<1, 1>(row, column, keys.clone()),
                        _ => self.columns(row..row + count, column, keys.clone()),
                    };
                }
                row += count;
            }
        }
    }

    /// R rows by V vectors of columns; how many columns.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // indices that are constants keep the sums in registers
    fn tile<const R: usize, const V: usize>(
        &mut self,
        row: usize,
        column: usize,
        keys: Range<usize>,
    ) -> usize {
        let (simd, d, lanes) = (self.simd, self.d, T::lanes::<S>());
        let ends: [usize; R] =
            std::array::from_fn(|r| self.counts[row + r].clamp(keys.start, keys.end));
        let common = ends.into_iter().min().unwrap_or(keys.start);
        assert!(
            column + V * lanes <= d
                && self.values.len() >= keys.end * d
                && self.weights.len() >= (row + R - 1) * self.wide + keys.end
                && self.z.len() >= (row + R) * d
        );
        let weights: [*const T; R] =
            std::array::from_fn(|r| self.weights[(row + r) * self.wide..].as_ptr());
        let z: [*mut T; R] = std::array::from_fn(|r| self.z[(row + r) * d + column..].as_mut_ptr());
        let values = self.values[column..].as_ptr();
        // SAFETY: the lengths were checked above: V vectors from `column` on of each value up to
        // `keys.end` and of each row of z, and each row's weights up to there.
        unsafe {
            let load =
                |at: *const T, v: usize| at.add(v * lanes).cast::<T::Vector<S>>().read_unaligned();
            let mut sums: [[T::Vector<S>; V]; R] =
                std::array::from_fn(|r| std::array::from_fn(|v| load(z[r], v)));
            for j in keys.start..common {
                let value: [T::Vector<S>; V] = std::array::from_fn(|v| load(values.add(j * d), v));
                for r in 0..R {
                    let w = T::splat(simd, *weights[r].add(j));
                    for v in 0..V {
                        sums[r][v] = T::fused(simd, w, value[v], sums[r][v]);
                    }
                }
            }
            for r in 0..R {
                for j in common..ends[r] {
                    let w = T::splat(simd, *weights[r].add(j));
                    for v in 0..V {
                        sums[r][v] = T::fused(simd, w, load(values.add(j * d), v), sums[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    z[r].add(v * lanes)
                        .cast::<T::Vector<S>>()
                        .write_unaligned(sums[r][v]);
                }
            }
        }
        V * lanes
    }

    /// Columns that fill no vector; how many.
    #[inline(always)]
    fn columns(&mut self, rows: Range<usize>, column: usize, keys: Range<usize>) -> usize {
        for row in rows {
            let z = &mut self.z[row * self.d..][column..self.d];
            for j in keys.start..keys.end.min(self.counts[row]) {
                let w = self.weights[row * self.wide + j];
                let value = &self.values[j * self.d..][column..self.d];
                z.iter_mut()
                    .zip(value)
                    .for_each(|(z, v)| *z = w.mul_add(*v, *z));
            }
        }
        self.d - column
    }
}
