// Rows into the coordinates of a basis, and back. Twin of src/backend/cpu/basis.rs.
//
// Few rows go through a basis beside those of the layers round it, and in full precision whatever the
// precision of those is: products are FFMA on a tile in shared memory, summed as on the CPU, k
// ascending in blocks of 256.
#include "overwrite.cuh"

// A row that is encoded: a stretch that stands, one that is read, or the second less the first.
// Mirrors `DeviceProbe` in src/backend/cuda/basis.rs.
struct Probe {
  uint32_t row;     // of the stretch that stands; NO_ROW if it does not count
  uint32_t column;  // its first column
  uint32_t operand; // as in a write: none, kept, constant
  uint32_t slot;
  uint64_t operand_column;
  uint32_t operand_row;
  uint32_t _pad;
};

// Where a decoded row goes.
struct Place {
  uint32_t row, column;
};

constexpr uint32_t NO_ROW = 0xffffffffu;

constexpr uint32_t ROWS = 64, COLUMNS = 64; // of a block's tile
constexpr uint32_t STEP = 16;               // of K that stand in shared memory at once
constexpr uint32_t THREADS = 256;
constexpr uint32_t SIDE = 4;                // a thread has 4 × 4 results, and loads 4 numbers of each operand
constexpr uint32_t SUM = 256;               // products in one chain

// One row of the input of a product.
template <class T>
struct Encoded {
  RowOf<const T> row;
  uint32_t column;
  bool stands, reads, constant;
  RowOf<const T> operand;
  const float *constants;
  uint64_t operand_column;
  const float *shift, *spread;

  DEVICE Encoded(const Probe &probe, const View<const T> &matrix, const View<const T> *kept,
                 const float *constants, const float *shift, const float *spread)
      : row(matrix, probe.row == NO_ROW ? 0 : probe.row),
        column(probe.column),
        stands(probe.row != NO_ROW),
        reads(probe.operand != NO_OPERAND),
        constant(probe.operand == CONSTANT_OPERAND),
        operand(matrix, 0),
        constants(constants),
        operand_column(probe.operand_column),
        shift(shift),
        spread(spread) {
    if (probe.operand == KEPT_OPERAND) operand = RowOf<const T>(kept[probe.slot], probe.operand_row);
  }

  DEVICE float at(uint32_t i) const {
    float x = 0.0f;
    if (reads)
      x = constant ? constants[operand_column + i] : widen(*operand.at(uint32_t(operand_column) + i));
    if (stands) {
      float b = widen(*row.at(column + i));
      x = reads ? x - b : b;
    }
    if (shift) x = x - shift[i];
    if (spread) x = x / spread[i];
    return x;
  }
};

template <class T>
struct Probes {
  const Probe *probes;
  View<const T> matrix;
  const View<const T> *kept;
  const float *constants, *shift, *spread;

  DEVICE Encoded<T> row(uint32_t i) const {
    return Encoded<T>(probes[i], matrix, kept, constants, shift, spread);
  }
};

// Coordinates as they stand.
struct Coordinates {
  View<const float> matrix;

  struct Row {
    RowOf<const float> row;
    DEVICE float at(uint32_t i) const { return *row.at(i); }
  };

  DEVICE Row row(uint32_t i) const { return Row{RowOf<const float>(matrix, i)}; }
};

// What becomes of a coordinate.
struct Encode {
  const float *bias, *threshold;
  uint32_t rectified;
  View<float> out;

  DEVICE void operator()(uint32_t row, uint32_t column, float h) const {
    if (bias) h = h + bias[column];
    if (threshold && h <= threshold[column]) h = 0.0f;
    if (rectified && h < 0.0f) h = 0.0f;
    *out.at(row, column) = h;
  }
};

// What becomes of a number of a row.
template <class T>
struct Decode {
  const Place *places;
  const float *gain, *offset;
  uint32_t by_difference;
  View<T> matrix;

  DEVICE void operator()(uint32_t row, uint32_t column, float y) const {
    if (gain) y = y * gain[column];
    if (offset) y = y + offset[column];
    T *to = matrix.at(places[row].row, places[row].column + column);
    if (by_difference) {
      // −0 + 0 is 0: what does not move keeps its bits
      if (y == 0.0f) return;
      y = widen(*to) + y;
    }
    narrow(y, *to);
  }
};

