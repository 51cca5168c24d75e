// Linear layers backwards, into += gradient · Wᵀ. Twin of src/backend/cpu/adjoint/linear.rs.
//
// Weights lie transposed, [N, K], which is how this product reads them: plain.cuh's tiles, whatever the
// precision, with sums over the layer's outputs. The readout's gradients of logits take the same product,
// the vocabulary being the outputs, in parts that are added afterwards.
#include "plain.cuh"

// A row of the gradient from the layer's first output on.
struct GradientRow {
  RowOf<const float> row;
  uint32_t first;
  DEVICE float at(uint32_t n) const { return *row.at(first + n); }
};

template <class T>
DEVICE void linear_adjoint(const LinearAdjointArgs<T> &a) {
  const uint32_t begin = blockIdx.z * a.part, outputs = min(a.part, a.outputs - begin);
  View<float> into = a.into;
  into.data += blockIdx.z * a.part_stride;
  through(
      [&](uint32_t m) {
        return GradientRow{RowOf<const float>(a.gradient, a.rows ? a.rows[m] : m), a.first + begin};
      },
      a.count, outputs, a.weight + row_offset(begin, a.weight_stride), a.weight_stride, a.inputs,
      [&](uint32_t m, uint32_t j, float sum) {
        float *to = RowOf<float>(into, a.rows ? a.rows[m] : m).at(j);
        *to = a.rows ? *to + sum : sum;
      });
}

KERNEL(PLAIN_THREADS) linear_adjoint_f32(const __grid_constant__ LinearAdjointArgs<float> a) { linear_adjoint(a); }
KERNEL(PLAIN_THREADS) linear_adjoint_bf16(const __grid_constant__ LinearAdjointArgs<bf16> a) { linear_adjoint(a); }
KERNEL(PLAIN_THREADS) linear_adjoint_f16(const __grid_constant__ LinearAdjointArgs<f16> a) { linear_adjoint(a); }
