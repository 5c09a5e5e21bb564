#include "quant/k_blocks.h"
#include "quant/k_search.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace retort {
namespace {

// Q4_K and Q5_K differ in the number of codes and in the search grid only. Fills scale, minimum, scales and
// 256 codes.
template <class Block> void encode_affine(const float* x, const AffineSearch& how, const ScaleSearch& search,
                                          Block& block, uint8_t* codes) {
  float weights[256], sums_of_squares[8] = {};
  for (int i = 0; i < 32; ++i)  // the eight sums side by side, each in element order
    for (int j = 0; j < 8; ++j) sums_of_squares[j] += x[32 * j + i] * x[32 * j + i];
  for (int j = 0; j < 8; ++j) {
    const float rms = std::sqrt(sums_of_squares[j] / 32);
    for (int i = 32 * j; i < 32 * j + 32; ++i) weights[i] = rms + std::fabs(x[i]);
  }
  ScaleAndMinimum fits[8];
  search.affine(x, weights, 8, how, fits, codes);
  float largest_scale = 0, largest_minimum = 0;
  for (const auto& fit : fits) {
    largest_scale = std::max(largest_scale, fit.scale);
    largest_minimum = std::max(largest_minimum, fit.minimum);
  }
  const float inverse_scale = largest_scale > 0 ? 63.0f / largest_scale : 0.0f;
  const float inverse_minimum = largest_minimum > 0 ? 63.0f / largest_minimum : 0.0f;
  std::memset(block.scales, 0, sizeof block.scales);
  for (int j = 0; j < 8; ++j) {
    const int scale = std::min<int>(63, static_cast<uint8_t>(nearest_int(inverse_scale * fits[j].scale)));
    const int minimum =
        std::min<int>(63, static_cast<uint8_t>(nearest_int(inverse_minimum * fits[j].minimum)));
    if (j < 4) {
      block.scales[j] = static_cast<uint8_t>(scale);
      block.scales[j + 4] = static_cast<uint8_t>(minimum);
    } else {
      block.scales[j + 4] = static_cast<uint8_t>((scale & 15) | (minimum & 15) << 4);
      block.scales[j - 4] = static_cast<uint8_t>(block.scales[j - 4] | (scale >> 4) << 6);
      block.scales[j] = static_cast<uint8_t>(block.scales[j] | (minimum >> 4) << 6);
    }
  }
  store_half(block.scale, largest_scale / 63.0f);
  store_half(block.minimum, largest_minimum / 63.0f);
  for (int j = 0; j < 8; ++j) {  // once more, with the scales as stored
    const float scale = load_half(block.scale) * static_cast<float>(k_sub_scale(block.scales, j));
    if (scale == 0.0f) continue;
    const float minimum = load_half(block.minimum) * static_cast<float>(k_sub_minimum(block.scales, j));
    for (int i = 32 * j; i < 32 * j + 32; ++i)
      codes[i] = static_cast<uint8_t>(clamp_int(nearest_int((x[i] + minimum) / scale), 0, how.top));
  }
}

// Codes of at most two bits, in Q2_K's and Q3_K's order.
void pack_two_bits(const uint8_t* q, uint8_t* codes) {
  for (int half = 0; half < 256; half += 128)
    for (int l = 0; l < 32; ++l)
      codes[half / 4 + l] = static_cast<uint8_t>(q[half + l] | q[half + l + 32] << 2 | q[half + l + 64] << 4 |
                                                 q[half + l + 96] << 6);
}

}  // namespace

void q2_k_encode(const float* x, Q2_KBlock& block, const ScaleSearch& search) {
  uint8_t codes[256];
  float weights[256];
  for (int i = 0; i < 256; ++i) weights[i] = std::fabs(x[i]);
  ScaleAndMinimum fits[16];
  search.affine(x, weights, 16, {16, 3, -0.5f, 0.1f, 15, SearchError::absolute}, fits, codes);
  float largest_scale = 0, largest_minimum = 0;
  for (const auto& fit : fits) {
    largest_scale = std::max(largest_scale, fit.scale);
    largest_minimum = std::max(largest_minimum, fit.minimum);
  }
  const float inverse_scale = largest_scale > 0 ? 15.0f / largest_scale : 0.0f;
  const float inverse_minimum = largest_minimum > 0 ? 15.0f / largest_minimum : 0.0f;
  for (int j = 0; j < 16; ++j) {
    const int scale = nearest_int(inverse_scale * fits[j].scale);
    const int minimum = nearest_int(inverse_minimum * fits[j].minimum);
    block.scales[j] = static_cast<uint8_t>(scale | minimum << 4);
  }
  store_half(block.scale, largest_scale / 15.0f);
  store_half(block.minimum, largest_minimum / 15.0f);
  for (int j = 0; j < 16; ++j) {
    const float scale = load_half(block.scale) * static_cast<float>(block.scales[j] & 15);
    if (scale == 0.0f) continue;
    const float minimum = load_half(block.minimum) * static_cast<float>(block.scales[j] >> 4);
    for (int i = 16 * j; i < 16 * j + 16; ++i)
      codes[i] = static_cast<uint8_t>(clamp_int(nearest_int((x[i] + minimum) / scale), 0, 3));
  }
  pack_two_bits(codes, block.codes);
}

