// Planted bugs: barriers left out, or not reached by all. A comment marks each line to be reported.

#include "common.cuh"

// out[i] = in[block's last − i]. launch: any grid, block 64
extern "C" __global__ void missing_barrier_correct(const float *in, float *out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[63 - threadIdx.x];
}

extern "C" __global__ void missing_barrier_planted(const float *in, float *out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  // Either the value is not there yet, or nothing says that it is.
  out[threadIdx.x] = tile[63 - threadIdx.x];  // planted: missing_barrier
}

// The same, twice, through one tile: the second round must not begin before the first was read.
extern "C" __global__ void missing_second_barrier_correct(const float *in, float *out) {
  __shared__ float tile[64];
  for (int round = 0; round < 2; ++round) {
    tile[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];
    __syncthreads();
  }
}

extern "C" __global__ void missing_second_barrier_planted(const float *in, float *out) {
  __shared__ float tile[64];
  for (int round = 0; round < 2; ++round) {
    tile[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];  // planted: missing_second_barrier
  }
}

extern "C" __global__ void divergent_barrier_correct(const float *in, float *out) {
  __shared__ float tile[64];
  const bool used = threadIdx.x < 48;
  if (used) tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = used ? tile[47 - threadIdx.x] : 0.0f;
}

extern "C" __global__ void divergent_barrier_planted(const float *in, float *out) {
  __shared__ float tile[64];
  if (threadIdx.x >= 48) {
    out[threadIdx.x] = 0.0f;
    return;
  }
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();  // planted: divergent_barrier
  out[threadIdx.x] = tile[47 - threadIdx.x];
}

// Both halves meet a barrier, but not the same one.
extern "C" __global__ void two_barriers_correct(const float *in, float *out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x ^ 1];
}

extern "C" __global__ void two_barriers_planted(const float *in, float *out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  if (threadIdx.x < 32) {
    __syncthreads();  // planted: two_barriers
    out[threadIdx.x] = tile[threadIdx.x ^ 1];
  } else {
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x ^ 1] + 0.0f;
  }
}

// Within a warp: neighbours exchange values through shared memory.
extern "C" __global__ void missing_warp_barrier_correct(const float *in, float *out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  out[threadIdx.x] = tile[threadIdx.x ^ 1];
}

extern "C" __global__ void missing_warp_barrier_planted(const float *in, float *out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = tile[threadIdx.x ^ 1];  // planted: missing_warp_barrier
}

// A warp's barrier does not order two warps.
extern "C" __global__ void warp_barrier_for_block_correct(const float *in, float *out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x ^ 32];
}

extern "C" __global__ void warp_barrier_for_block_planted(const float *in, float *out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  out[threadIdx.x] = tile[threadIdx.x ^ 32];  // planted: warp_barrier_for_block
}

// Halves of a warp order their own lanes, and no others.
extern "C" __global__ void half_warp_barrier_correct(const float *in, float *out) {
  __shared__ float tile[64];
  const uint32_t half = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  tile[threadIdx.x] = in[threadIdx.x];
  __syncwarp(half);
  float sum = tile[threadIdx.x ^ 8];
  sum += __shfl_xor_sync(half, sum, 4);
  __syncwarp(half);
  tile[threadIdx.x] = sum;
  __syncwarp(half);
  out[threadIdx.x] = tile[threadIdx.x ^ 1];
}

extern "C" __global__ void half_warp_barrier_planted(const float *in, float *out) {
  __shared__ float tile[64];
  const uint32_t half = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  tile[threadIdx.x] = in[threadIdx.x];
  __syncwarp(half);
  out[threadIdx.x] = tile[threadIdx.x ^ 16];  // planted: half_warp_barrier
}
