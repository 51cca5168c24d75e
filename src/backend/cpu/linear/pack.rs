//! Weights that cannot be read where they are stored, packed for the register tile.
//!
//! A panel is `[k, wide]`, and the panels of a task's columns stand `BLOCK_K · wide` numbers apart, so
//! that a tile reads its weights in order. Stored rows are read in the order in which they stand in
//! memory, and asked for before they are needed.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::super::real::Real;
use super::tile::prefetch;
use super::{AHEAD, BLOCK_K, Rounding, Scratch, WeightMatrix};
use crate::model::Data;

/// Packs a block of K of some columns, widened and rounded. What stands in a panel beyond the last column is unspecified.
#[inline(always)]
pub fn pack<T: Real>(
    weight: WeightMatrix<'_>,
    block_k: Range<usize>,
    columns: Range<usize>,
    wide: usize,
    scratch: &mut Scratch<T>,
) {
    scratch.widened.resize(columns.len(), 0.0);
    for (i, k) in block_k.enumerate() {
        let first = k * weight.stride + columns.start;
        let ahead = address(weight, first + AHEAD * weight.stride);
        let bytes = columns.len() * width(weight);
        (0..bytes)
            .step_by(64)
            .for_each(|line| prefetch(ahead.wrapping_add(line)));
        let row = stretch(weight, first, columns.len(), &mut scratch.widened);
        for (panel, row) in row.chunks(wide).enumerate() {
            let out = &mut scratch.packed[panel * BLOCK_K * wide + i * wide..][..row.len()];
            out.iter_mut().zip(row).for_each(|(o, x)| *o = T::from(*x));
        }
    }
}

/// Bytes of a stored weight.
fn width(weight: WeightMatrix<'_>) -> usize {
    match weight.data {
        Data::F32(_) => 4,
        Data::F16(_) | Data::BF16(_) => 2,
    }
}

/// Where a stored weight stands, or would.
#[inline(always)]
fn address(weight: WeightMatrix<'_>, at: usize) -> *const u8 {
    match weight.data {
        Data::F32(data) => data.as_ptr().wrapping_add(at).cast(),
        Data::F16(data) => data.as_ptr().wrapping_add(at).cast(),
        Data::BF16(data) => data.as_ptr().wrapping_add(at).cast(),
    }
}

/// Neighbouring weights as f32: where they stand, or widened or rounded into the buffer.
#[inline(always)]
pub fn stretch<'a>(
    weight: WeightMatrix<'a>,
    first: usize,
    length: usize,
    buffer: &'a mut [f32],
) -> &'a [f32] {
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