void q3_k_encode(const float* x, Q3_KBlock& block) {
  int8_t codes[256];
  float scales[16];
  for (int j = 0; j < 16; ++j) scales[j] = descend_to_scale(x + 16 * j, 4, codes + 16 * j);
  const float largest = extreme(scales, 16);
  std::memset(&block, 0, sizeof block);
  if (largest != 0.0f) {
    const float inverse = -32.0f / largest;
    for (int j = 0; j < 16; ++j) {
      const int scale = clamp_int(static_cast<int8_t>(nearest_int(inverse * scales[j])), -32, 31) + 32;
      block.scales[j % 8] = static_cast<uint8_t>(block.scales[j % 8] | (scale & 15) << (j < 8 ? 0 : 4));
      block.scales[8 + j % 4] = static_cast<uint8_t>(block.scales[8 + j % 4] | (scale >> 4) << (2 * (j / 4)));
    }
    store_half(block.scale, 1 / inverse);
  }
  for (int j = 0; j < 16; ++j) {
    const float scale = load_half(block.scale) * static_cast<float>(q3_k_sub_scale(block.scales, j));
    if (scale == 0.0f) continue;
    for (int i = 16 * j; i < 16 * j + 16; ++i)
      codes[i] = static_cast<int8_t>(clamp_int(nearest_int(x[i] / scale), -4, 3) + 4);
  }
  uint8_t low[256];
  for (int i = 0; i < 256; ++i) {
    low[i] = static_cast<uint8_t>(codes[i] & 3);
    block.high[i % 32] = static_cast<uint8_t>(block.high[i % 32] | (codes[i] >> 2 & 1) << (i / 32));
  }
  pack_two_bits(low, block.codes);
}

void q4_k_encode(const float* x, Q4_KBlock& block, const ScaleSearch& search) {
  uint8_t codes[256];
  encode_affine(x, {32, 15, -1.0f, 0.1f, 20, SearchError::squared}, search, block, codes);
  for (int i = 0; i < 128; ++i) {
    const int first = i / 32 * 64 + i % 32;
    block.codes[i] = static_cast<uint8_t>(codes[first] | codes[first + 32] << 4);
  }
}

void q5_k_encode(const float* x, Q5_KBlock& block, const ScaleSearch& search) {
  uint8_t codes[256];
  encode_affine(x, {32, 31, -0.5f, 0.1f, 15, SearchError::squared}, search, block, codes);
  std::memset(block.high, 0, sizeof block.high);
  for (int i = 0; i < 256; ++i)
    block.high[i % 32] = static_cast<uint8_t>(block.high[i % 32] | (codes[i] >> 4) << (i / 32));
  for (int i = 0; i < 128; ++i) {
    const int first = i / 32 * 64 + i % 32;
    block.codes[i] = static_cast<uint8_t>((codes[first] & 15) | (codes[first + 32] & 15) << 4);
  }
}

void q6_k_encode(const float* x, Q6_KBlock& block, const ScaleSearch& search) {
  int8_t codes[256];
  float scales[16];
  search.with_sign(x, 16, 32, scales, codes);
  const float largest = extreme(scales, 16);
  std::memset(&block, 0, sizeof block);
  if (std::fabs(largest) < 1e-15f) return;
  const float inverse = -128.0f / largest;
  store_half(block.scale, 1 / inverse);
  for (int j = 0; j < 16; ++j)
    block.scales[j] = static_cast<int8_t>(std::min(127, nearest_int(inverse * scales[j])));
  for (int j = 0; j < 16; ++j) {
    const float scale = load_half(block.scale) * static_cast<float>(block.scales[j]);
    if (scale == 0.0f) continue;
    for (int i = 16 * j; i < 16 * j + 16; ++i)
      codes[i] = static_cast<int8_t>(clamp_int(nearest_int(x[i] / scale), -32, 31) + 32);
  }
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, e = i % 128;
    uint8_t& low = block.low[half * 64 + e % 64];
    uint8_t& high = block.high[half * 32 + e % 32];
    low = static_cast<uint8_t>(low | (codes[i] & 15) << (e / 64 * 4));
    high = static_cast<uint8_t>(high | (codes[i] >> 4 & 3) << (e / 32 * 2));
  }
}

}  // namespace retort
