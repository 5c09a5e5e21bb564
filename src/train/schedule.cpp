#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace retort {

namespace {

int64_t warmup_steps(const ScheduleSpec& spec, int64_t steps) {
  if (spec.warmup_steps > 0) return spec.warmup_steps;
  // 0.07 of 100 steps are 7, although 0.07 * 100 is a little more in binary fractions.
  return static_cast<int64_t>(std::ceil(spec.warmup_share * static_cast<double>(steps) - 1e-9));
}

}  // namespace

double schedule_share(const ScheduleSpec& spec, int64_t step, int64_t steps) {
  const auto warmup = warmup_steps(spec, steps);
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup);
  const auto part = [](int64_t done, int64_t of) {
    return of > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(of), 0.0, 1.0) : 0.0;
  };
  const auto towards_final = [&](double share) { return spec.final_share + (1 - spec.final_share) * share; };
  if (spec.kind == "constant") return 1;
  if (spec.kind == "wsd") {
    const auto decay = static_cast<int64_t>(std::llround(spec.decay_share * static_cast<double>(steps)));
    return towards_final(1 - part(step - (steps - decay), decay));
  }
  const auto done = part(step - warmup, steps - warmup);
  return towards_final(spec.kind == "linear" ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done)));
}

}  // namespace retort
