// The main loop of every matrix product: a tile of rows times a tile of weight columns.
//
//     sum[m, n] = Σ_k input[m, k] · weight[n, k]        weights are stored transposed, K contiguous
//
// Both operands come through shared memory in panels of 64 bytes a row (16 numbers of 32 bits, 32 of
// 16). A stage is one or a few panels, copied asynchronously some stages ahead: a barrier a stage is
// all that holds warps together, and the longer they may drift apart, the better one's conversions and
// loads hide behind another's products. A panel's 16-byte chunks are swizzled,
//
//     chunk c of row r at  64 r + 16 (c xor (r / 2) mod 4),
//
// so that the eight rows that one phase of ldmatrix (or of a 16-byte load) reads lie in different
// banks. ldmatrix does not care what a 16-byte row holds: four numbers of 32 bits or eight of 16 give
// the fragments of m16n8k8 and m16n8k16 alike, so one loader serves every precision, and a panel is
// two steps of `mma` in all of them.
//
// Batch invariance: element (m, n) is one chain over K in ascending steps, of the same instructions
// whatever the tile, so its bits depend on its own row and column and on K alone:
//
//     FFMA    part = fmaf(a, b, part) for each k of a chain of 256; sum += part; the CPU's arithmetic
//     TF32    sum += a·b, one mma a k-step of 8, operands rounded to tf32
//     BF16, F16    the same in k-steps of 16
//     SPLIT   x = big + small + O(2⁻²² x), as tf32: for each k-step of 8
//                 part = small·big', then += big·small', then += big·big' (three mma from zero)
//                 sum += part, rounded to nearest
//
// Why SPLIT is written so: tensor cores truncate when they add to the accumulator, so a long chain
// drifts, and small products added to a large sum are lost. Here the small products are summed before
// anything large is there, and no chain is longer than three mma; the long sum is made of additions
// that round. Adding every 8 of K and not every 64 costs 4 FADD beside 3 mma, which the other pipe
// does meanwhile, and saves two of three sets of accumulators: a warp can then own 64×48 results.
#pragma once

#include "common.cuh"

enum Multiply { FFMA, SPLIT, TF32, BF16, F16 };

// The type of its operands.
template <Multiply HOW>
struct NumberOf {
  using Type = float;
};
template <>
struct NumberOf<BF16> {
  using Type = bf16;
};
template <>
struct NumberOf<F16> {
  using Type = f16;
};

constexpr uint32_t PANEL_ROW = 64;           // bytes of a row in a panel
constexpr uint32_t CHUNKS = PANEL_ROW / 16;  // 16-byte chunks of it

// A block's product: ROWS × COLUMNS results by WARPS_M × WARPS_N warps, through STAGES stages of PANELS
// panels.
template <Multiply HOW, uint32_t ROWS, uint32_t COLUMNS, uint32_t WARPS_M, uint32_t WARPS_N,
          uint32_t PANELS, uint32_t STAGES>
struct Gemm {
  using T = typename NumberOf<HOW>::Type;
  static constexpr uint32_t TILE_ROWS = ROWS, TILE_COLUMNS = COLUMNS;
  static constexpr uint32_t WARPS_ACROSS = WARPS_N;
  static constexpr uint32_t THREADS = WARPS_M * WARPS_N * WARP;
  static constexpr uint32_t WARP_ROWS = ROWS / WARPS_M, WARP_COLUMNS = COLUMNS / WARPS_N;
  static constexpr uint32_t MT = WARP_ROWS / 16, NT = WARP_COLUMNS / 8; // 16×8 fragments
  static constexpr uint32_t DEPTH = PANEL_ROW / sizeof(T), STEP = PANELS * DEPTH; // K of a panel, a stage
  static constexpr uint32_t STEPS = 2 * PANELS;                         // of mma in a stage
  // Whether registers hold two sets of fragments.
  static constexpr bool AHEAD = HOW != FFMA && (HOW != SPLIT || MT * NT <= 4);
  static constexpr uint32_t V = WIDE<T>;
  static constexpr uint32_t PANEL = (ROWS + COLUMNS) * PANEL_ROW, STAGE = PANELS * PANEL;
  static constexpr uint32_t PIPELINE = STAGES * STAGE;
  static constexpr uint32_t PLAIN = 4;               // k at a time, of FFMA
  static constexpr uint32_t PASS = THREADS / CHUNKS; // rows copied by the block at a time

