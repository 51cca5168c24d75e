// Linear layers, out = epilogue(input · W + bias), the operands as f32. linear_half.cu has those of
// 16-bit operands; gemm.cuh the product, linear.cuh the epilogues.
//
//     kernel                             input, weight   out    arithmetic
//     linear_ffma_large, _small          f32             f32    plain fused multiply-adds
//     linear_split_large, _small         f32             f32    tensor cores, three tf32 products for one
//     linear_tf32_large, _small          f32             f32    tensor cores, operands rounded to tf32
//     linear_bf16_large, _small          bf16            bf16   tensor cores
//     linear_bf16_large_wide, _small_wide  bf16          f32    the same
//     linear_f16_large, _small           f16             f16    tensor cores
//     linear_f16_large_wide, _small_wide f16             f32    the same
//
//     tile      rows × columns   block   grid (x, y)                                    dynamic shared
//     _large    128 × 192        256     ceil(columns / 192), ceil(count / 128)         83456 bytes
//     _small     32 × 64         128     ceil(columns / 64), ceil(count / 32)           49536 bytes
//
// Both tiles give the same bits. Registers of sm_80 … 90a and of sm_100, 120 (nvcc 13.0; nothing spills):
//
//     ffma   large 255, 255   small 86, 96        bf16, f16  large 190, 206   small 72, 91
//     split  large 244, 252   small 80, 85        tf32       large 201, 213   small 74, 93
//
// so one block of a large tile, or (by shared memory) three or four of a small one, are on a multiprocessor
// at a time. It is more than 48 KiB, which has to be allowed for every kernel first.
//
// Arguments, the same for all (TA the input's type, TO the output's):
//
//     View<const TA> input       [_, inputs], of any strides; 16-byte copies where they allow it
//     const uint32_t *rows       [count], the input row of result m; null: m
//     uint32_t count, inputs     M ≥ 1 and K ≥ 1
//     uint32_t first, columns    columns first … first + columns − 1 of the weight are computed
//     const TA *weight           [N, weight_stride], transposed: K contiguous; 16-byte aligned
//     uint32_t weight_stride     K rounded up to a multiple of 32; zeros behind K
//     const float *bias          bias[first + n]; null: none
//     uint32_t epilogue          0 none, 1 activate, 2 residual
//     uint32_t activation        0 gelu_new, 1 gelu, 2 relu, 3 silu; read if epilogue is 1
//     View<const float> residual, residual_trace; const uint32_t *residual_refs
//                                result m adds columns out_column … of row residual_refs[m]; read if
//                                epilogue is 2, any value otherwise (`trace` too if no entry names it)
//     View<TO> out               result (m, n) goes to row out_rows[m], column out_column + n
//     uint32_t out_column
//     const uint32_t *out_rows   [count]; null: m
#include "linear.cuh"

extern "C" __global__ void __launch_bounds__(256, 1) linear_ffma_large(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const float *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Large<Multiply::FFMA>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) linear_ffma_small(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const float *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Small<Multiply::FFMA>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) linear_split_large(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const float *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Large<Multiply::SPLIT>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) linear_split_small(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const float *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Small<Multiply::SPLIT>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) linear_tf32_large(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const float *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Large<Multiply::TF32>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) linear_tf32_small(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    uint32_t first, uint32_t columns, const float *__restrict__ weight, uint32_t weight_stride,
    const float *__restrict__ bias, uint32_t epilogue, uint32_t activation,
    View<const float> residual, View<const float> residual_trace,
    const uint32_t *__restrict__ residual_refs, View<float> out, uint32_t out_column,
    const uint32_t *__restrict__ out_rows) {
  DYNAMIC_SHARED(unsigned char, shared);
  linear<Small<Multiply::TF32>, float>(
      {input, rows, count, inputs, weight, weight_stride, nullptr, first, columns},
      {bias, epilogue, activation, residual, residual_trace, residual_refs, out, out_column, out_rows},
      shared);
}
