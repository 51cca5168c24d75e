// Planted bugs: asynchronous copies that nobody waited for.

#include "common.cuh"

// out = in, by way of shared memory. launch: grid 1, block 64
extern "C" __global__ void missing_wait_correct(const float *in, float *out) {
  __shared__ float tile[64];
  copy_async_4(&tile[threadIdx.x], &in[threadIdx.x], 4);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  out[threadIdx.x] = tile[63 - threadIdx.x];
}

extern "C" __global__ void missing_wait_planted(const float *in, float *out) {
  __shared__ float tile[64];
  copy_async_4(&tile[threadIdx.x], &in[threadIdx.x], 4);
  copy_async_commit();
  __syncthreads();
  out[threadIdx.x] = tile[63 - threadIdx.x];  // planted: missing_wait
}

// Even a thread's own copies must be waited for.
extern "C" __global__ void missing_own_wait_correct(const float *in, float *out) {
  __shared__ float tile[64];
  copy_async_4(&tile[threadIdx.x], &in[threadIdx.x], 4);
  copy_async_commit();
  copy_async_wait<0>();
  out[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void missing_own_wait_planted(const float *in, float *out) {
  __shared__ float tile[64];
  copy_async_4(&tile[threadIdx.x], &in[threadIdx.x], 4);
  copy_async_wait<0>();
  // Never committed, so not waited for.
  out[threadIdx.x] = tile[threadIdx.x];  // planted: missing_own_wait
}

// The wait alone does not show a thread what others copied.
extern "C" __global__ void wait_without_barrier_correct(const float *in, float *out) {
  __shared__ __align__(16) float tile[64];
  if (threadIdx.x < 16) copy_async_16(&tile[threadIdx.x * 4], &in[threadIdx.x * 4], 16);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void wait_without_barrier_planted(const float *in, float *out) {
  __shared__ __align__(16) float tile[64];
  if (threadIdx.x < 16) copy_async_16(&tile[threadIdx.x * 4], &in[threadIdx.x * 4], 16);
  copy_async_commit();
  __syncthreads();
  copy_async_wait<0>();
  out[threadIdx.x] = tile[threadIdx.x];  // planted: wait_without_barrier
}

// Two stages of 32: the wait must leave no more than the newer one under way.
extern "C" __global__ void one_wait_short_correct(const float *in, float *out) {
  __shared__ float tile[2][32];
  for (uint32_t stage = 0; stage < 2; ++stage) {
    if (threadIdx.x < 32) copy_async_4(&tile[stage][threadIdx.x], &in[stage * 32 + threadIdx.x], 4);
    copy_async_commit();
  }
  copy_async_wait<1>();
  __syncthreads();
  if (threadIdx.x < 32) out[threadIdx.x] = tile[0][31 - threadIdx.x];
  copy_async_wait<0>();
  __syncthreads();
  if (threadIdx.x >= 32) out[threadIdx.x] = tile[1][63 - threadIdx.x];
}

extern "C" __global__ void one_wait_short_planted(const float *in, float *out) {
  __shared__ float tile[2][32];
  for (uint32_t stage = 0; stage < 2; ++stage) {
    if (threadIdx.x < 32) copy_async_4(&tile[stage][threadIdx.x], &in[stage * 32 + threadIdx.x], 4);
    copy_async_commit();
  }
  copy_async_wait<1>();
  __syncthreads();
  if (threadIdx.x < 32) out[threadIdx.x] = tile[0][31 - threadIdx.x];
  if (threadIdx.x >= 32) out[threadIdx.x] = tile[1][63 - threadIdx.x];  // planted: one_wait_short
}

// A stage is filled again while others still read it.
extern "C" __global__ void early_refill_correct(const float *in, float *out) {
  __shared__ float tile[64];
  for (uint32_t round = 0; round < 2; ++round) {
    copy_async_4(&tile[threadIdx.x], &in[threadIdx.x], 4);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];
    __syncthreads();
  }
}

extern "C" __global__ void early_refill_planted(const float *in, float *out) {
  __shared__ float tile[64];
  for (uint32_t round = 0; round < 2; ++round) {
    copy_async_4(&tile[threadIdx.x], &in[threadIdx.x], 4);  // planted: early_refill
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];
  }
}
