// The arithmetic of one optimizer step: its forests are computed side by side, one a thread, and their
// gradients summed in forest order in fp32. Nobody divides here: a mean of means would weigh short forests
// wrongly.
#pragma once
#include <span>

#include "forest/samples.h"
#include "train/objective.h"
#include "train/train_spec.h"

namespace retort {

class Peers;       // train/peers.h
class WalkRecord;  // schedule/walk_record.h

struct StepPlan {
  std::vector<Forest> forests;
  Saving saving;
  int64_t supervised = 0;  // targets
};

// The forests of samples[chosen]. At most row_tokens rows each, and as many as keep `parts` threads busy:
// where they would be fewer than a multiple of `parts`, they are cut smaller if that shortens the longest
// thread's work. Depends on nothing but the arguments. target.sample is an index into `samples`.
StepPlan plan_step(const Samples& samples, std::span<const int64_t> chosen, int64_t row_tokens,
                   int64_t parts);

// Sums over the first `forests` forests of a step.
struct StepSums {
  std::vector<Tensor> gradients;  // fp32, one a leaf; undefined where nothing has flowed yet
  double nats = 0, weight = 0;
  int64_t forests = 0;
};

// The pass of forest `index`: training or not, its dropout key.
using MakePass = std::function<Pass(const Forest& forest, int64_t index)>;

// What is computed of a step's forests, and by how many threads.
struct StepJob {
  const Model& model;
  Objective objective;
  const StepPlan& plan;
  MakePass make_pass;
  int64_t threads;
  // Of a model with a scratch folder: what lets a later process go on in the layer that this one was in.
  WalkRecord* record = nullptr;
  // Of a training that several processes share: each computes neighbouring forests of the step.
  Peers* peers = nullptr;
};

// Adds the forests from sums.forests on. Returns false when a stop was asked for before all were done: sums
// then hold the first sums.forests of them, exactly. An exception leaves them empty. With peers all ranks end
// with the same sums, which those of one process would be bit for bit, and return the same.
bool add_gradients(const StepJob& job, const std::vector<Tensor>& leaves, StepSums& sums);

// The objective without gradients, in nats per weight; nullopt when nothing is supervised. Throws Stopped
// when a stop is asked for.
std::optional<double> mean_loss(const StepJob& job);

}  // namespace retort
