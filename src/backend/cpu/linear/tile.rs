//! The register tile: a few rows by two vectors of columns, over one block of K.
//!
//! With 32 vector registers (AVX-512, NEON) it is 12 rows by 2 vectors: 24 sums, two vectors of weights
//! and one number of a row in every lane. With 16 (AVX2) it is 6 by 2. A step of k then loads two vectors
//! and one number a row for two multiply-adds a row, which leaves the loads out of the way, and the
//! weights of a block of K take two thirds of a first-level cache of 48 KiB (32 · 256 numbers), half of
//! one of 32 KiB with AVX2.

use pulp::{Arch, Simd, WithSimd};

use super::super::real::Real;
use super::{BLOCK_K, row_stride};

/// Vectors side by side.
const VECTORS: usize = 2;
/// Most rows of a tile, whatever the registers.
pub const MOST_ROWS: usize = 12;

/// Rows of a tile.
#[inline(always)]
pub const fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 {
        MOST_ROWS
    } else {
        MOST_ROWS / 2
    }
}

/// Columns of a tile, and so of a panel.
#[inline(always)]
pub fn panel_columns<T: Real, S: Simd>() -> usize {
    VECTORS * T::lanes::<S>()
}

/// Where a tile's weights are read.
pub enum TileWeights<'a, T> {
    /// Packed: `[k, panel_columns]`.
    Packed,
    /// Where they are stored.
    Stored {
        data: &'a [T],
        /// Numbers from one k to the next.
        stride: usize,
        /// Where the next panel's are stored, which are asked for on the way.
        next: *const T,
        /// Whether they are packed on the way.
        pack: bool,
    },
}

/// Some rows against one panel.
pub struct PanelTile<'a, T, S> {
    pub simd: S,
    /// `[tile_rows or more, row_stride]`
    pub rows: &'a [T],
    /// Additions.
    pub k: usize,
    /// Output rows, each with room from `column` on for `width` numbers that nobody else touches; at
    /// most `tile_rows`.
    pub out: &'a [*mut T],
    /// The panel's first column in them.
    pub column: usize,
    /// Columns of the panel.
    pub width: usize,
    /// Whether the sums are added to what stands in the output.
    pub add: bool,
}

