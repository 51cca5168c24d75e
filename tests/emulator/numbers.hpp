// The 16-bit and tf32 numbers of the device in plain C++, rounding as its conversions do.
#pragma once

#include <stdint.h>
#include <string.h>
#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace headlight {

#define HEADLIGHT_INLINE inline __attribute__((always_inline))

HEADLIGHT_INLINE uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

HEADLIGHT_INLINE float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

HEADLIGHT_INLINE float from_bf16(uint16_t bits) { return float_of(uint32_t(bits) << 16); }

// To nearest, ties to even; every NaN becomes the device's one.
HEADLIGHT_INLINE uint16_t to_bf16(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

HEADLIGHT_INLINE float from_f16(uint16_t half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#else
  const uint32_t sign = uint32_t(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31, mantissa = half & 0x3ff;
  if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
  if (exponent) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
  const float small = float(mantissa) * 5.9604644775390625e-8f;  // 2⁻²⁴
  return float_of(sign | bits_of(small));
#endif
}

HEADLIGHT_INLINE uint16_t to_f16(float x) {
  const uint32_t bits = bits_of(x), magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
#if defined(__F16C__)
  return uint16_t(_cvtss_sh(x, 0));
#else
  const uint16_t sign = uint16_t(bits >> 16) & 0x8000;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00;  // 65520 and above
  if (magnitude < 0x38800000u) {
    // Below 2⁻¹⁴ the steps are 2⁻²⁴: adding 2⁻¹ leaves float's own rounding to make them.
    return sign | uint16_t(bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1);
  return sign | uint16_t((rounded >> 13) - (112u << 10));
#endif
}

// 10 bits of mantissa, ties away from zero.
HEADLIGHT_INLINE float to_tf32(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return float_of(0x7fffffffu);
  return float_of((bits + 0x1000u) & ~0x1fffu);
}

}  // namespace headlight
