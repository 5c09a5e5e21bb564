// The ranks of a training: processes that hold the same model and divide the forests of each step among them.
#pragma once
#include <cstdint>

#include "base/peers.h"
#include "train/step.h"
#include "train/train.h"

namespace retort {

// Rank 0 throws RecipeError that names the first rank whose values are others, and what differs.
void require_equal(Peers& peers, const Fingerprint& mine);

// Sums of the first forests of a step on their way along the ranks. `leaves` give the shapes.
void send_sums(Peers& peers, int64_t to, const StepSums& sums);
StepSums receive_sums(Peers& peers, int64_t from, const std::vector<Tensor>& leaves);
void broadcast_sums(Peers& peers, int64_t root, const std::vector<Tensor>& leaves, StepSums& sums);

}  // namespace retort
