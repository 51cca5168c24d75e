//! Operators applied to stretches of rows, in place.

use super::matrix::{Buffer, read};
use super::real::Real;
use crate::plan::edit::EditOp;
use crate::plan::writes::Write;

/// Does one write to the row that it names.
pub fn write<T: Real>(write: &Write, row: &mut [T], kept: &[Buffer<T>], constants: &[T]) {
    let operand = read(write.operand, write.length, kept, constants);
    apply(write.op, &mut row[write.column..][..write.length], operand);
}

/// Applies one operator: b is the value that stands, s the operand (empty if there is none).
#[inline(always)]
fn apply<T: Real>(op: EditOp, b: &mut [T], s: &[T]) {
    let pairs =
        |b: &mut [T], f: &dyn Fn(T, T) -> T| b.iter_mut().zip(s).for_each(|(b, s)| *b = f(*b, *s));
    match op {
        EditOp::Set => b.copy_from_slice(s),
        EditOp::Fill(x) => b.fill(T::from_f64(x)),
        EditOp::Add => pairs(b, &|b, s| b + s),
        EditOp::Subtract => pairs(b, &|b, s| b - s),
        EditOp::Scale(x) => {
            let x = T::from_f64(x);
            b.iter_mut().for_each(|b| *b = *b * x);
        }
        EditOp::Interpolate(alpha) => {
            let alpha = T::from_f64(alpha);
            pairs(b, &|b, s| alpha.mul_add(s - b, b));
        }
    }
}