  static_assert((STAGES & (STAGES - 1)) == 0, "slots are counted with a mask");
  static_assert(K_MULTIPLE % STEP == 0, "weight rows are whole stages");
  static_assert(ROWS % PASS == 0 && COLUMNS % PASS == 0 && NT % 2 == 0, "whole passes and pairs");

  // Fragment (i, j) holds, with g = lane / 4 and t = lane % 4, rows 16i + g (numbers 0, 1) and
  // 16i + g + 8 (2, 3); columns 8j + 2t and 8j + 2t + 1 of them, or for FFMA 8j + t and 8j + t + 4.
  float sum[MT][NT][4];

  // ---- copying ------------------------------------------------------------------------------

  // What a thread copies: one 16-byte chunk of every PASS-th row of both operands, or where the input
  // is not aligned one number of every (THREADS / DEPTH)-th of its rows. Pointers are to K = 0 and stand
  // still, but for an input in stretches: a pointer that moves waits until the copies from where it was
  // have been taken up.
  struct Copier {
    const T *input[ROWS / PASS];
    const T *weight[COLUMNS / PASS];
    uint32_t k, stretch; // this thread's column of the first panel, and the one at which its stretch begins
    uint32_t to;         // where the first chunk goes in a panel
    bool vector, segmented, whole; // whole: no stretch ends within a stage
  };

  static DEVICE uint32_t place(uint32_t row, uint32_t chunk) {
    return row * PANEL_ROW + (chunk ^ (row / 2 % CHUNKS)) * 16;
  }

  // Rows and columns beyond the operands are copies of the last one: nobody looks at their sums.
  static DEVICE void begin(Copier &c, const Operands<T> &in, uint32_t row0, uint32_t column0,
                           uint32_t *table) {
    const uint32_t thread = threadIdx.x, pass_row = thread / CHUNKS, chunk = thread % CHUNKS;
    for (uint32_t i = thread; i < ROWS; i += THREADS) {
      const uint32_t m = min(row0 + i, in.count - 1);
      table[i] = in.rows ? in.rows[m] : m;
    }
    __syncthreads();
    c.vector = in_vectors<V>(in.input);
    c.segmented = in.input.segment < in.inputs;
    c.whole = c.vector && (!c.segmented || in.input.segment % STEP == 0);
    c.k = c.vector ? chunk * V : thread % DEPTH;
    c.stretch = 0;
    c.to = place(pass_row, chunk);
#pragma unroll
    for (uint32_t i = 0; i < ROWS / PASS; ++i)
      c.input[i] = in.input.data + row_offset(table[pass_row + i * PASS], in.input.row_stride) + c.k;
#pragma unroll
    for (uint32_t i = 0; i < COLUMNS / PASS; ++i) {
      const uint32_t n = min(column0 + pass_row + i * PASS, in.columns - 1);
      const uint32_t row = in.ids ? in.ids[n] : n;
      c.weight[i] = in.weight + row_offset(row, in.weight_stride) + chunk * V;
    }
  }

  // Goes on to the stretch that this thread's column lies in, of the panel at `first`. Lanes leave the loop
  // apart, and `mma` wants its warp together.
  static DEVICE void settle(Copier &c, const Operands<T> &in, uint32_t first) {
    if (!c.segmented) return;
    while (first + c.k - c.stretch >= in.input.segment) {
      c.stretch += in.input.segment;
#pragma unroll
      for (uint32_t i = 0; i < ROWS / PASS; ++i) c.input[i] += in.input.segment_stride - in.input.segment;
    }
    __syncwarp();
  }

