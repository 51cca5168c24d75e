//! Which arithmetic and which tile a linear layer takes, and its launch.
//!
//! The arithmetic, and with it the order of every sum, depends on the precision and the device; how
//! many rows there are chooses only between tiles that give the same bits.

use super::Cuda;
use super::arguments::{
    self, Finish, LARGE_COLUMNS, LARGE_ROWS, LARGE_SCAN_SHARED, LARGE_SHARED, LARGE_THREADS,
    LinearArgs, LinearPart, MEDIUM_COLUMNS, MEDIUM_ROWS, MEDIUM_SHARED, MEDIUM_THREADS, Operands,
    Pointer, SMALL_COLUMNS, SMALL_ROWS, SMALL_SCAN_SHARED, SMALL_SHARED, SMALL_THREADS, number,
};
use super::kernels::Kernel;
use super::matrix::{Element, Matrix};
use super::queue::{Launch, Queue};
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
    /// 128 rows × 192 columns, 256 threads, alone on a multiprocessor.
    Large,
    /// 64 rows × 96 columns, 128 threads.
    Medium,
    /// 16 rows × 32 columns (192 in the readout), 64 threads.
    Small,
}

impl Tile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Large, Self::Medium, Self::Small];

    /// Those that linear layers have in an arithmetic: a large tile of multiply-adds has more sums than
    /// registers leave room for.
    pub fn of_linear(variant: Variant) -> &'static [Self] {
        match variant {
            Variant::Ffma => &Self::ALL[1..],
            _ => &Self::ALL,
        }
    }

    /// Those that the readout has.
    pub const OF_READOUT: [Self; 2] = [Self::Large, Self::Small];

    /// This one if it is among others, or the next smaller or else larger that is.
    pub(super) fn among(self, tiles: &[Self]) -> Self {
        let smaller = Self::ALL.into_iter().skip_while(|tile| *tile != self);
        let mut near = smaller.chain(Self::ALL);
        near.find(|tile| tiles.contains(tile)).unwrap_or(self)
    }

    /// Its name in kernels' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Medium => "medium",
            Self::Small => "small",
        }
    }

    /// Rows.
    pub fn rows(self) -> usize {
        match self {
            Self::Large => LARGE_ROWS as usize,
            Self::Medium => MEDIUM_ROWS as usize,
            Self::Small => SMALL_ROWS as usize,
        }
    }

    /// Columns of a linear layer.
    fn columns(self) -> usize {
        match self {
            Self::Large => LARGE_COLUMNS as usize,
            Self::Medium => MEDIUM_COLUMNS as usize,
            Self::Small => SMALL_COLUMNS as usize,
        }
    }

    /// Blocks along columns and rows.
    fn blocks(self, shape: ProductShape) -> [usize; 2] {
        let across = shape.columns.div_ceil(self.columns());
        [across, shape.rows.div_ceil(self.rows())]
    }

    pub(super) fn block(self) -> u32 {
        match self {
            Self::Large => LARGE_THREADS,
            Self::Medium => MEDIUM_THREADS,
            Self::Small => SMALL_THREADS,
        }
    }

    /// Dynamic shared memory of a linear layer, in bytes.
    pub(super) fn linear_shared(self) -> u32 {
        match self {
            Self::Large => LARGE_SHARED,
            Self::Medium => MEDIUM_SHARED,
            Self::Small => SMALL_SHARED,
        }
    }

    /// Dynamic shared memory of the readout's scan, in bytes.
    pub(super) fn scan_shared(self) -> u32 {
        match self {
            Self::Large | Self::Medium => LARGE_SCAN_SHARED,
            Self::Small => SMALL_SCAN_SHARED,
        }
    }
}

/// What a linear layer computes: so many rows of so many columns, each a sum over `inputs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductShape {
    /// Rows.
    pub rows: usize,
    /// K.
    pub inputs: usize,
    /// Columns.
    pub columns: usize,
}

