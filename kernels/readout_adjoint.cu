// Where gradients start: ∂m/∂logits, of some tiles of the vocabulary at a time, and never of all. Twin of
// src/backend/cpu/adjoint/readout.rs.
//
// The logits are computed again by the scan's arithmetic (readout.cuh), tile by tile as it has them, so that with
// the row's log-sum-exp L they are the probabilities that were read out: with p = e^(l − L) and H the entropy, and p′
// another row's distribution,
//
//     ∂m/∂l = spread · p + surprise · p (ln p + H) + other · p′
//
// linear_adjoint.cu multiplies them with the unembedding; single logits are added last (adjoint_rows.cu).
#include "readout.cuh"

template <class G>
DEVICE void logit_gradients(const LogitGradientArgs<typename G::T> &a) {
  DYNAMIC_SHARED(unsigned char, shared);
  const Operands<typename G::T> &in = a.operands;
  const uint32_t row0 = blockIdx.x * G::TILE_ROWS, first_id = (a.first_tile + blockIdx.y) * VOCABULARY_TILE;
  const float *logits = tile_logits<G>(in, row0, first_id, shared);
  const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const uint32_t width = min(in.columns - first_id, VOCABULARY_TILE);
  for (uint32_t row = warp; row < G::TILE_ROWS && row0 + row < in.count; row += G::THREADS / WARP) {
    const LogitTerms of = a.terms[row0 + row];
    if (of.to == NONE) continue;
    float x[LANE_COLUMNS], y[LANE_COLUMNS];
    lane_logits(x, logits, row, width);
    if (of.other != NONE) lane_logits(y, logits, of.other - row0, width);
    float *to = a.gradients + uint64_t(of.to) * a.stride + blockIdx.y * VOCABULARY_TILE;
#pragma unroll
    for (uint32_t j = 0; j < LANE_COLUMNS; ++j) {
      const uint32_t column = lane + j * WARP;
      if (column >= width) continue;
      const float log = x[j] - of.log_sum_exp, p = expf(log);
      // a probability that is nothing has no logarithm to count with it
      float gradient = p > 0.0f ? p * fmaf(of.surprise, log + of.entropy, of.spread) : 0.0f;
      if (of.other != NONE) gradient = fmaf(of.other_count, expf(y[j] - of.other_log_sum_exp), gradient);
      to[column] = gradient;
    }
  }
}

KERNEL(SMALL_THREADS, 1) logit_gradients_ffma(const __grid_constant__ LogitGradientArgs<float> a) {
  logit_gradients<Wide<FFMA>>(a);
}
KERNEL(SMALL_THREADS, 1) logit_gradients_split(const __grid_constant__ LogitGradientArgs<float> a) {
  logit_gradients<Wide<SPLIT>>(a);
}
KERNEL(SMALL_THREADS, 1) logit_gradients_tf32(const __grid_constant__ LogitGradientArgs<float> a) {
  logit_gradients<Wide<TF32>>(a);
}
KERNEL(SMALL_THREADS, 1) logit_gradients_bf16(const __grid_constant__ LogitGradientArgs<bf16> a) {
  logit_gradients<Wide<BF16>>(a);
}
KERNEL(SMALL_THREADS, 1) logit_gradients_f16(const __grid_constant__ LogitGradientArgs<f16> a) {
  logit_gradients<Wide<F16>>(a);
}