  // Copies a stage, from column `first` on, into a slot: of each panel input rows first, then weight rows.
  // What lies behind K becomes zero and is not read.
  static DEVICE void copy(Copier &c, const Operands<T> &in, const uint32_t *table, uint32_t first,
                          unsigned char *slot) {
    if (c.whole && first + STEP <= in.inputs) {
      settle(c, in, first);
#pragma unroll
      for (uint32_t p = 0; p < PANELS; ++p)
#pragma unroll
        for (uint32_t i = 0; i < ROWS / PASS; ++i)
          copy_async_16(slot + p * PANEL + c.to + i * PASS * PANEL_ROW, c.input[i] + first + p * DEPTH, 16);
    } else {
#pragma unroll 1
      for (uint32_t p = 0; p < PANELS; ++p) {
        settle(c, in, first + p * DEPTH);
        copy_with_care(c, in, table, first + p * DEPTH, slot + p * PANEL);
      }
    }
#pragma unroll
    for (uint32_t p = 0; p < PANELS; ++p)
#pragma unroll
      for (uint32_t i = 0; i < COLUMNS / PASS; ++i)
        copy_async_16(slot + p * PANEL + ROWS * PANEL_ROW + c.to + i * PASS * PANEL_ROW,
                      c.weight[i] + first + p * DEPTH, 16);
  }

  // One panel of an input that ends within it, or whose stretch does, or that is not aligned.
  static DEVICE void copy_with_care(const Copier &c, const Operands<T> &in, const uint32_t *table,
                                    uint32_t first, unsigned char *panel) {
    const uint32_t left = first + c.k < in.inputs ? in.inputs - (first + c.k) : 0;
    if (c.vector) {
      const uint32_t bytes = left < V ? left * uint32_t(sizeof(T)) : 16;
#pragma unroll
      for (uint32_t i = 0; i < ROWS / PASS; ++i)
        copy_async_16(panel + c.to + i * PASS * PANEL_ROW, bytes ? c.input[i] + first : in.weight, bytes);
    } else {
      const T *column = c.input[0] + first - row_offset(table[threadIdx.x / CHUNKS], in.input.row_stride);
#pragma unroll 1
      for (uint32_t m = threadIdx.x / DEPTH; m < ROWS; m += THREADS / DEPTH) {
        const T *from = column + row_offset(table[m], in.input.row_stride);
        T *to = reinterpret_cast<T *>(panel + place(m, c.k / V)) + c.k % V;
        if constexpr (sizeof(T) == 4) {
          copy_async_4(to, left ? from : in.weight, left ? 4 : 0);
        } else { // rows of odd width are aligned to 2 bytes, which no asynchronous copy takes
          T value{0};
          if (left) value = *from;
          *to = value;
        }
      }
    }
  }

  // ---- multiplying --------------------------------------------------------------------------

  struct Fragments {
    uint32_t a[MT][4];
    uint32_t b[NT][2];
  };

  // Where this lane's rows for ldmatrix begin in a panel. Lanes 8i … 8i + 7 address matrix i: of the
  // input the rows' upper and lower half for a step's first chunk, then for its second; of the weight
  // both chunks of one fragment, then of the next. The second step is 32 bytes further, swizzled: the
  // offset xor 32.
  struct Places {
    uint32_t a, b;
  };

  static DEVICE Places places() {
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, matrix = lane / 8;
    return {place(warp / WARPS_N * WARP_ROWS + matrix % 2 * 8 + lane % 8, matrix / 2),
            ROWS * PANEL_ROW +
                place(warp % WARPS_N * WARP_COLUMNS + matrix / 2 * 8 + lane % 8, matrix % 2)};
  }

  // Fragments of one k-step of a stage.
  static DEVICE void load(Fragments &f, const Places &at, const unsigned char *slot, uint32_t step) {
    slot += step / 2 * PANEL;
    const unsigned char *a = slot + (at.a ^ step % 2 * 32), *b = slot + (at.b ^ step % 2 * 32);
#pragma unroll
    for (uint32_t i = 0; i < MT; ++i) load_matrix_x4(f.a[i], a + i * 16 * PANEL_ROW);
#pragma unroll
    for (uint32_t j = 0; j < NT; j += 2) {
      uint32_t r[4];
      load_matrix_x4(r, b + j * 8 * PANEL_ROW);
      f.b[j][0] = r[0], f.b[j][1] = r[1];
      f.b[j + 1][0] = r[2], f.b[j + 1][1] = r[3];
    }
  }

