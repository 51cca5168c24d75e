// Linear layers, out = epilogue(input · W + bias), the operands as f32. linear_half.cu has those of
// 16-bit operands; gemm.cuh the product, linear.cuh the epilogues.
//
//     kernel                               input, weight   out    arithmetic
//     linear_ffma_large, _small            f32             f32    plain fused multiply-adds
//     linear_split_large, _small           f32             f32    tensor cores, three tf32 products for one
//     linear_tf32_large, _small            f32             f32    tensor cores, operands rounded to tf32
//     linear_bf16_large, _small            bf16            bf16   tensor cores
//     linear_bf16_large_wide, _small_wide  bf16            f32    the same
//     linear_f16_large, _small             f16             f16    tensor cores
//     linear_f16_large_wide, _small_wide   f16             f32    the same
//
// Registers of sm_80 … 90a and of sm_100, 120 (nvcc 13.0; nothing spills):
//
//     ffma   large 255, 255   small 86, 96        bf16, f16  large 190, 206   small 72, 91
//     split  large 244, 252   small 80, 85        tf32       large 201, 213   small 74, 93
//
// so one block of a large tile, or (by shared memory) three or four of a small one, are on a multiprocessor
// at a time. It is more than 48 KiB, which has to be allowed for every kernel first.
#include "linear.cuh"

KERNEL(LARGE_THREADS, 1) linear_ffma_large(const __grid_constant__ LinearArgs<float> a) { linear<Large<FFMA>>(a); }
KERNEL(SMALL_THREADS, 4) linear_ffma_small(const __grid_constant__ LinearArgs<float> a) { linear<Small<FFMA>>(a); }
KERNEL(LARGE_THREADS, 1) linear_split_large(const __grid_constant__ LinearArgs<float> a) { linear<Large<SPLIT>>(a); }
KERNEL(SMALL_THREADS, 4) linear_split_small(const __grid_constant__ LinearArgs<float> a) { linear<Small<SPLIT>>(a); }
KERNEL(LARGE_THREADS, 1) linear_tf32_large(const __grid_constant__ LinearArgs<float> a) { linear<Large<TF32>>(a); }
KERNEL(SMALL_THREADS, 4) linear_tf32_small(const __grid_constant__ LinearArgs<float> a) { linear<Small<TF32>>(a); }
