// F8_E4M3 with a scale for each block, written as its publishers do: scale = largest magnitude of the block /
// 448, code = the nearest to value / scale.
#pragma once
#include <cstddef>
#include <cstdint>

#include "quant/types.h"

namespace retort {

// To the nearest, ties to even; what is too large becomes 448. A NaN stays none.
uint8_t float_to_f8_e4m3(float value);

// The scale of a block as a file keeps it: a power of two not below the quotient where the others are powers
// of two (f8_e8m0 holds no other), else the quotient, rounded to the type that scales are stored in. 1 for
// zeros.
float f8_block_scale(float largest, WeightType stored, bool power_of_two);

// `count` codes of value / scale.
void encode_scaled_f8(const float* values, float scale, int64_t count, uint8_t* codes);

}  // namespace retort
