// The run's metrics on a disk that may be full for a while: rows wait in memory, in order, until it takes
// them.
#pragma once
#include <deque>

#include "report/metrics.h"
#include "train/train.h"

namespace retort {

inline constexpr const char* kBatchesFile = "batches.tsv";

class RunLog {
 public:
  // Continues after `steps` steps: metrics.jsonl is cut to `metrics_bytes`, its size when they were saved.
  RunLog(const std::filesystem::path& folder, int64_t steps, uint64_t metrics_bytes, const TrainWatch& watch);

  void step(const StepRecord& record);
  void evaluation(int64_t step, double loss);
  // A line of batches.tsv: the step, its epoch (from 0), the numbers of its samples.
  void batch(int64_t step, int64_t epoch, const std::vector<int64_t>& samples);
  // Puts everything on the disk, for good; Failure when that is not possible. Returns the size of
  // metrics.jsonl.
  uint64_t sync();

 private:
  struct Row {
    bool speed;
    int64_t step;
    Scalars scalars;
    std::string batch = {};  // a line of batches.tsv instead
  };
  void write_rows();  // Failure when the disk takes no more
  void write_or_wait();

  std::filesystem::path file_;
  const TrainWatch& watch_;
  std::optional<MetricsLog> log_;
  std::deque<Row> waiting_;
  bool told_ = false;
};

}  // namespace retort
