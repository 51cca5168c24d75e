// The distribution of the next token, and what is kept of it; the logits never leave the block.
// Twin of src/backend/cpu/readout.rs.
//
// The vocabulary is cut into tiles of VOCABULARY_TILE columns, whatever the machine and however many rows there
// are. Of each tile each row keeps, with l its logits there,
//
//     m = max l    s = Σ e^(l − m)    u = Σ e^(l − m) (l − m)    k = Σ e^(b − max b) (b − l)
//
// b being the logits of the row's base, which stands in the same tile of rows: column c goes to lane
// c mod 32, in order, then lanes are folded in halves. The merge, in doubles, over tiles, with
// M = max m and w = e^(m − M):
//
//     S = Σ w s                           log-sum-exp  L = M + ln S
//     U = Σ w (u + (m − M) s)             entropy      ln S − U / S
//     K = Σ w' k, w' and S' the base's    KL(base‖run) = K / S' + L − L'
//
// Logits are ordered by their bits as total_cmp orders them, equal ones by lower id, so that the order
// is total: NaN stands above all. A wanted logit's rank is how many stand before it.
#pragma once

#include "gemm.cuh"

constexpr uint32_t LANE_COLUMNS = VOCABULARY_TILE / WARP;

// What one tile of the vocabulary says of one row: m, s, u and k.
using Part = Vector<float, 4>;
constexpr uint32_t MAX = 0, SUM = 1, WEIGHTED = 2, DIVERGENCE = 3;

// Bits whose order as integers is the order of floats.
DEVICE uint32_t sortable(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Whether logit `a` of id `i` stands before logit `b` of id `j`, both as sortable bits.
DEVICE bool before(uint32_t a, uint32_t i, uint32_t b, uint32_t j) {
  return a > b || (a == b && i < j);
}

// Bytes of shared memory: stages and later logits, then the table of rows.
template <class G>
constexpr uint32_t SCAN_ROWS_AT = G::PIPELINE > G::TILE_ROWS * VOCABULARY_TILE * 4
                                         ? G::PIPELINE
                                         : G::TILE_ROWS * VOCABULARY_TILE * 4;
template <class G>
constexpr uint32_t SCAN_SHARED = SCAN_ROWS_AT<G> + G::TILE_ROWS * 4;
static_assert(SCAN_SHARED<Large<FFMA>> == LARGE_SCAN_SHARED);
static_assert(SCAN_SHARED<Wide<FFMA>> == SMALL_SCAN_SHARED);

// Where a row's columns are turned to, so that neither fragments nor rows meet in a bank.
DEVICE uint32_t turn_of(uint32_t row) { return row % 8 * 8; }

// This lane's columns of a row of logits: lane, lane + 32 … Those from `width` on are −∞.
DEVICE void lane_logits(float (&x)[LANE_COLUMNS], const float *logits, uint32_t row, uint32_t width) {
  const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
  for (uint32_t j = 0; j < LANE_COLUMNS; ++j) {
    const uint32_t column = lane + j * WARP;
    x[j] = column < width ? logits[row * VOCABULARY_TILE + (column ^ turn_of(row))] : -INFINITY;
  }
}

DEVICE float lane_max(const float (&x)[LANE_COLUMNS]) {
  float m = x[0];
#pragma unroll
  for (uint32_t j = 1; j < LANE_COLUMNS; ++j) m = fmaxf(m, x[j]);
  return warp_max(m);
}

// One warp, one row of one tile of the vocabulary.
template <class T>
DEVICE void scan_row(const ScanArgs<T> &scan, const float *logits, uint32_t row0, uint32_t row, uint32_t tile,
                     uint32_t tiles, uint32_t width) {
  const uint32_t lane = threadIdx.x % WARP, result = row0 + row, first_id = tile * VOCABULARY_TILE;
  float x[LANE_COLUMNS];
  lane_logits(x, logits, row, width);

  Part part{{lane_max(x), 0.0f, 0.0f, 0.0f}};
#pragma unroll
  for (uint32_t j = 0; j < LANE_COLUMNS; ++j) {
    if (lane + j * WARP >= width) continue;
    const float e = expf(x[j] - part.at[MAX]);
    part.at[SUM] += e;
    part.at[WEIGHTED] = fmaf(e, x[j] - part.at[MAX], part.at[WEIGHTED]);
  }
  part.at[SUM] = warp_sum(part.at[SUM]);
  part.at[WEIGHTED] = warp_sum(part.at[WEIGHTED]);

  const uint32_t base = scan.base ? scan.base[result] : NONE;
  if (base != NONE) {
    float b[LANE_COLUMNS];
    lane_logits(b, logits, base - row0, width);
    const float max = lane_max(b);
#pragma unroll
    for (uint32_t j = 0; j < LANE_COLUMNS; ++j)
      if (lane + j * WARP < width)
        part.at[DIVERGENCE] = fmaf(expf(b[j] - max), b[j] - x[j], part.at[DIVERGENCE]);
    part.at[DIVERGENCE] = warp_sum(part.at[DIVERGENCE]);
  }
  if (lane == 0) write_whole(part, scan.parts + 4 * (uint64_t(result) * tiles + tile));

  uint32_t order[LANE_COLUMNS];
#pragma unroll
  for (uint32_t j = 0; j < LANE_COLUMNS; ++j) order[j] = sortable(x[j]);

  if (scan.wanted_first)
    for (uint32_t w = scan.wanted_first[result]; w < scan.wanted_first[result + 1]; ++w) {
      const uint32_t id = scan.wanted_ids[w], wanted = sortable(scan.wanted_logits[w]);
      uint32_t count = 0;
#pragma unroll
      for (uint32_t j = 0; j < LANE_COLUMNS; ++j) {
        const uint32_t column = lane + j * WARP;
        count += __popc(__ballot_sync(
            ALL_LANES, column < width && before(order[j], first_id + column, wanted, id)));
      }
      if (lane == 0) scan.above[uint64_t(w) * tiles + tile] = count;
    }

  // the tile's first few, one after the other; columns already taken, or not there, are marked
  uint32_t left = 0;
#pragma unroll
  for (uint32_t j = 0; j < LANE_COLUMNS; ++j) left |= uint32_t(lane + j * WARP < width) << j;
  for (uint32_t n = 0; n < scan.top; ++n) {
    uint32_t best = 0, column = NONE;
#pragma unroll
    for (uint32_t j = 0; j < LANE_COLUMNS; ++j)
      if (left >> j & 1 && (column == NONE || before(order[j], lane + j * WARP, best, column)))
        best = order[j], column = lane + j * WARP;
#pragma unroll
    for (uint32_t offset = WARP / 2; offset > 0; offset /= 2) {
      const uint32_t other = __shfl_xor_sync(ALL_LANES, best, offset);
      const uint32_t its_column = __shfl_xor_sync(ALL_LANES, column, offset);
      if (its_column != NONE && (column == NONE || before(other, its_column, best, column)))
        best = other, column = its_column;
    }
    if (column != NONE && column % WARP == lane) left &= ~(1u << column / WARP);
    if (lane == 0) {
      const uint64_t to = (uint64_t(result) * tiles + tile) * scan.top + n;
      scan.top_ids[to] = column == NONE ? NONE : first_id + column;
      scan.top_logits[to] =
          column == NONE ? -INFINITY : logits[row * VOCABULARY_TILE + (column ^ turn_of(row))];
    }
  }
}

// Logits of a tile of rows and of the vocabulary, [row][column ^ turn_of(row)] in shared memory, for all threads.
template <class G>
DEVICE float *tile_logits(const Operands<typename G::T> &in, uint32_t row0, uint32_t first_id, unsigned char *shared) {
  static_assert(G::TILE_COLUMNS == VOCABULARY_TILE, "tiles at fixed columns");
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  float *logits = reinterpret_cast<float *>(shared);
  {
    G product;
    product.run(in, row0, first_id, shared,
                reinterpret_cast<uint32_t *>(shared + SCAN_ROWS_AT<G>));
#pragma unroll
    for (uint32_t i = 0; i < G::MT; ++i)
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
        const uint32_t row = warp / G::WARPS_ACROSS * G::WARP_ROWS + 16 * i + 8 * half + lane / 4;
#pragma unroll
        for (uint32_t j = 0; j < G::NT; ++j)
          product.put(i, j, half, logits + row * VOCABULARY_TILE,
                      warp % G::WARPS_ACROSS * G::WARP_COLUMNS, turn_of(row));
      }
  }
  __syncthreads();
  return logits;
}

