#include "eval/evaluate.h"

#include <algorithm>
#include <chrono>
#include <initializer_list>

#include "base/error.h"
#include "data/canaries.h"
#include "eval/code.h"
#include "eval/completion.h"
#include "eval/memorization.h"
#include "eval/multiple_choice.h"
#include "eval/numeric.h"
#include "eval/perplexity.h"
#include "eval/scored_by.h"
#include "eval/significance.h"
#include "eval/task_source.h"
#include "text/template_thoughts.h"

namespace retort {
namespace {

template <class Item> std::vector<Item> first_of(std::vector<Item> items, int64_t limit) {
  if (limit > 0 && static_cast<int64_t>(items.size()) > limit) items.resize(static_cast<size_t>(limit));
  return items;
}

template <class Item, class Read> std::vector<Item> examples_of(const EvalTaskSpec& task, Read read) {
  if (task.few_shot == 0) return {};
  if (task.examples.empty())
    throw RecipeError(fmt::format("eval task '{}': few_shot is {}, but no file of examples is named",
                                  task.label(), task.few_shot));
  auto examples = read(task.examples, task.few_shot);
  if (static_cast<int64_t>(examples.size()) < task.few_shot)
    throw RecipeError(fmt::format("eval task '{}': few_shot is {}, but {} holds {} examples", task.label(),
                                  task.few_shot, task.examples, examples.size()));
  return examples;
}

// The subject as the task asks it: without a template where questions are plain text.
Subject asked_subject(const EvalTaskSpec& task, const Subject& subject) {
  const bool choice = task.kind == "multiple_choice";
  const bool plain =
      task.ask == "plain" || (task.ask == "auto" && choice && subject.chat && subject.chat->name == "plain");
  if (plain && (!task.prompt.empty() || !task.system.empty()))
    throw RecipeError(fmt::format(
        "eval task '{}': prompt and system are for questions asked as chat (ask: chat)", task.label()));
  return {subject.model,   subject.tokenizer, plain ? nullptr : subject.chat,
          subject.compute, subject.threads,   subject.row_tokens,
          subject.batch,   subject.kv,        subject.company};
}

// What the user's program is told of an answer. Questions stand in the order of the records that have one.
OrderedJson told(const Record& record, const std::string& answer, const std::string& whole) {
  OrderedJson messages = OrderedJson::array(), columns = OrderedJson::object();
  for (const auto& message : record.prompt())
    messages.push_back({{"role", message.role}, {"content", message.content}});
  for (const auto& [name, value] : record.columns) columns[name] = value;
  return {{"id", record.place}, {"messages", messages}, {"columns", columns}, {"wanted", record.completion()},
          {"answer", answer},   {"whole_answer", whole}};
}

TaskResult run_completion(const EvalTaskSpec& task, const std::vector<Record>& records,
                          const Subject& subject, const std::filesystem::path& folder) {
  const auto questions = first_of(questions_of(records, subject), task.limit);
  auto result = completion_task(subject, questions, task.max_tokens, task.label());
  if (!task.scored_by) return result;
  const auto marks = own_thought_marks(chat_of(subject));
  std::vector<OrderedJson> answers;
  for (const auto& record : records) {
    const auto i = answers.size();
    if (i == questions.size()) break;
    if (record.messages.empty()) continue;
    const auto& whole = result.samples[i].got;
    answers.push_back(told(record, spoken(subject.tokenizer, questions[i].prompt, whole, marks), whole));
  }
  add_scores_of_program(*task.scored_by, answers, task.label(), folder / (task.label() + ".scores.jsonl"),
                        result);
  return result;
}

TaskResult run_exposure(const EvalTaskSpec& task, const DataSpec& data, const Subject& subject) {
  const auto made = make_canaries(data.canaries);
  if (made.planted.empty())
    throw RecipeError(
        fmt::format("eval task '{}': no canary is planted; set data.canaries.count", task.label()));
  const auto samples = [&](const std::vector<Record>& records) {
    std::vector<Sample> all;
    for (const auto& record : records)
      all.push_back(canary_sample(data, record, subject.tokenizer, chat_of(subject)));
    return all;
  };
  return exposure_task(subject, samples(first_of(made.planted, task.limit)), samples(made.twins),
                       task.label());
}

TaskResult run_membership(const EvalTaskSpec& task, const DataSpec& data, const Subject& subject,
                          const HeldOut& held_out) {
  const auto samples = draw_for_membership(held_out.train, held_out.samples, task.limit, data.seed);
  const TaskResult* base = nullptr;
  if (held_out.base)
    for (const auto& result : *held_out.base)
      if (result.task == task.label()) base = &result;
  return membership_task(subject, samples, base, task.label());
}

TaskResult run_task(const EvalTaskSpec& task, const DataSpec& data, const Subject& subject,
                    const HeldOut& held_out, const std::filesystem::path& folder) {
  const auto& name = task.label();
  if (task.kind == "perplexity") {
    return perplexity_task(subject,
                           has_own_records(task) ? task_samples(task, data, subject.tokenizer,
                                                                chat_of(subject), subject.row_tokens)
                                                 : first_of(held_out.samples.list(), task.limit),
                           name);
  }
  if (task.kind == "completion") {
    if (!has_own_records(task)) return run_completion(task, held_out.records, subject, folder);
    return run_completion(task, task_records(task, data), subject, folder);
  }
  if (task.kind == "exposure") return run_exposure(task, data, subject);
  if (task.kind == "membership") return run_membership(task, data, subject, held_out);
  if (task.source) task_source(task, data);  // refuses it
  if (task.path.empty())
    throw RecipeError(fmt::format("eval task '{}': {} needs a question file (path)", name, task.kind));
  const Asked asked{task.system, task.prompt, fmt::format("eval task '{}'", name)};
  if (task.kind == "multiple_choice") {
    const auto examples = examples_of<ChoiceQuestion>(task, read_choice_questions);
    return multiple_choice_task(asked_subject(task, subject), examples,
                                read_choice_questions(task.path, task.limit),
                                task.score == "text" ? ChoiceScore::text : ChoiceScore::letter, name, asked);
  }
  if (task.kind == "numeric") {
    const auto examples = examples_of<NumericProblem>(task, read_numeric_problems);
    return numeric_task(asked_subject(task, subject), examples, read_numeric_problems(task.path, task.limit),
                        task.max_tokens, name, asked);
  }
  if (task.kind == "code")
    return code_task(subject, read_code_problems(task.path, task.limit),
                     {task.max_tokens, task.execute, task.samples, task.temperature, task.keeps_texts},
                     folder / (name + ".samples.jsonl"), name);
  throw RecipeError(fmt::format("eval task '{}': unknown kind '{}'", name, task.kind));
}

// A program of the user's may call its scores by the same names, and of these larger ones are better
// (scored_by): the kind of the task says which they are.
bool larger_is_worse(const TaskResult& task, std::string_view metric) {
  const auto among = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), metric) != names.end();
  };
  if (task.kind == "perplexity") return among({"nats_per_token", "perplexity", "bits_per_byte"});
  return looks_at_training(task) &&
         among({"mean_exposure", "max_exposure", "auc", "auc_of_loss", "tpr_at_1_percent_fpr"});
}

