//! Products of every one of some rows with every one of others, in double precision.
//!
//! Each is a sum over the numbers of a row in blocks, in eight partial sums a block: one order, whatever else
//! is multiplied.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Numbers of a block: those of some rows stay in the second-level cache.
const BLOCK: usize = 1024;
/// Partial sums.
const LANES: usize = 8;
/// Rows of the right-hand side that one row of the left is multiplied with at a time.
const SIDE: usize = 4;
/// Rows of the left-hand side in one task.
const TASK: usize = 8;

struct Task<'a> {
    left: &'a [&'a [f64]],
    right: &'a [&'a [f64]],
    out: &'a mut [f64],
}

impl NullaryFnOnce for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let length = self.right.first().map_or(0, |row| row.len());
        for start in (0..length).step_by(BLOCK) {
            let block = start..length.min(start + BLOCK);
            for (left, out) in self
                .left
                .iter()
                .zip(self.out.chunks_exact_mut(self.right.len()))
            {
                let left = &left[block.clone()];
                for (right, out) in self.right.chunks(SIDE).zip(out.chunks_mut(SIDE)) {
                    let of = |i: usize| &right[i.min(right.len() - 1)][block.clone()];
                    let sums = side(left, [of(0), of(1), of(2), of(3)]);
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                }
            }
        }
    }
}

#[inline(always)]
fn side(left: &[f64], right: [&[f64]; SIDE]) -> [f64; SIDE] {
    let mut partial = [[0.0; LANES]; SIDE];
    let (whole, rest) = left.as_chunks::<LANES>();
    let rights = right.map(|row| row.as_chunks::<LANES>());
    for (i, left) in whole.iter().enumerate() {
        for (partial, (right, _)) in partial.iter_mut().zip(&rights) {
            for lane in 0..LANES {
                partial[lane] = left[lane].mul_add(right[i][lane], partial[lane]);
            }
        }
    }
    for (partial, (_, right)) in partial.iter_mut().zip(&rights) {
        for (lane, (left, right)) in rest.iter().zip(*right).enumerate() {
            partial[lane] = left.mul_add(*right, partial[lane]);
        }
    }
    partial.map(|[a, b, c, d, e, f, g, h]| ((a + e) + (b + f)) + ((c + g) + (d + h)))
}

/// `[left, right]` products; all rows are as long.
pub fn products(left: &[&[f64]], right: &[&[f64]]) -> Vec<f64> {
    let mut out = vec![0.0; left.len() * right.len()];
    if right.is_empty() {
        return out;
    }
    let arch = Arch::new();
    left.par_chunks(TASK)
        .zip(out.par_chunks_mut(TASK * right.len()))
        .for_each(|(left, out)| arch.dispatch(Task { left, right, out }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_sums_whatever_stands_beside_them() {
        for length in [0, 1, 7, 8, 1023, 1025, 2600] {
            let row = |seed: usize| -> Vec<f64> {
                let at = |i: usize| ((i * 31 + seed * 17) % 101) as f64 / 50.0 - 1.0;
                (0..length).map(at).collect()
            };
            let left: Vec<Vec<f64>> = (0..19).map(row).collect();
            let right: Vec<Vec<f64>> = (50..61).map(row).collect();
            let left: Vec<&[f64]> = left.iter().map(Vec::as_slice).collect();
            let right: Vec<&[f64]> = right.iter().map(Vec::as_slice).collect();
            let all = products(&left, &right);
            for (s, l) in left.iter().enumerate() {
                for (r, x) in right.iter().enumerate() {
                    let got = all[s * right.len() + r];
                    let want: f64 = l.iter().zip(*x).map(|(a, b)| a * b).sum();
                    assert!((got - want).abs() < 1e-10, "{length}");
                    assert_eq!(products(&[l], &[x])[0].to_bits(), got.to_bits());
                }
            }
        }
    }
}
