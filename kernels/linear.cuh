// out = epilogue(input · W + bias), the product being gemm.cuh's. Twin of src/backend/cpu/linear.rs.
//
//     x = sum + bias[n]                                    in f32
//     plain:       out = x rounded to the output's type
//     activate:    out = f(x rounded to the input's type), rounded: what stores x and activates it
//                  afterwards gives the same bits
//     residual:    out = residual + x
//
// Results leave through shared memory, sixteen rows of a warp's part at a time, because the fragments
// of `mma` hold two neighbouring numbers where a store wants sixteen bytes.
#pragma once

#include "activation.cuh"
#include "gemm.cuh"

// Bytes of shared memory: stages, and behind them input rows, output rows and residual rows of the tile.
template <class G>
constexpr uint32_t LINEAR_SHARED = G::PIPELINE + 3 * G::TILE_ROWS * 4;
static_assert(LINEAR_SHARED<Large<FFMA>> == LARGE_SHARED);
static_assert(LINEAR_SHARED<Medium<FFMA>> == MEDIUM_SHARED);
static_assert(LINEAR_SHARED<Small<FFMA>> == SMALL_SHARED && LINEAR_SHARED<Small<BF16>> == SMALL_SHARED);

template <class G, class TO>
DEVICE void finish(G &product, const Operands<typename G::T> &in, const Epilogue<TO> &to, uint32_t row0,
                   uint32_t column0, unsigned char *shared, const uint32_t *places,
                   const uint32_t *refs) {
  constexpr uint32_t WIDTH = G::WARP_COLUMNS;
  constexpr uint32_t V = WIDE<TO>, ROW_UNITS = WIDTH / V; // vectors of 16 bytes, of a row
  constexpr uint32_t UNITS = 16 * ROW_UNITS / WARP;       // and of a slice, per lane
  constexpr uint32_t STRIDE = WIDTH + 8;                  // 8 more: conflict-free pairs
  static_assert(UNITS * WARP == 16 * ROW_UNITS, "whole vectors for every lane");
  static_assert(G::THREADS / WARP * 16 * STRIDE * 4 <= G::PIPELINE, "slices fit the stages");

  const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const uint32_t row_in_tile = warp / G::WARPS_ACROSS * G::WARP_ROWS;
  const uint32_t first_column = column0 + warp % G::WARPS_ACROSS * WIDTH;
  float *slice = reinterpret_cast<float *>(shared) + warp * 16 * STRIDE;

  const bool residual = to.finish == Finish::RESIDUAL;
  const bool whole = first_column + WIDTH <= in.columns && in_vectors<V>(to.out) &&
                     to.out_column % V == 0 &&
                     (!residual || in_vectors<4>(to.residual));

  if (to.bias) {
#pragma unroll
    for (uint32_t j = 0; j < G::NT; ++j)
#pragma unroll
      for (uint32_t e = 0; e < 2; ++e) {
        const uint32_t n = first_column + G::column_of(j, e);
        const float bias = n < in.columns ? to.bias[n] : 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < G::MT; ++i) {
          product.sum[i][j][e] += bias;
          product.sum[i][j][e + 2] += bias;
        }
      }
  }

#pragma unroll
  for (uint32_t i = 0; i < G::MT; ++i) {
    const uint32_t slice_row = row_in_tile + 16 * i;
    // the residual is under way while the sums pass through shared memory
    Vector<float, 4> added[UNITS][V / 4];
#pragma unroll
    for (uint32_t u = 0; u < UNITS; ++u) {
      const uint32_t unit = lane + u * WARP, m = slice_row + unit / ROW_UNITS;
      if (!residual || !whole || row0 + m >= in.count) continue;
      const RowOf<const float> row = row_at(to.residual, refs[m]);
#pragma unroll
      for (uint32_t part = 0; part < V / 4; ++part)
        read_whole(added[u][part],
                   row.at(to.out_column + first_column + unit % ROW_UNITS * V + part * 4));
    }

    __syncwarp(); // the slice before this one has been read
#pragma unroll
    for (uint32_t j = 0; j < G::NT; ++j)
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half)
        product.put(i, j, half, slice + (lane / 4 + 8 * half) * STRIDE);
    __syncwarp();

    if (to.finish == Finish::ACTIVATE) {
      // a loop that is not unrolled: the function's four forms are long
#pragma unroll 1
      for (uint32_t f = lane; f < 16 * WIDTH / 4; f += WARP) {
        float *four = slice + f / (WIDTH / 4) * STRIDE + f % (WIDTH / 4) * 4;
        Vector<float, 4> x;
        read_whole(x, four);
#pragma unroll
        for (uint32_t e = 0; e < 4; ++e) {
          typename G::T stored;
          narrow(x.at[e], stored);
          x.at[e] = activate(to.activation, widen(stored));
        }
        write_whole(x, four);
      }
      __syncwarp();
    }

    if (whole) {
#pragma unroll
      for (uint32_t u = 0; u < UNITS; ++u) {
        const uint32_t unit = lane + u * WARP, r = unit / ROW_UNITS, c = unit % ROW_UNITS * V;
        if (row0 + slice_row + r >= in.count) continue;
        Vector<TO, V> result;
#pragma unroll
        for (uint32_t part = 0; part < V / 4; ++part) {
          Vector<float, 4> x;
          read_whole(x, slice + r * STRIDE + c + part * 4);
#pragma unroll
          for (uint32_t e = 0; e < 4; ++e)
            narrow(residual ? added[u][part].at[e] + x.at[e] : x.at[e], result.at[part * 4 + e]);
        }
        write_whole(result, RowOf<TO>(to.out, places[slice_row + r]).at(to.out_column + first_column + c));
      }
    } else {
#pragma unroll 1
      for (uint32_t f = lane; f < 16 * WIDTH; f += WARP) {
        const uint32_t r = f / WIDTH, c = f % WIDTH, m = slice_row + r, n = first_column + c;
        if (row0 + m >= in.count || n >= in.columns) continue;
        float x = slice[r * STRIDE + c];
        if (residual) x = *row_at(to.residual, refs[m]).at(to.out_column + n) + x;
        narrow(x, *RowOf<TO>(to.out, places[m]).at(to.out_column + n));
      }
    }
  }
}

template <class G, class TO>
DEVICE void linear(const LinearArgs<typename G::T, TO> &a) {
  DYNAMIC_SHARED(unsigned char, shared);
  const LinearPart<typename G::T, TO> &part = (&a.first)[blockIdx.z];
  const Operands<typename G::T> &in = part.operands;
  const Epilogue<TO> &to = part.to;
  const uint32_t row0 = blockIdx.y * G::TILE_ROWS, column0 = blockIdx.x * G::TILE_COLUMNS;
  if (row0 >= in.count || column0 >= in.columns) return; // another part has more
  uint32_t *table = reinterpret_cast<uint32_t *>(shared + G::PIPELINE);
  uint32_t *places = table + G::TILE_ROWS, *refs = places + G::TILE_ROWS;
  for (uint32_t i = threadIdx.x; i < G::TILE_ROWS; i += G::THREADS) {
    const uint32_t m = row0 + i;
    const bool there = m < in.count;
    places[i] = there && to.out_rows ? to.out_rows[m] : m;
    refs[i] = there && to.finish == Finish::RESIDUAL ? to.residual.refs[m] : 0;
  }
  G product;
  product.run(in, row0, column0, shared, table); // whose barriers show `places` and `refs`, too
  finish(product, in, to, row0, column0, shared, places, refs);
}
