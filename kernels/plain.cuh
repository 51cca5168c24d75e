// A product of rows with a factor that lies as it is multiplied, [K, N]: FFMA on a tile in shared memory,
// summed as on the CPU, k ascending in blocks of 256.
#pragma once

#include "common.cuh"

constexpr uint32_t DEPTH = 16;  // of K that stand in shared memory at once
constexpr uint32_t SIDE = 4;    // a thread has 4 × 4 results, and loads 4 numbers of each operand

// finish(m, n, Σ_k input(m)[k] · factor[k, n]) for a tile of rows and columns, factor[k, n] standing at
// k · stride + n; without a factor, finish(m, n, input(m)[n]).
template <class Input, class F, class Output>
DEVICE void through(const Input &input, uint32_t count, uint32_t inputs, const F *factor, uint32_t stride,
                    uint32_t columns, const Output &finish) {
  __shared__ Vector<float, SIDE> x[DEPTH][PLAIN_TILE / SIDE + 1];
  __shared__ Vector<float, SIDE> w[DEPTH][PLAIN_TILE / SIDE];
  const uint32_t thread = threadIdx.x;
  const uint32_t row0 = blockIdx.x * PLAIN_TILE, column0 = blockIdx.y * PLAIN_TILE;
  if (!factor) {
    for (uint32_t i = thread; i < PLAIN_TILE * PLAIN_TILE; i += PLAIN_THREADS) {
      const uint32_t m = row0 + i / PLAIN_TILE, n = column0 + i % PLAIN_TILE;
      if (m < count && n < columns) finish(m, n, input(m).at(n));
    }
    return;
  }
  // which numbers this thread loads, of every stage
  const uint32_t x_row = thread / (DEPTH / SIDE), x_k = thread % (DEPTH / SIDE) * SIDE;
  const uint32_t w_k = thread / (PLAIN_TILE / SIDE), w_column = thread % (PLAIN_TILE / SIDE);
  const bool has_row = row0 + x_row < count;
  const auto row = input(min(row0 + x_row, count - 1));
  // and which results it sums
  const uint32_t across = thread % (PLAIN_TILE / SIDE), down = thread / (PLAIN_TILE / SIDE);
  float total[SIDE][SIDE] = {}, part[SIDE][SIDE] = {};
  Vector<float, SIDE> next_x, next_w;
  auto fetch = [&](uint32_t k0) {
#pragma unroll
    for (uint32_t i = 0; i < SIDE; ++i) {
      const uint32_t k = k0 + x_k + i, n = column0 + w_column * SIDE + i;
      next_x.at[i] = has_row && k < inputs ? row.at(k) : 0.0f;
      next_w.at[i] = k0 + w_k < inputs && n < columns ? widen(factor[uint64_t(k0 + w_k) * stride + n]) : 0.0f;
    }
  };
  fetch(0);
  for (uint32_t k0 = 0; k0 < inputs; k0 += DEPTH) {
#pragma unroll
    for (uint32_t i = 0; i < SIDE; ++i) x[x_k + i][x_row / SIDE].at[x_row % SIDE] = next_x.at[i];
    w[w_k][w_column] = next_w;
    __syncthreads(); // the stage is there
    if (k0 + DEPTH < inputs) fetch(k0 + DEPTH);
#pragma unroll
    for (uint32_t k = 0; k < DEPTH; ++k) {
      const Vector<float, SIDE> a = x[k][down], b = w[k][across];
#pragma unroll
      for (uint32_t i = 0; i < SIDE; ++i)
#pragma unroll
        for (uint32_t j = 0; j < SIDE; ++j) part[i][j] = fmaf(a.at[i], b.at[j], part[i][j]);
    }
    if ((k0 + DEPTH) % CHAIN == 0 || k0 + DEPTH >= inputs) {
#pragma unroll
      for (uint32_t i = 0; i < SIDE; ++i)
#pragma unroll
        for (uint32_t j = 0; j < SIDE; ++j) {
          total[i][j] += part[i][j];
          part[i][j] = 0.0f;
        }
    }
    __syncthreads(); // and has been read
  }
#pragma unroll
  for (uint32_t i = 0; i < SIDE; ++i)
#pragma unroll
    for (uint32_t j = 0; j < SIDE; ++j) {
      const uint32_t m = row0 + down * SIDE + i, n = column0 + across * SIDE + j;
      if (m < count && n < columns) finish(m, n, total[i][j]);
    }
}
