// The checkpoint's activation function, one arithmetic for every kernel that applies it: fused into a
// linear layer or alone, the bits are the same. Twin of `activate` in src/backend/cpu/rows.rs.
#pragma once

#include "common.cuh"

// σ(x) = 1 / (1 + e⁻ˣ); e⁻ˣ may overflow to infinity, which gives 0.
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

DEVICE float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::GELU_NEW: {
      // ½x(1 + tanh u) with u = √(2/π)(x + 0.044715 x³) is x·σ(2u), which loses no digits where tanh
      // is near −1
      constexpr float twice = 1.5957691216057308f;  // 2√(2/π)
      constexpr float cubic = 0.044715f * twice;
      return x * sigmoid(x * fmaf(x * x, cubic, twice));
    }
    case Activation::GELU: {
      constexpr float root = 0.70710678118654752f;  // √½
      return 0.5f * x * (1.0f + erff(x * root));
    }
    case Activation::QUICK_GELU:
      return x * sigmoid(x * 1.702f);
    case Activation::RELU:
      return x < 0.0f ? 0.0f : x;
    default:  // SILU
      return x * sigmoid(x);
  }
}
