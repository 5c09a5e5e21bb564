#include "quant/dynamic8.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

namespace retort {
namespace {

struct Map {
  std::array<float, 256> values{};
  std::array<float, 256>
      midpoints{};  // midpoints[i] lies between values[i] and values[i + 1]; the last is infinity
  // By the upper 16 bits of a float: the code of the least float of that cell. No cell holds two midpoints:
  // the map's finest step near 1, 0.9 / 128, is wider than a cell there, 1 / 256, so one comparison finishes
  // the search.
  std::array<uint8_t, 65536> first_codes{};
};

// Midpoints below x, by search.
uint8_t searched_code(const Map& map, float x) {
  int below = 0;
  for (int step = 128; step > 0; step /= 2)
    below += map.midpoints[static_cast<size_t>(below + step - 1)] < x ? step : 0;
  return static_cast<uint8_t>(below);
}

// `points` equally spaced floats from 0.1 to 1, counted from the nearer end as torch.linspace.
std::vector<float> decade(int points) {
  const float step = (1.0f - 0.1f) / static_cast<float>(points - 1);
  std::vector<float> spaced(static_cast<size_t>(points));
  for (int i = 0; i < points; ++i)
    spaced[static_cast<size_t>(i)] = i < points / 2 ? 0.1f + step * static_cast<float>(i)
                                                    : 1.0f - step * static_cast<float>(points - 1 - i);
  return spaced;
}

// Decade i (1e-6 .. 1) is cut into 2^i parts (2^(i+1) without a sign), each represented by its middle; 0 and
// 1 are added.
Map make_map(Dynamic8 kind) {
  std::vector<float> values = {0.0f, 1.0f};
  for (int i = 0; i < 7; ++i) {
    const auto bounds = decade((kind == Dynamic8::with_sign ? 1 << i : 2 << i) + 1);
    const auto factor = static_cast<float>(std::pow(10.0, i - 6));
    for (size_t k = 0; k + 1 < bounds.size(); ++k) {
      const float value = factor * ((bounds[k] + bounds[k + 1]) / 2.0f);
      values.push_back(value);
      if (kind == Dynamic8::with_sign) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  Map map;
  std::copy(values.begin(), values.end(), map.values.begin());
  for (size_t i = 0; i < 255; ++i) map.midpoints[i] = (map.values[i] + map.values[i + 1]) * 0.5f;
  map.midpoints[255] = INFINITY;
  for (uint32_t cell = 0; cell < 65536; ++cell)
    map.first_codes[cell] =
        searched_code(map, std::bit_cast<float>(cell << 16 | (cell >= 0x8000u ? 0xFFFFu : 0u)));
  return map;
}

const Map& map_of(Dynamic8 kind) {
  static const Map with_sign = make_map(Dynamic8::with_sign), without_sign = make_map(Dynamic8::without_sign);
  return kind == Dynamic8::with_sign ? with_sign : without_sign;
}

uint8_t code_in(const Map& map, float x) {
  const uint8_t code = map.first_codes[std::bit_cast<uint32_t>(x) >> 16];
  return static_cast<uint8_t>(code + (x > map.midpoints[code] ? 1 : 0));
}

}  // namespace

std::span<const float, 256> dynamic8_values(Dynamic8 map) { return map_of(map).values; }

uint8_t dynamic8_code(Dynamic8 map, float normalized) { return code_in(map_of(map), normalized); }

void dynamic8_quantize(Dynamic8 map, const float* in, int64_t count, uint8_t* codes, float* absmax) {
  const Map& values = map_of(map);
  for (int64_t begin = 0; begin < count; begin += kDynamic8Block) {
    const int64_t size = std::min(count - begin, kDynamic8Block);
    float block[kDynamic8Block] = {},
          lanes[8] = {};  // passes over a padded copy, so that the compiler uses vectors
    std::copy(in + begin, in + begin + size, block);
    for (int64_t i = 0; i < kDynamic8Block; i += 8)
      for (int64_t k = 0; k < 8; ++k)
        lanes[k] = std::fabs(block[i + k]) > lanes[k] ? std::fabs(block[i + k]) : lanes[k];
    const float largest = *std::max_element(lanes, lanes + 8);
    *absmax++ = largest;
    const float divisor = largest > 0.0f ? largest : 1.0f;
    for (int64_t i = 0; i < kDynamic8Block; ++i) block[i] /= divisor;
    for (int64_t i = 0; i < size; ++i) codes[begin + i] = code_in(values, block[i]);
  }
}

void dynamic8_dequantize(Dynamic8 map, const uint8_t* codes, const float* absmax, int64_t count, float* out) {
  const auto values = dynamic8_values(map);
  for (int64_t i = 0; i < count; ++i) out[i] = values[codes[i]] * absmax[i / kDynamic8Block];
}

}  // namespace retort
