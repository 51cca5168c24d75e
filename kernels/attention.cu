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

constexpr uint32_t SCORE_ROWS = 4;  // rows that one lane multiplies with its key
constexpr uint32_t PAIR = 2;        // rows that one thread sums values for
constexpr uint32_t PART = ATTENTION_PART;

// One head's rows.
template <class T>
struct HeadRows {
  const T *own, *cache;
  uint32_t own_stride, cache_stride;
  const uint32_t *refs;

  DEVICE HeadRows(const Rows<T> &rows, uint32_t column)
      : own(RowOf<const T>(rows.own, 0).at(column)),
        cache(rows.cache.data ? RowOf<const T>(rows.cache, 0).at(column) : nullptr),
        own_stride(rows.own.row_stride),
        cache_stride(rows.cache.row_stride),
        refs(rows.refs) {}

  DEVICE const T *row(uint32_t i) const {
    uint32_t ref = refs[i];
    return ref & CACHE_ROW ? cache + row_offset(ref & ~CACHE_ROW, cache_stride)
                           : own + row_offset(ref, own_stride);
  }
};

// Overwrites one row's scores or pattern in one head, and keeps them. One warp; key j is lane j mod 32's
// alone.
DEVICE void settle(const Cells &cells, float *numbers, uint32_t row, uint32_t head, uint32_t keys) {
  uint32_t lane = threadIdx.x % WARP;
  if (cells.first) {
    for (uint32_t i = cells.first[row]; i < cells.first[row + 1]; ++i) {
      if (cells.writes[i].head != head) continue;
      Write write = cells.writes[i];
      SourceRow<float> operand(write.source, cells.kept, cells.constants);
      uint32_t end = write.column + write.length;
      for (uint32_t key = write.column / WARP * WARP + lane; key < end; key += WARP) {
        if (key < write.column) continue;
        float s = write.source.operand != Operand::NOTHING ? *operand.at(key - write.column) : 0.0f;
        numbers[key] = overwritten(write, numbers[key], s);
      }
    }
  }
  if (cells.keep.data && cells.keep_rows[row] != NONE) {
    RowOf<float> to(cells.keep, cells.keep_rows[row]);
    for (uint32_t key = lane; key < keys; key += WARP)
      *to.at(head * cells.keep_stride + key) = numbers[key];
  }
}

// What a block does. All threads agree on it and need it now and then, so it is kept in shared memory and
// not in everybody's registers.
template <class T>
struct Plan {
  HeadRows<T> key, value;
  QueryTile tile;
  uint32_t stages;  // of the keys, and of each pass over the values
  uint32_t steps;   // all stages together
  uint32_t groups;  // of PART columns, in a pass
  bool whole;       // rows can be copied 16 bytes at a time
};

// A block's shared memory: the plan, two slots, queries, scores.
template <class T>
struct Shared {
  const AttentionArgs<T> &a;
  unsigned char *memory;

  DEVICE Plan<T> &plan() const { return *reinterpret_cast<Plan<T> *>(memory); }
  DEVICE T *slot(uint32_t step) const {
    return reinterpret_cast<T *>(memory + ATTENTION_PLAN) + (step & 1) * a.shape.stage_keys * a.shape.pitch;
  }
  DEVICE float *query(uint32_t row) const {
    return reinterpret_cast<float *>(memory + a.shape.queries) + row * a.shape.query_pitch;
  }
  DEVICE float *scores(uint32_t row) const {
    return reinterpret_cast<float *>(memory + a.shape.scores) + row * a.shape.score_pitch;
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
DEVICE void load_queries(const Shared<T> &shared, const HeadRows<T> &query) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t d = shared.a.d, vectors = shared.a.shape.query_pitch / N, count = shared.plan().tile.rows * vectors;
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
                          const QueryTile &tile) {
  constexpr uint32_t N = WIDE<T>;
  uint32_t groups = (tile.rows + R - 1) / R, blocks = (stage_keys + WARP - 1) / WARP;
  for (uint32_t unit = threadIdx.x / WARP; unit < groups * blocks; unit += blockDim.x / WARP) {
    uint32_t first_row = unit % groups * R;
    uint32_t key = unit / groups * WARP + threadIdx.x % WARP;
    if (key >= stage_keys) continue;
    const T *k = keys + key * shared.a.shape.pitch;
    uint32_t padded = shared.a.shape.query_pitch;
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
      if (row < tile.rows && first_key + key < shared.a.count[tile.row + row])
        shared.scores(row)[first_key + key] =
            ((partial[r][0] + partial[r][2]) + (partial[r][1] + partial[r][3])) * shared.a.scale;
    }
  }
}

