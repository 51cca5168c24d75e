// Ragged causal attention, z = softmax(q kᵀ · scale) v. Twin of src/backend/cpu/attention.rs.
//
// One arithmetic for every row and head, whatever tile it is in and however the keys are staged:
//
//     s_j = (q · k_j) · scale      four partial sums, column c into partial c mod 4, folded in halves
//     m   = max s                  after the scores' overwrites
//     e_j = exp(s_j − m)
//     w_j = e_j · (1 / Σ e)        Σ: key j into lane j mod 32, in order, lanes folded in halves
//     z_c = Σ w_j · v_jc           after the pattern's overwrites; in order of the keys
//
// A block takes one head of a tile: up to 16 rows that see the same keys, each as far as its own count.
// Keys, then values, pass through two slots of shared memory in stages of a few dozen rows, the next
// stage being copied while this one is used, so that a tile reads each key and value once. Most tiles
// are short (a prompt of 15 tokens is one stage of each): then everything is under way at the start,
// and the kernel is as fast as memory.
//
// A row's scores stay in shared memory until its z is done, so the softmax is exact and in one pass;
// what limits the number of keys is shared memory.
#include "overwrite.cuh"

// Rows `row` … `row + rows − 1` of z, consecutive, whose keys all start at entry `first` of the key and
// value tables; `keys` is the largest of their counts. Mirrors `Tile` in src/backend/cuda.
struct alignas(16) Tile {
  uint32_t row, rows, first, keys;
};

constexpr uint32_t SCORE_ROWS = 4;  // rows that one lane multiplies with its key
constexpr uint32_t PAIR = 2;        // rows that one thread sums values for
constexpr uint32_t COLUMNS = 4;     // columns likewise

// One head's rows of a matrix and of the trace's.
template <class T>
struct HeadRows {
  const T *own, *trace;
  uint32_t own_stride, trace_stride;
  const uint32_t *refs;

  DEVICE HeadRows(const View<const T> &own, const View<const T> &trace, const uint32_t *refs,
                  uint32_t column)
      : own(own.at(0, column)),
        trace(trace.data ? trace.at(0, column) : nullptr),
        own_stride(own.row_stride),
        trace_stride(trace.row_stride),
        refs(refs) {}

  DEVICE const T *row(uint32_t i) const {
    uint32_t ref = refs[i];
    return ref & TRACE_ROW ? trace + uint64_t(ref & ~TRACE_ROW) * trace_stride
                           : own + uint64_t(ref) * own_stride;
  }
};

// The row of scores or pattern that is kept nowhere. Mirrors `Keep::NOWHERE` in src/plan/tables.rs.
constexpr uint32_t NOWHERE = ~0u;

// Overwrites of one row's scores or pattern in one head, and where they are kept.
struct Cells {
  const Write *writes;
  const uint32_t *first;  // null: no overwrites
  const View<const float> *kept;
  const float *constants;
  View<float> keep;  // null data: not kept
  const uint32_t *keep_rows;
  uint32_t stride;

  // One warp; key j is lane j mod 32's alone.
  DEVICE void settle(float *cells, uint32_t row, uint32_t head, uint32_t keys) const {
    uint32_t lane = threadIdx.x % WARP;
    if (first) {
      for (uint32_t i = first[row]; i < first[row + 1]; ++i) {
        if (writes[i].head != head) continue;
        Write write = writes[i];
        Operand<float> operand(write, kept, constants);
        uint32_t end = write.column + write.length;
        for (uint32_t key = write.column / WARP * WARP + lane; key < end; key += WARP) {
          if (key < write.column) continue;
          float s = write.operand != NO_OPERAND ? *operand.at(key - write.column) : 0.0f;
          cells[key] = overwritten(write, cells[key], s);
        }
      }
    }
    if (keep.data && keep_rows[row] != NOWHERE) {
      RowOf<float> to(keep, keep_rows[row]);
      for (uint32_t key = lane; key < keys; key += WARP) *to.at(head * stride + key) = cells[key];
    }
  }
};

