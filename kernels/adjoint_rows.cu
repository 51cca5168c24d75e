// Adjoints that go row by row, and what gradients begin with: zeros, sums, activation functions, the logits of single
// tokens. Twins in src/backend/cpu/adjoint/; layer norm's adjoint is in layer_norm.cu.
//
// A warp takes a row, four numbers a lane. What is added is f32 in every precision.
#include "activation.cuh"

constexpr uint32_t STEP = WARP * 4;  // columns that a warp takes at a time

// Calls body with whether four columns of every matrix can be accessed at once, as a compile-time constant.
struct Whole {
  static constexpr bool is = true;
};
struct Single {
  static constexpr bool is = false;
};
template <class F>
DEVICE void with_vectors(bool vectors, F body) {
  if (vectors)
    body(Whole());
  else
    body(Single());
}

// f(column) for each of the lane's vectors of a row.
template <class F>
DEVICE void each_vector(uint32_t width, F f) {
#pragma unroll 2
  for (uint32_t column = threadIdx.x % WARP * 4; column < width; column += STEP) f(column);
}

// ---- zeros and sums ---------------------------------------------------------------------------

KERNEL(ROW_THREADS) clear(const __grid_constant__ ClearArgs a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<float> row(a.matrix, i);
  with_vectors(a.width % 4 == 0 && in_vectors<4>(a.matrix), [&](auto whole) {
    each_vector(a.width, [&](uint32_t column) {
      store<whole.is>(Vector<float, 4>{}, row, column, a.width);
    });
  });
}

KERNEL(ROW_THREADS) accumulate(const __grid_constant__ AccumulateArgs a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<const float> from(a.from, a.from_rows ? a.from_rows[i] : i);
  RowOf<float> into(a.into, a.rows[i]);
  bool vectors = a.width % 4 == 0 && a.part_stride % 4 == 0 && in_vectors<4>(a.from) && in_vectors<4>(a.into);
  with_vectors(vectors, [&](auto whole) {
    each_vector(a.width, [&](uint32_t column) {
      Vector<float, 4> sum, x;
      load<whole.is>(sum, into, column, a.width);
      RowOf<const float> part = from;
      for (uint32_t p = 0; p < a.parts; ++p, part.data += a.part_stride) {
        load<whole.is>(x, part, column, a.width);
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) sum.at[j] = sum.at[j] + x.at[j];
      }
      store<whole.is>(sum, into, column, a.width);
    });
  });
}

// ---- activation functions ---------------------------------------------------------------------

template <class T>
DEVICE void activate_adjoint(const ActivateAdjointArgs<T> &a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  const uint32_t row = a.rows[i];
  RowOf<const T> pre(a.pre, row);
  RowOf<const float> gradient(a.gradient, row);
  RowOf<float> into(a.into, row);
  bool vectors = a.width % 4 == 0 && in_vectors<4>(a.pre) && in_vectors<4>(a.gradient) && in_vectors<4>(a.into);
  with_vectors(vectors, [&](auto whole) {
    // a loop that is not unrolled: the function's forms are long
#pragma unroll 1
    for (uint32_t column = threadIdx.x % WARP * 4; column < a.width; column += STEP) {
      Vector<T, 4> x;
      Vector<float, 4> g, sum;
      load<whole.is>(x, pre, column, a.width);
      load<whole.is>(g, gradient, column, a.width);
      load<whole.is>(sum, into, column, a.width);
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        const float y = widen(x.at[j]);
        const float slope = a.held ? ratio(a.activation, y) : derivative(a.activation, y);
        sum.at[j] = sum.at[j] + g.at[j] * slope;
      }
      store<whole.is>(sum, into, column, a.width);
    }
  });
}

KERNEL(ROW_THREADS) activate_adjoint_f32(const __grid_constant__ ActivateAdjointArgs<float> a) {
  activate_adjoint(a);
}
KERNEL(ROW_THREADS) activate_adjoint_bf16(const __grid_constant__ ActivateAdjointArgs<bf16> a) {
  activate_adjoint(a);
}
KERNEL(ROW_THREADS) activate_adjoint_f16(const __grid_constant__ ActivateAdjointArgs<f16> a) {
  activate_adjoint(a);
}

// ---- logits of single tokens ------------------------------------------------------------------

template <class T>
DEVICE void token_gradients(const TokenGradientArgs<T> &a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<float> into(a.into, a.rows[i]);
  // rows of the unembedding begin at multiples of K_MULTIPLE
  with_vectors(a.width % 4 == 0 && in_vectors<4>(a.into), [&](auto whole) {
    each_vector(a.width, [&](uint32_t column) {
      Vector<float, 4> sum;
      load<whole.is>(sum, into, column, a.width);
      for (uint32_t w = a.first[i]; w < a.first[i + 1]; ++w) {
        const TokenWeight weight = a.weights[w];
        Vector<T, 4> x;
        load<whole.is>(x, Plain<const T>{a.unembedding + row_offset(weight.id, a.weight_stride)}, column, a.width);
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) sum.at[j] = fmaf(weight.count, widen(x.at[j]), sum.at[j]);
      }
      store<whole.is>(sum, into, column, a.width);
    });
  });
}

KERNEL(ROW_THREADS) token_gradients_f32(const __grid_constant__ TokenGradientArgs<float> a) { token_gradients(a); }
KERNEL(ROW_THREADS) token_gradients_bf16(const __grid_constant__ TokenGradientArgs<bf16> a) { token_gradients(a); }
KERNEL(ROW_THREADS) token_gradients_f16(const __grid_constant__ TokenGradientArgs<f16> a) { token_gradients(a); }
