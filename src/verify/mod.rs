//! Every operation and whole runs, one backend against double precision.
//!
//! Operations are compared on fresh random inputs that are first rounded to the type in which the
//! backend stores them, so that what is measured is the arithmetic and not the rounding of its
//! input; the reference's weights are rounded likewise ([`crate::backend::cpu::Cpu::rounded`]). The
//! measure is ‖out − ref‖ / ‖ref‖ over everything and over the worst row (rows whose norm is under a
//! thousandth of the mean row's are measured against the mean instead); anything that is not a
//! number fails.

mod adjoints;
mod bases;
mod gates;
mod operation;
mod operations;
mod runs;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use crate::backend::{Backend, DeviceError, Store};

pub use self::adjoints::adjoints;
pub use self::gates::Gates;
pub use self::operations::{attention, operations};
pub use self::runs::runs;

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What was compared.
    pub what: String,
    /// Error over everything: relative, or |Δ log-probability| for whole runs.
    pub error: f64,
    /// Error of the worst row or run.
    pub worst: f64,
    /// What both must stay under.
    pub gate: f64,
}

impl Comparison {
    /// Whether it is within its gate; NaN is not.
    pub fn passes(&self) -> bool {
        self.error <= self.gate && self.worst <= self.gate
    }
}

struct Inputs(ChaCha8Rng);

impl Inputs {
    /// Standard normal values that f32 holds exactly.
    fn matrix(&mut self, rows: usize, width: usize) -> Vec<f64> {
        let mut draw = || Distribution::<f64>::sample(&StandardNormal, &mut self.0);
        (0..rows * width)
            .map(|_| f64::from(draw() as f32))
            .collect()
    }

    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The same, rounded to the type in which a backend stores them.
    fn stored<B: Backend>(
        &mut self,
        backend: &B,
        store: Store,
        rows: usize,
        width: usize,
    ) -> Result<Vec<f64>, DeviceError> {
        let values = self.matrix(rows, width);
        backend.read(&backend.upload(rows, width, store, &values))
    }

    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n.max(1) as u64) as usize
    }
}

fn compare(what: String, want: &[f64], got: &[f64], width: usize, gate: f64) -> Comparison {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let rows: Vec<(f64, f64)> = want
        .chunks(width)
        .zip(got.chunks(width))
        .map(|(w, g)| {
            (
                norm(&mut w.iter().copied()),
                norm(&mut w.iter().zip(g).map(|(w, g)| w - g)),
            )
        })
        .collect();
    if want.len() != got.len() || want.is_empty() {
        // less than was asked for is no number either
        return Comparison {
            what,
            error: f64::NAN,
            worst: f64::NAN,
            gate,
        };
    }
    let mean = rows.iter().map(|(size, _)| size).sum::<f64>() / rows.len().max(1) as f64;
    let mut worst = 0.0;
    for (size, error) in &rows {
        let relative = error / if *size < 1e-3 * mean { mean } else { *size };
        if relative.is_nan() || relative > worst {
            worst = relative;
        }
        if worst.is_nan() {
            break;
        }
    }
    let size = norm(&mut rows.iter().map(|(size, _)| *size));
    let error = norm(&mut rows.iter().map(|(_, error)| *error)) / size;
    Comparison {
        what,
        error,
        worst,
        gate,
    }
}
