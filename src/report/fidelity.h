// How near a file is to the model that was trained, in a word.
#pragma once
#include <string_view>

namespace retort {

// Our bounds (docs/exports.md says what they are laid by). Good: nobody notices while reading. Broken: as
// after two bits a weight. Between them a reader sees the difference.
inline constexpr double kGoodKl = 0.1, kGoodTop1 = 0.85, kBrokenKl = 0.4, kBrokenTop1 = 0.75;

// "good", "visible" or "broken"; numbers that are not finite are broken.
inline std::string_view fidelity_of(double kl_nats, double top1) {
  if (!(kl_nats <= kBrokenKl) || !(top1 >= kBrokenTop1)) return "broken";
  return kl_nats <= kGoodKl && top1 >= kGoodTop1 ? "good" : "visible";
}

}  // namespace retort
