// All that a resumed run needs besides weights and moments, as the JSON of a checkpoint.
#pragma once
#include "base/json.h"
#include "train/batches.h"
#include "train/train.h"

namespace retort {

struct RunState {
  TrainResult result;    // counters and losses so far
  Batches::Place place;  // where the next step's samples begin
  int64_t updates = 0;   // of the optimizer: without the steps that were skipped
  int64_t bad_in_a_row = 0;
  int64_t evaluated = -1;  // the step of the last evaluation
  std::optional<double> best_loss;
  int64_t evaluations_since_best = 0;
  int64_t forests = 0;          // of the step begun, already in gradients.safetensors
  double nats = 0, weight = 0;  // and their sums
  uint64_t metrics_bytes = 0;   // of metrics.jsonl
  Fingerprint fingerprint;
  // SHA-256 over this text as it was a step before and the samples of the step, in their order: number and
  // tokens of each. Empty before the first step.
  std::string batches;
};

OrderedJson to_json(const RunState& state);
RunState run_state(const Json& json,
                   const std::string& file);  // FormatError when a key is missing or of another kind

}  // namespace retort
