//! Launches that encode rows in a basis and decode them.

use super::Cuda;
use super::kernels::Kernel;
use super::matrix::Matrix;
use super::queue::Launch;
use super::rows::{Constants, views};
use crate::backend::{BasisOn, Place, Probe};
use crate::plan::writes::Operand;

/// Rows and columns of a block's tile.
const TILE: usize = 64;
/// The row of a stretch that does not count.
const NO_ROW: u32 = u32::MAX;

/// A row that is encoded, as kernels read it. Mirrors `Probe` in kernels/basis.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct DeviceProbe {
    row: u32,
    column: u32,
    operand: u32,
    slot: u32,
    operand_column: u64,
    operand_row: u32,
    padding: u32,
}

impl From<&Probe> for DeviceProbe {
    fn from(probe: &Probe) -> Self {
        let (row, column) = match probe.standing {
            Some((row, column)) => (row as u32, column as u32),
            None => (NO_ROW, 0),
        };
        let (operand, slot, operand_row, operand_column) = match probe.read {
            Operand::None => (0, 0, 0, 0),
            Operand::Kept { slot, row, column } => (1, slot, row, column),
            Operand::Constant(offset) => (2, 0, 0, offset),
        };
        Self {
            row,
            column,
            operand,
            slot: slot as u32,
            operand_column: operand_column as u64,
            operand_row: operand_row as u32,
            padding: 0,
        }
    }
}

/// Where a decoded row goes. Mirrors `Place` in kernels/basis.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct DevicePlace {
    row: u32,
    column: u32,
}

fn pointer(matrix: &Option<Matrix>) -> u64 {
    matrix.as_ref().map_or(0, |matrix| matrix.view().data)
}

fn grid(rows: usize, columns: usize) -> [u32; 3] {
    [rows.div_ceil(TILE) as u32, columns.div_ceil(TILE) as u32, 1]
}

pub fn encode(
    cuda: &Cuda,
    basis: &BasisOn<Matrix>,
    probes: &[Probe],
    matrix: &Matrix,
    (kept, constants): (&[Matrix], &Constants),
    out: &Matrix,
) {
    if probes.is_empty() {
        return;
    }
    cuda.record(basis.flops(probes.len()), |queue| {
        let list: Vec<DeviceProbe> = probes.iter().map(DeviceProbe::from).collect();
        let (list, kept) = (queue.table(&list), views(queue, kept, matrix.element));
        let grid = grid(probes.len(), basis.coordinates);
        Launch::new(Kernel::Encode(matrix.element), grid, 256, 0)
            .table(list)
            .integer(probes.len())
            .view(matrix.view())
            .table(kept)
            .pointer(constants.pointer(super::matrix::Element::F32))
            .integer(basis.width)
            .pointer(pointer(&basis.shift))
            .pointer(pointer(&basis.spread))
            .pointer(pointer(&basis.encoder))
            .integer(basis.coordinates)
            .pointer(pointer(&basis.bias))
            .pointer(pointer(&basis.threshold))
            .integer(usize::from(basis.rectified))
            .view(out.view())
    });
}

pub fn decode(
    cuda: &Cuda,
    basis: &BasisOn<Matrix>,
    coordinates: &Matrix,
    places: &[Place],
    matrix: &Matrix,
) {
    if places.is_empty() {
        return;
    }
    cuda.record(basis.flops(places.len()), |queue| {
        let place = |(row, column): &Place| DevicePlace {
            row: *row as u32,
            column: *column as u32,
        };
        let list = queue.table(&places.iter().map(place).collect::<Vec<_>>());
        let grid = grid(places.len(), basis.width);
        Launch::new(Kernel::Decode(matrix.element), grid, 256, 0)
            .view(coordinates.view())
            .integer(basis.coordinates)
            .table(list)
            .integer(places.len())
            .pointer(pointer(&basis.decoder))
            .integer(basis.width)
            .pointer(pointer(&basis.gain))
            .pointer(pointer(&basis.offset))
            .integer(usize::from(basis.by_difference))
            .view(matrix.view())
    });
}
