#include "eval/check_tasks.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "eval/code.h"
#include "eval/memorization.h"
#include "eval/question_file.h"
#include "eval/scored_by.h"
#include "eval/task_source.h"

namespace retort {
namespace {

// Questions and examples of a task, by whatever reads its kind.
template <class Read> void count_questions(const EvalTaskSpec& task, Read read, TaskInput& input) {
  input.count = static_cast<int64_t>(read(task.path, task.limit).size());
  if (task.few_shot == 0) return;
  if (task.examples.empty())
    throw RecipeError(fmt::format("eval task '{}': few_shot is {}, but no file of examples is named",
                                  task.label(), task.few_shot));
  input.examples = static_cast<int64_t>(read(task.examples, task.few_shot).size());
  if (input.examples < task.few_shot)
    throw RecipeError(fmt::format("eval task '{}': few_shot is {}, but {} holds {} examples", task.label(),
                                  task.few_shot, printable(task.examples), input.examples));
}

// Those that retort measures itself.
std::vector<std::string> own_metric_names(const EvalTaskSpec& task) {
  if (task.kind == "perplexity") return {"nats_per_token", "perplexity", "token_accuracy", "bits_per_byte"};
  if (task.kind == "completion")
    return {"exact_match",
            "f1",
            "normalised_match",
            "first_letter",
            "first_line",
            "prefix_share",
            "ended",
            "answer_tokens",
            "macro_f1",
            "weighted_f1",
            "majority",
            "above_majority",
            "contains",
            "rouge_l",
            "bleu",
            "chrf"};
  if (task.kind == "multiple_choice") {
    if (task.score == "text") return {"accuracy", "accuracy_norm", "accuracy_per_token", "calibration_error"};
    return {"accuracy", "calibration_error"};
  }
  if (task.kind == "numeric") return {"accuracy", "answered"};
  if (task.kind == "exposure") return {"mean_exposure", "max_exposure", "limit"};
  if (task.kind == "membership") return {"auc", "tpr_at_1_percent_fpr", "auc_of_loss"};
  std::vector<std::string> code;
  if (task.execute)
    for (const auto k : kPassAt)
      if (k <= task.samples) code.push_back(fmt::format("pass_at_{}", k));
  code.insert(code.end(), {"ended", "completion_tokens"});
  return code;
}

}  // namespace

std::vector<std::string> metric_names(const EvalTaskSpec& task) {
  auto names = own_metric_names(task);
  if (task.scored_by) names.insert(names.end(), task.scored_by->scores.begin(), task.scored_by->scores.end());
  return names;
}

std::vector<std::string> scores_of_program(const TaskResult& result) {
  if (result.kind != "completion") return {};
  EvalTaskSpec task;
  auto own = own_metric_names(task);
  own.emplace_back("calibration_error");  // where answers are classes
  std::vector<std::string> names;
  for (const auto& [name, value] : result.metrics)
    if (std::find(own.begin(), own.end(), name) == own.end()) names.push_back(name);
  return names;
}

bool is_tested(std::string_view metric) {
  return metric == "exact_match" || metric == "accuracy" || metric == "pass_at_1" ||
         metric == "nats_per_token" || metric == "perplexity";
}

bool asks_held_out_prompts(const EvalSpec& spec) {
  return std::any_of(spec.tasks.begin(), spec.tasks.end(), [](const EvalTaskSpec& task) {
    return task.kind == "completion" && !has_own_records(task);
  });
}

std::vector<TaskInput> check_tasks(const EvalSpec& spec, const DataSpec& data, int64_t held_out) {
  std::vector<TaskInput> inputs;
  std::set<std::string> names;
  for (const auto& task : spec.tasks) {
    const auto& name = task.label();
    if (!is_plain_name(name))
      throw RecipeError(fmt::format(
          "eval task '{}': its name becomes a file name; write it without '/' and '\\'", printable(name)));
    if (!names.insert(name).second)
      throw RecipeError(fmt::format("eval task '{}': two tasks have this name; set `name` for one of them",
                                    printable(name)));
    TaskInput input{name, task.kind, task.source ? task.source->path : task.path, 0, 0};
    if (task.source) task_source(task, data);  // refuses what does not fit
    if (task.scored_by && task.kind != "completion")
      throw RecipeError(fmt::format("eval task '{}': scored_by is for kind completion", name));
    if (task.scored_by) {
      auto own = own_metric_names(task);
      own.emplace_back("calibration_error");
      check_scored_by(*task.scored_by, name, own);
    }
    if (task.kind == "exposure" || task.kind == "membership") {
      if (!task.path.empty())
        throw RecipeError(fmt::format("eval task '{}': {} reads no file; leave path out", name, task.kind));
      const bool exposure = task.kind == "exposure";
      input.path = exposure ? "data.canaries" : "the training samples and of those held out";
      input.count = exposure ? data.canaries.count + data.canaries.twins
                             : 2 * (task.limit > 0 ? task.limit : kMembershipSamples);
      if (exposure && data.canaries.count == 0)
        throw RecipeError(fmt::format("eval task '{}': no canary is planted; set data.canaries.count", name));
      if (!exposure && held_out == 0)
        throw RecipeError(fmt::format("eval task '{}': no sample is held out; raise data.held_out", name));
      inputs.push_back(std::move(input));
      continue;
    }
    const bool samples = task.kind == "perplexity" || task.kind == "completion";
    if (samples) {
      input.count = has_own_records(task) ? static_cast<int64_t>(task_records(task, data).size()) : held_out;
      if (input.count == 0)
        throw RecipeError(fmt::format(
            "eval task '{}': no sample is held out; raise data.held_out or name a file (path)", name));
      if (task.limit > 0) input.count = std::min(input.count, task.limit);
    } else if (task.kind != "code" && (task.execute || task.samples > 1)) {
      throw RecipeError(fmt::format("eval task '{}': execute and samples are for kind code", name));
    } else if (task.path.empty()) {
      throw RecipeError(fmt::format("eval task '{}': {} needs a question file (path)", name, task.kind));
    } else if (task.kind == "multiple_choice") {
      count_questions(task, read_choice_questions, input);
    } else if (task.kind == "numeric") {
      count_questions(task, read_numeric_problems, input);
    } else {
      const auto problems = read_code_problems(task.path, task.limit);
      if (task.execute) require_tests(problems, name);
      input.count = static_cast<int64_t>(problems.size());
    }
    inputs.push_back(std::move(input));
  }
  return inputs;
}

void check_gates(const std::vector<BoundSpec>& gates, const EvalSpec& spec) {
  std::vector<std::string> known;
  std::set<std::string> tested;  // what a program of the user's scores is not, whatever it calls it
  for (const auto& task : spec.tasks) {
    for (const auto& metric : metric_names(task)) known.push_back(task.label() + "." + metric);
    for (const auto& metric : own_metric_names(task))
      if (is_tested(metric)) tested.insert(task.label() + "." + metric);
  }
  for (size_t i = 0; i < gates.size(); ++i) {
    const auto& gate = gates[i];
    const auto place = fmt::format("gate[{}]", i);
    const bool of_exports =
        gate.metric.starts_with(std::string(kComparison) + ".");  // measured by every run that has any
    if (!of_exports && std::find(known.begin(), known.end(), gate.metric) == known.end()) {
      const auto meant = nearest(gate.metric, known);
      throw RecipeError(fmt::format("{}.metric: no task measures '{}'{}", place, printable(gate.metric),
                                    !meant.empty()  ? "; did you mean '" + meant + "'?"
                                    : known.empty() ? "; eval.tasks is empty"
                                                    : "; the first that is measured is '" + known[0] + "'"));
    }
    if (gate.unbounded())
      throw RecipeError(
          fmt::format("{}: '{}' has no bound; set at_least, at_most, worse_than_base_by or against_base",
                      place, printable(gate.metric)));
    if (gate.against_base == "any") continue;
    if (of_exports || !tested.contains(gate.metric))
      throw RecipeError(
          fmt::format("{}.against_base: '{}' has no test sample by sample; exact_match, accuracy, pass_at_1, "
                      "nats_per_token and perplexity have",
                      place, printable(gate.metric)));
  }
}

}  // namespace retort
