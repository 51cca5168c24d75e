// Operators applied to stretches of a row: what an overwrite does to one number, and which lane of a
// warp does it. Twin of src/backend/cpu/overwrite.rs.
//
// A column belongs to one lane, whichever write touches it. Writes to one row may therefore overlap
// and are still applied in listed order without a barrier between them.
#pragma once

#include "vector.cuh"

// One overwrite of a stretch of a row. Mirrors `Write` in src/backend/cuda.
struct Write {
  uint32_t row;
  uint32_t head;    // for scores and pattern
  uint32_t column;  // first column, or key
  uint32_t length;
  uint32_t op;
  uint32_t operand;
  uint32_t slot;             // the operand's matrix in `kept`,
  uint32_t operand_row;      // its row
  uint64_t operand_column;   // and first column; or the offset into the constants
  float scalar;              // x of scale, α of interpolate
  uint32_t _pad;
};

constexpr uint32_t SET = 0;
constexpr uint32_t ZERO = 1;
constexpr uint32_t ADD = 2;
constexpr uint32_t SUBTRACT = 3;
constexpr uint32_t SCALE = 4;
constexpr uint32_t INTERPOLATE = 5;

constexpr uint32_t NO_OPERAND = 0;
constexpr uint32_t KEPT_OPERAND = 1;
constexpr uint32_t CONSTANT_OPERAND = 2;

// What stands after the operator: b stood there, s is the operand. `set` copies bits, the others
// compute in f32 and round once.
template <class T>
DEVICE T overwritten(const Write &write, T b, T s) {
  float x = widen(b), y = widen(s);
  switch (write.op) {
    case SET:
      return s;
    case ZERO:
      x = 0.0f;
      break;
    case ADD:
      x = x + y;
      break;
    case SUBTRACT:
      x = x - y;
      break;
    case SCALE:
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
DEVICE bool reads_standing(const Write &write) { return write.op != SET && write.op != ZERO; }

// The operand's numbers, from its first on.
template <class T>
struct Operand {
  RowOf<const T> row;
  uint64_t column;

  DEVICE Operand(const Write &write, const View<const T> *kept, const T *constants)
      : row(View<const T>{constants + write.operand_column, 0, 0, ~0u}, 0), column(0) {
    if (write.operand == KEPT_OPERAND) {
      row = RowOf<const T>(kept[write.slot], write.operand_row);
      column = write.operand_column;
    }
  }

  DEVICE const T *at(uint32_t i) const { return row.at(uint32_t(column) + i); }
};
