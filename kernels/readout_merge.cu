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

// launch: blocks of 256 (a warp a result), grid ceil(count / 8), no dynamic shared memory.
// parts [count][tiles][4] and above [wanted][tiles] from the scan; base and wanted_first as there.
// Writes log_sum_exp[count], entropy[count], divergence[count] (0 where there is no base) and, where
// wanted_first is not null, ranks[wanted].
extern "C" __global__ void __launch_bounds__(256) readout_merge(
    const float *__restrict__ parts, uint32_t tiles, uint32_t count,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ above, double *__restrict__ log_sum_exp,
    double *__restrict__ entropy, double *__restrict__ divergence, uint32_t *__restrict__ ranks) {
  const uint32_t lane = threadIdx.x % WARP, result = warp_row();
  if (result >= count) return;
  const float *own = parts + uint64_t(result) * tiles * 4;
  const Whole whole(own, tiles);
  const double total = whole.max + log(whole.sum);

  double kl = 0.0;
  const uint32_t of = base ? base[result] : NONE;
  if (of != NONE) {
    const float *other = parts + uint64_t(of) * tiles * 4;
    const Whole clean(other, tiles);
    for (uint32_t t = lane; t < tiles; t += WARP)
      kl += exp(double(other[4 * t + MAX]) - clean.max) * own[4 * t + DIVERGENCE];
    kl = fold_sum(kl) / clean.sum + (total - (clean.max + log(clean.sum)));
  }
  if (lane == 0) {
    log_sum_exp[result] = total;
    entropy[result] = log(whole.sum) - whole.weighted / whole.sum;
    divergence[result] = kl;
  }
  if (!wanted_first) return;
  for (uint32_t w = wanted_first[result]; w < wanted_first[result + 1]; ++w) {
    uint32_t rank = 0;
    for (uint32_t t = lane; t < tiles; t += WARP) rank += above[uint64_t(w) * tiles + t];
#pragma unroll
    for (uint32_t offset = WARP / 2; offset > 0; offset /= 2)
      rank += __shfl_xor_sync(ALL_LANES, rank, offset);
    if (lane == 0) ranks[w] = rank;
  }
}

// The first `top` of all tiles, from each tile's first `kept` (= min(top, 192)), which are in order.
// launch: blocks of 256 (a warp a result), grid ceil(count / 8), dynamic shared memory 32 · tiles bytes.
// Beyond the vocabulary ids are 0xffffffff and logits −∞.
extern "C" __global__ void __launch_bounds__(256) readout_top(
    const uint32_t *__restrict__ tile_ids, const float *__restrict__ tile_logits, uint32_t tiles,
    uint32_t count, uint32_t kept, uint32_t top, uint32_t *__restrict__ ids,
    float *__restrict__ logits) {
  DYNAMIC_SHARED(uint32_t, shared);
  const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, result = warp_row();
  if (result >= count) return;
  uint32_t *taken = shared + warp * tiles; // of each tile; lane l alone sees tiles l, l + 32 …
  const uint64_t row = uint64_t(result) * tiles * kept;
  for (uint32_t t = lane; t < tiles; t += WARP) taken[t] = 0;
  for (uint32_t n = 0; n < top; ++n) {
    uint32_t best = 0, id = NONE, tile = 0;
    for (uint32_t t = lane; t < tiles; t += WARP) {
      if (taken[t] == kept) continue;
      const uint64_t at = row + t * kept + taken[t];
      const uint32_t order = sortable(tile_logits[at]), its_id = tile_ids[at];
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
    const uint64_t to = uint64_t(result) * top + n;
    if (first == NONE) {
      if (lane == 0) ids[to] = NONE, logits[to] = -INFINITY;
    } else if (own == first) {
      ids[to] = first;
      logits[to] = tile_logits[row + tile * kept + taken[tile]];
      ++taken[tile];
    }
  }
}
