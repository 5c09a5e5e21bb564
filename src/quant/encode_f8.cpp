#include "quant/encode_f8.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/half.h"

namespace retort {

uint8_t float_to_f8_e4m3(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80u);
  if (std::isnan(value)) return sign | 0x7F;
  const float size = std::min(std::abs(value), 448.0f);
  // Below the smallest normal number the steps are all 2^-9; eight of them are that number's code.
  if (size < 0x1p-6f) return sign | static_cast<uint8_t>(std::nearbyint(size * 0x1p9f));
  const auto magnitude = std::bit_cast<uint32_t>(size);
  const auto rounded = (magnitude + 0x7FFFFu + (magnitude >> 20 & 1u)) >> 20;
  return sign | static_cast<uint8_t>(rounded - (120u << 3));
}

float f8_block_scale(float largest, WeightType stored, bool power_of_two) {
  if (largest == 0) return 1;
  const float exact = std::max(largest / 448, 0x1p-126f);
  if (power_of_two || stored == WeightType::f8_e8m0) {
    int exponent = 0;
    const float fraction = std::frexp(exact, &exponent);  // in [0.5, 1)
    return std::ldexp(1.0f, fraction == 0.5f ? exponent - 1 : exponent);
  }
  if (stored == WeightType::bf16) return bf16_to_float(float_to_bf16(exact));
  if (stored == WeightType::f16) return std::max(half_to_float(float_to_half(exact)), 0x1p-24f);
  return exact;
}

void encode_scaled_f8(const float* values, float scale, int64_t count, uint8_t* codes) {
  for (int64_t i = 0; i < count; ++i) codes[i] = float_to_f8_e4m3(values[i] / scale);
}

}  // namespace retort
