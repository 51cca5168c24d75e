// The readout's kernels of 16-bit operands; readout.cu lists them all.
#include "readout.cuh"

extern "C" __global__ void __launch_bounds__(128, 4) readout_wanted_bf16(
    View<const bf16> input, const uint32_t *__restrict__ rows, const uint32_t *__restrict__ ids,
    uint32_t count, uint32_t inputs, const bf16 *__restrict__ unembedding, uint32_t weight_stride,
    float *__restrict__ logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  wanted<Small<Multiply::BF16>>(
      {input, rows, count, inputs, unembedding, weight_stride, ids, 0, count}, logits, shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) readout_scan_bf16_large(
    View<const bf16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const bf16 *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Large<Multiply::BF16>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 1) readout_scan_bf16_small(
    View<const bf16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const bf16 *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Wide<Multiply::BF16>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) readout_wanted_f16(
    View<const f16> input, const uint32_t *__restrict__ rows, const uint32_t *__restrict__ ids,
    uint32_t count, uint32_t inputs, const f16 *__restrict__ unembedding, uint32_t weight_stride,
    float *__restrict__ logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  wanted<Small<Multiply::F16>>(
      {input, rows, count, inputs, unembedding, weight_stride, ids, 0, count}, logits, shared);
}

extern "C" __global__ void __launch_bounds__(256, 1) readout_scan_f16_large(
    View<const f16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const f16 *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Large<Multiply::F16>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}

extern "C" __global__ void __launch_bounds__(128, 1) readout_scan_f16_small(
    View<const f16> input, const uint32_t *__restrict__ rows, uint32_t count, uint32_t inputs,
    const f16 *__restrict__ unembedding, uint32_t weight_stride, uint32_t vocabulary,
    const uint32_t *__restrict__ base, const uint32_t *__restrict__ wanted_first,
    const uint32_t *__restrict__ wanted_ids, const float *__restrict__ wanted_logits,
    uint32_t *__restrict__ above, uint32_t top, float *__restrict__ parts,
    uint32_t *__restrict__ top_ids, float *__restrict__ top_logits) {
  DYNAMIC_SHARED(unsigned char, shared);
  scan<Wide<Multiply::F16>>(
      {input, rows, count, inputs, unembedding, weight_stride, nullptr, 0, vocabulary},
      {base, wanted_first, wanted_ids, wanted_logits, above, top, parts, top_ids, top_logits},
      shared);
}
