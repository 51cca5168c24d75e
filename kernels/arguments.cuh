// All that the host and the kernels tell each other: numbers, codes, the entries of tables, and for each
// family of kernels the one argument that it is launched with.
//
// It is stated here and nowhere else. Kernels include this file; build.rs makes the same of it in Rust
// (src/backend/cuda/arguments.rs) and has both compilers check every size and offset. It keeps to the few
// forms that build/arguments.rs reads: constants, enumerations, and structures of numbers, pointers and
// structures.
//
// T is the precision's type (float, bf16 or f16), M or `count` how many rows there are, K the numbers that
// one sum is over. Pointers are to device memory; where null means something, the field says what.
#pragma once

#include <stdint.h>

constexpr uint32_t WARP = 32;

// ---- rows -------------------------------------------------------------------------------------

// No row, column or token.
constexpr uint32_t NONE = 0xffffffff;

// The bit of an entry of `refs` that makes it a row of the activation cache's matrix.
constexpr uint32_t CACHE_ROW = 0x80000000;

// A matrix of rows whose columns lie in stretches of `segment`:
//
//     (row, column) at  (column / segment) · segment_stride + row · row_stride + column % segment
//
// Row-major matrices have one stretch, as wide as they are. Query, key, value and z have a stretch
// for each head, [head][row][d], so that a head's rows are contiguous and an overwrite of one head
// touches nothing between.
template <class T>
struct View {
  T *data;
  uint64_t segment_stride;
  uint32_t row_stride;
  uint32_t segment;
};

// Rows of two matrices: the chunk's own, and those of clean runs in the activation cache.
template <class T>
struct Rows {
  View<const T> own;
  View<const T> cache;   // null data: every row is the chunk's own
  const uint32_t *refs;  // which row the i-th is: of `own`, or with the bit CACHE_ROW of `cache`
};

// ---- kernels where a warp takes a row ---------------------------------------------------------

constexpr uint32_t ROW_THREADS = 256;  // of a block

// `embed`: row i of out = row index[i] of the table.
struct EmbedArgs {
  const float *table;  // row-major, `width` columns
  const uint32_t *index;
  View<float> out;
  uint32_t count, width;
};

// `gather_T`: row places[i] of out = row i of `rows`.
template <class T>
struct GatherArgs {
  Rows<T> rows;
  const uint32_t *places;  // null: i
  View<T> out;
  uint32_t count, width;
};

// `add`: row i of out = row i of a + row i of b.
struct AddArgs {
  Rows<float> a, b;
  View<float> out;
  uint32_t count, width;
};

// Activation functions: of Hendrycks and Gimpel (2016) the tanh form, the definition and the
// short form, and two more.
enum class Activation : uint32_t { GELU_NEW, GELU, RELU, SILU, QUICK_GELU };

// `activate_T`: row i of out = the activation of row rows[i] of pre.
template <class T>
struct ActivateArgs {
  View<const T> pre;
  const uint32_t *rows;
  View<T> out;
  uint32_t count, width;
  Activation activation;
};

// Two stretches of rows of two matrices of a list.
struct Comparison {
  uint32_t a_matrix, a_row, a_column;
  uint32_t b_matrix, b_row, b_column;
  uint32_t length;
};

// `same_T`: flags[i] = 1 if the stretches of pairs[i] are equal bit for bit (−0 ≠ 0, NaN = NaN), else 0.
template <class T>
struct SameArgs {
  const Comparison *pairs;
  const View<const T> *matrices;
  uint32_t *flags;
  uint32_t count;
};

// `layer_norm_T`, and its parts `layer_norm_scale`, `layer_norm_normalize` and `layer_norm_affine_T`, which
// use what they need of it.
template <class T>
struct LayerNormArgs {
  Rows<float> input;  // of the affine map: the normalised rows, all its own
  View<float> scale;  // what `layer_norm_scale` writes, and `layer_norm_normalize` reads
  const float *weight, *bias;
  View<T> out;
  uint32_t count, width;
  float epsilon;
};

