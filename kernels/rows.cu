// Row-wise operations that move numbers, or change each by itself: gather and keep, sums, activation
// functions, and the comparison that finds dead patches. Twins in src/backend/cpu/backend.rs.
//
// All are limited by memory: a warp takes a row, 16 bytes a lane, so that a row's place is looked up
// once and its accesses are contiguous.
#include "activation.cuh"

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
DEVICE void gather(const GatherArgs<T> &a) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<const T> from = row_of(a.rows, i);
  RowOf<T> to(a.out, a.places ? a.places[i] : i);
  if (a.width % N == 0 && in_vectors<N>(a.rows) && in_vectors<N>(a.out))
    copy_row<true>(from, to, a.width);
  else
    copy_row<false>(from, to, a.width);
}

KERNEL(ROW_THREADS) gather_f32(const __grid_constant__ GatherArgs<float> a) { gather(a); }
KERNEL(ROW_THREADS) gather_bf16(const __grid_constant__ GatherArgs<bf16> a) { gather(a); }
KERNEL(ROW_THREADS) gather_f16(const __grid_constant__ GatherArgs<f16> a) { gather(a); }

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

KERNEL(ROW_THREADS) add(const __grid_constant__ AddArgs a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<const float> x = row_of(a.a, i), y = row_of(a.b, i);
  RowOf<float> to(a.out, i);
  if (a.width % 4 == 0 && in_vectors<4>(a.a) && in_vectors<4>(a.b) && in_vectors<4>(a.out))
    add_row<true>(x, y, to, a.width);
  else
    add_row<false>(x, y, to, a.width);
}

// ---- activation functions ---------------------------------------------------------------------

template <bool whole, class T>
DEVICE void activate_row(const RowOf<const T> &from, const RowOf<T> &to, uint32_t width,
                         Activation activation) {
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
DEVICE void activate_rows(const ActivateArgs<T> &a) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<const T> from(a.pre, a.rows[i]);
  RowOf<T> to(a.out, i);
  if (a.width % N == 0 && in_vectors<N>(a.pre) && in_vectors<N>(a.out))
    activate_row<true>(from, to, a.width, a.activation);
  else
    activate_row<false>(from, to, a.width, a.activation);
}

KERNEL(ROW_THREADS) activate_f32(const __grid_constant__ ActivateArgs<float> a) { activate_rows(a); }
KERNEL(ROW_THREADS) activate_bf16(const __grid_constant__ ActivateArgs<bf16> a) { activate_rows(a); }
KERNEL(ROW_THREADS) activate_f16(const __grid_constant__ ActivateArgs<f16> a) { activate_rows(a); }

// ---- comparison -------------------------------------------------------------------------------

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
DEVICE void same(const SameArgs<T> &args) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t i = warp_row();
  if (i >= args.count) return;
  Comparison c = args.pairs[i];
  View<const T> a = args.matrices[c.a_matrix], b = args.matrices[c.b_matrix];
  RowOf<const T> x(a, c.a_row), y(b, c.b_row);
  uint32_t different;
  if ((c.a_column | c.b_column | c.length) % N == 0 && in_vectors<N>(a) && in_vectors<N>(b))
    different = differing_bits<true>(x, c.a_column, y, c.b_column, c.length);
  else
    different = differing_bits<false>(x, c.a_column, y, c.b_column, c.length);
#pragma unroll
  for (uint32_t offset = WARP / 2; offset > 0; offset /= 2)
    different |= __shfl_xor_sync(ALL_LANES, different, offset);
  if (threadIdx.x % WARP == 0) args.flags[i] = different == 0;
}

KERNEL(ROW_THREADS) same_f32(const __grid_constant__ SameArgs<float> a) { same(a); }
KERNEL(ROW_THREADS) same_bf16(const __grid_constant__ SameArgs<bf16> a) { same(a); }
KERNEL(ROW_THREADS) same_f16(const __grid_constant__ SameArgs<f16> a) { same(a); }
