// Linear layers, out = epilogue(input · W + bias), the operands as f32. linear_half.cu has those of
// 16-bit operands; gemm.cuh the product, linear.cuh the epilogues.
//
//     kernel                           input, weight   out    arithmetic
//     linear_ffma_TILE                 f32             f32    plain fused multiply-adds; no large tile
//     linear_split_TILE                f32             f32    tensor cores, three tf32 products for one
//     linear_tf32_TILE                 f32             f32    tensor cores, operands rounded to tf32
//     linear_bf16_TILE                 bf16            bf16   tensor cores
//     linear_bf16_TILE_wide            bf16            f32    the same
//     linear_f16_TILE                  f16             f16    tensor cores
//     linear_f16_TILE_wide             f16             f32    the same
//
// Registers, the most of sm_80 … 120 (nvcc 13.0; nothing spills):
//
//     ffma   medium 165   small 72                bf16, f16  large 195   medium 135   small 65
//     split  large 252    medium 156   small 146  tf32       large 217   medium 150   small 72
//
// so one block of a large tile, three of a medium and six or more of a small one are on a multiprocessor at
// a time. Shared memory of a large tile is more than 48 KiB, which has to be allowed for every kernel first.
#include "linear.cuh"

KERNEL(MEDIUM_THREADS, 3) linear_ffma_medium(const __grid_constant__ LinearArgs<float> a) { linear<Medium<FFMA>>(a); }
KERNEL(SMALL_THREADS, 4) linear_ffma_small(const __grid_constant__ LinearArgs<float> a) { linear<Small<FFMA>>(a); }
KERNEL(LARGE_THREADS, 1) linear_split_large(const __grid_constant__ LinearArgs<float> a) { linear<Large<SPLIT>>(a); }
KERNEL(MEDIUM_THREADS, 3) linear_split_medium(const __grid_constant__ LinearArgs<float> a) { linear<Medium<SPLIT>>(a); }
KERNEL(SMALL_THREADS, 4) linear_split_small(const __grid_constant__ LinearArgs<float> a) { linear<Small<SPLIT>>(a); }
KERNEL(LARGE_THREADS, 1) linear_tf32_large(const __grid_constant__ LinearArgs<float> a) { linear<Large<TF32>>(a); }
KERNEL(MEDIUM_THREADS, 3) linear_tf32_medium(const __grid_constant__ LinearArgs<float> a) { linear<Medium<TF32>>(a); }
KERNEL(SMALL_THREADS, 4) linear_tf32_small(const __grid_constant__ LinearArgs<float> a) { linear<Small<TF32>>(a); }