  template <bool CAREFUL>
  DEVICE void multiply(const Fragments &f) {
    if constexpr (HOW == SPLIT) {
      uint32_t big[MT][4], small[MT][4];
#pragma unroll
      for (uint32_t i = 0; i < MT; ++i)
#pragma unroll
        for (uint32_t e = 0; e < 4; ++e) halve<CAREFUL>(f.a[i][e], big[i][e], small[i][e]);
#pragma unroll
      for (uint32_t j = 0; j < NT; ++j) {
        uint32_t b_big[2], b_small[2];
        halve<CAREFUL>(f.b[j][0], b_big[0], b_small[0]);
        halve<CAREFUL>(f.b[j][1], b_big[1], b_small[1]);
        float part[MT][4] = {};
        // in this order, not fragment by fragment, so that no mma waits for the one before it
#pragma unroll
        for (uint32_t i = 0; i < MT; ++i) mma_tf32(part[i], small[i], b_big);
#pragma unroll
        for (uint32_t i = 0; i < MT; ++i) mma_tf32(part[i], big[i], b_small);
#pragma unroll
        for (uint32_t i = 0; i < MT; ++i) mma_tf32(part[i], big[i], b_big);
#pragma unroll
        for (uint32_t i = 0; i < MT; ++i)
#pragma unroll
          for (uint32_t e = 0; e < 4; ++e) sum[i][j][e] += part[i][e];
      }
    } else if constexpr (HOW == TF32) {
      uint32_t a[MT][4];
#pragma unroll
      for (uint32_t i = 0; i < MT; ++i)
#pragma unroll
        for (uint32_t e = 0; e < 4; ++e) a[i][e] = rounded(f.a[i][e]);
#pragma unroll
      for (uint32_t j = 0; j < NT; ++j) {
        const uint32_t b[2] = {rounded(f.b[j][0]), rounded(f.b[j][1])};
#pragma unroll
        for (uint32_t i = 0; i < MT; ++i) mma_tf32(sum[i][j], a[i], b);
      }
    } else {
#pragma unroll
      for (uint32_t j = 0; j < NT; ++j)
#pragma unroll
        for (uint32_t i = 0; i < MT; ++i) {
          if constexpr (HOW == BF16) mma_bf16(sum[i][j], f.a[i], f.b[j]);
          if constexpr (HOW == F16) mma_f16(sum[i][j], f.a[i], f.b[j]);
        }
    }
  }

  static DEVICE uint32_t rounded(uint32_t x) {
    return __float_as_uint(round_tf32(__uint_as_float(x)));
  }

  // x = big + small, of which the tensor cores see all but 2⁻²² of x. Dekker's way, big being x rounded to
  // 11 bits: the product is rounded where x's twelfth bit is, and what is taken from it is exact. So is the
  // subtraction. All of it runs beside the tensor cores, where rounding by bits would take integers' pipe.
  //
  // From 2¹¹⁵ on the product overflows, and infinity less infinity is NaN. CAREFUL keeps such numbers: what is
  // finite is cut off instead of rounded, and what is not goes to `small` whole, big being 0, so that three
  // products for one give what one gives.
  template <bool CAREFUL>
  static DEVICE void halve(uint32_t bits, uint32_t &big, uint32_t &small) {
    const float x = __uint_as_float(bits);
    float high = fmaf(x, -8192.0f, x * 8193.0f);
    if (CAREFUL && !(fabsf(high) < INFINITY))
      high = fabsf(x) < INFINITY ? __uint_as_float(bits & 0xffffe000u) : 0.0f;
    big = __float_as_uint(high);
    small = __float_as_uint(x - high);
  }

  // One stage in plain multiply-adds: PLAIN k at a time, the rows' numbers in registers, a column's in
  // passing. The lanes of a warp are 8 rows × 4 columns.
  DEVICE void multiply_plain(const unsigned char *slot) {
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t row = warp / WARPS_N * WARP_ROWS + lane / 4;
    const uint32_t column = warp % WARPS_N * WARP_COLUMNS + lane % 4;
#pragma unroll 1
    for (uint32_t first = 0; first < STEP; first += PLAIN) {
      const unsigned char *panel = slot + first / DEPTH * PANEL;
      const uint32_t chunk = first % DEPTH / 4;
      Vector<float, PLAIN> a[2 * MT];
#pragma unroll
      for (uint32_t i = 0; i < 2 * MT; ++i)
        read_whole(a[i],
                   reinterpret_cast<const float *>(panel + place(row, chunk) + i * 8 * PANEL_ROW));
#pragma unroll
      for (uint32_t j = 0; j < 2 * NT; ++j) {
        Vector<float, PLAIN> b;
        read_whole(b, reinterpret_cast<const float *>(panel + (ROWS + j / 2 * 8) * PANEL_ROW +
                                                      place(column + j % 2 * 4, chunk)));
#pragma unroll
        for (uint32_t k = 0; k < PLAIN; ++k)
#pragma unroll
          for (uint32_t i = 0; i < 2 * MT; ++i) {
            float &s = sum[i / 2][j / 2][i % 2 * 2 + j % 2];
            s = fmaf(a[i].at[k], b.at[k], s);
          }
      }
    }
  }

