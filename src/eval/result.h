// What an evaluation leaves: numbers by name, and one record a sample for the report.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retort {

struct SampleResult {
  std::string id;  // of the prompt: file:line
  std::string expected, got;
  double score = 0;  // the task's first metric for this sample

  template <class Visitor> void fields(Visitor& field) {
    field("id", id), field("expected", expected), field("got", got), field("score", score);
  }
};

struct TaskResult {
  std::string task;  // EvalTaskSpec::label()
  std::string kind;
  std::vector<std::pair<std::string, double>> metrics;  // in the order they are to be shown
  std::vector<SampleResult> samples;
  int64_t count = 0;   // samples
  int64_t tokens = 0;  // computed or generated, whatever the task is about
  double seconds = 0;

  template <class Visitor> void fields(Visitor& field) {
    field("task", task);
    field("kind", kind);
    field("metrics", metrics);
    field("count", count);
    field("tokens", tokens);
    field.rare("seconds", seconds);  // not in a file that is to be equal when the run is repeated
    field.rare("samples", samples);  // not in the ledger
  }
  const double* metric(std::string_view name) const {  // nullptr when there is none
    for (const auto& [key, value] : metrics)
      if (key == name) return &value;
    return nullptr;
  }
};

}  // namespace retort