// finish(m, n, Σ_k input[m, k] · factor[k, n]) for a tile of rows and columns; without a factor,
// finish(m, n, input[m, n]).
template <class Input, class Finish>
DEVICE void through(const Input &input, uint32_t count, uint32_t inputs, const float *factor,
                    uint32_t columns, const Finish &finish) {
  __shared__ Vector<float, SIDE> x[STEP][ROWS / SIDE + 1];
  __shared__ Vector<float, SIDE> w[STEP][COLUMNS / SIDE];
  const uint32_t thread = threadIdx.x;
  const uint32_t row0 = blockIdx.x * ROWS, column0 = blockIdx.y * COLUMNS;
  if (!factor) {
    for (uint32_t i = thread; i < ROWS * COLUMNS; i += THREADS) {
      const uint32_t m = row0 + i / COLUMNS, n = column0 + i % COLUMNS;
      if (m < count && n < columns) finish(m, n, input.row(m).at(n));
    }
    return;
  }
  // which numbers this thread loads, of every stage
  const uint32_t x_row = thread / (STEP / SIDE), x_k = thread % (STEP / SIDE) * SIDE;
  const uint32_t w_k = thread / (COLUMNS / SIDE), w_column = thread % (COLUMNS / SIDE);
  const bool has_row = row0 + x_row < count;
  const auto row = input.row(min(row0 + x_row, count - 1));
  // and which results it sums
  const uint32_t across = thread % (COLUMNS / SIDE), down = thread / (COLUMNS / SIDE);
  float total[SIDE][SIDE] = {}, part[SIDE][SIDE] = {};
  Vector<float, SIDE> next_x, next_w;
  auto fetch = [&](uint32_t k0) {
#pragma unroll
    for (uint32_t i = 0; i < SIDE; ++i) {
      const uint32_t k = k0 + x_k + i, n = column0 + w_column * SIDE + i;
      next_x.at[i] = has_row && k < inputs ? row.at(k) : 0.0f;
      next_w.at[i] = k0 + w_k < inputs && n < columns ? factor[uint64_t(k0 + w_k) * columns + n] : 0.0f;
    }
  };
  fetch(0);
  for (uint32_t k0 = 0; k0 < inputs; k0 += STEP) {
#pragma unroll
    for (uint32_t i = 0; i < SIDE; ++i) x[x_k + i][x_row / SIDE].at[x_row % SIDE] = next_x.at[i];
    w[w_k][w_column] = next_w;
    __syncthreads(); // the stage is there
    if (k0 + STEP < inputs) fetch(k0 + STEP);
#pragma unroll
    for (uint32_t k = 0; k < STEP; ++k) {
      const Vector<float, SIDE> a = x[k][down], b = w[k][across];
#pragma unroll
      for (uint32_t i = 0; i < SIDE; ++i)
#pragma unroll
        for (uint32_t j = 0; j < SIDE; ++j) part[i][j] = fmaf(a.at[i], b.at[j], part[i][j]);
    }
    if ((k0 + STEP) % SUM == 0 || k0 + STEP >= inputs) {
#pragma unroll
      for (uint32_t i = 0; i < SIDE; ++i)
#pragma unroll
        for (uint32_t j = 0; j < SIDE; ++j) {
          total[i][j] += part[i][j];
          part[i][j] = 0.0f;
        }
    }
    __syncthreads(); // and has been read
  }
#pragma unroll
  for (uint32_t i = 0; i < SIDE; ++i)
#pragma unroll
    for (uint32_t j = 0; j < SIDE; ++j) {
      const uint32_t m = row0 + down * SIDE + i, n = column0 + across * SIDE + j;
      if (m < count && n < columns) finish(m, n, total[i][j]);
    }
}

