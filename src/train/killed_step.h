// A step that was killed in one of the layers of a model in its file.
#pragma once
#include <memory>
#include <vector>

#include "schedule/walk_record.h"
#include "train/run_state.h"

namespace retort {

// What lets the step after `state`, of these samples, go on in the layer where a session before was killed in
// it; nothing where its model has no scratch folder, or a part of its forests is summed already. `leaves`:
// what is trained.
std::unique_ptr<WalkRecord> record_of_step(const TrainJob& job, const RunState& state,
                                           const std::vector<int64_t>& chosen,
                                           const std::vector<NamedTensor>& leaves);

}  // namespace retort
