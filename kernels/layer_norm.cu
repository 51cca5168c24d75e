// Layer norm (Ba, Kiros and Hinton, 2016), whole and in the three parts that can be patched, and backwards:
//
//     scale      = √(σ² + ε)            μ, σ² the mean and variance of the row
//     normalized = (x − μ) · (1 / scale)
//     out        = normalized · weight + bias
//
// The whole is its parts one after the other, so that taking it apart changes no bit. The variance is
// that of centred numbers: the mean of squares less the square of the mean would cancel on GPT-2's
// outlier dimensions. Input and the parts are f32 in every precision.
//
// A warp takes a row. Lane l sums columns 4l … 4l + 3, then those 128 further on, and so forth; lanes
// are then folded in halves: one order for each width, whatever the alignment. Rows up to 1,024 wide
// are read once and stay in registers, wider ones come from the cache again.
#include "common.cuh"

constexpr uint32_t STRIP = WARP * 4;  // columns that a warp takes at a time
constexpr uint32_t HELD_STRIPS = 8;

// A lane's share of a row.
template <bool whole, bool held>
struct Share {
  RowOf<const float> row;
  uint32_t width;
  Vector<float, 4> x[held ? HELD_STRIPS : 1];

  DEVICE Share(const RowOf<const float> &row, uint32_t width) : row(row), width(width) {
    if (held) {
      uint32_t column = threadIdx.x % WARP * 4;
#pragma unroll
      for (uint32_t strip = 0; strip < HELD_STRIPS; ++strip, column += STRIP)
        if (column < width) load<whole>(x[strip], row, column, width);
    }
  }

  // f(column, four numbers) for each of the lane's vectors, in order.
  template <class F>
  DEVICE void each(F f) const {
    uint32_t column = threadIdx.x % WARP * 4;
    if (held) {
#pragma unroll
      for (uint32_t strip = 0; strip < HELD_STRIPS; ++strip, column += STRIP)
        if (column < width) f(column, x[strip]);
    } else {
#pragma unroll 2
      for (; column < width; column += STRIP) {
        Vector<float, 4> y;
        load<whole>(y, row, column, width);
        f(column, y);
      }
    }
  }

  // Σ over the row, in every lane; f(number, sum so far).
  template <class F>
  DEVICE float sum(F f) const {
    float sum = 0.0f;
    each([&](uint32_t column, const Vector<float, 4> &y) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i)
        if (whole || column + i < width) sum = f(y.at[i], sum);
    });
    return warp_sum(sum);
  }

  DEVICE float mean() const {
    return sum([](float x, float sum) { return sum + x; }) / float(width);
  }

  // √(σ² + ε), and no number where σ² is beyond f32: divided by infinity the row would be zeros, and go on as if nothing
  // had happened.
  DEVICE float scale(float mean, float epsilon) const {
    float squares = sum([=](float x, float sum) {
      float centred = x - mean;
      return fmaf(centred, centred, sum);
    });
    float scale = sqrtf(squares / float(width) + epsilon);
    return scale + (scale - scale);
  }
};

DEVICE float normalize(float x, float mean, float inverse) { return (x - mean) * inverse; }

DEVICE float affine(float x, float weight, float bias) { return fmaf(x, weight, bias); }

// Calls body(whole, held) with the two as compile-time constants.
template <bool value>
struct Constant {
  static constexpr bool is = value;
};
template <class F>
DEVICE void with_form(bool whole, uint32_t width, F body) {
  bool held = width <= HELD_STRIPS * STRIP;
  if (whole && held)
    body(Constant<true>(), Constant<true>());
  else if (whole)
    body(Constant<true>(), Constant<false>());
  else
    body(Constant<false>(), Constant<false>());
}

DEVICE bool aligned_16(const void *p) { return uint64_t(p) % 16 == 0; }

// ---- the whole --------------------------------------------------------------------------------

