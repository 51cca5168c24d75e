//! Which arithmetic and which tile a linear layer takes, and its launch.
//!
//! The arithmetic, and with it the order of every sum, depends on the precision and the device; how
//! many rows there are chooses only between two tiles that give the same bits.

use super::Cuda;
use super::kernels::Kernel;
use super::matrix::{Element, Matrix, View};
use super::queue::Launch;
use crate::backend::{Epilogue, Linear, Precision};
use crate::model::Activation;

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Fused multiply-adds in f32.
    Ffma,
    /// f32 by three tf32 products on tensor cores.
    Split,
    /// tf32 on tensor cores.
    Tf32,
    /// bfloat16 on tensor cores.
    Bf16,
    /// Half precision on tensor cores.
    F16,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ffma, Self::Split, Self::Tf32, Self::Bf16, Self::F16];

    /// Its name in kernels' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ffma => "ffma",
            Self::Split => "split",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// The type of its operands.
    pub fn element(self) -> Element {
        match self {
            Self::Ffma | Self::Split | Self::Tf32 => Element::F32,
            Self::Bf16 => Element::Bf16,
            Self::F16 => Element::F16,
        }
    }
}

/// The arithmetic of a linear layer over K inputs, in a precision, on a device.
///
/// | precision | capability | K | variant | why |
/// |---|---|---|---|---|
/// | f32 | 8.0, 9.0, 10.x | ≥ 64 | split | a third of the tf32 rate is 2 to 3 times that of multiply-adds (139 against 67 TFLOP/s on paper, H100) |
/// | f32 | 8.0, 9.0, 10.x | < 64 | ffma | so few products do not average out what splitting drops |
/// | f32 | 8.6, 8.9, 12.x | any | ffma | these chips' tf32 rate is no more than their multiply-add rate |
/// | tf32, bf16, f16 | any | any | their own | |
///
/// # Panics
///
/// For f64, which no GPU kernel has.
pub fn variant(precision: Precision, capability: u32, inputs: usize) -> Variant {
    match precision {
        Precision::F32 => match capability {
            80 | 87 | 90 | 100 | 103 if inputs >= 64 => Variant::Split,
            _ => Variant::Ffma,
        },
        Precision::Tf32 => Variant::Tf32,
        Precision::Bf16 => Variant::Bf16,
        Precision::F16 => Variant::F16,
        Precision::F64 => panic!("f64 is the CPU's alone"),
    }
}

/// The block's share of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tile {
    /// 128 rows × 192 columns, 256 threads.
    Large,
    /// 32 rows × 64 columns (192 in the readout), 128 threads.
    Small,
}

impl Tile {
    /// Its name in kernels' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small => "small",
        }
    }

    /// Rows.
    pub fn rows(self) -> usize {
        match self {
            Self::Large => 128,
            Self::Small => 32,
        }
    }

    /// Columns of a linear layer.
    fn columns(self) -> usize {
        match self {
            Self::Large => 192,
            Self::Small => 64,
        }
    }

    pub(super) fn block(self) -> u32 {
        match self {
            Self::Large => 256,
            Self::Small => 128,
        }
    }

    /// Dynamic shared memory of a linear layer, in bytes (kernels/linear.cu).
    pub(super) fn linear_shared(self) -> u32 {
        match self {
            Self::Large => 83_456,
            Self::Small => 49_536,
        }
    }

    /// Dynamic shared memory of the readout's scan, in bytes (kernels/readout.cu).
    pub(super) fn scan_shared(self) -> u32 {
        match self {
            Self::Large => 98_816,
            Self::Small => 57_472,
        }
    }
}

/// The tile for so many rows and columns: large ones once they fill half of the multiprocessors.
pub fn tile(rows: usize, columns: usize, processors: u32) -> Tile {
    let blocks = rows.div_ceil(Tile::Large.rows()) * columns.div_ceil(Tile::Large.columns());
    if rows > Tile::Small.rows() && 2 * blocks >= processors as usize {
        Tile::Large
    } else {
        Tile::Small
    }
}

/// The number by which kernels know an activation function (kernels/activation.cuh).
pub(super) fn activation(activation: Activation) -> u32 {
    match activation {
        Activation::GeluNew | Activation::GeluPytorchTanh => 0,
        Activation::Gelu => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
    }
}

/// Queues a linear layer.
pub(super) fn linear(cuda: &Cuda, linear: &Linear<'_, Matrix>, out: &mut Matrix) {
    let count = linear.rows.len();
    if count == 0 || linear.columns.is_empty() {
        return;
    }
    let (weight, first, bias) = cuda.weights.linear(linear.weight);
    let columns = linear.columns.len();
    let tile = cuda.tile(count, columns);
    let variant = cuda.variant(weight.inputs);
    let kernel = Kernel::Linear {
        variant,
        tile,
        wide: variant.element() != Element::F32 && out.element == Element::F32,
    };
    let grid = [
        columns.div_ceil(tile.columns()) as u32,
        count.div_ceil(tile.rows()) as u32,
        1,
    ];
    cuda.record(2 * (count * weight.inputs * columns) as u64, |queue| {
        let rows = queue.table(linear.rows);
        let out_rows = queue.optional(linear.out_rows);
        let (epilogue, residual, residual_trace, refs) = match &linear.epilogue {
            Epilogue::None => (0, View::NONE, View::NONE, queue.null()),
            Epilogue::Activate => (1, View::NONE, View::NONE, queue.null()),
            Epilogue::Residual(rows) => {
                let trace = rows.cache.map_or(View::NONE, Matrix::view);
                (2, rows.own.view(), trace, queue.refs(rows.refs))
            }
        };
        Launch::new(kernel, grid, tile.block(), tile.linear_shared())
            .view(linear.input.view())
            .table(rows)
            .integer(count)
            .integer(weight.inputs)
            .integer(first + linear.columns.start)
            .integer(columns)
            .pointer(weight.pointer())
            .integer(weight.stride)
            .pointer(bias)
            .integer(epilogue)
            .integer(activation(cuda.config.activation) as usize)
            .view(residual)
            .view(residual_trace)
            .table(refs)
            .view(out.view())
            .integer(linear.columns.start)
            .table(out_rows)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_rows_chooses_a_tile_and_no_arithmetic() {
        assert_eq!(tile(1, 768, 132), Tile::Small);
        assert_eq!(tile(4096, 768, 132), Tile::Large);
        assert_eq!(variant(Precision::F32, 90, 768), Variant::Split);
        assert_eq!(variant(Precision::F32, 90, 48), Variant::Ffma);
        assert_eq!(variant(Precision::F32, 86, 768), Variant::Ffma);
    }
}
