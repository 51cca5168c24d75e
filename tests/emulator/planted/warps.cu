// Planted bugs: shuffles that not all of the named lanes reach.

#include "common.cuh"

// The sum of a warp's values, in every lane. launch: grid 1, block 64
extern "C" __global__ void missing_lane_correct(const float *in, float *out) {
  float sum = in[threadIdx.x];
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
  out[threadIdx.x] = sum;
}

extern "C" __global__ void missing_lane_planted(const float *in, float *out) {
  float sum = in[threadIdx.x];
  for (int step = 16; step; step /= 2) {
    sum += __shfl_xor_sync(0x7fffffffu, sum, step);  // planted: missing_lane
  }
  out[threadIdx.x] = sum;
}

// A lane returns, or takes another way, before the shuffle that names it.
extern "C" __global__ void returned_lane_correct(const float *in, float *out) {
  const bool used = threadIdx.x != 5;
  float value = used ? in[threadIdx.x] : 0.0f;
  value += __shfl_down_sync(ALL_LANES, value, 1);
  if (used) out[threadIdx.x] = value;
  if (!used) out[threadIdx.x] = 0.0f;
}

extern "C" __global__ void returned_lane_planted(const float *in, float *out) {
  out[threadIdx.x] = 0.0f;
  if (threadIdx.x == 5) return;
  float value = in[threadIdx.x];
  value += __shfl_down_sync(ALL_LANES, value, 1);  // planted: returned_lane
  out[threadIdx.x] = value;
}

// Half of a warp sums on its own.
extern "C" __global__ void outside_mask_correct(const float *in, float *out) {
  float sum = in[threadIdx.x];
  if (threadIdx.x % 32 < 16) {
    for (int step = 8; step; step /= 2) sum += __shfl_xor_sync(0xffffu, sum, step);
  }
  out[threadIdx.x] = sum;
}

extern "C" __global__ void outside_mask_planted(const float *in, float *out) {
  float sum = in[threadIdx.x];
  if (threadIdx.x % 32 < 16) {
    for (int step = 16; step; step /= 2) {
      sum += __shfl_xor_sync(0xffffu, sum, step);  // planted: outside_mask
    }
  }
  out[threadIdx.x] = sum;
}
