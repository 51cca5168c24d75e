// The readout of f32 operands; readout_half.cu has that of 16-bit ones, readout.cuh the arithmetic.
//
// In this order, for V = ffma, split, tf32 (f32), bf16, f16:
//
//     kernel                    rows × columns   block   grid (x, y)                        dynamic shared
//     readout_wanted_V           32 × –          128     ceil(count / 32)                   49280 bytes
//     readout_scan_V_large      128 × 192        256     ceil(count / 128), tiles           98816 bytes
//     readout_scan_V_small       32 × 192        128     ceil(count / 32), tiles            57472 bytes
//     readout_merge              8 × –           256     ceil(count / 8)                    0
//     readout_top                8 × –           256     ceil(count / 8)                    32 · tiles bytes
//
// with tiles = ceil(vocabulary / 192). Both scans give the same bits. Registers, at most, of sm_80 … 90a and
// of sm_100, 120 (nvcc 13.0; nothing spills): scan_large 255, 255 (ffma), 246, 254 (split), 206, 216 (others);
// scan_small 167, 212; wanted 77, 91; merge 39, 64; top 26, 26. More than 48 KiB must be allowed first.
//
// Arguments of `readout_wanted_V`:
//
//     View<const TA> input, const uint32_t *rows, const uint32_t *ids, uint32_t count
//                               logits[w] is that of id ids[w] after input row rows[w] (null: row w)
//     uint32_t inputs           K
//     const TA *unembedding     [vocabulary, weight_stride], K contiguous; 16-byte aligned
//     uint32_t weight_stride    K rounded up to a multiple of 32; zeros behind K
//     float *logits             [count]
//
// of `readout_scan_V_large` and `_small`:
//
//     View<const TA> input, const uint32_t *rows, uint32_t count, inputs
//                               result i reads input row rows[i]; null: i
//     const TA *unembedding, uint32_t weight_stride, vocabulary
//     const uint32_t *base      [count], the result that result i is compared with, or 0xffffffff; it must
//                               be in the same tile of rows (i / 128 for _large, i / 32 for _small): a row
//                               may be listed again for that. null: nothing is compared
//     const uint32_t *wanted_first   [count + 1]; result i wants wanted_first[i] … [i + 1]; null: nothing
//     const uint32_t *wanted_ids, const float *wanted_logits   [wanted], from `readout_wanted_V`
//     uint32_t *above           [wanted][tiles], how many logits of the tile stand before the wanted one
//     uint32_t top              entries kept a tile, 0 … 192
//     float *parts              [count][tiles][4]: max, sum, weighted, divergence; 16-byte aligned
//     uint32_t *top_ids, float *top_logits   [count][tiles][top], in order; a tile with fewer columns ends
//                               in 0xffffffff, −∞
//
// `readout_merge` and `readout_top` (kept = the scan's top) are in readout_merge.cu.
#include "readout.cuh"

extern "C" __global__ void __launch_bounds__(128, 4) readout_wanted_ffma(
    View<const float> input, const uint32_t *__restrict__ rows, const uint32_t *__restrict__ ids,
    uint32_t count, uint32_t inputs, const float *__restrict__ unembedding, uint32_t weight_stride,
    float *__restrict__ logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  wanted<Small<Multiply::FFMA>>(
      {input, rows, count, inputs, unembedding, weight_stride, ids, 0, count}, logits, shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) readout_scan_ffma_large(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const float *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Large<Multiply::FFMA>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 1) readout_scan_ffma_small(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const float *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Wide<Multiply::FFMA>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) readout_wanted_split(
    View<const float> input, const uint32_t *__restrict__ rows, const uint32_t *__restrict__ ids,
    uint32_t count, uint32_t inputs, const float *__restrict__ unembedding, uint32_t weight_stride,
    float *__restrict__ logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  wanted<Small<Multiply::SPLIT>>(
      {input, rows, count, inputs, unembedding, weight_stride, ids, 0, count}, logits, shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) readout_scan_split_large(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const float *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Large<Multiply::SPLIT>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 1) readout_scan_split_small(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const float *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Wide<Multiply::SPLIT>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) readout_wanted_tf32(
    View<const float> input, const uint32_t *__restrict__ rows, const uint32_t *__restrict__ ids,
    uint32_t count, uint32_t inputs, const float *__restrict__ unembedding, uint32_t weight_stride,
    float *__restrict__ logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  wanted<Small<Multiply::TF32>>(
      {input, rows, count, inputs, unembedding, weight_stride, ids, 0, count}, logits, shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) readout_scan_tf32_large(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const float *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Large<Multiply::TF32>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 1) readout_scan_tf32_small(
    View<const float> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const float *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Wide<Multiply::TF32>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}
