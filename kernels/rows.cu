// Row-wise operations that move numbers, or change each by itself: gather and keep, sums, activation
// functions, and the comparison that finds dead patches. Twins in src/backend/cpu/backend.rs.
//
// All are limited by memory: a warp takes a row, 16 bytes a lane, so that a row's place is looked up
// once and its accesses are contiguous.
#include "activation.cuh"
#include "vector.cuh"

// ---- gather and keep --------------------------------------------------------------------------

template <bool whole, class T>
DEVICE void copy_row(const RowOf<const T> &from, const RowOf<T> &to, uint32_t width) {
  constexpr uint32_t N = WIDE<T>;
#pragma unroll 4
  for (uint32_t column = threadIdx.x % WARP * N; column < width; column += WARP * N) {
    Vector<T, N> x;
    load<whole>(x, from, column, width);
    store<whole>(x, to, column, width);
  }
}

template <class T>
DEVICE void gather(const View<const T> &own, const View<const T> &trace, const uint32_t *refs,
                   uint32_t first, const uint32_t *places, uint32_t count, uint32_t width,
                   const View<T> &out) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t i = warp_row();
  if (i >= count) return;
  RowOf<const T> from = row_of(own, trace, refs[i]);
  RowOf<T> to(out, places ? places[i] : first + i);
  if (width % N == 0 && in_vectors<N>(own) && in_vectors<N>(trace) && in_vectors<N>(out))
    copy_row<true>(from, to, width);
  else
    copy_row<false>(from, to, width);
}

// Row (places ? places[i] : first + i) of out = row refs[i]. Serves gather, and keep by `places`.
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) gather_f32(
    View<const float> own,
    View<const float> trace,
    const uint32_t *__restrict__ refs,
    uint32_t first,
    const uint32_t *__restrict__ places,
    uint32_t count,
    uint32_t width,
    View<float> out) {
  gather<float>(own, trace, refs, first, places, count, width, out);
}

// launch: as gather_f32
extern "C" __global__ void __launch_bounds__(256) gather_bf16(
    View<const bf16> own,
    View<const bf16> trace,
    const uint32_t *__restrict__ refs,
    uint32_t first,
    const uint32_t *__restrict__ places,
    uint32_t count,
    uint32_t width,
    View<bf16> out) {
  gather<bf16>(own, trace, refs, first, places, count, width, out);
}

// launch: as gather_f32
extern "C" __global__ void __launch_bounds__(256) gather_f16(
    View<const f16> own,
    View<const f16> trace,
    const uint32_t *__restrict__ refs,
    uint32_t first,
    const uint32_t *__restrict__ places,
    uint32_t count,
    uint32_t width,
    View<f16> out) {
  gather<f16>(own, trace, refs, first, places, count, width, out);
}

// ---- sums -------------------------------------------------------------------------------------

template <bool whole>
DEVICE void add_row(const RowOf<const float> &a, const RowOf<const float> &b, const RowOf<float> &out,
                    uint32_t width) {
#pragma unroll 2
  for (uint32_t column = threadIdx.x % WARP * 4; column < width; column += WARP * 4) {
    Vector<float, 4> x, y;
    load<whole>(x, a, column, width);
    load<whole>(y, b, column, width);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) x.at[i] = x.at[i] + y.at[i];
    store<whole>(x, out, column, width);
  }
}

// Row i of out = row a_refs[i] of a + row b_refs[i] of b.
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) add(
    View<const float> a_own,
    View<const float> a_trace,
    const uint32_t *__restrict__ a_refs,
    View<const float> b_own,
    View<const float> b_trace,
    const uint32_t *__restrict__ b_refs,
    uint32_t count,
    uint32_t width,
    View<float> out) {
  uint32_t i = warp_row();
  if (i >= count) return;
  RowOf<const float> a = row_of(a_own, a_trace, a_refs[i]);
  RowOf<const float> b = row_of(b_own, b_trace, b_refs[i]);
  RowOf<float> to(out, i);
  if (width % 4 == 0 && in_vectors<4>(a_own) && in_vectors<4>(a_trace) && in_vectors<4>(b_own) &&
      in_vectors<4>(b_trace) && in_vectors<4>(out))
    add_row<true>(a, b, to, width);
  else
    add_row<false>(a, b, to, width);
}

// ---- activation functions ---------------------------------------------------------------------

template <bool whole, class T>
DEVICE void activate_row(const RowOf<const T> &from, const RowOf<T> &to, uint32_t width,
                         uint32_t activation) {
  constexpr uint32_t N = WIDE<T>;
  for (uint32_t column = threadIdx.x % WARP * N; column < width; column += WARP * N) {
    Vector<T, N> x;
    load<whole>(x, from, column, width);
#pragma unroll
    for (uint32_t i = 0; i < N; ++i) narrow(activate(activation, widen(x.at[i])), x.at[i]);
    store<whole>(x, to, column, width);
  }
}