// ---- overwrites -------------------------------------------------------------------------------

constexpr uint32_t OVERWRITE_THREADS = 128;  // of a block: a warp takes a row

enum class Operator : uint32_t { SET, FILL, ADD, SUBTRACT, SCALE, INTERPOLATE };

enum class Operand : uint32_t { NOTHING, KEPT, CONSTANT };

// What an operator reads beside what stands: a stretch of a kept matrix's row, or of the constants.
struct Source {
  uint64_t column;  // first column, or offset into the constants
  Operand operand;
  uint32_t slot;  // which kept matrix
  uint32_t row;
  uint32_t unused;
};

// One overwrite of a stretch of a row.
struct Write {
  Source source;
  uint32_t row;
  uint32_t head;    // of scores and pattern
  uint32_t column;  // first column, or key
  uint32_t length;
  Operator op;
  float scalar;  // x of scale, α of interpolate
};

// `overwrite_T`: writes[first[g]] … writes[first[g + 1] − 1] act in listed order, for each of the groups g,
// all of one row that no other group writes.
template <class T>
struct OverwriteArgs {
  View<T> matrix;
  const Write *writes;
  const uint32_t *first;
  const View<const T> *kept;
  const T *constants;
  uint32_t groups;
};

// ---- plain products: bases, and linear layers backwards ----------------------------------------

constexpr uint32_t PLAIN_TILE = 64;  // rows, and columns, of a block
constexpr uint32_t PLAIN_THREADS = 256;

// ---- bases ------------------------------------------------------------------------------------

// A row that is encoded: a stretch that stands, one that is read, or the second less the first.
struct Probe {
  Source source;
  uint32_t row;     // of the stretch that stands; NONE if it does not count
  uint32_t column;  // its first column
};

// `encode_T`: row i of out = activation(((x − shift) / spread) · encoder + bias), x being the `width`
// numbers that probes[i] names. What is null is left out.
template <class T>
struct EncodeArgs {
  const Probe *probes;
  View<const T> matrix;
  const View<const T> *kept;
  const float *constants;
  const float *shift, *spread;  // [width]
  const float *encoder;         // [width, coordinates]; null: the identity
  const float *bias;            // [coordinates]
  const float *threshold;       // [coordinates]: what is not above it becomes 0
  View<float> out;              // [count, coordinates]
  uint32_t count, width, coordinates;
  uint32_t rectified;  // whether what is negative becomes 0
};

// Where a decoded row goes.
struct Place {
  uint32_t row, column;
};

// `decode_T`: the stretch at places[i] = (row i of `from` · decoder) ∘ gain + offset, or that added to it,
// rounded once. What is null is left out. No two places overlap.
template <class T>
struct DecodeArgs {
  View<const float> from;  // [count, coordinates]
  const Place *places;
  const float *decoder;        // [coordinates, width]; null: the identity
  const float *gain, *offset;  // [width]
  View<T> matrix;
  uint32_t count, width, coordinates;
  uint32_t by_difference;  // whether it is added
};

// ---- matrix products --------------------------------------------------------------------------

// The tiles of results that a block computes. All give the same bits.
constexpr uint32_t LARGE_ROWS = 128, LARGE_COLUMNS = 192, LARGE_THREADS = 256;
constexpr uint32_t MEDIUM_ROWS = 64, MEDIUM_COLUMNS = 96, MEDIUM_THREADS = 128;
constexpr uint32_t SMALL_ROWS = 16, SMALL_COLUMNS = 32, SMALL_THREADS = 64;
constexpr uint32_t LARGE_SHARED = 83456, MEDIUM_SHARED = 41728, SMALL_SHARED = 24768;  // bytes of shared memory

// Weights are transposed, K contiguous; zeros fill it up to a multiple.
constexpr uint32_t K_MULTIPLE = 64;

