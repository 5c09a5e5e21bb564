// An objective is a function of a model and a forest: a sum in nats and its weight. The loop knows nothing
// else.
#pragma once
#include <functional>

#include "forest/forest.h"
#include "models/model.h"

namespace retort {

// `sample` of each target is the sample's index in TrainJob.samples, or in .held_out during evaluation.
// Called by several threads at once, each with a forest of its own.
using Objective = std::function<LossSum(const Model& model, const Forest& forest, const Pass& pass)>;

// Next-token cross-entropy over the forest's targets.
Objective next_token_objective();

}  // namespace retort