// What a block does, and where its numbers lie in shared memory. All threads agree on it and need it now
// and then, so it is kept there too and not in everybody's registers.
template <class T>
struct Plan {
  HeadRows<T> key, value;
  Tile tile;
  uint32_t stages;  // of the keys, and of each pass over the values
  uint32_t steps;   // all stages together
  uint32_t groups;  // of four columns, in a pass
  bool whole;       // rows can be copied 16 bytes at a time
  uint32_t slot;    // bytes of a slot, `stage_keys` rows
  uint32_t pitch;   // numbers of its rows, an odd count of 16 bytes: lanes a row apart use different banks
  uint32_t padded;  // columns of a query
  uint32_t query;   // byte at which they start
  uint32_t scores;  // byte at which the scores start
  uint32_t score_pitch;  // columns of theirs, an odd number of vectors likewise
};

constexpr uint32_t PLAN_BYTES = 160;

// A block's shared memory: the plan, two slots, queries, scores.
template <class T>
struct Shared {
  unsigned char *memory;

  DEVICE Plan<T> &plan() const { return *reinterpret_cast<Plan<T> *>(memory); }
  DEVICE T *slot(uint32_t step) const {
    return reinterpret_cast<T *>(memory + PLAN_BYTES + (step & 1) * plan().slot);
  }
  DEVICE float *query(uint32_t row) const {
    return reinterpret_cast<float *>(memory + plan().query) + row * plan().padded;
  }
  DEVICE float *scores(uint32_t row) const {
    return reinterpret_cast<float *>(memory + plan().scores) + row * plan().score_pitch;
  }
};

// Copies columns … of `count` rows into a slot: 16 bytes at a time behind the threads' backs, or number
// by number, what is past the last column becoming 0.
template <class T>
DEVICE void fill(bool whole, T *slot, uint32_t pitch, const HeadRows<T> &from, uint32_t first,
                 uint32_t count, uint32_t column, uint32_t columns) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t vectors = (columns + N - 1) / N;
  uint32_t row = threadIdx.x / vectors, vector = threadIdx.x % vectors;
  uint32_t row_step = blockDim.x / vectors, vector_step = blockDim.x % vectors;
  while (row < count) {
    const T *x = from.row(first + row) + column;
    T *to = slot + row * pitch + vector * N;
    if (whole) {
      copy_async_16(to, x + vector * N, 16);
    } else {
      Vector<T, N> y;
      load<false>(y, Plain<const T>{x}, vector * N, columns);
      write_whole(y, to);
    }
    row += row_step;
    vector += vector_step;
    if (vector >= vectors) {
      vector -= vectors;
      ++row;
    }
  }
}

// Queries, widened once.
template <class T>
DEVICE void load_queries(const Shared<T> &shared, const HeadRows<T> &query, uint32_t d) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t vectors = shared.plan().padded / N, count = shared.plan().tile.rows * vectors;
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
    uint32_t row = i / vectors, column = i % vectors * N;
    Vector<T, N> x;
    Plain<const T> from{query.row(shared.plan().tile.row + row)};
    if (shared.plan().whole)
      load<true>(x, from, column, d);
    else
      load<false>(x, from, column, d);
#pragma unroll
    for (uint32_t j = 0; j < N; j += 4) {
      Vector<float, 4> y{widen(x.at[j]), widen(x.at[j + 1]), widen(x.at[j + 2]), widen(x.at[j + 3])};
      write_whole(y, shared.query(row) + column + j);
    }
  }
}

// Scores of one stage's keys: a lane multiplies its key with R rows at a time.
template <uint32_t R, class T>
DEVICE void multiply_keys(const Shared<T> &shared, const T *keys, uint32_t first_key, uint32_t stage_keys,
                          const Tile &tile, const uint32_t *count, float scale) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t groups = (tile.rows + R - 1) / R, blocks = (stage_keys + WARP - 1) / WARP;
  for (uint32_t unit = threadIdx.x / WARP; unit < groups * blocks; unit += blockDim.x / WARP) {
    uint32_t first_row = unit % groups * R;
    uint32_t key = unit / groups * WARP + threadIdx.x % WARP;
    if (key >= stage_keys) continue;
    const T *k = keys + key * shared.plan().pitch;
    uint32_t padded = shared.plan().padded;
    // a group that the tile does not fill repeats its last row
    const float *q[R];
    float partial[R][4];
#pragma unroll
    for (uint32_t r = 0; r < R; ++r) {
      q[r] = shared.query(min(first_row + r, tile.rows - 1));
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) partial[r][i] = 0.0f;
    }
