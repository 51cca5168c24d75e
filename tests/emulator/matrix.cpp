// mma: gathers the fragments of a warp into matrices, multiplies, and hands the result back.
//
// Fragments, with g = lane / 4 and t = lane % 4 (PTX manual, "Matrix fragments for mma.m16n8k16"):
// 16-bit a: register 0 row g, columns 2t, 2t + 1; register 1 row g + 8; registers 2, 3 the same with
// columns + 8; b: register 0 rows 2t, 2t + 1 of column g, register 1 rows + 8. tf32 a (16×8): register 0
// row g, column t; 1 row g + 8; 2 row g, column t + 4; 3 both; b: row t of column g, then row t + 4.
//
// Arithmetic as measured on tensor cores (Fasi et al. 2021): products are exact, those of a group (8
// of 16-bit numbers, 4 of tf32) are added to the sum at once, and the result is cut off, not rounded,
// to a float. A double holds the group's sum with bits to spare. Cutting off is what makes long sums
// drift, so that a kernel that needs promotion into FFMA registers needs it here too.

#include "matrix.hpp"

#include "device_words.hpp"
#include "engine.hpp"

namespace headlight {

namespace {

// The float nearest to x between it and zero.
inline float cut_off(double x) {
  uint64_t bits;
  __builtin_memcpy(&bits, &x, 8);
  const uint64_t exponent = bits >> 52 & 0x7ff;
  if (exponent < 1023 - 126 || exponent == 0x7ff) {  // too small for this, or not finite
    const float nearest = float(x);
    if (exponent == 0x7ff || __builtin_fabs(double(nearest)) <= __builtin_fabs(x)) return nearest;
    return float_of(bits_of(nearest) - 1);
  }
  bits &= ~((uint64_t(1) << 29) - 1);
  __builtin_memcpy(&x, &bits, 8);
  return float(x);
}

template <int K, int GROUP>
void multiply(float (&c)[16][8], const float (&a)[16][K], const float (&b)[K][8]) {
  for (int row = 0; row < 16; ++row) {
    double sum[8];
    for (int column = 0; column < 8; ++column) sum[column] = c[row][column];
    for (int from = 0; from < K; from += GROUP) {
      for (int k = from; k < from + GROUP; ++k) {
        const double x = a[row][k];
        for (int column = 0; column < 8; ++column) sum[column] += x * double(b[k][column]);
      }
      for (int column = 0; column < 8; ++column) sum[column] = cut_off(sum[column]);
    }
    for (int column = 0; column < 8; ++column) c[row][column] = float(sum[column]);
  }
}

void gather_sums(const Lane *lanes, float (&c)[16][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    c[g][2 * t] = lanes[lane].c[0];
    c[g][2 * t + 1] = lanes[lane].c[1];
    c[g + 8][2 * t] = lanes[lane].c[2];
    c[g + 8][2 * t + 1] = lanes[lane].c[3];
  }
}

void scatter_sums(Lane *lanes, const float (&c)[16][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    lanes[lane].c[0] = c[g][2 * t];
    lanes[lane].c[1] = c[g][2 * t + 1];
    lanes[lane].c[2] = c[g + 8][2 * t];
    lanes[lane].c[3] = c[g + 8][2 * t + 1];
  }
}

template <float (*widened)(uint16_t)>
inline void multiply_16(Lane *lanes) {
  float a[16][16], b[16][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int part = 0; part < 4; ++part) {
      const uint32_t pair = lanes[lane].a[part];
      const int row = g + part % 2 * 8, column = 2 * t + part / 2 * 8;
      a[row][column] = widened(uint16_t(pair));
      a[row][column + 1] = widened(uint16_t(pair >> 16));
    }
    for (int part = 0; part < 2; ++part) {
      const uint32_t pair = lanes[lane].b[part];
      const int row = 2 * t + part * 8;
      b[row][g] = widened(uint16_t(pair));
      b[row + 1][g] = widened(uint16_t(pair >> 16));
    }
  }
  gather_sums(lanes, c);
  multiply<16, 8>(c, a, b);
  scatter_sums(lanes, c);
}

// The hardware looks at 19 bits of an operand.
inline float tf32(uint32_t bits) { return float_of(bits & ~0x1fffu); }

}  // namespace

void multiply_bf16(Lane *lanes) { multiply_16<from_bf16>(lanes); }
void multiply_f16(Lane *lanes) { multiply_16<from_f16>(lanes); }

void multiply_tf32(Lane *lanes) {
  float a[16][8], b[8][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int part = 0; part < 4; ++part) {
      a[g + part % 2 * 8][t + part / 2 * 4] = tf32(lanes[lane].a[part]);
    }
    for (int part = 0; part < 2; ++part) b[t + part * 4][g] = tf32(lanes[lane].b[part]);
  }
  gather_sums(lanes, c);
  multiply<8, 4>(c, a, b);
  scatter_sums(lanes, c);
}

}  // namespace headlight
