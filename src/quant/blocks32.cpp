#include "quant/blocks32.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace retort {
namespace {

float inverse_or_zero(float scale) { return scale != 0.0f ? 1.0f / scale : 0.0f; }

// Packs the low four bits of 32 codes.
void pack_nibbles(const int* q, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) codes[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
}
void pack_fifth_bits(const int* q, uint8_t* high) {
  uint32_t bits = 0;
  for (int j = 0; j < 32; ++j) bits |= static_cast<uint32_t>(q[j] >> 4 & 1) << j;
  store_u32(high, bits);
}

// Symmetric types: the element of largest magnitude maps to code 0, which is -levels / 2.
template <int kLevels> float encode_symmetric(const float* x, int* q) {
  const float scale = extreme(x, 32) / static_cast<float>(-kLevels / 2);
  const float inverse = inverse_or_zero(scale);
  for (int j = 0; j < 32; ++j)
    q[j] = truncate_to(x[j] * inverse + (static_cast<float>(kLevels / 2) + 0.5f), 0, kLevels - 1);
  return scale;
}

// Types with a minimum: the range [min, max] is cut into equal steps.
template <int kLevels> float encode_from_minimum(const float* x, int* q, float& minimum) {
  float low = std::numeric_limits<float>::max(), high = -std::numeric_limits<float>::max();
  for (int j = 0; j < 32; ++j) {
    if (x[j] < low) low = x[j];
    if (x[j] > high) high = x[j];
  }
  const float scale = (high - low) / static_cast<float>(kLevels - 1);
  const float inverse = inverse_or_zero(scale);
  for (int j = 0; j < 32; ++j) q[j] = truncate_to((x[j] - low) * inverse + 0.5f, 0, kLevels - 1);
  minimum = low;
  return scale;
}

// Of 32 elements, eight at a time; NaNs do not count.
float largest_magnitude(const float* x) {
  float largest[8] = {};
  for (int i = 0; i < 32; i += 8)
    for (int lane = 0; lane < 8; ++lane) {
      const float magnitude = std::fabs(x[i + lane]);
      largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
    }
  return *std::max_element(largest, largest + 8);
}

// A NaN gives `low`.
float between(float value, float low, float high) {
  const float raised = value > low ? value : low;
  return raised < high ? raised : high;
}

}  // namespace

void q4_0_encode(const float* x, Q4_0Block& block) {
  int q[32];
  store_half(block.scale, encode_symmetric<16>(x, q));
  pack_nibbles(q, block.codes);
}

void q5_0_encode(const float* x, Q5_0Block& block) {
  int q[32];
  store_half(block.scale, encode_symmetric<32>(x, q));
  pack_nibbles(q, block.codes);
  pack_fifth_bits(q, block.high);
}

void q4_1_encode(const float* x, Q4_1Block& block) {
  int q[32];
  float minimum = 0;
  store_half(block.scale, encode_from_minimum<16>(x, q, minimum));
  store_half(block.minimum, minimum);
  pack_nibbles(q, block.codes);
}

void q5_1_encode(const float* x, Q5_1Block& block) {
  int q[32];
  float minimum = 0;
  store_half(block.scale, encode_from_minimum<32>(x, q, minimum));
  store_half(block.minimum, minimum);
  pack_nibbles(q, block.codes);
  pack_fifth_bits(q, block.high);
}

void q8_0_encode(const float* x, Q8_0Block& block) {
  const float scale = largest_magnitude(x) / 127.0f;
  const float inverse = inverse_or_zero(scale);
  store_half(block.scale, scale);
  for (int j = 0; j < 32; ++j) {
    // std::round, whose halves go away from zero: the float below a half carries every half over and nothing
    // less.
    const float q = x[j] * inverse, half = std::copysign(0.49999997f, q);
    block.codes[j] = static_cast<int8_t>(static_cast<int>(between(q + half, -128.0f, 127.0f)));
  }
}

}  // namespace retort
