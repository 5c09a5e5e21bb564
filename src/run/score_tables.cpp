#include "run/score_tables.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "eval/check_tasks.h"
#include "eval/classes.h"
#include "eval/significance.h"

namespace retort {
namespace {

constexpr size_t kMostConfused = 30;

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }
std::string share_of(const TaskResult& task, const char* metric) {
  const auto* value = task.metric(metric);
  if (!value) return "-";
  const auto* interval = task.interval(metric);
  return interval ? fmt::format("{} ({:.1f} to {:.1f})", percent(*value), 100 * interval->low,
                                100 * interval->high)
                  : percent(*value);
}
std::string number_of(const TaskResult& task, const char* metric) {
  const auto* value = task.metric(metric);
  if (!value) return "-";
  const auto* interval = task.interval(metric);
  return interval ? fmt::format("{:.3f} ({:.3f} to {:.3f})", *value, interval->low, interval->high)
                  : fmt::format("{:.3f}", *value);
}

// Of a model that always gives the most frequent class: it has one F1 above 0.
std::vector<std::string> majority_row(const TaskResult& task) {
  int64_t samples = 0;
  for (const auto& one : task.classes) samples += one.expected;
  const auto& first = task.classes[0];
  const auto best = f1(first.expected, samples, first.expected);
  const auto share = static_cast<double>(first.expected) / static_cast<double>(samples);
  return {fmt::format("always '{}'", printable(first.name)), percent(share),
          fmt::format("{:.3f}", best / static_cast<double>(task.classes.size())),
          fmt::format("{:.3f}", best * share), "-"};
}

std::string meaning(const PairedScores& scores, bool better) {
  if (scores.first == scores.second && scores.only_first + scores.only_second == 0) return "equal";
  if (scores.inside_noise()) return "inside the noise";
  return better ? "better" : "worse";
}

using Tasks = std::vector<std::pair<const ModelResult*, const TaskResult*>>;

// The tasks with classes, each with the models that were asked.
std::vector<std::pair<std::string, Tasks>> classified(const std::vector<const ModelResult*>& models) {
  std::vector<std::pair<std::string, Tasks>> found;
  for (const auto* model : models)
    for (const auto& task : model->tasks) {
      if (task.classes.empty()) continue;
      auto at =
          std::find_if(found.begin(), found.end(), [&](const auto& one) { return one.first == task.task; });
      if (at == found.end()) at = found.insert(found.end(), {task.task, {}});
      at->second.emplace_back(model, &task);
    }
  return found;
}

}  // namespace

std::vector<Table> class_tables(const std::vector<const ModelResult*>& models) {
  std::vector<Table> tables;
  for (const auto& [name, tasks] : classified(models)) {
    Table table{
        fmt::format("{}: {} classes", name, tasks[0].second->classes.size()),
        "95 % intervals in brackets; F1 over the expected answers, an answer that is none of them is wrong.",
        {"model", "exact match", "macro F1", "weighted F1", "calibration error"},
        {majority_row(*tasks[0].second)},
        false};
    for (const auto& [model, task] : tasks)
      table.rows.push_back({model->name, share_of(*task, "exact_match"), number_of(*task, "macro_f1"),
                            number_of(*task, "weighted_f1"), number_of(*task, "calibration_error")});
    tables.push_back(std::move(table));
  }
  return tables;
}

std::vector<Table> program_tables(const std::vector<const ModelResult*>& models) {
  std::vector<Table> tables;
  std::map<std::string, size_t> places;  // of the tasks
  for (const auto* model : models)
    for (const auto& task : model->tasks) {
      const auto names = scores_of_program(task);
      if (names.empty()) continue;
      if (places.emplace(task.task, tables.size()).second) {
        Table table{task.task + ": scored by a program",
                    "Means over the answers, with 95 % intervals in brackets.",
                    {"model"},
                    {},
                    false};
        table.head.insert(table.head.end(), names.begin(), names.end());
        tables.push_back(std::move(table));
      }
      std::vector<std::string> row = {model->name};
      for (const auto& name : names) row.push_back(number_of(task, name.c_str()));
      tables[places.at(task.task)].rows.push_back(std::move(row));
    }
  return tables;
}

std::vector<Table> class_details(const std::vector<const ModelResult*>& models) {
  std::vector<Table> tables;
  for (const auto& [name, tasks] : classified(models))
    for (const auto& [model, task] : tasks) {
      Table each{fmt::format("{} of {}, class by class", name, model->name),
                 "",
                 {"class", "expected", "given", "right", "precision", "recall", "F1"},
                 {},
                 false};
      const auto ratio = [](int64_t part, int64_t of) {
        return of == 0 ? "-" : fmt::format("{:.3f}", static_cast<double>(part) / static_cast<double>(of));
      };
      for (const auto& one : task->classes)
        each.rows.push_back({printable(one.name), std::to_string(one.expected), std::to_string(one.given),
                             std::to_string(one.right), ratio(one.right, one.given),
                             ratio(one.right, one.expected),
                             fmt::format("{:.3f}", f1(one.expected, one.given, one.right))});
      tables.push_back(std::move(each));
      if (task->classes.size() > kMostConfused) continue;
      Table confusion{fmt::format("{} of {}, what was taken for what", name, model->name),
                      "Rows: what was expected; columns: what was given.",
                      {"expected"},
                      {},
                      false};
      for (const auto& one : task->classes) confusion.head.push_back(printable(one.name));
      confusion.head.push_back("no class");
      for (const auto& one : task->classes) {
        std::vector<std::string> row = {printable(one.name)};
        for (const auto count : one.answers) row.push_back(std::to_string(count));
        confusion.rows.push_back(std::move(row));
      }
      tables.push_back(std::move(confusion));
    }
  return tables;
}

