//! Rows into the coordinates of a basis, and back: twin of kernels/basis.cu.

use pulp::Arch;
use rayon::prelude::*;

use super::linear::{self, Factor, OutputRows, Product};
use super::matrix::Buffer;
use super::real::Real;
use crate::backend::{BasisOn, Probe, RowColumn};

fn vector<T>(buffer: &Option<Buffer<T>>) -> &[T] {
    buffer.as_ref().map_or(&[], |b| &b.data)
}

/// x ∘ y for each pair, or nothing where y is missing.
fn each<T: Real>(x: &mut [T], y: &[T], f: impl Fn(T, T) -> T) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x = f(*x, *y));
}

/// `[rows, K] · [K, N]`, into rows of N numbers; `finish` gets each finished stretch of a row with its
/// first column.
fn product<'r, T: Real>(
    arch: Arch,
    factor: &Buffer<T>,
    row: &(dyn Fn(usize) -> &'r [T] + Sync),
    (rows, columns): (usize, usize),
    out: &mut [T],
    finish: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    assert!(out.len() >= rows * columns, "the result has no room");
    let product = Product {
        weight: Factor::Own {
            data: &factor.data,
            inputs: factor.rows,
            columns,
        },
        columns: 0..columns,
        rows,
        row,
        place: &|m| m,
        output: OutputRows {
            base: out.as_mut_ptr(),
            stride: columns,
        },
        finish: &|_, first, out| finish(first, out),
    };
    linear::product(arch, &product);
}

/// activation(((x − shift) / spread) · encoder + bias) of each probe.
pub(super) fn encode<'a, T: Real>(
    arch: Arch,
    basis: &BasisOn<Buffer<T>>,
    probes: &[Probe],
    matrix: &Buffer<T>,
    read: &(dyn Fn(&Probe) -> &'a [T] + Sync),
    out: &mut Buffer<T>,
) {
    let n = basis.width;
    let mut inputs = vec![T::default(); probes.len() * n];
    let rows = inputs.par_chunks_exact_mut(n).zip(probes);
    rows.for_each(|(x, probe)| {
        let standing = probe
            .standing
            .map(|(row, column)| &matrix.row(row)[column..][..n]);
        match (standing, read(probe)) {
            (Some(b), []) => x.copy_from_slice(b),
            (None, s) => x.copy_from_slice(s),
            (Some(b), s) => {
                x.copy_from_slice(s);
                each(x, b, |s, b| s - b);
            }
        }
        each(x, vector(&basis.shift), |x, shift| x - shift);
        each(x, vector(&basis.spread), |x, spread| x / spread);
    });
    let k = basis.coordinates;
    let activate = |first: usize, h: &mut [T]| {
        let of = |vector: &'_ [T]| -> usize { first.min(vector.len()) };
        let (bias, threshold) = (vector(&basis.bias), vector(&basis.threshold));
        each(h, &bias[of(bias)..], |h, bias| h + bias);
        let zero = T::default();
        // NaN is not above a threshold, and is what the row has become all the same
        each(h, &threshold[of(threshold)..], |h, threshold| {
            if h <= threshold { zero } else { h }
        });
        if basis.rectified {
            h.iter_mut().for_each(|h| {
                if *h < zero {
                    *h = zero;
                }
            });
        }
    };
    match &basis.encoder {
        Some(encoder) => {
            let row = |m: usize| &inputs[m * n..][..n];
            let shape = (probes.len(), k);
            product(arch, encoder, &row, shape, &mut out.data, &activate);
        }
        None => {
            let rows = out.data.chunks_exact_mut(k).zip(inputs.chunks_exact(n));
            rows.for_each(|(h, x)| {
                h.copy_from_slice(x);
                activate(0, h);
            });
        }
    }
}

/// (h · decoder) ∘ gain + offset, in the place of each stretch or added to it.
pub(super) fn decode<T: Real>(
    arch: Arch,
    basis: &BasisOn<Buffer<T>>,
    coordinates: &Buffer<T>,
    places: &[RowColumn],
    matrix: &mut Buffer<T>,
) {
    let (n, width) = (basis.width, matrix.width);
    let mut decoded = Vec::new();
    let rows: &[T] = match &basis.decoder {
        Some(decoder) => {
            decoded.resize(places.len() * n, T::default());
            let row = |m: usize| coordinates.row(m);
            let shape = (places.len(), n);
            product(arch, decoder, &row, shape, &mut decoded, &|_, _| ());
            &decoded
        }
        None => &coordinates.data,
    };
    let zero = T::default();
    for ((row, column), y) in places.iter().zip(rows.chunks_exact(n)) {
        let mut y = y.to_vec();
        each(&mut y, vector(&basis.gain), |y, gain| y * gain);
        each(&mut y, vector(&basis.offset), |y, offset| y + offset);
        let stretch = &mut matrix.data[row * width + column..][..n];
        if basis.by_difference {
            // −0 + 0 is 0: what does not move keeps its bits
            each(stretch, &y, |b, y| if y == zero { b } else { b + y });
        } else {
            stretch.copy_from_slice(&y);
        }
    }
}