// Σ_k input[m, k] · weight[n, k] for m < count, n < columns.
template <class T>
struct Operands {
  View<const T> input;     // of any strides; 16-byte copies where they allow it
  const uint32_t *rows;    // the input row of result m; null: m
  const T *weight;         // [.., weight_stride], 16-byte aligned
  const uint32_t *ids;     // the weight row of column n; null: n
  uint32_t count, inputs;  // M ≥ 1 and K ≥ 1
  uint32_t columns;        // N
  uint32_t weight_stride;  // K rounded up to K_MULTIPLE
};

// What follows the bias: nothing, the activation function, or the residual stream added.
enum class Finish : uint32_t { PLAIN, ACTIVATE, RESIDUAL };

// What becomes of a sum.
template <class T>
struct Epilogue {
  const float *bias;        // of column n; null: none
  Rows<float> residual;     // result (m, n) adds its row m, column out_column + n, if `finish` is RESIDUAL
  View<T> out;              // result (m, n) goes to row out_rows[m], column out_column + n
  const uint32_t *out_rows; // null: m
  uint32_t out_column;
  Finish finish;
  Activation activation;  // if `finish` is ACTIVATE
};

// One linear layer.
template <class T, class TO = T>
struct LinearPart {
  Operands<T> operands;
  Epilogue<TO> to;
};

// `linear_V_large`, `_medium` and `_small` for an arithmetic V, and of 16-bit ones `…_wide`, whose results
// are f32: up to three linear layers at once, as query, key and value are. Grid ⌈columns / a tile's⌉ ×
// ⌈count / a tile's rows⌉, of the largest, × parts.
template <class T, class TO = T>
struct LinearArgs {
  LinearPart<T, TO> first, second, third;
};

// ---- the readout ------------------------------------------------------------------------------

// Columns of a tile of the vocabulary, whichever tile of rows it meets.
constexpr uint32_t VOCABULARY_TILE = 192;
constexpr uint32_t LARGE_SCAN_SHARED = 98816, SMALL_SCAN_SHARED = 53312;  // bytes of shared memory

// `readout_wanted_V`: logits[w] = row operands.rows[w] of the input times the unembedding of token operands.ids[w]. A
// block takes SMALL_ROWS of them, threads and shared memory are those of a small tile.
template <class T>
struct WantedArgs {
  Operands<T> operands;
  float *logits;
};

// `readout_scan_V_large` and `_small`: what tile blockIdx.y of the vocabulary says of each result.
template <class T>
struct ScanArgs {
  Operands<T> operands;  // the unembedding as weight, the vocabulary as columns
  // the result that each is compared with, or NONE; it must be in the same tile of rows, for which a row may
  // be listed again. null: nothing is compared
  const uint32_t *base;
  const uint32_t *wanted_first;  // wanted logits of result i: wanted_first[i] … wanted_first[i + 1]; null: none
  const uint32_t *wanted_ids;
  const float *wanted_logits;  // from `readout_wanted_V`
  uint32_t *above;             // [wanted][tiles], how many logits of the tile stand before the wanted one
  float *parts;                // [count][tiles][4]: max, sum, weighted, divergence
  uint32_t *top_ids;           // [count][tiles][top] in order, NONE where the tile has no more
  float *top_logits;           // likewise, −∞
  uint32_t top;                // kept a tile, at most VOCABULARY_TILE
};

// `readout_merge`: tiles put together.
struct MergeArgs {
  const float *parts;  // this and the next three are the scan's
  const uint32_t *base;
  const uint32_t *wanted_first;
  const uint32_t *above;
  double *log_sum_exp, *entropy;  // [count]
  double *divergence;             // [count]; 0 where nothing is compared
  uint32_t *ranks;                // [wanted]
  uint32_t tiles, count;
};

// `readout_top`: the first `top` of all tiles, out of each tile's first `kept`. Shared memory: a number for
// each warp and tile.
struct TopArgs {
  const uint32_t *tile_ids;
  const float *tile_logits;
  uint32_t *ids;  // [count][top]; beyond the vocabulary NONE
  float *logits;  // and −∞
  uint32_t tiles, count;
  uint32_t kept;  // min(top, VOCABULARY_TILE)
  uint32_t top;
};

