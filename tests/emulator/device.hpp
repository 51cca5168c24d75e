// The host half of kernels/device.cuh: what a kernel takes from the hardware, as C++17 on a CPU.
//
// Everything that involves another thread, or that the emulator has to check, is a call into the
// engine (engine.hpp); the rest is plain arithmetic. Values travel in registers: handing the engine
// the address of an accumulator would move it to memory for good, and every use would be checked.
#pragma once

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "numbers.hpp"
#include "vector_types.hpp"

// ---- what the engine offers -------------------------------------------------------------------

struct headlight_four_floats {
  float x[4];
};
struct headlight_four_words {
  uint32_t x[4];
};

extern "C" {
// Constant for the thread that asks, whatever runs in between.
uint3 headlight_thread_index() __attribute__((const));
uint3 headlight_block_index() __attribute__((const));
uint3 headlight_block_size() __attribute__((const));
uint3 headlight_grid_size() __attribute__((const));
void *headlight_dynamic_shared() __attribute__((const));

// `line` tells one barrier from another.
void headlight_barrier(int line);
int headlight_barrier_reduce(int line, int operation, int value);  // 0 or, 1 and, 2 count
void headlight_warp_barrier(uint32_t mask);
uint64_t headlight_shuffle(int kind, uint32_t mask, uint64_t value, uint32_t lane, int width);
uint32_t headlight_ballot(uint32_t mask, int predicate);

void headlight_copy_async(void *to, const void *from, uint32_t bytes, uint32_t size);
void headlight_copy_async_commit();
void headlight_copy_async_wait(int pending);

headlight_four_words headlight_load_matrix(const void *row);
headlight_four_floats headlight_mma_bf16(float, float, float, float, uint32_t, uint32_t, uint32_t,
                                         uint32_t, uint32_t, uint32_t);
headlight_four_floats headlight_mma_f16(float, float, float, float, uint32_t, uint32_t, uint32_t,
                                        uint32_t, uint32_t, uint32_t);
headlight_four_floats headlight_mma_tf32(float, float, float, float, uint32_t, uint32_t, uint32_t,
                                         uint32_t, uint32_t, uint32_t);

// Checks one atomic access; the operation itself follows at once.
void headlight_atomic(const void *place, uint32_t size);
void headlight_trap() __attribute__((noreturn));
}

// ---- words of the language --------------------------------------------------------------------

#define DEVICE inline __attribute__((always_inline))
#define __global__
#define __grid_constant__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
// Blocks run one after another, so a block's shared memory may be the program's. The engine finds
// these variables in the symbol table.
#define __shared__ static
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(headlight_dynamic_shared())

#define threadIdx (headlight_thread_index())
#define blockIdx (headlight_block_index())
#define blockDim (headlight_block_size())
#define gridDim (headlight_grid_size())
constexpr int warpSize = 32;

// ---- conversions ------------------------------------------------------------------------------

DEVICE float widen(float x) { return x; }
DEVICE float widen(bf16 x) { return headlight::from_bf16(x.bits); }
DEVICE float widen(f16 x) { return headlight::from_f16(x.bits); }

DEVICE void narrow(float x, float &y) { y = x; }
DEVICE void narrow(float x, bf16 &y) { y.bits = headlight::to_bf16(x); }
DEVICE void narrow(float x, f16 &y) { y.bits = headlight::to_f16(x); }

DEVICE float round_tf32(float x) { return headlight::to_tf32(x); }

DEVICE uint32_t __float_as_uint(float x) { return headlight::bits_of(x); }
DEVICE int32_t __float_as_int(float x) { return int32_t(headlight::bits_of(x)); }
DEVICE float __uint_as_float(uint32_t x) { return headlight::float_of(x); }
DEVICE float __int_as_float(int32_t x) { return headlight::float_of(uint32_t(x)); }

// ---- asynchronous copies ----------------------------------------------------------------------

DEVICE void copy_async_16(void *to, const void *from, uint32_t bytes) {
  headlight_copy_async(to, from, bytes, 16);
}
DEVICE void copy_async_4(void *to, const void *from, uint32_t bytes) {
  headlight_copy_async(to, from, bytes, 4);
}
DEVICE void copy_async_commit() { headlight_copy_async_commit(); }
template <int pending>
DEVICE void copy_async_wait() {
  headlight_copy_async_wait(pending);
}

// ---- matrix fragments -------------------------------------------------------------------------

DEVICE void load_matrix_x4(uint32_t (&r)[4], const void *row) {
  const headlight_four_words words = headlight_load_matrix(row);
  for (int i = 0; i < 4; ++i) r[i] = words.x[i];
}

#define HEADLIGHT_MMA(name)                                                                   \
  DEVICE void name(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {           \
    const headlight_four_floats sum =                                                         \
        headlight_##name(c[0], c[1], c[2], c[3], a[0], a[1], a[2], a[3], b[0], b[1]);         \
    for (int i = 0; i < 4; ++i) c[i] = sum.x[i];                                              \
  }
HEADLIGHT_MMA(mma_bf16)
HEADLIGHT_MMA(mma_f16)
HEADLIGHT_MMA(mma_tf32)
#undef HEADLIGHT_MMA

// ---- barriers, shuffles, votes ----------------------------------------------------------------

DEVICE void __syncthreads(int line = __builtin_LINE()) { headlight_barrier(line); }
DEVICE int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
  return headlight_barrier_reduce(line, 0, predicate != 0);
}
DEVICE int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
  return headlight_barrier_reduce(line, 1, predicate != 0);
}
DEVICE int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
  return headlight_barrier_reduce(line, 2, predicate != 0);
}
DEVICE void __syncwarp(uint32_t mask = 0xffffffffu) { headlight_warp_barrier(mask); }

