// What an evaluation leaves: numbers by name, and one record a sample for the report.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retort {

struct SampleResult {
  std::string id;  // of the prompt: file:line
  std::string expected, got;
  double score = 0;   // the task's first metric for this sample
  double weight = 1;  // of the score in that metric, which is the mean of all

  template <class Visitor> void fields(Visitor& field) {
    field("id", id), field("expected", expected), field("got", got), field("score", score);
    auto other = weight == 1 ? std::nullopt : std::optional(weight);
    field.rare("weight", other);
    weight = other.value_or(1);
  }
};

// One expected answer of a classification.
struct ClassCount {
  std::string name;
  int64_t expected = 0, given = 0, right = 0;
  std::vector<int64_t>
      answers;  // how often each class was given where this one was expected; other answers last

  template <class Visitor> void fields(Visitor& field) {
    field("name", name), field("expected", expected), field("given", given), field("right", right);
    field("answers", answers);
  }
};

// Between which values a metric lies with 95 % confidence, as far as the choice of the samples goes.
struct Interval {
  double low = 0, high = 0;

  template <class Visitor> void fields(Visitor& field) { field("low", low), field("high", high); }
};

struct TaskResult {
  std::string task;  // EvalTaskSpec::label()
  std::string kind;
  std::vector<std::pair<std::string, double>> metrics;  // in the order they are to be shown
  std::vector<SampleResult> samples;
  int64_t count = 0;   // samples
  int64_t tokens = 0;  // computed or generated, whatever the task is about
  double seconds = 0;
  std::vector<std::pair<std::string, Interval>> intervals = {};  // by metric
  std::vector<ClassCount> classes = {};  // of answers that repeat, the most frequent first; else empty

  template <class Visitor> void fields(Visitor& field) {
    field("task", task);
    field("kind", kind);
    field("metrics", metrics);
    field("count", count);
    field("tokens", tokens);
    field.rare("intervals", intervals);
    field.rare("classes", classes);
    field.rare("seconds", seconds);  // not in a file that is to be equal when the run is repeated
    field.rare("samples", samples);  // not in the ledger
  }
  const Interval* interval(std::string_view name) const {  // nullptr when there is none
    for (const auto& [key, value] : intervals)
      if (key == name) return &value;
    return nullptr;
  }
  const double* metric(std::string_view name) const {  // nullptr when there is none
    for (const auto& [key, value] : metrics)
      if (key == name) return &value;
    return nullptr;
  }
};

// Whether a task asks what a model gives away of the training samples, rather than what it has learned: its
// samples are training samples, beside others to compare them with.
inline bool looks_at_training(const TaskResult& task) {
  return task.kind == "exposure" || task.kind == "membership";
}

}  // namespace retort
