// Planted bugs: matrix fragments in the wrong place, which only the product shows, and warps that are
// not whole, which the emulator sees.

#include "common.cuh"

// out [16][8] = a [16][16] · b [8][16]ᵀ, in bf16. launch: grid 1, block 32
template <bool swapped>
DEVICE void product(const uint16_t *a, const uint16_t *b, float *out) {
  __shared__ __align__(16) uint16_t tile[16][24];  // 8 more, so that no two rows lie in the same banks
  const uint32_t lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (uint32_t i = lane; i < 256; i += WARP) tile[i / 16][i % 16] = a[i];
  __syncwarp();
  uint32_t left[4], right[2];
  // Matrices 0, 1 are rows 0 and 8 of the left half, 2, 3 of the right one.
  load_matrix_x4(left, &tile[lane % 16][lane / 16 * 8]);
  for (uint32_t half = 0; half < 2; ++half) {
    const uint16_t *pair = b + g * 16 + half * 8 + 2 * t;
    right[half] = uint32_t(pair[0]) | uint32_t(pair[1]) << 16;
  }
  if (swapped) {
    const uint32_t kept = left[1];
    left[1] = left[2];
    left[2] = kept;
  }
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_bf16(sum, left, right);
  out[g * 8 + 2 * t] = sum[0];
  out[g * 8 + 2 * t + 1] = sum[1];
  out[(g + 8) * 8 + 2 * t] = sum[2];
  out[(g + 8) * 8 + 2 * t + 1] = sum[3];
}

extern "C" __global__ void swapped_fragments_correct(const uint16_t *a, const uint16_t *b,
                                                     float *out) {
  product<false>(a, b, out);
}

extern "C" __global__ void swapped_fragments_planted(const uint16_t *a, const uint16_t *b,
                                                     float *out) {
  product<true>(a, b, out);
}

// out [16][8] = a [16][8] · b [8][8]ᵀ, in tf32. launch: grid 1, block 32
extern "C" __global__ void product_tf32(const float *a, const float *b, float *out) {
  const uint32_t lane = threadIdx.x, g = lane / 4, t = lane % 4;
  uint32_t left[4], right[2];
  for (uint32_t i = 0; i < 4; ++i) {
    left[i] = __float_as_uint(round_tf32(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]));
  }
  for (uint32_t i = 0; i < 2; ++i) right[i] = __float_as_uint(round_tf32(b[g * 8 + t + i * 4]));
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_tf32(sum, left, right);
  for (uint32_t i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

// Half of the warp leaves before the product.
extern "C" __global__ void half_a_warp_correct(const float *in, float *out) {
  uint32_t left[4] = {}, right[2] = {};
  float sum[4] = {in[threadIdx.x], 0.0f, 0.0f, 0.0f};
  mma_bf16(sum, left, right);
  out[threadIdx.x] = sum[0];
}

extern "C" __global__ void half_a_warp_planted(const float *in, float *out) {
  uint32_t left[4] = {}, right[2] = {};
  float sum[4] = {in[threadIdx.x], 0.0f, 0.0f, 0.0f};
  out[threadIdx.x] = sum[0];
  if (threadIdx.x % 32 >= 16) return;
  mma_bf16(sum, left, right);  // planted: half_a_warp
  out[threadIdx.x] = sum[0];
}

// ldmatrix reads rows of 16 bytes that are aligned to 16.
template <uint32_t skew>
DEVICE void load_rows(const float *in, float *out, uint32_t (&words)[4]) {
  __shared__ __align__(16) float tile[32 * 4 + 4];
  for (uint32_t i = threadIdx.x; i < 132; i += 64) tile[i] = in[i % 64];
  __syncthreads();
  load_matrix_x4(words, &tile[threadIdx.x % 32 * 4 + skew]);  // planted: skewed_rows
  out[threadIdx.x] = __uint_as_float(words[0]);
}

extern "C" __global__ void skewed_rows_correct(const float *in, float *out) {
  uint32_t words[4];
  load_rows<0>(in, out, words);
}

// Rows 16, or 32, bytes apart.
template <uint32_t apart>
DEVICE void load_apart(const float *in, float *out) {
  __shared__ __align__(16) float tile[32 * 8];
  for (uint32_t i = threadIdx.x; i < 256; i += 64) tile[i] = in[i % 64];
  __syncthreads();
  uint32_t words[4];
  load_matrix_x4(words, &tile[threadIdx.x % 32 * apart]);  // planted: rows_in_banks
  out[threadIdx.x] = __uint_as_float(words[0]);
}

extern "C" __global__ void rows_in_banks_correct(const float *in, float *out) { load_apart<4>(in, out); }

extern "C" __global__ void rows_in_banks_planted(const float *in, float *out) { load_apart<8>(in, out); }

extern "C" __global__ void skewed_rows_planted(const float *in, float *out) {
  uint32_t words[4];
  load_rows<2>(in, out, words);
}
