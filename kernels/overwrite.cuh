// Operators applied to stretches of a row: what an overwrite does to one number, and which lane of a
// warp does it. Twin of src/backend/cpu/overwrite.rs.
//
// A column belongs to one lane, whichever write touches it. Writes to one row may therefore overlap
// and are still applied in listed order without a barrier between them.
#pragma once

#include "common.cuh"

// What stands after the operator: b stood there, s is the operand. `set` copies bits, the others
// compute in f32 and round once.
template <class T>
DEVICE T overwritten(const Write &write, T b, T s) {
  float x = widen(b), y = widen(s);
  switch (write.op) {
    case Operator::SET:
      return s;
    case Operator::FILL:
      x = write.scalar;
      break;
    case Operator::ADD:
      x = x + y;
      break;
    case Operator::SUBTRACT:
      x = x - y;
      break;
    case Operator::SCALE:
      x = x * write.scalar;
      break;
    default:  // INTERPOLATE
      x = fmaf(write.scalar, y - x, x);
  }
  T result;
  narrow(x, result);
  return result;
}

// Whether the operator reads what stands there.
DEVICE bool reads_standing(const Write &write) {
  return write.op != Operator::SET && write.op != Operator::FILL;
}

// The numbers of a source, from its first on.
template <class T>
struct SourceRow {
  RowOf<const T> row;
  uint64_t column;

  DEVICE SourceRow(const Source &source, const View<const T> *kept, const T *constants)
      : row(View<const T>{constants + source.column, 0, 0, ~0u}, 0), column(0) {
    if (source.operand == Operand::KEPT) {
      row = RowOf<const T>(kept[source.slot], source.row);
      column = source.column;
    }
  }

  DEVICE const T *at(uint32_t i) const { return row.at(uint32_t(column) + i); }
};
