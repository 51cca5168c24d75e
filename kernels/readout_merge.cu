// What the tiles of the vocabulary say of a row, put together. readout.cuh has the formulas.
#include "readout.cuh"

DEVICE double fold_sum(double x) {
#pragma unroll
  for (uint32_t offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
  return x;
}

// The sums of one row over all tiles, in every lane: tile t goes to lane t mod 32, in order, then lanes
// are folded in halves, an order that the vocabulary alone decides.
struct Whole {
  double max, sum, weighted;

  DEVICE Whole(const float *parts, uint32_t tiles) : sum(0.0), weighted(0.0) {
    const uint32_t lane = threadIdx.x % WARP;
    float highest = -INFINITY;
    for (uint32_t t = lane; t < tiles; t += WARP) highest = fmaxf(highest, parts[4 * t + MAX]);
    max = warp_max(highest);
    for (uint32_t t = lane; t < tiles; t += WARP) {
      Part part;
      read_whole(part, parts + 4 * t);
      const double shift = double(part.at[MAX]) - max, scale = exp(shift);
      sum += scale * part.at[SUM];
      weighted += scale * (part.at[WEIGHTED] + shift * part.at[SUM]);
    }
    sum = fold_sum(sum);
    weighted = fold_sum(weighted);
  }
};

KERNEL(ROW_THREADS) readout_merge(const __grid_constant__ MergeArgs a) {
  const uint32_t tiles = a.tiles;
  const uint32_t lane = threadIdx.x % WARP, result = warp_row();
  if (result >= a.count) return;
  const float *own = a.parts + uint64_t(result) * tiles * 4;
  const Whole whole(own, tiles);
  const double total = whole.max + log(whole.sum);

  double kl = 0.0;
  const uint32_t of = a.base ? a.base[result] : NONE;
  if (of != NONE) {
    const float *other = a.parts + uint64_t(of) * tiles * 4;
    const Whole clean(other, tiles);
    for (uint32_t t = lane; t < tiles; t += WARP)
      kl += exp(double(other[4 * t + MAX]) - clean.max) * own[4 * t + DIVERGENCE];
    kl = fold_sum(kl) / clean.sum + (total - (clean.max + log(clean.sum)));
  }
  if (lane == 0) {
    a.log_sum_exp[result] = total;
    a.entropy[result] = log(whole.sum) - whole.weighted / whole.sum;
    a.divergence[result] = kl;
  }
  if (!a.wanted_first) return;
  for (uint32_t w = a.wanted_first[result]; w < a.wanted_first[result + 1]; ++w) {
    uint32_t rank = 0;
    for (uint32_t t = lane; t < tiles; t += WARP) rank += a.above[uint64_t(w) * tiles + t];
#pragma unroll
    for (uint32_t offset = WARP / 2; offset > 0; offset /= 2)
      rank += __shfl_xor_sync(ALL_LANES, rank, offset);
    if (lane == 0) a.ranks[w] = rank;
  }
}

KERNEL(ROW_THREADS) readout_top(const __grid_constant__ TopArgs a) {
  DYNAMIC_SHARED(uint32_t, shared);
  const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, result = warp_row();
  if (result >= a.count) return;
  uint32_t *taken = shared + warp * a.tiles; // of each tile; lane l alone sees tiles l, l + 32 …
  const uint64_t row = uint64_t(result) * a.tiles * a.kept;
  for (uint32_t t = lane; t < a.tiles; t += WARP) taken[t] = 0;
  for (uint32_t n = 0; n < a.top; ++n) {
    uint32_t best = 0, id = NONE, tile = 0;
    for (uint32_t t = lane; t < a.tiles; t += WARP) {
      if (taken[t] == a.kept) continue;
      const uint64_t at = row + t * a.kept + taken[t];
      const uint32_t order = sortable(a.tile_logits[at]), its_id = a.tile_ids[at];
      if (its_id != NONE && (id == NONE || before(order, its_id, best, id)))
        best = order, id = its_id, tile = t;
    }
    const uint32_t own = id;
    uint32_t first = id;
#pragma unroll
    for (uint32_t offset = WARP / 2; offset > 0; offset /= 2) {
      const uint32_t other = __shfl_xor_sync(ALL_LANES, best, offset);
      const uint32_t its_id = __shfl_xor_sync(ALL_LANES, first, offset);
      if (its_id != NONE && (first == NONE || before(other, its_id, best, first)))
        best = other, first = its_id;
    }
    const uint64_t to = uint64_t(result) * a.top + n;
    if (first == NONE) {
      if (lane == 0) a.ids[to] = NONE, a.logits[to] = -INFINITY;
    } else if (own == first) {
      a.ids[to] = first;
      a.logits[to] = a.tile_logits[row + tile * a.kept + taken[tile]];
      ++taken[tile];
    }
  }
}
