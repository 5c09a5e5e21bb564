// What is done each so many steps, or so many times in an epoch: held-out loss, checkpoints.
#pragma once
#include <algorithm>
#include <cstdint>

namespace retort {

struct StepInterval {
  int64_t every = 0;      // steps; 0 = never
  int64_t per_epoch = 0;  // above 0 it goes before `every`
  int64_t epoch = 1;      // steps of the first epoch

  // How often until the end of step `steps` (counted from 1). Times of an epoch are spread evenly over its
  // steps; more than it has steps are one after each.
  int64_t times(int64_t steps) const {
    if (per_epoch == 0) return every > 0 ? steps / every : 0;
    const auto length = std::max<int64_t>(1, epoch), each = std::min(per_epoch, length);
    return steps / length * each + steps % length * each / length;
  }
  bool due(int64_t steps) const { return steps > 0 && times(steps) > times(steps - 1); }
};

}  // namespace retort
