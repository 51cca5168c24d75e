// Kernels for what goes wrong around a launch.

#include "common.cuh"

// out = in · factor, row by row. launch: a block a row
extern "C" __global__ void __launch_bounds__(256) scale_rows(View<const float> in, float factor,
                                                             uint32_t columns, View<float> out) {
  RowOf<const float> from(in, blockIdx.x);
  RowOf<float> to(out, blockIdx.x);
  for (uint32_t i = threadIdx.x; i < columns; i += blockDim.x) *to.at(i) = *from.at(i) * factor;
}

extern "C" __global__ void copy_words(const float *in, float *out) {
  out[threadIdx.x] = in[threadIdx.x];
}

// Touches the last byte of the shared memory that it was given.
extern "C" __global__ void fill_dynamic(float *out, uint32_t bytes) {
  DYNAMIC_SHARED(uint32_t, words);
  for (uint32_t i = threadIdx.x; i < bytes / 4; i += blockDim.x) words[i] = i;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = float(words[bytes / 4 - 1]);
}

// The same beside static shared memory.
extern "C" __global__ void fill_both(float *out, uint32_t bytes) {
  DYNAMIC_SHARED(uint32_t, words);
  __shared__ uint32_t more[1024];
  more[threadIdx.x] = 1;
  for (uint32_t i = threadIdx.x; i < bytes / 4; i += blockDim.x) words[i] = i;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = float(words[bytes / 4 - 1] + more[0]);
}

// Built-in indices in all dimensions.
extern "C" __global__ void indices(float *out) {
  const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const uint32_t i = block * (blockDim.x * blockDim.y * blockDim.z) + thread;
  out[i] = float(i);
}

// Every form of warp and block exchange, checked by the host.
extern "C" __global__ void exchanges(float *out) {
  const int lane = int(threadIdx.x % 32);
  out[threadIdx.x] = float(__shfl_sync(ALL_LANES, lane, 3));
  out[64 + threadIdx.x] = float(__shfl_up_sync(ALL_LANES, lane, 2));
  out[128 + threadIdx.x] = float(__shfl_down_sync(ALL_LANES, lane, 2));
  out[192 + threadIdx.x] = float(__shfl_xor_sync(ALL_LANES, lane, 8, 16));
  out[256 + threadIdx.x] = float(__popc(__ballot_sync(ALL_LANES, lane < 5)));
  out[320 + threadIdx.x] = float(__syncthreads_or(threadIdx.x == 40));
  out[384 + threadIdx.x] = float(__syncthreads_and(threadIdx.x < 63));
  out[448 + threadIdx.x] = float(__syncthreads_count(threadIdx.x < 10));
}

// Numbers of 16 bits and back. out: 3 · 64
extern "C" __global__ void roundings(const float *in, float *out) {
  bf16 b;
  f16 h;
  narrow(in[threadIdx.x], b);
  narrow(in[threadIdx.x], h);
  out[threadIdx.x] = widen(b);
  out[64 + threadIdx.x] = widen(h);
  out[128 + threadIdx.x] = round_tf32(in[threadIdx.x]);
}

// For measuring: reads, writes and multiply-adds. launch: grid 1, block 256
extern "C" __global__ void work_plain(const float *in, float *out, uint32_t rounds) {
  __shared__ float tile[256];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  float sum = 0.0f;
  for (uint32_t i = 0; i < rounds; ++i) {
    sum = fmaf(tile[(threadIdx.x + i) % 256], in[i % 256], sum);
  }
  out[threadIdx.x] = sum;
}

extern "C" __global__ void work_vectors(const float *in, float *out, uint32_t rounds) {
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  for (uint32_t i = 0; i < rounds; ++i) {
    const float4 four = *reinterpret_cast<const float4 *>(in + (threadIdx.x + i) % 64 * 4);
    sum.x += four.x;
    sum.y += four.y;
    sum.z += four.z;
    sum.w += four.w;
  }
  out[threadIdx.x] = sum.x + sum.y + sum.z + sum.w;
}

extern "C" __global__ void work_barriers(float *out, uint32_t rounds) {
  for (uint32_t i = 0; i < rounds; ++i) __syncthreads();
  out[threadIdx.x] = 0.0f;
}

extern "C" __global__ void work_shuffles(float *out, uint32_t rounds) {
  float sum = float(threadIdx.x);
  for (uint32_t i = 0; i < rounds; ++i) sum = __shfl_xor_sync(ALL_LANES, sum, 1);
  out[threadIdx.x] = sum;
}

extern "C" __global__ void work_mma(float *out, uint32_t rounds) {
  uint32_t left[4] = {1, 2, 3, 4}, right[2] = {5, 6};
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (uint32_t i = 0; i < rounds; ++i) mma_bf16(sum, left, right);
  out[threadIdx.x] = sum[0];
}
