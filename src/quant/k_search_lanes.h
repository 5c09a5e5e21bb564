// The searches of k_search.h, written once for any number of groups side by side. `L` gives float and int
// lanes (F, I), their number n, to_float, any (of a comparison), put and get. Internal linkage: see paths.h.
#pragma once
#include "quant/k_search.h"

namespace retort {
namespace {

constexpr float kSmallestGroup = 1e-15f;  // groups below count as all zero
constexpr float kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// As nearest_int of block_bytes.h.
template <class L> typename L::I nearest(typename L::F value) {
  return (__builtin_bit_cast(typename L::I, value + 12582912.0f) & 0x007FFFFF) - 0x00400000;
}
template <class L> typename L::I clamped(typename L::I value, int low, int high) {
  const typename L::I floor = value < low ? L::all(low) : value;
  return floor > high ? L::all(high) : floor;
}
template <class L> typename L::F magnitude(typename L::F value) {
  return __builtin_bit_cast(typename L::F, __builtin_bit_cast(typename L::I, value) & 0x7FFFFFFF);
}

// Element i of each of the groups from `group` on; groups past the end repeat the last.
template <class L>
void gather_groups(const float* x, int group, int groups, int count, typename L::F* lanes) {
  for (int lane = 0; lane < L::n; ++lane) {
    const float* from = x + static_cast<ptrdiff_t>(group + lane < groups ? group + lane : groups - 1) * count;
    for (int i = 0; i < count; ++i) L::put(lanes[i], lane, from[i]);
  }
}

template <class L> void search_affine(const float* x_in, const float* weights_in, int groups,
                                      const AffineSearch& search, ScaleAndMinimum* fits, uint8_t* codes) {
  using F = typename L::F;
  using I = typename L::I;
  const int count = search.count, top = search.top;
  const auto levels = static_cast<float>(top);
  const auto deviation = [&](F difference) {
    return search.error == SearchError::absolute ? magnitude<L>(difference) : difference * difference;
  };
  F x[32], weights[32];
  I best[32], trial[32];
  for (int group = 0; group < groups; group += L::n) {
    gather_groups<L>(x_in, group, groups, count, x);
    gather_groups<L>(weights_in, group, groups, count, weights);
    F low = x[0], high = x[0], sum_w = weights[0], sum_wx = weights[0] * x[0];
    for (int i = 1; i < count; ++i) {
      low = x[i] < low ? x[i] : low;
      high = x[i] > high ? x[i] : high;
      sum_w += weights[i];
      sum_wx += weights[i] * x[i];
    }
    low = low > 0.0f ? F{} : low;
    const auto flat = high == low;
    const F flat_minimum = -low;
    F inverse = levels / (high - low);
    F scale = 1.0f / inverse, best_error{};
    for (int i = 0; i < count; ++i) {
      best[i] = clamped<L>(nearest<L>(inverse * (x[i] - low)), 0, top);
      best_error += weights[i] * deviation(scale * L::to_float(best[i]) + low - x[i]);
    }
    for (int t = 0; t <= search.last; ++t) {
      inverse = (search.first + search.step * static_cast<float>(t) + levels) /
                (high - low);  // `low` is the best one so far
      F sum_q{}, sum_qq{}, sum_qx{};
      for (int i = 0; i < count; ++i) {
        trial[i] = clamped<L>(nearest<L>(inverse * (x[i] - low)), 0, top);
        const F q = L::to_float(trial[i]), wq = weights[i] * q;
        sum_q += wq;
        sum_qq += wq * q;
        sum_qx += wq * x[i];
      }
      const F determinant = sum_w * sum_qq - sum_q * sum_q;
      const F free_low = (sum_qq * sum_wx - sum_q * sum_qx) / determinant;
      const auto above_zero = free_low > 0.0f;
      const F trial_low = above_zero ? F{} : free_low;
      const F trial_scale = above_zero ? sum_qx / sum_qq : (sum_w * sum_qx - sum_wx * sum_q) / determinant;
      F trial_error{};
      for (int i = 0; i < count; ++i)
        trial_error += weights[i] * deviation(trial_scale * L::to_float(trial[i]) + trial_low - x[i]);
      const auto better = (determinant > 0.0f) & (trial_error < best_error);
      if (!L::any(better)) continue;
      for (int i = 0; i < count; ++i) best[i] = better ? trial[i] : best[i];
      best_error = better ? trial_error : best_error;
      scale = better ? trial_scale : scale;
      low = better ? trial_low : low;
    }
    scale = flat ? F{} : scale;
    const F minimum = flat ? flat_minimum : -low;
    for (int i = 0; i < count; ++i) best[i] = flat ? I{} : best[i];
    for (int lane = 0; lane < L::n && group + lane < groups; ++lane) {
      fits[group + lane].scale = L::get(scale, lane);
      fits[group + lane].minimum = L::get(minimum, lane);
      for (int i = 0; i < count; ++i)
        codes[(group + lane) * count + i] = static_cast<uint8_t>(L::get(best[i], lane));
    }
  }
}

// The element of largest magnitude of each group.
template <class L> typename L::F extremes(const typename L::F* x, int count) {
  typename L::F largest{}, value{};
  for (int i = 0; i < count; ++i) {
    const auto larger = magnitude<L>(x[i]) > largest;
    largest = larger ? magnitude<L>(x[i]) : largest;
    value = larger ? x[i] : value;
  }
  return value;
}

template <class L>
void search_with_sign(const float* x_in, int groups, int half, float* scales, int8_t* codes) {
  using F = typename L::F;
  constexpr int count = 16;
  const auto steps = static_cast<float>(half);
  F x[count];
  for (int group = 0; group < groups; group += L::n) {
    gather_groups<L>(x_in, group, groups, count, x);
    const F peak = extremes<L>(x, count);
    F sum_qx{}, sum_qq{};
    const auto fit = [&](F inverse) {
      sum_qx = sum_qq = F{};
      for (int i = 0; i < count; ++i) {
        const F q = L::to_float(clamped<L>(nearest<L>(inverse * x[i]), -half, half - 1)),
                weight = x[i] * x[i];
        sum_qx += weight * x[i] * q;
        sum_qq += weight * q * q;
      }
    };
    F best_inverse = -steps / peak;
    fit(best_inverse);
    F scale = sum_qq != 0.0f ? sum_qx / sum_qq : F{};
    F best = scale * sum_qx;
    for (int t = -9; t <= 9; ++t) {
      if (t == 0) continue;
      const F inverse = -(steps + 0.1f * static_cast<float>(t)) / peak;
      fit(inverse);
      const auto better = (sum_qq > 0.0f) & (sum_qx * sum_qx > best * sum_qq);
      scale = better ? sum_qx / sum_qq : scale;
      best = better ? scale * sum_qx : best;
      best_inverse = better ? inverse : best_inverse;
    }
    for (int lane = 0; lane < L::n && group + lane < groups; ++lane) {
      const float of_peak = L::get(peak, lane);
      const bool empty = (of_peak < 0 ? -of_peak : of_peak) < kSmallestGroup;
      scales[group + lane] = empty ? 0.0f : L::get(scale, lane);
      for (int i = 0; i < count; ++i) codes[(group + lane) * count + i] = 0;
      if (empty) continue;
      for (int i = 0; i < count; ++i) {
        const auto code = clamped<L>(nearest<L>(best_inverse * x[i]), -half, half - 1);
        codes[(group + lane) * count + i] = static_cast<int8_t>(L::get(code, lane) + half);
      }
    }
  }
}

// The nearest of the 16 levels; halfway goes up.
template <class L> typename L::F nearest_iq4_level(typename L::F x) {
  typename L::F below = L::all(kIq4Levels[0]), above = L::all(kIq4Levels[1]);
  for (int k = 1; k < 16; ++k) {
    const auto reached = x >= kIq4Levels[k];
    below = reached ? L::all(kIq4Levels[k]) : below;
    above = reached ? L::all(kIq4Levels[k < 15 ? k + 1 : 15]) : above;
  }
  return x - below < above - x ? below : above;
}

template <class L> void search_iq4(const float* x_in, int groups, float* scales) {
  using F = typename L::F;
  constexpr int count = 32;
  F x[count];
  for (int group = 0; group < groups; group += L::n) {
    gather_groups<L>(x_in, group, groups, count, x);
    const F peak = extremes<L>(x, count);
    F sum_qx{}, sum_qq{};
    const auto fit = [&](F inverse) {
      sum_qx = sum_qq = F{};
      for (int i = 0; i < count; ++i) {
        const F q = nearest_iq4_level<L>(inverse * x[i]), weight = x[i] * x[i];
        sum_qx += weight * q * x[i];
        sum_qq += weight * q * q;
      }
    };
    fit(1.0f / (-peak / kIq4Levels[0]));
    F scale = sum_qq > 0.0f ? sum_qx / sum_qq : F{};
    F best = scale * sum_qx;
    for (int t = -7; t <= 7; ++t) {
      fit((static_cast<float>(t) + kIq4Levels[0]) / peak);
      const auto better = (sum_qq > 0.0f) & (sum_qx * sum_qx > best * sum_qq);
      scale = better ? sum_qx / sum_qq : scale;
      best = better ? scale * sum_qx : best;
    }
    scale = magnitude<L>(peak) < kSmallestGroup ? F{} : scale;
    for (int lane = 0; lane < L::n && group + lane < groups; ++lane)
      scales[group + lane] = L::get(scale, lane);
  }
}

}  // namespace
}  // namespace retort
