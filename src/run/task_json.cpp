// Results of tasks as JSON and back, and in one line.
#include "base/error.h"
#include "base/files.h"
#include "run/run_stages.h"
#include "text/unicode.h"

namespace retort {

std::vector<TaskResult> to_keep(const Recipe& recipe, std::vector<TaskResult> tasks) {
  if (!recipe.is_private) return tasks;
  const auto shown = static_cast<size_t>(recipe.shown_samples());
  for (auto& task : tasks) {
    for (size_t i = shown; i < task.samples.size(); ++i)
      task.samples[i].expected.clear(), task.samples[i].got.clear();
    for (size_t i = 0; i < task.classes.size(); ++i) task.classes[i].name = fmt::format("class {}", i + 1);
  }
  return tasks;
}

void add_privacy(const Recipe& recipe, StageInputs& inputs) {
  if (recipe.is_private) inputs.add("private", fmt::format("{} samples shown", recipe.shown_samples()));
}

std::vector<TaskResult> without_samples(std::vector<TaskResult> tasks) {
  for (auto& task : tasks) task.samples.clear();
  return tasks;
}

Json file_of_tasks(std::vector<TaskResult> tasks) {
  for (auto& task : tasks) {
    task.seconds = 0;
    // A model that knows little may end an answer within a character; JSON holds whole ones.
    for (auto& sample : task.samples)
      sample.got = replace_invalid_utf8(sample.got, InvalidUtf8::maximal_subparts);
  }
  return json_of(tasks);
}

void write_tasks(const std::filesystem::path& file, const std::vector<TaskResult>& tasks) {
  write_text(file, file_of_tasks(tasks).dump(1) + "\n");
}

std::vector<TaskResult> read_tasks(const std::filesystem::path& file) {
  return read_as<std::vector<TaskResult>>(read_json(file),
                                          {file.string(), "", "remove it to evaluate again"});
}

Headline headline(const TaskResult& task) {
  if (task.kind == "perplexity") return {"perplexity", "perplexity", false};
  if (task.kind == "completion") return {"exact_match", "exact match", true};
  if (task.kind == "code" && task.metric("pass_at_1")) return {"pass_at_1", "pass@1", true};
  if (task.kind == "code") return {"ended", "ended", true};
  if (task.kind == "exposure") return {"max_exposure", "highest exposure", false};
  if (task.kind == "membership") return {"auc", "membership AUC", false};
  return {"accuracy", "accuracy", true};
}

std::string headlines(const std::vector<TaskResult>& tasks) {
  std::string text;
  for (const auto& task : tasks) {
    const auto [metric, title, share] = headline(task);
    const auto* value = task.metric(metric);
    if (!value) continue;
    text += fmt::format("{}{}{} {}", text.empty() ? "" : ", ", task.task == task.kind ? "" : task.task + " ",
                        title, share ? fmt::format("{:.1f} %", 100 * *value) : fmt::format("{:.4g}", *value));
  }
  return text;
}

}  // namespace retort
