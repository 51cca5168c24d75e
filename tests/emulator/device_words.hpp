// device.hpp for the engine's own sources, which are not kernels: its types and declarations.
#pragma once

#include <stdint.h>

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

#include "device.hpp"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
