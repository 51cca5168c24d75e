//! Row-wise arithmetic: layer norm, activation functions, epilogues, sums over a row.
//!
//! Sums run over 16 partial sums, element i into partial i mod 16, which are then folded in halves.
//! That is one order whatever the vector registers, it is fast on all of them, and its rounding
//! error grows with n/16.

use pulp::NullaryFnOnce;

use super::real::Real;
use crate::model::ActivationFunction;

/// Partial sums of a row.
pub const PARTIALS: usize = 16;

/// The partial sums of several rows, side by side, folded as those of one.
#[inline(always)]
pub fn fold_each<T: Real, const ROWS: usize>(mut partial: [[T; ROWS]; PARTIALS]) -> [T; ROWS] {
    let mut half = PARTIALS / 2;
    while half > 0 {
        let (low, high) = partial.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            low.iter_mut()
                .zip(high)
                .for_each(|(low, high)| *low += *high);
        }
        half /= 2;
    }
    partial[0]
}

#[inline(always)]
fn fold<T: Real>(mut partial: [T; PARTIALS]) -> T {
    let mut half = PARTIALS / 2;
    while half > 0 {
        for i in 0..half {
            partial[i] += partial[i + half];
        }
        half /= 2;
    }
    partial[0]
}

/// Σ f(i, x_i), partial by partial.
#[inline(always)]
fn sum_by<T: Real>(x: &[T], f: impl Fn(usize, T, T) -> T) -> T {
    let mut partial = [T::default(); PARTIALS];
    let whole = x.len() / PARTIALS * PARTIALS;
    for (block, values) in x[..whole].chunks_exact(PARTIALS).enumerate() {
        for lane in 0..PARTIALS {
            partial[lane] = f(block * PARTIALS + lane, values[lane], partial[lane]);
        }
    }
    for i in whole..x.len() {
        partial[i - whole] = f(i, x[i], partial[i - whole]);
    }
    fold(partial)
}

/// Σ x
#[inline(always)]
pub fn sum<T: Real>(x: &[T]) -> T {
    sum_by(x, |_, x, acc| acc + x)
}

/// The largest number; NaN is none.
#[inline(always)]
pub fn max<T: Real>(x: &[T]) -> T {
    let larger = |m: T, x: T| if x > m { x } else { m };
    let (blocks, rest) = x.as_chunks::<PARTIALS>();
    let mut most = [T::NEG_INFINITY; PARTIALS];
    for block in blocks {
        for lane in 0..PARTIALS {
            most[lane] = larger(most[lane], block[lane]);
        }
    }
    let all = most.iter().chain(rest);
    all.fold(T::NEG_INFINITY, |m, x| larger(m, *x))
}

/// Σ x·y
#[inline(always)]
pub fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    let mut partial = [T::default(); PARTIALS];
    let (x, x_rest) = x.as_chunks::<PARTIALS>();
    let (y, y_rest) = y.as_chunks::<PARTIALS>();
    for (x, y) in x.iter().zip(y) {
        for lane in 0..PARTIALS {
            partial[lane] = x[lane].mul_add(y[lane], partial[lane]);
        }
    }
    for (partial, (x, y)) in partial.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *partial = x.mul_add(*y, *partial);
    }
    fold(partial)
}

/// The mean of a row.
#[inline(always)]
pub fn mean<T: Real>(x: &[T]) -> T {
    sum(x) / T::from_f64(x.len() as f64)
}

/// sqrt(variance + ε) in two passes: subtracting the square of the mean from the mean of squares
/// would cancel on GPT-2's outlier dimensions. Returns the mean with it. No number where the variance is beyond
/// the type: divided by infinity the row would be zeros, and go on as if nothing had happened.
#[inline(always)]
pub fn scale<T: Real>(x: &[T], epsilon: T) -> (T, T) {
    let mean = mean(x);
    let squares = sum_by(x, |_, x, acc| {
        let centred = x - mean;
        centred.mul_add(centred, acc)
    });
    let scale = (squares / T::from_f64(x.len() as f64) + epsilon).sqrt();
    (mean, scale + scale * T::default())
}

/// (x − mean) / scale, by one reciprocal.
#[inline(always)]
pub fn normalize<T: Real>(x: &[T], mean: T, scale: T, out: &mut [T]) {
    let inverse = T::ONE / scale;
    out.iter_mut()
        .zip(x)
        .for_each(|(o, x)| *o = (*x - mean) * inverse);
}

/// x · weight + bias, in place.
#[inline(always)]
pub fn affine<T: Real>(weight: &[T], bias: &[T], x: &mut [T]) {
    x.iter_mut()
        .zip(weight.iter().zip(bias))
        .for_each(|(x, (w, b))| *x = x.mul_add(*w, *b));
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// The checkpoint's activation function, in place.
///
/// `gelu_new` is Hendrycks and Gimpel's (2016, §2) tanh form, ½x(1 + tanh u) with
/// u = √(2/π)(x + 0.044715 x³), written as x·σ(2u), which is the same function and loses no digits
/// where tanh is near −1.
#[inline(always)]
pub fn activate<T: Real>(activation: ActivationFunction, x: &mut [T]) {
    match activation {
        ActivationFunction::GeluNew | ActivationFunction::GeluPytorchTanh => {
            let twice = T::from_f64(2.0 * (2.0 / std::f64::consts::PI).sqrt());
            let cubic = T::from_f64(0.044715) * twice;
            x.iter_mut().for_each(|x| {
                let u = *x * (*x * *x).mul_add(cubic, twice);
                *x = *x * sigmoid(u);
            });
        }
        ActivationFunction::Gelu => {
            let (half, root) = (
                T::from_f64(0.5),
                T::from_f64(std::f64::consts::FRAC_1_SQRT_2),
            );
            x.iter_mut()
                .for_each(|x| *x = half * *x * (T::ONE + (*x * root).erf()));
        }
        ActivationFunction::Relu => {
            x.iter_mut().for_each(|x| {
                if *x < T::default() {
                    *x = T::default()
                }
            });
        }
        ActivationFunction::Silu => x.iter_mut().for_each(|x| *x = *x * sigmoid(*x)),
        ActivationFunction::QuickGelu => {
            let steep = T::from_f64(1.702);
            x.iter_mut().for_each(|x| *x = *x * sigmoid(*x * steep));
        }
    }
}

/// A linear layer's epilogue over a stretch of one row.
pub struct Finish<'a, T> {
    pub bias: &'a [T],
    pub activation: Option<ActivationFunction>,
    pub residual: Option<&'a [T]>,
    pub out: &'a mut [T],
}

impl<T: Real> NullaryFnOnce for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.out
            .iter_mut()
            .zip(self.bias)
            .for_each(|(o, b)| *o += *b);
        if let Some(activation) = self.activation {
            activate(activation, self.out);
        }
        if let Some(x) = self.residual {
            self.out.iter_mut().zip(x).for_each(|(o, x)| *o = *x + *o);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x · σ(1.702 x) in Python's double precision.
    #[test]
    fn the_short_form_of_gelu() {
        let mut x: [f64; 8] = [-10.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 10.0];
        activate(ActivationFunction::QuickGelu, &mut x);
        let expected = [
            -4.057961294855312e-07,
            -0.1542042340671787,
            -0.1496115633936199,
            0.0,
            0.35038843660638014,
            0.8457957659328212,
            1.9356586231442083,
            9.99999959420387,
        ];
        for (found, expected) in x.iter().zip(expected) {
            assert!((*found - expected).abs() <= 1e-15, "{found} {expected}");
        }
    }
}
