//! The orthogonal matrix that torch makes of what it stored.
//!
//! `torch.nn.utils.parametrizations.orthogonal` (torch 2.11, `nn/utils/parametrizations.py`) stores not
//! W but X [n, k] (`parametrizations.weight.original`) and, by default, a base B [n, n]
//! (`parametrizations.weight.0.base`). W is B·Q(X)[:, :k], where, with the maps that pyvene leaves at
//! their defaults,
//!
//! - n = k: Q = exp(A), A = L − Lᵀ, L the lower triangle of X;
//! - n > k: Q = H₁ ⋯ H_k · diag(X), truncated to integers, where H_j = I − τ v vᵀ reflects along column
//!   j of X below its diagonal with a 1 on it, τ = 2 / vᵀv (LAPACK's `orgqr`).
//!
//! The third map, Cayley's, is never used by pyvene, and a state dict does not say which one it was.
//! Everything is done in double precision, where torch would round to the type it stored.

use rayon::prelude::*;

/// A matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseMatrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// `rows × columns` numbers.
    pub values: Vec<f64>,
}

impl DenseMatrix {
    fn identity(rows: usize, columns: usize) -> Self {
        let mut values = vec![0.0; rows * columns];
        values
            .iter_mut()
            .step_by(columns + 1)
            .take(columns)
            .for_each(|x| *x = 1.0);
        Self {
            rows,
            columns,
            values,
        }
    }

    /// `self · other`; the sizes must fit.
    fn times(&self, other: &Self) -> Self {
        let mut values = vec![0.0; self.rows * other.columns];
        let rows = values
            .par_chunks_mut(other.columns)
            .zip(self.values.par_chunks(self.columns));
        rows.for_each(|(to, from)| {
            for (x, row) in from.iter().zip(other.values.chunks_exact(other.columns)) {
                for (sum, y) in to.iter_mut().zip(row) {
                    *sum += x * y;
                }
            }
        });
        Self {
            rows: self.rows,
            columns: other.columns,
            values,
        }
    }

    /// `self + factor · other`
    fn plus(mut self, factor: f64, other: &Self) -> Self {
        self.values
            .iter_mut()
            .zip(&other.values)
            .for_each(|(x, y)| *x += factor * y);
        self
    }

    /// The transpose.
    pub fn transposed(&self) -> Self {
        let at = |i: usize| self.values[i % self.rows * self.columns + i / self.rows];
        Self {
            rows: self.columns,
            columns: self.rows,
            values: (0..self.values.len()).map(at).collect(),
        }
    }
}

/// W [n, k] of a layer whose stored X is `original` and whose base, if it has one, is `base`.
///
/// # Errors
///
/// A sentence that goes on from the layer's name.
pub fn orthogonal(
    original: &DenseMatrix,
    base: Option<&DenseMatrix>,
) -> Result<DenseMatrix, String> {
    let (n, k) = (original.rows, original.columns);
    if n < k {
        return Err(format!(
            "has {k} directions of {n} numbers each: it must have at most as many as numbers"
        ));
    }
    if let Some(base) = base.filter(|base| (base.rows, base.columns) != (n, n)) {
        let (rows, columns) = (base.rows, base.columns);
        return Err(format!(
            "has a base of shape [{rows}, {columns}]: it must be [{n}, {n}]"
        ));
    }
    let map = match n == k {
        true => exponential(&skew(original)),
        false => reflections(original)?,
    };
    Ok(match base {
        Some(base) => base.times(&map),
        None => map,
    })
}

/// L − Lᵀ of the lower triangle.
fn skew(x: &DenseMatrix) -> DenseMatrix {
    let n = x.rows;
    let at = |i: usize| match (i / n, i % n) {
        (row, column) if row > column => x.values[i],
        (row, column) if row < column => -x.values[column * n + row],
        _ => 0.0,
    };
    DenseMatrix {
        rows: n,
        columns: n,
        values: (0..n * n).map(at).collect(),
    }
}

