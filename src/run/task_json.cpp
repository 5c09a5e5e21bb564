// Results of tasks as JSON and back, and in one line.
#include <cmath>

#include "base/error.h"
#include "run/run_stages.h"
#include "text/unicode.h"

namespace retort {

Json to_json(const std::vector<TaskResult>& tasks, KeepSamples samples) {
  auto list = Json::array();
  for (const auto& task : tasks) {
    auto metrics = Json::array();  // pairs: their order is the one to show
    for (const auto& [name, value] : task.metrics)
      metrics.push_back({name, std::isfinite(value) ? Json(value) : Json()});
    Json json{{"task", task.task},
              {"kind", task.kind},
              {"metrics", metrics},
              {"count", task.count},
              {"tokens", task.tokens}};
    for (const auto& [name, interval] : task.intervals)
      if (std::isfinite(interval.low) && std::isfinite(interval.high))
        json["intervals"][name] = {interval.low, interval.high};
    for (const auto& one : task.classes)
      json["classes"].push_back({{"name", one.name},
                                 {"expected", one.expected},
                                 {"given", one.given},
                                 {"right", one.right},
                                 {"answers", one.answers}});
    if (samples == KeepSamples::no) {
      json["seconds"] = task.seconds;  // the file is to be equal when the run is repeated
    } else {
      // A model that knows little may end an answer within a character; JSON holds whole ones.
      for (const auto& sample : task.samples) {
        Json one{{"id", sample.id},
                 {"expected", sample.expected},
                 {"got", replace_invalid_utf8(sample.got, InvalidUtf8::maximal_subparts)},
                 {"score", std::isfinite(sample.score) ? Json(sample.score) : Json()}};
        if (sample.weight != 1) one["weight"] = sample.weight;
        json["samples"].push_back(std::move(one));
      }
    }
    list.push_back(std::move(json));
  }
  return list;
}

std::vector<TaskResult> tasks_from(const Json& json) {
  std::vector<TaskResult> tasks;
  for (const auto& one : json) {
    TaskResult task;
    task.task = one.at("task");
    task.kind = one.at("kind");
    task.count = one.at("count");
    task.tokens = one.at("tokens");
    task.seconds = one.value("seconds", 0.0);
    for (const auto& metric : one.at("metrics"))
      task.metrics.emplace_back(metric.at(0), metric.at(1).is_number() ? metric.at(1).get<double>() : NAN);
    const auto intervals = one.value("intervals", Json::object());
    for (const auto& [name, interval] : intervals.items())
      task.intervals.emplace_back(name, Interval{interval.at(0), interval.at(1)});
    for (const auto& of : one.value("classes", Json::array()))
      task.classes.push_back({of.at("name"), of.at("expected"), of.at("given"), of.at("right"),
                              of.at("answers").get<std::vector<int64_t>>()});
    for (const auto& sample : one.value("samples", Json::array())) {
      const auto& score = sample.at("score");
      task.samples.push_back({sample.at("id"), sample.at("expected"), sample.at("got"),
                              score.is_number() ? score.get<double>() : NAN, sample.value("weight", 1.0)});
    }
    tasks.push_back(std::move(task));
  }
  return tasks;
}

Headline headline(const TaskResult& task) {
  if (task.kind == "perplexity") return {"perplexity", "perplexity", false};
  if (task.kind == "completion") return {"exact_match", "exact match", true};
  if (task.kind == "code") return {"ended", "ended", true};
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
