//! Launches that encode rows in a basis and decode them.

use super::Cuda;
use super::arguments::{
    self, Arguments, DecodeArgs, EncodeArgs, NONE, PLAIN_THREADS, PLAIN_TILE, Pointer, Source,
    number,
};
use super::kernels::Kernel;
use super::matrix::{Element, Matrix};
use super::queue::Launch;
use super::rows::{Constants, views};
use crate::backend::{BasisOn, Probe, RowColumn};

impl From<&Probe> for arguments::Probe {
    fn from(probe: &Probe) -> Self {
        let (row, column) = match probe.standing {
            Some((row, column)) => (number(row), number(column)),
            None => (NONE, 0),
        };
        Self {
            source: Source::from(&probe.read),
            row,
            column,
        }
    }
}

fn pointer(matrix: &Option<Matrix>) -> Pointer {
    matrix
        .as_ref()
        .map_or(Pointer::NULL, |matrix| matrix.view().data)
}

fn launch(kernel: Kernel, [rows, columns]: [usize; 2], arguments: impl Into<Arguments>) -> Launch {
    let tiles = |count| number(count).div_ceil(PLAIN_TILE);
    let grid = [tiles(rows), tiles(columns), 1];
    Launch::new(kernel, grid, PLAIN_THREADS, 0, arguments)
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
        let list: Vec<arguments::Probe> = probes.iter().map(arguments::Probe::from).collect();
        let arguments = EncodeArgs {
            probes: queue.table(&list),
            matrix: matrix.view(),
            kept: views(queue, kept, matrix.element),
            constants: constants.pointer(Element::F32),
            shift: pointer(&basis.shift),
            spread: pointer(&basis.spread),
            encoder: pointer(&basis.encoder),
            bias: pointer(&basis.bias),
            threshold: pointer(&basis.threshold),
            out: out.view(),
            count: number(probes.len()),
            width: number(basis.width),
            coordinates: number(basis.coordinates),
            rectified: u32::from(basis.rectified),
        };
        let kernel = Kernel::Encode(matrix.element);
        launch(kernel, [probes.len(), basis.coordinates], arguments)
    });
}

pub fn decode(
    cuda: &Cuda,
    basis: &BasisOn<Matrix>,
    coordinates: &Matrix,
    places: &[RowColumn],
    matrix: &Matrix,
) {
    if places.is_empty() {
        return;
    }
    cuda.record(basis.flops(places.len()), |queue| {
        let place = |(row, column): &RowColumn| arguments::Place {
            row: number(*row),
            column: number(*column),
        };
        let arguments = DecodeArgs {
            from: coordinates.view(),
            places: queue.table(&places.iter().map(place).collect::<Vec<_>>()),
            decoder: pointer(&basis.decoder),
            gain: pointer(&basis.gain),
            offset: pointer(&basis.offset),
            matrix: matrix.view(),
            count: number(places.len()),
            width: number(basis.width),
            coordinates: number(basis.coordinates),
            by_difference: u32::from(basis.by_difference),
        };
        let kernel = Kernel::Decode(matrix.element);
        launch(kernel, [places.len(), basis.width], arguments)
    });
}
