// The record of a training, as a replay compares it.
#pragma once
#include "run/replay.h"
#include "train/run_state.h"

namespace retort {

// Of the run in FOLDER, or of a training whose folder it is; what is not there is empty.
StepsRecord read_steps(const std::filesystem::path& folder);

struct KeptCheckpoint {
  int64_t steps = 0;
  std::filesystem::path folder;
  RunState state;
};
// Those between two steps, in rising order.
std::vector<KeptCheckpoint> kept_checkpoints(const std::filesystem::path& folder);

// Of the training's steps 0 ... steps - 1 (made before), in drawn order, `count` that a stretch has.
void draw_steps(std::vector<ReplayStretch>& stretches, int64_t steps, int64_t count, uint64_t seed);

}  // namespace retort
