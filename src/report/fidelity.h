// How near a file is to the model that was trained, in a word.
#pragma once
#include <string_view>

namespace retort {

// KL of 0.1 nats a token and 90 % of equal first choices are what is called good: the largest loss that
// llama.cpp's own measurements of Llama 3 8B show from Q8_0 (0.0014) over Q4_K_M (0.03) down to Q3_K_M
// (0.10), types that are in everyday use. Beyond 0.4, or below 75 %, it is as after Q2_K (0.45): broken.
// Between them a reader sees the difference. docs/exports.md has the figures.
inline constexpr double kGoodKl = 0.1, kGoodTop1 = 0.85, kBrokenKl = 0.4, kBrokenTop1 = 0.75;

// "good", "visible" or "broken"; numbers that are not finite are broken.
inline std::string_view fidelity_of(double kl_nats, double top1) {
  if (!(kl_nats <= kBrokenKl) || !(top1 >= kBrokenTop1)) return "broken";
  return kl_nats <= kGoodKl && top1 >= kGoodTop1 ? "good" : "visible";
}

}  // namespace retort
