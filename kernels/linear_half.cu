// The linear kernels of 16-bit operands; linear.cu lists them all.
#include "linear.cuh"

extern "C" __global__ void __launch_bounds__(256, 1) linear_bf16_large(
    View<const bf16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const bf16 *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<bf16> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Large<Multiply::BF16>, bf16>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) linear_bf16_small(
    View<const bf16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const bf16 *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<bf16> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Small<Multiply::BF16>, bf16>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) linear_bf16_large_wide(
    View<const bf16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const bf16 *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Large<Multiply::BF16>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) linear_bf16_small_wide(
    View<const bf16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const bf16 *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Small<Multiply::BF16>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) linear_f16_large(
    View<const f16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const f16 *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<f16> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Large<Multiply::F16>, f16>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) linear_f16_small(
    View<const f16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const f16 *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<f16> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Small<Multiply::F16>, f16>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) linear_f16_large_wide(
    View<const f16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const f16 *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Large<Multiply::F16>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) linear_f16_small_wide(
    View<const f16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const f16 *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Small<Multiply::F16>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}