template <class T>
DEVICE void activate_rows(const View<const T> &pre, const uint32_t *rows, uint32_t count,
                          uint32_t width, uint32_t activation, const View<T> &out) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t i = warp_row();
  if (i >= count) return;
  RowOf<const T> from(pre, rows[i]);
  RowOf<T> to(out, i);
  if (width % N == 0 && in_vectors<N>(pre) && in_vectors<N>(out))
    activate_row<true>(from, to, width, activation);
  else
    activate_row<false>(from, to, width, activation);
}

// Row i of out = activation of row rows[i] of pre; codes in activation.cuh.
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) activate_f32(
    View<const float> pre,
    const uint32_t *__restrict__ rows,
    uint32_t count,
    uint32_t width,
    uint32_t activation,
    View<float> out) {
  activate_rows<float>(pre, rows, count, width, activation, out);
}

// launch: as activate_f32
extern "C" __global__ void __launch_bounds__(256) activate_bf16(
    View<const bf16> pre,
    const uint32_t *__restrict__ rows,
    uint32_t count,
    uint32_t width,
    uint32_t activation,
    View<bf16> out) {
  activate_rows<bf16>(pre, rows, count, width, activation, out);
}

// launch: as activate_f32
extern "C" __global__ void __launch_bounds__(256) activate_f16(
    View<const f16> pre,
    const uint32_t *__restrict__ rows,
    uint32_t count,
    uint32_t width,
    uint32_t activation,
    View<f16> out) {
  activate_rows<f16>(pre, rows, count, width, activation, out);
}

// ---- comparison -------------------------------------------------------------------------------

// Two stretches of rows of two matrices of a list. Mirrors `Comparison` in src/backend/cuda.
struct Comparison {
  uint32_t a_matrix, a_row, a_column;
  uint32_t b_matrix, b_row, b_column;
  uint32_t length;
  uint32_t _pad;
};

DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
DEVICE uint32_t bits_of(bf16 x) { return x.bits; }
DEVICE uint32_t bits_of(f16 x) { return x.bits; }

template <bool whole, class T>
DEVICE uint32_t differing_bits(const RowOf<const T> &a, uint32_t a_column, const RowOf<const T> &b,
                               uint32_t b_column, uint32_t length) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t different = 0;
#pragma unroll 2
  for (uint32_t i = threadIdx.x % WARP * N; i < length; i += WARP * N) {
    Vector<T, N> x, y;
    load<whole>(x, a, a_column + i, a_column + length);
    load<whole>(y, b, b_column + i, b_column + length);
#pragma unroll
    for (uint32_t j = 0; j < N; ++j) different |= bits_of(x.at[j]) ^ bits_of(y.at[j]);
  }
  return different;
}

template <class T>
DEVICE void same(const Comparison *list, const View<const T> *matrices, uint32_t count,
                 uint32_t *flags) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t i = warp_row();
  if (i >= count) return;
  Comparison c = list[i];
  View<const T> a = matrices[c.a_matrix], b = matrices[c.b_matrix];
  RowOf<const T> x(a, c.a_row), y(b, c.b_row);
  uint32_t different;
  if ((c.a_column | c.b_column | c.length) % N == 0 && in_vectors<N>(a) && in_vectors<N>(b))
    different = differing_bits<true>(x, c.a_column, y, c.b_column, c.length);
  else
    different = differing_bits<false>(x, c.a_column, y, c.b_column, c.length);
#pragma unroll
  for (uint32_t offset = WARP / 2; offset > 0; offset /= 2)
    different |= __shfl_xor_sync(ALL_LANES, different, offset);
  if (threadIdx.x % WARP == 0) flags[i] = different == 0;
}

// flags[i] = 1 if the two stretches of list[i] are equal bit for bit (−0 ≠ 0, NaN = NaN), else 0.
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) same_f32(
    const Comparison *__restrict__ list,
    const View<const float> *__restrict__ matrices,
    uint32_t count,
    uint32_t *__restrict__ flags) {
  same<float>(list, matrices, count, flags);
}

// launch: as same_f32
extern "C" __global__ void __launch_bounds__(256) same_bf16(
    const Comparison *__restrict__ list,
    const View<const bf16> *__restrict__ matrices,
    uint32_t count,
    uint32_t *__restrict__ flags) {
  same<bf16>(list, matrices, count, flags);
}

// launch: as same_f32
extern "C" __global__ void __launch_bounds__(256) same_f16(
    const Comparison *__restrict__ list,
    const View<const f16> *__restrict__ matrices,
    uint32_t count,
    uint32_t *__restrict__ flags) {
  same<f16>(list, matrices, count, flags);
}