// Row i of out = layer norm of row i of the input.
template <class T>
DEVICE void layer_norm(const LayerNormArgs<T> &a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<const float> row = row_of(a.input, i);
  RowOf<T> to(a.out, i);
  const Fixed<float> weight{a.weight}, bias{a.bias};
  bool vectors = a.width % 4 == 0 && in_vectors<4>(a.input) && in_vectors<4>(a.out) &&
                 aligned_16(a.weight) && aligned_16(a.bias);
  with_form(vectors, a.width, [&](auto whole, auto held) {
    Share<whole.is, held.is> share(row, a.width);
    float mean = share.mean();
    float inverse = 1.0f / share.scale(mean, a.epsilon);
    share.each([&](uint32_t column, const Vector<float, 4> &x) {
      Vector<float, 4> w, b;
      load<whole.is>(w, weight, column, a.width);
      load<whole.is>(b, bias, column, a.width);
      Vector<T, 4> y;
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j)
        narrow(affine(normalize(x.at[j], mean, inverse), w.at[j], b.at[j]), y.at[j]);
      store<whole.is>(y, to, column, a.width);
    });
  });
}

KERNEL(ROW_THREADS, 4) layer_norm_f32(const __grid_constant__ LayerNormArgs<float> a) { layer_norm(a); }
KERNEL(ROW_THREADS, 4) layer_norm_bf16(const __grid_constant__ LayerNormArgs<bf16> a) { layer_norm(a); }
KERNEL(ROW_THREADS, 4) layer_norm_f16(const __grid_constant__ LayerNormArgs<f16> a) { layer_norm(a); }

// ---- its parts --------------------------------------------------------------------------------

// Row i of scale, one number = √(σ² + ε) of row i of the input.
KERNEL(ROW_THREADS, 4) layer_norm_scale(const __grid_constant__ LayerNormArgs<float> a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<const float> row = row_of(a.input, i);
  bool vectors = a.width % 4 == 0 && in_vectors<4>(a.input);
  with_form(vectors, a.width, [&](auto whole, auto held) {
    Share<whole.is, held.is> share(row, a.width);
    float result = share.scale(share.mean(), a.epsilon);
    if (threadIdx.x % WARP == 0) *RowOf<float>(a.scale, i).at(0) = result;
  });
}

// Row i of out = (x − μ) · (1 / row i of scale), x being row i of the input and μ its mean.
KERNEL(ROW_THREADS, 4) layer_norm_normalize(const __grid_constant__ LayerNormArgs<float> a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<const float> row = row_of(a.input, i);
  RowOf<float> to(a.out, i);
  bool vectors = a.width % 4 == 0 && in_vectors<4>(a.input) && in_vectors<4>(a.out);
  with_form(vectors, a.width, [&](auto whole, auto held) {
    Share<whole.is, held.is> share(row, a.width);
    float mean = share.mean();
    float inverse = 1.0f / *RowOf<float>(a.scale, i).at(0);
    share.each([&](uint32_t column, const Vector<float, 4> &x) {
      Vector<float, 4> y;
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) y.at[j] = normalize(x.at[j], mean, inverse);
      store<whole.is>(y, to, column, a.width);
    });
  });
}

// Row i of out = row i of the input · weight + bias.
template <class T>
DEVICE void layer_norm_affine(const LayerNormArgs<T> &a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  RowOf<const float> row(a.input.own, i);
  RowOf<T> to(a.out, i);
  const Fixed<float> weight{a.weight}, bias{a.bias};
  bool vectors = a.width % 4 == 0 && in_vectors<4>(a.input.own) && in_vectors<4>(a.out) &&
                 aligned_16(a.weight) && aligned_16(a.bias);
  auto body = [&](auto whole) {
#pragma unroll 2
    for (uint32_t column = threadIdx.x % WARP * 4; column < a.width; column += STRIP) {
      Vector<float, 4> x, w, b;
      load<whole.is>(x, row, column, a.width);
      load<whole.is>(w, weight, column, a.width);
      load<whole.is>(b, bias, column, a.width);
      Vector<T, 4> y;
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) narrow(affine(x.at[j], w.at[j], b.at[j]), y.at[j]);
      store<whole.is>(y, to, column, a.width);
    }
  };
  if (vectors)
    body(Constant<true>());
  else
    body(Constant<false>());
}

KERNEL(ROW_THREADS) layer_norm_affine_f32(const __grid_constant__ LayerNormArgs<float> a) {
  layer_norm_affine(a);
}
KERNEL(ROW_THREADS) layer_norm_affine_bf16(const __grid_constant__ LayerNormArgs<bf16> a) {
  layer_norm_affine(a);
}
KERNEL(ROW_THREADS) layer_norm_affine_f16(const __grid_constant__ LayerNormArgs<f16> a) {
  layer_norm_affine(a);
}

