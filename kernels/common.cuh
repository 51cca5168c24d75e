// The words that every kernel shares: how a matrix lies in memory, and which row a table means.
#pragma once

#include "device.cuh"

constexpr uint32_t WARP = 32;
constexpr uint32_t ALL_LANES = 0xffffffffu;

// A matrix of rows whose columns lie in stretches of `segment`:
//
//     (row, column) at  (column / segment) · segment_stride + row · row_stride + column % segment
//
// Row-major matrices have one stretch, as wide as they are. Query, key, value and z have a stretch
// for each head, [head][row][d], so that a head's rows are contiguous and an overwrite of one head
// touches nothing between. Mirrors `View` in src/backend/cuda/matrix.rs.
template <class T>
struct View {
  T *data;
  uint64_t segment_stride;
  uint32_t row_stride;
  uint32_t segment;

  DEVICE T *at(uint32_t row, uint32_t column) const {
    return data + uint64_t(column / segment) * segment_stride + uint64_t(row) * row_stride +
           column % segment;
  }
};

// A table entry that names a row: the chunk's own, or with the top bit set the trace's.
constexpr uint32_t TRACE_ROW = 0x80000000u;

// Rows of two matrices, the chunk's own and the trace's. Mirrors `Rows` in src/backend/mod.rs.
template <class T>
DEVICE const T *row_at(const View<const T> &own, const View<const T> &trace, uint32_t ref,
                       uint32_t column) {
  return ref & TRACE_ROW ? trace.at(ref & ~TRACE_ROW, column) : own.at(ref, column);
}
