// Layer norm (Ba, Kiros and Hinton, 2016), whole and in the three parts that can be patched:
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
#include "vector.cuh"

constexpr uint32_t STEP = WARP * 4;  // columns that a warp takes at a time
constexpr uint32_t HELD_STEPS = 8;

// A lane's share of a row.
template <bool whole, bool held>
struct Share {
  RowOf<const float> row;
  uint32_t width;
  Vector<float, 4> x[held ? HELD_STEPS : 1];

  DEVICE Share(const RowOf<const float> &row, uint32_t width) : row(row), width(width) {
    if (held) {
      uint32_t column = threadIdx.x % WARP * 4;
#pragma unroll
      for (uint32_t step = 0; step < HELD_STEPS; ++step, column += STEP)
        if (column < width) load<whole>(x[step], row, column, width);
    }
  }

  // f(column, four numbers) for each of the lane's vectors, in order.
  template <class F>
  DEVICE void each(F f) const {
    uint32_t column = threadIdx.x % WARP * 4;
    if (held) {
#pragma unroll
      for (uint32_t step = 0; step < HELD_STEPS; ++step, column += STEP)
        if (column < width) f(column, x[step]);
    } else {
#pragma unroll 2
      for (; column < width; column += STEP) {
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

  // √(σ² + ε)
  DEVICE float scale(float mean, float epsilon) const {
    float squares = sum([=](float x, float sum) {
      float centred = x - mean;
      return fmaf(centred, centred, sum);
    });
    return sqrtf(squares / float(width) + epsilon);
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
  bool held = width <= HELD_STEPS * STEP;
  if (whole && held)
    body(Constant<true>(), Constant<true>());
  else if (whole)
    body(Constant<true>(), Constant<false>());
  else
    body(Constant<false>(), Constant<false>());
}

DEVICE bool aligned_16(const void *p) { return uint64_t(p) % 16 == 0; }

// ---- the whole --------------------------------------------------------------------------------

template <class T>
DEVICE void layer_norm(const View<const float> &own, const View<const float> &trace,
                       const uint32_t *refs, uint32_t count, uint32_t width, const float *weight,
                       const float *bias, float epsilon, const View<T> &out) {
  uint32_t i = warp_row();
  if (i >= count) return;
  RowOf<const float> row = row_of(own, trace, refs[i]);
  RowOf<T> to(out, i);
  bool vectors = width % 4 == 0 && in_vectors<4>(own) && in_vectors<4>(trace) && in_vectors<4>(out) &&
                 aligned_16(weight) && aligned_16(bias);
  with_form(vectors, width, [&](auto whole, auto held) {
    Share<whole.is, held.is> share(row, width);
    float mean = share.mean();
    float inverse = 1.0f / share.scale(mean, epsilon);
    share.each([&](uint32_t column, const Vector<float, 4> &x) {
      Vector<float, 4> w, b;
      load<whole.is>(w, Plain<const float>{weight}, column, width);
      load<whole.is>(b, Plain<const float>{bias}, column, width);
      Vector<T, 4> y;
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j)
        narrow(affine(normalize(x.at[j], mean, inverse), w.at[j], b.at[j]), y.at[j]);
      store<whole.is>(y, to, column, width);
    });
  });
}

// Row i of out = layer norm of row refs[i].
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) layer_norm_f32(
    View<const float> own,
    View<const float> trace,
    const uint32_t *__restrict__ refs,
    uint32_t count,
    uint32_t width,
    const float *__restrict__ weight,
    const float *__restrict__ bias,
    float epsilon,
    View<float> out) {
  layer_norm<float>(own, trace, refs, count, width, weight, bias, epsilon, out);
}

// launch: as layer_norm_f32
extern "C" __global__ void __launch_bounds__(256) layer_norm_bf16(
    View<const float> own,
    View<const float> trace,
    const uint32_t *__restrict__ refs,
    uint32_t count,
    uint32_t width,
    const float *__restrict__ weight,
    const float *__restrict__ bias,
    float epsilon,
    View<bf16> out) {
  layer_norm<bf16>(own, trace, refs, count, width, weight, bias, epsilon, out);
}

// launch: as layer_norm_f32
extern "C" __global__ void __launch_bounds__(256) layer_norm_f16(
    View<const float> own,
    View<const float> trace,
    const uint32_t *__restrict__ refs,
    uint32_t count,
    uint32_t width,
    const float *__restrict__ weight,
    const float *__restrict__ bias,
    float epsilon,
    View<f16> out) {
  layer_norm<f16>(own, trace, refs, count, width, weight, bias, epsilon, out);
}

// ---- its parts --------------------------------------------------------------------------------

// Row i of scale, one number = √(σ² + ε) of row refs[i].
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) layer_norm_scale(
    View<const float> own,
    View<const float> trace,
    const uint32_t *__restrict__ refs,
    uint32_t count,
    uint32_t width,
    float epsilon,
    View<float> scale) {
  uint32_t i = warp_row();
  if (i >= count) return;
  RowOf<const float> row = row_of(own, trace, refs[i]);
  bool vectors = width % 4 == 0 && in_vectors<4>(own) && in_vectors<4>(trace);
  with_form(vectors, width, [&](auto whole, auto held) {
    Share<whole.is, held.is> share(row, width);
    float result = share.scale(share.mean(), epsilon);
    if (threadIdx.x % WARP == 0) *scale.at(i, 0) = result;
  });
}

// Row i of out = (x − μ) · (1 / row i of scale), x being row refs[i] and μ its mean.
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) layer_norm_normalize(
    View<const float> own,
    View<const float> trace,
    const uint32_t *__restrict__ refs,
    View<const float> scale,
    uint32_t count,
    uint32_t width,
    View<float> out) {
  uint32_t i = warp_row();
  if (i >= count) return;
  RowOf<const float> row = row_of(own, trace, refs[i]);
  RowOf<float> to(out, i);
  bool vectors = width % 4 == 0 && in_vectors<4>(own) && in_vectors<4>(trace) && in_vectors<4>(out);
  with_form(vectors, width, [&](auto whole, auto held) {
    Share<whole.is, held.is> share(row, width);
    float mean = share.mean();
    float inverse = 1.0f / *scale.at(i, 0);
    share.each([&](uint32_t column, const Vector<float, 4> &x) {
      Vector<float, 4> y;
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) y.at[j] = normalize(x.at[j], mean, inverse);
      store<whole.is>(y, to, column, width);
    });
  });
}