template <class T>
DEVICE T headlight_shuffle_as(int kind, uint32_t mask, T value, uint32_t lane, int width) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  using Word = typename std::conditional<sizeof(T) == 4, uint32_t, uint64_t>::type;
  Word word;
  __builtin_memcpy(&word, &value, sizeof(T));
  word = Word(headlight_shuffle(kind, mask, word, lane, width));
  __builtin_memcpy(&value, &word, sizeof(T));
  return value;
}
template <class T>
DEVICE T __shfl_sync(uint32_t mask, T value, int lane, int width = 32) {
  return headlight_shuffle_as(0, mask, value, uint32_t(lane), width);
}
template <class T>
DEVICE T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32) {
  return headlight_shuffle_as(1, mask, value, delta, width);
}
template <class T>
DEVICE T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32) {
  return headlight_shuffle_as(2, mask, value, delta, width);
}
template <class T>
DEVICE T __shfl_xor_sync(uint32_t mask, T value, int lanes, int width = 32) {
  return headlight_shuffle_as(3, mask, value, uint32_t(lanes), width);
}
DEVICE uint32_t __ballot_sync(uint32_t mask, int predicate) {
  return headlight_ballot(mask, predicate != 0);
}
DEVICE int __any_sync(uint32_t mask, int predicate) {
  return headlight_ballot(mask, predicate != 0) != 0;
}
DEVICE int __all_sync(uint32_t mask, int predicate) {
  return headlight_ballot(mask, predicate != 0) == mask;
}

// Blocks are ordered by nothing but the end of the launch here: a fence orders nothing by itself.
DEVICE void __threadfence() {}
DEVICE void __threadfence_block() {}

// ---- atomics ----------------------------------------------------------------------------------

// No other thread runs between the check and the operation.
#define HEADLIGHT_ATOMIC(name, expression)                                                    \
  template <class T>                                                                          \
  __attribute__((no_sanitize("thread"), noinline)) T headlight_apply_##name(T *place, T value) { \
    const T old = *place;                                                                     \
    *place = expression;                                                                      \
    return old;                                                                               \
  }                                                                                           \
  template <class T>                                                                          \
  DEVICE T name(T *place, typename std::common_type<T>::type value) {                         \
    headlight_atomic(place, sizeof(T));                                                       \
    return headlight_apply_##name<T>(place, value);                                           \
  }
HEADLIGHT_ATOMIC(atomicAdd, T(old + value))
HEADLIGHT_ATOMIC(atomicSub, T(old - value))
HEADLIGHT_ATOMIC(atomicExch, value)
HEADLIGHT_ATOMIC(atomicMax, old < value ? value : old)
HEADLIGHT_ATOMIC(atomicMin, value < old ? value : old)
HEADLIGHT_ATOMIC(atomicAnd, T(old & value))
HEADLIGHT_ATOMIC(atomicOr, T(old | value))
HEADLIGHT_ATOMIC(atomicXor, T(old ^ value))
#undef HEADLIGHT_ATOMIC

template <class T>
__attribute__((no_sanitize("thread"), noinline)) T headlight_apply_cas(T *place, T expected,
                                                                       T value) {
  const T old = *place;
  if (old == expected) *place = value;
  return old;
}
template <class T>
DEVICE T atomicCAS(T *place, typename std::common_type<T>::type expected,
                   typename std::common_type<T>::type value) {
  headlight_atomic(place, sizeof(T));
  return headlight_apply_cas<T>(place, expected, value);
}

// ---- small functions --------------------------------------------------------------------------

template <class T>
DEVICE T __ldg(const T *place) {
  return *place;
}
DEVICE void __trap() { headlight_trap(); }

#define HEADLIGHT_MIN_MAX(type)                                            \
  DEVICE constexpr type min(type a, type b) { return b < a ? b : a; }      \
  DEVICE constexpr type max(type a, type b) { return a < b ? b : a; }
HEADLIGHT_MIN_MAX(int)
HEADLIGHT_MIN_MAX(unsigned)
HEADLIGHT_MIN_MAX(long)
HEADLIGHT_MIN_MAX(unsigned long)
HEADLIGHT_MIN_MAX(long long)
HEADLIGHT_MIN_MAX(unsigned long long)
#undef HEADLIGHT_MIN_MAX
DEVICE unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
DEVICE unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
DEVICE unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
DEVICE unsigned max(int a, unsigned b) { return max(unsigned(a), b); }
DEVICE float min(float a, float b) { return fminf(a, b); }
DEVICE float max(float a, float b) { return fmaxf(a, b); }
DEVICE double min(double a, double b) { return fmin(a, b); }
DEVICE double max(double a, double b) { return fmax(a, b); }

DEVICE float rsqrtf(float x) { return float(1.0 / std::sqrt(double(x))); }
DEVICE float __fadd_rn(float a, float b) { return a + b; }
DEVICE float __fsub_rn(float a, float b) { return a - b; }
DEVICE float __fmul_rn(float a, float b) { return a * b; }
DEVICE float __fdiv_rn(float a, float b) { return a / b; }
DEVICE float __fsqrt_rn(float a) { return sqrtf(a); }
DEVICE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE double __dadd_rn(double a, double b) { return a + b; }
DEVICE double __dmul_rn(double a, double b) { return a * b; }
DEVICE int __popc(uint32_t x) { return __builtin_popcount(x); }
DEVICE int __ffs(int32_t x) { return __builtin_ffs(x); }
DEVICE int __clz(int32_t x) { return x ? __builtin_clz(uint32_t(x)) : 32; }
