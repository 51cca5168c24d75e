// Ragged causal attention backwards. Twin of src/backend/cpu/adjoint/attention.rs.
//
// With w a query's pattern, computed again to the bits of attention.cu, and dz the gradient of its z:
//
//     dw_j = dz · v_j                        as scores are: four partial sums, folded in halves
//     ds_j = w_j (dw_j − Σ w dw)             Σ: key j into lane j mod 32, in order, lanes folded in halves
//     dq_c = Σ_j (ds_j · scale) k_jc         in order of the keys
//     dv_c = Σ_i w_i dz_ic                   in order of the queries i that see the key
//     dk_c = Σ_i (ds_i · scale) q_ic         likewise
//
// First a warp takes a query of one head and leaves its w and ds in device memory; then a warp takes a key, so
// that nothing is added by two. Keys, values and queries come through the caches: the rows of a run are few.
#include "common.cuh"

// Columns that a lane sums at a time.
constexpr uint32_t COLUMNS = 2;

// A head's columns of a row.
template <class T>
DEVICE T *head_row(const View<T> &matrix, uint32_t row, uint32_t column) {
  return RowOf<T>(matrix, row).at(column);
}

// x · y over d columns: column c into partial c mod 4, in order, folded in halves.
template <bool whole, class A, class B>
DEVICE float dot(const A *x, const B *y, uint32_t d) {
  float partial[4] = {};
#pragma unroll 4
  for (uint32_t column = 0; column < d; column += 4) {
    Vector<A, 4> a;
    Vector<B, 4> b;
    load<whole>(a, Plain<const A>{x}, column, d);
    load<whole>(b, Plain<const B>{y}, column, d);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) partial[i] = fmaf(widen(a.at[i]), widen(b.at[i]), partial[i]);
  }
  return (partial[0] + partial[2]) + (partial[1] + partial[3]);
}

// One query of one head. One warp; key j is lane j mod 32's alone until they meet.
template <bool whole, class T>
DEVICE void query_adjoint(const AttentionAdjointArgs<T> &a, const AttendedQuery &of, uint32_t head) {
  const uint32_t lane = threadIdx.x % WARP, d = a.d, column = head * d;
  const T *query = head_row(a.query, of.row, column);
  const float *gradient = head_row(a.gradient, of.row, column);
  const T *keys = head_row(a.key, of.first, column), *values = head_row(a.value, of.first, column);
  float *weights = head_row(a.weights, of.row, head * a.stride);
  float *scores = head_row(a.scores, of.row, head * a.stride);

  float max = -INFINITY;
  for (uint32_t key = lane; key < of.keys; key += WARP) {
    const float score = dot<whole>(query, keys + row_offset(key, a.key.row_stride), d) * a.scale;
    weights[key] = score;
    max = fmaxf(max, score);
  }
  max = warp_max(max);
  float sum = 0.0f;
  for (uint32_t key = lane; key < of.keys; key += WARP) {
    const float e = expf(weights[key] - max);
    weights[key] = e;
    sum = sum + e;
  }
  const float inverse = 1.0f / warp_sum(sum);
  float mean = 0.0f;
  for (uint32_t key = lane; key < of.keys; key += WARP) {
    const float weight = weights[key] * inverse;
    const float dw = dot<whole>(gradient, values + row_offset(key, a.value.row_stride), d);
    weights[key] = weight;
    scores[key] = dw;
    if (a.pattern.data) head_row(a.pattern, of.row, head * a.stride)[key] = dw;
    mean = fmaf(weight, dw, mean);
  }
  mean = warp_sum(mean);
  for (uint32_t key = lane; key < of.keys; key += WARP)
    scores[key] = a.held ? 0.0f : weights[key] * (scores[key] - mean);
  __syncwarp();  // all lanes read all keys' from here on

  float *to = head_row(a.to_query, of.row, column);
  for (uint32_t c = lane; c < d; c += COLUMNS * WARP) {
    float dq[COLUMNS] = {};
    for (uint32_t key = 0; key < of.keys; ++key) {
      const float ds = scores[key] * a.scale;
      const T *k = keys + row_offset(key, a.key.row_stride);
#pragma unroll
      for (uint32_t i = 0; i < COLUMNS; ++i)
        if (c + i * WARP < d) dq[i] = fmaf(ds, widen(k[c + i * WARP]), dq[i]);
    }
#pragma unroll
    for (uint32_t i = 0; i < COLUMNS; ++i)
      if (c + i * WARP < d) to[c + i * WARP] = dq[i];
  }
}

template <class T>
DEVICE void query_adjoints(const AttentionAdjointArgs<T> &a) {
  const uint32_t i = warp_row();
  if (i >= a.query_count) return;
  const AttendedQuery of = a.queries[i];
  const bool vectors = a.d % 4 == 0 && in_vectors<4>(a.query) && in_vectors<4>(a.key) &&
                       in_vectors<4>(a.value) && in_vectors<4>(a.gradient);
  if (vectors)
    query_adjoint<true>(a, of, blockIdx.y);
  else
    query_adjoint<false>(a, of, blockIdx.y);
}

// One key and its value of one head: a lane has columns of its own, and goes through the queries.
template <class T>
DEVICE void key_adjoints(const AttentionAdjointArgs<T> &a) {
  const uint32_t i = warp_row();
  if (i >= a.key_count) return;
  const AttendedKey of = a.keys[i];
  const uint32_t d = a.d, column = blockIdx.y * d, cell = blockIdx.y * a.stride + of.key;
  float *to_key = head_row(a.to_key, of.row, column), *to_value = head_row(a.to_value, of.row, column);
  for (uint32_t c = threadIdx.x % WARP; c < d; c += COLUMNS * WARP) {
    float dk[COLUMNS] = {}, dv[COLUMNS] = {};
    for (uint32_t q = of.begin; q < of.end; ++q) {
      const uint32_t row = a.queries[q].row;
      const float weight = *head_row(a.weights, row, cell), ds = *head_row(a.scores, row, cell) * a.scale;
      const T *query = head_row(a.query, row, column);
      const float *gradient = head_row(a.gradient, row, column);
#pragma unroll
      for (uint32_t i = 0; i < COLUMNS; ++i)
        if (c + i * WARP < d) {
          dv[i] = fmaf(weight, gradient[c + i * WARP], dv[i]);
          dk[i] = fmaf(ds, widen(query[c + i * WARP]), dk[i]);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < COLUMNS; ++i)
      if (c + i * WARP < d) {
        to_key[c + i * WARP] = dk[i];
        to_value[c + i * WARP] = dv[i];
      }
  }
}

KERNEL(ROW_THREADS) attention_adjoint_queries_f32(const __grid_constant__ AttentionAdjointArgs<float> a) {
  query_adjoints(a);
}
KERNEL(ROW_THREADS) attention_adjoint_queries_bf16(const __grid_constant__ AttentionAdjointArgs<bf16> a) {
  query_adjoints(a);
}
KERNEL(ROW_THREADS) attention_adjoint_queries_f16(const __grid_constant__ AttentionAdjointArgs<f16> a) {
  query_adjoints(a);
}
KERNEL(ROW_THREADS) attention_adjoint_keys_f32(const __grid_constant__ AttentionAdjointArgs<float> a) {
  key_adjoints(a);
}
KERNEL(ROW_THREADS) attention_adjoint_keys_bf16(const __grid_constant__ AttentionAdjointArgs<bf16> a) {
  key_adjoints(a);
}
KERNEL(ROW_THREADS) attention_adjoint_keys_f16(const __grid_constant__ AttentionAdjointArgs<f16> a) {
  key_adjoints(a);
}
