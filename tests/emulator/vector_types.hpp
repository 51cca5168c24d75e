// CUDA's built-in vector types. One of 8 or 16 bytes is loaded and stored as a whole, as the device
// does it, so that a misaligned one is seen as such: hence the vector member and the copies through it.
#pragma once

#include <stdint.h>

#define HEADLIGHT_VECTOR_2(name, element, bytes)                                              \
  struct alignas(bytes) name {                                                                \
    typedef element Whole __attribute__((vector_size(bytes)));                                \
    union {                                                                                   \
      struct {                                                                                \
        element x, y;                                                                         \
      };                                                                                      \
      Whole whole;                                                                            \
    };                                                                                        \
    name() = default;                                                                         \
    inline __attribute__((always_inline)) name(element x, element y) : whole{x, y} {}         \
    inline __attribute__((always_inline)) name(const name &from) : whole(from.whole) {}       \
    inline __attribute__((always_inline)) name &operator=(const name &from) {                 \
      whole = from.whole;                                                                     \
      return *this;                                                                           \
    }                                                                                         \
  };                                                                                          \
  inline __attribute__((always_inline)) name make_##name(element x, element y) {              \
    return name(x, y);                                                                        \
  }

#define HEADLIGHT_VECTOR_4(name, element, bytes)                                              \
  struct alignas(bytes) name {                                                                \
    typedef element Whole __attribute__((vector_size(bytes)));                                \
    union {                                                                                   \
      struct {                                                                                \
        element x, y, z, w;                                                                   \
      };                                                                                      \
      Whole whole;                                                                            \
    };                                                                                        \
    name() = default;                                                                         \
    inline __attribute__((always_inline)) name(element x, element y, element z, element w)    \
        : whole{x, y, z, w} {}                                                                \
    inline __attribute__((always_inline)) name(const name &from) : whole(from.whole) {}       \
    inline __attribute__((always_inline)) name &operator=(const name &from) {                 \
      whole = from.whole;                                                                     \
      return *this;                                                                           \
    }                                                                                         \
  };                                                                                          \
  inline __attribute__((always_inline)) name make_##name(element x, element y, element z,     \
                                                         element w) {                         \
    return name(x, y, z, w);                                                                  \
  }

HEADLIGHT_VECTOR_2(float2, float, 8)
HEADLIGHT_VECTOR_2(int2, int32_t, 8)
HEADLIGHT_VECTOR_2(uint2, uint32_t, 8)
HEADLIGHT_VECTOR_2(double2, double, 16)
HEADLIGHT_VECTOR_2(ulonglong2, unsigned long long, 16)
HEADLIGHT_VECTOR_4(float4, float, 16)
HEADLIGHT_VECTOR_4(int4, int32_t, 16)
HEADLIGHT_VECTOR_4(uint4, uint32_t, 16)
HEADLIGHT_VECTOR_4(ushort4, uint16_t, 8)

#undef HEADLIGHT_VECTOR_2
#undef HEADLIGHT_VECTOR_4

struct uint3 {
  uint32_t x, y, z;
};

struct dim3 {
  uint32_t x, y, z;
  constexpr dim3(uint32_t x = 1, uint32_t y = 1, uint32_t z = 1) : x(x), y(y), z(z) {}
};
