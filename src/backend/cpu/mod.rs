//! The CPU backend: the specification that kernels are verified against, and the fallback.
//!
//! Generic over f32 and f64. Each operation is a loop over rows, spread over threads by rayon, whose
//! body is compiled for AVX-512, AVX2 and the baseline and chosen at run time by `pulp`. All three
//! round alike: every sum has one order and every multiply-add is fused, so a result does not depend
//! on the machine either. (Without FMA hardware the fused operation is emulated, and slow.)

mod adjoint;
mod attention;
mod backend;
mod basis;
mod instructions;
pub mod limits;
mod linear;
mod matrix;
mod overwrite;
mod readout;
mod real;
mod rows;
mod weights;

use std::sync::atomic::AtomicU64;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

pub use self::instructions::{Instructions, UnknownInstructions};
use self::linear::Rounding;
pub use self::matrix::Buffer;
pub use self::real::Real;
use self::weights::CpuWeights;
use super::Precision;
use crate::model::Checkpoint;

/// Rows that one task of a row-wise operation takes.
const TASK_ROWS: usize = 8;

/// The token of the instructions that are used.
fn arch() -> Arch {
    Instructions::used().arch().unwrap_or_default()
}

/// The CPU as a device, holding one model's weights where they are mapped.
pub struct Cpu<T> {
    weights: CpuWeights<T>,
    arch: Arch,
    flops: AtomicU64,
}

impl<T: Real> Cpu<T> {
    /// A backend over a checkpoint, with [`Instructions::used`]. Only vectors (biases, layer norms) are
    /// copied.
    pub fn new(model: &Checkpoint) -> Self {
        Self::on(model, arch(), Rounding::None)
    }

    /// The same with other instructions; `None` if this machine lacks them.
    pub fn with_instructions(model: &Checkpoint, instructions: Instructions) -> Option<Self> {
        Some(Self::on(model, instructions.arch()?, Rounding::None))
    }

    /// The same on weights that are first rounded to the type in which a precision stores them: what
    /// a GPU's results in that precision are compared with.
    pub fn rounded(model: &Checkpoint, precision: Precision) -> Self {
        let round = match precision {
            Precision::Bf16 => Rounding::Bf16,
            Precision::F16 => Rounding::F16,
            Precision::F32 | Precision::F64 | Precision::Tf32 => Rounding::None,
        };
        Self::on(model, arch(), round)
    }

    fn on(model: &Checkpoint, arch: Arch, round: Rounding) -> Self {
        Self {
            weights: CpuWeights::new(model, round),
            arch,
            flops: AtomicU64::new(0),
        }
    }

    /// Runs `body` for each of the first `count` rows of `out` with this machine's instructions.
    fn each_row(&self, count: usize, out: &mut Buffer<T>, body: impl Fn(usize, &mut [T]) + Sync) {
        struct Block<'a, T, F> {
            first: usize,
            width: usize,
            rows: &'a mut [T],
            body: &'a F,
        }
        impl<T, F: Fn(usize, &mut [T])> NullaryFnOnce for Block<'_, T, F> {
            type Output = ();
            #[inline(always)]
            fn call(self) {
                for (i, row) in self.rows.chunks_exact_mut(self.width).enumerate() {
                    (self.body)(self.first + i, row);
                }
            }
        }
        let width = out.width;
        out.filled(count)
            .par_chunks_mut(TASK_ROWS * width)
            .enumerate()
            .for_each(|(i, rows)| {
                self.arch.dispatch(Block {
                    first: i * TASK_ROWS,
                    width,
                    rows,
                    body: &body,
                });
            });
    }
}
