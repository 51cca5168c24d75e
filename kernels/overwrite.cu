// Overwrites of a stage's buffer, in place: what a patch does. Twin of `overwrite` in
// src/backend/cpu/backend.rs; the operators are in overwrite.cuh.
//
// A warp takes one row's writes, in listed order. Column c belongs to lane (c / N) % 32, N being the
// numbers in 16 bytes, for every write, aligned or not.
#include "overwrite.cuh"

// One write, in vectors: its stretch, the operand and both matrices lie on vector boundaries.
template <class T>
DEVICE void overwrite_vectors(const Write &write, const RowOf<T> &row, const Operand<T> &operand) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t end = write.column + write.length;
  uint32_t block = write.column / (WARP * N) * (WARP * N);
  for (uint32_t column = block + threadIdx.x % WARP * N; column < end; column += WARP * N) {
    if (column < write.column) continue;
    Vector<T, N> b{}, s{};
    if (reads_standing(write)) load<true>(b, row, column, end);
    if (write.operand != NO_OPERAND) load<true>(s, operand, column - write.column, write.length);
#pragma unroll
    for (uint32_t i = 0; i < N; ++i) b.at[i] = overwritten(write, b.at[i], s.at[i]);
    store<true>(b, row, column, end);
  }
}

// One write, number by number.
template <class T>
DEVICE void overwrite_numbers(const Write &write, const RowOf<T> &row, const Operand<T> &operand) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t end = write.column + write.length;
  uint32_t block = write.column / (WARP * N) * (WARP * N);
  for (uint32_t vector = block + threadIdx.x % WARP * N; vector < end; vector += WARP * N) {
    for (uint32_t column = vector; column < vector + N; ++column) {
      if (column < write.column || column >= end) continue;
      T b{}, s{};
      if (reads_standing(write)) b = *row.at(column);
      if (write.operand != NO_OPERAND) s = *operand.at(column - write.column);
      *row.at(column) = overwritten(write, b, s);
    }
  }
}

template <class T>
DEVICE bool operand_in_vectors(const Write &write, const View<const T> *kept, const T *constants) {
  constexpr uint32_t N = WIDE<T>;
  if (write.operand == NO_OPERAND) return true;
  if (write.operand_column % N != 0) return false;
  return write.operand == KEPT_OPERAND ? in_vectors<N>(kept[write.slot]) : uint64_t(constants) % 16 == 0;
}

template <class T>
DEVICE void overwrite(const View<T> &matrix, const Write *writes, const uint32_t *first,
                      uint32_t groups, const View<const T> *kept, const T *constants) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t group = warp_row();
  if (group >= groups) return;
  bool vectors = in_vectors<N>(matrix);
  for (uint32_t i = first[group]; i < first[group + 1]; ++i) {
    Write write = writes[i];
    RowOf<T> row(matrix, write.row);
    Operand<T> operand(write, kept, constants);
    if (vectors && (write.column | write.length) % N == 0 &&
        operand_in_vectors(write, kept, constants))
      overwrite_vectors(write, row, operand);
    else
      overwrite_numbers(write, row, operand);
  }
}

// Group g = writes[first[g]] … writes[first[g + 1] − 1], all of one row that no other group writes,
// act in listed order. Operands: matrices of `kept`, or `constants`.
// launch: block 128, grid ⌈groups / 4⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(128) overwrite_f32(
    View<float> matrix,
    const Write *__restrict__ writes,
    const uint32_t *__restrict__ first,
    uint32_t groups,
    const View<const float> *__restrict__ kept,
    const float *__restrict__ constants) {
  overwrite<float>(matrix, writes, first, groups, kept, constants);
}

// launch: as overwrite_f32
extern "C" __global__ void __launch_bounds__(128) overwrite_bf16(
    View<bf16> matrix,
    const Write *__restrict__ writes,
    const uint32_t *__restrict__ first,
    uint32_t groups,
    const View<const bf16> *__restrict__ kept,
    const bf16 *__restrict__ constants) {
  overwrite<bf16>(matrix, writes, first, groups, kept, constants);
}

// launch: as overwrite_f32
extern "C" __global__ void __launch_bounds__(128) overwrite_f16(
    View<f16> matrix,
    const Write *__restrict__ writes,
    const uint32_t *__restrict__ first,
    uint32_t groups,
    const View<const f16> *__restrict__ kept,
    const f16 *__restrict__ constants) {
  overwrite<f16>(matrix, writes, first, groups, kept, constants);
}