// out[i, j] = activation(Σ ((x_i − shift) / spread) · encoder[:, j] + bias[j]), x_i the row of `width`
// numbers that probes[i] names. What is null is left out; without an encoder out[i, j] is of x_i's
// number j. Operands: matrices of `kept`, or `constants`.
// launch: block 256, grid ⌈count / 64⌉ × ⌈coordinates / 64⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) encode_f32(
    const Probe *__restrict__ probes,
    uint32_t count,
    View<const float> matrix,
    const View<const float> *__restrict__ kept,
    const float *__restrict__ constants,
    uint32_t width,
    const float *__restrict__ shift,
    const float *__restrict__ spread,
    const float *__restrict__ encoder,
    uint32_t coordinates,
    const float *__restrict__ bias,
    const float *__restrict__ threshold,
    uint32_t rectified,
    View<float> out) {
  through(Probes<float>{probes, matrix, kept, constants, shift, spread}, count, width, encoder,
          coordinates, Encode{bias, threshold, rectified, out});
}

// launch: as encode_f32
extern "C" __global__ void __launch_bounds__(256) encode_bf16(
    const Probe *__restrict__ probes,
    uint32_t count,
    View<const bf16> matrix,
    const View<const bf16> *__restrict__ kept,
    const float *__restrict__ constants,
    uint32_t width,
    const float *__restrict__ shift,
    const float *__restrict__ spread,
    const float *__restrict__ encoder,
    uint32_t coordinates,
    const float *__restrict__ bias,
    const float *__restrict__ threshold,
    uint32_t rectified,
    View<float> out) {
  through(Probes<bf16>{probes, matrix, kept, constants, shift, spread}, count, width, encoder,
          coordinates, Encode{bias, threshold, rectified, out});
}

// launch: as encode_f32
extern "C" __global__ void __launch_bounds__(256) encode_f16(
    const Probe *__restrict__ probes,
    uint32_t count,
    View<const f16> matrix,
    const View<const f16> *__restrict__ kept,
    const float *__restrict__ constants,
    uint32_t width,
    const float *__restrict__ shift,
    const float *__restrict__ spread,
    const float *__restrict__ encoder,
    uint32_t coordinates,
    const float *__restrict__ bias,
    const float *__restrict__ threshold,
    uint32_t rectified,
    View<float> out) {
  through(Probes<f16>{probes, matrix, kept, constants, shift, spread}, count, width, encoder,
          coordinates, Encode{bias, threshold, rectified, out});
}

// The stretch at places[i] = Σ from[i, j] · decoder[j, :] ∘ gain + offset, or that added to it, rounded
// once. What is null is left out; without a decoder row i of `from` is taken as it is. No two places
// overlap.
// launch: block 256, grid ⌈count / 64⌉ × ⌈width / 64⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) decode_f32(
    View<const float> from,
    uint32_t coordinates,
    const Place *__restrict__ places,
    uint32_t count,
    const float *__restrict__ decoder,
    uint32_t width,
    const float *__restrict__ gain,
    const float *__restrict__ offset,
    uint32_t by_difference,
    View<float> matrix) {
  through(Coordinates{from}, count, coordinates, decoder, width,
          Decode<float>{places, gain, offset, by_difference, matrix});
}

// launch: as decode_f32
extern "C" __global__ void __launch_bounds__(256) decode_bf16(
    View<const float> from,
    uint32_t coordinates,
    const Place *__restrict__ places,
    uint32_t count,
    const float *__restrict__ decoder,
    uint32_t width,
    const float *__restrict__ gain,
    const float *__restrict__ offset,
    uint32_t by_difference,
    View<bf16> matrix) {
  through(Coordinates{from}, count, coordinates, decoder, width,
          Decode<bf16>{places, gain, offset, by_difference, matrix});
}

// launch: as decode_f32
extern "C" __global__ void __launch_bounds__(256) decode_f16(
    View<const float> from,
    uint32_t coordinates,
    const Place *__restrict__ places,
    uint32_t count,
    const float *__restrict__ decoder,
    uint32_t width,
    const float *__restrict__ gain,
    const float *__restrict__ offset,
    uint32_t by_difference,
    View<f16> matrix) {
  through(Coordinates{from}, count, coordinates, decoder, width,
          Decode<f16>{places, gain, offset, by_difference, matrix});
}
