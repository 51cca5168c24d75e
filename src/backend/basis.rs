//! What backends know of bases: the numbers on the device, and which rows go through them.

use super::{Backend, Store};
use crate::basis::Basis;
use crate::plan::writes::Operand;

/// A basis on a device, as [`Basis`] describes it, with room for coordinates.
#[derive(Debug)]
pub struct BasisOn<M> {
    /// n: numbers of a row.
    pub width: usize,
    /// k: coordinates.
    pub coordinates: usize,
    /// `[1, n]`: taken from rows before they are encoded.
    pub shift: Option<M>,
    /// `[1, n]`: what they are divided by after that.
    pub spread: Option<M>,
    /// `[n, k]`; without it coordinates are the row's own numbers.
    pub encoder: Option<M>,
    /// `[1, k]`: added to coordinates.
    pub bias: Option<M>,
    /// `[1, k]`: coordinates not above it are 0.
    pub threshold: Option<M>,
    /// Whether negative coordinates are 0.
    pub rectified: bool,
    /// `[k, n]`, there where the encoder is.
    pub decoder: Option<M>,
    /// `[1, n]`: what is decoded is multiplied by it.
    pub gain: Option<M>,
    /// `[1, n]`: added after that.
    pub offset: Option<M>,
    /// Whether what is decoded is added to the row that stands; it replaces it otherwise.
    pub by_difference: bool,
}

impl<M> BasisOn<M> {
    /// Brings a basis to a device.
    pub fn new<B: Backend<Matrix = M>>(backend: &B, basis: &Basis) -> Self {
        let matrix = |rows: usize, values: &Option<Vec<f64>>| {
            let upload = |values: &Vec<f64>| {
                backend.upload(rows, values.len() / rows, Store::Residual, values)
            };
            values.as_ref().map(upload)
        };
        Self {
            width: basis.width,
            coordinates: basis.coordinates,
            shift: matrix(1, &basis.shift),
            spread: matrix(1, &basis.spread),
            encoder: matrix(basis.width, &basis.encoder),
            bias: matrix(1, &basis.bias),
            threshold: matrix(1, &basis.threshold),
            rectified: basis.rectified,
            decoder: matrix(basis.coordinates, &basis.decoder),
            gain: matrix(1, &basis.gain),
            offset: matrix(1, &basis.offset),
            by_difference: basis.by_difference,
        }
    }

    /// Operations of encoding or decoding some rows.
    pub fn flops(&self, rows: usize) -> u64 {
        match self.encoder {
            Some(_) => 2 * (rows * self.width * self.coordinates) as u64,
            None => 0,
        }
    }
}

/// A row that is encoded: a stretch that stands, one that is read, or the second less the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Row and first column of the stretch that stands, if it counts.
    pub standing: Option<(usize, usize)>,
    /// The one that is read.
    pub read: Operand,
}

/// Where a decoded row goes: row and first column.
pub type RowColumn = (usize, usize);
