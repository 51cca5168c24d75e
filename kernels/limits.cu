// What a device can do at best: the yardsticks that `headlight bench` holds the other kernels against.
// Launched and read by src/backend/cuda/limits.rs, which says what each must leave in `out`.
//
//     limit_copy    bytes a second, read and written, in 16-byte accesses over more than the caches hold
//     limit_ffma    fused multiply-adds in f32 from registers
//     limit_mma_*   products on tensor cores from registers, by the same `mma` as the linear layers
//
// Arithmetic runs in chains that do not wait for each other, enough of them to cover an instruction's
// latency by the few warps that are there. Operands are numbers with many bits set, since a
// multiplier that is fed with zeros takes less power, and so runs at a higher clock, than one at work.
// Every chain's end goes into a sum that is written, so that none can be left out.
#include "common.cuh"

// ---- copy -------------------------------------------------------------------------------------

// Copies gridDim.x · LIMIT_THREADS · COPIES vectors.
KERNEL(LIMIT_THREADS) limit_copy(const __grid_constant__ LimitArgs a) {
  const uint4 *__restrict__ from = a.from;
  uint4 *__restrict__ to = reinterpret_cast<uint4 *>(a.out);
  const uint64_t first = uint64_t(blockIdx.x) * (LIMIT_THREADS * COPIES) + threadIdx.x;
  uint4 x[COPIES];
#pragma unroll
  for (uint32_t i = 0; i < COPIES; ++i) x[i] = from[first + i * LIMIT_THREADS];
#pragma unroll
  for (uint32_t i = 0; i < COPIES; ++i) to[first + i * LIMIT_THREADS] = x[i];
}

// ---- multiply-adds ----------------------------------------------------------------------------

// out[thread] = Σ over chains i of x, which starts at i + thread in the block and becomes x · a + b
// CHAIN_STEPS · repeats times. (Were all threads' numbers alike, chips that calculate what a warp has in
// common once would do so here.) Four blocks to a multiprocessor.
KERNEL(LIMIT_THREADS, 4) limit_ffma(const __grid_constant__ LimitArgs a) {
  float x[CHAINS];
#pragma unroll
  for (uint32_t i = 0; i < CHAINS; ++i) x[i] = float(i + threadIdx.x);
#pragma unroll 1
  for (uint32_t r = 0; r < a.repeats; ++r) {
#pragma unroll
    for (uint32_t s = 0; s < CHAIN_STEPS; ++s)
#pragma unroll
      for (uint32_t i = 0; i < CHAINS; ++i) x[i] = fmaf(x[i], a.a, a.b);
  }
  float sum = 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < CHAINS; ++i) sum += x[i];
  a.out[blockIdx.x * LIMIT_THREADS + threadIdx.x] = sum;
}

// ---- tensor cores -----------------------------------------------------------------------------

// Product (i, j) of a warp starts at 4i + j everywhere and adds a · b MMA_STEPS · repeats times, a being
// fragment i of the four at the start of `operands` and b fragment j of the four behind them, register
// by register: of each the 32 lanes'. out[thread] = Σ of the thread's results. (Operands that the
// compiler could calculate again would be, between the products.)
template <void (&multiply)(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2])>
DEVICE void multiply_chains(const LimitArgs &args) {
  const uint32_t *operands = reinterpret_cast<const uint32_t *>(args.from);
  const uint32_t lane = threadIdx.x % WARP;
  uint32_t a[MMA_DOWN][4], b[MMA_ACROSS][2];
  float c[MMA_DOWN][MMA_ACROSS][4];
#pragma unroll
  for (uint32_t i = 0; i < MMA_DOWN; ++i)
#pragma unroll
    for (uint32_t e = 0; e < 4; ++e) a[i][e] = operands[(4 * i + e) * WARP + lane];
#pragma unroll
  for (uint32_t j = 0; j < MMA_ACROSS; ++j)
#pragma unroll
    for (uint32_t e = 0; e < 2; ++e) b[j][e] = operands[(4 * MMA_DOWN + 2 * j + e) * WARP + lane];
#pragma unroll
  for (uint32_t i = 0; i < MMA_DOWN; ++i)
#pragma unroll
    for (uint32_t j = 0; j < MMA_ACROSS; ++j)
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) c[i][j][e] = float(i * MMA_ACROSS + j);

#pragma unroll 1
  for (uint32_t r = 0; r < args.repeats; ++r) {
#pragma unroll
    for (uint32_t s = 0; s < MMA_STEPS; ++s)
#pragma unroll
      for (uint32_t i = 0; i < MMA_DOWN; ++i)
#pragma unroll
        for (uint32_t j = 0; j < MMA_ACROSS; ++j) multiply(c[i][j], a[i], b[j]);
  }
  float sum = 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < MMA_DOWN; ++i)
#pragma unroll
    for (uint32_t j = 0; j < MMA_ACROSS; ++j)
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) sum += c[i][j][e];
  args.out[blockIdx.x * LIMIT_THREADS + threadIdx.x] = sum;
}

// Two blocks to a multiprocessor.
KERNEL(LIMIT_THREADS, 2) limit_mma_bf16(const __grid_constant__ LimitArgs a) { multiply_chains<mma_bf16>(a); }
KERNEL(LIMIT_THREADS, 2) limit_mma_f16(const __grid_constant__ LimitArgs a) { multiply_chains<mma_f16>(a); }
KERNEL(LIMIT_THREADS, 2) limit_mma_tf32(const __grid_constant__ LimitArgs a) { multiply_chains<mma_tf32>(a); }
