// A run's numbers as they come: metrics.jsonl holds what two runs of one recipe share to the bit, speed.jsonl
// what depends on the machine and the hour; TensorBoard gets both.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "report/tensorboard.h"

namespace retort {

class MetricsLog {
 public:
  // Continues a run after `done_steps` steps: rows beyond it, and a last row cut short by a crash, are
  // dropped.
  MetricsLog(const std::filesystem::path& folder, int64_t done_steps);
  // Failure when the disk does not take a row; the files hold whole rows then, and the same call may be made
  // again later. Numbers that a rerun gives again: loss, learning rate, gradient norm, tokens.
  void add(int64_t step, const Scalars& scalars);
  // Numbers of this machine: tokens/s, memory, seconds.
  void add_speed(int64_t step, const Scalars& scalars);

 private:
  void append(const std::filesystem::path& file, int64_t step, const Scalars& scalars);
  std::filesystem::path folder_;
  EventFile events_;
};

// Appends a line, end included, whole or not at all; Failure when the disk does not take it.
void append_line(const std::filesystem::path& file, const std::string& line);

struct MetricRow {
  int64_t step = 0;
  Scalars scalars;
};
std::vector<MetricRow> read_metrics(
    const std::filesystem::path& jsonl_file);  // empty when there is no such file

}  // namespace retort
