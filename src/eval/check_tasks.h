// What can be known of an evaluation before hours of training: its files are read, its gates name what will
// be measured.
#pragma once
#include "eval/eval_spec.h"
#include "eval/result.h"

namespace retort {

struct TaskInput {
  std::string task, kind;
  std::string path;      // empty: the held-out samples
  int64_t count = 0;     // questions, problems, records
  int64_t examples = 0;  // put before each
};

// The metrics of a task, as its result names them.
std::vector<std::string> metric_names(const EvalTaskSpec& task);
// The metrics of a result that the user's program gave (EvalTaskSpec::scored_by).
std::vector<std::string> scores_of_program(const TaskResult& result);
// Whether a metric is the mean of what each sample scores, so that two models can be compared sample by
// sample.
bool is_tested(std::string_view metric);

// Whether a task has the model answer held-out prompts.
bool asks_held_out_prompts(const EvalSpec& spec);
// Reads every file that a task names, as evaluate() will. `held_out`: samples that `data` holds out.
// RecipeError or FormatError for what evaluate() would refuse, for two tasks of one name, and for a name that
// makes no file name.
std::vector<TaskInput> check_tasks(const EvalSpec& spec, const DataSpec& data, int64_t held_out);

// RecipeError for a gate on something that no task measures, or that bounds nothing.
void check_gates(const std::vector<BoundSpec>& gates, const EvalSpec& spec);

}  // namespace retort