// ---- backwards --------------------------------------------------------------------------------
//
// With g the gradient of a row, h = g · weight, n the normalised row and σ its scale, of the
//
//     input       (h − mean h − n · mean(h n)) / σ, or held (h − mean h) / σ
//     normalized  h
//     scale       −Σ h n / σ
//
// Twin of src/backend/cpu/adjoint/rows.rs. Rows are read again for each sum: there are two of them.

// A row with what its gradient needs of it.
template <bool whole>
struct Reversed {
  Share<whole, false> share;
  RowOf<const float> gradient;
  Fixed<float> weight;
  float mean, inverse;

  DEVICE Reversed(const NormAdjointArgs &a, uint32_t row)
      : share(RowOf<const float>(a.input, row), a.width), gradient(a.gradient, row), weight{a.weight} {
    mean = share.mean();
    inverse = 1.0f / share.scale(mean, a.epsilon);
  }

  // f(column, h, n) for each of the lane's vectors.
  template <class F>
  DEVICE void each(F f) const {
    share.each([&](uint32_t column, const Vector<float, 4> &x) {
      Vector<float, 4> h, w, n;
      load<whole>(h, gradient, column, share.width);
      load<whole>(w, weight, column, share.width);
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        h.at[i] = h.at[i] * w.at[i];
        n.at[i] = normalize(x.at[i], mean, inverse);
      }
      f(column, h, n);
    });
  }

  // Σ h and Σ h n, in every lane.
  DEVICE void sums(float &of_h, float &of_hn) const {
    float h_sum = 0.0f, hn_sum = 0.0f;
    each([&](uint32_t column, const Vector<float, 4> &h, const Vector<float, 4> &n) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i)
        if (whole || column + i < share.width) {
          h_sum = h_sum + h.at[i];
          hn_sum = fmaf(h.at[i], n.at[i], hn_sum);
        }
    });
    of_h = warp_sum(h_sum);
    of_hn = warp_sum(hn_sum);
  }
};

// Calls body(row, whole).
template <class F>
DEVICE void reversed_row(const NormAdjointArgs &a, F body) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  bool vectors = a.width % 4 == 0 && in_vectors<4>(a.input) && in_vectors<4>(a.gradient) &&
                 in_vectors<4>(a.out) && aligned_16(a.weight);
  if (vectors)
    body(a.rows[i], Constant<true>());
  else
    body(a.rows[i], Constant<false>());
}

KERNEL(ROW_THREADS, 4) layer_norm_adjoint(const __grid_constant__ NormAdjointArgs a) {
  reversed_row(a, [&](uint32_t row, auto whole) {
    Reversed<whole.is> reversed(a, row);
    RowOf<float> to(a.out, row);
    float mean_h, along;
    reversed.sums(mean_h, along);
    mean_h = mean_h / float(a.width);
    along = a.held ? 0.0f : along / float(a.width);
    reversed.each([&](uint32_t column, const Vector<float, 4> &h, const Vector<float, 4> &n) {
      Vector<float, 4> sum;
      load<whole.is>(sum, to, column, a.width);
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j)
        sum.at[j] = sum.at[j] + ((h.at[j] - mean_h) - n.at[j] * along) * reversed.inverse;
      store<whole.is>(sum, to, column, a.width);
    });
  });
}

KERNEL(ROW_THREADS, 4) layer_norm_normalized_adjoint(const __grid_constant__ NormAdjointArgs a) {
  reversed_row(a, [&](uint32_t row, auto whole) {
    RowOf<const float> gradient(a.gradient, row);
    RowOf<float> to(a.out, row);
    const Fixed<float> weight{a.weight};
#pragma unroll 2
    for (uint32_t column = threadIdx.x % WARP * 4; column < a.width; column += STRIP) {
      Vector<float, 4> h, w;
      load<whole.is>(h, gradient, column, a.width);
      load<whole.is>(w, weight, column, a.width);
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) h.at[j] = h.at[j] * w.at[j];
      store<whole.is>(h, to, column, a.width);
    }
  });
}

KERNEL(ROW_THREADS, 4) layer_norm_scale_adjoint(const __grid_constant__ NormAdjointArgs a) {
  reversed_row(a, [&](uint32_t row, auto whole) {
    Reversed<whole.is> reversed(a, row);
    float of_h, of_hn;
    reversed.sums(of_h, of_hn);
    if (threadIdx.x % WARP == 0) *RowOf<float>(a.out, row).at(0) = -(of_hn * reversed.inverse);
  });
}
