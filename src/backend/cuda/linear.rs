//! Which arithmetic and which tile a linear layer takes, and its launch.
//!
//! The arithmetic, and with it the order of every sum, depends on the precision and the device; how
//! many rows there are chooses only between two tiles that give the same bits.

use super::Cuda;
use super::arguments::{
    self, Finish, LARGE_COLUMNS, LARGE_ROWS, LARGE_SCAN_SHARED, LARGE_SHARED, LARGE_THREADS,
    LinearArgs, Operands, Pointer, SMALL_COLUMNS, SMALL_ROWS, SMALL_SCAN_SHARED, SMALL_SHARED,
    SMALL_THREADS, number,
};
use super::kernels::Kernel;
use super::matrix::{Element, Matrix};
use super::queue::Launch;
use super::rows::rows;
use crate::backend::{Epilogue, Linear, Precision};
use crate::model::ActivationFunction;

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
            Self::Large => LARGE_ROWS as usize,
            Self::Small => SMALL_ROWS as usize,
        }
    }

    /// Columns of a linear layer.
    fn columns(self) -> usize {
        match self {
            Self::Large => LARGE_COLUMNS as usize,
            Self::Small => SMALL_COLUMNS as usize,
        }
    }

    pub(super) fn block(self) -> u32 {
        match self {
            Self::Large => LARGE_THREADS,
            Self::Small => SMALL_THREADS,
        }
    }

    /// Dynamic shared memory of a linear layer, in bytes.
    pub(super) fn linear_shared(self) -> u32 {
        match self {
            Self::Large => LARGE_SHARED,
            Self::Small => SMALL_SHARED,
        }
    }

    /// Dynamic shared memory of the readout's scan, in bytes.
    pub(super) fn scan_shared(self) -> u32 {
        match self {
            Self::Large => LARGE_SCAN_SHARED,
            Self::Small => SMALL_SCAN_SHARED,
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

/// An activation function, as kernels know it.
pub(super) fn activation(activation: ActivationFunction) -> arguments::Activation {
    match activation {
        ActivationFunction::GeluNew | ActivationFunction::GeluPytorchTanh => {
            arguments::Activation::GeluNew
        }
        ActivationFunction::Gelu => arguments::Activation::Gelu,
        ActivationFunction::Relu => arguments::Activation::Relu,
        ActivationFunction::Silu => arguments::Activation::Silu,
        ActivationFunction::QuickGelu => arguments::Activation::QuickGelu,
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
    ];
    let first = first + linear.columns.start;
    cuda.record(2 * (count * weight.inputs * columns) as u64, |queue| {
        let (finish, residual) = match &linear.epilogue {
            Epilogue::None => (Finish::Plain, arguments::Rows::NONE),
            Epilogue::Activate => (Finish::Activate, arguments::Rows::NONE),
            Epilogue::Residual(residual) => (Finish::Residual, rows(queue, residual)),
        };
        let arguments = LinearArgs {
            operands: Operands {
                input: linear.input.view(),
                rows: queue.table(linear.rows),
                weight: weight.row(first),
                ids: Pointer::NULL,
                count: number(count),
                inputs: number(weight.inputs),
                columns: number(columns),
                weight_stride: number(weight.stride),
            },
            to: arguments::Epilogue {
                bias: bias.offset(first * size_of::<f32>()),
                residual,
                out: out.view(),
                out_rows: queue.optional(linear.out_rows),
                out_column: number(linear.columns.start),
                finish,
                activation: activation(cuda.config.activation),
            },
        };
        Launch::new(kernel, grid, tile.block(), tile.linear_shared(), arguments)
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
