// All tasks of a recipe on one model, and the gate over three.
#pragma once
#include <filesystem>

#include <functional>

#include "data/record.h"
#include "eval/eval_spec.h"
#include "eval/subject.h"
#include "forest/samples.h"

namespace retort {

// What `data` holds out and, for membership, what it has the model learn and how the base did in the same
// tasks. A membership task is left out where no training samples are given, and goes by the loss alone where
// there is no base.
struct HeldOut {
  Samples samples;
  const std::vector<Record>& records;
  Samples train = {};
  const std::vector<TaskResult>* base = nullptr;
};

// Files named by tasks are read here, as `data` reads its own; code completions go to
// folder/<task>.samples.jsonl. One result a task, in order, but for membership where it cannot be measured.
// `progress` hears the name of each task before it starts.
std::vector<TaskResult> evaluate(const EvalSpec& spec, const DataSpec& data, const Subject& subject,
                                 const HeldOut& held_out, const std::filesystem::path& folder,
                                 const std::function<void(const std::string& task)>& progress = nullptr);

// The subject's row, batch and thread numbers from the spec.
Subject with_spec(Subject subject, const EvalSpec& spec);

// One line for each bound that does not hold, with the metric, the value and the bound; empty when all hold.
// RecipeError for a metric that no task measured. `tuned` and `exported` are the results of those models;
// `base` is needed for worse_than_base_by only. For the nats_per_token, perplexity and bits_per_byte of a
// perplexity task, and for what a model gives away (memorization.h), worse means larger.
std::vector<std::string> failed_gates(const std::vector<BoundSpec>& gates,
                                      const std::vector<TaskResult>& base,
                                      const std::vector<TaskResult>& tuned,
                                      const std::vector<TaskResult>& exported);

// What the paired test says of a gate with against_base; the results hold their samples.
struct AgainstBase {
  bool holds = false;
  std::string how;  // "p 0.004", or the interval of the difference
};
AgainstBase against_base(const BoundSpec& gate, const std::vector<TaskResult>& base,
                         const std::vector<TaskResult>& model);

}  // namespace retort