template <class T>
DEVICE void layer_norm_affine(const View<const float> &normalized, const float *weight,
                              const float *bias, uint32_t count, uint32_t width,
                              const View<T> &out) {
  uint32_t i = warp_row();
  if (i >= count) return;
  RowOf<const float> row(normalized, i);
  RowOf<T> to(out, i);
  bool vectors = width % 4 == 0 && in_vectors<4>(normalized) && in_vectors<4>(out) &&
                 aligned_16(weight) && aligned_16(bias);
  auto body = [&](auto whole) {
#pragma unroll 2
    for (uint32_t column = threadIdx.x % WARP * 4; column < width; column += STEP) {
      Vector<float, 4> x, w, b;
      load<whole.is>(x, row, column, width);
      load<whole.is>(w, Plain<const float>{weight}, column, width);
      load<whole.is>(b, Plain<const float>{bias}, column, width);
      Vector<T, 4> y;
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) narrow(affine(x.at[j], w.at[j], b.at[j]), y.at[j]);
      store<whole.is>(y, to, column, width);
    }
  };
  if (vectors)
    body(Constant<true>());
  else
    body(Constant<false>());
}

// Row i of out = row i of normalized · weight + bias.
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) layer_norm_affine_f32(
    View<const float> normalized,
    const float *__restrict__ weight,
    const float *__restrict__ bias,
    uint32_t count,
    uint32_t width,
    View<float> out) {
  layer_norm_affine<float>(normalized, weight, bias, count, width, out);
}

// launch: as layer_norm_affine_f32
extern "C" __global__ void __launch_bounds__(256) layer_norm_affine_bf16(
    View<const float> normalized,
    const float *__restrict__ weight,
    const float *__restrict__ bias,
    uint32_t count,
    uint32_t width,
    View<bf16> out) {
  layer_norm_affine<bf16>(normalized, weight, bias, count, width, out);
}

// launch: as layer_norm_affine_f32
extern "C" __global__ void __launch_bounds__(256) layer_norm_affine_f16(
    View<const float> normalized,
    const float *__restrict__ weight,
    const float *__restrict__ bias,
    uint32_t count,
    uint32_t width,
    View<f16> out) {
  layer_norm_affine<f16>(normalized, weight, bias, count, width, out);
}
