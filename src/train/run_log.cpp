#include "train/run_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/system_failure.h"

namespace retort {
namespace {

// Rows of an evaluation after the saved step have the step's own number: only the size tells them apart.
void cut_file(const std::filesystem::path& file, uint64_t size) {
  std::error_code error;
  const auto now = std::filesystem::file_size(file, error);
  if (!error && now > size) std::filesystem::resize_file(file, size, error);
}

// Keeps the lines of the first `steps` steps.
void cut_batches(const std::filesystem::path& file, int64_t steps) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return;
  uint64_t kept = 0;
  {
    const MappedFile mapped(file);
    const auto text = mapped.text();
    for (size_t at = 0; at < text.size();) {
      const auto end = text.find('\n', at);
      int64_t step = 0;
      const auto parsed = std::from_chars(text.data() + at, text.data() + text.size(), step);
      if (end == text.npos || parsed.ec != std::errc() || step > steps) break;
      kept = at = end + 1;
    }
  }
  cut_file(file, kept);
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& folder, int64_t steps, uint64_t metrics_bytes,
               const TrainWatch& watch)
    : file_(folder / "metrics.jsonl"), watch_(watch) {
  cut_file(file_, metrics_bytes);
  cut_batches(folder / kBatchesFile, steps);
  log_.emplace(folder, steps);
}

void RunLog::write_rows() {
  for (; !waiting_.empty(); waiting_.pop_front()) {
    const auto& row = waiting_.front();
    if (!row.batch.empty()) append_line(file_.parent_path() / kBatchesFile, row.batch);
    else if (row.speed) log_->add_speed(row.step, row.scalars);
    else log_->add(row.step, row.scalars);
  }
  told_ = false;
}

void RunLog::write_or_wait() {
  try {
    write_rows();
  } catch (const Failure& failure) {
    if (!told_ && watch_.on_note) watch_.on_note(fmt::format("metrics wait in memory: {}", failure.what()));
    told_ = true;
  }
}

void RunLog::step(const StepRecord& record) {
  Scalars scalars{{"loss", record.loss},
                  {"learning_rate", record.learning_rate},
                  {"gradient_norm", record.gradient_norm},
                  {"supervised", static_cast<double>(record.supervised)},
                  {"tokens", static_cast<double>(record.tokens)},
                  {"rows", static_cast<double>(record.rows)}};
  if (record.skipped) scalars.emplace_back("skipped", 1);
  waiting_.push_back({false, record.step, std::move(scalars)});
  // Sums of threads in whatever order, and of a step that goes on after a stop only the rest.
  Scalars measured{{"seconds", record.seconds},
                   {"tokens_per_second", static_cast<double>(record.tokens) / record.seconds},
                   {"resident_bytes", static_cast<double>(record.resident_bytes)}};
  if (record.indexer_kl) measured.emplace_back("indexer_kl", *record.indexer_kl);
  waiting_.push_back({true, record.step, std::move(measured)});
  write_or_wait();
}

void RunLog::batch(int64_t step, int64_t epoch, const std::vector<int64_t>& samples) {
  std::string line = fmt::format("{}\t{}\t", step, epoch);
  for (size_t i = 0; i < samples.size(); ++i) line += fmt::format("{}{}", i == 0 ? "" : " ", samples[i]);
  waiting_.push_back({false, step, {}, line + "\n"});
  write_or_wait();
}

void RunLog::evaluation(int64_t step, double loss) {
  waiting_.push_back({false, step, {{"held_out_loss", loss}}});
  write_or_wait();
}

uint64_t RunLog::sync() {
  write_rows();
  const int descriptor = ::open(file_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    if (errno == ENOENT) return 0;  // no row yet
    throw_writing(file_.string() + ": cannot be opened", errno);
  }
  const bool synced = ::fsync(descriptor) == 0;
  const int reason = errno;
  const auto size = ::lseek(descriptor, 0, SEEK_END);
  ::close(descriptor);
  if (!synced || size < 0) throw_writing(file_.string() + ": fsync failed", reason);
  return static_cast<uint64_t>(size);
}

}  // namespace retort