// ---- attention --------------------------------------------------------------------------------

// Rows `row` … `row + rows − 1` of z, consecutive, whose keys all start at entry `first` of the key and
// value tables; `keys` is the largest of their counts.
struct alignas(16) QueryTile {
  uint32_t row, rows, first, keys;
};

constexpr uint32_t QUERY_ROWS = 16;            // the most of a tile
constexpr uint32_t ATTENTION_THREADS = 256;    // the most of a block
constexpr uint32_t ATTENTION_PLAN = 96;        // bytes of a block's plan, first in shared memory
constexpr uint32_t ATTENTION_PART = 4;         // columns of z, and keys, that a thread takes at a time

// Overwrites of scores or of the pattern, and where they are kept.
struct Cells {
  const Write *writes;    // of row r of z: writes[first[r]] … writes[first[r + 1] − 1], columns being keys
  const uint32_t *first;  // null: no overwrites
  const View<const float> *kept;
  const float *constants;
  View<float> keep;           // null data: not kept
  const uint32_t *keep_rows;  // for row r of z, the row of `keep`; or NONE
  uint32_t keep_stride;       // its columns from one head to the next
};

// How a block's shared memory lies: its plan, two slots of a stage of keys or values, queries, scores.
// Pitches are an odd count of 16 bytes where lanes are a row apart, so that these use different banks.
struct AttentionShape {
  uint32_t stage_keys;   // rows of a slot; a multiple of ATTENTION_PART
  uint32_t pitch;        // numbers from one of them to the next
  uint32_t queries;      // byte at which queries start
  uint32_t query_pitch;  // floats from one to the next
  uint32_t scores;       // byte at which scores start
  uint32_t score_pitch;  // floats from one row's to the next
};

// `attention_T`: z of head blockIdx.y of tile blockIdx.x. Each head's columns of q, k, v and z are one stretch.
template <class T>
struct AttentionArgs {
  Rows<T> query;           // of row r of z, the r-th
  Rows<T> key, value;      // key j of a tile, the (first + j)-th
  const uint32_t *count;   // keys that row r of z sees: j < count[r]
  const QueryTile *tiles;
  Cells scores, pattern;   // before the softmax, and after it
  View<T> out;
  float scale;
  uint32_t d;  // columns of a head
  AttentionShape shape;
};

// ---- adjoints ---------------------------------------------------------------------------------
//
// Of a number m: what a row holds of one stage, its gradient holds of ∂m/∂(that), in the same row. Gradients
// are f32 and row-major in every precision.

// `clear`: rows 0 … count − 1 are zeros.
struct ClearArgs {
  View<float> matrix;
  uint32_t count, width;
};

// `accumulate`: row rows[i] of into += row from_rows[i] of `from`, and then the same row of each other part, in order.
struct AccumulateArgs {
  View<const float> from;
  const uint32_t *from_rows;  // null: i
  const uint32_t *rows;
  View<float> into;
  uint64_t part_stride;  // numbers from a part to the next
  uint32_t parts;        // ≥ 1
  uint32_t count, width;
};

// `activate_adjoint_T`: row rows[i] of into += that row of `gradient` · f′(x), x being that row of pre; held, · f(x) / x.
template <class T>
struct ActivateAdjointArgs {
  View<const T> pre;
  View<const float> gradient;
  const uint32_t *rows;
  View<float> into;
  uint32_t count, width;
  Activation activation;
  uint32_t held;  // whether slopes are
};

// `layer_norm_adjoint`, `layer_norm_normalized_adjoint` and `layer_norm_scale_adjoint`, of rows rows[i] of
// all matrices: the first is added to `out`, the others written.
struct NormAdjointArgs {
  View<const float> input, gradient;
  const float *weight;
  const uint32_t *rows;
  View<float> out;
  uint32_t count, width;
  float epsilon;
  uint32_t held;  // whether the scale is
};

