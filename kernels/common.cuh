// What all kernels share: the words, and how a row is found and its numbers are accessed.
//
//     row       one run's position in a packed buffer; result m of a product is row m
//     own       the chunk's own buffer of a stage of the computation
//     cache     the activation cache's matrix of that stage: rows of clean runs
//     refs      for each row that is read, which of the two it is in, and where
//     stage     so much of K, or so many keys, as stand in shared memory at once, in a slot
//     epilogue  what happens to a sum on its way out
//     head      d columns of query, key, value or z; its scores q · k become, by the softmax, its pattern
//
// Rows are accessed in vectors of a few numbers: 16 bytes at once where addresses allow it, number by
// number elsewhere. Which of the two is taken never changes which lane works on which column, nor an
// order of summation, so that results do not depend on how a matrix lies in memory.
#pragma once

#include "device.cuh"

#include "arguments.cuh"

constexpr uint32_t ALL_LANES = 0xffffffffu;

// Multiply-adds in f32 are summed in chains of so many of K, as on the CPU.
constexpr uint32_t CHAIN = 256;

// A kernel that launches know by its name, of at most so many threads a block (and at least so many blocks
// a multiprocessor). Its one argument is of arguments.cuh, in constant memory.
#define KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)

// N numbers side by side.
template <class T, uint32_t N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

// Accessed whole: a vector as the one word that the hardware moves.
template <uint32_t bytes>
struct WordOf;
template <>
struct WordOf<16> {
  using Type = uint4;
};
template <>
struct WordOf<8> {
  using Type = uint2;
};

template <class T, uint32_t N>
DEVICE void read_whole(Vector<T, N> &x, const T *from) {
  using Word = typename WordOf<sizeof(T) * N>::Type;
  Word word = *reinterpret_cast<const Word *>(from);
  __builtin_memcpy(&x, &word, sizeof(x));
}

template <class T, uint32_t N>
DEVICE void write_whole(const Vector<T, N> &x, T *to) {
  using Word = typename WordOf<sizeof(T) * N>::Type;
  Word word;
  __builtin_memcpy(&word, &x, sizeof(x));
  *reinterpret_cast<Word *>(to) = word;
}

// The row that this warp takes, where a warp takes one.
DEVICE uint32_t warp_row() {
  return blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}

// Numbers in 16 bytes.
template <class T>
constexpr uint32_t WIDE = 16 / sizeof(T);

// Whether vectors of N numbers at columns that are multiples of N can be accessed whole, in any row.
// (Bytes that must be multiples are gathered in one word: a common divisor of all divides their or.)
template <uint32_t N, class T>
DEVICE bool in_vectors(const View<T> &matrix) {
  uint64_t bytes = matrix.segment_stride | matrix.row_stride | matrix.segment;
  return ((uint64_t(matrix.data) | bytes * sizeof(T)) & (sizeof(T) * N - 1)) == 0;
}

template <uint32_t N, class T>
DEVICE bool in_vectors(const Rows<T> &rows) {
  return in_vectors<N>(rows.own) && in_vectors<N>(rows.cache);
}

// How many numbers behind its matrix's first a row begins: beyond 2^32 where rows are many or wide.
DEVICE constexpr uint64_t row_offset(uint32_t row, uint32_t stride) { return uint64_t(row) * stride; }
static_assert(row_offset(1u << 20, 1u << 13) == uint64_t(1) << 33, "offsets have 64 bits");
static_assert(row_offset(0xffffffffu, 0xffffffffu) == 0xfffffffe00000001u, "offsets have 64 bits");

// A row of a matrix; `at` saves the division where a row is one stretch.
template <class T>
struct RowOf {
  T *data;
  uint64_t segment_stride;
  uint32_t segment;

  DEVICE RowOf(const View<T> &matrix, uint32_t row)
      : data(matrix.data + row_offset(row, matrix.row_stride)),
        segment_stride(matrix.segment_stride),
        segment(matrix.segment) {}

  DEVICE T *at(uint32_t column) const {
    if (column < segment) return data + column;
    return data + uint64_t(column / segment) * segment_stride + column % segment;
  }
};

// The row that an entry of `refs` names.
template <class T>
DEVICE RowOf<const T> row_at(const Rows<T> &rows, uint32_t ref) {
  return ref & CACHE_ROW ? RowOf<const T>(rows.cache, ref & ~CACHE_ROW) : RowOf<const T>(rows.own, ref);
}

// The i-th of some rows.
template <class T>
DEVICE RowOf<const T> row_of(const Rows<T> &rows, uint32_t i) {
  return row_at(rows, __ldg(rows.refs + i));
}

// Columns column … column + N − 1 of a row of `width` columns; those past its end are 0, unread.
template <bool whole, uint32_t N, class T, class Row>
DEVICE void load(Vector<T, N> &x, const Row &row, uint32_t column, uint32_t width) {
  if (whole) {
    read_whole(x, row.at(column));
  } else {
#pragma unroll
    for (uint32_t i = 0; i < N; ++i) {
      x.at[i] = T{};
      if (column + i < width) x.at[i] = *row.at(column + i);
    }
  }
}

template <bool whole, uint32_t N, class T, class Row>
DEVICE void store(const Vector<T, N> &x, const Row &row, uint32_t column, uint32_t width) {
  if (whole) {
    write_whole(x, row.at(column));
  } else {
#pragma unroll
    for (uint32_t i = 0; i < N; ++i)
      if (column + i < width) *row.at(column + i) = x.at[i];
  }
}

// A row-major vector of numbers, in a row's place.
template <class T>
struct Plain {
  T *data;
  DEVICE T *at(uint32_t column) const { return data + column; }
};

// One that no kernel writes, such as a layer norm's weight: it is read without waiting for stores.
template <class T>
struct Fixed {
  const T *data;
  DEVICE const T *at(uint32_t column) const { return data + column; }
};

template <bool whole, uint32_t N, class T>
DEVICE void load(Vector<T, N> &x, const Fixed<T> &row, uint32_t column, uint32_t width) {
  if (whole) {
    using Word = typename WordOf<sizeof(T) * N>::Type;
    Word word = __ldg(reinterpret_cast<const Word *>(row.at(column)));
    __builtin_memcpy(&x, &word, sizeof(x));
  } else {
#pragma unroll
    for (uint32_t i = 0; i < N; ++i) x.at[i] = column + i < width ? __ldg(row.at(column + i)) : T{};
  }
}

// Σ over a warp, in every lane. Partners add the same two numbers, so that all lanes hold the same bits.
DEVICE float warp_sum(float x) {
#pragma unroll
  for (uint32_t offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
  return x;
}

DEVICE float warp_max(float x) {
#pragma unroll
  for (uint32_t offset = WARP / 2; offset > 0; offset /= 2)
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, offset));
  return x;
}
