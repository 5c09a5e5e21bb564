#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace retort {

double schedule_share(const ScheduleSpec& spec, int64_t step, int64_t steps) {
  if (step < spec.warmup_steps) return static_cast<double>(step + 1) / static_cast<double>(spec.warmup_steps);
  const auto part = [](int64_t done, int64_t of) {
    return of > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(of), 0.0, 1.0) : 0.0;
  };
  const auto towards_final = [&](double share) { return spec.final_share + (1 - spec.final_share) * share; };
  if (spec.kind == "constant") return 1;
  if (spec.kind == "wsd") {
    const auto decay = static_cast<int64_t>(std::llround(spec.decay_share * static_cast<double>(steps)));
    return towards_final(1 - part(step - (steps - decay), decay));
  }
  const auto done = part(step - spec.warmup_steps, steps - spec.warmup_steps);
  return towards_final(spec.kind == "linear" ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done)));
}

}  // namespace retort
