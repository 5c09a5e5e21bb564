#include "report/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>

#include "base/error.h"
#include "base/files.h"
#include "base/system_failure.h"

namespace retort {

namespace {

double now() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// nullopt: the row has none, or something else under that name. Nobody else writes these rows; what a file
// holds besides is of no use, and harms nobody.
template <class AnyJson> std::optional<int64_t> step_of(const AnyJson& row) {
  const auto found = row.find("step");
  return found != row.end() && found->is_number_integer() ? std::optional(found->template get<int64_t>())
                                                          : std::nullopt;
}

// Rewrites FILE with the rows up to `done_steps`, when there are others.
void cut_rows(const std::filesystem::path& file, int64_t done_steps) {
  if (!std::filesystem::exists(file)) return;
  const auto text = read_text(file);
  std::string kept;
  for (size_t begin = 0; begin < text.size();) {
    const auto end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut short
    const auto row = Json::parse(text.substr(begin, end - begin), nullptr, false);
    if (row.is_object() && step_of(row).value_or(0) <= done_steps)
      kept += text.substr(begin, end + 1 - begin);
    begin = end + 1;
  }
  if (kept != text) write_text(file, kept);
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& folder, int64_t done_steps)
    : folder_((make_folder(folder), folder)), events_(folder / "tensorboard", done_steps, now()) {
  cut_rows(folder / "metrics.jsonl", done_steps);
  cut_rows(folder / "speed.jsonl", done_steps);
}

void MetricsLog::add(int64_t step, const Scalars& scalars) {
  append(folder_ / "metrics.jsonl", step, scalars);
}
void MetricsLog::add_speed(int64_t step, const Scalars& scalars) {
  append(folder_ / "speed.jsonl", step, scalars);
}

void MetricsLog::append(const std::filesystem::path& file, int64_t step, const Scalars& scalars) {
  events_.add(
      step, scalars,
      now());  // first: an event that comes twice, when the row below fails and is tried again, is no harm
  OrderedJson row{{"step", step}};
  for (const auto& [tag, value] : scalars) {
    if (std::isfinite(value)) row[tag] = value;
    else row[tag] = nullptr;  // JSON has no NaN
  }
  append_line(file, row.dump() + "\n");
}

void append_line(const std::filesystem::path& file, const std::string& line) {
  const int descriptor = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0) throw_writing(file.string(), errno);
  // The file has whole rows only: what a full disk takes of one is cut off again, and the caller may try once
  // more.
  const auto before = lseek(descriptor, 0, SEEK_END);
  errno = ENOSPC;  // what a short write means
  const bool written = write(descriptor, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  const int reason = errno;
  const bool cut = written || ftruncate(descriptor, before) == 0;
  close(descriptor);
  if (!written) throw_writing(file.string() + (cut ? "" : ": its last row is cut short"), reason);
}

std::vector<MetricRow> read_metrics(const std::filesystem::path& jsonl_file) {
  std::vector<MetricRow> rows;
  if (!std::filesystem::exists(jsonl_file)) return rows;
  const auto text = read_text(jsonl_file);
  for (size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    const auto parsed = OrderedJson::parse(text.substr(begin, end - begin), nullptr, false);
    begin = end + 1;
    if (!parsed.is_object()) continue;
    MetricRow row;
    for (const auto& [tag, value] : parsed.items()) {
      if (tag == "step") row.step = step_of(parsed).value_or(0);
      else row.scalars.emplace_back(tag, value.is_number() ? value.get<double>() : NAN);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace retort
