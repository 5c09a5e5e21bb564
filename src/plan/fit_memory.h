// `train.memory`: the fastest way to cut the training so that its predicted peak stays within a budget.
#pragma once
#include <optional>

#include "plan/predict.h"

namespace retort {

// What a budget chooses; the recipe's own values are the most that it may use.
struct MemoryChoice {
  int64_t row_tokens = 0;
  int64_t threads = 0;
  bool recompute = false;
  uint64_t peak = 0;  // predicted

  template <class Visitor> void fields(Visitor& field) {
    field("row_tokens", row_tokens);
    field("threads", threads);
    field("recompute", recompute);
    field("peak", peak);
  }
};

// The choice of the least predicted time that fits into recipe.train.memory. RecipeError where nothing does:
// the smallest there is, its parts, and which keys make it smaller.
MemoryChoice choose_for_memory(const Recipe& recipe, const Model& model, at::ScalarType compute,
                               const Dataset& dataset);

// "train.batch.pass_tokens 512, 2 threads, layers recomputed: about 512 MiB"
std::string describe(const MemoryChoice& choice);
void apply(const MemoryChoice& choice, TrainSpec& spec);

}  // namespace retort