#pragma unroll 2
    for (uint32_t column = 0; column < padded; column += N) {
      Vector<T, N> x;
      read_whole(x, k + column);
#pragma unroll
      for (uint32_t r = 0; r < R; ++r)
#pragma unroll
        for (uint32_t j = 0; j < N; j += 4) {
          Vector<float, 4> y;
          read_whole(y, q[r] + column + j);
#pragma unroll
          for (uint32_t i = 0; i < 4; ++i)
            partial[r][i] = fmaf(y.at[i], widen(x.at[j + i]), partial[r][i]);
        }
    }
#pragma unroll
    for (uint32_t r = 0; r < R; ++r) {
      uint32_t row = first_row + r;
      if (row < tile.rows && first_key + key < count[tile.row + row])
        shared.scores(row)[first_key + key] =
            ((partial[r][0] + partial[r][2]) + (partial[r][1] + partial[r][3])) * scale;
    }
  }
}

// Scores become the pattern; a warp takes a row.
template <class T>
DEVICE void softmax(const Shared<T> &shared, const Tile &tile, const uint32_t *count,
                    const Cells &scores, const Cells &pattern) {
  uint32_t lane = threadIdx.x % WARP;
  for (uint32_t i = threadIdx.x / WARP; i < tile.rows; i += blockDim.x / WARP) {
    uint32_t row = tile.row + i, keys = count[row];
    float *cells = shared.scores(i);
    scores.settle(cells, row, blockIdx.y, keys);
    float max = -INFINITY;
#pragma unroll 4
    for (uint32_t key = lane; key < keys; key += WARP) max = fmaxf(max, cells[key]);
    max = warp_max(max);
    float sum = 0.0f;
#pragma unroll 4
    for (uint32_t key = lane; key < keys; key += WARP) {
      float e = expf(cells[key] - max);
      cells[key] = e;
      sum = sum + e;
    }
    float inverse = 1.0f / warp_sum(sum);
#pragma unroll 4
    for (uint32_t key = lane; key < keys; key += WARP) cells[key] = cells[key] * inverse;
    pattern.settle(cells, row, blockIdx.y, keys);
  }
}

// A thread's part of z: two rows by four columns of the pass.
template <class T>
struct Sums {
  bool used;
  uint32_t column;           // of the pass
  uint32_t row[PAIR];        // of the tile; both the same where the tile's last pair is one row
  uint32_t count[PAIR];
  float z[PAIR][COLUMNS];

  DEVICE Sums(const Tile &tile, const uint32_t *counts, uint32_t groups) {
    uint32_t first = threadIdx.x / groups * PAIR;
    column = threadIdx.x % groups * COLUMNS;
    used = first < tile.rows;
#pragma unroll
    for (uint32_t r = 0; r < PAIR; ++r) {
      row[r] = min(first + r, tile.rows - 1);
      count[r] = counts[tile.row + row[r]];
    }
  }

  DEVICE void clear() {
#pragma unroll
    for (uint32_t r = 0; r < PAIR; ++r)
#pragma unroll
      for (uint32_t c = 0; c < COLUMNS; ++c) z[r][c] = 0.0f;
  }

  DEVICE void add(uint32_t r, float w, const Vector<T, COLUMNS> &v) {
#pragma unroll
    for (uint32_t c = 0; c < COLUMNS; ++c) z[r][c] = fmaf(w, widen(v.at[c]), z[r][c]);
  }

