// Rows of an embedding table, by token id or by position. Twin of `embed` in src/backend/cpu/backend.rs.
//
// A warp copies a row, 16 bytes a lane.
#include "common.cuh"

template <bool whole>
DEVICE void embed_row(const Fixed<float> &from, const RowOf<float> &to, uint32_t width) {
#pragma unroll 4
  for (uint32_t column = threadIdx.x % WARP * 4; column < width; column += WARP * 4) {
    Vector<float, 4> x;
    load<whole>(x, from, column, width);
    store<whole>(x, to, column, width);
  }
}

KERNEL(ROW_THREADS) embed(const __grid_constant__ EmbedArgs a) {
  uint32_t i = warp_row();
  if (i >= a.count) return;
  Fixed<float> from{a.table + row_offset(a.index[i], a.width)};
  RowOf<float> to(a.out, i);
  if (a.width % 4 == 0 && uint64_t(a.table) % 16 == 0 && in_vectors<4>(a.out))
    embed_row<true>(from, to, a.width);
  else
    embed_row<false>(from, to, a.width);
}
