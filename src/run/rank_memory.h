// Memory of a run that several ranks share: what each needs beside one process, and what a machine has for
// all that it holds.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/peers.h"
#include "models/model.h"
#include "plan/predict.h"

namespace retort {

// Bytes of the model's matrices that are pages of its file: the ranks of a machine have them once.
uint64_t mapped_bytes(const Model& model);

struct RankMemory {
  uint64_t needs = 0;                      // with its sums
  uint64_t shared = 0;                     // of that, pages of files
  uint64_t holds = 0, holds_of_files = 0;  // now; of its own, and pages of files
  uint64_t room = 0;                       // that is left where it runs
  std::string bound_by;                    // by what
};
RankMemory memory_of_rank(const MemoryPrediction& need, uint64_t sums, const Model& model);

// Failure where the ranks of a machine (or of a control group) need more than it has. `all`: of each rank.
void require_memory_of_machines(const Peers& peers, const std::vector<RankMemory>& all);

// All ranks call it together: each says what it needs, and rank 0 adds up and refuses.
void require_memory_of_ranks(Peers& peers, const RankMemory& mine);

}  // namespace retort