// Scores become the pattern; a warp takes a row.
template <class T>
DEVICE void softmax(const Shared<T> &shared, const QueryTile &tile) {
  uint32_t lane = threadIdx.x % WARP;
  for (uint32_t i = threadIdx.x / WARP; i < tile.rows; i += blockDim.x / WARP) {
    uint32_t row = tile.row + i, keys = shared.a.count[row];
    float *cells = shared.scores(i);
    settle(shared.a.scores, cells, row, blockIdx.y, keys);
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
    settle(shared.a.pattern, cells, row, blockIdx.y, keys);
  }
}

// A thread's part of z: PAIR rows by PART columns of the pass.
template <class T>
struct Sums {
  bool used;
  uint32_t column;           // of the pass
  uint32_t row[PAIR];        // of the tile; both the same where the tile's last pair is one row
  uint32_t count[PAIR];
  float z[PAIR][PART];

  DEVICE Sums(const QueryTile &tile, const uint32_t *counts, uint32_t groups) {
    uint32_t first = threadIdx.x / groups * PAIR;
    column = threadIdx.x % groups * PART;
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
      for (uint32_t c = 0; c < PART; ++c) z[r][c] = 0.0f;
  }

  DEVICE void add(uint32_t r, float w, const Vector<T, PART> &v) {
#pragma unroll
    for (uint32_t c = 0; c < PART; ++c) z[r][c] = fmaf(w, widen(v.at[c]), z[r][c]);
  }

  // Adds one stage's values, those of keys that a row does not see left out.
  DEVICE void multiply_values(const Shared<T> &shared, const T *values, uint32_t first_key,
                              uint32_t stage_keys) {
    const T *v = values + column;
    uint32_t pitch = shared.a.shape.pitch;
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
        Vector<T, PART> x;
        read_whole(x, v + (key + i) * pitch);
#pragma unroll
        for (uint32_t r = 0; r < PAIR; ++r) add(r, weight[r].at[i], x);
      }
    }
#pragma unroll 4
    for (; key < max(seen[0], seen[1]); ++key) {
      Vector<T, PART> x;
      read_whole(x, v + key * pitch);
#pragma unroll
      for (uint32_t r = 0; r < PAIR; ++r)
        if (key < seen[r]) add(r, w[r][key], x);
    }
  }

  DEVICE void store_rows(const Shared<T> &shared, uint32_t first_column) const {
    const uint32_t d = shared.a.d;
#pragma unroll
    for (uint32_t r = 0; r < PAIR; ++r) {
      if (r > 0 && row[r] == row[0]) continue;
      Vector<T, PART> x;
#pragma unroll
      for (uint32_t c = 0; c < PART; ++c) narrow(z[r][c], x.at[c]);
      Plain<T> to{RowOf<T>(shared.a.out, shared.plan().tile.row + row[r]).at(blockIdx.y * d)};
      if (shared.plan().whole)
        store<true>(x, to, first_column + column, d);
      else
        store<false>(x, to, first_column + column, d);
    }
  }
};

// Starts copying step s: stage s mod `stages` of the keys, or of a pass over the values.
template <class T>
DEVICE void begin(const Shared<T> &shared, uint32_t step) {
  const Plan<T> &plan = shared.plan();
  uint32_t d = shared.a.d, stage_keys = shared.a.shape.stage_keys;
  if (step < plan.steps) {
    uint32_t pass = step / plan.stages, first = step % plan.stages * stage_keys;
    uint32_t width = plan.groups * PART;
    uint32_t column = pass == 0 ? 0 : (pass - 1) * width;
    fill(plan.whole, shared.slot(step), shared.a.shape.pitch, pass == 0 ? plan.key : plan.value,
         plan.tile.first + first, min(stage_keys, plan.tile.keys - first), column,
         pass == 0 ? d : min(width, d - column));
  }
  copy_async_commit();
}

