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

// The nearest number with a float's mantissa between x and zero.
inline double cut_off(double x) {
  uint64_t bits;
  __builtin_memcpy(&bits, &x, 8);
  bits &= ~((uint64_t(1) << 29) - 1);
  __builtin_memcpy(&x, &bits, 8);
  return x;
}

// Four rows at a time: their sums do not wait for each other.
template <int K, int GROUP>
void multiply(double (&c)[16][8], const double (&a)[16][K], const double (&b)[K][8]) {
  typedef double Row __attribute__((vector_size(64)));
  for (int row = 0; row < 16; row += 4) {
    Row sum[4];
    __builtin_memcpy(sum, c[row], sizeof sum);
    for (int from = 0; from < K; from += GROUP) {
      for (int k = from; k < from + GROUP; ++k) {
        Row right;
        __builtin_memcpy(&right, b[k], sizeof right);
        for (int i = 0; i < 4; ++i) sum[i] += a[row + i][k] * right;
      }
      for (int i = 0; i < 4; ++i) {
        for (int column = 0; column < 8; ++column) sum[i][column] = cut_off(sum[i][column]);
      }
    }
    __builtin_memcpy(c[row], sum, sizeof sum);
  }
}

void gather_sums(const Lane *lanes, double (&c)[16][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    c[g][2 * t] = lanes[lane].c[0];
    c[g][2 * t + 1] = lanes[lane].c[1];
    c[g + 8][2 * t] = lanes[lane].c[2];
    c[g + 8][2 * t + 1] = lanes[lane].c[3];
  }
}

void scatter_sums(Lane *lanes, const double (&c)[16][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    lanes[lane].c[0] = float(c[g][2 * t]);
    lanes[lane].c[1] = float(c[g][2 * t + 1]);
    lanes[lane].c[2] = float(c[g + 8][2 * t]);
    lanes[lane].c[3] = float(c[g + 8][2 * t + 1]);
  }
}

template <float (*widened)(uint16_t)>
inline void multiply_16(Lane *lanes) {
  double a[16][16], b[16][8], c[16][8];
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
  double a[16][8], b[8][8], c[16][8];
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