impl<T: Real, S: Simd> PanelTile<'_, T, S> {
    /// `out[m][n] (+)= Σ_k rows[m][k] · weights[k][n]`, k ascending, fused.
    #[inline(always)]
    pub fn multiply(&self, weights: TileWeights<'_, T>, packed: &mut [T]) {
        let (wide, k) = (panel_columns::<T, S>(), self.k);
        match weights {
            TileWeights::Packed => {
                let from = packed.as_ptr();
                self.rows::<false, false>((from, wide), from, packed);
            }
            TileWeights::Stored {
                data,
                stride,
                next,
                pack,
            } if self.width == wide => {
                assert!(
                    k > 0 && data.len() >= (k - 1) * stride + wide,
                    "weights are missing"
                );
                let from = (data.as_ptr(), stride);
                match pack {
                    true => self.rows::<true, true>(from, next, packed),
                    false => self.rows::<true, false>(from, next, packed),
                }
            }
            // the last panel, where a whole vector would read beyond the matrix
            TileWeights::Stored { data, stride, .. } => {
                for (i, out) in packed.chunks_exact_mut(wide).enumerate() {
                    out[..self.width].copy_from_slice(&data[i * stride..][..self.width]);
                }
                let from = packed.as_ptr();
                self.rows::<false, false>((from, wide), from, packed);
            }
        }
    }

    #[inline(always)]
    fn rows<const STORED: bool, const PACK: bool>(
        &self,
        from: (*const T, usize),
        next: *const T,
        packed: &mut [T],
    ) {
        macro_rules! tiles {
            ($($rows:literal)*) => {$(
                if $rows <= tile_rows::<S>() && self.out.len() <= $rows {
                    return self.sums::<$rows, STORED, PACK>(from, next, packed);
                }
            )*};
        }
        // rows that are not there are computed and thrown away
        tiles!(1 2 4 6 8 12);
        unreachable!("more rows than a tile has");
    }

    /// `from`: k or more stretches of `panel_columns` weights, so many numbers apart.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // indices that are constants keep the sums in registers
    fn sums<const M: usize, const STORED: bool, const PACK: bool>(
        &self,
        (from, stride): (*const T, usize),
        next: *const T,
        packed: &mut [T],
    ) {
        let (simd, lanes, k) = (self.simd, T::lanes::<S>(), self.k);
        let wide = panel_columns::<T, S>();
        assert!(
            k <= BLOCK_K && self.rows.len() >= M * row_stride::<T>() && packed.len() >= k * wide,
            "operands are missing"
        );
        // what the sums are added to comes while they are made
        for out in self.out {
            let out = out.wrapping_add(self.column);
            (0..VECTORS).for_each(|v| prefetch(out.wrapping_add(v * lanes)));
            prefetch(out.wrapping_add(self.width - 1));
        }
        let (rows, to) = (self.rows.as_ptr(), packed.as_mut_ptr());
        let mut sums = [[T::splat(simd, T::default()); VECTORS]; M];
        for i in 0..k {
            // SAFETY: `multiply` gives k stretches, and i < k.
            let weights: [T::Vector<S>; VECTORS] = std::array::from_fn(|v| unsafe {
                from.add(i * stride + v * lanes)
                    .cast::<T::Vector<S>>()
                    .read_unaligned()
            });
            if STORED {
                let next = next.wrapping_add(i * stride);
                (0..VECTORS).for_each(|v| prefetch(next.wrapping_add(v * lanes)));
                prefetch(next.wrapping_add(wide - 1));
            }
            if PACK {
                for (v, weights) in weights.iter().enumerate() {
                    // SAFETY: `packed` has room for k stretches, checked above, and i < k.
                    unsafe {
                        let to = to.add(i * wide + v * lanes);
                        to.cast::<T::Vector<S>>().write_unaligned(*weights);
                    }
                }
            }
            for m in 0..M {
                // SAFETY: the length was checked above, and i < k <= row_stride.
                let x = T::splat(simd, unsafe { *rows.add(m * row_stride::<T>() + i) });
                for v in 0..VECTORS {
                    sums[m][v] = T::fused(simd, x, weights[v], sums[m][v]);
                }
            }
        }
        // a copy, so that the sums themselves have no address and stay in registers
        let done = sums;
        for (sums, out) in done.iter().zip(self.out) {
            self.store(sums, out.wrapping_add(self.column));
        }
    }

    /// Writes a row's sums, or adds them.
    #[inline(always)]
    fn store(&self, sums: &[T::Vector<S>; VECTORS], out: *mut T) {
        let lanes = T::lanes::<S>();
        if self.width == VECTORS * lanes {
            for (v, sum) in sums.iter().enumerate() {
                // SAFETY: the output has room for `width` numbers that nobody else touches, says the
                // field.
                unsafe {
                    let out = out.add(v * lanes).cast::<T::Vector<S>>();
                    let sum = match self.add {
                        true => T::plus(self.simd, out.read_unaligned(), *sum),
                        false => *sum,
                    };
                    out.write_unaligned(sum);
                }
            }
        } else {
            // SAFETY: as above; and vectors are so many numbers.
            let (out, sums) = unsafe {
                (
                    std::slice::from_raw_parts_mut(out, self.width),
                    std::slice::from_raw_parts(sums.as_ptr().cast::<T>(), VECTORS * lanes),
                )
            };
            if self.add {
                out.iter_mut().zip(sums).for_each(|(o, s)| *o += *s);
            } else {
                out.copy_from_slice(&sums[..out.len()]);
            }
        }
    }
}

/// Asks for the cache line of an address that will be read; it need not exist.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that can be seen and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Runs the register tile on operands that stay in the first-level cache; how many operations.
pub(in super::super) fn tile_in_cache<T: Real>(arch: Arch, repeats: usize) -> f64 {
    struct Again<T> {
        repeats: usize,
        one: T,
    }
    impl<T: Real> WithSimd for Again<T> {
        type Output = f64;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            const K: usize = 64;
            let (count, wide) = (tile_rows::<S>(), panel_columns::<T, S>());
            let rows = vec![self.one; count * row_stride::<T>()];
            let mut packed = vec![self.one; K * wide];
            let mut out = vec![T::default(); count * wide];
            let out: Vec<_> = out.chunks_exact_mut(wide).map(<[T]>::as_mut_ptr).collect();
            for _ in 0..self.repeats {
                PanelTile {
                    simd,
                    rows: std::hint::black_box(&rows),
                    k: K,
                    out: &out,
                    column: 0,
                    width: wide,
                    add: false,
                }
                .multiply(TileWeights::Packed, std::hint::black_box(&mut packed));
            }
            2.0 * (count * wide * K * self.repeats) as f64
        }
    }
    arch.dispatch(Again {
        repeats,
        one: T::ONE,
    })
}