  // Adds one stage's values, those of keys that a row does not see left out.
  DEVICE void multiply_values(const Shared<T> &shared, const T *values, uint32_t first_key,
                              uint32_t stage_keys) {
    const T *v = values + column;
    uint32_t pitch = shared.plan().pitch;
    const float *w[PAIR];
    uint32_t seen[PAIR];
#pragma unroll
    for (uint32_t r = 0; r < PAIR; ++r) {
      w[r] = shared.scores(row[r]) + first_key;
      seen[r] = count[r] > first_key ? min(count[r] - first_key, stage_keys) : 0;
    }
    uint32_t key = 0, both = min(seen[0], seen[1]);
    for (; key + 4 <= both; key += 4) {
      Vector<float, 4> weight[PAIR];
#pragma unroll
      for (uint32_t r = 0; r < PAIR; ++r)
        read_whole(weight[r], w[r] + key);
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        Vector<T, COLUMNS> x;
        read_whole(x, v + (key + i) * pitch);
#pragma unroll
        for (uint32_t r = 0; r < PAIR; ++r) add(r, weight[r].at[i], x);
      }
    }
    for (; key < max(seen[0], seen[1]); ++key) {
      Vector<T, COLUMNS> x;
      read_whole(x, v + key * pitch);
#pragma unroll
      for (uint32_t r = 0; r < PAIR; ++r)
        if (key < seen[r]) add(r, w[r][key], x);
    }
  }

  DEVICE void store_rows(bool whole, const View<T> &out, const Tile &tile, uint32_t first_column, uint32_t d) const {
#pragma unroll
    for (uint32_t r = 0; r < PAIR; ++r) {
      if (r > 0 && row[r] == row[0]) continue;
      Vector<T, COLUMNS> x;
#pragma unroll
      for (uint32_t c = 0; c < COLUMNS; ++c) narrow(z[r][c], x.at[c]);
      Plain<T> to{RowOf<T>(out, tile.row + row[r]).at(blockIdx.y * d)};
      if (whole)
        store<true>(x, to, first_column + column, d);
      else
        store<false>(x, to, first_column + column, d);
    }
  }
};

// Starts copying step s: stage s mod `stages` of the keys, or of a pass over the values.
template <class T>
DEVICE void begin(const Shared<T> &shared, uint32_t d, uint32_t stage_keys, uint32_t step) {
  const Plan<T> &plan = shared.plan();
  if (step < plan.steps) {
    uint32_t pass = step / plan.stages, first = step % plan.stages * stage_keys;
    uint32_t width = plan.groups * COLUMNS;
    uint32_t column = pass == 0 ? 0 : (pass - 1) * width;
    fill(plan.whole, shared.slot(step), plan.pitch, pass == 0 ? plan.key : plan.value,
         plan.tile.first + first, min(stage_keys, plan.tile.keys - first), column,
         pass == 0 ? d : min(width, d - column));
  }
  copy_async_commit();
}

// When a step is over, its slot is free for the step after the next.
template <class T>
DEVICE void next(const Shared<T> &shared, uint32_t d, uint32_t stage_keys, uint32_t step) {
  if (step + 2 < shared.plan().steps) __syncthreads();
  begin(shared, d, stage_keys, step + 2);
}

template <class T>
DEVICE void attention(unsigned char *memory, const View<const T> &query,
                      const View<const T> &query_trace, const uint32_t *query_refs,
                      const View<const T> &key, const View<const T> &key_trace,
                      const uint32_t *key_refs, const View<const T> &value,
                      const View<const T> &value_trace, const uint32_t *value_refs,
                      const uint32_t *count, uint32_t d, float scale, const Tile *tiles,
                      uint32_t tile_rows, uint32_t largest, uint32_t stage_keys, const Cells &scores,
                      const Cells &pattern, const View<T> &out) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t head_column = blockIdx.y * d;
  Shared<T> shared{memory};
  if (threadIdx.x == 0) {
    Tile tile = tiles[blockIdx.x];
    uint32_t stages = (tile.keys + stage_keys - 1) / stage_keys;
    // A pass over the values makes as many columns of z as the block has threads for: all, unless d is
    // over 128 and the tile full. An even number of groups, so that a pass begins on 16 bytes.
    uint32_t pairs = (tile.rows + PAIR - 1) / PAIR;
    uint32_t groups = min((blockDim.x / pairs) & ~1u, (d + 7) / 8 * 2);
    uint32_t passes = (d + groups * COLUMNS - 1) / (groups * COLUMNS);
    bool whole = d % N == 0 && in_vectors<N>(query) && in_vectors<N>(query_trace) &&
                 in_vectors<N>(key) && in_vectors<N>(key_trace) && in_vectors<N>(value) &&
                 in_vectors<N>(value_trace) && in_vectors<N>(out);
    uint32_t vectors = (d + N - 1) / N, pitch = (vectors | 1) * N, slot = stage_keys * pitch * sizeof(T);
    uint32_t queries = PLAN_BYTES + 2 * slot;
    static_assert(sizeof(Plan<T>) <= PLAN_BYTES, "the plan does not fit its place");
    shared.plan() = {HeadRows<T>(key, key_trace, key_refs, head_column),
                     HeadRows<T>(value, value_trace, value_refs, head_column),
                     tile,
                     stages,
                     stages * (1 + passes),
                     groups,
                     whole,
                     slot,
                     pitch,
                     vectors * N,
                     queries,
                     queries + tile_rows * vectors * N * 4,
                     (((largest + 3) / 4) | 1) * 4};
  }
  __syncthreads();
  begin(shared, d, stage_keys, 0);
  begin(shared, d, stage_keys, 1);
  load_queries(shared, HeadRows<T>(query, query_trace, query_refs, head_column), d);

  uint32_t step = 0;
  do {
    copy_async_wait<1>();
    __syncthreads();
    uint32_t first = step * stage_keys;
    Tile tile = shared.plan().tile;
    uint32_t keys = min(stage_keys, tile.keys - first);
    if (tile.rows == 1)
      multiply_keys<1>(shared, shared.slot(step), first, keys, tile, count, scale);
    else
      multiply_keys<SCORE_ROWS>(shared, shared.slot(step), first, keys, tile, count, scale);
    next(shared, d, stage_keys, step);
  } while (++step < shared.plan().stages);

  __syncthreads();
  softmax(shared, shared.plan().tile, count, scores, pattern);

  uint32_t width = shared.plan().groups * COLUMNS;
  Sums<T> sums(shared.plan().tile, count, shared.plan().groups);
  for (uint32_t column = 0; column < d; column += width) {
    sums.clear();
    bool used = sums.used && column + sums.column < d;
    for (uint32_t first = 0; first < shared.plan().tile.keys; first += stage_keys, ++step) {
      copy_async_wait<1>();
      __syncthreads();
      uint32_t keys = min(stage_keys, shared.plan().tile.keys - first);
      if (used) sums.multiply_values(shared, shared.slot(step), first, keys);
      next(shared, d, stage_keys, step);
    }
    if (used) sums.store_rows(shared.plan().whole, out, shared.plan().tile, column, d);
  }
}