/// exp(A) by scaling and squaring: Taylor's series to the 16th power, by Paterson and Stockmeyer, of
/// A/2ˢ with a norm of at most 1/2, where the remainder is under 2⁻⁶⁵; then squared s times.
fn exponential(a: &DenseMatrix) -> DenseMatrix {
    let n = a.rows;
    let norm = a
        .values
        .chunks_exact(n)
        .map(|row| row.iter().map(|x| x.abs()).sum::<f64>())
        .fold(0.0, f64::max);
    if norm == 0.0 {
        return DenseMatrix::identity(n, n);
    }
    let squarings = (norm * 2.0).log2().ceil().clamp(0.0, 1023.0) as i32;
    let zero = DenseMatrix {
        values: vec![0.0; n * n],
        ..*a
    };
    let a = zero.clone().plus(0.5f64.powi(squarings), a);
    let a2 = a.times(&a);
    let a3 = a2.times(&a);
    let a4 = a2.times(&a2);
    let one = DenseMatrix::identity(n, n);
    let mut factorials = [1.0; 17];
    for i in 1..17 {
        factorials[i] = factorials[i - 1] * i as f64;
    }
    let block = |first: usize| {
        let part = |power: usize| 1.0 / factorials[first + power];
        let sum = zero.clone().plus(part(0), &one).plus(part(1), &a);
        sum.plus(part(2), &a2).plus(part(3), &a3)
    };
    let mut sum = block(12).plus(1.0 / factorials[16], &a4);
    for first in [8, 4, 0] {
        sum = block(first).plus(1.0, &sum.times(&a4));
    }
    for _ in 0..squarings {
        sum = sum.times(&sum);
    }
    sum
}

/// The product of reflections with the signs of X's diagonal.
fn reflections(x: &DenseMatrix) -> Result<DenseMatrix, String> {
    let (n, k) = (x.rows, x.columns);
    let mut q = DenseMatrix::identity(n, k);
    for j in (0..k).rev() {
        let mut along = vec![0.0; n];
        along[j] = 1.0;
        let below = x.values.iter().skip(j).step_by(k).enumerate().skip(j + 1);
        for (row, v) in below {
            along[row] = *v;
        }
        let tau = 2.0 / along.iter().map(|v| v * v).sum::<f64>();
        let mut seen = vec![0.0; k];
        for (v, row) in along.iter().zip(q.values.chunks_exact(k)).skip(j) {
            seen.iter_mut().zip(row).for_each(|(s, y)| *s += v * y);
        }
        for (v, row) in along.iter().zip(q.values.chunks_exact_mut(k)).skip(j) {
            row.iter_mut()
                .zip(&seen)
                .for_each(|(y, s)| *y -= tau * v * s);
        }
    }
    for j in 0..k {
        let stored = x.values[j * k + j];
        let sign = stored.trunc();
        if sign.abs() != 1.0 {
            // the optimiser's weight decay moves it; no gradient ever does
            return Err(format!(
                "has {stored} at [{j}, {j}], which torch truncates to {sign}: the direction is lost there \
                 too; set it back to 1 or -1, whichever it was, and train without weight decay"
            ));
        }
        q.values
            .iter_mut()
            .skip(j)
            .step_by(k)
            .for_each(|y| *y *= sign);
    }
    Ok(q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix(rows: usize, columns: usize, values: &[f64]) -> DenseMatrix {
        DenseMatrix {
            rows,
            columns,
            values: values.to_vec(),
        }
    }

    #[test]
    fn an_angle_turns() {
        for angle in [0.0, 0.3, -2.0, 40.0] {
            let w = orthogonal(&matrix(2, 2, &[7.0, 8.0, angle, 9.0]), None).unwrap();
            let (sin, cos) = f64::sin_cos(angle);
            for (x, y) in w.values.iter().zip([cos, -sin, sin, cos]) {
                assert!((x - y).abs() < 1e-13, "{angle}: {w:?}");
            }
        }
    }

    #[test]
    fn one_reflection_is_householders() {
        // v = (1, 2, 2): H e₁ = e₁ − 2/9 · v
        let w = orthogonal(&matrix(3, 1, &[-1.0, 2.0, 2.0]), None).unwrap();
        for (x, y) in w.values.iter().zip([-7.0 / 9.0, 4.0 / 9.0, 4.0 / 9.0]) {
            assert!((x - y).abs() < 1e-15, "{w:?}");
        }
        let decayed = orthogonal(&matrix(3, 1, &[-0.99, 2.0, 2.0]), None).unwrap_err();
        assert!(decayed.contains("weight decay"), "{decayed}");
        assert!(orthogonal(&matrix(1, 2, &[1.0, 1.0]), None).is_err());
        assert!(
            orthogonal(
                &matrix(2, 1, &[1.0, 1.0]),
                Some(&DenseMatrix::identity(3, 3))
            )
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn columns_are_orthonormal(n in 1usize..7, less in 0usize..6, seed in proptest::collection::vec(-3.0f64..3.0, 49)) {
            let k = n - less.min(n - 1);
            let mut x = matrix(n, k, &seed[..n * k]);
            for (j, sign) in seed.iter().take(k).enumerate() {
                x.values[j * k + j] = sign.signum();
            }
            let w = orthogonal(&x, None).unwrap();
            let gram = w.transposed().times(&w);
            for (x, y) in gram.values.iter().zip(DenseMatrix::identity(k, k).values) {
                prop_assert!((x - y).abs() < 1e-12, "{gram:?}");
            }
        }
    }
}
