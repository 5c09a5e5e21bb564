#include "quant/k_search.h"

#include "quant/block_bytes.h"

#include <algorithm>
#include <cmath>

namespace retort {
namespace {

constexpr float kSmallestGroup = 1e-15f;   // groups below count as all zero
constexpr int kLargestSubBlock = 32;

float deviation(float difference, SearchError error) { return error == SearchError::absolute ? std::fabs(difference) : difference * difference; }

}  // namespace

ScaleAndMinimum search_scale_and_minimum(const float* x, const float* weights, int count, int top, SearchGrid grid, SearchError error,
                                         uint8_t* codes) {
  float low = x[0], high = x[0];
  float sum_w = weights[0], sum_wx = weights[0] * x[0];
  for (int i = 1; i < count; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
    sum_w += weights[i];
    sum_wx += weights[i] * x[i];
  }
  if (low > 0) low = 0;
  if (high == low) {
    std::fill(codes, codes + count, uint8_t{0});
    return {0.0f, -low};
  }
  const auto levels = static_cast<float>(top);
  float inverse = levels / (high - low);
  float scale = 1 / inverse;
  float best_error = 0;
  for (int i = 0; i < count; ++i) {
    codes[i] = static_cast<uint8_t>(clamp_int(nearest_int(inverse * (x[i] - low)), 0, top));
    best_error += weights[i] * deviation(scale * static_cast<float>(codes[i]) + low - x[i], error);
  }
  uint8_t trial[kLargestSubBlock];
  for (int t = 0; t <= grid.last; ++t) {
    inverse = (grid.first + grid.step * static_cast<float>(t) + levels) / (high - low);   // `low` is the best one so far
    float sum_q = 0, sum_qq = 0, sum_qx = 0;
    for (int i = 0; i < count; ++i) {
      const int code = clamp_int(nearest_int(inverse * (x[i] - low)), 0, top);
      trial[i] = static_cast<uint8_t>(code);
      const auto q = static_cast<float>(code);
      const float wq = weights[i] * q;
      sum_q += wq;
      sum_qq += wq * q;
      sum_qx += wq * x[i];
    }
    const float determinant = sum_w * sum_qq - sum_q * sum_q;
    if (!(determinant > 0)) continue;
    float trial_scale = (sum_w * sum_qx - sum_wx * sum_q) / determinant;
    float trial_low = (sum_qq * sum_wx - sum_q * sum_qx) / determinant;
    if (trial_low > 0) {
      trial_low = 0;
      trial_scale = sum_qx / sum_qq;
    }
    float trial_error = 0;
    for (int i = 0; i < count; ++i)
      trial_error += weights[i] * deviation(trial_scale * static_cast<float>(trial[i]) + trial_low - x[i], error);
    if (trial_error < best_error) {
      std::copy(trial, trial + count, codes);
      best_error = trial_error;
      scale = trial_scale;
      low = trial_low;
    }
  }
  return {scale, -low};
}

float search_signed_scale(const float* x, int count, int half, int8_t* codes) {
  const float peak = extreme(x, count);
  if (std::fabs(peak) < kSmallestGroup) {
    std::fill(codes, codes + count, int8_t{0});
    return 0.0f;
  }
  const auto steps = static_cast<float>(half);
  const auto code_at = [&](float inverse, int i) { return clamp_int(nearest_int(inverse * x[i]), -half, half - 1); };
  const auto fit = [&](float inverse, float& sum_qx, float& sum_qq) {
    sum_qx = sum_qq = 0;
    for (int i = 0; i < count; ++i) {
      const auto q = static_cast<float>(code_at(inverse, i));
      const float weight = x[i] * x[i];
      sum_qx += weight * x[i] * q;
      sum_qq += weight * q * q;
    }
  };
  const auto keep = [&](float inverse) {
    for (int i = 0; i < count; ++i) codes[i] = static_cast<int8_t>(code_at(inverse, i) + half);
  };
  float sum_qx = 0, sum_qq = 0;
  float inverse = -steps / peak;
  fit(inverse, sum_qx, sum_qq);
  keep(inverse);
  float scale = sum_qq != 0.0f ? sum_qx / sum_qq : 0.0f;
  float best = scale * sum_qx;
  for (int t = -9; t <= 9; ++t) {
    if (t == 0) continue;
    inverse = -(steps + 0.1f * static_cast<float>(t)) / peak;
    fit(inverse, sum_qx, sum_qq);
    if (sum_qq > 0 && sum_qx * sum_qx > best * sum_qq) {
      keep(inverse);
      scale = sum_qx / sum_qq;
      best = scale * sum_qx;
    }
  }
  return scale;
}

float search_signed_scale_by_descent(const float* x, int count, int half, int8_t* codes) {
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
    for (int i = 0; i < count; ++i) {   // the best code of element i with all others fixed
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
