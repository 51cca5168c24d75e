// Rows into the coordinates of a basis, and back. Twin of src/backend/cpu/basis.rs.
//
// Few rows go through a basis beside those of the layers round it, and in full precision whatever the
// precision of those is: products are plain.cuh's.
#include "overwrite.cuh"
#include "plain.cuh"

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

// Row i, column j of out = activation(Σ_k x_i[k] · encoder[k, j] + bias[j]).
template <class T>
DEVICE void encode(const EncodeArgs<T> &a) {
  through([&](uint32_t i) { return ProbedRow<T>(a, i); }, a.count, a.width, a.encoder, a.coordinates, a.coordinates,
          [&](uint32_t row, uint32_t column, float h) {
            if (a.bias) h = h + a.bias[column];
            if (a.threshold && h <= a.threshold[column]) h = 0.0f;
            if (a.rectified && h < 0.0f) h = 0.0f;
            *RowOf<float>(a.out, row).at(column) = h;
          });
}

KERNEL(PLAIN_THREADS) encode_f32(const __grid_constant__ EncodeArgs<float> a) { encode(a); }
KERNEL(PLAIN_THREADS) encode_bf16(const __grid_constant__ EncodeArgs<bf16> a) { encode(a); }
KERNEL(PLAIN_THREADS) encode_f16(const __grid_constant__ EncodeArgs<f16> a) { encode(a); }

// Number j of the stretch at places[i] = Σ_k from[i, k] · decoder[k, j] · gain[j] + offset[j], or that added.
template <class T>
DEVICE void decode(const DecodeArgs<T> &a) {
  through([&](uint32_t i) { return CoordinateRow{RowOf<const float>(a.from, i)}; }, a.count,
          a.coordinates, a.decoder, a.width, a.width, [&](uint32_t row, uint32_t column, float y) {
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

KERNEL(PLAIN_THREADS) decode_f32(const __grid_constant__ DecodeArgs<float> a) { decode(a); }
KERNEL(PLAIN_THREADS) decode_bf16(const __grid_constant__ DecodeArgs<bf16> a) { decode(a); }
KERNEL(PLAIN_THREADS) decode_f16(const __grid_constant__ DecodeArgs<f16> a) { decode(a); }
