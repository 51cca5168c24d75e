//! The two number types of the CPU backend, and the few functions that they spell differently.
//!
//! f64 is the reference: its transcendental functions are the platform's. f32 has an exponential
//! written as straight-line arithmetic, so that the compiler can use it sixteen at a time; GELU over
//! a wide MLP would otherwise cost as much as the matrix product before it.

use pulp::Simd;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// f32 or f64.
pub trait Real:
    Copy
    + Send
    + Sync
    + Default
    + PartialOrd
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + Sum
    + From<f32>
    + 'static
{
    /// Numbers in 64 bytes: one AVX-512 register.
    const LANES: usize;
    /// One.
    const ONE: Self;
    /// −∞.
    const NEG_INFINITY: Self;
    /// Not a number.
    const NAN: Self;
    /// A vector register of numbers.
    type Vector<S: Simd>: Copy;
    /// Numbers in a vector register.
    fn lanes<S: Simd>() -> usize;
    /// One number in every lane.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// a · b + c, rounded once.
    fn fused<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// a + b
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a · b
    fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// Stored single-precision numbers as numbers of this type, if they are that.
    fn own(stored: &[f32]) -> Option<&[Self]>;
    /// Rounded to nearest.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// self · a + b, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Natural exponential.
    fn exp(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Whether the bits are equal (so that −0 ≠ 0 and NaN = NaN).
    fn same_bits(self, other: Self) -> bool;
}

impl Real for f64 {
    const LANES: usize = 8;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const NAN: Self = f64::NAN;

    type Vector<S: Simd> = S::f64s;
    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        S::F64_LANES
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: Self) -> S::f64s {
        simd.splat_f64s(x)
    }
    #[inline(always)]
    fn fused<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_f64s(a, b, c)
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.add_f64s(a, b)
    }
    #[inline(always)]
    fn times<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.mul_f64s(a, b)
    }
    #[inline(always)]
    fn own(_: &[f32]) -> Option<&[Self]> {
        None
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f64::mul_add(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        libm::erf(self)
    }
    #[inline(always)]
    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

impl Real for f32 {
    const LANES: usize = 16;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    const NAN: Self = f32::NAN;

    type Vector<S: Simd> = S::f32s;
    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        S::F32_LANES
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: Self) -> S::f32s {
        simd.splat_f32s(x)
    }
    #[inline(always)]
    fn fused<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_f32s(a, b, c)
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }
    #[inline(always)]
    fn times<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.mul_f32s(a, b)
    }
    #[inline(always)]
    fn own(stored: &[f32]) -> Option<&[Self]> {
        Some(stored)
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    /// eˣ to within 2 units in the last place: x = n ln 2 + r, a polynomial in r (Cephes `expf`,
    /// Moshier 1989), times 2ⁿ. Below e⁻⁸⁶·⁹ ≈ 1.8·10⁻³⁸ it is 0, where it would overflow +∞.
    #[inline(always)]
    fn exp(self) -> Self {
        // adding and subtracting 1.5 · 2²³ rounds to an integer, and leaves it in the low bits
        const ROUND: f32 = 12_582_912.0;
        let shifted = f32::mul_add(self, std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = f32::mul_add(n, -0.693_359_4, self);
        let r = f32::mul_add(n, 2.121_944_4e-4, r);
        let p = f32::mul_add(1.987_569_2e-4, r, 1.398_199_9e-3);
        let p = f32::mul_add(p, r, 8.333_452e-3);
        let p = f32::mul_add(p, r, 4.166_579_6e-2);
        let p = f32::mul_add(p, r, 1.666_666_5e-1);
        let p = f32::mul_add(p, r, 0.5);
        let p = f32::mul_add(p, r * r, r + 1.0);
        // 2ⁿ⁻¹ and a doubling: 2¹²⁸ is not a number of this type, but e⁸⁸·⁷ is
        let half = f32::from_bits((shifted.to_bits() << 23).wrapping_add(126 << 23));
        let y = p * half * 2.0;
        let y = if self < -86.9 { 0.0 } else { y };
        if self > 88.722_83 { f32::INFINITY } else { y }
    }
    #[inline(always)]
    fn erf(self) -> Self {
        libm::erff(self)
    }
    #[inline(always)]
    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::Real;

    #[test]
    fn the_fast_exponential_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in 0..2_000_000 {
            let x = -86.9 + i as f32 * (175.6 / 2_000_000.0);
            let (got, want) = (Real::exp(x) as f64, (x as f64).exp());
            worst = worst.max((got - want).abs() / (want * f64::from(f32::EPSILON)));
        }
        assert!(worst < 2.0, "{worst} units");
    }

    #[test]
    fn the_fast_exponential_keeps_its_edges() {
        assert_eq!(Real::exp(0.0f32), 1.0);
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp(-1e30f32), 0.0);
        assert_eq!(Real::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(Real::exp(89.0f32), f32::INFINITY);
        assert!(Real::exp(f32::NAN).is_nan());
    }
}