// Row r of z, head h, d columns from h · d; q, k, v and z have each head's columns in one stretch.
//
//   query_refs[r]                       the query of row r
//   key_refs, value_refs[first + j]     key and value j of a tile's rows; j < count[r] for row r
//   tiles                               see `Tile`; their rows are those that are computed
//   score_writes, score_first           overwrites of row r: writes[first[r]] … writes[first[r + 1] − 1],
//                                       columns being keys below count[r]; score_first null: none
//   pattern_writes, pattern_first       likewise, after the softmax
//   kept, constants                     the overwrites' operands
//   keep_scores, keep_scores_rows       key j of head h is kept in row keep_scores_rows[r], column
//                                       h · stride + j, unless that row is NOWHERE; data null: not kept
//   keep_pattern, keep_pattern_rows     likewise
//
// Tiles, on the host: every stretch of rows r, r + 1, … with the same start of keys, n of them, is cut
// into p = ⌈n / most⌉ tiles, tile i being its rows ⌊n · i / p⌋ … ⌊n · (i + 1) / p⌋ − 1; `most` is 16, and 8
// where the chunk's largest count is over 512 (two blocks then fit a multiprocessor), or what fits.
//
// launch: block clamp(⌈d / 4⌉ · 8 rounded up to a multiple of 32, 64, 256), grid (tiles, heads), dynamic
// shared memory 160 + 2 · stage_keys · pitch + 4 · tile_rows · (padded + score_pitch) bytes, with
//     N           = 16 / sizeof(T)
//     padded      = ⌈d / N⌉ · N
//     pitch       = (⌈d / N⌉ | 1) · 16
//     score_pitch = (⌈largest / 4⌉ | 1) · 4
//     tile_rows   = the most rows of any tile
//     largest     = the most keys of any tile
//     stage_keys  = min(largest rounded up to 4, max(32, 18432 / pitch rounded down to 32))
// Tiles of other sizes (up to 16 rows), stage_keys any multiple of 4, and blocks of any multiple of 32 from
// 64 to 256 threads give the same bits.
extern "C" __global__ void __launch_bounds__(256) attention_f32(
    View<const float> query,
    View<const float> query_trace,
    const uint32_t *__restrict__ query_refs,
    View<const float> key,
    View<const float> key_trace,
    const uint32_t *__restrict__ key_refs,
    View<const float> value,
    View<const float> value_trace,
    const uint32_t *__restrict__ value_refs,
    const uint32_t *__restrict__ count,
    uint32_t d,
    float scale,
    const Tile *__restrict__ tiles,
    uint32_t tile_rows,
    uint32_t largest,
    uint32_t stage_keys,
    const Write *__restrict__ score_writes,
    const uint32_t *__restrict__ score_first,
    const Write *__restrict__ pattern_writes,
    const uint32_t *__restrict__ pattern_first,
    const View<const float> *__restrict__ kept,
    const float *__restrict__ constants,
    View<float> keep_scores,
    const uint32_t *__restrict__ keep_scores_rows,
    View<float> keep_pattern,
    const uint32_t *__restrict__ keep_pattern_rows,
    uint32_t stride,
    View<float> out) {
  DYNAMIC_SHARED(unsigned char, memory);
  attention<float>(memory, query, query_trace, query_refs, key, key_trace, key_refs, value, value_trace,
                   value_refs, count, d, scale, tiles, tile_rows, largest, stage_keys,
                   {score_writes, score_first, kept, constants, keep_scores, keep_scores_rows, stride},
                   {pattern_writes, pattern_first, kept, constants, keep_pattern, keep_pattern_rows, stride},
                   out);
}

