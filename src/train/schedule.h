// The learning rate of each optimizer step.
#pragma once
#include "train/train_spec.h"

namespace retort {

// Share of the peak rate at optimizer step `step` (0-based) of `steps` in all.
double schedule_share(const ScheduleSpec& spec, int64_t step, int64_t steps);

}  // namespace retort
