// out = epilogue(input · W + bias), the product being gemm.cuh's. Twin of src/backend/cpu/linear.rs.
//
//     x = sum + bias[first + n]                            in f32
//     none:        out = x rounded to the output's type
//     activate:    out = f(x rounded to the input's type), rounded: what stores x and activates it
//                  afterwards gives the same bits
//     residual:    out = residual + x
//
// Results leave through shared memory, sixteen rows of a warp's part at a time, because the fragments
// of `mma` hold two neighbouring numbers where a store wants sixteen bytes.
#pragma once

#include "activation.cuh"
#include "gemm.cuh"

constexpr uint32_t ACTIVATE = 1, RESIDUAL = 2;

// What becomes of a sum.
template <class TO>
struct Epilogue {
  const float *bias; // null: none
  uint32_t kind;
  uint32_t activation;
  View<const float> residual, residual_trace;
  const uint32_t *residual_refs;
  View<TO> out;
  uint32_t out_column;      // of n = 0
  const uint32_t *out_rows; // null: result m goes to row m
};

// Bytes of shared memory behind the stages: input rows, output rows and residual rows of the tile.
template <class G>
constexpr uint32_t LINEAR_SHARED = G::PIPELINE + 3 * G::TILE_ROWS * 4;

// V numbers of a row from `column` on, in vectors of four if `whole`; those past `width` stay.
template <uint32_t V, class Row>
DEVICE void fetch(float (&x)[V], const Row &row, uint32_t column, uint32_t width, bool whole) {
#pragma unroll
  for (uint32_t part = 0; part < V; part += 4) {
    Vector<float, 4> four;
    if (whole)
      load<true>(four, row, column + part, width);
    else
      load<false>(four, row, column + part, width);
#pragma unroll
    for (uint32_t e = 0; e < 4; ++e) x[part + e] = four.at[e];
  }
}

template <class G, class TO>
DEVICE void finish(const G &product, const Operands<typename G::T> &in, const Epilogue<TO> &to,
                   uint32_t row0, uint32_t column0, unsigned char *shared, const uint32_t *places,
                   const uint32_t *refs) {
  constexpr uint32_t V = WIDE<TO>;
  constexpr uint32_t UNITS = 16 * G::WARP_COLUMNS / V / WARP; // vectors of a slice, per lane
  constexpr uint32_t STRIDE = G::WARP_COLUMNS + 8;            // 8 more: conflict-free pairs
  static_assert(UNITS * WARP * V == 16 * G::WARP_COLUMNS, "whole vectors for every lane");
  static_assert(G::THREADS / WARP * 16 * STRIDE * 4 <= G::PIPELINE, "slices fit the stages");

  const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const uint32_t row_in_tile = warp / G::WARPS_ACROSS * G::WARP_ROWS;
  const uint32_t first_column = column0 + warp % G::WARPS_ACROSS * G::WARP_COLUMNS;
  float *slice = reinterpret_cast<float *>(shared) + warp * 16 * STRIDE;

  const bool out_vectors = in_vectors<V>(to.out) && to.out_column % V == 0;
  const bool residual_vectors = in_vectors<4>(to.residual) && in_vectors<4>(to.residual_trace) &&
                                to.out_column % 4 == 0;
  const bool bias_vectors = (reinterpret_cast<uintptr_t>(to.bias) / 4 + in.first) % 4 == 0;

#pragma unroll
  for (uint32_t i = 0; i < G::MT; ++i) {
    // what is added to the sums, under way while they pass through shared memory
    float bias[UNITS][V], residual[UNITS][V];
#pragma unroll
    for (uint32_t u = 0; u < UNITS; ++u) {
      const uint32_t unit = lane + u * WARP;
      const uint32_t m = row_in_tile + 16 * i + unit / (G::WARP_COLUMNS / V);
      const uint32_t n = first_column + unit % (G::WARP_COLUMNS / V) * V;
#pragma unroll
      for (uint32_t e = 0; e < V; ++e) bias[u][e] = residual[u][e] = 0.0f;
      if (row0 + m >= in.count || n >= in.columns) continue;
      const bool whole = n + V <= in.columns;
      if (to.bias) {
        const Plain<const float> numbers{to.bias + in.first};
        fetch<V>(bias[u], numbers, n, in.columns, bias_vectors && whole);
      }
      if (to.kind == RESIDUAL) {
        const RowOf<const float> row = row_of(to.residual, to.residual_trace, refs[m]);
        fetch<V>(residual[u], row, to.out_column + n, to.out_column + in.columns,
                 residual_vectors && whole);
      }
    }

    __syncwarp(); // the slice before this one has been read
#pragma unroll
    for (uint32_t j = 0; j < G::NT; ++j)
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
        float *row = slice + (lane / 4 + 8 * half) * STRIDE;
        product.put(i, j, half, row);
      }
    __syncwarp();

#pragma unroll
    for (uint32_t u = 0; u < UNITS; ++u) {
      const uint32_t unit = lane + u * WARP;
      const uint32_t r = unit / (G::WARP_COLUMNS / V), c = unit % (G::WARP_COLUMNS / V) * V;
      const uint32_t m = row_in_tile + 16 * i + r, n = first_column + c;
      if (row0 + m >= in.count || n >= in.columns) continue;
      Vector<TO, V> result;
#pragma unroll
      for (uint32_t part = 0; part < V; part += 4) {
        const Vector<float, 4> sums =
            *reinterpret_cast<const Vector<float, 4> *>(slice + r * STRIDE + c + part);
#pragma unroll
        for (uint32_t e = 0; e < 4; ++e) {
          float x = sums.at[e] + bias[u][part + e];
          if (to.kind == ACTIVATE) {
            typename G::T stored;
            narrow(x, stored);
            x = activate(to.activation, widen(stored));
          } else if (to.kind == RESIDUAL) {
            x = residual[u][part + e] + x;
          }
          narrow(x, result.at[part + e]);
        }
      }
      const RowOf<TO> row(to.out, places[m]);
      if (out_vectors && n + V <= in.columns)
        store<true>(result, row, to.out_column + n, 0);
      else
        store<false>(result, row, to.out_column + n, to.out_column + in.columns);
    }
  }
}

template <class G, class TO>
DEVICE void linear(const Operands<typename G::T> &in, const Epilogue<TO> &to,
                   unsigned char *shared) {
  const uint32_t row0 = blockIdx.y * G::TILE_ROWS, column0 = blockIdx.x * G::TILE_COLUMNS;
  uint32_t *table = reinterpret_cast<uint32_t *>(shared + G::PIPELINE);
  uint32_t *places = table + G::TILE_ROWS, *refs = places + G::TILE_ROWS;
  for (uint32_t i = threadIdx.x; i < G::TILE_ROWS; i += G::THREADS) {
    const uint32_t m = row0 + i;
    const bool there = m < in.count;
    places[i] = there && to.out_rows ? to.out_rows[m] : m;
    refs[i] = there && to.kind == RESIDUAL ? to.residual_refs[m] : 0;
  }
  G product;
  product.run(in, row0, column0, shared, table); // whose barriers show `places` and `refs`, too
  finish(product, in, to, row0, column0, shared, places, refs);
}