struct Measured {
  const TaskResult* task = nullptr;
  double value = 0;
};

// "task.metric"; the task's name may hold dots itself.
Measured measured(const std::vector<TaskResult>& results, const std::string& path, std::string_view model) {
  const auto dot = path.rfind('.');
  std::vector<std::string> known;
  for (const auto& result : results) {
    for (const auto& [metric, value] : result.metrics) {
      known.push_back(result.task + "." + metric);
      if (dot != std::string::npos && known.back() == path) return {&result, value};
    }
  }
  const auto meant = nearest(path, known);
  throw RecipeError(fmt::format("gate: '{}' was not measured on the {} model{}", path, model,
                                meant.empty() ? "" : fmt::format("; did you mean '{}'?", meant)));
}

}  // namespace

Subject with_spec(Subject subject, const EvalSpec& spec) {
  return {subject.model,    subject.tokenizer, subject.chat, subject.compute, spec.threads,
          spec.pass_tokens, spec.batch,        spec.kv,      subject.company};
}

std::vector<TaskResult> evaluate(const EvalSpec& spec, const DataSpec& data, const Subject& subject,
                                 const HeldOut& held_out, const std::filesystem::path& folder,
                                 const std::function<void(const std::string&)>& progress) {
  std::vector<TaskResult> results;
  for (const auto& task : spec.tasks) {
    if (task.kind == "membership" && held_out.train.empty()) continue;
    if (progress) progress(task.label());
    const auto start = std::chrono::steady_clock::now();
    results.push_back(run_task(task, data, with_spec(subject, spec), held_out, folder));
    results.back().seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return results;
}

std::vector<std::string> failed_gates(const std::vector<BoundSpec>& gates,
                                      const std::vector<TaskResult>& base,
                                      const std::vector<TaskResult>& tuned,
                                      const std::vector<TaskResult>& exported) {
  std::vector<std::string> failed;
  for (const auto& gate : gates) {
    const auto value = measured(gate.model == "tuned" ? tuned : exported, gate.metric, gate.model).value;
    const auto fail = [&](const std::string& wanted) {
      failed.push_back(
          fmt::format("gate: {} of the {} model is {:.6g}, {}", gate.metric, gate.model, value, wanted));
    };
    if (gate.at_least && !(value >= *gate.at_least))
      fail(fmt::format("must be at least {:.6g}", *gate.at_least));
    if (gate.at_most && !(value <= *gate.at_most)) fail(fmt::format("must be at most {:.6g}", *gate.at_most));
    if (gate.worse_than_base_by) {
      const auto [task, before] = measured(base, gate.metric, "base");
      const auto worse = larger_is_worse(*task, gate.metric.substr(gate.metric.rfind('.') + 1))
                             ? value - before
                             : before - value;
      if (!(worse <= *gate.worse_than_base_by))
        fail(*gate.worse_than_base_by == 0
                 ? fmt::format("the base has {:.6g}; it may not be worse", before)
                 : fmt::format("the base has {:.6g}; it may be worse by {:.6g} at most", before,
                               *gate.worse_than_base_by));
    }
  }
  return failed;
}

AgainstBase against_base(const BoundSpec& gate, const std::vector<TaskResult>& base,
                         const std::vector<TaskResult>& model) {
  const auto dot = gate.metric.rfind('.');
  const auto name = gate.metric.substr(0, dot);
  const auto find = [&](const std::vector<TaskResult>& tasks) {
    return std::find_if(tasks.begin(), tasks.end(),
                        [&](const TaskResult& task) { return task.task == name; });
  };
  const auto before = find(base), after = find(model);
  if (before == base.end() || after == model.end())
    throw RecipeError(fmt::format("gate: '{}' was not measured on both models", gate.metric));
  const auto found = paired_scores(*before, *after);
  if (!found) return {false, "the two models were not asked the same samples"};
  const bool fewer_is_better = larger_is_worse(*after, gate.metric.substr(dot + 1));
  const bool better = fewer_is_better ? found->second < found->first : found->second > found->first;
  const auto how =
      found->p ? fmt::format("p {:.4g}", *found->p)
               : fmt::format("{:+.4g} to {:+.4g} with 95 %", found->interval.low, found->interval.high);
  const bool differs = !found->inside_noise() && found->first != found->second;
  if (gate.against_base == "better") return {differs && better, how};
  return {!differs || better, how};
}

}  // namespace retort
