// mma on the registers of a warp's 32 lanes: c += a · b (matrix.cpp).
#pragma once

namespace headlight {

struct Lane;
void multiply_bf16(Lane *lanes);
void multiply_f16(Lane *lanes);
void multiply_tf32(Lane *lanes);

}  // namespace headlight