// launch: as attention_f32, N = 8
extern "C" __global__ void __launch_bounds__(256) attention_bf16(
    View<const bf16> query,
    View<const bf16> query_trace,
    const uint32_t *__restrict__ query_refs,
    View<const bf16> key,
    View<const bf16> key_trace,
    const uint32_t *__restrict__ key_refs,
    View<const bf16> value,
    View<const bf16> value_trace,
    const uint32_t *__restrict__ value_refs,
    const uint32_t *__restrict__ count,
    uint32_t d,
    float scale,
    const Tile *__restrict__ tiles,
    uint32_t tile_rows,
    uint32_t largest,
    uint32_t stage_keys,
    const Write *__restrict__ score_writes,
    const uint32_t *__restrict__ score_first,
    const Write *__restrict__ pattern_writes,
    const uint32_t *__restrict__ pattern_first,
    const View<const float> *__restrict__ kept,
    const float *__restrict__ constants,
    View<float> keep_scores,
    const uint32_t *__restrict__ keep_scores_rows,
    View<float> keep_pattern,
    const uint32_t *__restrict__ keep_pattern_rows,
    uint32_t stride,
    View<bf16> out) {
  DYNAMIC_SHARED(unsigned char, memory);
  attention<bf16>(memory, query, query_trace, query_refs, key, key_trace, key_refs, value, value_trace,
                   value_refs, count, d, scale, tiles, tile_rows, largest, stage_keys,
                   {score_writes, score_first, kept, constants, keep_scores, keep_scores_rows, stride},
                   {pattern_writes, pattern_first, kept, constants, keep_pattern, keep_pattern_rows, stride},
                   out);
}

// launch: as attention_f32, N = 8
extern "C" __global__ void __launch_bounds__(256) attention_f16(
    View<const f16> query,
    View<const f16> query_trace,
    const uint32_t *__restrict__ query_refs,
    View<const f16> key,
    View<const f16> key_trace,
    const uint32_t *__restrict__ key_refs,
    View<const f16> value,
    View<const f16> value_trace,
    const uint32_t *__restrict__ value_refs,
    const uint32_t *__restrict__ count,
    uint32_t d,
    float scale,
    const Tile *__restrict__ tiles,
    uint32_t tile_rows,
    uint32_t largest,
    uint32_t stage_keys,
    const Write *__restrict__ score_writes,
    const uint32_t *__restrict__ score_first,
    const Write *__restrict__ pattern_writes,
    const uint32_t *__restrict__ pattern_first,
    const View<const float> *__restrict__ kept,
    const float *__restrict__ constants,
    View<float> keep_scores,
    const uint32_t *__restrict__ keep_scores_rows,
    View<float> keep_pattern,
    const uint32_t *__restrict__ keep_pattern_rows,
    uint32_t stride,
    View<f16> out) {
  DYNAMIC_SHARED(unsigned char, memory);
  attention<f16>(memory, query, query_trace, query_refs, key, key_trace, key_refs, value, value_trace,
                   value_refs, count, d, scale, tiles, tile_rows, largest, stage_keys,
                   {score_writes, score_first, kept, constants, keep_scores, keep_scores_rows, stride},
                   {pattern_writes, pattern_first, kept, constants, keep_pattern, keep_pattern_rows, stride},
                   out);
}
