//! Functions of the caller's: their rows make a round trip through the host's memory.

use super::Cuda;
use super::matrix::Matrix;
use crate::backend::DeviceError;
use crate::plan::writes::{Call, Operand};

/// Runs what waits, then calls each function with the numbers that stand, and writes what it made of
/// them.
pub fn call(
    cuda: &Cuda,
    matrix: &Matrix,
    calls: &[Call],
    kept: &[Matrix],
) -> Result<(), DeviceError> {
    cuda.flush()?;
    let transfers = &cuda.transfers;
    for call in calls {
        let place = (call.row, call.column);
        let mut b = matrix.read_stretch(transfers, place, call.length)?;
        let s = match call.operand {
            Operand::Kept { slot, row, column } => {
                kept[slot].read_stretch(transfers, (row, column), call.length)?
            }
            Operand::None | Operand::Constant(_) => Vec::new(),
        };
        call.apply(&mut b, &s);
        matrix.write_stretch(transfers, place, &b)?;
    }
    Ok(())
}
