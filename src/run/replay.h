// Steps of a finished training computed again, and compared with the run's record bit for bit. Nothing is
// written into the run's folder.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "recipe/recipe.h"
#include "report/metrics.h"

namespace retort {

// What a training's record says, by step. For whole numbers of steps alone: what a stop left within one is
// left out.
struct StepsRecord {
  std::map<int64_t, Scalars> rows;         // metrics.jsonl: loss, gradient norm, learning rate, ...
  std::map<int64_t, double> held_out;      // losses, nats per token
  std::map<int64_t, std::string> samples;  // batches.tsv: epoch and the numbers of the samples
  std::map<int64_t, std::string> batches;  // the hash of all samples so far
  std::map<int64_t, std::string> weights;  // the hash of weights.safetensors after the step
};

// Steps that follow a place where the weights are known: step 0 (the base with a fresh adapter), or a kept
// checkpoint.
struct ReplayStretch {
  int64_t from = 0;    // steps made before
  int64_t length = 0;  // to the next such place
  int64_t chosen = 0;  // how many of them are computed again, in order from the first
};

struct ReplayPlan {
  std::filesystem::path folder;  // the run's
  LoadedRecipe recipe;
  int64_t steps = 0;                     // of the training
  std::vector<ReplayStretch> stretches;  // in rising order
  StepsRecord record;
  int64_t chosen() const;
};

// Draws `count` steps by `seed`: each draw is a step of the training, and takes the first step of its stretch
// that is not taken yet, so that no step is computed only to reach another one. RecipeError where nothing can
// be computed again. The files of the run are taken to be what its manifest says.
ReplayPlan plan_replay(const std::filesystem::path& folder, int64_t count, uint64_t seed);

struct Replay {
  int64_t computed = 0;                   // steps
  int64_t evaluations = 0;                // held-out losses that were computed and compared on the way
  std::vector<int64_t> weights, batches;  // after which steps these were compared
  std::string elsewhere;                  // what differs of machine and build; empty: nothing
  std::optional<int64_t> differs;         // the first step whose bits differ
  std::string what;                       // and what of it
};

// In a folder of its own beneath TMPDIR, gone at the end.
Replay replay(const ReplayPlan& plan);

}  // namespace retort
