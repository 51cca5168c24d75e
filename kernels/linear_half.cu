// The linear kernels of 16-bit operands; linear.cu lists them all.
#include "linear.cuh"

KERNEL(LARGE_THREADS, 1) linear_bf16_large(const __grid_constant__ LinearArgs<bf16> a) { linear<Large<BF16>>(a); }
KERNEL(MEDIUM_THREADS, 3) linear_bf16_medium(const __grid_constant__ LinearArgs<bf16> a) { linear<Medium<BF16>>(a); }
KERNEL(SMALL_THREADS, 4) linear_bf16_small(const __grid_constant__ LinearArgs<bf16> a) { linear<Small<BF16>>(a); }
KERNEL(LARGE_THREADS, 1) linear_bf16_large_wide(const __grid_constant__ LinearArgs<bf16, float> a) { linear<Large<BF16>>(a); }
KERNEL(MEDIUM_THREADS, 3) linear_bf16_medium_wide(const __grid_constant__ LinearArgs<bf16, float> a) { linear<Medium<BF16>>(a); }
KERNEL(SMALL_THREADS, 4) linear_bf16_small_wide(const __grid_constant__ LinearArgs<bf16, float> a) { linear<Small<BF16>>(a); }

KERNEL(LARGE_THREADS, 1) linear_f16_large(const __grid_constant__ LinearArgs<f16> a) { linear<Large<F16>>(a); }
KERNEL(MEDIUM_THREADS, 3) linear_f16_medium(const __grid_constant__ LinearArgs<f16> a) { linear<Medium<F16>>(a); }
KERNEL(SMALL_THREADS, 4) linear_f16_small(const __grid_constant__ LinearArgs<f16> a) { linear<Small<F16>>(a); }
KERNEL(LARGE_THREADS, 1) linear_f16_large_wide(const __grid_constant__ LinearArgs<f16, float> a) { linear<Large<F16>>(a); }
KERNEL(MEDIUM_THREADS, 3) linear_f16_medium_wide(const __grid_constant__ LinearArgs<f16, float> a) { linear<Medium<F16>>(a); }
KERNEL(SMALL_THREADS, 4) linear_f16_small_wide(const __grid_constant__ LinearArgs<f16, float> a) { linear<Small<F16>>(a); }