/// How fast a multiprocessor gets on with blocks of a tile, in cycles for 64 of K.
///
/// `alone` is what a block takes that shares it with no other, `each` a block's share where several keep
/// it busy: the simulated cycles of the main loop (benches/RESULTS.md), or what the second-level cache
/// takes to bring the block's operands, 24 bytes a cycle and multiprocessor, where that is more. `ends` is
/// what comes before and after the loop.
struct Pace {
    alone: usize,
    each: usize,
    ends: usize,
    /// Whether a multiprocessor has room for one block: nothing hides its ends.
    single: bool,
}

impl Pace {
    fn of(variant: Variant, tile: Tile) -> Self {
        let (alone, each) = match (variant, tile) {
            (Variant::Split, Tile::Large) => (8750, 8750),
            (Variant::Split, Tile::Medium) => (3530, 2270),
            (Variant::Split, Tile::Small) => (800, 520),
            (Variant::Tf32, Tile::Large) => (3950, 3950),
            (Variant::Tf32, Tile::Medium) => (1750, 1750),
            (Variant::Tf32, Tile::Small) => (730, 520),
            (Variant::Ffma, Tile::Large | Tile::Medium) => (6500, 4910),
            (Variant::Ffma, Tile::Small) => (2030, 900),
            (Variant::Bf16 | Variant::F16, Tile::Large) => (1750, 1750),
            (Variant::Bf16 | Variant::F16, Tile::Medium) => (850, 850),
            (Variant::Bf16 | Variant::F16, Tile::Small) => (380, 260),
        };
        let ends = match tile {
            Tile::Large => 5000,
            Tile::Medium => 2500,
            Tile::Small => 1000,
        };
        Self {
            alone,
            each,
            ends,
            single: tile == Tile::Large,
        }
    }

    /// Cycles until the last of so many blocks of a multiprocessor is done.
    fn cycles(&self, blocks: usize, inputs: usize) -> usize {
        let steps = inputs.div_ceil(64);
        match self.single {
            true => blocks * (steps * self.each + self.ends),
            false => steps * self.alone.max(blocks * self.each) + self.ends,
        }
    }
}

