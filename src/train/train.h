// Trains the trainables of a model: the one loop. It knows objectives and leaves, not LoRA, files of models
// or recipes.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "forest/samples.h"
#include "models/model.h"
#include "train/objective.h"
#include "train/train_spec.h"

namespace retort {

class Peers;  // train/peers.h

// Everything that must be equal for a resumed run to end with the same bytes: names and values, compared one
// by one. The caller adds what it knows (base model, data, recipe sections); train() adds the train section,
// the samples, threads, CPU, compute type and build.
using Fingerprint = std::vector<std::pair<std::string, std::string>>;

struct StepRecord {
  int64_t step = 0, steps = 0;  // 1-based, of all planned
  double loss = 0;              // nats per supervised token, mean over the step
  double gradient_norm = 0, learning_rate = 0;
  int64_t supervised = 0;        // targets of the step
  int64_t tokens = 0, rows = 0;  // before and after prefix sharing
  double seconds = 0;
  uint64_t resident_bytes = 0;
  bool skipped = false;  // not finite: weights unchanged
  // Where an indexer learns: nats a token between what attention pays and what the indexer pays, mean over
  // layers and the tokens of this process's part of the step.
  std::optional<double> indexer_kl = {};
};

// What happened to a training, for the record of the run.
struct TrainEvent {
  std::string what;                   // "checkpoint", "batches", ...
  std::filesystem::path folder = {};  // the training's
  int64_t step = 0;
  std::string file = {};     // inside of the folder
  std::string sha256 = {};   // of the file; of a checkpoint its manifest's
  std::string batches = {};  // every batch up to this step: RunState::batches
  std::optional<double> loss = {};
};

// What the caller hears while training; any of them may be empty.
struct TrainWatch {
  std::function<void(int64_t done, int64_t steps)> on_start = {};  // after a resume: done > 0
  std::function<void(const StepRecord&)> on_step = {};
  std::function<void(int64_t step, double nats_per_token)> on_evaluation = {};
  std::function<void(const std::string&)> on_note =
      {};  // one line: a fallback, a skipped batch, a failed save
  std::function<void(const TrainEvent&)> on_event = {};
};

struct TrainResult {
  int64_t steps = 0, planned = 0;
  int64_t skipped = 0;  // steps that were not finite
  double last_loss = 0;
  std::optional<double> held_out_before,
      held_out_after;  // nats per token; before: at step 0 when evaluate.every > 0
  std::optional<int64_t> best_step;
  bool stopped_early = false, resumed_inexactly = false;
  int64_t tokens = 0, rows = 0, supervised = 0;
  double seconds = 0;       // of all sessions together
  uint64_t peak_bytes = 0;  // resident memory of this session
};

// A training that goes on with an earlier one, whose trainables its own hold at the start: one schedule and
// one optimizer for both.
struct Earlier {
  std::filesystem::path folder;  // the earlier one's, finished; empty = there is none
  int64_t steps = 0;             // made before this training, which is at least the earlier one's
  int64_t steps_of_all = 0;      // planned for all trainings of the chain; 0 = this is the only one
};

struct TrainJob {
  const Model& model;
  std::vector<NamedTensor> trainables;  // fp32 leaves, changed in place
  Samples samples;
  Samples held_out;
  Objective objective;
  at::ScalarType compute = at::kFloat;
  std::filesystem::path folder;  // the run's: checkpoints/, metrics.jsonl, speed.jsonl, TensorBoard events
  Fingerprint fingerprint = {};
  std::vector<NamedTensor> auxiliary =
      {};  // learn with the others and are in checkpoints, but not in the result
  Earlier earlier = {};
  // The other processes that compute it. Rank 0 alone writes what is to last, and says from where all go on;
  // the others have folders of their own.
  Peers* peers = nullptr;
  std::optional<Objective> measured = std::nullopt;  // what held-out losses are of, where it is another
};

// metrics.jsonl has a row a step (loss, learning_rate, gradient_norm, supervised, tokens, rows; skipped = 1
// where it was) and one an evaluation (held_out_loss), speed.jsonl a row a step (seconds, tokens_per_second,
// resident_bytes).
//
// Starts or resumes from the newest checkpoint in job.folder whose manifest verifies, and trains to the end.
// Afterwards the trainables hold the final (or, with evaluate.keep_best, the best) weights. Throws Stopped
// after saving when a signal came, RecipeError when the fingerprint differs and checkpoint.resume_inexact is
// not set, Failure when steps stay bad.
TrainResult train(const TrainSpec& spec, const TrainJob& job, const TrainWatch& watch = {});

// RecipeError where train() would refuse to go on with what job.folder holds; nothing is changed. The caller
// holds the lock of the folder.
void require_resumable(const TrainSpec& spec, const TrainJob& job);

// Reads the weights that a finished train() left in `folder` back into the trainables; FormatError when they
// do not fit.
void load_trained(const std::filesystem::path& folder, const std::vector<NamedTensor>& trainables);

}  // namespace retort
