//! Adjoints that go row by row: layer norm and activation functions.

use crate::backend::cpu::real::Real;
use crate::backend::cpu::rows::{activate, mean, scale as scale_of, sum};
use crate::model::ActivationFunction;

/// How far x is moved away from zero before φ(x) is divided by it, as RelP's code does.
const STABILIZER: f64 = 1e-6;

/// Adds a layer norm's adjoint: with h = g · w, n the normalised row and σ its scale,
/// (h − mean h − n · mean(h n)) / σ; where σ is held constant, (h − mean h) / σ.
#[inline(always)]
pub fn norm<T: Real>((x, g): (&[T], &[T]), weight: &[T], epsilon: T, held: bool, out: &mut [T]) {
    let (mean_x, scale) = scale_of(x, epsilon);
    let inverse = T::ONE / scale;
    let h: Vec<T> = g.iter().zip(weight).map(|(g, w)| *g * *w).collect();
    let mean_h = mean(&h);
    let along = match held {
        true => T::default(),
        false => {
            let each = h.iter().zip(x).map(|(h, x)| *h * ((*x - mean_x) * inverse));
            mean(&each.collect::<Vec<T>>())
        }
    };
    let values = h.iter().zip(x);
    out.iter_mut().zip(values).for_each(|(o, (h, x))| {
        let n = (*x - mean_x) * inverse;
        *o += ((*h - mean_h) - n * along) * inverse;
    });
}

/// A layer norm's adjoint with respect to its scale: −Σ g w n / σ.
pub fn scale<T: Real>((x, g): (&[T], &[T]), weight: &[T], epsilon: T) -> T {
    let (mean_x, scale) = scale_of(x, epsilon);
    let inverse = T::ONE / scale;
    let each = x.iter().zip(g.iter().zip(weight));
    let each: Vec<T> = each
        .map(|(x, (g, w))| *g * *w * ((*x - mean_x) * inverse))
        .collect();
    -(sum(&each) * inverse)
}

/// Adds g · φ′(x).
#[inline(always)]
pub fn derivative<T: Real>(activation: ActivationFunction, x: &[T], g: &[T], out: &mut [T]) {
    let each = out.iter_mut().zip(x.iter().zip(g));
    let half = T::from_f64(0.5);
    match activation {
        ActivationFunction::GeluNew | ActivationFunction::GeluPytorchTanh => {
            // x·σ(2u) with 2u = a x + b x³: σ(2u) (1 + x (1 − σ(2u)) (a + 3 b x²))
            let a = T::from_f64(2.0 * (2.0 / std::f64::consts::PI).sqrt());
            let b = T::from_f64(0.044715) * a;
            let three = T::from_f64(3.0);
            each.for_each(|(o, (x, g))| {
                let square = *x * *x;
                let u = *x * square.mul_add(b, a);
                let s = T::ONE / (T::ONE + (-u).exp());
                // 1 − s loses its digits where s is near 1
                let rest = T::ONE / (T::ONE + u.exp());
                let slope = s * (T::ONE + *x * rest * (three * b).mul_add(square, a));
                *o += *g * slope;
            });
        }
        ActivationFunction::Gelu => {
            // Φ(x) + x φ(x), φ being the normal density
            let root = T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
            let density = T::from_f64(1.0 / (2.0 * std::f64::consts::PI).sqrt());
            each.for_each(|(o, (x, g))| {
                let below = half * (T::ONE + (*x * root).erf());
                let at = density * (-(half * *x * *x)).exp();
                *o += *g * x.mul_add(at, below);
            });
        }
        ActivationFunction::Relu => each.for_each(|(o, (x, g))| {
            if *x > T::default() {
                *o += *g;
            }
        }),
        ActivationFunction::Silu => each.for_each(|(o, (x, g))| {
            let s = T::ONE / (T::ONE + (-*x).exp());
            let rest = T::ONE / (T::ONE + x.exp());
            *o += *g * (s * (T::ONE + *x * rest));
        }),
        ActivationFunction::QuickGelu => {
            // x·σ(kx): σ(kx) (1 + k x (1 − σ(kx)))
            let steep = T::from_f64(1.702);
            each.for_each(|(o, (x, g))| {
                let u = *x * steep;
                let s = T::ONE / (T::ONE + (-u).exp());
                let rest = T::ONE / (T::ONE + u.exp());
                *o += *g * (s * (T::ONE + u * rest));
            });
        }
    }
}

/// Adds g · φ(x) / x.
#[inline(always)]
pub fn ratio<T: Real>(activation: ActivationFunction, x: &[T], g: &[T], out: &mut [T]) {
    let mut y = x.to_vec();
    activate(activation, &mut y);
    let away = T::from_f64(STABILIZER);
    let each = out.iter_mut().zip(y.iter().zip(x.iter().zip(g)));
    each.for_each(|(o, (y, (x, g)))| {
        let x = match *x < T::default() {
            true => *x - away,
            false => *x + away,
        };
        *o += *g * (*y / x);
    });
}