  // Closes a chain of FFMA.
  DEVICE void promote(float (&total)[MT][NT][4]) {
#pragma unroll
    for (uint32_t i = 0; i < MT; ++i)
#pragma unroll
      for (uint32_t j = 0; j < NT; ++j)
#pragma unroll
        for (uint32_t e = 0; e < 4; ++e) total[i][j][e] += sum[i][j][e], sum[i][j][e] = 0.0f;
  }

  // ---- the loop -----------------------------------------------------------------------------

  // Computes `sum` for the tile whose first result is (row0, column0). `shared` has PIPELINE bytes,
  // aligned to 16, which are free for other use on return; `table` ROWS numbers.
  DEVICE void run(const Operands<T> &in, uint32_t row0, uint32_t column0, unsigned char *shared,
                  uint32_t *table) {
    products<false>(in, row0, column0, shared, table);
    if constexpr (HOW == SPLIT) {
      // rare, and other rows get the same bits once more
      if (__syncthreads_or(!all_numbers())) products<true>(in, row0, column0, shared, table);
    }
  }

  // Whether no sum is NaN or infinite.
  DEVICE bool all_numbers() const {
    float zero = 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < MT; ++i)
#pragma unroll
      for (uint32_t j = 0; j < NT; ++j)
#pragma unroll
        for (uint32_t e = 0; e < 4; ++e) zero = fmaf(sum[i][j][e], 0.0f, zero);
    return zero == 0.0f;
  }

  template <bool CAREFUL>
  DEVICE void products(const Operands<T> &in, uint32_t row0, uint32_t column0, unsigned char *shared,
                       uint32_t *table) {
    Copier copier;
    begin(copier, in, row0, column0, table);
#pragma unroll
    for (uint32_t i = 0; i < MT; ++i)
#pragma unroll
      for (uint32_t j = 0; j < NT; ++j)
#pragma unroll
        for (uint32_t e = 0; e < 4; ++e) sum[i][j][e] = 0.0f;

    const uint32_t stages = (in.inputs + STEP - 1) / STEP;
    auto slot = [&](uint32_t stage) { return shared + (stage & (STAGES - 1)) * STAGE; };
    auto copy_stage = [&](uint32_t stage) {
      if (stage < stages) copy(copier, in, table, stage * STEP, slot(stage));
      copy_async_commit();
    };
    const Places at = places();
    if constexpr (AHEAD) {
      // Fragments are loaded one k-step ahead of their use, also across stages: the barrier before a
      // stage's last products both shows the next one and frees this one, whose last fragments are by
      // then in registers.
      Fragments even, odd;
#pragma unroll 1
      for (uint32_t s = 0; s < STAGES; ++s) copy_stage(s);
      copy_async_wait<STAGES - 1>();
      __syncthreads();
      load(even, at, slot(0), 0);
#pragma unroll 1
      for (uint32_t s = 0; s < stages; ++s) {
#pragma unroll
        for (uint32_t step = 1; step < STEPS; step += 2) {
          load(odd, at, slot(s), step);
          multiply<CAREFUL>(even);
          if (step + 1 < STEPS) {
            load(even, at, slot(s), step + 1);
          } else {
            copy_async_wait<STAGES - 2>();
            __syncthreads();
            if (s + 1 < stages) load(even, at, slot(s + 1), 0);
          }
          multiply<CAREFUL>(odd);
        }
        copy_stage(s + STAGES); // last, so that no fragment waits behind it
      }
    } else {
      // Here arithmetic leaves no registers for a second set of fragments, and is long enough for the
      // other warps to hide the loads behind.
      float total[MT][NT][4] = {}; // of chains of FFMA
#pragma unroll 1
      for (uint32_t s = 0; s < STAGES - 1; ++s) copy_stage(s);
#pragma unroll 1
      for (uint32_t s = 0; s < stages; ++s) {
        copy_async_wait<STAGES - 2>();
        __syncthreads(); // stage s is there, and nobody reads stage s − 1 any more
        if constexpr (HOW == FFMA) {
          copy_stage(s + STAGES - 1);
          multiply_plain(slot(s));
          if ((s + 1) % (CHAIN / STEP) == 0 || s + 1 == stages) promote(total);
        } else {
          load_and_multiply<CAREFUL>(at, slot(s), 0);
          copy_stage(s + STAGES - 1); // not first, so that no fragment waits behind it
#pragma unroll 1
          for (uint32_t step = 1; step < STEPS; ++step) load_and_multiply<CAREFUL>(at, slot(s), step);
        }
      }
      __syncthreads();
      if constexpr (HOW == FFMA) {
#pragma unroll
        for (uint32_t i = 0; i < MT; ++i)
#pragma unroll
          for (uint32_t j = 0; j < NT; ++j)
#pragma unroll
            for (uint32_t e = 0; e < 4; ++e) sum[i][j][e] = total[i][j][e];
      }
    }
  }

  template <bool CAREFUL>
  DEVICE void load_and_multiply(const Places &at, const unsigned char *slot, uint32_t step) {
    Fragments fragments;
    load(fragments, at, slot, step);
    multiply<CAREFUL>(fragments);
  }

  // The column of number 0 or 1 of fragment (·, j) in the warp's part.
  static DEVICE uint32_t column_of(uint32_t j, uint32_t number) {
    const uint32_t t = threadIdx.x % 4;
    return HOW == FFMA ? 8 * j + t + 4 * number : 8 * j + 2 * t + number;
  }

  // Writes this lane's two numbers of row 16i + lane / 4 + 8 half of the warp's part, fragment j, into
  // that row of a buffer where the warp's part begins at column `first`; `turn` is xored to columns.
  DEVICE void put(uint32_t i, uint32_t j, uint32_t half, float *row, uint32_t first = 0,
                  uint32_t turn = 0) const {
    const uint32_t t = threadIdx.x % 4, column = first + 8 * j;
    if constexpr (HOW == FFMA) {
      row[(column + t) ^ turn] = sum[i][j][2 * half];
      row[(column + t + 4) ^ turn] = sum[i][j][2 * half + 1];
    } else {
      const Vector<float, 2> pair{{sum[i][j][2 * half], sum[i][j][2 * half + 1]}};
      write_whole(pair, row + ((column + 2 * t) ^ turn));
    }
  }
};