// When a step is over, its slot is free for the step after the next.
template <class T>
DEVICE void next(const Shared<T> &shared, uint32_t step) {
  if (step + 2 < shared.plan().steps) __syncthreads();
  begin(shared, step + 2);
}

// z of one head of one query tile. Tiles of any size up to QUERY_ROWS rows, any `stage_keys` and blocks of
// any multiple of 32 threads from 64 to ATTENTION_THREADS give the same bits.
template <class T>
DEVICE void attention(const AttentionArgs<T> &a) {
  DYNAMIC_SHARED(unsigned char, memory);
  constexpr uint32_t N = WIDE<T>;
  const uint32_t d = a.d, stage_keys = a.shape.stage_keys, head_column = blockIdx.y * d;
  Shared<T> shared{a, memory};
  if (threadIdx.x == 0) {
    QueryTile tile = a.tiles[blockIdx.x];
    uint32_t stages = (tile.keys + stage_keys - 1) / stage_keys;
    // A pass over the values makes as many columns of z as the block has threads for: all, unless d is
    // over 128 and the tile full. An even number of groups, so that a pass begins on 16 bytes.
    uint32_t pairs = (tile.rows + PAIR - 1) / PAIR;
    uint32_t groups = min((blockDim.x / pairs) & ~1u, (d + 7) / 8 * 2);
    uint32_t passes = (d + groups * PART - 1) / (groups * PART);
    bool whole = d % N == 0 && in_vectors<N>(a.query) && in_vectors<N>(a.key) && in_vectors<N>(a.value) &&
                 in_vectors<N>(a.out);
    static_assert(sizeof(Plan<T>) == ATTENTION_PLAN);
    shared.plan() = {HeadRows<T>(a.key, head_column),
                     HeadRows<T>(a.value, head_column),
                     tile,
                     stages,
                     stages * (1 + passes),
                     groups,
                     whole};
  }
  __syncthreads();
  begin(shared, 0);
  begin(shared, 1);
  load_queries(shared, HeadRows<T>(a.query, head_column));

  uint32_t step = 0;
  do {
    copy_async_wait<1>();
    __syncthreads();
    uint32_t first = step * stage_keys;
    QueryTile tile = shared.plan().tile;
    uint32_t keys = min(stage_keys, tile.keys - first);
    if (tile.rows == 1)
      multiply_keys<1>(shared, shared.slot(step), first, keys, tile);
    else
      multiply_keys<SCORE_ROWS>(shared, shared.slot(step), first, keys, tile);
    next(shared, step);
  } while (++step < shared.plan().stages);

  __syncthreads();
  softmax(shared, shared.plan().tile);

  uint32_t width = shared.plan().groups * PART;
  Sums<T> sums(shared.plan().tile, a.count, shared.plan().groups);
  for (uint32_t column = 0; column < d; column += width) {
    sums.clear();
    bool used = sums.used && column + sums.column < d;
    for (uint32_t first = 0; first < shared.plan().tile.keys; first += stage_keys, ++step) {
      copy_async_wait<1>();
      __syncthreads();
      uint32_t keys = min(stage_keys, shared.plan().tile.keys - first);
      if (used) sums.multiply_values(shared, shared.slot(step), first, keys);
      next(shared, step);
    }
    if (used) sums.store_rows(shared, column);
  }
}

KERNEL(ATTENTION_THREADS) attention_f32(const __grid_constant__ AttentionArgs<float> a) { attention(a); }
KERNEL(ATTENTION_THREADS) attention_bf16(const __grid_constant__ AttentionArgs<bf16> a) { attention(a); }
KERNEL(ATTENTION_THREADS) attention_f16(const __grid_constant__ AttentionArgs<f16> a) { attention(a); }