/// The tile with which linear layers that are launched together are done first.
pub fn tile(variant: Variant, shapes: &[ProductShape], processors: u32) -> Tile {
    let cycles = |tile: &Tile| {
        let blocks = shapes.iter().map(|shape| tile.blocks(*shape));
        let blocks: usize = blocks.map(|[across, down]| across * down).sum();
        let inputs = shapes.iter().map(|shape| shape.inputs).max();
        let most = blocks.div_ceil(processors.max(1) as usize);
        Pace::of(variant, *tile).cycles(most, inputs.unwrap_or(0))
    };
    let tiles = Tile::of_linear(variant).iter().copied();
    tiles.min_by_key(cycles).unwrap_or(Tile::Small)
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

/// Queues linear layers that read no result of each other: as many as a launch takes at a time, where they
/// are of one arithmetic.
pub(super) fn linears(cuda: &Cuda, linears: &[(&Linear<'_, Matrix>, &Matrix)]) {
    let some = linears.iter().copied();
    let mut rest: Vec<_> = some
        .filter(|(linear, _)| !linear.rows.is_empty() && !linear.columns.is_empty())
        .collect();
    while let Some(first) = rest.first() {
        let kind = |(linear, out): &(&Linear<'_, Matrix>, &Matrix)| {
            let variant = cuda.variant(cuda.weights.linear(linear.weight).0.inputs);
            (variant, out.element)
        };
        let alike = rest.iter().take_while(|other| kind(other) == kind(first));
        let count = alike.take(PARTS).count();
        let parts: Vec<_> = rest.drain(..count).collect();
        together(cuda, &parts);
    }
}

/// Linear layers of a launch.
const PARTS: usize = 3;

fn together(cuda: &Cuda, parts: &[(&Linear<'_, Matrix>, &Matrix)]) {
    let [(first, out), ..] = parts else { return };
    let shapes: Vec<ProductShape> = parts
        .iter()
        .map(|(linear, _)| ProductShape {
            rows: linear.rows.len(),
            inputs: cuda.weights.linear(linear.weight).0.inputs,
            columns: linear.columns.len(),
        })
        .collect();
    let variant = cuda.variant(cuda.weights.linear(first.weight).0.inputs);
    let tile = cuda.tile(variant, &shapes);
    let kernel = Kernel::Linear {
        variant,
        tile,
        wide: variant.element() != Element::F32 && out.element == Element::F32,
    };
    let grids = shapes.iter().map(|shape| tile.blocks(*shape));
    let [x, y] = grids.fold([0, 0], |[x, y], [across, down]| {
        [x.max(across), y.max(down)]
    });
    let grid = [number(x), number(y), number(parts.len())];
    let flops = shapes
        .iter()
        .map(|s| 2 * (s.rows * s.inputs * s.columns) as u64);
    cuda.record(flops.sum(), |queue| {
        let first_part = part(cuda, queue, first, out);
        let mut others = parts[1..].iter();
        // what no block looks at
        let mut next = || match others.next() {
            Some((linear, out)) => part(cuda, queue, linear, out),
            None => first_part,
        };
        let arguments = LinearArgs {
            first: first_part,
            second: next(),
            third: next(),
        };
        Launch::new(kernel, grid, tile.block(), tile.linear_shared(), arguments)
    });
}

fn part(cuda: &Cuda, queue: &mut Queue, linear: &Linear<'_, Matrix>, out: &Matrix) -> LinearPart {
    let (weight, first, bias) = cuda.weights.linear(linear.weight);
    let first = first + linear.columns.start;
    let (finish, residual) = match &linear.epilogue {
        Epilogue::None => (Finish::Plain, arguments::Rows::NONE),
        Epilogue::Activate => (Finish::Activate, arguments::Rows::NONE),
        Epilogue::Residual(residual) => (Finish::Residual, rows(queue, residual)),
    };
    LinearPart {
        operands: Operands {
            input: linear.input.view(),
            rows: queue.table(linear.rows),
            weight: weight.row(first),
            ids: Pointer::NULL,
            count: number(linear.rows.len()),
            inputs: number(weight.inputs),
            columns: number(linear.columns.len()),
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variant: Variant, rows: usize, inputs: usize, columns: usize) -> Tile {
        let shape = ProductShape {
            rows,
            inputs,
            columns,
        };
        tile(variant, &[shape], 132)
    }

    #[test]
    fn the_number_of_rows_chooses_a_tile_and_no_arithmetic() {
        for variant in [Variant::Split, Variant::Tf32, Variant::Bf16, Variant::F16] {
            assert_eq!(chosen(variant, 1, 768, 768), Tile::Small);
            assert_eq!(chosen(variant, 16, 768, 768), Tile::Small);
            assert_eq!(chosen(variant, 1000, 768, 768), Tile::Medium);
            assert_eq!(chosen(variant, 8448, 3072, 3072), Tile::Large);
        }
        assert_eq!(chosen(Variant::Ffma, 1, 768, 768), Tile::Small);
        assert_eq!(chosen(Variant::Ffma, 8448, 3072, 3072), Tile::Medium);
        assert_eq!(variant(Precision::F32, 90, 768), Variant::Split);
        assert_eq!(variant(Precision::F32, 90, 48), Variant::Ffma);
        assert_eq!(variant(Precision::F32, 86, 768), Variant::Ffma);
    }

    #[test]
    fn layers_that_are_launched_together_choose_together() {
        let shape = ProductShape {
            rows: 120,
            inputs: 768,
            columns: 768,
        };
        let of = |count: usize| tile(Variant::Bf16, &vec![shape; count], 132);
        assert_eq!(of(1), Tile::Small);
        assert_eq!(of(3), Tile::Medium);
    }

    #[test]
    fn a_tile_that_there_is_not_is_the_next_smaller_or_else_larger() {
        assert_eq!(
            Tile::Large.among(Tile::of_linear(Variant::Ffma)),
            Tile::Medium
        );
        assert_eq!(Tile::Medium.among(&Tile::OF_READOUT), Tile::Small);
        assert_eq!(Tile::Small.among(&Tile::OF_READOUT), Tile::Small);
        assert_eq!(Tile::Small.among(&[Tile::Large]), Tile::Large);
    }
}
