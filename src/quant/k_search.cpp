#include "quant/k_search.h"

#include "quant/block_bytes.h"
#include "quant/k_search_lanes.h"

#include <algorithm>
#include <cmath>

namespace retort {
namespace {

struct OneLane {
  using F = float;
  using I = int32_t;
  static constexpr int n = 1;
  static F all(float value) { return value; }
  static I all(int value) { return value; }
  static F to_float(I value) { return static_cast<float>(value); }
  static bool any(bool mask) { return mask; }
  static void put(F& lanes, int, float value) { lanes = value; }
  static float get(F lanes, int) { return lanes; }
  static int get(I lanes, int) { return lanes; }
};

constexpr ScaleSearch kScalarSearch = {search_affine<OneLane>, search_with_sign<OneLane>,
                                       search_iq4<OneLane>};

}  // namespace

const ScaleSearch& scalar_search() { return kScalarSearch; }

float descend_to_scale(const float* x, int half, int8_t* codes) {
  constexpr int count = 16;
  const float peak = extreme(x, count);
  if (std::fabs(peak) < kSmallestGroup) {
    std::fill(codes, codes + count, int8_t{0});
    return 0.0f;
  }
  const float inverse = -static_cast<float>(half) / peak;
  float sum_qx = 0, sum_qq = 0;
  for (int i = 0; i < count; ++i) {
    codes[i] = static_cast<int8_t>(clamp_int(nearest_int(inverse * x[i]), -half, half - 1));
    const auto q = static_cast<float>(codes[i]);
    const float weight = x[i] * x[i];
    sum_qx += weight * x[i] * q;
    sum_qq += weight * q * q;
  }
  bool changed = true;
  for (int round = 0; round < 5 && changed; ++round) {
    changed = false;
    for (int i = 0; i < count; ++i) {  // the best code of element i with all others fixed
      const float weight = x[i] * x[i];
      const auto old_q = static_cast<float>(codes[i]);
      float others_qx = sum_qx - weight * x[i] * old_q;
      if (!(others_qx > 0)) continue;
      float others_qq = sum_qq - weight * old_q * old_q;
      const int code = clamp_int(nearest_int(x[i] * others_qq / others_qx), -half, half - 1);
      if (code == codes[i]) continue;
      const auto q = static_cast<float>(code);
      others_qx += weight * x[i] * q;
      others_qq += weight * q * q;
      if (others_qq > 0 && others_qx * others_qx * sum_qq > sum_qx * sum_qx * others_qq) {
        codes[i] = static_cast<int8_t>(code);
        sum_qx = others_qx;
        sum_qq = others_qq;
        changed = true;
      }
    }
  }
  for (int i = 0; i < count; ++i) codes[i] = static_cast<int8_t>(codes[i] + half);
  return sum_qq > 0.0f ? sum_qx / sum_qq : 0.0f;
}

}  // namespace retort