Table experts_table(const std::vector<ExpertUse>& layers) {
  Table table{
      "Use of experts",
      fmt::format("Over held-out samples, of the trained model; even use would give each expert {:.2f} % "
                  "of a layer's choices. Every token meets the experts that were chosen for it: none is "
                  "dropped. Gate entropy: 1 where the router finds all experts alike, 0 where it is sure.",
                  100.0 / static_cast<double>(layers.front().experts)),
      {"layer", "tokens", "busiest", "least busy", "idle", "gate entropy", "router bias"},
      {}};
  for (const auto& layer : layers)
    table.rows.push_back(
        {std::to_string(layer.layer), std::to_string(layer.tokens),
         fmt::format("{:.2f} %", 100 * layer.largest), fmt::format("{:.2f} %", 100 * layer.smallest),
         fmt::format("{} of {}", layer.idle, layer.experts), fmt::format("{:.3f}", layer.entropy),
         layer.bias_from ? fmt::format("{:.3g} to {:.3g}", *layer.bias_from, *layer.bias_to) : "-"});
  return table;
}

Table source_table(const std::filesystem::path& run_folder, const std::vector<const ModelResult*>& models,
                   const DataSpec& data, const std::vector<Record>& held_out) {
  Table table{
      "Held out, by source",
      "The first score of each task over the held-out samples of one source; nats a token for perplexity.",
      {"source", "task", "samples"},
      {},
      false};
  std::map<std::string, int32_t, std::less<>> sources;
  std::set<int32_t> seen;
  for (const auto& record : held_out) sources[record.place] = record.source, seen.insert(record.source);
  if (seen.size() < 2) return table;
  std::map<std::pair<int32_t, std::string>, std::vector<std::string>> cells;  // by source and task
  std::map<std::pair<int32_t, std::string>, size_t> counts;
  size_t columns = 0;
  for (const auto* model : models) {
    const auto file = run_folder / model->answers;
    if (model->answers.empty() || !std::filesystem::exists(file)) continue;
    table.head.push_back(model->name);
    ++columns;
    for (const auto& task : read_tasks(file)) {
      std::map<int32_t, std::pair<double, double>> sums;  // weighted score, weight
      std::map<int32_t, size_t> samples;
      bool all = !task.samples.empty();
      for (const auto& sample : task.samples) {
        const auto at = sources.find(sample.id);
        if (at == sources.end()) {
          all = false;  // the task has samples of its own
          break;
        }
        auto& [score, weight] = sums[at->second];
        score += sample.weight * sample.score, weight += sample.weight;
        ++samples[at->second];
      }
      if (!all) continue;
      for (const auto& [source, sum] : sums) {
        auto& row = cells[{source, task.task}];
        row.resize(columns, "-");
        const auto mean = sum.first / sum.second;
        row.back() = headline(task).share ? percent(mean) : fmt::format("{:.4f}", mean);
        counts[{source, task.task}] = samples[source];
      }
    }
  }
  for (auto& [key, values] : cells) {
    values.resize(columns, "-");
    std::vector<std::string> row = {printable(data.sources.at(static_cast<size_t>(key.first)).path),
                                    key.second, std::to_string(counts[key])};
    row.insert(row.end(), values.begin(), values.end());
    table.rows.push_back(std::move(row));
  }
  return table;
}

Table difference_table(const std::filesystem::path& run_folder,
                       const std::vector<const ModelResult*>& models) {
  Table table{
      "Differences",
      "Second minus first on the same samples, with a 95 % interval (bootstrap over the samples); only "
      "one right: samples that the first or the second alone answers rightly; p: McNemar's exact test.",
      {"first, second", "task", "first", "second", "difference", "only one right", "p", "which means"},
      {},
      true};
  std::map<std::string, std::vector<TaskResult>> answers;
  for (const auto* model : models)
    if (const auto file = run_folder / model->answers;
        !model->answers.empty() && std::filesystem::exists(file))
      answers.emplace(model->name, read_tasks(file));
  const bool tuned = answers.count("tuned") > 0;
  for (const auto* model : models) {
    if (model->name == "base" || answers.count(model->name) == 0) continue;
    const std::string other = model->name == "tuned" || !tuned ? "base" : "tuned";
    if (answers.count(other) == 0) continue;
    for (const auto& task : answers.at(model->name)) {
      const auto& against = answers.at(other);
      const auto same = std::find_if(against.begin(), against.end(),
                                     [&](const TaskResult& one) { return one.task == task.task; });
      if (same == against.end() || looks_at_training(task)) continue;
      const auto found = paired_scores(*same, task);
      if (!found) continue;
      const bool nats = task.kind == "perplexity", shares = found->p.has_value();
      const auto shown = [&](double value) { return shares ? percent(value) : fmt::format("{:.4f}", value); };
      const double scale = shares ? 100 : 1;
      const double by = found->second - found->first;
      const bool better = nats ? by < 0 : by > 0;
      table.rows.push_back(
          {fmt::format("{}, {}", other, model->name), task.task + (nats ? " (nats a token)" : ""),
           shown(found->first), shown(found->second),
           fmt::format("{:+.{}f} ({:+.{}f} to {:+.{}f})", scale * by, shares ? 1 : 4,
                       scale * found->interval.low, shares ? 1 : 4, scale * found->interval.high,
                       shares ? 1 : 4),
           shares ? fmt::format("{} / {}", found->only_first, found->only_second) : "-",
           shares ? (*found->p < 0.0001 ? std::string("< 0.0001") : fmt::format("{:.4f}", *found->p)) : "-",
           meaning(*found, better)});
    }
  }
  return table;
}

}  // namespace retort
