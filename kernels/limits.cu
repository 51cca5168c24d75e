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
#include "vector.cuh"

// ---- copy -------------------------------------------------------------------------------------

constexpr uint32_t VECTORS = 4; // of 16 bytes that a thread has under way

// Copies gridDim.x · 256 · VECTORS vectors.
// launch: block 256, grid vectors / 1024, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) limit_copy(
    const uint4 *__restrict__ from,
    uint4 *__restrict__ to) {
  const uint64_t first = uint64_t(blockIdx.x) * (256 * VECTORS) + threadIdx.x;
  uint4 x[VECTORS];
#pragma unroll
  for (uint32_t i = 0; i < VECTORS; ++i) x[i] = from[first + i * 256];
#pragma unroll
  for (uint32_t i = 0; i < VECTORS; ++i) to[first + i * 256] = x[i];
}

// ---- multiply-adds ----------------------------------------------------------------------------

constexpr uint32_t CHAINS = 32; // of each thread
constexpr uint32_t STEPS = 8;   // of each chain in a repeat

// out[thread] = Σ over chains i of x, which starts at i + thread in the block and becomes x · a + b
// STEPS · repeats times. (Were all threads' numbers alike, chips that calculate what a warp has in
// common once would do so here.)
// launch: block 256, four blocks a multiprocessor, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256, 4) limit_ffma(
    float a,
    float b,
    uint32_t repeats,
    float *__restrict__ out) {
  float x[CHAINS];
#pragma unroll
  for (uint32_t i = 0; i < CHAINS; ++i) x[i] = float(i + threadIdx.x);
#pragma unroll 1
  for (uint32_t r = 0; r < repeats; ++r) {
#pragma unroll
    for (uint32_t s = 0; s < STEPS; ++s)
#pragma unroll
      for (uint32_t i = 0; i < CHAINS; ++i) x[i] = fmaf(x[i], a, b);
  }
  float sum = 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < CHAINS; ++i) sum += x[i];
  out[blockIdx.x * 256 + threadIdx.x] = sum;
}

// ---- tensor cores -----------------------------------------------------------------------------

constexpr uint32_t DOWN = 4, ACROSS = 4; // products of a warp, each of its own chain
constexpr uint32_t MMA_STEPS = 2;        // of each chain in a repeat

struct Bf16 {
  static DEVICE void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_bf16(c, a, b);
  }
};
struct F16 {
  static DEVICE void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_f16(c, a, b);
  }
};
struct Tf32 {
  static DEVICE void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_tf32(c, a, b);
  }
};

// Product (i, j) of a warp starts at 4i + j everywhere and adds a · b MMA_STEPS · repeats times, a being
// fragment i of the four at the start of `operands` and b fragment j of the four behind them, register
// by register: of each the 32 lanes'. out[thread] = Σ of the thread's results. (Operands that the
// compiler could calculate again would be, between the products.)
template <class T>
DEVICE void multiply_chains(const uint32_t *operands, uint32_t repeats, float *out) {
  const uint32_t lane = threadIdx.x % WARP;
  uint32_t a[DOWN][4], b[ACROSS][2];
  float c[DOWN][ACROSS][4];
#pragma unroll
  for (uint32_t i = 0; i < DOWN; ++i)
#pragma unroll
    for (uint32_t e = 0; e < 4; ++e) a[i][e] = operands[(4 * i + e) * WARP + lane];
#pragma unroll
  for (uint32_t j = 0; j < ACROSS; ++j)
#pragma unroll
    for (uint32_t e = 0; e < 2; ++e) b[j][e] = operands[(4 * DOWN + 2 * j + e) * WARP + lane];
#pragma unroll
  for (uint32_t i = 0; i < DOWN; ++i)
#pragma unroll
    for (uint32_t j = 0; j < ACROSS; ++j)
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) c[i][j][e] = float(i * ACROSS + j);

#pragma unroll 1
  for (uint32_t r = 0; r < repeats; ++r) {
#pragma unroll
    for (uint32_t s = 0; s < MMA_STEPS; ++s)
#pragma unroll
      for (uint32_t i = 0; i < DOWN; ++i)
#pragma unroll
        for (uint32_t j = 0; j < ACROSS; ++j) T::multiply(c[i][j], a[i], b[j]);
  }
  float sum = 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < DOWN; ++i)
#pragma unroll
    for (uint32_t j = 0; j < ACROSS; ++j)
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) sum += c[i][j][e];
  out[blockIdx.x * 256 + threadIdx.x] = sum;
}

// launch: block 256, two blocks a multiprocessor, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256, 2) limit_mma_bf16(
    const uint32_t *__restrict__ operands,
    uint32_t repeats,
    float *__restrict__ out) {
  multiply_chains<Bf16>(operands, repeats, out);
}

// launch: as limit_mma_bf16
extern "C" __global__ void __launch_bounds__(256, 2) limit_mma_f16(
    const uint32_t *__restrict__ operands,
    uint32_t repeats,
    float *__restrict__ out) {
  multiply_chains<F16>(operands, repeats, out);
}

// launch: as limit_mma_bf16
extern "C" __global__ void __launch_bounds__(256, 2) limit_mma_tf32(
    const uint32_t *__restrict__ operands,
    uint32_t repeats,
    float *__restrict__ out) {
  multiply_chains<Tf32>(operands, repeats, out);
}
