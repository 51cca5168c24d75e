// Planted bugs: reads and writes where they should not be.

#include "common.cuh"

// out[i] = in[i] + in[i + 1], the last one alone. launch: grid 1, block 64; count is 64
extern "C" __global__ void off_by_one_correct(const float *in, float *out, uint32_t count) {
  const uint32_t i = threadIdx.x;
  float sum = in[i];
  if (i + 1 < count) sum += in[i + 1];
  out[i] = sum;
}

extern "C" __global__ void off_by_one_planted(const float *in, float *out, uint32_t count) {
  const uint32_t i = threadIdx.x;
  float sum = in[i];
  if (i < count) sum += in[i + 1];  // planted: off_by_one
  out[i] = sum;
}

extern "C" __global__ void past_shared_correct(const float *in, float *out, uint32_t count) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[min(threadIdx.x + 1, count - 1)];
}

extern "C" __global__ void past_shared_planted(const float *in, float *out, uint32_t count) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[min(threadIdx.x + 1, count)];  // planted: past_shared
}

// launch: dynamic shared memory for 64 floats
extern "C" __global__ void past_dynamic_correct(const float *in, float *out, uint32_t count) {
  DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[min(threadIdx.x + 1, count - 1)];
}

extern "C" __global__ void past_dynamic_planted(const float *in, float *out, uint32_t count) {
  DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x + 1] = in[min(threadIdx.x, count)];  // planted: past_dynamic
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x + 1];
}

// The last element stays unwritten: seen when the host copies it, or another kernel reads it.
extern "C" __global__ void uninitialised_output_correct(const float *in, float *out,
                                                        uint32_t count) {
  if (threadIdx.x < count) out[threadIdx.x] = in[threadIdx.x];
}

extern "C" __global__ void uninitialised_output_planted(const float *in, float *out,
                                                        uint32_t count) {
  if (threadIdx.x < count - 1) out[threadIdx.x] = in[threadIdx.x];
}

// Shared memory that was not written in this block holds anything.
extern "C" __global__ void uninitialised_shared_correct(const float *in, float *out) {
  __shared__ float sums[2];
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = sums[0] + sums[1];
}

extern "C" __global__ void uninitialised_shared_planted(const float *in, float *out) {
  __shared__ float sums[2];
  if (threadIdx.x % 64 == 0) sums[threadIdx.x / 32] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = sums[0] + sums[1];  // planted: uninitialised_shared
}

extern "C" __global__ void misaligned_vector_correct(const float *in, float *out) {
  if (threadIdx.x < 15) {
    const float4 four = *reinterpret_cast<const float4 *>(in + threadIdx.x * 4);
    out[threadIdx.x] = four.x + four.w;
  } else {
    out[threadIdx.x] = 0.0f;
  }
}

extern "C" __global__ void misaligned_vector_planted(const float *in, float *out) {
  if (threadIdx.x < 15) {
    const float *from = in + threadIdx.x * 4 + 2;
    const float4 four = *reinterpret_cast<const float4 *>(from);  // planted: misaligned_vector
    out[threadIdx.x] = four.x + four.w;
  } else {
    out[threadIdx.x] = 0.0f;
  }
}
