//! How far each precision may stray: one named gate an operation (DESIGN, "Numbers").

use crate::backend::Precision;

/// The gates of one precision, on ‖out − ref‖ / ‖ref‖ unless said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gates {
    precision: Precision,
}

impl Gates {
    /// The gates of a precision; those of f64 are those of f32, which it passes with room.
    pub fn of(precision: Precision) -> Self {
        Self { precision }
    }

    /// A linear layer over K inputs: in f32 the error of a sum of K products grows with √K; below,
    /// the rounding of operands and result to 11, 11 and 8 bits.
    pub fn linear(self, k: usize) -> f64 {
        match self.precision {
            Precision::F64 | Precision::F32 => 2e-7 + 2.5e-8 * (k as f64).sqrt(),
            Precision::Tf32 => 5e-4,
            Precision::F16 => 6e-4,
            Precision::Bf16 => 4e-3,
        }
    }

    /// Attention, where the largest score in size is `largest`: an error of a score is one of its
    /// exponential. Queries, keys and values are f32 in tf32 too, and so is the arithmetic.
    pub fn attention(self, largest: f64) -> f64 {
        let one = match self.precision {
            Precision::F64 | Precision::F32 | Precision::Tf32 => 2e-6,
            Precision::F16 | Precision::Bf16 => self.linear(0),
        };
        one * largest.max(1.0)
    }

    /// Layer norm and activation functions: a handful of roundings, each 6e-8, and an exponential of
    /// 2 units in the last place; then the result's own rounding.
    pub fn row_wise(self) -> f64 {
        match self.precision {
            Precision::F64 | Precision::F32 | Precision::Tf32 => 1e-6,
            Precision::F16 | Precision::Bf16 => self.linear(0),
        }
    }

    /// A linear layer with its activation: what stands between them is rounded too.
    pub fn activated(self, k: usize) -> f64 {
        self.linear(k) + self.row_wise()
    }

    /// |Δ log-probability| of whole runs. Pretrained weights have outlier dimensions: random
    /// checkpoints stay ten times lower in f32. What 16 bits lose depends on the model: random ones
    /// of two narrow layers, where nothing averages out, came to 0.6 in bf16, and three bits less
    /// rounding are a factor of 8.
    pub fn run(self) -> f64 {
        match self.precision {
            Precision::F64 | Precision::F32 => 1e-4,
            Precision::Bf16 => 1.0,
            Precision::Tf32 | Precision::F16 => 1.0 / 8.0,
        }
    }
}
