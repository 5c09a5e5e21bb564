// TensorBoard event files, written without protobuf: records of masked CRC-32C around Event messages
// (tensorflow/core/util/event.proto, tensorflow/core/lib/io/record_writer.cc).
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retort {

// Castagnoli's CRC (RFC 3720, section B.4: 32 zero bytes give 8a9136aa), and TFRecord's mask of it.
uint32_t crc32c(std::string_view data);
uint32_t masked_crc32c(std::string_view data);

using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value

// One file of events, appended and flushed record by record: a reader sees whole records at any time.
class EventFile {
 public:
  // Creates events.out.tfevents.TIME.retort in `folder`. A `first_step` above 0 tells TensorBoard to forget
  // later steps that an earlier, killed run wrote.
  EventFile(const std::filesystem::path& folder, int64_t first_step, double wall_time);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;
  void add(int64_t step, const Scalars& scalars, double wall_time);
  const std::filesystem::path& path() const { return path_; }

 private:
  void record(const std::string& event);
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// The bytes of one Event with scalars, and of a record around any message.
std::string scalar_event(int64_t step, const Scalars& scalars, double wall_time);
std::string framed(std::string_view message);

}  // namespace retort
