// Overwrites of a stage's buffer, in place: what a patch does. Twin of `overwrite` in
// src/backend/cpu/backend.rs; the operators are in overwrite.cuh.
//
// A warp takes one row's writes, in listed order. Column c belongs to lane (c / N) % 32, N being the
// numbers in 16 bytes, for every write, aligned or not.
#include "overwrite.cuh"

// One write, in vectors: its stretch, the operand and both matrices lie on vector boundaries.
template <class T>
DEVICE void overwrite_vectors(const Write &write, const RowOf<T> &row, const SourceRow<T> &operand) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t end = write.column + write.length;
  uint32_t block = write.column / (WARP * N) * (WARP * N);
  for (uint32_t column = block + threadIdx.x % WARP * N; column < end; column += WARP * N) {
    if (column < write.column) continue;
    Vector<T, N> b{}, s{};
    if (reads_standing(write)) load<true>(b, row, column, end);
    if (write.source.operand != Operand::NOTHING) load<true>(s, operand, column - write.column, write.length);
#pragma unroll
    for (uint32_t i = 0; i < N; ++i) b.at[i] = overwritten(write, b.at[i], s.at[i]);
    store<true>(b, row, column, end);
  }
}

// One write, number by number.
template <class T>
DEVICE void overwrite_numbers(const Write &write, const RowOf<T> &row, const SourceRow<T> &operand) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t end = write.column + write.length;
  uint32_t block = write.column / (WARP * N) * (WARP * N);
  for (uint32_t vector = block + threadIdx.x % WARP * N; vector < end; vector += WARP * N) {
    for (uint32_t column = vector; column < vector + N; ++column) {
      if (column < write.column || column >= end) continue;
      T b{}, s{};
      if (reads_standing(write)) b = *row.at(column);
      if (write.source.operand != Operand::NOTHING) s = *operand.at(column - write.column);
      *row.at(column) = overwritten(write, b, s);
    }
  }
}

template <class T>
DEVICE bool source_in_vectors(const Source &source, const OverwriteArgs<T> &a) {
  constexpr uint32_t N = WIDE<T>;
  if (source.operand == Operand::NOTHING) return true;
  if (source.column % N != 0) return false;
  return source.operand == Operand::KEPT ? in_vectors<N>(a.kept[source.slot])
                                         : uint64_t(a.constants) % 16 == 0;
}

template <class T>
DEVICE void overwrite(const OverwriteArgs<T> &a) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t group = warp_row();
  if (group >= a.groups) return;
  bool vectors = in_vectors<N>(a.matrix);
  for (uint32_t i = a.first[group]; i < a.first[group + 1]; ++i) {
    Write write = a.writes[i];
    RowOf<T> row(a.matrix, write.row);
    SourceRow<T> operand(write.source, a.kept, a.constants);
    if (vectors && (write.column | write.length) % N == 0 && source_in_vectors(write.source, a))
      overwrite_vectors(write, row, operand);
    else
      overwrite_numbers(write, row, operand);
  }
}

KERNEL(OVERWRITE_THREADS) overwrite_f32(const __grid_constant__ OverwriteArgs<float> a) { overwrite(a); }
KERNEL(OVERWRITE_THREADS) overwrite_bf16(const __grid_constant__ OverwriteArgs<bf16> a) { overwrite(a); }
KERNEL(OVERWRITE_THREADS) overwrite_f16(const __grid_constant__ OverwriteArgs<f16> a) { overwrite(a); }