// `linear_adjoint_T`: Σ_n row rows[m] of gradient[first + n] · weight[n, j], added to number j of row rows[m] of
// `into`; without `rows`, part z of that sum is number j of row m of part z of `into`.
template <class T>
struct LinearAdjointArgs {
  View<const float> gradient;
  const uint32_t *rows;  // null: m
  const T *weight;       // [outputs, weight_stride]
  View<float> into;
  uint64_t part_stride;     // numbers from a part of `into` to the next
  uint32_t part;            // outputs that one part sums over
  uint32_t count, outputs;  // M, and N over which the sums go
  uint32_t inputs;          // numbers of a result's row
  uint32_t weight_stride;
  uint32_t first;
};

// A query backwards.
struct AttendedQuery {
  uint32_t row;    // of the query, its z and their gradients
  uint32_t first;  // row of its run's key 0
  uint32_t keys;   // how many it sees
};

// A key and its value backwards.
struct AttendedKey {
  uint32_t row;
  uint32_t key;         // its place in its run
  uint32_t begin, end;  // the queries that see it
};

// `attention_adjoint_queries_T`, then `attention_adjoint_keys_T`, which reads what the first leaves in `weights`
// and `scores`. Query, key, value: of head h columns h · d …, one stretch; rows of z's gradient likewise.
template <class T>
struct AttentionAdjointArgs {
  View<const T> query, key, value;
  View<const float> gradient;
  const AttendedQuery *queries;
  const AttendedKey *keys;
  View<float> weights;  // the pattern again: of head h and key j column h · stride + j
  View<float> scores;   // gradients of scores, likewise
  View<float> pattern;  // and of the pattern; null data: not wanted
  View<float> to_query, to_key, to_value;
  uint32_t query_count, key_count;
  float scale;
  uint32_t d, stride;
  uint32_t held;  // whether patterns are
};

// Tokens whose gradients are summed together; the parts of the vocabulary are added in its order.
constexpr uint32_t VOCABULARY_PART = 768;

// What ∂m/∂logits of a row is, but for single logits.
struct LogitTerms {
  float log_sum_exp, entropy;
  float spread, surprise;                // spread · p + surprise · p (ln p + H)
  float other_count, other_log_sum_exp;  // + other_count · p′
  uint32_t other;  // the listed row, in the same tile of rows, whose distribution is p′; or NONE
  uint32_t to;     // row of `gradients`; NONE: this row is listed for others
};

// `logit_gradients_V`: ∂m/∂logits of tiles of the vocabulary from `first_tile` on, blockIdx.y after it, by the scan's
// arithmetic. Threads and shared memory are those of a small scan.
template <class T>
struct LogitGradientArgs {
  Operands<T> operands;  // as the scan's
  const LogitTerms *terms;
  float *gradients;  // [.., stride]
  uint32_t first_tile, stride;
};

// A token's logit, and what it counts.
struct TokenWeight {
  uint32_t id;
  float count;
};

// `token_gradients_T`: row rows[i] of into += Σ count · unembedding of id, over weights[first[i]] … in order.
template <class T>
struct TokenGradientArgs {
  const uint32_t *rows;
  const uint32_t *first;
  const TokenWeight *weights;
  const T *unembedding;
  View<float> into;
  uint32_t count, width;
  uint32_t weight_stride;
};

// ---- yardsticks -------------------------------------------------------------------------------

constexpr uint32_t LIMIT_THREADS = 256;                         // of a block
constexpr uint32_t COPIES = 4;                                  // vectors of 16 bytes that a thread copies
constexpr uint32_t CHAINS = 32, CHAIN_STEPS = 8;                // of multiply-adds of a thread; steps a repeat
constexpr uint32_t MMA_DOWN = 4, MMA_ACROSS = 4, MMA_STEPS = 2; // products of a warp; steps of each a repeat

// `limit_copy`, `limit_ffma`, `limit_mma_V` (limits.cu).
struct LimitArgs {
  const uint4 *from;  // what is copied, or operands of products
  float *out;
  float a, b;  // of x · a + b
  uint32_t repeats;
};
