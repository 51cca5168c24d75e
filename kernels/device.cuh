// What the kernels take from the hardware, and nothing else: one name for each primitive.
//
// Compiled by nvcc, a name is its PTX instruction. Compiled as C++17 with HEADLIGHT_EMULATED, the
// same names come from tests/emulator/device.hpp, whose bodies run on fibers and check every access,
// so that the kernels need no second form. No kernel contains inline PTX of its own.
//
// Arithmetic: kernels are compiled with -fmad=false, so that a multiplication and an addition fuse
// where fmaf() is written and nowhere else; what two kernels must compute bit for bit alike (a fused
// operation and its parts) is then a matter of reading the source.
#pragma once

#include <stdint.h>

// Numbers of 16 bits are storage: arithmetic is done on floats.
struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

#ifdef HEADLIGHT_EMULATED
#include "device.hpp"
#else

// Shared memory sized at launch; one a kernel.
#define DYNAMIC_SHARED(type, name)                        \
  extern __shared__ __align__(16) unsigned char headlight_dynamic_shared[]; \
  type *name = reinterpret_cast<type *>(headlight_dynamic_shared)

#define DEVICE __device__ __forceinline__

// ---- conversions: to nearest, ties to even ----------------------------------------------------

DEVICE float widen(float x) { return x; }
DEVICE float widen(bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
DEVICE float widen(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

DEVICE void narrow(float x, float &y) { y = x; }
DEVICE void narrow(float x, bf16 &y) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
DEVICE void narrow(float x, f16 &y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }

// tf32: 8 bits of exponent and 10 of mantissa in a float's place, ties away from zero.
DEVICE float round_tf32(float x) {
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return __uint_as_float(y);
}

// ---- asynchronous copies, global to shared (LDGSTS) -------------------------------------------

DEVICE uint32_t shared_address(const void *p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// 16 bytes, both sides aligned to 16; only the first `bytes` are read, the rest become zero. With
// bytes = 0 nothing is read and `from` may be any aligned address.
DEVICE void copy_async_16(void *to, const void *from, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(bytes)
               : "memory");
}

// 4 bytes, both sides aligned to 4; `bytes` is 4 or 0, as above.
DEVICE void copy_async_4(void *to, const void *from, uint32_t bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(bytes)
               : "memory");
}

// Closes this thread's group of copies; an empty group counts.
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `pending` of this thread's newest groups are under way. What other threads
// copied is visible after a barrier that follows their wait.
template <int pending>
DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ---- matrix fragments (LDSM, HMMA), one warp together -----------------------------------------
//
// Fragment layouts are those of the PTX manual, "Matrix fragments for mma.m16n8k16 / m16n8k8": with
// g = lane / 4 and t = lane % 4, of the 16×8 result c[0], c[1] are row g, columns 2t and 2t + 1, and
// c[2], c[3] the same of row g + 8.

// Four 8×8 matrices of 16-bit numbers; lanes 8i … 8i + 7 give the addresses of matrix i's rows, 16
// bytes each, aligned to 16. Register i holds row g, columns 2t and 2t + 1 of matrix i. Read as 32-bit
// numbers, a row is 4 numbers, and register i holds number t of row g.
DEVICE void load_matrix_x4(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// c += a · b, a 16×16 of bf16 (row-major), b 16×8 (column-major), sums in float.
DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same of f16.
DEVICE void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// c += a · b, a 16×8 of tf32 (row-major), b 8×8 (column-major); operands already rounded.
DEVICE void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