// The tiles. A large one is 128×192: 192 divides 768, 2304 and 3072, so 97% of 132 multiprocessors
// have work at M = 4096, and two operands of 64×48 a warp need 7 ldmatrix for 24 mma. 80 KiB of stages keep
// it under the 99 KiB of sm_86, 89 and 120. One block a multiprocessor: the epilogue does not overlap the
// next tile's products.
template <Multiply HOW>
using Large = Gemm<HOW, LARGE_ROWS, LARGE_COLUMNS, 2, 4, HOW == FFMA ? 1 : 2, HOW == FFMA ? 4 : 2>; // (FFMA: of the readout)
// A quarter of it, of which several are on a multiprocessor at a time: for some hundreds of rows.
template <Multiply HOW>
using Medium = Gemm<HOW, MEDIUM_ROWS, MEDIUM_COLUMNS, 2, 2, 2, 2>;
// For few rows, where parallelism over columns is all there is and a block's own time all that counts. A stage
// is 64 of K, which is a head's width as a rule, whatever the type.
template <Multiply HOW>
using Small = Gemm<HOW, SMALL_ROWS, SMALL_COLUMNS, 1, 2, sizeof(typename NumberOf<HOW>::Type),
                   8 / sizeof(typename NumberOf<HOW>::Type)>;
// For few rows of the readout, whose vocabulary tiles are as wide whatever the rows.
template <Multiply HOW>
using Wide = Gemm<HOW, SMALL_ROWS, VOCABULARY_TILE, 1, 2, 2, 2>;

static_assert(Large<FFMA>::THREADS == LARGE_THREADS);
static_assert(Medium<FFMA>::THREADS == MEDIUM_THREADS);
static_assert(Small<FFMA>::THREADS == SMALL_THREADS);
static_assert(Wide<FFMA>::THREADS == SMALL_THREADS);
