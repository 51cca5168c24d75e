// Rows of an embedding table, by token id or by position. Twin of `embed` in src/backend/cpu/backend.rs.
//
// A warp copies a row, 16 bytes a lane.
#include "vector.cuh"

template <bool whole>
DEVICE void embed_row(const float *table, uint32_t row, uint32_t width, const RowOf<float> &out) {
  Plain<const float> from{table + uint64_t(row) * width};
#pragma unroll 4
  for (uint32_t column = threadIdx.x % WARP * 4; column < width; column += WARP * 4) {
    Vector<float, 4> x;
    load<whole>(x, from, column, width);
    store<whole>(x, out, column, width);
  }
}

// out[i] = table[index[i]]; the table is row-major, its rows `width` apart.
// launch: block 256, grid ⌈count / 8⌉, no dynamic shared memory
extern "C" __global__ void __launch_bounds__(256) embed(
    const float *__restrict__ table,
    const uint32_t *__restrict__ index,
    uint32_t count,
    uint32_t width,
    View<float> out) {
  uint32_t i = warp_row();
  if (i >= count) return;
  RowOf<float> to(out, i);
  bool whole = width % 4 == 0 && uint64_t(table) % 16 == 0 && in_vectors<4>(out);
  if (whole)
    embed_row<true>(table, index[i], width, to);
  else
    embed_row<false>(table, index[i], width, to);
}
