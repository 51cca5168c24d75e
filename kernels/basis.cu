// Rows into the coordinates of a basis, and back. Twin of src/backend/cpu/basis.rs.
//
// Few rows go through a basis beside those of the layers round it, and in full precision whatever the
// precision of those is: products are FFMA on a tile in shared memory, summed as on the CPU, k
// ascending in blocks of 256.
#include "overwrite.cuh"

constexpr uint32_t DEPTH = 16;  // of K that stand in shared memory at once
constexpr uint32_t SIDE = 4;    // a thread has 4 × 4 results, and loads 4 numbers of each operand

// A row of the input of `encode`.
template <class T>
struct ProbedRow {
  const EncodeArgs<T> &a;
  Probe probe;
  RowOf<const T> standing, operand;

  DEVICE ProbedRow(const EncodeArgs<T> &a, uint32_t i)
      : a(a),
        probe(a.probes[i]),
        standing(a.matrix, probe.row == NONE ? 0 : probe.row),
        operand(a.matrix, 0) {
    const Source &source = probe.source;
    if (source.operand == Operand::KEPT) operand = RowOf<const T>(a.kept[source.slot], source.row);
  }

  DEVICE float at(uint32_t i) const {
    const Source &source = probe.source;
    const bool stands = probe.row != NONE, reads = source.operand != Operand::NOTHING;
    float x = 0.0f;
    if (reads)
      x = source.operand == Operand::CONSTANT ? a.constants[source.column + i]
                                              : widen(*operand.at(uint32_t(source.column) + i));
    if (stands) {
      float b = widen(*standing.at(probe.column + i));
      x = reads ? x - b : b;
    }
    if (a.shift) x = x - a.shift[i];
    if (a.spread) x = x / a.spread[i];
    return x;
  }
};

// Coordinates as they stand: a row of the input of `decode`.
struct CoordinateRow {
  RowOf<const float> row;
  DEVICE float at(uint32_t i) const { return *row.at(i); }
};

// finish(m, n, Σ_k input(m)[k] · factor[k, n]) for a tile of rows and columns; without a factor,
// finish(m, n, input(m)[n]).
template <class Input, class Output>
DEVICE void through(const Input &input, uint32_t count, uint32_t inputs, const float *factor,
                    uint32_t columns, const Output &finish) {
  __shared__ Vector<float, SIDE> x[DEPTH][BASIS_TILE / SIDE + 1];
  __shared__ Vector<float, SIDE> w[DEPTH][BASIS_TILE / SIDE];
  const uint32_t thread = threadIdx.x;
  const uint32_t row0 = blockIdx.x * BASIS_TILE, column0 = blockIdx.y * BASIS_TILE;
  if (!factor) {
    for (uint32_t i = thread; i < BASIS_TILE * BASIS_TILE; i += BASIS_THREADS) {
      const uint32_t m = row0 + i / BASIS_TILE, n = column0 + i % BASIS_TILE;
      if (m < count && n < columns) finish(m, n, input(m).at(n));
    }
    return;
  }
  // which numbers this thread loads, of every stage
  const uint32_t x_row = thread / (DEPTH / SIDE), x_k = thread % (DEPTH / SIDE) * SIDE;
  const uint32_t w_k = thread / (BASIS_TILE / SIDE), w_column = thread % (BASIS_TILE / SIDE);
  const bool has_row = row0 + x_row < count;
  const auto row = input(min(row0 + x_row, count - 1));
  // and which results it sums
  const uint32_t across = thread % (BASIS_TILE / SIDE), down = thread / (BASIS_TILE / SIDE);
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
  for (uint32_t k0 = 0; k0 < inputs; k0 += DEPTH) {
#pragma unroll
    for (uint32_t i = 0; i < SIDE; ++i) x[x_k + i][x_row / SIDE].at[x_row % SIDE] = next_x.at[i];
    w[w_k][w_column] = next_w;
    __syncthreads(); // the stage is there
    if (k0 + DEPTH < inputs) fetch(k0 + DEPTH);
#pragma unroll
    for (uint32_t k = 0; k < DEPTH; ++k) {
      const Vector<float, SIDE> a = x[k][down], b = w[k][across];
#pragma unroll
      for (uint32_t i = 0; i < SIDE; ++i)
#pragma unroll
        for (uint32_t j = 0; j < SIDE; ++j) part[i][j] = fmaf(a.at[i], b.at[j], part[i][j]);
    }
    if ((k0 + DEPTH) % CHAIN == 0 || k0 + DEPTH >= inputs) {
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

// Row i, column j of out = activation(Σ_k x_i[k] · encoder[k, j] + bias[j]).
template <class T>
DEVICE void encode(const EncodeArgs<T> &a) {
  through([&](uint32_t i) { return ProbedRow<T>(a, i); }, a.count, a.width, a.encoder, a.coordinates,
          [&](uint32_t row, uint32_t column, float h) {
            if (a.bias) h = h + a.bias[column];
            if (a.threshold && h <= a.threshold[column]) h = 0.0f;
            if (a.rectified && h < 0.0f) h = 0.0f;
            *RowOf<float>(a.out, row).at(column) = h;
          });
}

KERNEL(BASIS_THREADS) encode_f32(const __grid_constant__ EncodeArgs<float> a) { encode(a); }
KERNEL(BASIS_THREADS) encode_bf16(const __grid_constant__ EncodeArgs<bf16> a) { encode(a); }
KERNEL(BASIS_THREADS) encode_f16(const __grid_constant__ EncodeArgs<f16> a) { encode(a); }

// Number j of the stretch at places[i] = Σ_k from[i, k] · decoder[k, j] · gain[j] + offset[j], or that added.
template <class T>
DEVICE void decode(const DecodeArgs<T> &a) {
  through([&](uint32_t i) { return CoordinateRow{RowOf<const float>(a.from, i)}; }, a.count,
          a.coordinates, a.decoder, a.width, [&](uint32_t row, uint32_t column, float y) {
            if (a.gain) y = y * a.gain[column];
            if (a.offset) y = y + a.offset[column];
            const Place place = a.places[row];
            T *to = RowOf<T>(a.matrix, place.row).at(place.column + column);
            if (a.by_difference) {
              // −0 + 0 is 0: what does not move keeps its bits
              if (y == 0.0f) return;
              y = widen(*to) + y;
            }
            narrow(y, *to);
          });
}

KERNEL(BASIS_THREADS) decode_f32(const __grid_constant__ DecodeArgs<float> a) { decode(a); }
KERNEL(BASIS_THREADS) decode_bf16(const __grid_constant__ DecodeArgs<bf16> a) { decode(a); }
KERNEL(BASIS_THREADS) decode_f16(const __grid_constant__ DecodeArgs<f16> a) { decode(a); }