template <class G>
DEVICE void scan(const ScanArgs<typename G::T> &a) {
  DYNAMIC_SHARED(unsigned char, shared);
  const Operands<typename G::T> &in = a.operands;
  const uint32_t row0 = blockIdx.x * G::TILE_ROWS, tile = blockIdx.y, tiles = gridDim.y;
  const uint32_t first_id = tile * VOCABULARY_TILE;
  const float *logits = tile_logits<G>(in, row0, first_id, shared);
  const uint32_t width = in.columns - first_id < VOCABULARY_TILE ? in.columns - first_id : VOCABULARY_TILE;
  for (uint32_t row = threadIdx.x / WARP; row < G::TILE_ROWS && row0 + row < in.count; row += G::THREADS / WARP)
    scan_row(a, logits, row0, row, tile, tiles, width);
}

// The logit of one id for each of `count` input rows, by the scan's arithmetic: the block multiplies 32
// rows with their 32 ids' unembeddings and keeps the diagonal.
template <class G>
DEVICE void wanted(const WantedArgs<typename G::T> &a) {
  DYNAMIC_SHARED(unsigned char, shared);
  const Operands<typename G::T> &in = a.operands;
  const uint32_t row0 = blockIdx.x * G::TILE_ROWS;
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  Operands<typename G::T> block = in;
  block.columns = in.count - row0 < G::TILE_ROWS ? in.count : row0 + G::TILE_ROWS;
  G product;
  product.run(block, row0, row0, shared, reinterpret_cast<uint32_t *>(shared + G::PIPELINE));
#pragma unroll
  for (uint32_t i = 0; i < G::MT; ++i)
#pragma unroll
    for (uint32_t j = 0; j < G::NT; ++j)
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) {
        const uint32_t row = warp / G::WARPS_ACROSS * G::WARP_ROWS + 16 * i + lane / 4 + e / 2 * 8;
        const uint32_t column = warp % G::WARPS_ACROSS * G::WARP_COLUMNS + G::column_of(j, e % 2);
        if (row == column && row0 + row < in.count) a.logits[row0 + row] = product.sum[i][j][e];
      }
}
