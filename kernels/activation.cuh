// The checkpoint's activation function, one arithmetic for every kernel that applies it: fused into a
// linear layer or alone, the bits are the same. Twin of `activate` in src/backend/cpu/rows.rs, and of what
// src/backend/cpu/adjoint/rows.rs has for the way back.
#pragma once

#include "common.cuh"

constexpr float ROOT = 0.70710678118654752f;  // √½

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
    case Activation::GELU:
      return 0.5f * x * (1.0f + erff(x * ROOT));
    case Activation::QUICK_GELU:
      return x * sigmoid(x * 1.702f);
    case Activation::RELU:
      return x < 0.0f ? 0.0f : x;
    default:  // SILU
      return x * sigmoid(x);
  }
}

// The derivative of x·σ(u), `slope` being x times that of u. 1 − σ(u) is σ(−u), which keeps its digits where σ(u) is near 1.
DEVICE float gated_derivative(float u, float slope) {
  return sigmoid(u) * (1.0f + sigmoid(-u) * slope);
}

DEVICE float derivative(Activation activation, float x) {
  switch (activation) {
    case Activation::GELU_NEW: {
      // u = a x + b x³
      constexpr float a = 1.5957691216057308f;  // 2√(2/π)
      constexpr float b = 0.044715f * a;
      const float square = x * x;
      return gated_derivative(x * fmaf(square, b, a), x * fmaf(3.0f * b, square, a));
    }
    case Activation::GELU: {
      // Φ(x) + x φ(x), φ being the normal density
      constexpr float density = 0.39894228040143268f;  // 1/√(2π)
      return fmaf(x, density * expf(-(0.5f * x * x)), 0.5f * (1.0f + erff(x * ROOT)));
    }
    case Activation::QUICK_GELU:
      return gated_derivative(x * 1.702f, x * 1.702f);
    case Activation::RELU:
      return x > 0.0f ? 1.0f : 0.0f;
    default:  // SILU
      return gated_derivative(x, x);
  }
}

// f(x) / x, x moved away from zero by 10⁻⁶, as RelP's code does.
DEVICE float ratio(Activation activation, float x) {
  return activate(activation, x) / (x < 0.0f ? x - 1e-6f : x + 1e-6f);
}
