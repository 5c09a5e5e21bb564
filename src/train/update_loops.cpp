#include "train/update_loops.h"

#include <algorithm>
#include <cmath>

#include "quant/dynamic8.h"

namespace retort {
namespace {

// A sum of zeros while everything is finite, NaN afterwards: vectors take it, and no branch leaves the loop.
struct Finite {
  float zeros = 0;
  void see(float value) { zeros += value * 0.0f; }
  bool all() const { return zeros == 0; }
};

}  // namespace

bool adamw_update(float* __restrict weights, const float* __restrict sums, float* __restrict first,
                  float* __restrict second, int64_t count, const UpdateScalars& s) {
  bool finite = true;
  constexpr int64_t kLanes = 8;
  const auto update = [&](int64_t i) {
    const auto next = adamw_number({weights[i], first[i], second[i]}, sums[i], s);
    first[i] = next.first;
    second[i] = next.second;
    weights[i] = next.weight;
  };
  for (int64_t begin = 0; begin < count; begin += kLanes * 32) {
    const auto end = std::min(begin + kLanes * 32, count);
    for (int64_t i = begin; i < end; ++i) update(i);
    Finite seen[kLanes];
    for (int64_t i = begin; i < end; ++i) {
      seen[i % kLanes].see(weights[i]);
      seen[i % kLanes].see(second[i]);
    }
    for (const auto& lane : seen) finite = finite && lane.all();
  }
  return finite;
}

bool adamw8bit_update(float* weights, const float* sums, uint8_t* first, float* first_absmax, uint8_t* second,
                      float* second_absmax, int64_t count, const UpdateScalars& s) {
  bool finite = true;
  float m[kDynamic8Block], v[kDynamic8Block];
  for (int64_t begin = 0; begin < count; begin += kDynamic8Block) {
    const auto size = std::min(kDynamic8Block, count - begin);
    const auto block = begin / kDynamic8Block;
    dynamic8_dequantize(Dynamic8::with_sign, first + begin, first_absmax + block, size, m);
    dynamic8_dequantize(Dynamic8::without_sign, second + begin, second_absmax + block, size, v);
    finite = adamw_update(weights + begin, sums + begin, m, v, size, s) && finite;
    dynamic8_quantize(Dynamic8::with_sign, m, size, first + begin, first_absmax + block);
    dynamic8_quantize(Dynamic8::without_sign, v, size, second + begin, second_absmax + block);
    for (int64_t i = 0; i < size; ++i)
      second[begin + i] = std::max<uint8_t>(second[begin + i], v[i] > 0 ? 1 : 0);
  }
  return finite;
}

bool sgd_update(float* __restrict weights, const float* __restrict sums, float* __restrict momentum,
                int64_t count, const UpdateScalars& s) {
  Finite seen;
  for (int64_t i = 0; i < count; ++i) {
    float step = sums[i] * s.share;
    if (momentum) momentum[i] = step = s.first ? step : momentum[i] * s.beta_1 + step;
    weights[i] = weights[i] * s.keep - s.rate * step;
    seen.see(weights[i]);
  }
  return seen.all();
}

bool lion_update(float* __restrict weights, const float* __restrict sums, float* __restrict momentum,
                 int64_t count, const UpdateScalars& s) {
  Finite seen;
  for (int64_t i = 0; i < count; ++i) {
    const float gradient = sums[i] * s.share;
    const float direction = momentum[i] * s.beta_1 + gradient * s.rest_1;
    const float sign = direction > 0 ? 1.0f : direction < 0 ? -1.0f : 0.0f;
    weights[i] = weights[i] * s.keep - s.rate * sign;
    momentum[i] = momentum[i] * s.beta_2 + gradient * s.rest_2;
    seen.see(weights[i]);
  }
  return seen.all();
}

double sum_of_squares(const float* values, int64_t count) {
  double lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int64_t lane = 0; lane < 8; ++lane)
      lanes[lane] += static_cast<double>(values[i + lane]) * values[i + lane];
  for (; i < count; ++i) lanes[i % 8] += static_cast<double>(values[i]) * values[i];
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace retort
