// Planted bugs: blocks are ordered by nothing within a launch.

#include "common.cuh"

// launch: grid 4, block 32; out has 128 elements
extern "C" __global__ void two_writers_correct(const float *in, float *out) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  out[i] = in[i % 64];
}

extern "C" __global__ void two_writers_planted(const float *in, float *out) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  out[i] = in[i % 64];
  // The same value, and yet two writers.
  if (threadIdx.x == 0) out[0] = in[0];  // planted: two_writers
}

// Reads what another block writes.
extern "C" __global__ void reads_neighbour_correct(const float *in, float *out) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  out[i] = in[(i + 32) % 64];
}

extern "C" __global__ void reads_neighbour_planted(const float *in, float *out) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  const float neighbour = out[(i + 32) % 128];  // planted: reads_neighbour
  out[i] = in[i % 64] + 0.0f * neighbour;
}

// A counter of all blocks.
extern "C" __global__ void plain_counter_correct(const float *in, float *out) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  if (i) out[i] = in[i % 64];
  if (threadIdx.x == 0) atomicAdd(&out[0], 1.0f);
}

extern "C" __global__ void plain_counter_planted(const float *in, float *out) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  if (i) out[i] = in[i % 64];
  if (threadIdx.x == 0) out[0] += 1.0f;  // planted: plain_counter
}

// Lanes count together, then one reads: not before the barrier.
extern "C" __global__ void read_with_atomics_correct(const float *in, float *out) {
  __shared__ uint32_t count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 1u);
  __syncthreads();
  out[blockIdx.x * 32 + threadIdx.x] = in[0] + float(count);
}

extern "C" __global__ void read_with_atomics_planted(const float *in, float *out) {
  __shared__ uint32_t count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 1u);
  out[blockIdx.x * 32 + threadIdx.x] = in[0] + float(count);  // planted: read_with_atomics
}
